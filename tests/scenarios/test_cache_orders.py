"""What an order changes is never shown as it was before, from any replica's cache."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from middleware.caching.changes import ChangesUnknown, MemoryLog
from tests.scenarios.exchanges import CachedShop, Says, Step, Told
from tests.scenarios.test_cache_behaviour import until
from tests.stores.servers import stop_shared, store_url

ROUTES = """
[[routes]]
name = "place"
match = "POST /orders"
kind = "order"
upstream = "origin"
capability = "lookup"
lookup = "GET /lookup?key={key}"
scope = ["header:Authorization"]
scope_is_static = true
answer_within_s = 5
attempt_timeout_s = 0.3
settle_s = 0.4
invalidates = ["/customers/*/orders", "group:stock"]

[[routes]]
name = "act"
match = "POST /orders/*/cancel"
kind = "order"
upstream = "origin"
capability = "lookup"
lookup = "GET /lookup?key={key}"
scope = ["header:Authorization"]
scope_is_static = true
attempt_timeout_s = 0.3
settle_s = 0.4

[[routes]]
name = "reads"
match = "GET /orders/**"
kind = "cached"
upstream = "origin"

[[routes]]
name = "customers"
match = "GET /customers/**"
kind = "cached"
upstream = "origin"

[[routes]]
name = "rest"
match = "* /**"
kind = "cached"
upstream = "origin"
"""

KEPT = {"Cache-Control": "public, max-age=3600"}


class Backend:
    """Orders with a version that each change raises; a read shows it."""

    def __init__(self, shop: CachedShop) -> None:
        self.version = 1
        self.reading: asyncio.Event | None = None
        self.read_begun = asyncio.Event()
        self.losing = False
        self.keys: set[str] = set()
        self.shop = shop
        shop.origin.answering = self.answer

    async def answer(self, method: str, target: str) -> Says:
        if target.startswith("/lookup"):
            known = target.partition("key=")[2] in self.keys
            return Says(status=200 if known else 404, body=b'{"id": 7}')
        if method == "GET":
            seen = b"%d" % self.version
            if self.reading is not None:
                self.read_begun.set()
                await self.reading.wait()
            groups = {"Cache-Groups": '"stock"'} if "stock" in target else {}
            return Says(KEPT | groups, body=seen)
        self.version += 1
        self.keys.add(dict(self.shop.origin.seen[-1][2]).get("idempotency-key", ""))
        if self.losing:
            return Says(raw=b"")
        return Says({"Location": "/mine/7"}, status=201, body=b"{}")


@pytest.fixture(scope="module", autouse=True)
def _stop_servers() -> Iterator[None]:
    yield
    stop_shared()


@pytest.fixture(params=["sqlite", "valkey"])
async def shop(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[CachedShop]:
    server = store_url(request.param)
    ledger = f"{server}?prefix={tmp_path.name}" if server else "sqlite:///ledger.db"
    shop = CachedShop(tmp_path, ROUTES, ledger)
    await shop.start_replicas(2)
    await settled(shop)
    yield shop
    await shop.stop()


async def settled(shop: CachedShop) -> None:
    """Until every gateway on the ledger tells of what it changes."""
    for gateway in shop.replicas:
        changes = gateway.cache.changes
        await changes.check()
        while changes.settling:
            await asyncio.sleep(0.05)
            await changes.check()


async def read(shop: CachedShop, path: str, replica: int = 0) -> bytes:
    told = await shop.ask(Step(), path, replica)
    assert told.status == 200, told
    return told.body


async def change(shop: CachedShop, path: str, replica: int = 0, key: str = "k" * 22) -> Told:
    asks = {"Authorization": "anna", "Idempotency-Key": key}
    return await shop.ask(Step(method="POST", asks=asks, data=b"{}"), path, replica)


async def hits(shop: CachedShop, path: str, replica: int = 0) -> bool:
    before = len(shop.origin.seen)
    await read(shop, path, replica)
    return len(shop.origin.seen) == before


@pytest.mark.parametrize("replica", [0, 1])
@pytest.mark.parametrize(
    ("changed", "shown"),
    [
        ("/orders/7/cancel", "/orders/7"),
        ("/orders/7/cancel", "/orders"),
        ("/orders/7/cancel", "/orders?page=2"),
        ("/orders", "/orders"),
        ("/orders", "/customers/9/orders"),
        ("/orders", "/shelf/stock"),
        ("/orders", "/mine/7"),
        ("/orders", "/mine/7/"),
        ("/orders", "/mine/7?view=full"),
    ],
)
async def test_what_an_order_changes_is_fresh_on_every_replica(
    shop: CachedShop, changed: str, shown: str, replica: int
) -> None:
    backend = Backend(shop)
    assert await read(shop, shown, replica) == b"1"
    if not shown.startswith(("/mine", "/shelf")):
        assert await hits(shop, shown, replica)
    assert (await change(shop, changed)).status == 201
    if shown.startswith(("/mine", "/shelf")):  # not known as an order's: heard within moments
        await shop.replicas[replica].cache.changes.check()
    assert await read(shop, shown, replica) == b"%d" % backend.version


@pytest.mark.parametrize("replica", [0, 1])
async def test_a_read_in_flight_while_an_order_changes_is_never_served_afterwards(
    shop: CachedShop, replica: int
) -> None:
    backend = Backend(shop)
    backend.reading = asyncio.Event()
    reading = asyncio.create_task(read(shop, "/orders/7", replica))
    await backend.read_begun.wait()
    assert (await change(shop, "/orders/7/cancel")).status == 201
    backend.reading.set()
    assert await reading == b"1"
    backend.reading = None
    assert await read(shop, "/orders/7", replica) == b"2"
    assert await read(shop, "/orders/7", replica) == b"2"


async def test_an_order_that_settles_in_the_background_makes_its_reads_fresh(
    shop: CachedShop,
) -> None:
    backend = Backend(shop)
    backend.losing = True
    placing = asyncio.create_task(change(shop, "/orders"))
    while backend.version == 1:
        await read(shop, "/orders", 1)
        await asyncio.sleep(0.01)
    assert (await placing).status == 201  # by the lookup
    assert await read(shop, "/orders", 1) == b"2"
    assert await read(shop, "/orders", 0) == b"2"


class DeafLog(MemoryLog):
    """Can't be asked."""

    deaf = True

    def nothing_new(self, position: int) -> bool:
        return not self.deaf and super().nothing_new(position)

    async def append(self, marks: Any) -> None:
        if self.deaf:
            raise ChangesUnknown("deaf")
        await super().append(marks)

    async def since(self, position: int) -> Any:
        if self.deaf:
            raise ChangesUnknown("deaf")
        return await super().since(position)


async def test_a_replica_that_cannot_hear_serves_nothing_that_could_be_stale(
    shop: CachedShop,
) -> None:
    backend = Backend(shop)
    assert await read(shop, "/orders/7") == b"1"
    assert await read(shop, "/catalog") == b"1"
    shop.gateway.cache.changes._log = DeafLog()
    backend.version = 5
    assert await read(shop, "/orders/7") == b"5"
    assert not await hits(shop, "/orders/7")
    assert await hits(shop, "/catalog")


async def test_an_order_is_not_placed_where_no_cache_can_be_told(shop: CachedShop) -> None:
    backend = Backend(shop)
    log = DeafLog()
    shop.gateway.cache.changes._log = log
    told = await change(shop, "/orders")
    assert told.status == 503
    assert backend.version == 1
    assert shop.gateway.told.trouble == "deaf"  # what /readyz says
    log.deaf = False
    for _ in range(500):  # until the first submission is withdrawn
        told = await change(shop, "/orders")
        if told.status != 503:
            break
        await asyncio.sleep(0.02)
    assert told.status == 201
    assert backend.version == 2
    assert shop.gateway.told.trouble is None


async def test_a_write_that_is_no_order_but_touches_one_is_told_to_all(shop: CachedShop) -> None:
    backend = Backend(shop)
    assert await read(shop, "/orders/7", 1) == b"1"
    told = await shop.ask(Step(method="PATCH", data=b"{}"), "/orders/7")
    assert told.status == 201
    assert backend.version == 2
    assert await read(shop, "/orders/7", 1) == b"2"


@pytest.mark.parametrize("path", ["/orders/stock", "/catalog/stock"])
async def test_a_write_ends_what_shares_a_group_with_its_target(
    shop: CachedShop, path: str
) -> None:
    """Also where the target is told of, and so ended, before it is written to."""
    backend = Backend(shop)
    assert await read(shop, path) == b"1"
    for replica in (0, 1):
        assert await read(shop, "/shelf/stock", replica) == b"1"
    told = await shop.ask(Step(method="PATCH", data=b"{}"), path)
    assert told.status == 201
    await shop.replicas[1].cache.changes.check()
    for replica in (0, 1):
        assert await read(shop, "/shelf/stock", replica) == b"%d" % backend.version == b"2"


async def test_a_write_of_unknown_outcome_makes_its_reads_fresh(shop: CachedShop) -> None:
    backend = Backend(shop)
    assert await read(shop, "/orders/7", 1) == b"1"
    assert await read(shop, "/catalog") == b"1"
    backend.losing = True
    assert (await shop.ask(Step(method="PUT", data=b"{}"), "/orders/7")).status == 502
    assert (await shop.ask(Step(method="PUT", data=b"{}"), "/catalog")).status == 502
    assert await read(shop, "/orders/7", 1) == b"3"
    assert await read(shop, "/catalog") == b"3"


def without_caches(routes: str, *, invalidates: bool) -> str:
    text = routes.replace('"cached"', '"plain"')
    return text if invalidates else text.replace("invalidates =", "# invalidates =")


@pytest.mark.parametrize("invalidates", [True, False])
async def test_a_gateway_without_a_cache_tells_those_that_have_one(
    shop: CachedShop, invalidates: bool
) -> None:
    """As while a new configuration is rolled out."""
    await shop.add_replica(without_caches(ROUTES, invalidates=invalidates))
    backend = Backend(shop)
    assert await read(shop, "/orders") == b"1"
    assert await hits(shop, "/orders")
    assert (await change(shop, "/orders", 2)).status == 201
    assert await read(shop, "/orders") == b"%d" % backend.version == b"2"
    told = await shop.ask(Step(method="PATCH", data=b"{}"), "/orders/7", 2)  # a plain route
    assert told.status == 201
    assert await read(shop, "/orders") == b"%d" % backend.version == b"3"


@pytest.mark.parametrize("kind", ["sqlite", "valkey"])
async def test_a_gateway_that_was_there_before_the_first_cache_tells_it_too(
    kind: str, tmp_path: Path
) -> None:
    server = store_url(kind)
    ledger = f"{server}?prefix={tmp_path.name}" if server else "sqlite:///ledger.db"
    shop = CachedShop(tmp_path, without_caches(ROUTES, invalidates=False), ledger)
    await shop.start_replicas(1)
    try:
        backend = Backend(shop)
        changes = shop.gateway.cache.changes
        await until(lambda: not changes.told_elsewhere())  # it has asked: nobody caches yet
        assert (await change(shop, "/orders", key="a" * 22)).status == 201
        await shop.add_replica(ROUTES)
        assert await read(shop, "/mine/8", 1) == b"%d" % backend.version
        assert (await change(shop, "/orders/8/cancel", key="b" * 22)).status == 201
        assert await read(shop, "/orders/8", 1) == b"%d" % backend.version
        await settled(shop)
        for _ in range(2):
            assert await read(shop, "/orders/8", 1) == b"%d" % backend.version
        assert (await change(shop, "/orders/8/cancel", key="c" * 22)).status == 201
        assert await read(shop, "/orders/8", 1) == b"%d" % backend.version
    finally:
        await shop.stop()


@pytest.mark.parametrize("shown", ["/orders/7/", "/orders/", "/orders/%37", "/%6frders/7"])
async def test_an_order_under_another_name_is_never_shown_as_it_was(
    shop: CachedShop, shown: str
) -> None:
    backend = Backend(shop)
    assert await read(shop, shown) == b"1"
    assert (await change(shop, "/orders/7/cancel")).status == 201
    assert await read(shop, shown) == b"%d" % backend.version == b"2"
