"""Exchanges through the cache as data: what a client asks, what the origin would say, what is to
come of it. A step that is served from the cache never reaches the origin."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from email.utils import formatdate, parsedate_to_datetime
from pathlib import Path

from gateway.app import Gateway
from gateway.settings import Settings, load
from gateway.stores.memory import MemoryLedger, MemoryState
from middleware.clock import SystemClock

Fields = Mapping[str, str] | list[tuple[str, str]]


class TurnedClock(SystemClock):
    """The machine's clock, turned forward by hand."""

    def __init__(self) -> None:
        self.ahead_s = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.ahead_s

    def wall(self) -> float:
        return super().wall() + self.ahead_s


@dataclass(frozen=True)
class Says:
    """What the origin answers. ``T+n`` in a value is a date, n seconds from now."""

    fields: Fields = field(default_factory=dict)
    status: int = 200
    body: bytes = b"body"
    raw: bytes | None = None
    """Instead of all that: these bytes, then the end of the connection."""
    late: tuple[asyncio.Event, bytes] | None = None
    """And these before that end, once this has happened."""


@dataclass(frozen=True)
class Step:
    """``hit``: the origin must not see it (True), must (False). ``sent``: fields that it must see
    (None: must not). ``told``: fields of the answer (None: absent). ``wait_s`` comes before."""

    says: Says = Says()
    hit: bool = False
    method: str = "GET"
    asks: Fields = field(default_factory=dict)
    status: int | None = None
    body: bytes | None = None
    sent: Mapping[str, str | None] = field(default_factory=dict)
    told: Mapping[str, str | None] = field(default_factory=dict)
    wait_s: float = 0.0
    query: str = ""
    path: str | None = None
    data: bytes | None = None
    host: str = "shop.example"
    broken: bool = False
    """The answer is to break off."""


def parse_http(value: str) -> float:
    return parsedate_to_datetime(value).timestamp()


def pairs(fields: Fields) -> list[tuple[str, str]]:
    return list(fields.items()) if isinstance(fields, Mapping) else list(fields)


class Origin:
    """Answers what the story says, and remembers what it was asked."""

    def __init__(self, clock: TurnedClock) -> None:
        self._clock = clock
        self.next = Says()
        self.answering: Callable[[str, str], Awaitable[Says]] | None = None
        self.seen: list[tuple[str, str, list[tuple[str, str]], bytes]] = []
        self.port = 0
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await self._answer(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        method, target, fields = await read_head(reader)
        data = await reader.readexactly(int(dict(fields).get("content-length", "0")))
        self.seen.append((method, target, fields, data))
        says = self.next if self.answering is None else await self.answering(method, target)
        writer.write(says.raw if says.raw is not None else self._encoded(says, method))
        await writer.drain()
        if says.late is not None:
            happened, rest = says.late
            await happened.wait()
            writer.write(rest)
        return says.raw is None

    def _encoded(self, says: Says, method: str) -> bytes:
        bodiless = method == "HEAD" or says.status in (204, 304)
        lines = [f"HTTP/1.1 {says.status} Said"]
        named = set()
        for name, value in pairs(says.fields):
            named.add(name.lower())
            lines.append(f"{name}: {self.dated(value)}")
        if "date" not in named:
            lines.append(f"Date: {self.dated('T+0')}")
        if "date" in named and ("Date", "none") in pairs(says.fields):
            lines = [line for line in lines if line != "Date: none"]
        if "content-length" not in named and says.status not in (204, 304):
            lines.append(f"Content-Length: {len(says.body)}")
        head = "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"
        return head if bodiless else head + says.body

    def dated(self, value: str) -> str:
        if value.startswith(("T+", "T-")):
            return formatdate(self._clock.wall() + int(value[1:]), usegmt=True)
        return value


async def read_head(reader: asyncio.StreamReader) -> tuple[str, str, list[tuple[str, str]]]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.split("\r\n")[:-2]
    one, two = first.split(" ")[:2]
    parts = [line.partition(":") for line in lines]
    return one, two, [(name.lower(), value.strip()) for name, _, value in parts]


@dataclass(frozen=True)
class Told:
    status: int
    fields: list[tuple[str, str]]
    body: bytes

    def all(self, name: str) -> list[str]:
        return [value for each, value in self.fields if each == name.lower()]

    def get(self, name: str) -> str | None:
        found = self.all(name)
        return ", ".join(found) if found else None


class CachedShop:
    """A gateway whose every route is cached, an origin behind it, a clock, and a client."""

    TEMPLATE = """
[listen]
address = "127.0.0.1:0"
admin = "127.0.0.1:0"
[ledger]
url = "{ledger}"
{more}
[[upstreams]]
name = "origin"
urls = ["http://127.0.0.1:{port}"]
{routes}
"""
    ROUTES = """
[[routes]]
name = "all"
match = "* /**"
kind = "cached"
upstream = "origin"
"""

    def __init__(
        self,
        folder: Path,
        routes: str | None = None,
        ledger: str = "sqlite:///ledger.db",
        more: str = "",
    ) -> None:
        """``more``: lines of ``[ledger]``."""
        self._folder = folder
        self._ledger = ledger
        self._more = more
        self._routes = routes or self.ROUTES
        self.clock = TurnedClock()
        self.origin = Origin(self.clock)
        self.replicas: list[Gateway] = []
        self.source: tuple[str, int] | None = None
        """Where clients connect from, if not from anywhere."""

    @property
    def gateway(self) -> Gateway:
        return self.replicas[0]

    async def start(self) -> None:
        """One gateway, over a ledger in memory."""
        await self.origin.start()
        state = MemoryState(self.clock)
        ledger = MemoryLedger(
            state, clock=self.clock, who="here", lease_s=10, new_holder=lambda: "one"
        )
        await self._open(Gateway(self._settings(), ledger=ledger, clock=self.clock, admin=False))

    async def start_replicas(self, count: int, *, admin: bool = False) -> None:
        """Gateways that share one ledger."""
        await self.origin.start()
        settings = self._settings()
        for _ in range(count):
            await self._open(Gateway(settings, clock=self.clock, admin=admin))

    async def add_replica(self, routes: str) -> None:
        """One more gateway on the same ledger, with other routes."""
        self._routes = routes
        await self._open(Gateway(self._settings(), clock=self.clock, admin=False))

    @property
    def remote(self) -> bool:
        return not self._ledger.startswith("sqlite")

    async def _open(self, gateway: Gateway) -> None:
        self.replicas.append(gateway)
        await gateway.start()

    def _settings(self) -> Settings:
        file = self._folder / "gateway.toml"
        text = self.TEMPLATE.format(
            port=self.origin.port, routes=self._routes, ledger=self._ledger, more=self._more
        )
        file.write_text(text)
        return load(file, {})

    async def stop(self) -> None:
        for gateway in self.replicas:
            await gateway.stop(1.0)
        await self.origin.stop()

    async def ask(self, step: Step, path: str, replica: int = 0) -> Told:
        self.clock.ahead_s += step.wait_s
        self.origin.next = step.says
        address = self.replicas[replica].storefront_address
        reader, writer = await asyncio.open_connection(*address, local_addr=self.source)
        lines = [f"{step.method} {step.path or path}{step.query} HTTP/1.1", f"Host: {step.host}"]
        lines += [f"{name}: {self.origin.dated(value)}" for name, value in pairs(step.asks)]
        if step.data is not None:
            lines.append(f"Content-Length: {len(step.data)}")
        lines += ["", ""]
        writer.write("\r\n".join(lines).encode("latin-1") + (step.data or b""))
        body = b""
        try:
            async with asyncio.timeout(10):
                status = "100"
                while status.startswith("1"):
                    _, status, fields = await read_head(reader)
                bodiless = step.method == "HEAD" or status in ("204", "304")
                body = b"" if bodiless else await read_body(reader, dict(fields))
        except (ConnectionResetError, asyncio.IncompleteReadError):
            assert step.broken, "the answer broke off"
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
        return Told(int(status), fields, body)

    async def play(self, steps: list[Step], path: str) -> None:
        """Run the steps; an AssertionError names the first that went otherwise."""
        for number, step in enumerate(steps, 1):
            before = len(self.origin.seen)
            told = await self.ask(step, path)
            await self._check(f"step {number}: {told}", step, told, self.origin.seen[before:])

    async def _check(
        self,
        what: str,
        step: Step,
        told: Told,
        seen: list[tuple[str, str, list[tuple[str, str]], bytes]],
    ) -> None:
        assert bool(seen) is not step.hit, f"{'not ' if step.hit else ''}served from cache, {what}"
        assert told.status == (step.status or step.says.status), what
        if step.body is not None:
            assert told.body == step.body, what
        for name, value in step.told.items():
            wanted = None if value is None else self.origin.dated(value)
            if name in ("Date", "Expires") and value and value.startswith("T"):
                apart = parse_http(told.get(name) or "") - parse_http(wanted or "")
                assert abs(apart) <= 2, f"{name}: {what}"
            elif name == "Age":  # a slow machine may take a second
                assert int(told.get(name) or -1) - int(wanted or 0) in (0, 1, 2), what
            elif value is not None and value.startswith("ordergate; hit"):
                assert (told.get(name) or "").startswith(value), what
            else:
                assert told.get(name) == wanted, f"{name}: {what}"
        for name, value in step.sent.items():
            sent = [text for each, text in seen[-1][2] if each == name.lower()]
            assert (", ".join(sent) if sent else None) == value, f"{name}: {sent} {what}"


async def read_body(reader: asyncio.StreamReader, fields: Mapping[str, str]) -> bytes:
    if fields.get("transfer-encoding") != "chunked":
        return await reader.readexactly(int(fields["content-length"]))
    body = b""
    while size := int(await reader.readuntil(b"\r\n"), 16):
        body += await reader.readexactly(size)
        await reader.readexactly(2)
    await reader.readexactly(2)
    return body
