"""The client's end of a connection that no longer speaks HTTP."""

import asyncio
from typing import Protocol

_BUFFER_BYTES_MAX = 65_536
"""What waits for a slow upstream before the client is held back."""


class Line(Protocol):
    """What a client's end needs of its connection."""

    async def send(self, data: bytes, /) -> None: ...

    def hold_reading(self, hold: bool, /) -> None: ...

    def end_writing(self) -> None: ...

    def abort(self) -> None: ...


class ClientEnd:
    """Bytes in and out, each way held back by the other."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._buffer = bytearray()
        self._ended = False
        self._holding = False
        self._changed = asyncio.Event()

    async def read(self) -> bytes:
        """Some bytes; none once the client sends no more."""
        while not self._buffer and not self._ended:
            self._changed.clear()
            await self._changed.wait()
        piece = bytes(self._buffer)
        self._buffer.clear()
        if self._holding:
            self._holding = False
            self._line.hold_reading(False)
        return piece

    async def write(self, data: bytes) -> None:
        """Waits while the client takes nothing, not for ever. Raises ConnectionResetError."""
        await self._line.send(data)

    def end(self) -> None:
        """Send no more; go on reading."""
        self._line.end_writing()

    # What its connection tells it.

    def received(self, data: bytes) -> None:
        self._buffer += data
        if len(self._buffer) > _BUFFER_BYTES_MAX and not self._holding:
            self._holding = True
            self._line.hold_reading(True)
        self._changed.set()

    def ended(self) -> None:
        self._ended = True
        self._changed.set()
