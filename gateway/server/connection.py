"""One client connection: the strict reading in front of aiohttp's request handler.

aiohttp's RequestHandler parses, queues pipelined requests, runs the handler and keeps the
connection alive. ``Intake`` stands in front of its parser; what it refuses is answered here,
in its turn. The rest is what aiohttp leaves open: a deadline for the header apart from the idle
limit, clients that close their half (here), clients that take nothing (``outgoing``), errors as
problem details (``failing``), and what can be answered without all that (``at_once``).
"""

import asyncio
from collections import deque
from collections.abc import Iterator
from typing import Any, assert_never, cast

from aiohttp import web
from aiohttp.http_parser import RawRequestMessage
from aiohttp.http_writer import StreamWriter
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader
from aiohttp.web_protocol import ERROR, RequestPayloadError, _ErrInfo

from gateway.server.at_once import AtOnce
from gateway.server.ends import ClientEnd
from gateway.server.failing import is_error, refusal
from gateway.server.heads import Head, Refused
from gateway.server.intake import Beyond, BodyBroken, BodyPart, Intake, NewRequest, Refuse, Taken
from gateway.server.listening import Listening
from gateway.server.parting import part
from gateway.server.refusals import turned_away
from gateway.server.requests import StorefrontRequest
from gateway.server.turns import Message
from gateway.server.whole import Sized, SizedBody, SizedRequest, Whole, WholeRequest


class StorefrontConnection(AtOnce):
    """aiohttp's handler behind a strict reading."""

    def __init__(self, server: web.Server, listening: Listening, **kwargs: Any) -> None:
        self._intake = Intake(listening.limits)
        self._heads: deque[Head] = deque()
        self._payload: StreamReader = EMPTY_PAYLOAD
        self._sized: SizedBody | None = None
        self._body_holds = False
        self._header_timer: asyncio.TimerHandle | None = None
        self._abort_timer: asyncio.TimerHandle | None = None
        self._held: Iterator[Taken] | None = None
        self._late: deque[bytes] = deque()
        # One more than the one that is answered: else its own body would wait for its answer.
        self._hold_at = max(2, listening.limits.pipelined_max)
        self._resume_at = self._hold_at // 2
        self.client_end: ClientEnd | None = None
        super().__init__(server, listening, **kwargs)

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
        self._late.clear()
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

    def eof_received(self) -> bool:  # type: ignore[override]  # aiohttp's says nothing
        """The client sends no more. True keeps our side open until all is answered."""
        self._half_closed = True
        if self._held is not None or self._late:  # what was read before comes first
            return True
        if self.client_end is not None:
            self.client_end.ended()
        if self._intake.in_body:
            self._fail_body("the client closed in the middle of the body")
        self._stop_reading()
        return self.at_work

    @property
    def idle(self) -> bool:
        return not (self.at_work or self._intake.in_head or self._late)

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
        if self._half_closed:
            self._raw.close()
        else:
            self._stop_reading()
            part(self._raw, self.connection_lost, self._limits.linger_s)

    def _abort_later(self) -> None:
        """Closing waits until the client has read everything: not for ever. Who parts no longer
        hears that it has."""
        self.forget_untaken()
        if self._raw is not None and self._abort_timer is None:
            self._abort_timer = self._loop.call_later(self._limits.write_s, self.abort)

    def _process_keepalive(self) -> None:
        """The idle limit. A head that has begun is the header deadline's business; after a request
        that goes straight it is counted anew."""
        if self._intake.in_head or self._course is not None:
            self._keepalive_handle = None
        else:
            super()._process_keepalive()

    # -- reading ---------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        if not data:  # aiohttp resumes its parser this way
            self._parse(b"")
            return
        if self._held is not None or self._late:
            self._late.append(data)  # on its way while reading was paused
            self.hold_reading(True)
        elif self._listening.sluice.holds(self):
            self._late.append(data)
        else:
            self._read(data)

    def read_on(self) -> None:
        """Look at what has come while it was others' turn."""
        several = len(self._late) > 1
        if len(self._late) == 1 and self._held is None:  # none: the client has left meanwhile
            data = self._late.popleft()
            if not self._turn_off_again(data):
                self._read(data)
        while self._late and self._held is None:
            self._read(self._late.popleft())
        if self._held is not None:
            return
        if several:
            self._read_again()
        if self._half_closed and not self.eof_received() and self._raw is not None:
            self._raw.close()

    def _read(self, data: bytes) -> None:
        if self._queued == self._answered and self._intake.between:
            if data.startswith(b"GET "):
                head = self._listening.known(data)
                free = head is not None and self._is_free_for(head)
                if head is not None and free and self._answer_at_once(head, data):
                    return
            head = self._intake.whole(data)
            if head is not None:
                self._take_request(head, data)
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
            self._read_again()
            if self._half_closed:
                self.eof_received()

    def _read_again(self) -> None:
        """We held the client back; a body that nobody reads may do so still."""
        if not (self._reading_paused or self._buffer_paused or self._body_holds):
            self.hold_reading(False)

    def _act(self, taken: Taken) -> None:
        match taken:
            case NewRequest(head, raw):
                self._take_request(head, raw)
            case BodyPart(raw):
                self._take_body(raw)
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
        if not head.upgrade and self._is_free_for(head) and self._needs_no_turn(head, raw):
            return
        self._queued += 1
        waiting = self._messages or self._heads
        if head.upgrade:
            self.client_end = ClientEnd(self)
            self._put(refusal(Refused.UPGRADE) if waiting else Whole(head, raw))
        elif head.ordinary and not waiting and not self._intake.in_body:
            self._put(Whole(head, raw))
        elif head.ordinary and not waiting and head.body_bytes is not None:
            self._sized = SizedBody(self, self._limits.read_buffer_bytes, self._loop)
            self._put(Sized(head, raw, self._sized))
        else:
            self._heads.append(head)
            self._parse(head.for_parser(raw))

    def _needs_no_turn(self, head: Head, raw: bytes) -> bool:
        return (
            self._answer_at_once(head, raw) or self._go_straight(head, raw) or self._turn_off(head)
        )

    def _take_body(self, raw: bytes | memoryview) -> None:
        body = self._sized
        if body is None:
            self._parse(bytes(raw))
        elif not (self._force_close or self._close):
            last = not self._intake.in_body
            body.feed(raw, last=last)
            if last:
                self._sized = None

    def body_holds(self, hold: bool) -> None:
        """A body that goes past the parser is held back past it too: the parser may still be busy
        with the one before."""
        if hold:
            self._body_holds = True
            self._pause_transport_reading()
        elif self._body_holds:
            self._body_holds = False
            if self._held is None:
                self._read_again()

    def _resume_transport_reading(self) -> None:
        if not self._body_holds:
            super()._resume_transport_reading()

    def _parse(self, data: bytes) -> None:
        """Hand bytes to aiohttp's parser, whose objections are as good as ours."""
        count = len(self._messages)
        try:
            super().data_received(data)
        except (ValueError, AssertionError):  # out of a parser's callback
            self._parser_objects()
            return
        if len(self._messages) > count and is_error(self._messages[-1][0]):
            self._messages.pop()
            self._parser_objects()

    def _parser_objects(self) -> None:
        """A head that it won't have is refused in its turn; a body is broken."""
        parsed = sum(isinstance(message, RawRequestMessage) for message, _ in self._messages)
        if len(self._heads) > parsed:
            self._put(refusal(Refused.PARSER_DISAGREES))
        else:
            self._fail_body("the parser objects")
        self._stop_reading()

    def _stop_reading(self) -> None:
        self._intake.stop()
        self._sized = None
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
        self._put(refusal(reason))
        self._stop_reading()

    def _put(self, message: Whole | Sized | _ErrInfo) -> None:
        if self._force_close or self._close:
            return
        body = message.body if isinstance(message, Sized) else EMPTY_PAYLOAD
        self._messages.append((message, body))
        self._wake()

    def _fail_body(self, why: str) -> None:
        """Whoever reads the body now or later learns that it will never be whole."""
        self._broken = True
        waiting = [payload for message, payload in self._messages if not is_error(message)]
        payload = waiting[-1] if waiting else self._payload
        if not payload.is_eof():
            payload.set_exception(RequestPayloadError(why))
            payload.feed_eof()  # nothing is left to linger for

    def _await_header(self) -> None:
        self._header_timer = self._loop.call_later(self._limits.header_s, self._header_is_late)

    def _header_is_late(self) -> None:
        self._header_timer = None
        ours = self._reading_paused or self._buffer_paused or self._held or self._late
        if ours:  # it is we who don't read
            self._await_header()
        else:
            self._refuse(Refused.HEADER_TIMEOUT)

    # -- answering -------------------------------------------------------------------------

    def make_request(
        self,
        message: Message,
        payload: StreamReader,
        task: "asyncio.Task[None]",
    ) -> StorefrontRequest:
        self._payload = payload
        request: StorefrontRequest
        if isinstance(message, Whole):
            request = WholeRequest(message, self, task, self._loop)
        elif isinstance(message, Sized):
            request = SizedRequest(message, self, task, self._loop)
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
            refused = refusal(Refused.PARSER_DISAGREES)
        return await super()._respond(request, refused)

    def began(self, task: "asyncio.Task[None]") -> None:
        self._listening.began(task)

    def ended(self, task: "asyncio.Task[None]") -> None:
        self._listening.ended(task)
        self.one_less()

    def one_less(self) -> None:
        self._answered += 1
        if self._held is not None and self._queued - self._answered <= self._resume_at:
            self._loop.call_soon(self._go_on)

    def is_last(self, request: StorefrontRequest) -> bool:
        return request.head is None or (self._ends and not self.at_work)


def _address_of(source: tuple[str, int] | asyncio.BaseTransport) -> str:
    peer = source if isinstance(source, tuple) else source.get_extra_info("peername")
    return str(peer[0]) if peer else ""
