"""Many calls that fail together, and whoever is asked where the master is now is far away."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.stores.making import submission
from tests.stores.servers import running, sentinel_of, valkey_binary

from .remote import FaultProxy, durable, opened

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
