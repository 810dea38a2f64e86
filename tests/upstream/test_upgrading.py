"""Asking for another protocol, and being told no."""

import asyncio

import pytest

from gateway.upstream.limits import HopLimits, StreamTimeouts
from gateway.upstream.upgrading import UpgradeExchange

REFUSAL = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno"


class Line:
    """A connection that notes how often it was given back."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.released: list[bool] = []

    def write(self, data: bytes, /) -> None: ...

    def unwritten_bytes(self) -> int:
        return 0

    def hold_reading(self, hold: bool, /) -> None: ...

    def await_until(self, by: float, /) -> None: ...

    def release(self, *, clean: bool) -> None:
        self.released.append(clean)


async def test_a_connection_that_was_given_back_is_not_taken_from_its_next_user() -> None:
    line = Line()
    exchange = UpgradeExchange(line, b"GET", b"websocket", HopLimits(), StreamTimeouts())
    waiting = asyncio.create_task(exchange.outcome())
    await asyncio.sleep(0)
    exchange.received(REFUSAL)  # whole: the connection may be another's from here on
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert line.released == [True]
