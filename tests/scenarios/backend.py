"""An order backend on a real socket that does with each request what the story says."""

import asyncio
import contextlib
import json
import socket
import struct
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit


@dataclass(frozen=True)
class Taken:
    """One request that arrived."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes
    connection: int

    @property
    def key(self) -> str:
        return self.headers.get("idempotency-key", "")


Act = Callable[["Backend", Taken, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Backend:
    """``script`` holds what to do with the next POSTs; after it, each is taken.

    ``orders`` are the books: one item for each order made.
    """

    dedup: bool = False
    lookups: bool = True
    script: deque[Act] = field(default_factory=deque)
    lookup_script: deque[Act] = field(default_factory=deque)
    requests: list[Taken] = field(default_factory=list)
    orders: list[dict[str, str]] = field(default_factory=list)
    gates: dict[str, asyncio.Event] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._connections = 0
        self._changed = asyncio.Condition()
        self.port = 0

    @property
    def posts(self) -> list[Taken]:
        return [request for request in self.requests if request.method == "POST"]

    @property
    def asked(self) -> list[Taken]:
        return [request for request in self.requests if request.method == "GET"]

    def gate(self, name: str) -> asyncio.Event:
        return self.gates.setdefault(name, asyncio.Event())

    async def until(self, true: Callable[[], bool]) -> None:
        """Wait until the backend's own record makes ``true()`` true."""
        async with asyncio.timeout(10), self._changed:
            await self._changed.wait_for(true)

    async def start(self, port: int = 0) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        if self._server is None:
            return
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()
        self._server = None

    def commit(self, taken: Taken) -> dict[str, str]:
        """Make the order, or find the one that its key has made (``dedup``)."""
        if self.dedup:
            for order in self.orders:
                if order["key"] == taken.key:
                    return order
        order = {"id": f"o-{len(self.orders) + 1}", "key": taken.key}
        self.orders.append(order)
        return order

    async def changed(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections += 1
        work = self._serve(reader, writer, self._connections)
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int
    ) -> None:
        try:
            while (taken := await _read(reader, number)) is not None:
                self.requests.append(taken)
                await self.changed()
                await self._act_for(taken)(self, taken, writer)
                await self.changed()
                if writer.is_closing():
                    return
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    def _act_for(self, taken: Taken) -> Act:
        if taken.method == "POST":
            return self.script.popleft() if self.script else take
        return self.lookup_script.popleft() if self.lookup_script else look_up


async def _read(reader: asyncio.StreamReader, number: int) -> Taken | None:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    lines = head.decode("latin-1").split("\r\n")
    method, target, _ = lines[0].split(" ")
    headers = {}
    for line in lines[1:]:
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Taken(method, target, headers, body, number)


def encoded(status: int, document: object, *extra: str) -> bytes:
    body = json.dumps(document).encode()
    lines = [
        f"HTTP/1.1 {status} X",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        *extra,
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


async def take(backend: Backend, taken: Taken, writer: asyncio.StreamWriter) -> None:
    """Make the order and say so."""
    writer.write(encoded(201, backend.commit(taken), "Set-Cookie: session=secret"))
    await writer.drain()


def answer(status: int, document: object = None, *extra: str) -> Act:
    """Answer so and make nothing."""

    async def act(_: Backend, __: Taken, writer: asyncio.StreamWriter) -> None:
        writer.write(encoded(status, document or {"status": status}, *extra))
        await writer.drain()

    return act


async def lose_reply(backend: Backend, taken: Taken, writer: asyncio.StreamWriter) -> None:
    """Make the order and close without a word: the case that Ordergate exists for."""
    backend.commit(taken)
    writer.close()


async def drop(_: Backend, __: Taken, writer: asyncio.StreamWriter) -> None:
    """Reset before anything was made."""
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def after(gate: str, then: Act) -> Act:
    """Do ``then`` once the story opens the gate."""

    async def act(backend: Backend, taken: Taken, writer: asyncio.StreamWriter) -> None:
        await backend.gate(gate).wait()
        await then(backend, taken, writer)

    return act


async def commit_then_500(backend: Backend, taken: Taken, writer: asyncio.StreamWriter) -> None:
    backend.commit(taken)
    writer.write(encoded(500, {"error": "after the commit"}))
    await writer.drain()


def raw(data: bytes, *, commit: bool = False) -> Act:
    """Send these bytes and close."""

    async def act(backend: Backend, taken: Taken, writer: asyncio.StreamWriter) -> None:
        if commit:
            backend.commit(taken)
        writer.write(data)
        await writer.drain()
        writer.close()

    return act


async def look_up(backend: Backend, taken: Taken, writer: asyncio.StreamWriter) -> None:
    """GET /orders?idempotency_key=K: the orders of that key."""
    if not backend.lookups:
        writer.write(encoded(404, {"error": "no such page"}))
    else:
        keys = parse_qs(urlsplit(taken.target).query).get("idempotency_key", [""])
        writer.write(encoded(200, [each for each in backend.orders if each["key"] == keys[0]]))
    await writer.drain()
