"""``replay_check``: the upstream is asked about the caller before a stored answer is told."""

import asyncio

from tests.scenarios import backend as acts
from tests.scenarios.backend import Backend
from tests.scenarios.conftest import OpenShop
from tests.scenarios.shop import KEY


async def test_a_fresh_order_is_not_checked(backend: Backend, open_shop: OpenShop) -> None:
    shop = await open_shop(replay_check="GET /me")
    assert (await shop.order()).status == 201
    assert backend.asked == []


async def test_a_caller_who_is_let_in_gets_the_stored_answer(
    backend: Backend, open_shop: OpenShop
) -> None:
    shop = await open_shop(replay_check="GET /me?fields=id")
    first = await shop.order()
    backend.lookup_script.append(acts.answer(200))
    again = await shop.order(**{"If-None-Match": '"x"', "X-Session": "s1"})
    assert (again.status, again.body) == (201, first.body)
    (asked,) = backend.asked
    assert (asked.method, asked.target) == ("GET", "/me?fields=id")
    assert asked.headers["authorization"] == "Bearer anna"
    assert asked.headers["x-session"] == "s1"
    kept_back = {"idempotency-key", "content-type", "content-length", "if-none-match"}
    assert not kept_back & set(asked.headers)
    assert len(backend.posts) == 1


async def test_a_caller_who_was_locked_out_gets_the_refusal(
    backend: Backend, open_shop: OpenShop
) -> None:
    shop = await open_shop(replay_check="GET /me")
    placed = await shop.order()
    for status in (401, 403):
        backend.lookup_script.append(
            acts.answer(status, {"error": "revoked"}, "WWW-Authenticate: Bearer")
        )
        told = await shop.order()
        assert (told.status, told.json) == (status, {"error": "revoked"})
        assert told.headers["WWW-Authenticate"] == "Bearer"
        assert told.headers["Gateway-Source"] == "upstream"
        assert placed.order not in repr(told)
    backend.lookup_script.append(acts.answer(401))
    mismatch = await shop.order(body={"sku": 8})
    assert mismatch.status == 401  # what became of the first order is not told either


async def test_any_other_answer_is_503_and_the_order_stands(
    backend: Backend, open_shop: OpenShop
) -> None:
    shop = await open_shop(replay_check="GET /me", answer_within_s=1)
    first = await shop.order()
    acts_ = [acts.answer(302), acts.answer(404), acts.answer(500), acts.raw(b"rubbish\r\n\r\n")]
    for act in acts_:
        backend.lookup_script.extend([act, act])
        told = await shop.order()
        assert told.status == 503
        assert told.json["type"].endswith("/caller-not-checked")
        assert told.json["safe_new_key"] is False
        backend.lookup_script.clear()
    backend.lookup_script.append(acts.answer(200))
    assert (await shop.order()).body == first.body


async def test_a_check_that_hangs_ends_by_the_clients_deadline(
    backend: Backend, open_shop: OpenShop
) -> None:
    shop = await open_shop(replay_check="GET /me", answer_within_s=0.5)
    await shop.order()
    backend.lookup_script.append(acts.after("never", acts.answer(200)))
    assert (await shop.order()).status == 503


async def test_an_upstream_that_is_away_tells_nobody(backend: Backend, open_shop: OpenShop) -> None:
    shop = await open_shop(replay_check="GET /me")
    await shop.order()
    await backend.stop()
    told = await shop.order()
    assert told.json["type"].endswith("/caller-not-checked")


async def test_the_status_by_key_is_checked_and_by_id_is_not(
    backend: Backend, open_shop: OpenShop
) -> None:
    shop = await open_shop(replay_check="GET /me")
    placed = await shop.order()
    url, who = f"{shop.url}/_gateway/orders", {"Authorization": "Bearer anna"}
    backend.lookup_script.append(acts.answer(401))
    assert (await shop.ask("GET", f"{url}?key={KEY}", headers=who)).status == 401
    backend.lookup_script.append(acts.answer(200))
    assert (await shop.ask("GET", f"{url}?key={KEY}", headers=who)).json["id"] == placed.order
    assert (await shop.ask("GET", f"{url}/{placed.order}")).status == 200
    assert len(backend.asked) == 2


async def test_a_repeat_that_waits_is_checked_before_it_waits(
    backend: Backend, open_shop: OpenShop
) -> None:
    shop = await open_shop(replay_check="GET /me", attempt_timeout_s=5)
    backend.script.append(acts.after("go", acts.take))
    first = asyncio.ensure_future(shop.order())
    await backend.until(lambda: len(backend.posts) == 1)
    backend.lookup_script.append(acts.answer(401))
    assert (await shop.order()).status == 401
    backend.gate("go").set()
    assert (await first).status == 201
