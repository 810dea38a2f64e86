"""A storefront server on a free port, and a client that speaks raw bytes."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import orjson
from aiohttp import web

from gateway.server import RawResponse, ServerLimits, StorefrontServer, raw_target, read_body
from middleware.messages import RawHeaders, first

PATIENCE_S = 5.0
"""How long a test waits for what must come; never reached unless something is broken."""


@dataclass
class Seen:
    """One request as the handler saw it."""

    method: str
    target: bytes
    headers: RawHeaders
    body: bytes


@dataclass
class Storefront:
    """The server under test, what reached its handler, and what it reported."""

    host: str
    port: int
    server: StorefrontServer
    seen: list[Seen] = field(default_factory=list)
    events: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    @asynccontextmanager
    async def connect(self) -> AsyncIterator["Client"]:
        reader, writer = await asyncio.open_connection(self.host, self.port)
        try:
            yield Client(reader, writer)
        finally:
            writer.close()

    async def says(self, request: bytes) -> "Answer":
        """The answer to one request on a connection of its own."""
        async with self.connect() as client:
            await client.send(request)
            return await client.answer()

    async def still_serves(self) -> None:
        answer = await self.says(b"GET /still HTTP/1.1\r\nHost: a\r\n\r\n")
        assert answer.status == 200


@dataclass
class Answer:
    status: int
    head: bytes
    headers: RawHeaders
    body: bytes

    def field(self, name: bytes) -> bytes | None:
        return first(self.headers, name)

    @property
    def problem(self) -> dict[str, Any]:
        assert self.field(b"content-type") == b"application/problem+json"
        assert self.field(b"gateway-source") == b"gateway"
        document: dict[str, Any] = orjson.loads(self.body)
        assert document["status"] == self.status
        assert document["instance"] == (self.field(b"request-id") or b"").decode()
        return document


class Client:
    """One raw connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def answer(self, *, of: str = "GET") -> Answer:
        """Read one answer, by its own framing; ``of`` HEAD has no body."""
        async with asyncio.timeout(PATIENCE_S):
            head = await self.reader.readuntil(b"\r\n\r\n")
            status = int(head.split(b" ", 2)[1])
            lines = [line.split(b": ", 1) for line in head.split(b"\r\n")[1:-2]]
            headers = tuple((name, value) for name, value in lines)
            if of == "HEAD" or status in (204, 304) or status < 200:
                return Answer(status, head, headers, b"")
            return Answer(status, head, headers, await self._body(headers))

    async def _body(self, headers: RawHeaders) -> bytes:
        length = first(headers, b"content-length")
        if length is not None:
            return await self.reader.readexactly(int(length))
        if first(headers, b"transfer-encoding") != b"chunked":
            return await self.reader.read()
        body = b""
        while size := int(await self.reader.readuntil(b"\r\n"), 16):
            body += await self.reader.readexactly(size)
            await self.reader.readexactly(2)
        await self.reader.readexactly(2)
        return body

    async def closed(self) -> bytes:
        """Everything up to the end of the connection; b"" where it just closes."""
        async with asyncio.timeout(PATIENCE_S):
            try:
                return await self.reader.read()
            except ConnectionError:
                return b""


Handle = Callable[[web.BaseRequest, Storefront], Awaitable[web.StreamResponse]]


async def echo(request: web.BaseRequest, front: Storefront) -> web.StreamResponse:
    """Notes the request; answers with its target and body."""
    body = await read_body(request, body_bytes_max=1_000_000, deadline_s=PATIENCE_S)
    note(request, front, body)
    return RawResponse(200, ((b"X-Echo", b"1"),), raw_target(request) + b"|" + body)


def note(request: web.BaseRequest, front: Storefront, body: bytes = b"") -> None:
    front.seen.append(Seen(request.method, raw_target(request), request.raw_headers, body))


@asynccontextmanager
async def serving(
    handle: Handle = echo, *, proxies: tuple[str, ...] = (), **limits: Any
) -> AsyncIterator[Storefront]:
    """Serve on a free port; drained at the end. ``proxies`` speak the PROXY protocol."""

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        return await handle(request, front)

    def report(name: str, **fields: Any) -> None:
        front.events.append((name, fields))

    limits = {"drain_idle_s": 0.0, "linger_s": 0.2, **limits}
    server = StorefrontServer(
        handler,
        limits=ServerLimits(**limits),
        event=report,
        trusts=lambda address: address in proxies,
        proxy_protocol=bool(proxies),
    )
    host, port = await server.start("127.0.0.1", 0)
    front = Storefront(host, port, server)
    try:
        yield front
    finally:
        await server.drain(0.5)
        assert server.connections == 0
        assert server.requests == 0


def get(target: bytes = b"/", *fields: bytes) -> bytes:
    return b"\r\n".join((b"GET %b HTTP/1.1" % target, b"Host: a", *fields, b"", b""))


def post(body: bytes, *fields: bytes, target: bytes = b"/orders") -> bytes:
    length = b"Content-Length: %d" % len(body)
    lines = (b"POST %b HTTP/1.1" % target, b"Host: a", length, *fields, b"", b"")
    return b"\r\n".join(lines) + body
