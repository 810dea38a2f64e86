"""An exchange that is over in one piece each way, as most are, without a task that waits for it."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from gateway.orders.attempts import LostReason
from gateway.upstream.heads import AnswerHead, Broken, Framing, read_head
from gateway.upstream.limits import HopLimits, StreamTimeouts
from gateway.upstream.reading import AnswerReader
from gateway.upstream.streaming import StreamExchange, StreamLine

_EMPTY_LINE = b"\r\n\r\n"
_LAST_CHUNK = b"\r\n0\r\n\r\n"
"""Without trailers: those are read in the other way."""


class Interims:
    """1xx heads of an exchange that has just gone on: kept until somebody can be told of them."""

    def __init__(self) -> None:
        self._kept: list[AnswerHead] = []
        self._tell: Callable[[AnswerHead], None] = self._kept.append

    def __call__(self, head: AnswerHead) -> None:
        self._tell(head)

    def pass_to(self, tell: Callable[[AnswerHead], None]) -> None:
        """Whom to tell of all that came and will come."""
        self._tell = tell
        for head in self._kept:
            tell(head)


class BriefLine(StreamLine, Protocol):
    """What it needs of its connection."""

    limits: HopLimits

    def pass_on(self, speaker: StreamExchange, /) -> None:
        """What is heard from now on is for ``speaker``."""
        ...


class BriefExchange:
    """The connection's side. Ends once: by ``came``, or by ``goes_on`` where anything else than a
    whole answer in one piece is heard. Both are called out of the event loop's callbacks, so
    neither may raise.

    ``timeouts`` from ``began`` (loop time) on.
    """

    __slots__ = ("_timeouts", "began", "line", "method")

    def __init__(
        self, line: BriefLine, method: bytes, timeouts: StreamTimeouts, began: float
    ) -> None:
        self.line = line
        self.began = began
        self.method = method
        self._timeouts = timeouts

    # What becomes of it.

    def wants(self, head: AnswerHead, size: int) -> bool:
        """Whether a whole answer with this head and so many bytes is for ``came``."""
        raise NotImplementedError

    def came(self, head: AnswerHead, body: bytes) -> None:
        """The whole answer. The connection is given back already."""
        raise NotImplementedError

    def goes_on(self, exchange: StreamExchange, interims: Interims) -> None:
        """What was heard is in ``exchange``; whoever takes that reads or closes it."""
        raise NotImplementedError

    # What its connection tells it.

    def received(self, data: bytes) -> None:
        whole = self._whole(data)
        if whole is None:
            self._go_on(lambda exchange: exchange.received(data))
            return
        head, body = whole
        # An answer that overtook the request leaves the rest of it in the way of the next one.
        self.line.release(clean=head.keep_alive and not self.line.unwritten_bytes())
        self.came(head, body)

    def _whole(self, data: bytes) -> tuple[AnswerHead, bytes] | None:
        """The answer, where ``data`` is all of a wanted one and no more."""
        end = data.find(_EMPTY_LINE) + len(_EMPTY_LINE)
        if not len(_EMPTY_LINE) <= end <= self.line.limits.head_bytes_max:
            return None
        try:
            head = read_head(data[:end], self.method, self.line.limits.headers_max)
            body = self._body(head, data, end)
        except Broken:
            return None
        return None if body is None or not self.wants(head, len(body)) else (head, body)

    def _body(self, head: AnswerHead, data: bytes, end: int) -> bytes | None:
        """All of it, where it is from ``end`` to the last byte. Raises Broken."""
        if head.framing is Framing.LENGTH:
            return data[end:] if head.content_length == len(data) - end else None
        if head.framing is Framing.NO_BODY:
            return None if head.interim or end < len(data) else b""
        if head.framing is not Framing.CHUNKED or not data.endswith(_LAST_CHUNK):
            return None
        reader = AnswerReader(self.method, self.line.limits)
        body = reader.feed(data)
        return body if reader.done and not reader.surplus else None

    def input_ended(self, *, clean: bool) -> None:
        self._go_on(lambda exchange: exchange.input_ended(clean=clean))

    def stop_listening(self, reason: LostReason, /) -> None:
        self._go_on(lambda exchange: exchange.stop_listening(reason))

    def writable(self, _ready: bool, /) -> None:
        """The request was handed over at once; the transport drains it by itself."""

    def _go_on(self, heard: Callable[[StreamExchange], None]) -> None:
        """As an exchange that a task waits for, with what is left of its time."""
        line, timeouts, interims = self.line, self._timeouts, Interims()
        spent_s = line.loop.time() - self.began
        left = replace(timeouts, head_s=max(0.0, timeouts.head_s - spent_s))
        reader = AnswerReader(self.method, line.limits, interims)
        exchange = StreamExchange(line, reader, line.limits, left)
        line.await_until(math.inf)
        line.pass_on(exchange)
        heard(exchange)
        self.goes_on(exchange, interims)
