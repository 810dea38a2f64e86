"""How much is read, and refused, in one turn of the event loop.

libuv polls on as long as a thousand sockets are readable, up to 48 times, before it runs anything
else. Where each is answered as it is read, and asks again at once, requests at work wait for
seconds. And a refusal costs less when many are read, judged and written one after the other.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Protocol

READS_MAX = 128
"""In a turn: some milliseconds of refusals, so that orders at work and new connections have theirs
soon. The rest waits, bytes in hand, for the next."""


READS_MOST = 512
"""In a turn, where a crowd waits already: a quarter of it, up to this."""


class Waiting(Protocol):
    """A connection with bytes that it has not looked at."""

    def read_on(self) -> None: ...


class Sluice:
    """``shut()``: what comes will be refused, so that all of it is looked at together. ``failed``
    is told of a connection that broke our code."""

    def __init__(self, shut: Callable[[], bool], failed: Callable[[Exception], None]) -> None:
        self.shut = shut
        self._failed = failed
        self._reads = 0
        self._waiting: deque[Waiting] = deque()
        self._answers: list[tuple[asyncio.Transport, bytes]] | None = None

    def holds(self, connection: Waiting) -> bool:
        """Whether ``connection`` has to wait with what it has just received: ``read_on`` is called
        when it is its turn."""
        if not self._waiting:
            self._reads += 1
            if self._reads <= READS_MAX and not self.shut():
                return False
            asyncio.get_running_loop().call_soon(self._turn)
        self._waiting.append(connection)
        return True

    def write(self, transport: asyncio.Transport, answer: bytes) -> None:
        """At once, or with the answers of all that are looked at together: of each connection one,
        or a client that asks much and takes nothing would never be seen to hold us up."""
        if self._answers is None:
            transport.write(answer)
        elif self._answers and self._answers[-1][0] is transport:
            _, earlier = self._answers.pop()
            transport.write(earlier)
            transport.write(answer)
        else:
            self._answers.append((transport, answer))

    def _turn(self) -> None:
        waiting = len(self._waiting)
        self._reads = min(waiting, max(READS_MAX, waiting // 4), READS_MOST)
        answers = self._answers = []
        for _ in range(self._reads):
            connection = self._waiting.popleft()
            try:
                connection.read_on()
            except Exception as error:  # noqa: BLE001 - of one connection: the others go on
                self._failed(error)
        self._answers = None
        for transport, answer in answers:
            if not transport.is_closing():
                transport.write(answer)
        if self._waiting:
            asyncio.get_running_loop().call_soon(self._turn)
