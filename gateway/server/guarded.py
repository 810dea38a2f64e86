"""The listener of operators: aiohttp's own server, with a limit to what may be left open on it.

An address that more can reach than should, or a monitor that leaks connections, is not to use up
the descriptors of a process that places orders, or that has workers to ask after.
"""

import asyncio
from collections.abc import Callable
from email.utils import formatdate
from http import HTTPStatus
from typing import NamedTuple, cast

from aiohttp import web
from aiohttp.http_exceptions import BadStatusLine, InvalidURLError, LineTooLong
from aiohttp.web_protocol import RequestHandler

from gateway.server.heads import Refused
from gateway.server.parting import part
from gateway.server.refusals import problem, turned_away
from middleware.request_id import FIELD, random_request_id

CONNECTIONS_MAX = 256
"""Probes, scrapes and people with an event stream each: some ten."""

HEAD_S = 10.0
"""Until the first head is whole, whatever is on its way."""

IDLE_S = 75.0
"""Between two requests. aiohttp's own limit is an hour."""

HEAD_BYTES_MAX = 65_536
"""aiohttp's parser takes less."""

UNREAD_S = 30.0
"""A client that takes nothing of its answer for so long is gone."""

LOOKED_AT_S = 1.0
"""So often it is looked who takes nothing."""

STOP_S = 1.0
"""What is asked when it stops may end in so long. aiohttp's own limit is a minute, twice, before
the gateway could give its orders back."""

LINGER_S = 1.0
"""So long a refused client may say nothing before it is closed."""


class _Unread(NamedTuple):
    """How much of its answers a client has not taken, and since when as much."""

    bytes: int
    since: float


class GuardedListener:
    """Serves ``application``."""

    def __init__(self, application: web.Application, *, head_s: float = HEAD_S) -> None:
        self.head_s = head_s
        self.waiting: set[asyncio.Transport] = set()
        self._open: dict[asyncio.Transport, _Unread] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._runner = web.AppRunner(application, shutdown_timeout=STOP_S)
        self._listener: asyncio.Server | None = None

    async def start(self, host: str, port: int) -> tuple[str, int]:
        """Listen; the bound address. Raises OSError."""
        await self._runner.setup()
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(lambda: _Waiting(self), host, port)
        bound = self._listener.sockets[0].getsockname()
        return str(bound[0]), int(bound[1])

    async def stop(self) -> None:
        """Close the port and what waits, let requests end, and close the rest."""
        if self._listener is not None:
            self._listener.close()
        for transport in list(self.waiting):
            transport.abort()
        await self._runner.cleanup()
        for transport in self._open:
            transport.abort()
        if self._timer is not None:
            self._timer.cancel()

    @property
    def is_full(self) -> bool:
        """Handlers that go on for a client that has left hold no connection."""
        if len(self._open) >= CONNECTIONS_MAX:
            self._forget_closed()
        return len(self._open) >= CONNECTIONS_MAX

    def opened(self, transport: asyncio.Transport) -> None:
        self._open[transport] = _Unread(0, asyncio.get_running_loop().time())
        if self._timer is None:
            self._look_later()

    def handler(self) -> asyncio.Protocol:
        """aiohttp's, for one connection."""
        server = self._runner.server
        assert server is not None  # noqa: S101 - it is set up before anybody connects
        loop = asyncio.get_running_loop()
        return _Serving(
            server,
            loop=loop,
            access_log=None,  # type: ignore[arg-type]  # none, as for AppRunner
            auto_decompress=False,
            keepalive_timeout=IDLE_S,
        )

    def _forget_closed(self) -> None:
        for transport in list(self._open):
            if transport.is_closing() and not transport.get_write_buffer_size():
                del self._open[transport]

    def _look_later(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(LOOKED_AT_S, self._look) if self._open else None

    def _look(self) -> None:
        """Reset whoever takes nothing: aiohttp would wait for ever, also to close it."""
        self._forget_closed()
        now = asyncio.get_running_loop().time()
        for transport, before in self._open.items():
            size = transport.get_write_buffer_size()
            if not size or size != before.bytes:
                self._open[transport] = _Unread(size, now)
            elif now - before.since >= UNREAD_S:
                transport.abort()
        self._look_later()


class _Serving(RequestHandler):
    """aiohttp's, but for what it can't read: it would tell and log the very line, and that may be
    the one with the token."""

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        if status != HTTPStatus.BAD_REQUEST:  # it was read
            return super().handle_error(request, status, exc, message)
        identity = random_request_id()
        told = problem(_why_unread(exc)).render(identity)
        fields = (*told.fields, (FIELD, identity))
        response = web.Response(status=told.status, headers=dict(fields), body=told.body)
        response.force_close()
        return response


def _why_unread(exc: BaseException | None) -> Refused:
    match exc:
        case LineTooLong():
            return Refused.HEAD_TOO_LARGE
        case BadStatusLine() | InvalidURLError():
            return Refused.REQUEST_LINE
        case _:
            return Refused.FIELD_LINE


class _Waiting(asyncio.Protocol):
    """A connection whose first head is not whole yet."""

    def __init__(self, listener: GuardedListener) -> None:
        self._listener = listener
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._seen = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = raw = cast("asyncio.Transport", transport)  # uvloop's is no subclass
        if self._listener.is_full:
            self._refuse(raw, Refused.CONNECTIONS)
            raw.close()
            return
        self._listener.opened(raw)
        self._listener.waiting.add(raw)
        self._abort_later(raw, self._is_late)

    def data_received(self, data: bytes) -> None:
        raw = self._transport
        if raw is None or raw.is_closing():
            return
        self._seen += data
        if b"\r\n\r\n" in self._seen:
            self.connection_lost(None)
            handler = self._listener.handler()
            raw.set_protocol(handler)
            handler.connection_made(raw)
            handler.data_received(self._seen)
        elif len(self._seen) > HEAD_BYTES_MAX:
            self._refuse(raw, Refused.HEAD_TOO_LARGE)
            self._abort_later(raw, lambda _: raw.abort())
            part(raw, self.connection_lost, LINGER_S)

    def connection_lost(self, _: BaseException | None) -> None:
        """It is over, or another's."""
        if self._timer is not None:
            self._timer.cancel()
        if self._transport is not None:
            self._listener.waiting.discard(self._transport)

    def _abort_later(
        self, raw: asyncio.Transport, late: Callable[[asyncio.Transport], None]
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self._listener.head_s, late, raw)

    def _is_late(self, raw: asyncio.Transport) -> None:
        self._refuse(raw, Refused.HEADER_TIMEOUT)
        raw.close()

    def _refuse(self, raw: asyncio.Transport, reason: Refused) -> None:
        date = formatdate(usegmt=True).encode("ascii")
        raw.write(turned_away(reason, random_request_id(), date))
