"""One order attempt on one connection, from its first byte to whatever becomes of it."""

import asyncio
import hashlib
from collections.abc import Callable
from enum import StrEnum
from io import SEEK_END, BytesIO
from typing import TYPE_CHECKING, Protocol

from gateway.orders.attempts import (
    Answer,
    Answered,
    AttemptEnd,
    Lost,
    LostReason,
    NotSent,
    NotSentReason,
)
from gateway.upstream.heads import AnswerHead, Broken, Framing
from gateway.upstream.limits import HopLimits
from gateway.upstream.reading import AnswerReader
from middleware.tasks import ended_by

if TYPE_CHECKING:
    from hashlib import _Hash as Digest


class Progress(StrEnum):
    """How far an attempt got on its connection."""

    CONNECTED_NOTHING_WRITTEN = "connected_nothing_written"
    WRITTEN = "written"
    ANSWER_BEGUN = "answer_begun"
    ANSWER_WHOLE = "answer_whole"


class Line(Protocol):
    """What an exchange needs of its connection."""

    def unwritten_bytes(self) -> int:
        """What still waits in our own buffer; 0 once the connection is gone."""
        ...

    def release(self, *, clean: bool) -> None:
        """The exchange is over. ``clean``: the connection is in step and may be used again."""
        ...


class Exchange:
    """One attempt; ends exactly once, as NotSent, Answered or Lost.

    It listens until it ends, whoever waits or has stopped waiting: its owner calls
    ``stop_listening`` when the promise says so, or the connection keeps its place in the pool.
    """

    def __init__(
        self, line: Line, reader: AnswerReader, limits: HopLimits, answer_bytes_max: int
    ) -> None:
        self._line = line
        self._reader = reader
        self._body = _KeptBody(answer_bytes_max, limits.answer_bytes_cap)
        self._end: asyncio.Future[AttemptEnd] = asyncio.get_running_loop().create_future()
        self._sent_bytes = 0

    # What its owner sees.

    @property
    def ended(self) -> bool:
        return self._end.done()

    @property
    def written_bytes(self) -> int:
        """Bytes that may have left this process: those not still in our own buffer."""
        return max(0, self._sent_bytes - self._line.unwritten_bytes())

    @property
    def progress(self) -> Progress:
        if self._reader.done:
            return Progress.ANSWER_WHOLE
        if self._reader.begun:
            return Progress.ANSWER_BEGUN
        return Progress.WRITTEN if self._sent_bytes else Progress.CONNECTED_NOTHING_WRITTEN

    async def wait(self, timeout_s: float) -> AttemptEnd | None:
        """The end, or None if it has not come within ``timeout_s``: listening goes on.

        Cancelling the wait does not disturb the exchange.
        """
        ended = await ended_by(self._end, asyncio.get_running_loop().time() + timeout_s)
        return self._end.result() if ended else None

    def on_end(self, callback: Callable[[AttemptEnd], None]) -> None:
        """Call ``callback`` once, from the event loop, soon after the end or soon if ended."""
        self._end.add_done_callback(lambda end: callback(end.result()))

    def stop_listening(self, reason: LostReason = LostReason.TIMEOUT) -> None:
        """Close the connection and end as Lost, unless it has ended."""
        if not self.ended:
            self._lose(reason)

    # What its connection tells it.

    def sent(self, total_bytes: int) -> None:
        """So many bytes were handed to the transport."""
        self._sent_bytes = total_bytes

    def not_sent(self, reason: NotSentReason) -> None:
        self._end.set_result(NotSent(reason))

    def received(self, data: bytes) -> None:
        try:
            self._body.add(self._reader.feed(data))
        except Broken as broken:
            self._lose(broken.reason)
            return
        self._end_if_whole()

    def input_ended(self, *, clean: bool) -> None:
        try:
            self._reader.end(clean=clean)
        except Broken as broken:
            self._lose(broken.reason)
            return
        self._end_if_whole()

    def writable(self, _ready: bool, /) -> None:
        """An attempt hands everything over at once; the transport drains it by itself."""

    def _end_if_whole(self) -> None:
        head = self._reader.head
        if not self._reader.done or head is None:
            return
        self._end.set_result(Answered(self._body.answer(head), self.written_bytes))
        # An answer that overtook the request leaves the rest of it in the way of the next one.
        self._line.release(clean=self._reader.reusable and not self._line.unwritten_bytes())

    def _lose(self, reason: LostReason) -> None:
        self._end.set_result(Lost(reason, self.written_bytes, self._reader.status))
        self._line.release(clean=False)


class _KeptBody:
    """An answer's body up to ``bytes_max``; of a larger one only its digest, up to ``cap``."""

    def __init__(self, bytes_max: int, cap: int) -> None:
        self._bytes_max = bytes_max
        self._cap = max(cap, bytes_max)
        self._kept = BytesIO()
        self._digest: Digest | None = None
        self._count = 0

    def add(self, piece: bytes) -> None:
        """Raises Broken beyond the cap."""
        self._count += len(piece)
        if self._count > self._cap:
            raise Broken(LostReason.BODY_TOO_LARGE)
        if self._digest is not None:
            self._digest.update(piece)
            return
        if self._count == len(piece):
            self._kept = BytesIO(piece)  # one that is all of it stays the same bytes
            self._kept.seek(0, SEEK_END)
        else:
            self._kept.write(piece)
        if self._count > self._bytes_max:
            self._digest = hashlib.sha256(self._kept.getbuffer())
            self._kept = BytesIO()

    def answer(self, head: AnswerHead) -> Answer:
        return Answer(
            status=head.status,
            phrase=head.phrase,
            headers=head.headers,
            body=self._kept.getvalue(),
            framed=head.framing is not Framing.UNTIL_CLOSE,
            oversize=self._digest is not None,
            digest=None if self._digest is None else self._digest.hexdigest(),
        )
