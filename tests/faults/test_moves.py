"""``ordergate ledger copy`` to a real server, with what can happen to it, to the server, and to
gateways that nobody stopped."""

import asyncio
import os
import secrets
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gateway.ledger import Counts, LedgerRefused
from gateway.orders.claiming import InFlight, Replay
from gateway.orders.entry import Entry
from gateway.orders.states import PENDING
from gateway.stores.sqlite import SqliteLedger
from middleware.clock import SystemClock
from tests.faults.processes import ROOT, GatewayProcess
from tests.scenarios import backend as acts
from tests.scenarios.backend import Backend
from tests.stores import old_ledger
from tests.stores.making import PROMISE, attached, fresh, settled, submission
from tests.stores.servers import Server

from .remote import FaultProxy, durable, opened

KEY = "key-0123456789-abcdefghij"
ORDERS = 500
"""Some pages; the rest of a shop are a few orders of each kind."""

MIDDLE_BYTES = 600_000
"""Of what a copy sends: one page is there, and not all."""


@pytest.fixture
def server() -> Iterator[Server]:
    with durable() as server:
        yield server


@pytest.fixture
async def old(tmp_path: Path, backend: Backend) -> AsyncIterator[GatewayProcess]:
    gateway = GatewayProcess(tmp_path / "old", backend.port)
    yield gateway
    await gateway.stop()


@pytest.fixture
async def new(tmp_path: Path, backend: Backend, server: Server) -> AsyncIterator[GatewayProcess]:
    gateway = GatewayProcess(tmp_path / "new", backend.port, ledger=server.url)
    yield gateway
    await gateway.stop()


class Closing(FaultProxy):
    """Passes on so many bytes of what is sent, and then nothing more; ``closed`` says when."""

    def __init__(self, port: int, *, after: int) -> None:
        super().__init__(port)
        self.closed = asyncio.Event()
        self._left = after

    async def _pass(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, replies: bool
    ) -> None:
        if replies:
            return await super()._pass(source, sink, replies=True)
        while data := await source.read(65536):
            self._left -= len(data)
            if self._left < 0:
                self.closed.set()
                continue
            sink.write(data)
            await sink.drain()
        raise ConnectionResetError


class Copying:
    """``ordergate ledger copy`` as a process."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    async def to(cls, url: str, ledger: Path) -> "Copying":
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "gateway", "ledger", "copy", f"sqlite:///{ledger}", url),
            cwd=ROOT,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        return cls(process)

    async def kill(self) -> None:
        self._process.kill()
        await self._process.communicate()

    async def ended(self) -> tuple[int | None, str]:
        async with asyncio.timeout(60):
            said, _ = await self._process.communicate()
        return self._process.returncode, said.decode()


async def copied(url: str, ledger: Path) -> tuple[int | None, str]:
    return await (await Copying.to(url, ledger)).ended()


@asynccontextmanager
async def opened_file(path: Path) -> AsyncIterator[SqliteLedger]:
    ledger = SqliteLedger(
        path, clock=SystemClock(), who="me", lease_s=5.0, new_holder=lambda: secrets.token_hex(8)
    )
    await ledger.open()
    try:
        yield ledger
    finally:
        await ledger.close()


class Shop:
    """What a shop has that is about to move, and what its customers were told."""

    entries: list[Entry]
    counts: Counts
    told: dict[str, Any]
    sent: list[str]
    """Under which keys the backend got what it was."""


@pytest.fixture
async def shop(old: GatewayProcess, backend: Backend) -> Shop:
    """Its gateway was stopped. It has orders of every kind, tombstones, and lost some before."""
    shop = Shop()
    await old.start()
    keys = [f"{KEY}-{number}" for number in range(5)]
    shop.told = {key: await old.order(key) for key in keys}
    shop.sent = [post.key for post in backend.posts]
    assert await old.terminate() == 0
    async with opened_file(old.ledger) as ledger:
        brief = replace(PROMISE, retention_s=0.0)
        await settled(ledger, submission("tombstone", promise=brief))
        await settled(ledger, submission("gone", promise=replace(brief, tombstone_s=0.0)))
        await ledger.renew_hold()
        assert await ledger.retire(10) == (2, 1)
        await old_ledger.fill(ledger)
        await fresh(ledger, attached("r1:open"))
        requests = [submission(f"key-{n}", scope=f"scope-{n % 100}") for n in range(ORDERS)]
        await asyncio.gather(*(settled(ledger, request) for request in requests))
        shown = (await ledger.page(limit=ORDERS + 20)).entries
        found = [await ledger.find(entry.id) for entry in shown]
        shop.entries = [entry for entry in found if entry is not None]
        shop.counts = await ledger.counts()
    assert shop.counts.made == len(shop.entries) + 1
    return shop


async def check_it_is_whole(url: str, shop: Shop) -> None:
    """Every order and key once; what is open is due."""
    async with opened(url) as ledger:
        assert await ledger.counts() == shop.counts
        page = await ledger.page(limit=ORDERS + 20)
        assert [entry.id for entry in page.entries] == [entry.id for entry in shop.entries]
        for entry in shop.entries:
            there = await ledger.find(entry.id)
            assert there is not None
            assert replace(there, token=0) == replace(entry, token=0)
            assert await ledger.find_by_key(entry.scope, entry.key) == there
        by_key = {entry.key: entry for entry in shop.entries}
        assert (await ledger.claim(submission("tombstone"))).claimed == Replay(by_key["tombstone"])
        assert by_key["tombstone"].answer is not None
        assert by_key["tombstone"].answer.body is None
        for fingerprint, kind in (("r1:attached", Replay), ("r1:open", InFlight)):
            claimed = (await ledger.claim(attached(fingerprint))).claimed
            assert isinstance(claimed, kind)
            assert claimed.entry.id in {entry.id for entry in shop.entries}
        pending = {entry.id for entry in shop.entries if entry.status in PENDING}
        assert {leased.entry.id for leased in await ledger.lease_due(50)} == pending
        assert len(pending) == 4


async def check_it_is_refused_everywhere(old: GatewayProcess, url: str) -> None:
    """Half way no gateway opens either ledger."""
    with pytest.raises(LedgerRefused, match="ledger copy"):
        async with opened_file(old.ledger):
            pass
    with pytest.raises(LedgerRefused, match="being copied here"):
        async with opened(url):
            pass


async def check_customers_get_their_answers(
    new: GatewayProcess, backend: Backend, shop: Shop
) -> None:
    await new.start()
    for key, told in shop.told.items():
        assert await new.order(key) == told
    keys = [post.key for post in backend.posts]
    assert [keys.count(key) for key in shop.sent] == [1] * len(shop.told)


async def arrived(server: Server) -> int:
    with server.client() as client:
        return sum(1 for _ in client.scan_iter("{ordergate:*}:o:*", count=1000))


@asynccontextmanager
async def half_way(old: GatewayProcess, server: Server) -> AsyncIterator[Copying]:
    """A copy that has come so far, and no further while this lasts."""
    async with Closing(server.port, after=MIDDLE_BYTES) as way:
        copying = await Copying.to(f"valkey://127.0.0.1:{way.port}", old.ledger)
        async with asyncio.timeout(30):
            await way.closed.wait()
        yield copying


async def test_a_copy_that_is_killed_half_way_is_ended_by_the_same_command(
    shop: Shop, old: GatewayProcess, new: GatewayProcess, server: Server, backend: Backend
) -> None:
    async with half_way(old, server) as copying:
        await copying.kill()
    assert 0 < await arrived(server) < len(shop.entries)
    await check_it_is_refused_everywhere(old, server.url)
    before = await arrived(server)
    status, said = await copied(server.url, old.ledger)
    assert status == 0, said
    assert f"moved {len(shop.entries)} orders ({len(shop.entries) - before} by this" in said
    await check_it_is_whole(server.url, shop)
    await old.start()
    assert await old.ended() == 3
    assert "moved elsewhere" in old.log.read_text()
    await check_customers_get_their_answers(new, backend, shop)


async def test_a_copy_whose_server_is_killed_half_way_says_so_and_is_ended_by_the_same_command(
    shop: Shop, old: GatewayProcess, new: GatewayProcess, server: Server, backend: Backend
) -> None:
    async with half_way(old, server) as copying:
        server.kill()
        status, said = await copying.ended()
    assert status == 1
    assert "Traceback" not in said
    assert "say the same command again" in said
    with pytest.raises(LedgerRefused, match="ledger copy"):
        async with opened_file(old.ledger):
            pass
    status, said = await copied(server.url, old.ledger)
    assert status == 1
    assert f"no connection to 127.0.0.1:{server.port}" in said
    await server.start_again()
    assert 0 < await arrived(server) < len(shop.entries)
    await check_it_is_refused_everywhere(old, server.url)
    status, said = await copied(server.url, old.ledger)
    assert status == 0, said
    await check_it_is_whole(server.url, shop)
    await check_customers_get_their_answers(new, backend, shop)


async def test_a_shop_whose_gateway_runs_is_not_copied_and_goes_on(
    old: GatewayProcess, server: Server, backend: Backend
) -> None:
    await old.start()
    told = await old.order(KEY)
    status, said = await copied(server.url, old.ledger)
    assert status == 1
    assert f"a gateway takes orders on {old.ledger} (process {old.pid}): stop it" in said
    assert server.run("DBSIZE") == 0
    assert await old.order(KEY) == told
    assert (await old.order(f"{KEY}-2"))[0] == 201
    assert len(backend.orders) == 2
    assert await old.terminate() == 0
    status, said = await copied(server.url, old.ledger)
    assert status == 0, said
    assert "moved 2 orders" in said


async def test_a_gateway_that_slept_through_the_move_orders_nothing(
    old: GatewayProcess, new: GatewayProcess, server: Server, backend: Backend
) -> None:
    """It stood still (SIGSTOP) for longer than its lease, with an order at the backend."""
    await old.start()
    backend.script.append(acts.after("go", acts.take))
    asked = asyncio.create_task(old.order(KEY))
    await backend.until(lambda: len(backend.posts) == 1)
    os.kill(old.pid, signal.SIGSTOP)
    async with asyncio.timeout(30):
        while (done := await copied(server.url, old.ledger))[0] != 0:
            assert "a gateway takes orders" in done[1]
    backend.gate("go").set()
    await backend.until(lambda: len(backend.orders) == 1)
    os.kill(old.pid, signal.SIGCONT)
    await new.start()
    status, told = await asked
    assert status in (202, 503), told
    assert (await old.order(f"{KEY}-2"))[0] == 503
    ready, said = await old.readyz()
    assert ready == 503, said
    status, told = await new.order(KEY)
    if status == 202:
        await new.until_settled(told["id"])
        status, told = await new.order(KEY)
    assert (status, told["id"]) == (201, "o-1")
    assert [post.key for post in backend.posts] == [backend.posts[0].key]
    assert len(backend.orders) == 1
