"""Answers on their way into the cache: read at the upstream's speed, invisible until whole."""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Protocol, TypeAlias

from middleware.messages import RawHeaders

UNSHAREABLE_S = 30.0
"""How long a URI is remembered whose answers can't be shared: its requests don't wait for each
other. A deploy that changes that is noticed within half a minute."""

UNSHAREABLE_MAX = 10_000


class Fetched(Protocol):
    """An upstream's answer whose head is here. ``headers``: end to end, as the client is to see
    them. ``framed``: a body that is cut short is noticed. Iterate over the body once."""

    @property
    def status(self) -> int: ...
    @property
    def phrase(self) -> bytes: ...
    @property
    def headers(self) -> RawHeaders: ...
    @property
    def content_length(self) -> int | None: ...
    @property
    def framed(self) -> bool: ...
    def __aiter__(self) -> AsyncIterator[bytes]: ...
    async def aclose(self) -> None: ...


class Buffers:
    """What all fills together have in memory, for as long as a client still reads it."""

    def __init__(self, bytes_max: int) -> None:
        self.bytes_max = bytes_max
        self.bytes_used = 0

    @property
    def full(self) -> bool:
        return self.bytes_used > self.bytes_max


async def gathered(answer: Fetched, bytes_max: int, buffers: Buffers) -> bytes | None:
    """The whole body; None where it is longer than ``bytes_max`` or there is no room for it. Raises
    Problem. The answer is the caller's to close."""
    pieces, size = [], 0
    try:
        async for piece in answer:
            size += len(piece)
            buffers.bytes_used += len(piece)
            if size > bytes_max or buffers.full:
                return None
            pieces.append(piece)
    finally:
        buffers.bytes_used -= size
    return b"".join(pieces)


class Fill:
    """Reads one answer for the cache, and for the one client that waits for it.

    Up to ``bytes_max``, and while there is room in ``buffers``, it goes at the upstream's speed,
    whatever the client takes, and on after the client left. Beyond that it is no longer kept, and
    goes at the client's; ``given_up`` is called at that moment. Whoever doesn't iterate over
    ``pieces`` to its end calls ``abandon``.
    """

    def __init__(
        self,
        answer: Fetched,
        bytes_max: int,
        buffers: Buffers,
        whole: Callable[[bytes], None],
        given_up: Callable[[], None] = lambda: None,
    ) -> None:
        self._answer = answer
        self._given_up = given_up
        self._buffers = buffers
        self._held = 0
        self._bytes_max = bytes_max
        self._whole = whole
        self._pieces: list[bytes] = []
        self._read = 0
        self._size = 0
        self._changed = asyncio.Event()
        self._taken = asyncio.Event()
        self._left = False
        self._error: BaseException | None = None
        self.keeps = True
        self.done = False

    async def run(self) -> None:
        """Read to the end; ``whole`` is called with the body before anyone sees its end."""
        try:
            async for piece in self._answer:
                await self._take(piece)
                if self._left and not self.keeps:
                    return
            if self.keeps:
                self._whole(b"".join(self._pieces))
        except BaseException as error:
            self._error = error
            if not isinstance(error, Exception):
                raise
        finally:
            self.done = True
            self._changed.set()
            self._let_go()
            await self._answer.aclose()

    async def _take(self, piece: bytes) -> None:
        self._size += len(piece)
        self._pieces.append(piece)
        self._held += len(piece)
        self._buffers.bytes_used += len(piece)
        self._changed.set()
        if self.keeps and self._size <= self._bytes_max and not self._buffers.full:
            return
        if self.keeps:
            self.keeps = False
            self._given_up()
        while self._read < len(self._pieces) and not self._left:
            self._taken.clear()
            await self._taken.wait()
        self._pieces.clear()
        self._read = 0
        self._buffers.bytes_used -= self._held
        self._held = 0

    def _let_go(self) -> None:
        """Once it is read to the end and nobody takes the body any more."""
        if self.done and self._left:
            self._buffers.bytes_used -= self._held
            self._held = 0

    def abandon(self) -> None:
        """Nobody wants the body but the cache."""
        self._left = True
        self._taken.set()
        self._let_go()

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        """The body, for its client. Raises what the reading raised, after all that came."""
        try:
            while True:
                while self._read < len(self._pieces):
                    piece = self._pieces[self._read]
                    self._read += 1
                    yield piece
                    self._taken.set()
                if self.done:
                    break
                self._changed.clear()
                await self._changed.wait()
            if self._error is not None:
                raise self._error
        finally:
            self.abandon()


class Flight:
    """One fetch that others wait for."""

    def __init__(self) -> None:
        self._landed = asyncio.Event()

    def land(self) -> None:
        """It is kept, or will not be: those who waited go on."""
        self._landed.set()

    async def landed(self) -> None:
        await self._landed.wait()


FlightKey: TypeAlias = tuple[object, ...]


class Flights:
    """Who fetches what, so that one fetch does for all (collapsed forwarding), and for which URIs
    that would be in vain. ``waited``: how many requests waited for another's."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._under_way: dict[FlightKey, Flight] = {}
        self._unshareable: OrderedDict[FlightKey, float] = OrderedDict()
        self.waited = 0

    def under_way(self, key: FlightKey) -> Flight | None:
        return self._under_way.get(key)

    def begin(self, key: FlightKey) -> Flight | None:
        """A flight of the caller's own; None where there is one, or none would help."""
        if key in self._under_way or self.unshareable(key):
            return None
        flight = self._under_way[key] = Flight()
        return flight

    def end(self, key: FlightKey, flight: Flight | None) -> None:
        if flight is not None:
            if self._under_way.get(key) is flight:
                del self._under_way[key]
            flight.land()

    def unshareable(self, key: FlightKey) -> bool:
        until = self._unshareable.get(key)
        if until is None:
            return False
        if until > self._now():
            return True
        del self._unshareable[key]
        return False

    def note(self, key: FlightKey, *, shareable: bool) -> None:
        """What the head of an answer showed."""
        if shareable:
            self._unshareable.pop(key, None)
            return
        self._unshareable[key] = self._now() + UNSHAREABLE_S
        self._unshareable.move_to_end(key)
        while len(self._unshareable) > UNSHAREABLE_MAX:
            self._unshareable.popitem(last=False)
