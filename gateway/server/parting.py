"""Closing so that the last answer can be read (RFC 9112 section 9.6).

Whoever closes with unread bytes in the kernel resets the connection, and the reset may reach the
client before it has read its answer. So we say that we are done, and read on for a while.
"""

import asyncio
from collections.abc import Callable
from typing import cast

Lost = Callable[[BaseException | None], None]


class Parting(asyncio.Protocol):
    """Stands in for a connection that has said its last; what comes is dropped.

    Ends when the client closes or resets its side, or says nothing for ``quiet_s``; how long one
    that never stops is read is for the connection to bound. ``lost`` is told that it is over.
    """

    def __init__(self, transport: asyncio.Transport, lost: Lost, quiet_s: float) -> None:
        self._transport = transport
        self._lost = lost
        self._quiet_s = quiet_s
        self._heard = False
        self._timer = self._look_later()

    def data_received(self, data: bytes) -> None:  # noqa: ARG002
        self._heard = True

    def connection_lost(self, exc: Exception | None) -> None:
        self._timer.cancel()
        self._lost(exc)

    def _look_later(self) -> asyncio.TimerHandle:
        return asyncio.get_running_loop().call_later(self._quiet_s, self._look)

    def _look(self) -> None:
        if self._heard:
            self._heard = False
            self._timer = self._look_later()
        else:
            self._transport.close()


def part(transport: asyncio.Transport, lost: Lost, quiet_s: float) -> None:
    """Say that nothing more comes, and close once the client has nothing more to say either."""
    if transport.is_closing():
        return
    if not transport.can_write_eof():
        transport.close()
        return
    transport.set_protocol(cast("asyncio.Protocol", Parting(transport, lost, quiet_s)))
    try:
        transport.write_eof()
    except OSError:  # the client has reset it, and we were not reading
        transport.abort()
    else:
        transport.resume_reading()
