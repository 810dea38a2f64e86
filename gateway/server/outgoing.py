"""What a connection writes: the ``Wire`` of its requests."""

import asyncio
import socket
import struct
from contextlib import suppress
from typing import Any

from aiohttp import web

from gateway.server.answers import AnswerBroken
from gateway.server.listening import Listening
from gateway.server.requests import StorefrontRequest
from gateway.server.turns import Turns

_PIECE_BYTES = 65_536
"""What is handed to the transport at once; each piece has a write deadline of its own."""

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Outgoing(Turns):
    """Writes, no faster than the client reads, and knows whether anything may follow."""

    def __init__(self, server: web.Server, listening: Listening, **kwargs: Any) -> None:
        self._listening = listening
        self._limits = listening.limits
        self._raw: asyncio.Transport | None = None
        self._address = ""
        self._broken = False
        self._half_closed = False
        self._untaken: asyncio.TimerHandle | None = None
        self._queued = 0
        self._answered = 0
        super().__init__(server, **kwargs)

    @property
    def at_work(self) -> bool:
        """Whether a request is being answered or waits for its turn."""
        return self._queued > self._answered

    def persists(self, request: StorefrontRequest) -> bool:
        if self._listening.draining or not request.keep_alive:
            return False
        if request.head is not None and request.head.upgrade:
            return False
        if self._ends and self._queued - self._answered <= 1:
            return False
        if self._answered + 1 >= self._limits.requests_per_connection_max:
            return False
        return request.body_arrived

    @property
    def _ends(self) -> bool:
        """Whether nothing comes after what was asked: the last of it may be broken."""
        return self._half_closed or self._broken

    def date(self) -> bytes:
        return self._listening.date()

    def send_interim(self, data: bytes) -> None:
        if self._raw is not None and not self._raw.is_closing():
            self._raw.write(data)

    def hold_reading(self, hold: bool) -> None:
        """Hold the client back, or let it go on."""
        transport = self._raw
        if transport is not None and not transport.is_closing():
            (transport.pause_reading if hold else transport.resume_reading)()

    def end_writing(self) -> None:
        """Of a tunnel: nothing more comes from the upstream."""
        if self._raw is not None and not self._raw.is_closing() and self._raw.can_write_eof():
            with suppress(OSError):  # the client has reset it: whoever reads is told
                self._raw.write_eof()

    async def send(self, data: bytes) -> None:
        whole = memoryview(data)
        for at in range(0, len(data), _PIECE_BYTES):
            transport = self.transport
            if transport is None or transport.is_closing():
                raise ConnectionResetError("the client is gone")
            large = len(data) > _PIECE_BYTES
            transport.write(whole[at : at + _PIECE_BYTES] if large else data)
            if self.writing_paused:
                await self._drain_helper()
                if self._raw is None or self._raw.is_closing():
                    raise AnswerBroken("the client takes nothing")

    def pause_writing(self) -> None:
        """The buffer is full. A client that takes nothing of it in time is gone, whoever wrote."""
        super().pause_writing()
        self._untaken = self._loop.call_later(self._limits.write_s, self.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        self.forget_untaken()

    def connection_lost(self, exc: BaseException | None) -> None:
        self.forget_untaken()
        super().connection_lost(exc)

    def forget_untaken(self) -> None:
        if self._untaken is not None:
            self._untaken.cancel()
            self._untaken = None

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
