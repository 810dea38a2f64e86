"""The gateway, or the server with its ledger, killed at a chosen system call of an order's path
(FAULTS.md K2 to K7, K9, K10; I1 to I5, I7).

Before each write to the ledger's log, each sync, and each byte to ledger, upstream, client or log,
the process is gone with SIGKILL; the client repeats its key at the next one.

    ./run test tests/faults/test_every_call.py --every-call -s      # all of them: minutes
"""

import asyncio
import itertools
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.faults.judging import RememberingGateway, WatchedBackend, findings
from tests.faults.remote import durable
from tests.faults.tracing import injected, need_strace
from tests.faults.witnesses import FileWitness, RemoteWitness, Witness
from tests.stores.servers import Server

KEY = "key-0123456789-abcdefghij"
LOG, SYNC = "pwrite64", "fdatasync"
WRITE, SEND = "write", "writev"
"""Of one buffer (to ledger, client or log, or to wake the loop), and of several (to the upstream).
strace counts each by itself, and each thread's: in a set the first that gets so far hides the
others, as would the thread that commits hide the loop's, which is a victim of its own."""

EVERY = [
    *(("sqlite", "gateway", calls) for calls in (LOG, SYNC, WRITE)),
    *(("sqlite", "loop", calls) for calls in (WRITE, SEND)),
    *(("valkey", "gateway", calls) for calls in (WRITE, SEND)),
    *(("valkey", "server", calls) for calls in (SYNC, WRITE, SEND)),
]
SOME = [
    *(("sqlite", "gateway", *call) for call in ((LOG, 1), (LOG, 6), (SYNC, 1), (SYNC, 2))),
    *(("sqlite", *call) for call in (("gateway", WRITE, 2), ("loop", SEND, 1), ("loop", WRITE, 4))),
    *(("valkey", "gateway", *call) for call in ((WRITE, 1), (SEND, 1), (WRITE, 3))),
    *(("valkey", "server", *call) for call in ((SYNC, 1), (SYNC, 2), (WRITE, 2))),
]
"""Two writes and the sync of each commit, and sends before, between and after them: to the ledger,
to the upstream, and to the client."""

CALLS_MAX = 200
"""An order makes some fifty; what goes on for longer is no longer its path."""


@dataclass
class Shop:
    """A gateway, its backend, and the server that its ledger is on, if it is on one."""

    backend: WatchedBackend
    gateway: RememberingGateway
    server: Server | None

    async def start(self) -> None:
        if self.server is not None:
            await self.server.start_again()
        await self.gateway.start()
        self.backend.open_witness = self.witness
        await self.gateway.order("warm-" + KEY)

    def witness(self) -> Witness:
        if self.server is None:
            return FileWitness(self.gateway.ledger)
        return RemoteWitness([self.server.port])

    async def flaws(self) -> list[str]:
        witness = self.witness()
        try:
            return await witness.flaws()
        finally:
            await witness.close()

    async def stop(self) -> None:
        await self.gateway.stop()
        if self.server is not None:
            self.server.close()
        await self.backend.stop()


Open = Callable[[str], Awaitable[Shop]]
Kill = Callable[[Shop, str, int, str], Awaitable[bool]]


@pytest.fixture
async def shop_on(tmp_path: Path) -> AsyncIterator[Open]:
    need_strace()
    shops = []

    async def open_on(store: str) -> Shop:
        backend = WatchedBackend()
        await backend.start()
        server = durable() if store == "valkey" else None
        more = {} if server is None else {"ledger": server.url}
        shops.append(Shop(backend, RememberingGateway(tmp_path, backend.port, **more), server))
        await shops[-1].start()
        return shops[-1]

    yield open_on
    for shop in shops:
        await shop.stop()


@pytest.mark.parametrize(("store", "victim", "calls", "when"), SOME)
async def test_a_kill_at_a_call_of_an_orders_path_makes_one_order(
    shop_on: Open, store: str, victim: str, calls: str, when: int
) -> None:
    assert await KILLED[victim](await shop_on(store), calls, when, KEY), "no such call was made"


@pytest.mark.timeout(0)
@pytest.mark.parametrize(("store", "victim", "calls"), EVERY)
async def test_a_kill_at_every_call_of_an_orders_path_makes_one_order(
    shop_on: Open, store: str, victim: str, calls: str, request: pytest.FixtureRequest
) -> None:
    if not request.config.getoption("--every-call"):
        pytest.skip("minutes: with --every-call")
    shop = await shop_on(store)
    kills = 0
    for when in itertools.count(1):
        assert when < CALLS_MAX
        if not await KILLED[victim](shop, calls, when, f"{KEY}-{when}"):
            break
        kills += 1
    print(f"{store}, {victim}, {calls}: killed at each of {kills} calls", flush=True)
    assert kills >= 1


async def gateway_killed_at(
    shop: Shop, calls: str, when: int, key: str, *, threads: bool = True
) -> bool:
    """Whether the order was not answered before so many calls; in any case it is one order."""
    gateway, before = shop.gateway, len(shop.backend.orders)
    async with injected(gateway.pid, f"{calls}:signal=KILL:when={when}", threads=threads):
        asked = asyncio.create_task(gateway.order(key))
        dead = asyncio.create_task(gateway.ended())
        await asyncio.wait({asked, dead}, return_when=asyncio.FIRST_COMPLETED)
        if not asked.done():
            await asyncio.wait({asked})
        killed = isinstance(asked.exception(), (aiohttp.ClientError, ConnectionError))
        told = None if killed else asked.result()
        if killed:
            assert await dead == -signal.SIGKILL
        dead.cancel()
        await asyncio.gather(dead, return_exceptions=True)
    if not killed and gateway.is_running:  # one more call, for something else, would end it
        await gateway.kill()
    await gateway.start()
    await check(shop, key, told, before)
    return killed


async def server_killed_at(shop: Shop, calls: str, when: int, key: str) -> bool:
    """As above, of the server with the ledger; the gateway goes on."""
    server, before = shop.server, len(shop.backend.orders)
    assert server is not None
    assert server.process is not None
    async with injected(server.process.pid, f"{calls}:signal=KILL:when={when}"):
        told = await shop.gateway.order(key)
        killed = server.process.poll() is not None
    server.kill()  # one more call, for something else, would end it
    await server.start_again()
    await check(shop, key, told if told[0] == 201 else None, before)
    _, ready = await shop.gateway.readyz()
    assert "warnings" not in ready
    return killed


KILLED: dict[str, Kill] = {
    "gateway": gateway_killed_at,
    "loop": partial(gateway_killed_at, threads=False),
    "server": server_killed_at,
}


async def check(shop: Shop, key: str, told: tuple[int, Any] | None, before: int) -> None:
    said = await shop.gateway.until_known(key)
    assert said[0] == 201
    assert told in (None, said)
    assert len(shop.backend.orders) == before + 1
    assert await shop.flaws() == []
    assert await findings(shop.gateway, shop.backend, shop.witness) == []
