"""Rate limits: so many requests in a while for one client, counted by ``limits``.

The fields are those of draft-ietf-httpapi-ratelimit-headers: what is allowed, and what is left.
"""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from typing import TypeAlias

from aiohttp import web
from limits import RateLimitItem
from limits.aio.storage import MemoryStorage, Storage
from limits.aio.strategies import SlidingWindowCounterRateLimiter
from limits.errors import StorageError

from middleware.problems import Handler, Middleware, Problem, ProblemType, stamp
from middleware.tasks import Tasks, TasksClosed

STORE_S_MAX = 0.25
"""What a request waits for a shared store. While one is away, or has too much to do, this process
counts for itself: a limit protects the shop, and must neither close it nor open in a rush."""

AWAY_S = 1.0
"""A store that did not answer is left alone for so long: nobody else waits for it."""

CLOSE_S = 1.0

KEYS_MAX = 100_000
"""Counters in memory, some 400 bytes each. More are forgotten all at once."""

ENDED_MAX = 16
"""Of them, looked for at one request: no more than one is added."""


@dataclass(frozen=True, slots=True)
class Rate:
    """``amount`` requests in ``window_s`` seconds, for each ``who`` of this ``name``."""

    name: str
    item: RateLimitItem
    who: str

    @property
    def amount(self) -> int:
        return self.item.amount

    @property
    def window_s(self) -> int:
        return self.item.get_expiry()


class Counters(MemoryStorage):
    """In this process, at a cost that doesn't grow with how many there are: the library's own walks
    through all of them at each request to find what has run out. Nothing here waits between reading
    a counter and writing it, so there is nothing to lock."""

    def __init__(self) -> None:
        super().__init__()
        self._ends: list[tuple[float, str]] = []

    async def incr(self, key: str, expiry: float, amount: int = 1) -> int:
        now = time.time()
        for _ in range(ENDED_MAX):
            if not self._ends or self._ends[0][0] > now:
                break
            await self.get(heappop(self._ends)[1])  # which forgets what has run out
        count = await self.get(key) + amount
        self.storage[key] = count
        if count == amount:
            self.expirations[key] = now + expiry
            heappush(self._ends, (now + expiry, key))
        return count

    def forget(self) -> None:
        self.storage.clear()
        self.expirations.clear()
        self._ends.clear()


RatesOf: TypeAlias = Callable[[web.BaseRequest], Sequence[Rate]]


class RateLimiter:
    """Counts in ``storage``, which others share, or in this process. ``refused`` is told the name
    of each rate that was exceeded, and ``trouble`` why the store did not answer."""

    def __init__(
        self,
        storage: Storage | None = None,
        *,
        close_storage: Callable[[], Awaitable[None]] | None = None,
        refused: Callable[[str], None],
        trouble: Callable[[str], None],
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._own = Counters()
        self._counting = SlidingWindowCounterRateLimiter(self._own)
        self._shared = None if storage is None else SlidingWindowCounterRateLimiter(storage)
        self._is_away = False
        self._away_until = float("-inf")
        self._close_storage = close_storage
        self._refused = refused
        self._trouble = trouble
        self._wall = wall
        self._tasks = Tasks(lambda _name, _error: None)  # who waits is told

    def middleware(self, rates_of: RatesOf) -> Middleware:
        """Middleware: 429 where a rate is exceeded. Its Problem needs ``problems`` further out."""

        @web.middleware
        async def middleware(request: web.BaseRequest, handler: Handler) -> web.StreamResponse:
            rates = rates_of(request)
            if rates:
                await self._check(request, rates)
            return await handler(request)

        return middleware

    async def close(self) -> None:
        """Let go of a shared store."""
        await self._tasks.close(CLOSE_S)
        if self._close_storage is not None:
            await self._close_storage()

    async def _check(self, request: web.BaseRequest, rates: Sequence[Rate]) -> None:
        found = await self._count(rates)
        fields = {
            "RateLimit-Policy": ", ".join(
                f'"{rate.name}";q={rate.amount};w={rate.window_s}' for rate in rates
            ),
            "RateLimit": ", ".join(
                f'"{rate.name}";r={left};t={reset_s}' for rate, _, left, reset_s in found
            ),
        }
        over = [(rate, reset_s) for rate, allowed, _, reset_s in found if not allowed]
        if over:
            for rate, _ in over:
                self._refused(rate.name)
            raise _too_many(fields, over)
        for name, value in fields.items():
            stamp(request, name, value)

    async def _count(self, rates: Sequence[Rate]) -> list[tuple[Rate, bool, int, int]]:
        """Each rate; whether it is allowed, what is left, and in how many seconds there is more."""
        now = asyncio.get_running_loop().time()
        if self._shared is not None and now >= self._away_until:
            if self._is_away:  # one tries it
                self._away_until = now + STORE_S_MAX
            try:
                found = await self._count_together(self._shared, rates)
            except (StorageError, OSError, TimeoutError, TasksClosed) as error:
                self._is_away, self._away_until = True, now + AWAY_S
                why = str(error) or type(error).__name__
                self._trouble(f"this process counts for itself, the store does not answer: {why}")
            else:
                self._is_away, self._away_until = False, now
                return found
        self._bound()
        return [(rate, *await self._hit(self._counting, rate)) for rate in rates]

    async def _count_together(
        self, limiter: SlidingWindowCounterRateLimiter, rates: Sequence[Rate]
    ) -> list[tuple[Rate, bool, int, int]]:
        """A shared store is asked to the end, though nobody waits for it: a connection that is
        broken off while it opens is begun anew by the next request, and never opens."""
        hits = [
            self._tasks.start(self._hit(limiter, rate), name="count a request") for rate in rates
        ]
        async with asyncio.timeout(STORE_S_MAX):
            said = await asyncio.shield(asyncio.gather(*hits))
        return [(rate, *each) for rate, each in zip(rates, said, strict=True)]

    async def _hit(
        self, limiter: SlidingWindowCounterRateLimiter, rate: Rate
    ) -> tuple[bool, int, int]:
        allowed = await limiter.hit(rate.item, rate.name, rate.who)
        stats = await limiter.get_window_stats(rate.item, rate.name, rate.who)
        reset_s = max(1, math.ceil(stats.reset_time - self._wall()))
        return allowed, max(0, stats.remaining), min(reset_s, rate.window_s)

    def _bound(self) -> None:
        if len(self._own.storage) > KEYS_MAX:
            self._own.forget()
            self._trouble("too many clients at once: all counts are forgotten")


def _too_many(fields: dict[str, str], over: Sequence[tuple[Rate, int]]) -> Problem:
    return Problem.of(
        ProblemType.TOO_MANY_REQUESTS,
        "Nothing was done. Repeat the same request, unchanged, after Retry-After.",
        members={"limits": [rate.name for rate, _ in over]},
        headers={"Retry-After": str(max(reset_s for _, reset_s in over)), **fields},
        repeat_is_safe=True,
    )
