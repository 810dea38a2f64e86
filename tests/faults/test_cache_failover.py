"""The log of changes loses its master, its last marks or its replicas: no cache shows what was
before (FAULTS: R1, R2, R6), on real servers."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from redis.crc import key_slot
from redis.exceptions import ConnectionError as Cut

from gateway.stores.valkey_keys import Layout
from tests.scenarios.exchanges import CachedShop
from tests.scenarios.test_cache_orders import ROUTES, Backend, change, hits, read, settled
from tests.stores.servers import Group, Server, cluster, follows, sentinel, valkey_binary, wait_for

from .remote import DURABLE


@asynccontextmanager
async def two_gateways(folder: Path, url: str, ledger: str) -> AsyncIterator[CachedShop]:
    shop = CachedShop(folder, f"{ROUTES}\n", url, ledger)
    await shop.start_replicas(2)
    try:
        await settled(shop)
        yield shop
    finally:
        await shop.stop()


@pytest.fixture
def watched() -> Iterator[Group]:
    group = sentinel(valkey_binary())
    yield group
    group.close()


async def until(true: Callable[[], bool]) -> None:
    await asyncio.to_thread(wait_for, true)


async def fresh_everywhere(shop: CachedShop, backend: Backend) -> None:
    for replica in (0, 1):
        assert await read(shop, "/orders/7", replica) == b"%d" % backend.version


async def kept_again(shop: CachedShop, replica: int) -> None:
    """Until the log can be asked again, and orders' reads are kept."""
    async with asyncio.timeout(60):
        while not await hits(shop, "/orders/7", replica):  # noqa: ASYNC110 - a server's doing
            await asyncio.sleep(0.1)


@pytest.mark.usefixtures("_no_listening")
async def test_marks_that_a_failover_lost_are_not_missed(tmp_path: Path, watched: Group) -> None:
    """The promoted replica ends where the other gateway's knowledge ends: all looks the same."""
    master, replica = watched.servers[:2]
    async with two_gateways(tmp_path, watched.url, 'durability = "memory"') as shop:
        backend = Backend(shop)
        assert await read(shop, "/orders/7", 1) == b"1"
        assert await hits(shop, "/orders/7", 1)
        await until(lambda: follows(replica))
        master.run("ACL", "SETUSER", "default", "-psync", "-sync")
        master.run("CLIENT", "KILL", "TYPE", "replica")
        await until(lambda: not follows(replica))
        assert (await change(shop, "/orders/7/cancel")).status == 201
        master.kill()
        async with asyncio.timeout(60):
            while not promoted(replica):
                await fresh_everywhere(shop, backend)
        await fresh_everywhere(shop, backend)
        for number in (0, 1):
            await kept_again(shop, number)
        await fresh_everywhere(shop, backend)


def promoted(server: Server) -> bool:
    """Sentinel cuts the connections of a server that it promotes, also that of who asks."""
    with suppress(Cut):
        return bool(server.run("ROLE")[0] == b"master")
    return False


async def test_a_master_that_lost_its_replicas_is_not_believed(
    tmp_path: Path, watched: Group
) -> None:
    """Another one may have been told of changes meanwhile."""
    master, replica = watched.servers[:2]
    async with two_gateways(
        tmp_path, watched.url, 'durability = "replicated"\nreplicas = 1'
    ) as shop:
        backend = Backend(shop)
        await kept_again(shop, 1)
        master.run("ACL", "SETUSER", "default", "-psync", "-sync")
        master.run("CLIENT", "KILL", "TYPE", "replica")
        await until(lambda: not follows(replica))
        backend.version = 5  # by way of the master that this one can't see
        assert await read(shop, "/orders/7", 1) == b"5"
        assert not await hits(shop, "/orders/7", 1)
        master.run("ACL", "SETUSER", "default", "+psync", "+sync")
        await kept_again(shop, 1)


async def test_a_cluster_without_the_logs_master_shows_nothing_that_could_be_stale(
    tmp_path: Path,
) -> None:
    nodes = cluster(valkey_binary(), 3, *DURABLE)
    try:
        async with two_gateways(tmp_path, nodes.url, 'durability = "fsync"') as shop:
            backend = Backend(shop)
            await kept_again(shop, 1)
            slot = key_slot(Layout("ordergate").buckets[0].meta)
            port = next(p for first, last, p in nodes.servers[0].slots() if first <= slot <= last)
            next(each for each in nodes.servers if each.port == port).kill()
            backend.version = 5
            assert await read(shop, "/orders/7", 1) == b"5"
            assert not await hits(shop, "/orders/7", 1)
    finally:
        nodes.close()


@pytest.fixture
def _no_listening(monkeypatch: pytest.MonkeyPatch) -> None:
    """A gateway hears of nothing that it does not ask for."""
    monkeypatch.setattr("middleware.caching.cache.LISTEN_EVERY_S", 3600.0)
