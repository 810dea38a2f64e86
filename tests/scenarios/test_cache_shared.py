"""Answers that two gateways keep together, on real servers: the rules are the same, and a store
that is away is a miss."""

import asyncio
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from middleware.caching.sharing import AWAY_S
from tests.scenarios.exchanges import CachedShop, Says, Step
from tests.scenarios.test_cache_behaviour import until
from tests.scenarios.test_cache_orders import ROUTES, Backend, change, hits, read, settled
from tests.stores.servers import Server, stop_shared, store_url, valkey_binary

CACHE = """
[cache]
shared_url = "{url}"
shared_timeout_s = {timeout_s}
"""
FRESH = {"Cache-Control": "max-age=3600"}
PATIENT_S = 2.0
"""A slow machine's store is not taken for one that is away."""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server(valkey_binary(), "--maxmemory", "64mb", "--maxmemory-policy", "allkeys-lru") as one:
        yield one
    stop_shared()


def shop_on(folder: Path, server: Server, timeout_s: float = PATIENT_S) -> CachedShop:
    cache = CACHE.format(url=f"{server.url}?prefix={folder.name}", timeout_s=timeout_s)
    ledger = f"{store_url('valkey')}?prefix={folder.name}"
    return CachedShop(folder, ROUTES + cache, ledger)


@pytest.fixture
async def shop(tmp_path: Path, server: Server) -> AsyncIterator[CachedShop]:
    shop = shop_on(tmp_path, server)
    await shop.start_replicas(2)
    await settled(shop)
    yield shop
    await shop.stop()


async def warm(shop: CachedShop) -> None:
    """Nothing is put before something was looked for: once for each process."""
    for replica in range(len(shop.replicas)):
        await shop.ask(Step(Says({})), "/warm", replica)


async def written(shop: CachedShop) -> None:
    for gateway in shop.replicas:
        sharing = gateway.cache.shared
        assert sharing is not None
        await until(lambda: sharing._writes == 0)  # noqa: B023 - one after the other


async def test_what_one_gateway_fetched_the_other_has_too(shop: CachedShop) -> None:
    says = Says(FRESH | {"ETag": '"a"', "Age": "100", "A": "1"}, body=b"one")
    await shop.ask(Step(says), "/catalog")
    await written(shop)
    asked = len(shop.origin.seen)
    told = await shop.ask(Step(), "/catalog", 1)
    assert (told.body, told.get("A"), told.get("ETag")) == (b"one", "1", '"a"')
    assert 100 <= int(told.get("Age") or 0) < 160
    assert (told.get("Cache-Status") or "").startswith("ordergate; hit; ttl=34")
    assert (await shop.ask(Step(method="HEAD"), "/catalog", 1)).get("Content-Length") == "3"
    condition = {"If-None-Match": '"a"'}
    assert (await shop.ask(Step(asks=condition), "/catalog", 1)).status == 304
    assert len(shop.origin.seen) == asked


async def test_only_if_cached_looks_there_too(shop: CachedShop) -> None:
    step = Step(asks={"Cache-Control": "only-if-cached"})
    assert (await shop.ask(step, "/catalog", 1)).status == 504
    await shop.ask(Step(Says(FRESH)), "/catalog")
    await written(shop)
    assert (await shop.ask(step, "/catalog", 1)).status == 200


async def test_each_variant_is_there_for_its_own_requests(shop: CachedShop) -> None:
    await warm(shop)
    for one in ("1", "2"):
        says = Says(FRESH | {"Vary": "X-A"}, body=one.encode())
        await shop.ask(Step(says, asks={"X-A": one}), "/catalog")
        await written(shop)
    asked = len(shop.origin.seen)
    for one in ("1", "2"):
        assert (await shop.ask(Step(asks={"X-A": one}), "/catalog", 1)).body == one.encode()
    assert len(shop.origin.seen) == asked
    assert (
        await shop.ask(Step(Says(FRESH, body=b"3"), asks={"X-A": "3"}), "/catalog", 1)
    ).body == b"3"


async def test_what_proxies_say_of_the_uri_is_asked_for_there_too(shop: CachedShop) -> None:
    await warm(shop)
    said = {"X-Forwarded-Prefix": "/evil"}
    await shop.ask(Step(Says(FRESH, body=b"evil"), asks=said), "/catalog")
    await written(shop)
    asked = len(shop.origin.seen)
    assert (await shop.ask(Step(asks=said), "/catalog", 1)).body == b"evil"
    assert len(shop.origin.seen) == asked
    told = await shop.ask(Step(Says(FRESH, body=b"good")), "/catalog", 1)
    assert told.body == b"good"
    await written(shop)
    assert (await shop.ask(Step(), "/catalog")).body == b"good"


@pytest.mark.parametrize(
    ("changed", "shown"),
    [
        ("/orders/7/cancel", "/orders/7"),
        ("/orders/7/cancel", "/orders?page=2"),
        ("/orders", "/customers/9/orders"),
        ("/orders", "/shelf/stock"),
    ],
)
async def test_what_an_order_changed_is_not_recalled(
    shop: CachedShop, changed: str, shown: str
) -> None:
    """By a gateway that has nothing of it itself."""
    backend = Backend(shop)
    await warm(shop)
    assert await read(shop, shown) == b"1"
    await written(shop)
    assert (await change(shop, changed)).status == 201
    await shop.replicas[1].cache.changes.check()  # as within moments, of what is no order's
    assert await read(shop, shown, 1) == b"%d" % backend.version == b"2"
    await written(shop)
    assert await read(shop, shown, 0) == b"2"
    sharing = shop.gateway.cache.shared
    assert sharing is not None
    assert sharing.found


async def test_a_read_in_flight_while_an_order_changes_is_not_recalled_either(
    shop: CachedShop,
) -> None:
    backend = Backend(shop)
    await warm(shop)
    backend.reading = asyncio.Event()
    backend.read_begun.clear()
    reading = asyncio.create_task(read(shop, "/orders/7"))
    await backend.read_begun.wait()
    assert (await change(shop, "/orders/7/cancel")).status == 201
    backend.reading.set()
    assert await reading == b"1"
    await written(shop)
    backend.reading = None
    assert await read(shop, "/orders/7", 1) == b"2"


async def test_a_gateway_that_was_not_there_judges_what_was_kept_before(
    shop: CachedShop,
) -> None:
    backend = Backend(shop)
    await warm(shop)
    for path in ("/orders/7", "/orders/8", "/catalog"):
        await read(shop, path)
    await written(shop)
    assert (await change(shop, "/orders/7/cancel")).status == 201
    await shop.add_replica(shop._routes)
    await settled(shop)
    assert not await hits(shop, "/orders/7", 2)
    assert await read(shop, "/orders/7", 2) == b"%d" % backend.version
    assert await hits(shop, "/orders/8", 2)
    assert await hits(shop, "/catalog", 2)


async def test_a_log_that_lost_its_past_makes_strangers_of_all_that_is_shared(
    shop: CachedShop,
) -> None:
    """Nobody knows what it would have told."""
    Backend(shop)
    await warm(shop)
    await read(shop, "/orders/7")
    await written(shop)
    log = shop.gateway.cache.changes._log
    node = (await log._finding.servers()).node(log._bucket)  # type: ignore[attr-defined]
    await node.ask(("DEL", *[key.decode() for key in log._keys]))  # type: ignore[attr-defined]
    await shop.add_replica(shop._routes)
    await settled(shop)
    assert not await hits(shop, "/orders/7", 2)


@pytest.mark.parametrize(
    "step",
    [
        Step(Says(FRESH), asks={"Authorization": "anna"}),
        Step(
            Says({"Cache-Control": "max-age=99, must-revalidate"}), asks={"Authorization": "anna"}
        ),
        Step(Says(FRESH), asks={"Cookie": "sid=1"}),
        Step(Says(FRESH | {"Set-Cookie": "sid=1"})),
        Step(Says(FRESH, status=400), asks={"X-Bad": "1"}),
        Step(Says({"Cache-Control": "private, max-age=99"})),
        Step(Says(FRESH, body=b"x" * 2**21)),
        Step(Says(FRESH), method="HEAD"),
    ],
)
async def test_what_is_one_clients_or_large_is_not_shared(shop: CachedShop, step: Step) -> None:
    await warm(shop)
    await shop.ask(step, "/catalog")
    await written(shop)
    plain = Step(Says(FRESH, body=b"fetched"), asks=step.asks)
    assert (await shop.ask(plain, "/catalog", 1)).body == b"fetched"


async def test_what_ran_out_is_asked_about_and_shared_anew(shop: CachedShop) -> None:
    says = Says({"Cache-Control": "max-age=10", "ETag": '"a"', "Age": "10"})
    await shop.ask(Step(says), "/catalog")
    await written(shop)
    again = Step(Says(FRESH | {"ETag": '"a"'}, status=304))
    before = len(shop.origin.seen)
    assert (await shop.ask(again, "/catalog", 1)).status == 200
    assert dict(shop.origin.seen[before][2])["if-none-match"] == '"a"'
    await written(shop)
    before = len(shop.origin.seen)
    assert (await shop.ask(Step(), "/catalog")).status == 200
    assert len(shop.origin.seen) == before


async def test_a_crowd_looks_once(shop: CachedShop) -> None:
    await shop.ask(Step(Says(FRESH)), "/catalog")
    await written(shop)
    asked = len(shop.origin.seen)
    sharing = shop.replicas[1].cache.shared
    assert sharing is not None
    told = await asyncio.gather(*(shop.ask(Step(), "/catalog", 1) for _ in range(20)))
    assert {each.status for each in told} == {200}
    assert len(shop.origin.seen) == asked
    assert sharing.found <= 2


async def test_nonsense_in_the_store_is_a_miss(shop: CachedShop, server: Server) -> None:
    await shop.ask(Step(Says(FRESH)), "/catalog")
    await written(shop)
    with server.client() as client:
        for key in client.scan_iter(f"*{shop._folder.name}*"):
            if client.type(key) == b"hash" and client.hexists(key, "p"):
                client.hset(key, "p", b"\x01nonsense")
    assert (await shop.ask(Step(Says(FRESH, body=b"asked")), "/catalog", 1)).body == b"asked"


async def test_a_store_that_is_away_costs_misses_and_nothing_else(tmp_path: Path) -> None:
    with Server(valkey_binary()) as server:
        shop = shop_on(tmp_path, server)
        await shop.start_replicas(2)
        await settled(shop)
        try:
            await warm(shop)
            await shop.ask(Step(Says(FRESH, body=b"before")), "/catalog")
            await written(shop)
            server.kill()
            assert (
                await shop.ask(Step(Says(FRESH, body=b"asked")), "/catalog", 1)
            ).body == b"asked"
            assert (await shop.ask(Step(), "/catalog", 1)).body == b"asked"
            sharing = shop.replicas[1].cache.shared
            assert sharing is not None
            failed = sharing.failed
            assert failed
            assert sharing.away
            assert (await shop.ask(Step(Says(FRESH)), "/other", 1)).status == 200
            assert sharing.failed == failed  # it is left alone
            server.start()
            shop.clock.ahead_s += AWAY_S
            await warm(shop)
            await shop.ask(Step(Says(FRESH, body=b"back")), "/third")
            await written(shop)
            assert (await shop.ask(Step(Says(status=500)), "/third", 1)).body == b"back"
        finally:
            await shop.stop()


async def test_a_store_that_hangs_holds_nobody_up_for_long(tmp_path: Path) -> None:
    with Server(valkey_binary()) as server:
        shop = shop_on(tmp_path, server, timeout_s=0.2)
        await shop.start_replicas(1)
        await settled(shop)
        try:
            await warm(shop)
            server.send(signal.SIGSTOP)
            for number in range(20):
                told = await shop.ask(Step(Says(FRESH)), f"/page/{number}")
                assert told.status == 200
            sharing = shop.gateway.cache.shared
            assert sharing is not None
            assert sharing.failed < 20
            server.send(signal.SIGCONT)
        finally:
            server.send(signal.SIGCONT)
            await shop.stop()
