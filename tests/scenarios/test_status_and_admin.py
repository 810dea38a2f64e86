"""What customers may look up, what operators may do, and what probes are told."""

import asyncio
from functools import partial

from gateway.ledger import LedgerUnavailable
from gateway.orders.states import Status
from gateway.retention import Retention
from tests.scenarios import backend as acts
from tests.scenarios.backend import Backend
from tests.scenarios.conftest import OpenShop
from tests.scenarios.shop import KEY, Shop


async def test_status_by_id_tells_the_timeline_and_the_answer(open_shop: OpenShop) -> None:
    shop = await open_shop()
    told = await shop.order()
    status = await shop.ask("GET", f"{shop.url}/_gateway/orders/{told.order}")
    assert status.status == 200
    assert status.json["status"] == "confirmed"
    assert [move["to"] for move in status.json["timeline"]] == ["dispatched", "confirmed"]
    assert status.json["answer"]["body"] == told.body.decode()
    assert "anna" not in status.body.decode()
    assert KEY not in status.body.decode()


async def test_status_by_key_is_for_the_scope_that_submitted_it(open_shop: OpenShop) -> None:
    shop = await open_shop()
    told = await shop.order()
    url = f"{shop.url}/_gateway/orders?key={KEY}"
    own = await shop.ask("GET", url, headers={"Authorization": "Bearer anna"})
    assert own.json["id"] == told.order
    other = await shop.ask("GET", url, headers={"Authorization": "Bearer bert"})
    assert other.status == 404
    assert (await shop.ask("GET", url)).status == 404
    missing = await shop.ask("GET", f"{shop.url}/_gateway/orders")
    assert missing.status == 400
    unknown = await shop.ask("GET", f"{shop.url}/_gateway/orders/nope")
    assert unknown.status == 404
    assert unknown.headers["Content-Type"] == "application/problem+json"
    assert (await shop.ask("DELETE", url)).status == 405


async def test_prefer_wait_is_woken_by_the_settle(backend: Backend, open_shop: OpenShop) -> None:
    backend.script.append(acts.after("go", acts.take))
    shop = await open_shop(answer_within_s=0.2, attempt_timeout_s=8, settle_s=9)
    told = await shop.taken()
    url = shop.url + told.json["status_url"]
    waiting = asyncio.create_task(shop.ask("GET", url, headers={"Prefer": "wait=10"}))
    backend.gate("go").set()
    status = await waiting
    assert status.json["status"] == "confirmed"
    assert "Retry-After" not in status.headers


async def test_the_answer_is_gone_after_its_retention(open_shop: OpenShop) -> None:
    shop = await open_shop(retention_s=0.2, attach_window_s=0)
    told = await shop.order()
    await asyncio.sleep(0.25)  # the passing of time itself is what is tested
    again = await shop.order()
    assert again.status == 410
    assert again.json["order_status"] == "confirmed"
    assert again.json["order"] == told.order
    status = await shop.ask("GET", f"{shop.url}/_gateway/orders/{told.order}")
    assert status.status == 410


async def test_a_repeat_after_the_key_is_forgotten_is_a_new_order(
    backend: Backend, open_shop: OpenShop
) -> None:
    shop = await open_shop(retention_s=0.2, tombstone_s=0.2, attach_window_s=0)
    told = await shop.order()
    await asyncio.sleep(0.45)  # the passing of time itself is what is tested
    assert (await shop.order()).status == 410  # nothing is forgotten by its time alone
    assert len(backend.posts) == 1
    await Retention(shop.gateway.ledger).run_once()
    status = await shop.ask("GET", f"{shop.url}/_gateway/orders/{told.order}")
    assert status.status == 404
    again = await shop.order()
    assert (again.status, again.headers["Idempotency-Status"]) == (201, "created")
    assert again.order != told.order
    assert len(backend.posts) == len(backend.orders) == 2


async def _dead_letter(backend: Backend, shop: Shop) -> str:
    backend.script.append(acts.lose_reply)
    told = await shop.order()
    assert told.json["status"] == "dead_letter"
    return str(told.json["id"])


async def test_an_operator_resolves_a_dead_letter_and_only_that(
    backend: Backend, open_shop: OpenShop
) -> None:
    shop = await open_shop(capability="none")
    order = await _dead_letter(backend, shop)
    url, headers = f"{shop.admin_url}/admin/orders", shop.admin_headers
    listed = await shop.ask("GET", f"{url}?status=dead_letter", headers=headers)
    assert [each["id"] for each in listed.json["orders"]] == [order]
    word = {"outcome": "confirmed", "reason": "seen", "operator": "eva", "nonce": "n-1"}
    resolved = await shop.ask("POST", f"{url}/{order}/resolve", json=word, headers=headers)
    assert resolved.status == 200
    assert resolved.json["status"] == "confirmed"
    assert resolved.json["timeline"][-1]["who"] == "operator:eva"
    anew = word | {"nonce": "n-2"}
    twice = await shop.ask("POST", f"{url}/{order}/resolve", json=anew, headers=headers)
    assert twice.status == 409
    assert twice.json["order_status"] == "confirmed"
    told = await shop.order()
    assert (told.status, told.json["status"]) == (200, "confirmed")
    bad = await shop.ask("POST", f"{url}/{order}/resolve", json={"outcome": "x"}, headers=headers)
    assert bad.status == 400


async def test_an_operator_who_says_failed_frees_the_key(
    backend: Backend, open_shop: OpenShop
) -> None:
    shop = await open_shop(capability="none", settle_s=2)
    order = await _dead_letter(backend, shop)
    word = {"outcome": "failed", "reason": "not there", "operator": "eva", "nonce": "n-1"}
    url = f"{shop.admin_url}/admin/orders/{order}/resolve"
    said = partial(shop.ask, "POST", url, json=word, headers=shop.admin_headers)
    early = await said()
    assert (early.status, early.json["refusal"]) == (409, "may_still_take_effect")
    async with asyncio.timeout(10):
        while (await said()).status == 409:  # noqa: ASYNC110 - time alone changes it
            await asyncio.sleep(0.05)
    told = await shop.order()
    assert told.status == 201
    assert told.order == order


async def test_the_admin_api_wants_its_token(open_shop: OpenShop) -> None:
    shop = await open_shop()
    url = f"{shop.admin_url}/admin/orders"
    assert (await shop.ask("GET", url)).status == 401
    wrong = await shop.ask("GET", url, headers={"Authorization": "Bearer no"})
    assert wrong.status == 401
    assert wrong.headers["WWW-Authenticate"].startswith("Bearer")
    assert (await shop.ask("GET", url, headers=shop.admin_headers)).status == 200
    mode = shop.gateway.settings.admin_token_file.stat().st_mode & 0o777
    assert mode == 0o600


async def test_paging_is_stable(open_shop: OpenShop) -> None:
    shop = await open_shop()
    for number in range(5):
        await shop.order(f"key-{number}")
    url, headers = f"{shop.admin_url}/admin/orders", shop.admin_headers
    first = await shop.ask("GET", f"{url}?limit=3", headers=headers)
    await shop.order("key-late")
    second = await shop.ask("GET", f"{url}?limit=3&after={first.json['next']}", headers=headers)
    ids = [each["id"] for each in first.json["orders"] + second.json["orders"]]
    assert len(set(ids)) == 6
    assert second.json["next"] is None


async def test_metrics_tell_what_became_of_orders(backend: Backend, open_shop: OpenShop) -> None:
    shop = await open_shop()
    await shop.order()
    await shop.order()
    backend.script.append(acts.lose_reply)
    await shop.order("another-key-0123456789-abc")
    text = (await shop.ask("GET", f"{shop.admin_url}/metrics")).body.decode()
    lines = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    assert lines['ordergate_orders{status="confirmed"}'] == "2.0"
    assert lines["ordergate_replays_total"] == "1.0"
    assert lines["ordergate_doubts_total"] == "1.0"
    assert lines['ordergate_attempts_total{result="answered"}'] == "1.0"
    assert lines['ordergate_attempts_total{result="lost"}'] == "1.0"
    assert lines["ordergate_conservation_gap"] == "0.0"
    assert lines["ordergate_oldest_pending_age_seconds"] == "0.0"


async def test_probes(open_shop: OpenShop) -> None:
    shop = await open_shop()
    assert (await shop.ask("GET", f"{shop.admin_url}/livez")).status == 200
    assert (await shop.ask("GET", f"{shop.admin_url}/readyz")).json == {
        "ready": True,
        "reasons": [],
    }
    shop.gateway.draining = True
    unready = await shop.ask("GET", f"{shop.admin_url}/readyz")
    assert (unready.status, unready.json["reasons"]) == (503, ["draining"])


async def test_a_ledger_that_can_not_be_read_is_503_to_status(open_shop: OpenShop) -> None:
    shop = await open_shop()
    told = await shop.order()

    async def away(_: str) -> None:
        raise LedgerUnavailable("away")

    shop.gateway.ledger.find = away  # type: ignore[method-assign, assignment]
    status = await shop.ask("GET", f"{shop.url}/_gateway/orders/{told.order}")
    assert status.status == 503
    assert Status.CONFIRMED not in status.body.decode()


async def test_a_second_try_is_logged_and_counted_once(
    backend: Backend, open_shop: OpenShop
) -> None:
    backend.script.append(acts.answer(401, {"error": "who are you"}))
    shop = await open_shop()
    await shop.order()
    assert (await shop.order()).status == 201
    text = (await shop.ask("GET", f"{shop.admin_url}/metrics")).body.decode()
    moves = [line for line in text.splitlines() if line.startswith("ordergate_moves_total{")]
    counted = {line.split('reason="')[1].split('"')[0]: line.split()[-1] for line in moves}
    assert counted == {
        "claimed": "1.0",
        "not_admitted": "1.0",
        "claimed_again": "1.0",
        "confirmed_by_answer": "1.0",
    }


async def test_an_anonymous_order_is_found_by_its_unguessable_key(open_shop: OpenShop) -> None:
    shop = await open_shop()
    told = await shop.order(KEY, who=None)
    status = await shop.ask("GET", f"{shop.url}/_gateway/orders?key={KEY}")
    assert status.json["id"] == told.order
    assert (await shop.ask("GET", f"{shop.url}/_gateway/orders?key=short")).status == 404


async def test_the_type_of_an_operators_problem_leads_to_its_page(open_shop: OpenShop) -> None:
    shop = await open_shop()
    refused = await shop.ask("GET", f"{shop.admin_url}/admin/orders")
    page = await shop.ask("GET", shop.admin_url + refused.json["type"])
    assert page.status == 200
    assert b"admin token" in page.body
    assert (await shop.ask("GET", f"{shop.admin_url}/_gateway/problems/no")).status == 404
