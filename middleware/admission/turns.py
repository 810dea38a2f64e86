"""Turns at work: a cap, a short queue by priority, and refusals that cost little."""

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from aiohttp import web

from middleware.admission.rules import (
    TICK_S,
    AdmissionPolicy,
    Limit,
    Priority,
    Shed,
    expected_wait_s,
)
from middleware.problems import Handler, Middleware, Problem, ProblemType
from middleware.tasks import ended_by

RATE_MEMORY = 0.8
"""Of the rate of endings, kept from tick to tick: it follows within a second."""


BUSY_PER_S = 1.0
"""Fewer requests than this are nobody's rush."""


class Admission:
    """A cap on requests at work at once. One more waits its turn, orders before reads, or is shed
    with 503 before anything of it is read.

    ``running``, ``waiting``, ``shed`` and ``lag_s`` are for metrics; nothing is admitted while
    ``running`` is at the limit or above (where many that stood ``aside`` are back at once).
    """

    def __init__(
        self,
        policy: AdmissionPolicy,
        priority_of: Callable[[web.BaseRequest], Priority] = lambda _: Priority.READ,
        *,
        retry_after_s: int = 1,
    ) -> None:
        self.limit = Limit(policy)
        self.priority_of = priority_of
        self.retry_after_s = retry_after_s
        self.running = 0
        self.lag_s = 0.0
        self.shed: Counter[tuple[Priority, Shed]] = Counter()
        self._most = self.limit.value
        self._queues: tuple[deque[asyncio.Future[bool]], ...] = tuple(deque() for _ in Priority)
        self.waiting = 0
        self._reached = False
        self._peak = 0
        self._ended = 0
        self._took_s = 0.0
        self._per_s = 0.0

    def apply(self, policy: AdmissionPolicy) -> None:
        """Another policy, from the next request on."""
        self.limit.apply(policy)
        self._most = self.limit.value
        self._wake()

    def middleware(self) -> Middleware:
        """The middleware. Its Problem needs ``problems`` further out."""

        @web.middleware
        async def middleware(request: web.BaseRequest, handler: Handler) -> web.StreamResponse:
            if self.running < self._most and not self.waiting:
                self.running += 1
                if self.running > self._peak:
                    self._peak = self.running
            else:
                await self._turn(self.priority_of(request))
            began = asyncio.get_running_loop().time()
            try:
                return await handler(request)
            finally:
                self._ended += 1
                self._took_s += asyncio.get_running_loop().time() - began
                self._leave()

        return middleware

    @contextmanager
    def aside(self) -> Iterator[None]:
        """While a request that was admitted only waits, its place is another's. Whoever uses this
        limits how many wait."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        self._leave()
        try:
            yield
        finally:
            self.running += 1
            self._took_s -= loop.time() - began  # it did not work for so long

    @property
    def is_full(self) -> bool:
        """Whether one more would have to wait."""
        return self.running >= self._most

    def is_pressed(self) -> bool:
        """Whether work that can as well be left undone should be."""
        return self.waiting > 0 or self.is_full or self.lag_s > self._policy.lag_s

    def is_busy(self) -> bool:
        """Whether requests come in at all."""
        return self.running > 0 or self._per_s > BUSY_PER_S

    async def run(self) -> None:
        """For ever: measure how late the loop is, and let the limit follow. A duty."""
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            await asyncio.sleep(TICK_S)
            self.tick(loop.time() - began - TICK_S)

    def tick(self, lag_s: float) -> None:
        """One step of ``run``."""
        self.lag_s = max(0.0, lag_s)
        latency_s = max(0.0, self._took_s / self._ended) if self._ended else None
        fresh = self._ended / (TICK_S + self.lag_s)
        self._per_s = RATE_MEMORY * self._per_s + (1 - RATE_MEMORY) * fresh
        self.limit.tick(
            lag_s=self.lag_s,
            latency_s=latency_s,
            reached=self._reached,
            most=self._most if self._reached else self._peak,
        )
        self._most = self.limit.value
        self._ended, self._took_s, self._reached = 0, 0.0, self.waiting > 0
        self._peak = self.running
        self._wake()

    @property
    def _policy(self) -> AdmissionPolicy:
        return self.limit.policy

    # --- the queue ---

    async def _turn(self, priority: Priority) -> None:
        """Wait until it is this one's turn. Raises Problem where it won't be in time."""
        self._reached = True
        self._make_room(priority)
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[bool] = loop.create_future()
        self._queues[priority].append(turn)
        self.waiting += 1
        try:
            await ended_by(turn, loop.time() + self._policy.queue_s)
        except asyncio.CancelledError:
            self._give_up(priority, turn)
            raise
        if not turn.done():
            self._give_up(priority, turn)
            raise self._refusal(priority, Shed.WAITED)
        if not turn.result():
            raise self._refusal(priority, Shed.OUTRANKED)

    def _make_room(self, priority: Priority) -> None:
        """Raises Problem where there is no place in the queue, or none that helps."""
        ahead = sum(len(self._queues[each]) for each in Priority if each <= priority)
        if expected_wait_s(ahead, self._per_s) > self._policy.queue_s:
            raise self._refusal(priority, Shed.LATE)
        if self.waiting < self._policy.queue_max:
            return
        for lower in reversed(Priority):
            if lower > priority and self._queues[lower]:
                self._queues[lower].pop().set_result(False)
                self.waiting -= 1
                return
        raise self._refusal(priority, Shed.FULL)

    def _give_up(self, priority: Priority, turn: asyncio.Future[bool]) -> None:
        if not turn.done():
            self._queues[priority].remove(turn)
            self.waiting -= 1
        elif turn.result():
            self._leave()

    def _leave(self) -> None:
        self.running -= 1
        if self.waiting:
            self._wake()

    def _wake(self) -> None:
        while self.waiting and self.running < self._most:
            turn = next(queue for queue in self._queues if queue).popleft()
            self.waiting -= 1
            self.running += 1
            turn.set_result(True)

    def _refusal(self, priority: Priority, why: Shed) -> Problem:
        self.shed[priority, why] += 1
        return Problem.of(
            ProblemType.OVERLOADED,
            "Nothing was done. Repeat the same request a little later.",
            members={"reason": why.value},
            headers={"Retry-After": str(self.retry_after_s)},
            repeat_is_safe=True,
        )
