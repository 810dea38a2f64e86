"""A running gateway takes a changed configuration: nothing under way notices."""

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.app import Gateway
from gateway.orders.states import Status
from gateway.settings import Settings, load
from gateway.upstream import Pools, UpstreamUnknown
from gateway.upstream.breaking import Override
from tests.scenarios import backend as acts
from tests.scenarios.backend import Backend
from tests.scenarios.conftest import DEFAULTS, TEMPLATE, toml
from tests.scenarios.shop import KEY, Shop


class Configured:
    """A file, and the shop that runs by it."""

    def __init__(self, folder: Path, backend: Backend) -> None:
        self.file = folder / "ordergate.toml"
        self.text = TEMPLATE.format(port=backend.port, order=toml(DEFAULTS))
        self.shop = Shop(Gateway(self.settings(), draw=random.Random(7).random))

    def settings(self) -> Settings:
        self.file.write_text(self.text)
        return load(self.file, {})

    def change(self, *changes: tuple[str, str]) -> None:
        for old, new in changes:
            assert old in self.text
            self.text = self.text.replace(old, new)
        self.shop.gateway.reload(self.settings())


@pytest.fixture
async def configured(tmp_path: Path, backend: Backend) -> AsyncIterator[Configured]:
    configured = Configured(tmp_path, backend)
    await configured.shop.start()
    yield configured
    await configured.shop.stop()


@pytest.fixture
async def other() -> AsyncIterator[Backend]:
    other = Backend()
    await other.start()
    yield other
    await other.stop()


async def test_the_next_request_takes_the_new_routes(configured: Configured) -> None:
    shop = configured.shop
    configured.change(("POST /orders", "POST /purchases"))
    assert (await shop.order(path="/purchases")).headers["Idempotency-Status"] == "created"
    passed_on = await shop.order(KEY + "-2", path="/orders")
    assert "Idempotency-Status" not in passed_on.headers


@pytest.mark.parametrize(
    ("change", "warned"),
    [
        (('scope = ["header:Authorization"]', 'scope = ["header:X-Customer"]'), True),
        (("POST /orders", "POST /purchases"), True),
        (("attempt_timeout_s = 0.3", "attempt_timeout_s = 0.2"), False),
    ],
    ids=["another scope", "another path", "another timeout"],
)
async def test_it_is_said_where_a_repeat_may_be_a_new_order(
    configured: Configured,
    capsys: pytest.CaptureFixture[str],
    change: tuple[str, str],
    warned: bool,
) -> None:
    configured.change(change)
    said = capsys.readouterr().out
    assert ("may order twice" in said) is warned
    assert ("routes=['place-order']" in said) is warned


FIRST = '[[routes]]\nname = "place-order"'


def ahead(match: str, more: str = 'kind = "plain"') -> str:
    """One more route, in front of those that are there."""
    return f'[[routes]]\nname = "ahead"\nmatch = "{match}"\nupstream = "backend"\n{more}\n'


def takes_orders(scope: str) -> str:
    return f'kind = "order"\ncapability = "none"\nscope = ["{scope}"]'


@pytest.mark.parametrize(
    ("route", "warned"),
    [
        (ahead("POST /orders/eu"), True),
        (ahead("* /*/*"), True),
        (ahead("POST /orders/eu", takes_orders("header:X-Customer")), True),
        (ahead("POST /orders/eu", takes_orders("header:Authorization")), False),
        (ahead("PUT /orders/eu"), False),
        (ahead("POST /carts/**"), False),
    ],
    ids=["plain", "wide", "another scope", "the same scope", "another method", "another path"],
)
async def test_it_is_said_where_another_route_takes_what_was_an_orders(
    configured: Configured, capsys: pytest.CaptureFixture[str], route: str, warned: bool
) -> None:
    configured.change(("POST /orders", "POST /orders/**"))
    capsys.readouterr()
    configured.change((FIRST, f"{route}\n{FIRST}"))
    said = capsys.readouterr().out
    assert ("may order twice" in said) is warned
    assert ("routes=['place-order']" in said) is warned
    configured.change(("/orders/**", "/orders/**"))
    assert "may order twice" not in capsys.readouterr().out  # it was there before


async def test_it_is_said_where_two_order_routes_change_places(
    configured: Configured, capsys: pytest.CaptureFixture[str]
) -> None:
    first = ahead("POST /orders/*/eu", takes_orders("header:X-Customer"))
    second = first.replace("ahead", "behind").replace("*/eu", "new/*").replace("X-C", "C")
    configured.change((FIRST, f"{first}\n{second}\n{FIRST}"))
    capsys.readouterr()
    configured.change((f"{first}\n{second}", f"{second}\n{first}"))
    assert "routes=['ahead']" in capsys.readouterr().out


async def test_a_request_under_way_ends_as_it_began(
    backend: Backend, other: Backend, configured: Configured
) -> None:
    backend.script.append(acts.after("go", acts.take))
    asked = asyncio.create_task(configured.shop.order())
    await backend.until(lambda: len(backend.posts) == 1)
    configured.change(
        (f"127.0.0.1:{backend.port}", f"127.0.0.1:{other.port}"),
        ("attempt_timeout_s = 0.3", "attempt_timeout_s = 0.2"),
        ("answer_within_s = 5", "answer_within_s = 1"),
    )
    backend.gate("go").set()
    told = await asked
    assert told.status in (201, 202)
    assert (await configured.shop.settled(told.order)).status is Status.CONFIRMED
    assert (await configured.shop.order(KEY + "-2")).status == 201
    assert len(other.orders) == 1  # the new one; the first is where it was sent
    assert len(backend.orders) == 1


async def test_a_pending_order_keeps_what_it_was_promised(
    backend: Backend, configured: Configured
) -> None:
    backend.script.append(acts.after("never", acts.take))
    told = await configured.shop.order()
    configured.change(('capability = "lookup"', 'capability = "none"'), (LOOKUP, ""))
    assert (await configured.shop.entry(told.order)).promise.can_look_up
    backend.script.append(acts.take)  # absence proved, it is placed after all
    assert (await configured.shop.settled(told.order)).status is Status.CONFIRMED
    fresh = await configured.shop.order(KEY + "-2")
    assert not (await configured.shop.entry(fresh.order)).promise.can_look_up


LOOKUP = 'lookup = "GET /orders?idempotency_key={key}"'


async def test_a_failed_order_that_is_submitted_again_keeps_the_key_that_the_backend_knows(
    backend: Backend, configured: Configured
) -> None:
    shop = configured.shop
    backend.script.append(acts.answer(401))
    assert (await shop.order()).status == 401
    configured.change(('key = "attach"', 'key = "attach"\nupstream_key = "client"'))
    backend.script.append(acts.lose_reply)
    told = await shop.order()
    assert told.status == 201
    assert len(backend.orders) == 1
    entry = await shop.entry(told.order)
    assert {post.key for post in backend.posts} == {entry.upstream_key}
    assert (await shop.order(KEY + "-2")).json["key"] == KEY + "-2"


async def test_an_upstream_at_a_new_address_has_its_lookup_proved_anew(
    backend: Backend, other: Backend, configured: Configured
) -> None:
    """It may read the question otherwise: what it finds for every key is a stranger's order."""

    async def strangers(_: Backend, __: object, writer: asyncio.StreamWriter) -> None:
        writer.write(acts.encoded(200, [{"id": "stranger"}]))
        await writer.drain()

    shop = configured.shop
    configured.change(("answer_within_s = 5", "answer_within_s = 1"))
    backend.script.extend([acts.lose_reply, acts.lose_reply])
    assert (await shop.order()).status == 201  # the lookup is proved
    other.lookup_script.extend([strangers] * 100)
    backend.lookup_script.extend([acts.answer(500)] * 100)
    doubted = asyncio.create_task(shop.order(KEY + "-2"))
    await backend.until(lambda: len(backend.posts) == 2)
    configured.change((f"127.0.0.1:{backend.port}", f"127.0.0.1:{other.port}"))
    told = await doubted
    assert (told.status, b"stranger" in told.body) == (202, False)
    entry = await shop.entry(told.order)
    assert any("lookup_not_proved" in (event.detail or "") for event in entry.events)


@pytest.mark.parametrize("renamed", ['name = "place-order"', 'name = "backend"'])
async def test_a_caller_is_checked_whatever_route_and_upstream_are_called_now(
    backend: Backend, configured: Configured, renamed: str
) -> None:
    shop, url = configured.shop, f"{configured.shop.url}/_gateway/orders?key={KEY}"
    who = {"Authorization": "Bearer anna"}
    configured.change(('key = "attach"', 'key = "attach"\nreplay_check = "GET /me"'))
    placed = await shop.order()
    configured.change(
        (renamed, 'name = "another"'),
        *([('upstream = "backend"', 'upstream = "another"')] if "backend" in renamed else []),
    )
    shop.gateway.upstreams._leaving.clear()
    for status in (401, 200):
        backend.lookup_script.extend([acts.answer(status), acts.answer(status)])
        again, asked = await shop.order(), await shop.ask("GET", url, headers=who)
        expected = (401, 401) if status == 401 else (201, 200)
        assert (again.status, asked.status) == expected
        assert len(backend.lookup_script) == 0
    assert again.body == placed.body


async def test_an_order_in_doubt_is_settled_by_an_upstream_that_vanished(
    backend: Backend, other: Backend, configured: Configured
) -> None:
    backend.script.append(acts.lose_reply)
    backend.lookup_script.extend(acts.answer(500) for _ in range(2))
    told = await configured.shop.order(Prefer="wait=0")
    configured.change(
        ('name = "backend"', 'name = "elsewhere"'),
        ('upstream = "backend"', 'upstream = "elsewhere"'),
        (f"127.0.0.1:{backend.port}", f"127.0.0.1:{other.port}"),
    )
    assert (await configured.shop.settled(told.order)).status is Status.CONFIRMED
    assert len(backend.orders) == 1
    assert other.asked == []


async def test_a_vanished_upstream_is_closed_once_no_order_names_it(
    backend: Backend, other: Backend, configured: Configured
) -> None:
    shop = configured.shop
    pools = shop.gateway._pools
    backend.script.append(acts.lose_reply)
    backend.lookup_script.append(acts.after("asked", acts.look_up))
    asked = asyncio.create_task(shop.order())
    await backend.until(lambda: len(backend.asked) == 1)
    configured.change(
        ('name = "backend"', 'name = "elsewhere"'),
        ('upstream = "backend"', 'upstream = "elsewhere"'),
        ("[ledger]", "[limits]\nbody_s = 0.01\n[ledger]"),
        ("answer_within_s = 5", "answer_within_s = 0.4"),
    )
    pools._leaving[0].not_before = 0.0  # the grace of requests that had chosen their route
    await shop.gateway.vanished.run_once()
    assert pools["backend"] is not pools["elsewhere"]
    backend.gate("asked").set()
    await shop.settled((await asked).order)
    async with asyncio.timeout(5):
        while pools.leaving:
            await shop.gateway.vanished.run_once()
            await asyncio.sleep(0.05)  # its last connection grows old
    with pytest.raises(UpstreamUnknown, match='no upstream is called "backend"'):
        _ = pools["backend"]


async def test_a_failed_order_that_is_submitted_again_is_its_routes_upstreams_of_then(
    backend: Backend, other: Backend, configured: Configured
) -> None:
    """It is looked up there, too: anywhere else it would not be found, and be made once more."""
    shop = configured.shop
    backend.script.append(acts.answer(401))
    assert (await shop.order()).status == 401
    configured.change(*ELSEWHERE, (f"127.0.0.1:{backend.port}", f"127.0.0.1:{other.port}"))
    assert (await shop.order(KEY + "-2")).status == 201  # and its connection is idle now
    for each in (backend, other):
        each.script.append(acts.lose_reply)
    told = await shop.order()
    entry = await shop.settled(told.order)
    assert entry.status is Status.CONFIRMED
    made = [each for each in backend.orders + other.orders if each["key"] == entry.upstream_key]
    assert len(made) == 1
    assert told.status == 201
    assert entry.promise.upstream == "elsewhere"


async def test_a_failed_order_whose_upstream_is_gone_is_placed_all_the_same(
    backend: Backend, other: Backend, configured: Configured
) -> None:
    shop = configured.shop
    backend.script.append(acts.answer(401))
    first = await shop.order()
    assert first.status == 401
    configured.change(*ELSEWHERE, (f"127.0.0.1:{backend.port}", f"127.0.0.1:{other.port}"))
    pools = shop.gateway._pools
    pools._leaving[0].not_before = 0.0
    await shop.gateway.vanished.run_once()
    assert "backend" not in pools
    told = await shop.order()
    assert (told.status, told.order) == (201, first.order)
    assert (len(other.posts), len(other.orders), len(backend.orders)) == (1, 1, 0)


async def test_a_failed_order_is_not_sent_twice_to_an_upstream_that_deduplicates_no_more(
    backend: Backend, configured: Configured
) -> None:
    shop = configured.shop
    lookup, deduplicates = 'capability = "lookup"', 'capability = "dedup"\ndedup_for_s = 3600'
    at = next(line for line in configured.text.splitlines() if line.startswith("lookup ="))
    configured.change((lookup, deduplicates), (at, ""))
    backend.script.append(acts.answer(401))
    assert (await shop.order()).status == 401
    configured.change((deduplicates, 'capability = "none"'))
    backend.script.append(acts.lose_reply)
    told = await shop.order()
    assert told.status == 202
    entry = await shop.entry(told.order)
    assert entry.promise.capabilities == frozenset()
    assert (len(backend.posts), len(backend.orders)) == (2, 1)


ELSEWHERE = (
    ('name = "backend"', 'name = "elsewhere"'),
    ('upstream = "backend"', 'upstream = "elsewhere"'),
)


def _parsed(configured: Configured, text: str) -> Settings:
    configured.text = text
    return configured.settings()


async def test_an_upstream_that_comes_back_is_the_new_one(
    backend: Backend, other: Backend, configured: Configured
) -> None:
    pools: Pools = configured.shop.gateway._pools
    old = pools["backend"]
    configured.change(('"backend"', '"elsewhere"'))
    assert pools["backend"] is old
    configured.change(('"elsewhere"', '"backend"'), (str(backend.port), str(other.port)))
    assert pools["backend"] is not old
    assert pools["backend"].origin.port == other.port
    with pytest.raises(UpstreamUnknown):
        _ = pools["elsewhere-else"]


async def test_what_did_not_change_keeps_its_connections(configured: Configured) -> None:
    pools = configured.shop.gateway._pools
    before = pools["backend"]
    configured.change(("attempt_timeout_s = 0.3", "attempt_timeout_s = 0.4"))
    assert pools["backend"] is before
    assert not pools.leaving


async def test_orders_of_an_upstream_that_is_not_configured_are_reported(
    backend: Backend, tmp_path: Path
) -> None:
    first = Configured(tmp_path, backend)
    await first.shop.start()
    backend.script.append(acts.drop)
    backend.lookup_script.extend([acts.after("never", acts.look_up)] * 50)
    told = await first.shop.order(key=KEY)
    await first.shop.stop()
    first.text = first.text.replace('"backend"', '"elsewhere"')
    said: list[tuple[str, dict[str, object]]] = []
    second = Shop(Gateway(first.settings(), draw=random.Random(7).random))
    second.gateway.vanished._log = Listening(said)
    await second.start()
    try:
        await second.gateway.vanished.run_once()
    finally:
        await second.stop()
    assert (REPORT, {"upstream": "backend", "orders": 1}) in said
    assert told.status == 202


async def test_an_operator_is_told_that_the_upstream_to_be_asked_is_not_configured(
    backend: Backend, configured: Configured
) -> None:
    """A question that stays open would keep the order in doubt beyond ``doubt_within_s``."""
    shop, pools = configured.shop, configured.shop.gateway.upstreams
    configured.change(("answer_within_s = 5", "answer_within_s = 0.3"))
    backend.script.append(acts.lose_reply)
    backend.lookup_script.extend([acts.answer(500)] * 100)
    told = await shop.order()
    assert told.status == 202
    configured.change(
        ('name = "backend"', 'name = "elsewhere"'),
        ('upstream = "backend"', 'upstream = "elsewhere"'),
    )
    await pools._leaving.pop().pool.close()
    looked_up = await shop.ask(
        "POST",
        f"{shop.admin_url}/admin/orders/{told.order}/lookup",
        json={"operator": "eva", "nonce": "1"},
        headers=shop.admin_headers | {"Prefer": "wait=5"},
    )
    assert looked_up.status == 200
    result = looked_up.json["action"]["result"]
    assert result["reason"] == "lookup_proves_nothing"
    assert "not configured" in result["detail"]


REPORT = "orders wait for an upstream that is not configured: configure it again"


class Listening:
    """A logger that keeps what it is told."""

    def __init__(self, said: list[tuple[str, dict[str, object]]]) -> None:
        self._said = said

    def error(self, event: str, **fields: object) -> None:
        self._said.append((event, fields))

    info = warning = error


async def test_new_limits_hold_for_new_requests(configured: Configured) -> None:
    configured.change(("[ledger]", "[limits]\ntarget_bytes_max = 64\n[ledger]"))
    url = configured.shop.url + "/catalog?" + "x" * 80
    async with asyncio.timeout(5):
        assert (await configured.shop.ask("GET", url)).status == 414
    assert configured.shop.gateway.admission.limit.policy.requests_max == 1024


async def test_a_reload_that_fails_changes_nothing(
    configured: Configured, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway = configured.shop.gateway
    before = gateway.settings

    def broken() -> None:
        raise ValueError("a route that can't be made")

    monkeypatch.setattr(gateway, "_front", broken)
    with pytest.raises(ValueError, match="can't be made"):
        configured.change(("POST /orders", "POST /purchases"))
    assert gateway.settings is before
    assert (await configured.shop.order()).status == 201


async def test_an_operators_word_on_a_breaker_holds_through_a_reload(
    configured: Configured,
) -> None:
    pools = configured.shop.gateway.upstreams
    pools["backend"].breaker.set(Override.OPEN)
    before = pools["backend"]
    configured.change(('name = "backend"', 'name = "backend"\nbreaker_open_s = 7'))
    assert pools["backend"] is not before
    assert pools["backend"].breaker.override is Override.OPEN
