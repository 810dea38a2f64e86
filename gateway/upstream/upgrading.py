"""Asking the upstream for another protocol, and its end of the connection if it agrees."""

import asyncio
from typing import NamedTuple, TypeAlias

from gateway.orders.attempts import LostReason
from gateway.upstream.heads import SWITCHING_PROTOCOLS, Broken, read_switch, status_of
from gateway.upstream.limits import HopLimits, StreamTimeouts
from gateway.upstream.reading import AnswerReader
from gateway.upstream.streaming import StreamedAnswer, StreamExchange, StreamLine, UpstreamBroke
from middleware.messages import RawHeaders

_EMPTY_LINE = b"\r\n\r\n"


class UpstreamEnd(NamedTuple):
    """The upstream agreed: ``headers`` of its 101, and its end of the tunnel."""

    headers: RawHeaders
    tunnel: "UpgradeExchange"


Outcome: TypeAlias = UpstreamEnd | StreamedAnswer


class UpgradeExchange:
    """The connection's side: heads until a final one, then either a tunnel or an ordinary answer.

    The connection never goes back to the pool from a tunnel.
    """

    def __init__(
        self,
        line: StreamLine,
        method: bytes,
        protocol: bytes,
        limits: HopLimits,
        timeouts: StreamTimeouts,
    ) -> None:
        self._line = line
        self._method = method
        self._protocol = protocol
        self._limits = limits
        self._timeouts = timeouts
        self._bytes = bytearray()
        self._answer: StreamExchange | None = None
        self._headers: RawHeaders | None = None
        self._error: UpstreamBroke | None = None
        self._ended = False
        self._holding = False
        self._changed = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()

    # What its owner does.

    async def outcome(self) -> Outcome:
        """Raises UpstreamBroke; the connection is closed then, and when this is cancelled."""
        try:
            async with asyncio.timeout(self._timeouts.head_s):
                while self._headers is None and self._answer is None and self._error is None:
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            self.stop_listening(LostReason.TIMEOUT)
        except BaseException:
            self.stop_listening(LostReason.CLOSED)  # an answer that is whole gave the line back
            raise
        if self._answer is not None:
            return await self._answer.answer()
        if self._headers is None:
            raise self._error or UpstreamBroke(LostReason.CLOSED)
        return UpstreamEnd(self._headers, self)

    async def read(self) -> bytes:
        """Some bytes; none once the upstream sends no more."""
        while not self._bytes and not self._ended:
            self._changed.clear()
            await self._changed.wait()
        piece = bytes(self._bytes)
        self._bytes.clear()
        if self._holding and not self._ended:
            self._holding = False
            self._line.hold_reading(False)
        return piece

    async def write(self, data: bytes) -> None:
        """Waits while the upstream takes nothing. Raises UpstreamBroke."""
        if self._ended:
            raise UpstreamBroke(LostReason.CLOSED)
        self._line.write(data)
        try:
            async with asyncio.timeout(self._timeouts.quiet_s):
                await self._writable.wait()
        except TimeoutError as error:
            raise UpstreamBroke(LostReason.TIMEOUT) from error

    def close(self) -> None:
        """Be done with it: the connection is closed."""
        if not self._ended:
            self._ended = True
            self._line.release(clean=False)
        self._changed.set()
        self._writable.set()

    # What its connection tells it.

    def received(self, data: bytes) -> None:
        if self._answer is not None:
            self._answer.received(data)
            return
        self._bytes += data
        try:
            if self._headers is None:
                self._take_head()
        except Broken as broken:
            self.stop_listening(broken.reason)
            return
        held = self._headers is not None and len(self._bytes) > self._limits.buffer_bytes_max
        if held and not self._holding:
            self._holding = True
            self._line.hold_reading(True)
        self._changed.set()

    def _take_head(self) -> None:
        """Once the first head is whole: a tunnel, or whatever an ordinary reader makes of it (so
        a 101 after another 1xx is refused: nobody sends that). Raises Broken."""
        found = self._bytes.find(_EMPTY_LINE)
        end = found + len(_EMPTY_LINE)
        if found < 0 and len(self._bytes) <= self._limits.head_bytes_max:
            return
        head = bytes(self._bytes[:end])
        if found >= 0 and status_of(head) == SWITCHING_PROTOCOLS:
            self._headers = read_switch(head, self._protocol, self._limits.headers_max)
            del self._bytes[:end]
            return
        reader = AnswerReader(self._method, self._limits)
        self._answer = StreamExchange(self._line, reader, self._limits, self._timeouts)
        rest = bytes(self._bytes)
        self._bytes.clear()
        self._answer.received(rest)

    def input_ended(self, *, clean: bool) -> None:
        if self._answer is not None:
            self._answer.input_ended(clean=clean)
        elif self._headers is None:
            self.stop_listening(LostReason.CLOSED if clean else LostReason.RESET)
        else:
            self.close()

    def writable(self, ready: bool, /) -> None:
        if ready:
            self._writable.set()
        else:
            self._writable.clear()

    def stop_listening(self, reason: LostReason, /) -> None:
        if self._answer is not None:
            self._answer.stop_listening(reason)
            return
        self._error = UpstreamBroke(reason)
        self.close()
