"""The gateway killed at a chosen system call of an order's path (FAULTS.md K2 to K11).

Before each write to the ledger's log, each sync, and each byte to upstream, client or log, the
process is gone with SIGKILL; the client repeats its key at the next one.

    ./run test tests/faults/test_every_call.py --every-call -s      # all of them: minutes
"""

import asyncio
import itertools
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import apsw
import pytest

from tests.faults.processes import GatewayProcess
from tests.faults.tracing import injected, need_strace
from tests.scenarios.backend import Backend

KEY = "key-0123456789-abcdefghij"
LOG, SYNC, SEND = "pwrite64", "fdatasync", "write,writev,sendto,sendmsg"
SOME = [(LOG, 1), (LOG, 6), (SYNC, 1), (SYNC, 2), (SEND, 2), (SEND, 4), (SEND, 7)]
"""Two writes and the sync of each commit, and sends before, between and after them."""

CALLS_MAX = 200
"""An order makes some fifty; what goes on for longer is no longer its path."""


@pytest.fixture
async def backend() -> AsyncIterator[Backend]:
    backend = Backend()
    await backend.start()
    yield backend
    await backend.stop()


@pytest.fixture
async def gateway(tmp_path: Path, backend: Backend) -> AsyncIterator[GatewayProcess]:
    need_strace()
    process = GatewayProcess(tmp_path, backend.port)
    await process.start()
    yield process
    await process.stop()


@pytest.mark.parametrize(("calls", "when"), SOME)
async def test_a_kill_at_a_call_of_an_orders_path_makes_one_order(
    gateway: GatewayProcess, backend: Backend, calls: str, when: int
) -> None:
    await gateway.order("warm-" + KEY)
    await killed_at(gateway, backend, calls, when, KEY)


@pytest.mark.timeout(0)
@pytest.mark.parametrize("calls", [LOG, SYNC, SEND])
async def test_a_kill_at_every_call_of_an_orders_path_makes_one_order(
    gateway: GatewayProcess, backend: Backend, calls: str, request: pytest.FixtureRequest
) -> None:
    if not request.config.getoption("--every-call"):
        pytest.skip("minutes: with --every-call")
    await gateway.order("warm-" + KEY)
    kills = 0
    for when in itertools.count(1):
        assert when < CALLS_MAX
        if not await killed_at(gateway, backend, calls, when, f"{KEY}-{when}"):
            break
        kills += 1
    print(f"{calls}: killed at each of {kills} calls", flush=True)
    assert kills >= 2


async def killed_at(
    gateway: GatewayProcess, backend: Backend, calls: str, when: int, key: str
) -> bool:
    """Whether the order was not answered before so many calls; in any case it is one order."""
    before = len(backend.orders)
    async with injected(gateway.pid, f"{calls}:signal=KILL:when={when}"):
        asked = asyncio.create_task(gateway.order(key))
        dead = asyncio.create_task(gateway.ended())
        await asyncio.wait({asked, dead}, return_when=asyncio.FIRST_COMPLETED)
        if not asked.done():
            await asyncio.wait({asked})
        killed = isinstance(asked.exception(), (aiohttp.ClientError, ConnectionError))
        told = None if killed else asked.result()
        if killed:
            await dead
        dead.cancel()
        await asyncio.gather(dead, return_exceptions=True)
    if not killed and gateway.is_running:  # one more call, for something else, would end it
        await gateway.kill()
    await gateway.start()
    assert (await answer(gateway, key)) == (told or await answer(gateway, key))
    assert len(backend.orders) == before + 1
    assert is_whole(gateway.ledger)
    return killed


async def answer(gateway: GatewayProcess, key: str) -> tuple[int, Any]:
    """What a client hears that repeats its key until it knows."""
    async with asyncio.timeout(20):
        while True:
            status, told = await gateway.order(key)
            if status == 201:
                return status, told
            assert status in (202, 503)
            if status == 202:
                await gateway.until_settled(told["id"])


def is_whole(ledger: Path) -> bool:
    db = apsw.Connection(str(ledger), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        return db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    finally:
        db.close()
