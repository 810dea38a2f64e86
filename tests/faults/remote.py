"""Real Valkey and Redis servers, and what can happen to them."""

import asyncio
import contextlib
import itertools
import os
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Self
from uuid import uuid4

import pytest

from gateway.ledger import Ledger, LedgerUnavailable
from gateway.settings.ledger_urls import parse_remote
from gateway.stores.valkey import ValkeyLedger
from gateway.stores.valkey_nodes import Access
from middleware.clock import SystemClock
from tests.stores.making import submission
from tests.stores.servers import Server, valkey_binary

DURABLE = ("--appendonly", "yes", "--appendfsync", "always")
LEASE_S = 3.0


def durable(*options: str, port: int | None = None, folder: Path | None = None) -> Server:
    return Server(valkey_binary(), *DURABLE, *options, port=port, folder=folder)


class Events:
    """What an operator is told."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def __call__(self, text: str, **_more: Any) -> None:
        self.said.append(text)


def make(url: str, *, who: str = "replica-1", **more: Any) -> ValkeyLedger:
    ids = itertools.count(1)
    me = uuid4().hex[:8]
    return ValkeyLedger(
        parse_remote(url),
        access=more.pop("access", Access()),
        clock=SystemClock(),
        who=who,
        lease_s=more.pop("lease_s", LEASE_S),
        new_holder=lambda: f"{me}-{next(ids)}",
        **more,
    )


@contextlib.asynccontextmanager
async def opened(url: str, **more: Any) -> AsyncIterator[ValkeyLedger]:
    ledger = make(url, **more)
    await ledger.open()
    try:
        yield ledger
    finally:
        await ledger.close()


async def refused(ledger: Ledger, key: str = "refused") -> LedgerUnavailable:
    with pytest.raises(LedgerUnavailable) as caught:
        await ledger.claim(submission(key))
    return caught.value


async def until_well(ledger: Ledger) -> None:
    async with asyncio.timeout(20):
        while ledger.trouble is not None or not ledger.hold.valid(0):
            try:
                await ledger.renew_hold()
            except LedgerUnavailable:
                await asyncio.sleep(0.05)


async def until(true: Callable[[], Any], within_s: float = 20.0) -> None:
    """Wait for what comes of itself."""
    async with asyncio.timeout(within_s):
        while not true():  # noqa: ASYNC110 - another process has no event to wait for
            await asyncio.sleep(0.02)


def need_waitaof(server: Server) -> None:
    """Skip where the server syncs before it answers, or can't tell."""
    if server.run("COMMAND", "INFO", "WAITAOF") in ([], [None]):
        pytest.skip("WAITAOF came with 7.2")


@contextlib.asynccontextmanager
async def unsynced(server: Server) -> AsyncIterator[None]:
    """It answers as ever, and syncs nothing: it is at a snapshot that takes long, during which it
    was told not to."""
    assert server.process is not None
    server.run("SET", "ballast", "for a snapshot that takes long")
    server.run("CONFIG", "SET", "rdb-key-save-delay", 60_000_000)
    server.run("CONFIG", "SET", "no-appendfsync-on-rewrite", "yes")
    server.run("BGSAVE")
    savers = _children(server.process.pid)
    try:
        yield
    finally:
        for saver in savers:
            os.kill(saver, signal.SIGKILL)
        await until(lambda: not server.run("INFO", "persistence")["rdb_bgsave_in_progress"])


def _children(pid: int) -> list[int]:
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


class FaultProxy:
    """Between a client and a server: passes bytes on, later by ``delay_s`` each way, or loses the
    server's replies."""

    def __init__(self, port: int, *, delay_s: float = 0.0) -> None:
        self._target = port
        self._delay_s = delay_s
        self.port = 0
        self.lose = 0
        """How many connections are cut instead of getting the next reply."""
        self.silent = False
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for writer in tuple(self._open):
            writer.transport.abort()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            from_server, to_server = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.transport.abort()
            return
        self._open |= {writer, to_server}
        with contextlib.suppress(OSError, asyncio.CancelledError):
            await asyncio.gather(
                self._pass(reader, to_server, replies=False),
                self._pass(from_server, writer, replies=True),
            )
        for each in (writer, to_server):
            self._open.discard(each)
            each.transport.abort()

    async def _pass(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, replies: bool
    ) -> None:
        while data := await source.read(65536):
            if replies and self.lose > 0:
                self.lose -= 1
                raise ConnectionResetError
            if replies and self.silent:
                continue
            if self._delay_s:
                asyncio.get_running_loop().call_later(self._delay_s, sink.write, data)
                continue
            sink.write(data)
            await sink.drain()
        raise ConnectionResetError


class Backup:
    """All that a server has, to be put back while it runs."""

    def __init__(self, server: Server) -> None:
        self._server = server
        with server.client() as client:
            self._kept = {key: client.dump(key) for key in client.scan_iter()}

    def put_back(self) -> None:
        with self._server.client() as client:
            for key in set(client.scan_iter()) - set(self._kept):
                client.delete(key)
            for key, kept in self._kept.items():
                client.restore(key, 0, kept, replace=True)
