"""Any request that is no order: both bodies streamed, each side held back by the other."""

import asyncio
import math
from collections.abc import AsyncIterator, Callable
from typing import Protocol

from gateway.orders.attempts import LostReason
from gateway.upstream.heads import AnswerHead, Broken, Framing
from gateway.upstream.limits import HopLimits, StreamTimeouts
from gateway.upstream.reading import AnswerReader
from middleware.errors import CannotGoOn, Fault
from middleware.messages import RawHeaders
from middleware.tasks import Tasks


class UpstreamBroke(CannotGoOn):
    """The upstream got the request, or part of it, and there is no whole answer.

    ``status`` is the status line where one was read. The request may have had its effect.
    """

    fault = Fault.UPSTREAM

    def __init__(self, reason: LostReason, status: int | None = None) -> None:
        super().__init__(reason.value)
        self.reason = reason
        self.status = status


class BodyMismatch(CannotGoOn):
    """The request's body was longer or shorter than announced; the upstream got a broken one."""

    fault = Fault.CLIENT


class StreamLine(Protocol):
    """What a streamed exchange needs of its connection."""

    loop: asyncio.AbstractEventLoop

    def write(self, data: bytes, /) -> None: ...

    def unwritten_bytes(self) -> int: ...

    def hold_reading(self, hold: bool, /) -> None: ...

    def await_until(self, by: float, /) -> None:
        """Call ``stop_listening`` at ``by`` (loop time), unless this is called again."""
        ...

    def release(self, *, clean: bool) -> None: ...


class StreamExchange:
    """The connection's side of one streamed exchange.

    Ends once: whole, broken by the upstream, failed by the request's body, or dropped by its
    owner. What was received before a bad end is still handed out before the error.
    """

    def __init__(
        self, line: StreamLine, reader: AnswerReader, limits: HopLimits, timeouts: StreamTimeouts
    ) -> None:
        self._line = line
        self._reader = reader
        self._timeouts = timeouts
        self._buffer = bytearray()
        self._buffer_bytes_max = limits.buffer_bytes_max
        self._holding = False
        self._changed: asyncio.Future[None] | None = None
        self._ended = False
        self._error: BaseException | None = None
        self._upload: _Upload | None = None
        self._writable = True

    # What its owner does.

    def upload(self, body: AsyncIterator[bytes], content_length: int | None, tasks: Tasks) -> None:
        """Begin to send the body, beside the reading of the answer."""
        self._upload = _Upload(self._line, body, content_length, self._timeouts.quiet_s)
        self._upload.writable(self._writable)
        self._upload.start(tasks, self._upload_ended)

    async def answer(self) -> "StreamedAnswer":
        """The answer, once its head is there."""
        try:
            while (head := self._reader.head) is None:
                if self._ended:
                    raise self._error or UpstreamBroke(LostReason.CLOSED)
                sending = self._upload is not None and not self._upload.complete
                await self._await_change(None if sending else self._timeouts.head_s)
        except BaseException:
            await self.close()
            raise
        return StreamedAnswer(head, self)

    def whole(self) -> bytes | None:
        """The whole body, where all of it has come and none of it was read; else None."""
        if self._ended and self._error is None and not self._upload:
            return bytes(self._buffer)
        return None

    async def next_piece(self) -> bytes:
        """Some bytes of the body, or none at its end."""
        while not self._buffer and not self._ended:
            await self._await_change(self._timeouts.quiet_s)
        piece = bytes(self._buffer)
        self._buffer.clear()
        if self._holding and not self._ended:
            self._holding = False
            self._line.hold_reading(False)
        if not piece:
            await self.close()
            if self._error is not None:
                raise self._error
        return piece

    async def close(self) -> None:
        """Be done with it, whatever is left. Returns when the upload has stopped too."""
        self._finish(None, clean=False)
        if self._upload is not None:
            await self._upload.stopped()

    async def _await_change(self, timeout_s: float | None) -> None:
        """Ends the exchange when nothing changes in time."""
        until = math.inf if timeout_s is None else self._line.loop.time() + timeout_s
        self._line.await_until(until)
        self._changed = self._line.loop.create_future()
        try:
            await self._changed
        finally:
            self._changed = None
            if not self._ended:  # else the line may be another's
                self._line.await_until(math.inf)

    # What its connection and its upload tell it.

    def received(self, data: bytes) -> None:
        try:
            self._buffer += self._reader.feed(data)
        except Broken as broken:
            self.stop_listening(broken.reason)
            return
        if self._reader.done:
            self._finish_whole()
        elif len(self._buffer) > self._buffer_bytes_max and not self._holding:
            self._holding = True
            self._line.hold_reading(True)
        if self._reader.head is not None:
            self._wake()

    def input_ended(self, *, clean: bool) -> None:
        try:
            self._reader.end(clean=clean)
        except Broken as broken:
            self.stop_listening(broken.reason)
        else:
            self._finish_whole()

    def writable(self, ready: bool, /) -> None:
        self._writable = ready
        if self._upload is not None:
            self._upload.writable(ready)

    def stop_listening(self, reason: LostReason, /) -> None:
        self._finish(UpstreamBroke(reason, self._reader.status), clean=False)

    def _upload_ended(self, error: BaseException | None) -> None:
        if error is not None:
            self._finish(error, clean=False)
        self._wake()

    def _finish_whole(self) -> None:
        sent = self._upload is None or self._upload.complete
        in_step = self._reader.reusable and not self._holding
        self._finish(None, clean=in_step and sent and not self._line.unwritten_bytes())

    def _finish(self, error: BaseException | None, *, clean: bool) -> None:
        if self._ended:
            return
        self._ended = True
        self._error = error
        if self._upload is not None:
            self._upload.stop()
        self._line.release(clean=clean)
        self._wake()

    def _wake(self) -> None:
        if self._changed is not None and not self._changed.done():
            self._changed.set_result(None)


class StreamedAnswer:
    """An answer whose head is here and whose body is still coming.

    Iterate over the body once; the iteration raises UpstreamBroke if it is cut short, and holds
    the upstream back while nobody reads. The connection goes back to the pool by itself after a
    clean end. ``headers`` are as received, hop-by-hop fields included.
    """

    def __init__(self, head: AnswerHead, exchange: StreamExchange) -> None:
        self.head = head
        self._exchange = exchange

    @property
    def status(self) -> int:
        return self.head.status

    @property
    def phrase(self) -> bytes:
        return self.head.phrase

    @property
    def headers(self) -> RawHeaders:
        return self.head.headers

    @property
    def content_length(self) -> int | None:
        """What the field says; to HEAD and in a 304, the length of a body that is not sent."""
        return self.head.content_length

    @property
    def chunked(self) -> bool:
        return self.head.framing is Framing.CHUNKED

    @property
    def framed(self) -> bool:
        """False: only the connection's end ends the body, and it may be cut short unnoticed."""
        return self.head.framing is not Framing.UNTIL_CLOSE

    def whole(self) -> bytes | None:
        """The whole body, where it came together with the head: nothing is left to read or to
        close then. Otherwise None: iterate."""
        return self._exchange.whole()

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        piece = await self._exchange.next_piece()
        if not piece:
            raise StopAsyncIteration
        return piece

    async def aclose(self) -> None:
        """Drop what has not been read; closes the connection unless the answer is whole."""
        await self._exchange.close()


class _Upload:
    """Sends one body, no faster than the upstream takes it, in a task of its own: an upstream
    may answer while it still reads, and waits for us to listen."""

    def __init__(
        self,
        line: StreamLine,
        body: AsyncIterator[bytes],
        content_length: int | None,
        quiet_s: float,
    ) -> None:
        self._line = line
        self._body = body
        self._content_length = content_length
        self._quiet_s = quiet_s
        self._ready = asyncio.Event()
        self._ready.set()
        self._task: asyncio.Task[None] | None = None
        self.complete = False

    def start(self, tasks: Tasks, ended: Callable[[BaseException | None], None]) -> None:
        """``ended`` is told the error, or None: sent whole or stopped."""
        self._task = tasks.start(self._send(), name="upstream-upload")
        self._task.add_done_callback(
            lambda task: ended(None if task.cancelled() else task.exception())
        )

    def writable(self, ready: bool) -> None:
        if ready:
            self._ready.set()
        else:
            self._ready.clear()

    def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def stopped(self) -> None:
        if self._task is not None:
            await asyncio.wait([self._task])

    async def _send(self) -> None:
        count = 0
        async for piece in self._body:
            count += len(piece)
            if self._content_length is not None and count > self._content_length:
                raise BodyMismatch("the request's body is longer than announced")
            if piece:
                await self._send_piece(piece)
        if self._content_length is None:
            self._line.write(b"0\r\n\r\n")
        elif count < self._content_length:
            raise BodyMismatch("the request's body is shorter than announced")
        self.complete = True

    async def _send_piece(self, piece: bytes) -> None:
        framed = self._content_length is not None
        self._line.write(piece if framed else b"%x\r\n%b\r\n" % (len(piece), piece))
        if self._ready.is_set():
            return
        try:
            async with asyncio.timeout(self._quiet_s):
                await self._ready.wait()
        except TimeoutError as error:
            raise UpstreamBroke(LostReason.TIMEOUT) from error
