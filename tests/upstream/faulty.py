"""A raw upstream that does wrong on demand, and holds every byte it gets against h11."""

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

import h11

from gateway.upstream import Origin

_READ_BYTES = 65_536


@dataclass(frozen=True)
class Seen:
    """One request, as an independent strict parser understood it."""

    method: bytes
    target: bytes
    headers: list[tuple[bytes, bytes]]
    body: bytes


@dataclass
class Wire:
    """One accepted connection: what it received, and ways to answer badly."""

    number: int
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    received: bytearray = field(default_factory=bytearray)
    requests: list[Seen] = field(default_factory=list)
    _parsed: int = 0

    async def request(self) -> Seen | None:
        """The next whole request, or None at the end of input."""
        while True:
            seen, used = parse_request(bytes(self.received[self._parsed :]))
            if seen is not None:
                self._parsed += used
                self.requests.append(seen)
                return seen
            data = await self.reader.read(_READ_BYTES)
            if not data:
                return None
            self.received += data

    async def head(self) -> bytes:
        """The raw head of the next request, and no byte of its body."""
        return await self.reader.readuntil(b"\r\n\r\n")

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def drip(self, data: bytes, delay_s: float = 0) -> None:
        for index in range(len(data)):
            await self.send(data[index : index + 1])
            await asyncio.sleep(delay_s)

    def reset(self) -> None:
        """End the connection with RST."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def until_closed(self) -> bytes:
        """Wait until the other side has closed; return what came until then."""
        rest = bytearray()
        with contextlib.suppress(ConnectionError):
            while data := await self.reader.read(_READ_BYTES):
                rest += data
        return bytes(rest)


Behaviour: TypeAlias = Callable[[Wire], Awaitable[None]]


class FaultyUpstream:
    """Listens on a free loopback port; runs ``behaviour`` for each connection, then sends FIN."""

    def __init__(self, behaviour: Behaviour, tls: ssl.SSLContext | None = None) -> None:
        self._behaviour = behaviour
        self._tls = tls
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self.wires: list[Wire] = []
        self.origin = Origin("127.0.0.1", 1)

    @property
    def requests(self) -> list[Seen]:
        return [request for wire in self.wires for request in wire.requests]

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._accepted, "127.0.0.1", 0, ssl=self._tls)
        port = self._server.sockets[0].getsockname()[1]
        self.origin = Origin("127.0.0.1", port, "http" if self._tls is None else "https")

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        results = await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()
        expected = (asyncio.CancelledError, ConnectionError, asyncio.IncompleteReadError)
        for result in results:
            if isinstance(result, BaseException) and not isinstance(result, expected):
                raise result

    def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._tasks.add(asyncio.get_running_loop().create_task(self._serve(reader, writer)))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        wire = Wire(len(self.wires), reader, writer)
        self.wires.append(wire)
        try:
            await self._behaviour(wire)
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()


def parse_request(raw: bytes) -> tuple[Seen | None, int]:
    """The first request in ``raw`` and its length, or None if it is not whole.

    Raises h11.RemoteProtocolError for whatever h11 finds ill formed.
    """
    parser = h11.Connection(h11.SERVER)
    parser.receive_data(raw)
    body = bytearray()
    head: h11.Request | None = None
    while True:
        event = parser.next_event()
        match event:
            case h11.Request():
                head = event
            case h11.Data():
                body += event.data
            case h11.EndOfMessage():
                assert head is not None
                used = len(raw) - len(parser.trailing_data[0])
                return Seen(head.method, head.target, list(head.headers), bytes(body)), used
            case _:
                return None, 0


def answering(*answers: bytes, then: Behaviour | None = None) -> Behaviour:
    """Answer the requests of each connection with these bytes in turn, then close or ``then``."""

    async def behave(wire: Wire) -> None:
        for answer in answers:
            if await wire.request() is None:
                return
            await wire.send(answer)
        if then is not None:
            await then(wire)

    return behave


def always(answer: bytes) -> Behaviour:
    """Answer every request of every connection with these bytes."""

    async def behave(wire: Wire) -> None:
        while await wire.request() is not None:
            await wire.send(answer)

    return behave


async def hang(wire: Wire) -> None:
    """Read on and say nothing, until the other side goes."""
    await wire.until_closed()


@contextlib.contextmanager
def full_listener() -> Iterator[Origin]:
    """An address whose listener's queue is full: Linux drops further SYNs, connects hang."""
    with contextlib.ExitStack() as open_sockets:
        listener = open_sockets.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = listener.getsockname()
        for _ in range(4):
            filler = open_sockets.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(address)
        yield Origin("127.0.0.1", address[1])
