"""One client connection: the strict reading in front of aiohttp's request handler.

aiohttp's RequestHandler parses, queues pipelined requests, runs the handler and keeps the
connection alive. ``Intake`` stands in front of its parser; what it refuses is answered here,
in its turn. The rest is what aiohttp leaves open: a deadline for the header apart from the idle
limit, clients that close their half, clients that take nothing, and errors as problem details.
"""

import asyncio
import socket
import struct
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Protocol, assert_never, cast

from aiohttp import web
from aiohttp.http_parser import RawRequestMessage
from aiohttp.http_writer import StreamWriter
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader
from aiohttp.web_protocol import ERROR, RequestPayloadError, _ErrInfo

from gateway.server.answers import AnswerBroken, raw_response
from gateway.server.ends import ClientEnd
from gateway.server.heads import Head, Refused
from gateway.server.intake import Beyond, BodyBroken, BodyPart, Intake, NewRequest, Refuse, Taken
from gateway.server.limits import ServerLimits
from gateway.server.parting import part
from gateway.server.refusals import problem, turned_away
from gateway.server.requests import StorefrontRequest
from gateway.server.turns import Turns
from gateway.server.whole import Whole, WholeRequest
from middleware.problems import REQUEST_ID, Problem, ProblemType
from middleware.request_id import FIELD

_PIECE_BYTES = 65_536
"""What is handed to the transport at once; each piece has a write deadline of its own."""

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Listening(Protocol):
    """What a connection needs of the listener it belongs to."""

    limits: ServerLimits
    draining: bool

    def opened(self, connection: "StorefrontConnection", address: str) -> Refused | None:
        """Take the connection in, unless there are too many."""
        ...

    def closed(self, connection: "StorefrontConnection", address: str) -> None: ...

    def waits_for(self, connection: "StorefrontConnection") -> bool:
        """Whether one that was not taken is given time to read why."""
        ...

    def began(self, task: "asyncio.Task[Any] | None") -> None: ...

    def ended(self, task: "asyncio.Task[Any] | None") -> None: ...

    def date(self) -> bytes: ...

    def make_id(self) -> str: ...

    def known(self, raw: bytes) -> Head | None:
        """The head that these very bytes are, where they were answered at once before."""
        ...

    def at_hand(self, head: Head, raw: bytes, address: str) -> bytes | None:
        """The whole answer to a request without a body, where nobody has to be asked for it."""
        ...

    def turned_off(self, head: Head, address: str) -> bytes | None:
        """The whole answer to a request that is refused because there is too much to do."""
        ...

    def refused(self, reason: Refused, request_id: str, peer: str) -> None: ...

    def failed(self, error: BaseException, request_id: str) -> None: ...


class StorefrontConnection(Turns):
    """aiohttp's handler behind a strict reading; also the ``Wire`` of its requests."""

    def __init__(self, server: web.Server, listening: Listening, **kwargs: Any) -> None:
        self._listening = listening
        self._limits = listening.limits
        self._raw: asyncio.Transport | None = None
        self._intake = Intake(listening.limits)
        self._heads: deque[Head] = deque()
        self._payload: StreamReader = EMPTY_PAYLOAD
        self._broken = False
        self._half_closed = False
        self._queued = 0
        self._answered = 0
        self._header_timer: asyncio.TimerHandle | None = None
        self._abort_timer: asyncio.TimerHandle | None = None
        self._address = ""
        self._held: Iterator[Taken] | None = None
        self._late: deque[bytes] = deque()
        # One more than the one that is answered: else its own body would wait for its answer.
        self._hold_at = max(2, listening.limits.pipelined_max)
        self._resume_at = self._hold_at // 2
        self.client_end: ClientEnd | None = None
        super().__init__(server, **kwargs)

    # -- the connection's life -------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        raw = cast("asyncio.Transport", transport)  # uvloop's is no subclass
        self._address = _address_of(self._cache.get("peername") or raw)
        refused = self._listening.opened(self, self._address)
        if refused is not None:
            self._turn_away(raw, refused)
            return
        self._raw = raw
        super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._raw = None
        if self.client_end is not None:
            self.client_end.ended()
        self._stop_reading()
        if self._abort_timer is not None:
            self._abort_timer.cancel()
        super().connection_lost(exc)
        self._listening.closed(self, self._address)

    def speak_for(self, source: tuple[str, int]) -> None:
        """A balancer passes on the connection of this client. Before ``connection_made``."""
        self._cache["peername"] = source

    def _turn_away(self, raw: asyncio.Transport, reason: Refused) -> None:
        """Say why and close, without looking at a byte: the least that an answer can cost."""
        self._intake.stop()
        identity = self._listening.make_id()
        self._listening.refused(reason, identity, self._address)
        raw.write(turned_away(reason, identity, self._listening.date()))
        if not self._listening.waits_for(self):
            raw.close()
            return
        self._raw = raw
        part(raw, self.connection_lost, self._limits.linger_s)
        self._abort_later()

    def eof_received(self) -> bool:  # type: ignore[override]
        """The client sends no more. True keeps our side open until all is answered."""
        self._half_closed = True
        if self._held is not None:  # what was read before comes first
            return True
        if self.client_end is not None:
            self.client_end.ended()
        if self._intake.in_body:
            self._fail_body("the client closed in the middle of the body")
        self._stop_reading()
        return self.at_work

    @property
    def at_work(self) -> bool:
        """Whether a request is being answered or waits for its turn."""
        return self._queued > self._answered

    @property
    def idle(self) -> bool:
        return not self.at_work and not self._intake.in_head

    def abort(self) -> None:
        """Reset: what is unsent is dropped and the client sees that it was cut off."""
        transport = self._raw
        if transport is None:
            return
        sock = transport.get_extra_info("socket")
        if sock is not None:
            with suppress(OSError, AttributeError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        transport.abort()

    def force_close(self) -> None:
        super().force_close()
        self._abort_later()

    async def start(self) -> None:
        try:
            await super().start()
        finally:
            self._abort_later()

    def part(self) -> None:
        """Close, but not while the client still sends: that would take its answer along."""
        if self._raw is None:
            return
        if self._half_closed or self.client_end is not None:
            self._raw.close()
        else:
            self._stop_reading()
            part(self._raw, self.connection_lost, self._limits.linger_s)

    def _abort_later(self) -> None:
        """Closing waits until the client has read everything: not for ever."""
        if self._raw is not None and self._abort_timer is None:
            self._abort_timer = self._loop.call_later(self._limits.write_s, self.abort)

    def _process_keepalive(self) -> None:
        """The idle limit. A head that has begun is the header deadline's business."""
        if self._intake.in_head:
            self._keepalive_handle = None
        else:
            super()._process_keepalive()

    # -- reading ---------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        if not data:  # aiohttp resumes its parser this way
            self._parse(b"")
            return
        if self._held is not None:
            self._late.append(data)  # on its way while reading was paused
            self.hold_reading(True)
            return
        if self._intake.between:
            head = self._listening.known(data)
            if head is not None and self._answer_at_once(head, data):
                return
        self._take(self._intake.take(data))

    def _take(self, taking: Iterator[Taken]) -> None:
        """Go through what came, until so many requests wait that the rest has to."""
        for taken in taking:
            self._act(taken)
            if self._queued - self._answered >= self._hold_at:
                self._held = taking
                self.hold_reading(True)
                break
        if self._header_timer is not None or self._intake.in_head:
            self._watch_header()

    def _go_on(self) -> None:
        """Half of the requests that waited are answered: on with the rest."""
        taking, self._held = self._held, None
        if taking is not None:
            self._take(taking)
        while self._late and self._held is None:
            self._take(self._intake.take(self._late.popleft()))
        if self._held is None:
            self.hold_reading(False)
            if self._half_closed:
                self.eof_received()

    def _act(self, taken: Taken) -> None:
        match taken:
            case NewRequest(head, raw):
                self._take_request(head, raw)
            case BodyPart(raw):
                self._parse(raw)
            case Refuse(reason):
                self._refuse(reason)
            case BodyBroken():
                self._fail_body("the chunks are malformed")
            case Beyond(raw):
                if self.client_end is not None:
                    self.client_end.received(raw)
            case _:
                assert_never(taken)

    def _take_request(self, head: Head, raw: bytes) -> None:
        if self._header_timer is not None:
            self._watch_header(whole=True)
        if not head.upgrade and (self._answer_at_once(head, raw) or self._turn_off(head)):
            return
        self._queued += 1
        waiting = self._messages or self._heads
        if head.upgrade:
            self.client_end = ClientEnd(self)
            self._put(_error(Refused.UPGRADE) if waiting else Whole(head, raw))
        elif head.ordinary and not waiting and not self._intake.in_body:
            self._put(Whole(head, raw))
        else:
            self._heads.append(head)
            self._parse(head.for_parser(raw))

    def _answer_at_once(self, head: Head, raw: bytes) -> bool:
        """What the listener has at hand needs no parser and no task: where nothing else is under
        way on this connection, and this request doesn't end it."""
        if head.method != b"GET" or head.body_bytes != 0 or not self._is_free_for(head):
            return False
        return self._answered_with(self._listening.at_hand(head, raw, self._address))

    def _turn_off(self, head: Head) -> bool:
        """Where there is too much to do, that is all that is done: no request, no task. Its body
        came along with it, or there is none."""
        if self._intake.in_body or not self._is_free_for(head):
            return False
        return self._answered_with(self._listening.turned_off(head, self._address))

    def _is_free_for(self, head: Head) -> bool:
        transport = self._raw
        if self.at_work or head.closes or not head.minor:
            return False
        if self._waiter is None:  # the last answer is out, but may have been the last of all
            return False
        if transport is None or transport.is_closing() or self._paused or self._half_closed:
            return False
        last = self._answered + 1 >= self._limits.requests_per_connection_max
        return not (last or self._listening.draining)

    def _answered_with(self, answer: bytes | None) -> bool:
        if answer is None or self._raw is None:
            return False
        self._raw.write(answer)
        self._queued += 1
        self._answered += 1
        self._idle_from_now()
        return True

    def _idle_from_now(self) -> None:
        close_time = self._loop.time() + self._limits.idle_s
        self._next_keepalive_close_time = close_time
        if self._keepalive_handle is None:
            self._keepalive_handle = self._loop.call_at(close_time, self._process_keepalive)

    def _parse(self, data: bytes) -> None:
        """Hand bytes to aiohttp's parser, whose objections are as good as ours."""
        count = len(self._messages)
        try:
            super().data_received(data)
        except (ValueError, AssertionError):  # out of a parser's callback
            self._parser_objects()
            return
        if len(self._messages) > count and _is_error(self._messages[-1][0]):
            self._messages.pop()
            self._parser_objects()

    def _parser_objects(self) -> None:
        """A head that it won't have is refused in its turn; a body is broken."""
        parsed = sum(isinstance(message, RawRequestMessage) for message, _ in self._messages)
        if len(self._heads) > parsed:
            self._put(_error(Refused.PARSER_DISAGREES))
        else:
            self._fail_body("the parser objects")
        self._stop_reading()

    def _stop_reading(self) -> None:
        self._intake.stop()
        self._watch_header()

    def _watch_header(self, *, whole: bool = False) -> None:
        """Keep the header deadline while, and only while, a head is on its way."""
        if self._header_timer is not None and (whole or not self._intake.in_head):
            self._header_timer.cancel()
            self._header_timer = None
        elif self._header_timer is None and self._intake.in_head and not whole:
            self._await_header()

    # -- refusing --------------------------------------------------------------------------

    def _refuse(self, reason: Refused) -> None:
        """Answer in turn, after what was asked before; read nothing more."""
        self._queued += 1
        self._put(_error(reason))
        self._stop_reading()

    def _put(self, message: Whole | _ErrInfo) -> None:
        if self._force_close or self._close:
            return
        self._messages.append((message, EMPTY_PAYLOAD))
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def _fail_body(self, why: str) -> None:
        """Whoever reads the body now or later learns that it will never be whole."""
        self._broken = True
        waiting = [payload for message, payload in self._messages if not _is_error(message)]
        payload = waiting[-1] if waiting else self._payload
        if not payload.is_eof():
            payload.set_exception(RequestPayloadError(why))
            payload.feed_eof()  # nothing is left to linger for

    def _await_header(self) -> None:
        self._header_timer = self._loop.call_later(self._limits.header_s, self._header_is_late)

    def _header_is_late(self) -> None:
        self._header_timer = None
        ours = self._reading_paused or self._buffer_paused or self._held is not None
        if ours:  # it is we who don't read
            self._await_header()
        else:
            self._refuse(Refused.HEADER_TIMEOUT)

    # -- answering -------------------------------------------------------------------------

    def make_request(
        self,
        message: RawRequestMessage | _ErrInfo | Whole,
        payload: StreamReader,
        task: "asyncio.Task[None]",
    ) -> StorefrontRequest:
        self._payload = payload
        request: StorefrontRequest
        if isinstance(message, Whole):
            request = WholeRequest(message, self, task, self._loop)
        else:
            known = ERROR if isinstance(message, _ErrInfo) else message
            writer = StreamWriter(self, self._loop)
            request = StorefrontRequest(known, payload, self, writer, task, self._loop)
            if known is message:
                request.head = self._heads.popleft()
        request.wire = self
        return request

    async def _respond(
        self, request: StorefrontRequest, refused: _ErrInfo | None
    ) -> web.StreamResponse:
        if request.head is not None and not request.agrees:
            refused = _error(Refused.PARSER_DISAGREES)
        return await super()._respond(request, refused)

    def began(self, task: "asyncio.Task[None]") -> None:
        self._listening.began(task)

    def ended(self, task: "asyncio.Task[None]") -> None:
        self._answered += 1
        self._listening.ended(task)
        if self._held is not None and self._queued - self._answered <= self._resume_at:
            self._loop.call_soon(self._go_on)

    def is_last(self, request: StorefrontRequest) -> bool:
        if self._broken or request.head is None:
            return True
        return self._half_closed and not self.at_work

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,  # noqa: ARG002 - aiohttp's guess; ours follows from the exception
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002
    ) -> web.StreamResponse:
        """Errors that no middleware answered: refusals, and failures of the handler."""
        identity = request.get(REQUEST_ID) or self._listening.make_id()
        told = self._judge(exc, identity)
        if getattr(request, "answer", None) is not None:
            self.abort()
            raise AnswerBroken("an answer had already begun")
        text = told.render(identity)
        response = raw_response(text.status, text.fields, text.body)
        response.headers[FIELD] = identity
        response.force_close()
        return response

    def _judge(self, exc: BaseException | None, identity: str) -> Problem:
        match exc:
            case _Refusal(reason=reason):
                return self._tell(reason, identity)
            case Problem():
                return exc
            case _:
                self._listening.failed(exc or TimeoutError("in the handler"), identity)
                return Problem.of(ProblemType.INTERNAL_ERROR)

    def _tell(self, reason: Refused, identity: str) -> Problem:
        peer = self.peername
        self._listening.refused(reason, identity, str(peer[0]) if peer else "")
        return problem(reason)

    def log_exception(self, *_: Any, **kw: Any) -> None:
        """aiohttp reports here what it could not place; bodies that broke off are not news."""
        error = kw.get("exc_info")
        if isinstance(error, BaseException) and not isinstance(error, RequestPayloadError):
            self._listening.failed(error, "")

    # -- the wire of a request ---------------------------------------------------------------

    def persists(self, request: StorefrontRequest) -> bool:
        if self._listening.draining or self._broken or not request.keep_alive:
            return False
        if request.head is not None and request.head.upgrade:
            return False
        if self._half_closed and self._queued - self._answered <= 1:
            return False
        if self._answered + 1 >= self._limits.requests_per_connection_max:
            return False
        return request.body_arrived

    def date(self) -> bytes:
        return self._listening.date()

    def send_continue(self) -> None:
        if self._raw is not None and not self._raw.is_closing():
            self._raw.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def hold_reading(self, hold: bool) -> None:
        """Hold the client back, or let it go on."""
        transport = self._raw
        if transport is not None and not transport.is_closing():
            (transport.pause_reading if hold else transport.resume_reading)()

    def end_writing(self) -> None:
        """Of a tunnel: nothing more comes from the upstream."""
        if self._raw is not None and not self._raw.is_closing() and self._raw.can_write_eof():
            self._raw.write_eof()

    async def send(self, data: bytes) -> None:
        for at in range(0, len(data), _PIECE_BYTES):
            transport = self.transport
            if transport is None or transport.is_closing():
                raise ConnectionResetError("the client is gone")
            transport.write(data[at : at + _PIECE_BYTES] if len(data) > _PIECE_BYTES else data)
            if self.writing_paused:
                await self._flushed()

    async def _flushed(self) -> None:
        try:
            async with asyncio.timeout(self._limits.write_s):
                await self._drain_helper()
        except TimeoutError:
            self.abort()
            raise AnswerBroken("the client takes nothing") from None


class _Refusal(Exception):
    """Carries a refusal through aiohttp's error path."""

    def __init__(self, reason: Refused) -> None:
        super().__init__(reason)
        self.reason = reason


def _address_of(source: tuple[str, int] | asyncio.BaseTransport) -> str:
    peer = source if isinstance(source, tuple) else source.get_extra_info("peername")
    return str(peer[0]) if peer else ""


def _error(reason: Refused) -> _ErrInfo:
    return _ErrInfo(status=400, exc=_Refusal(reason), message="")


def _is_error(message: object) -> bool:
    return isinstance(message, _ErrInfo)
