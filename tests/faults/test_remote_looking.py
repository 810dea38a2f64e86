"""Whoever is asked where the master is now is far away, or silent."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from itertools import pairwise

import pytest

from tests.stores.making import submission
from tests.stores.servers import Server, cluster, running, sentinel_of, valkey_binary

from .remote import DURABLE, FaultProxy, durable, opened, until

FAR_S = 0.02
"""One way: questions of all, one after the other, take longer than the ledger waits."""

MANY = 200


@pytest.fixture
async def stands_between() -> AsyncIterator[tuple[FaultProxy, FaultProxy]]:
    """Between the gateway and the Sentinel, and between it and the master."""
    with running(durable()) as (master,):
        async with FaultProxy(master.port) as near:
            watcher = sentinel_of(valkey_binary(), near.port, 1, down_after_ms=60_000)
            with running(watcher):
                async with FaultProxy(watcher.port, delay_s=FAR_S) as far:
                    yield far, near


@pytest.mark.parametrize("silent", [False, True], ids=["far away", "silent"])
async def test_many_whose_connection_ends_ask_the_sentinel_together(
    stands_between: tuple[FaultProxy, FaultProxy], silent: bool
) -> None:
    sentinel, master = stands_between
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
                ledger._kept._looked_at = float("-inf")  # or it looks in some seconds
                await ledger.renew_hold()
                for way in former:
                    way.silent = True
            for _ in range(2):
                ledger._kept._looked_at = float("-inf")
                await ledger.renew_hold()
            assert ledger.trouble is None
