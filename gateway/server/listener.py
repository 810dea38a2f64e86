"""The storefront listener: takes connections, and lets them finish."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from email.utils import formatdate
from functools import partial
from typing import Any, TypeAlias

import structlog
from aiohttp import web
from aiohttp.http import HttpRequestParser

from gateway.server.at_once import AtOnce
from gateway.server.connection import StorefrontConnection
from gateway.server.heads import Head, Refused
from gateway.server.limits import ServerLimits
from gateway.server.proxy_protocol import ProxyProtocol
from gateway.server.sluice import Sluice
from gateway.server.whole import Course
from middleware.clock import Clock, SystemClock
from middleware.errors import CannotGoOn
from middleware.messages import RawHeaders
from middleware.problems import Handler, Middleware
from middleware.request_id import random_request_id

StorefrontHandler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class ParserMissing(CannotGoOn):
    """aiohttp runs without its C parser, and the other one reads some requests differently."""


def require_c_parser() -> None:
    """Raise ParserMissing unless requests are parsed by llhttp."""
    if HttpRequestParser.__module__ != "aiohttp._http_parser":
        raise ParserMissing(
            "aiohttp was installed or started without its C extensions: install a binary wheel "
            "and unset AIOHTTP_NO_EXTENSIONS. Its pure-Python parser accepts requests that "
            "others read differently."
        )


def compose(middlewares: Sequence[Middleware], handler: Handler) -> Handler:
    """The handler inside the middlewares, the first one outermost."""
    for middleware in reversed(middlewares):
        handler = partial(middleware, handler=handler)
    return handler


KNOWN_MAX = 4096
KNOWN_BYTES_MAX = 1024
"""Clients on a kept connection ask in the same words again and again: heads that were judged are
remembered by their bytes, 4 MiB of them at most."""

TURNED_AWAY_MAX = 256
"""Connections that were not taken and are given time to read why; more are closed at once. A
flood is not to hold a descriptor for each of its connections."""

ACCEPTS_MAX = 64
"""Connections taken in one turn of the loop. A turn under load takes some milliseconds: some
thousands a second, beside everything else."""

Quick: TypeAlias = Callable[[bytes, bytes, str], bytes | None]
"""From the target, the bytes of a well-formed head without a body to the whole answer, or None
where the handler is to be asked."""


TurnOff: TypeAlias = Callable[[bytes, bytes, RawHeaders, Callable[[], bytes]], bytes | None]
"""From a well-formed head's method, target and fields, and who knows the date, to the whole
refusal, or None where the request may go on."""


TurnOffAgain: TypeAlias = Callable[[bytes, bytes, bytes], bytes | None]
"""From a request's method, target and ordinary Idempotency-Key (or nothing) to the whole refusal,
where the same was refused to another in this turn of the loop; else None."""


def never_again(_method: bytes, _target: bytes, _key: bytes) -> None:
    """Judge each."""


GoStraight: TypeAlias = Callable[
    [bytes, bytes, RawHeaders, bytes | memoryview, str, AtOnce], Course | None
]
"""From a whole ordinary request's method, target, fields and body, the client's address and its
connection to the request's course, or None where the handler is to be asked."""


class StorefrontServer:
    """Serves ``handler`` strictly, bytes untouched both ways.

    ``trusts(address)``: a proxy of ours, whose connections are many clients'. With
    ``proxy_protocol`` connections come from such proxies alone, each with that header in front.
    ``event(name, **fields)`` is told of refused requests and of handlers that failed;
    ``quick(target, head, address)`` may answer a GET at once, past the handler and all around it;
    ``turn_off`` may refuse any request in the same way, ``turn_off_again`` the next ones like it
    in the same turn of the loop; ``go_straight`` may send one on.
    ``make_id`` makes the request ids of answers that no middleware saw. Handlers are never
    cancelled because a client left; only ``drain`` cancels what outlasts it.
    """

    def __init__(
        self,
        handler: StorefrontHandler,
        *,
        limits: ServerLimits,
        make_id: Callable[[], str] = random_request_id,
        clock: Clock | None = None,
        event: Callable[..., object] | None = None,
        trusts: Callable[[str], bool] = lambda _address: False,
        proxy_protocol: bool = False,
    ) -> None:
        require_c_parser()
        self.limits = limits
        self.draining = False
        self._handler = handler
        self._make_id = make_id
        self._clock = clock or SystemClock()
        self._event = event or structlog.get_logger("gateway.server").warning
        self._trusts = trusts
        self._proxy_protocol = proxy_protocol
        self._connections: set[StorefrontConnection] = set()
        self._turned_away: set[StorefrontConnection] = set()
        self._of_address: dict[str, int] = {}
        self._at_work: set[asyncio.Task[Any]] = set()
        self._courses: set[Course] = set()
        self._quiet = asyncio.Event()
        self._listeners: list[asyncio.Server] = []
        self._server: _Server | None = None
        self._date = (-1, b"")
        self.quick: Quick | None = None
        self.turn_off: TurnOff | None = None
        self.turn_off_again: TurnOffAgain = never_again
        self.sluice = Sluice(lambda: False, lambda error: self.failed(error, ""))
        self.go_straight: GoStraight | None = None
        self._known: dict[bytes, Head] = {}

    @property
    def connections(self) -> int:
        """How many clients are connected."""
        return len(self._connections)

    @property
    def turned_away(self) -> int:
        """How many were not taken and have not gone yet."""
        return len(self._turned_away)

    @property
    def requests(self) -> int:
        """How many requests are being answered, also those whose client has left."""
        return len(self._at_work) + len(self._courses)

    async def start(self, host: str, port: int, *, reuse_port: bool = False) -> tuple[str, int]:
        """Listen; port 0 takes a free one. Returns the bound address. Raises OSError."""
        loop = asyncio.get_running_loop()
        self._server = _Server(self._serve, self)
        factory = self._front if self._proxy_protocol else self._server
        listener = await loop.create_server(
            factory, host, port, reuse_port=reuse_port or None, backlog=self.limits.backlog
        )
        address = listener.sockets[0].getsockname()
        self._listeners.append(listener)
        if not isinstance(loop, asyncio.BaseEventLoop):
            await self._accept_several(factory, listener)
        return str(address[0]), int(address[1])

    async def _accept_several(
        self, factory: Callable[[], asyncio.BaseProtocol], listener: asyncio.Server
    ) -> None:
        """uvloop takes one connection from a listening socket in a turn, however many there are:
        a new client would wait the longer the more there is to do."""
        loop = asyncio.get_running_loop()
        for sock in listener.sockets:
            for _ in range(ACCEPTS_MAX - 1):
                again = await loop.create_server(
                    factory, sock=sock.dup(), backlog=self.limits.backlog
                )
                self._listeners.append(again)

    def _front(self) -> ProxyProtocol:
        assert self._server is not None  # noqa: S101 - set before it listens
        return ProxyProtocol(self._server, self._trusts, self.limits.header_s)

    def reload(
        self,
        handler: StorefrontHandler,
        limits: ServerLimits,
        trusts: Callable[[str], bool] | None = None,
    ) -> None:
        """Serve ``handler`` from the next request on, within ``limits`` on new connections; what
        is under way goes on as it began."""
        self._handler = handler
        self.limits = limits
        self._known.clear()
        self._trusts = trusts or self._trusts

    async def drain(self, timeout_s: float) -> None:
        """Stop accepting, finish what was begun, reset what is left after ``timeout_s``.

        Every answer from now on says ``Connection: close``; idle connections stay open for
        ``drain_idle_s``, so that a request on its way is answered and not reset.
        """
        self.draining = True
        for listener in self._listeners:
            listener.close()
        loop = asyncio.get_running_loop()
        timer = loop.call_later(min(self.limits.drain_idle_s, timeout_s), self._close_idle)
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self.quiet()
        timer.cancel()
        await self._abort_all()

    async def quiet(self) -> None:
        """Wait until no client is connected and no request is being answered."""
        self._note_quiet()
        await self._quiet.wait()

    def _close_idle(self) -> None:
        for connection in list(self._connections):
            if connection.idle:
                connection.force_close()

    async def _abort_all(self) -> None:
        tasks = set(self._at_work)
        for connection in list(self._connections):
            if connection._task_handler is not None:  # noqa: SLF001 - aiohttp's own loop
                tasks.add(connection._task_handler)  # noqa: SLF001
            connection.abort()
        for connection in list(self._turned_away):
            connection.abort()
        for course in list(self._courses):
            course.cancel()
            self._courses.discard(course)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _serve(self, request: web.BaseRequest) -> Awaitable[web.StreamResponse]:
        return self._handler(request)

    # -- what connections need (``connection.Listening``) ------------------------------------

    def opened(self, connection: StorefrontConnection, address: str) -> Refused | None:
        if len(self._connections) >= self.limits.connections_max:
            return Refused.CONNECTIONS
        held = self._of_address.get(address, 0)
        if held >= self.limits.connections_per_address_max and not self._trusts(address):
            return Refused.CONNECTIONS_OF_ADDRESS
        self._of_address[address] = held + 1
        self._connections.add(connection)
        self._quiet.clear()
        return None

    def waits_for(self, connection: StorefrontConnection) -> bool:
        if len(self._turned_away) >= TURNED_AWAY_MAX:
            return False
        self._turned_away.add(connection)
        return True

    def closed(self, connection: StorefrontConnection, address: str) -> None:
        self._turned_away.discard(connection)
        if connection in self._connections:
            self._connections.discard(connection)
            self._of_address[address] -= 1
            if not self._of_address[address]:
                del self._of_address[address]
        self._note_quiet()

    def began(self, task: "asyncio.Task[Any] | None") -> None:
        if task is not None:
            self._at_work.add(task)
        self._quiet.clear()

    def ended(self, task: "asyncio.Task[Any] | None") -> None:
        if task is not None:
            self._at_work.discard(task)
        self._note_quiet()

    def _note_quiet(self) -> None:
        if not (self._connections or self._at_work or self._courses):
            self._quiet.set()

    def date(self) -> bytes:
        """An IMF-fixdate (RFC 9110 section 5.6.7), made once a second."""
        now = int(self._clock.wall())
        if now != self._date[0]:
            self._date = (now, formatdate(now, usegmt=True).encode("ascii"))
        return self._date[1]

    def at_hand(self, head: Head, raw: bytes, address: str, limits: ServerLimits) -> bytes | None:
        if self.quick is None:
            return None
        answer = self.quick(head.target, raw, address)
        if answer is not None and len(raw) <= KNOWN_BYTES_MAX and raw not in self._known:
            self._remember(head, raw, limits)
        return answer

    def _remember(self, head: Head, raw: bytes, limits: ServerLimits) -> None:
        """A connection from before a reload may let through what the others must not."""
        if limits is not self.limits:
            return
        if len(self._known) >= KNOWN_MAX:
            self._known.clear()
        self._known[raw] = head

    def turned_off(self, head: Head) -> bytes | None:
        if self.turn_off is None:
            return None
        return self.turn_off(head.method, head.target, head.fields, self.date)

    def known(self, raw: bytes) -> Head | None:
        return self._known.get(raw) if self._known and len(raw) <= KNOWN_BYTES_MAX else None

    def straight(self, head: Head, raw: bytes, address: str, back: AtOnce) -> Course | None:
        if self.go_straight is None:
            return None
        body = memoryview(raw)[-head.body_bytes :] if head.body_bytes else b""
        course = self.go_straight(head.method, head.target, head.fields, body, address, back)
        if course is not None:
            self._courses.add(course)
        return course

    def went_straight(self, course: Course) -> None:
        self._courses.discard(course)
        self._note_quiet()

    def make_id(self) -> str:
        return self._make_id()

    def refused(self, reason: Refused, request_id: str, peer: str) -> None:
        self._event("request_refused", reason=reason.value, request_id=request_id, peer=peer)

    def failed(self, error: BaseException, request_id: str) -> None:
        self._event("handler_failed", exc_info=error, request_id=request_id)


class _Server(web.Server):
    """aiohttp's low-level server with our connection in it."""

    def __init__(self, handler: StorefrontHandler, storefront: StorefrontServer) -> None:
        super().__init__(handler)
        self._storefront = storefront

    def __call__(self) -> StorefrontConnection:
        limits = self._storefront.limits
        return StorefrontConnection(
            self,
            self._storefront,
            loop=self._loop,
            keepalive_timeout=limits.idle_s,
            lingering_time=limits.linger_s,
            max_line_size=limits.head_bytes_max,
            max_field_size=limits.head_bytes_max,
            max_headers=limits.fields_max,
            read_bufsize=limits.read_buffer_bytes,
            auto_decompress=False,
            access_log=None,
        )
