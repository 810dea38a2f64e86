"""A whole gateway on real sockets, a backend that judges every byte, and raw clients."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from gateway.app import Gateway
from gateway.settings import load
from tests.edge.judge import Answer, Request, ServerJudge, answers_in

PATIENCE_S = 5.0
"""How long a test waits for what must come; reached only where something is broken."""

TEMPLATE = """
[listen]
address = "127.0.0.1:0"
admin = "127.0.0.1:0"
drain_s = 1
{listen}

[ledger]
url = "sqlite:///ledger.db"

[limits]
{limits}

[log]
level = "error"

[[upstreams]]
name = "backend"
urls = ["{url}"]
connect_timeout_s = {connect_s}
breaker_calls_min = 1000000  # a corpus of failures must reach the hop, not the breaker
{upstream}

[[routes]]
name = "place-order"
match = "POST /orders"
kind = "order"
upstream = "backend"
capability = {capability}
{scope}
{order}

[[routes]]
name = "rest"
match = "* /**"
kind = "plain"
upstream = "backend"
{plain}
"""


ORDER = """
answer_within_s = 5
attempt_timeout_s = 2
settle_s = 3
"""


SCOPE = """
scope = ["header:Authorization"]
scope_is_static = true
"""


DEFAULTS = {
    "listen": "",
    "limits": "",
    "upstream": "",
    "connect_s": "2",
    "order": ORDER,
    "scope": SCOPE,
    "capability": '"none"',
    "plain": "",
}
"""What may be said otherwise in the configuration: lines of TOML, or a value."""


@dataclass
class Line:
    """One connection that the gateway opened."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    judge: ServerJudge = field(default_factory=ServerJudge)
    _waiting: list[Request] = field(default_factory=list)

    async def request(self) -> Request | None:
        """The next whole request, or None at the end of the input."""
        while not self._waiting:
            data = await self.reader.read(65_536)
            self._waiting += self.judge.take(data)
            if not data:
                return None
        return self._waiting.pop(0)

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def until_closed(self) -> None:
        with contextlib.suppress(ConnectionError):
            while await self.reader.read(65_536):
                pass


Serve: TypeAlias = Callable[[Line], Awaitable[None]]

KEY = b"Idempotency-Key: "
OK = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok"
CREATED = (
    b'HTTP/1.1 201 Created\r\nContent-Type: application/json\r\nContent-Length: 8\r\n\r\n{"id":1}'
)


async def well_behaved(line: Line) -> None:
    while (request := await line.request()) is not None:
        if request.method == b"HEAD":
            await line.send(OK[:-2])
        else:
            await line.send(CREATED if request.target == b"/orders" else OK)


class Backend:
    """Listens on a free port; ``serve`` is run for each connection and may be changed."""

    def __init__(self, serve: Serve = well_behaved, **listen: Any) -> None:
        self.serve = serve
        self.lines: list[Line] = []
        self._listen = listen
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0

    @property
    def requests(self) -> list[Request]:
        return [request for line in self.lines for request in line.judge.requests]

    @property
    def received(self) -> int:
        return sum(line.judge.received for line in self.lines)

    @property
    def ill_formed(self) -> list[str]:
        return [flaw for line in self.lines for flaw in line.judge.ill_formed]

    async def start(self, port: int = 0) -> None:
        self._server = await asyncio.start_server(self._accepted, "127.0.0.1", port, **self._listen)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._run(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = Line(reader, writer)
        self.lines.append(line)
        try:
            with contextlib.suppress(ConnectionError):
                await self.serve(line)
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()


@dataclass
class Client:
    """One raw connection to the gateway."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, data: bytes) -> None:
        """Whether or not the gateway still listens: it may have answered and closed."""
        with contextlib.suppress(ConnectionError):
            self.writer.write(data)
            await self.writer.drain()

    async def rest(self, *, patience_s: float = PATIENCE_S) -> tuple[bytes, bool]:
        """All that comes, and whether the connection ended cleanly (not by a reset)."""
        received = bytearray()
        async with asyncio.timeout(patience_s):
            try:
                while data := await self.reader.read(65_536):
                    received += data
            except ConnectionError:
                return bytes(received), False
        return bytes(received), True

    async def head(self) -> bytes:
        async with asyncio.timeout(PATIENCE_S):
            return await self.reader.readuntil(b"\r\n\r\n")

    async def answers(self, *methods: bytes) -> list[Answer]:
        """Every answer until the connection ends, well formed or the test fails."""
        raw, clean = await self.rest()
        return answers_in(raw, methods or (b"GET",), ended=clean)


@dataclass
class Stage:
    """The gateway under test and its backend."""

    gateway: Gateway
    backend: Backend
    begins: bytes = b""
    """What stands in front of each client's bytes (the PROXY protocol)."""

    @property
    def address(self) -> tuple[str, int]:
        return self.gateway.storefront_address

    @contextlib.asynccontextmanager
    async def connect(self, **options: Any) -> AsyncIterator[Client]:
        reader, writer = await asyncio.open_connection(*self.address, **options)
        try:
            yield Client(reader, writer)
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def says(self, request: bytes, *methods: bytes) -> list[Answer]:
        """The answers to ``request``, on a connection that the client then half-closes."""
        async with self.connect() as client:
            await client.send(self.begins + request)
            if client.writer.can_write_eof():
                with contextlib.suppress(OSError):
                    client.writer.write_eof()
            return await client.answers(*methods)

    async def still_serves(self) -> None:
        """An ordinary read and an ordinary order."""
        (read,) = await self.says(get(b"/still"))
        assert (read.status, read.body) == (200, b"ok"), read
        (order,) = await self.says(post(b'{"sku":1}'), b"POST")
        assert (order.status, order.body) == (201, b'{"id":1}'), order


@contextlib.asynccontextmanager
async def staged(
    folder: Path,
    serve: Serve = well_behaved,
    *,
    url: str | None = None,
    backend_listen: dict[str, Any] | None = None,
    **sections: str,
) -> AsyncIterator[Stage]:
    """Start a backend and a gateway in front of it; ``sections`` are lines of TOML."""
    backend = Backend(serve, **(backend_listen or {}))
    await backend.start()
    sections = {**DEFAULTS, **sections}
    text = TEMPLATE.format(
        url=url.format(port=backend.port) if url else f"http://127.0.0.1:{backend.port}",
        **sections,
    )
    assert sections.keys() == DEFAULTS.keys()
    file = folder / "gateway.toml"
    file.write_text(text)
    gateway = Gateway(load(file, {}))
    await gateway.start()
    try:
        yield Stage(gateway, backend)
    finally:
        await gateway.stop(0.2)
        await backend.stop()


async def eventually(holds: Callable[[], object]) -> None:
    """Wait for what the gateway is about to do."""
    async with asyncio.timeout(4 * PATIENCE_S):
        while True:
            if holds():
                return
            await asyncio.sleep(0.001)


def get(target: bytes = b"/", *fields: bytes) -> bytes:
    return b"\r\n".join((b"GET %b HTTP/1.1" % target, b"Host: shop", *fields, b"", b""))


def post(body: bytes, *fields: bytes, target: bytes = b"/orders") -> bytes:
    length = b"Content-Length: %d" % len(body)
    return (
        b"\r\n".join((b"POST %b HTTP/1.1" % target, b"Host: shop", length, *fields, b"", b""))
        + body
    )
