"""One connection to the upstream: who may speak on it, and whether it is still any good."""

import asyncio
import math
import select
import ssl
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Protocol, TypeAlias, cast

from gateway.orders.attempts import LostReason, NotSentReason
from gateway.upstream.brief import BriefExchange
from gateway.upstream.connecting import ConnectFailed
from gateway.upstream.exchanges import Exchange
from gateway.upstream.heads import AnswerHead
from gateway.upstream.limits import HopLimits, StreamTimeouts
from gateway.upstream.reading import AnswerReader
from gateway.upstream.requests import UpstreamRequest
from gateway.upstream.streaming import StreamedAnswer, StreamExchange
from gateway.upstream.upgrading import Outcome, UpgradeExchange
from middleware.tasks import Tasks


class Home(Protocol):
    """The pool, as a connection sees it. ``stale_s``: as in ``HopLimits``, or less where the
    upstream closes idle connections sooner."""

    stale_s: float

    def put_back(self, connection: "Connection", /) -> None: ...

    def closed_idle(self, connection: "Connection", /) -> None: ...

    def gone(self, connection: "Connection", /) -> None: ...


class Speaker(Protocol):
    """Who has the connection for one exchange. May end within any of these calls."""

    def received(self, data: bytes, /) -> None: ...

    def input_ended(self, *, clean: bool) -> None: ...

    def writable(self, ready: bool, /) -> None: ...

    def stop_listening(self, reason: LostReason, /) -> None: ...


Look: TypeAlias = Callable[[], object]
"""True-ish: the kernel has something that the event loop has not shown yet."""

Readable: TypeAlias = Callable[[asyncio.BaseTransport], Look]
"""How to look at a transport, made once for each; not to be asked once it is closed."""


def readable_now(transport: asyncio.BaseTransport) -> Look:
    """For input, an end or an error.

    Nothing is ever seen where there is no real socket to look at, as in a simulation.
    """
    return _look(transport, select.POLLIN | select.POLLHUP | select.POLLERR)


_ENDED = select.POLLHUP | select.POLLERR | getattr(select, "POLLRDHUP", 0)


def ended_now(transport: asyncio.BaseTransport) -> Look:
    """The same for TLS, but input: session tickets and key updates arrive at any time, and only
    the loop can tell them from an answer that nobody asked for."""
    return _look(transport, _ENDED)


def _look(transport: asyncio.BaseTransport, wanted: int) -> Look:
    sock = transport.get_extra_info("socket")
    fileno = -1 if sock is None else sock.fileno()
    if fileno < 0:
        return bool  # False
    poll = select.poll()
    poll.register(fileno, wanted)
    return partial(poll.poll, 0)


def _was_said(transport: asyncio.BaseTransport | None) -> bool:
    """Whether the end of the input is the upstream's word. Of TLS that is close_notify: a FIN may
    be anybody's, and what only the end ends would pass for whole (RFC 9112 section 9.8)."""
    secure = None if transport is None else transport.get_extra_info("ssl_object")
    if secure is None:
        return True
    try:
        return bool(secure.read(1) == b"")
    except ssl.SSLError:  # it waits for more
        return False


class Connection(asyncio.Protocol):
    """A connection with at most one exchange at a time, made and owned by a Pool.

    What arrives while nobody has asked anything can't be an answer to anybody: the connection
    is closed at once. TCP_NODELAY is set by the event loop.
    """

    def __init__(self, home: Home, limits: HopLimits, tasks: Tasks, readable: Readable) -> None:
        self._home = home
        self.limits = limits
        self._tasks = tasks
        self._readable = readable
        self._look: Look = bool
        self.loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._speaker: Speaker | None = None
        self._input_ended = False
        self._active_at = 0.0
        self._use_until = math.inf
        self._await_until = math.inf
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = math.inf
        self.exchanges = 0
        self.probe = False
        """Let through by a breaker that is half open: what becomes of it decides."""
        self.pooled = False
        self.plain = False
        """In the hands of a request that is no order."""

    # What its holder sees.

    @property
    def home(self) -> Home:
        """The pool that made it."""
        return self._home

    @property
    def is_connected(self) -> bool:
        return self._transport is not None

    @property
    def is_open(self) -> bool:
        """Open as far as we have been told."""
        transport = self._transport
        return transport is not None and not transport.is_closing() and not self._input_ended

    @property
    def is_free(self) -> bool:
        return self._speaker is None

    @property
    def quiet_s(self) -> float:
        """Seconds since it was opened, or since its last exchange ended. Being taken and put
        back unused does not count: the upstream's own timer knows nothing of that."""
        return self.loop.time() - self._active_at

    def looks_usable(self, quiet_s_max: float) -> bool:
        """Open, quiet for less than that if it was ever used, and a look at the socket shows
        nothing. A fresh connection waits for its first request as long as the upstream likes."""
        return self.is_fresh(quiet_s_max) and not self._look()

    def is_fresh(self, quiet_s_max: float) -> bool:
        """The same without the look at the socket."""
        transport = self._transport
        if transport is None or self._input_ended or transport.is_closing():
            return False
        now = self.loop.time()
        return now < self._use_until and not (
            self.exchanges and now - self._active_at >= quiet_s_max
        )

    def send(self, request: UpstreamRequest, *, answer_bytes_max: int) -> Exchange:
        """Begin one attempt: the whole request is handed over before this returns.

        Returns an exchange that has ended with NotSent if the connection is of no use any more
        (it is closed then). Raises RuntimeError if it is not the caller's to use.
        """
        self._check_is_callers()
        reader = AnswerReader(request.method, self.limits)
        exchange = Exchange(self, reader, self.limits, answer_bytes_max)
        if not self.looks_usable(self._home.stale_s):
            self.abort()
            exchange.not_sent(NotSentReason.CLOSED_BEFORE_SENDING)
            return exchange
        self._begin(exchange)
        head = request.head(length=len(request.body))
        exchange.sent(len(head) + len(request.body))
        self._write_whole(head, request.body)
        return exchange

    async def stream(
        self,
        request: UpstreamRequest,
        *,
        body: AsyncIterator[bytes] | None = None,
        content_length: int | None = None,
        timeouts: StreamTimeouts | None = None,
        interim: Callable[[AnswerHead], None] | None = None,
    ) -> StreamedAnswer:
        """Send one request that is no order; return when the answer's head is there. Call it as
        soon as the connection was taken: the look at the socket was the pool's. ``interim`` is
        told each 1xx head before it.

        The body is ``request.body``, or what ``body`` yields: ``content_length`` bytes of it, or
        chunked where that is None. It is sent beside the answer's reading, and no further than
        the upstream takes it. Whoever calls this closes ``body``, and reads the answer to its
        end or calls ``aclose`` on it. Sent once, never again.

        Raises ConnectFailed (nothing was sent), UpstreamBroke, BodyMismatch, whatever ``body``
        raises, and RuntimeError if the connection is not the caller's to use. After any of
        these, and when cancelled, the connection is closed.
        """
        self._check_is_callers()
        if not self.is_fresh(self._home.stale_s):
            self.abort()
            raise ConnectFailed(NotSentReason.CLOSED_BEFORE_SENDING)
        reader = AnswerReader(request.method, self.limits, interim)
        exchange = StreamExchange(self, reader, self.limits, timeouts or StreamTimeouts())
        self._begin(exchange)
        if body is None:
            self._write_whole(request.head(length=len(request.body)), request.body)
        else:
            self.write(request.head(length=content_length))
            exchange.upload(body, content_length, self._tasks)
        return await exchange.answer()

    def ask(self, exchange: BriefExchange, request: bytes, by: float) -> None:
        """Send one request that is no order, whole and well formed, for ``exchange``; it is told
        of a timeout at ``by``. The connection was just taken; RuntimeError if it was not."""
        self._check_is_callers()
        self._begin(exchange)
        self.await_until(by)
        self.write(request)

    async def upgrade(
        self, request: UpstreamRequest, protocol: bytes, timeouts: StreamTimeouts
    ) -> Outcome:
        """Ask for another protocol: the upstream's end of a tunnel, or its answer where it does
        not agree. Raises what ``stream`` raises. Whoever gets an end closes it."""
        self._check_is_callers()
        if not self.is_fresh(self._home.stale_s):
            self.abort()
            raise ConnectFailed(NotSentReason.CLOSED_BEFORE_SENDING)
        exchange = UpgradeExchange(self, request.method, protocol, self.limits, timeouts)
        self._begin(exchange)
        self.write(request.upgrade_head(protocol))
        return await exchange.outcome()

    def abort(self) -> None:
        """Close at once, without writing out what waits; TLS too, whose parting words would keep
        the place for as long as the other side takes to answer them."""
        if self._transport is None:
            return
        encrypted = self._transport.get_extra_info("ssl_object") is not None
        if encrypted or self._transport.get_write_buffer_size():
            self._transport.abort()
        else:
            self._transport.close()

    def stop(self, reason: LostReason) -> None:
        """Close, and end the exchange that is under way as lost for this reason."""
        if self._speaker is not None:
            self._speaker.stop_listening(reason)
        self.abort()

    # What its exchange needs.

    def write(self, data: bytes) -> None:
        if self._transport is not None and data:
            self._transport.write(data)

    def unwritten_bytes(self) -> int:
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    def await_until(self, by: float) -> None:
        """End the exchange at ``by`` (loop time) for its timeout, unless this is called again.

        One timer for a connection's life, looked at when it fires: nearly every answer comes long
        before it, and the next request moves it on."""
        self._await_until = by
        if by >= self._timer_at:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._timer_at = self.loop.call_at(by, self._look_at_time), by

    def _look_at_time(self) -> None:
        self._timer, self._timer_at = None, math.inf
        if self._speaker is None:
            return
        if self.loop.time() >= self._await_until:
            self._speaker.stop_listening(LostReason.TIMEOUT)
        else:
            self.await_until(self._await_until)

    def pass_on(self, speaker: Speaker, /) -> None:
        """The exchange under way goes on as ``speaker``."""
        self._speaker = speaker

    def hold_reading(self, hold: bool, /) -> None:
        """Hold the upstream back, or let it go on. Call with a changed value only."""
        if self._transport is None or self._transport.is_closing():
            return
        if hold:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()

    def release(self, *, clean: bool) -> None:
        """The exchange is over: back to the pool if all is clean, else closed."""
        self._speaker = None
        self._await_until = math.inf
        self._active_at = self.loop.time()
        if clean:
            self._home.put_back(self)
        else:
            self.abort()

    def _write_whole(self, head: bytes, body: bytes) -> None:
        """In one system call, as far as the kernel takes it, and without a copy of ours."""
        if not body:
            self.write(head)
        elif self._transport is not None:
            self._transport.writelines((head, body))

    def _begin(self, speaker: Speaker) -> None:
        self._speaker = speaker
        self.exchanges += 1

    def _check_is_callers(self) -> None:
        """Two requests on one connection would each get the other's answer."""
        if self.pooled or self._speaker is not None:
            raise RuntimeError("take the connection from the pool first; one exchange at a time")

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._look = self._readable(transport)
        self._active_at = self.loop.time()
        self._use_until = self._active_at + self.limits.age_s

    def data_received(self, data: bytes) -> None:
        if self._speaker is None:
            self.abort()
        else:
            self._speaker.received(data)

    def eof_received(self) -> None:
        """The upstream will send no more. The transport closes itself after this."""
        self._input_ended = True
        if self._speaker is not None:
            self._speaker.input_ended(clean=_was_said(self._transport))
        elif self.exchanges:
            self._home.closed_idle(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - None proves nothing
        self._input_ended = True
        if self._timer is not None:
            self._timer.cancel()
        if self._speaker is not None:  # a clean end would have been told before
            self._speaker.input_ended(clean=False)
        self._home.gone(self)

    def pause_writing(self) -> None:
        if self._speaker is not None:
            self._speaker.writable(False)

    def resume_writing(self) -> None:
        if self._speaker is not None:
            self._speaker.writable(True)
