"""Whoever is asked where the master is now is far away, or silent."""

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator
from itertools import pairwise

import pytest

from gateway.ledger import LedgerUnavailable
from gateway.settings.ledger_urls import parse_remote
from gateway.stores.valkey import ValkeyLedger
from gateway.stores.valkey_nodes import Access
from gateway.stores.valkey_shared import ValkeySharedStore
from middleware.caching.sharing import StoreAway
from tests.stores.making import submission
from tests.stores.servers import (
    Server,
    cluster,
    follows,
    running,
    sentinel,
    sentinel_of,
    valkey_binary,
)

from .remote import DURABLE, FaultProxy, durable, opened, until

FAR_S = 0.02
"""One way: questions of all, one after the other, take longer than the ledger waits."""

MANY = 200


@pytest.fixture
async def watched() -> AsyncIterator[tuple[Server, FaultProxy, FaultProxy]]:
    """A Sentinel, what is between it and the gateway, and what is between it and the master."""
    with running(durable()) as (master,):
        async with FaultProxy(master.port) as near:
            watcher = sentinel_of(valkey_binary(), near.port, 1, down_after_ms=60_000)
            with running(watcher):
                async with FaultProxy(watcher.port, delay_s=FAR_S) as far:
                    yield watcher, far, near


@pytest.mark.parametrize("silent", [False, True], ids=["far away", "silent"])
async def test_many_whose_connection_ends_ask_the_sentinel_together(
    watched: tuple[Server, FaultProxy, FaultProxy], silent: bool
) -> None:
    _, sentinel, master = watched
    async with opened(f"valkey+sentinel://127.0.0.1:{sentinel.port}/shop") as ledger:
        sentinel.silent = silent
        master.lose = 2
        claims = (ledger.claim(submission(f"key-{each}", scope=f"{each}")) for each in range(MANY))
        claimed = await asyncio.gather(*claims, return_exceptions=True)
        assert [each for each in claimed if isinstance(each, BaseException)] == []
        assert master.lose == 0
        assert ledger.trouble is None


async def move(nodes: list[Server], ways: list[FaultProxy]) -> None:
    """They are to be reached by these ways from now on."""
    for node, way in zip(nodes, ways, strict=True):
        await asyncio.to_thread(node.run, "CONFIG", "SET", "cluster-announce-port", way.port)
    ports = {way.port for way in ways}
    await until(lambda: all({port for *_, port in node.slots()} == ports for node in nodes))


async def test_a_cluster_is_not_asked_where_it_once_was() -> None:
    """Nodes get other addresses (a pod that is replaced); where they were, nothing answers."""
    group = cluster(valkey_binary(), 3, *DURABLE)
    with contextlib.closing(group):
        async with contextlib.AsyncExitStack() as stack:
            ways = [
                [await stack.enter_async_context(FaultProxy(node.port)) for node in group.servers]
                for _ in range(3)
            ]
            await move(group.servers, ways[0])
            ledger = await stack.enter_async_context(opened(group.url))
            for former, latter in pairwise(ways):
                await move(group.servers, latter)
                await look_again(ledger)
                for way in former:
                    way.silent = True
            for _ in range(2):
                await look_again(ledger)
            assert ledger.trouble is None


async def look_again(ledger: ValkeyLedger) -> None:
    ledger._kept._looked_at = float("-inf")  # or it looks in some seconds
    await ledger.renew_hold()


async def test_orders_go_on_while_no_sentinel_answers() -> None:
    """The master is well, and whoever could be promoted has to acknowledge each order."""
    group = sentinel(valkey_binary(), 1, 2)
    master, first, *watchers = group.servers
    with contextlib.closing(group):
        async with opened(group.url, durability="replicated", replicas=1) as ledger:
            watchers[0].kill()
            await look_again(ledger)
            assert ledger.trouble is None
            watchers[1].send(signal.SIGSTOP)
            await look_again(ledger)
            assert (await ledger.claim(submission("key-1"))).lease is not None
            assert ledger.trouble is None
            first.kill()  # as many follow as before, but it may come back and be chosen
            with running(Server(valkey_binary(), "--replicaof", f"127.0.0.1 {master.port}")) as (
                other,
            ):
                await until(lambda: follows(other))
                await look_again(ledger)
                assert "there are 2 replicas that could be promoted" in str(ledger.trouble)
            watchers[1].send(signal.SIGCONT)


async def test_a_ledger_is_not_opened_while_no_sentinel_answers() -> None:
    group = sentinel(valkey_binary(), 1, 1)
    with contextlib.closing(group):
        group.servers[-1].kill()
        with pytest.raises(LedgerUnavailable, match="no Sentinel names a master"):
            async with opened(group.url, durability="replicated", replicas=1):
                pytest.fail("nobody said who is the master")


# --- those who wait for less than a look takes -----------------------------------------------

PATIENCE_S = 0.1
"""How long a request waits for shared answers, where nothing else is set."""

GONE_S = 20.0


async def found_in_the_end(store: ValkeySharedStore) -> None:
    async with asyncio.timeout(GONE_S):
        while True:
            with contextlib.suppress(TimeoutError, StoreAway):
                async with asyncio.timeout(PATIENCE_S):
                    await store.find(b"a" * 32, ())
                    return
            await asyncio.sleep(PATIENCE_S)


def shared(*hosts: int) -> ValkeySharedStore:
    names = ",".join(f"127.0.0.1:{port}" for port in hosts)
    url = parse_remote(f"valkey+sentinel://{names}/shop")
    return ValkeySharedStore(url, access=Access(), bytes_max=1_000_000, late_s=PATIENCE_S)


async def test_shared_answers_are_found_though_the_first_sentinel_is_silent(
    watched: tuple[Server, FaultProxy, FaultProxy],
) -> None:
    _, sentinel, _ = watched
    async with FaultProxy(sentinel.port) as first:
        first.silent = True
        store = shared(first.port, sentinel.port)
        await found_in_the_end(store)
        await store.close()


async def test_shared_answers_are_found_where_they_are_now_though_the_old_master_is_silent(
    watched: tuple[Server, FaultProxy, FaultProxy],
) -> None:
    watcher, sentinel, old = watched
    store = shared(sentinel.port)
    await found_in_the_end(store)
    with running(durable()) as (other,):
        old.silent = True
        await asyncio.to_thread(watcher.run, "SENTINEL", "REMOVE", "shop")
        await asyncio.to_thread(
            watcher.run, "SENTINEL", "MONITOR", "shop", "127.0.0.1", other.port, 1
        )
        await found_in_the_end(store)
        await store.close()
