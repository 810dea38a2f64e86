"""Turns at work: a cap, a short queue by priority, and refusals that cost little."""

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from aiohttp import web

from middleware.admission.rules import (
    SAMPLE_S,
    SAMPLES_MIN,
    TICK_S,
    AdmissionPolicy,
    Limit,
    Priority,
    Shed,
    expected_wait_s,
    patience_s,
    usual_s,
)
from middleware.problems import BEGAN, Handler, Middleware, Problem, ProblemType
from middleware.tasks import ended_by

RATE_MEMORY = 0.8
"""Of the rate of endings, kept from tick to tick: it follows within a second."""


AT_ONCE = 256
"""More don't come in one turn of the loop."""

FORESEEN = 0.5
"""Of the patience: who is let in to wait should not have waited in vain, and endings come in
bursts."""

BUSY_PER_S = 1.0
"""Fewer requests than this are nobody's rush."""


class Admission:
    """A cap on requests at work at once. One more waits its turn, orders before reads, or is shed
    with 503 before anything of it is read. ``delay_s()``: for how long the oldest that waits for
    another worker of this process has waited.

    ``running``, ``waiting``, ``shed`` and ``lag_s`` are for metrics; nothing is admitted while
    ``running`` is at the limit or above (where many that stood ``aside`` are back at once).
    ``sample_s``: how often ``run`` measures the lag.
    """

    def __init__(
        self,
        policy: AdmissionPolicy,
        priority_of: Callable[[web.BaseRequest], Priority] = lambda _: Priority.READ,
        *,
        retry_after_s: int = 1,
        delay_s: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self._delay_s = delay_s
        self.limit = Limit(policy)
        self.priority_of = priority_of
        self.retry_after_s = retry_after_s
        self.running = 0
        self.lag_s = 0.0
        self.sample_s = SAMPLE_S
        self.shed: Counter[tuple[Priority, Shed]] = Counter()
        self._most = self.limit.value
        self._queues: tuple[deque[asyncio.Future[bool]], ...] = tuple(deque() for _ in Priority)
        self.waiting = 0
        self._jammed_since = 0.0
        self._queue_ended_at = -1e9
        self._reached = self._was_reached = False
        self._coming = 0
        self._peak = 0
        self._ended = 0
        self._took_s = 0.0
        self._per_s = 0.0
        self._full_per_s = 0.0

    def apply(self, policy: AdmissionPolicy) -> None:
        """Another policy, from the next request on."""
        self.limit.apply(policy)
        self._most = self.limit.value
        self._wake()

    def middleware(self) -> Middleware:
        """The middleware. Its Problem needs ``problems`` further out."""

        @web.middleware
        async def middleware(request: web.BaseRequest, handler: Handler) -> web.StreamResponse:
            time = asyncio.get_running_loop().time
            began = request.get(BEGAN)
            if began is None:
                if not self.enter():
                    await self._turn(self.priority_of(request))
                began = time()
            try:
                return await handler(request)
            finally:
                self.ended(time() - began)

        return middleware

    def enter(self) -> bool:
        """Take a place, where there is one at once. Whoever does says ``ended``."""
        if self.running >= self._most or self.waiting:
            return False
        self.running += 1
        if self.running > self._peak:
            self._peak = self.running
        return True

    def ended(self, took_s: float) -> None:
        """A request that had a place is done."""
        self._ended += 1
        self._took_s += took_s
        self._leave()

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

    def turn_off(self, priority: Priority) -> Shed | None:
        """Why one more is to be refused at once: then ``turned_off`` is told of it. None where
        there is a place for it, at work or in the queue: then it comes in this turn of the loop."""
        if self.waiting or self.running + self._coming >= self._most:
            why = self._foreseen(priority)
            if why is not None:
                return why
        if not self._coming:
            asyncio.get_running_loop().call_soon(self._all_have_come)
        self._coming += 1
        return None

    def turned_off(self, priority: Priority, why: Shed, count: int) -> None:
        """So many were refused."""
        self._reached = True
        self.shed[priority, why] += count

    def _all_have_come(self) -> None:
        self._coming = 0

    @property
    def is_open(self) -> bool:
        """Whether one more would be at work at once."""
        return self.running < self._most and not self.waiting

    @property
    def is_vacant(self) -> bool:
        """The same beside those who were let in and are on their way."""
        return self.running + self._coming < self._most and not self.waiting

    @property
    def is_wide_open(self) -> bool:
        """Whether all who can come in one turn of the loop would be at work at once."""
        return self.running + AT_ONCE < self._most and not self.waiting

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
            began = now = loop.time()
            lags: list[float] = []
            delays: list[float] = []
            while now - began < TICK_S or len(lags) < SAMPLES_MIN:
                asked = now
                await asyncio.sleep(self.sample_s)
                now = loop.time()
                lags.append(now - asked - self.sample_s)
                delays.append(self._delay_s())
            self.tick(usual_s(lags), now - began, usual_s(delays))

    def tick(self, lag_s: float, over_s: float = TICK_S, delay_s: float = 0.0) -> None:
        """One step of ``run``: how late the loop usually was in the ``over_s`` since the last, and
        how long the oldest usually waited for the other worker."""
        self.lag_s = max(0.0, lag_s)
        latency_s = max(0.0, self._took_s / self._ended) if self._ended else None
        fresh = self._ended / over_s
        self._per_s = RATE_MEMORY * self._per_s + (1 - RATE_MEMORY) * fresh
        self._note_full_rate(fresh)
        self.limit.tick(
            lag_s=self.lag_s,
            delay_s=delay_s,
            latency_s=latency_s,
            reached=self._reached,
            most=self._most if self._reached else self._peak,
        )
        self._most = self.limit.value
        self._ended, self._took_s, self._reached = 0, 0.0, self.waiting > 0
        self._peak = self.running
        self._wake()

    def _note_full_rate(self, fresh_per_s: float) -> None:
        """How many end in a second is known only while there is enough to do, and soon forgotten:
        before a crowd came there were few because few were asked."""
        if not self._reached:
            self._full_per_s = 0.0
        elif self._full_per_s:
            before = RATE_MEMORY * self._full_per_s
            self._full_per_s = before + (1 - RATE_MEMORY) * fresh_per_s
        elif self._was_reached:
            self._full_per_s = fresh_per_s
        self._was_reached = self._reached

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
        if not self.waiting and loop.time() - self._queue_ended_at > self._policy.queue_s:
            self._jammed_since = loop.time()
        self.waiting += 1
        try:
            await ended_by(turn, loop.time() + self._patience_s())
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
        why = self._foreseen(priority)
        if why is not None:
            raise self._refusal(priority, why)
        if self.waiting >= self._policy.queue_max:
            self._lower(priority).pop().set_result(False)
            self._one_fewer()

    def _foreseen(self, priority: Priority) -> Shed | None:
        ahead = max(0, self.running + self._coming - self._most)
        lower = self.waiting
        for queue in self._queues[: priority + 1]:
            lower -= len(queue)
            ahead += len(queue)
        if not lower and ahead >= self._policy.queue_max:
            return Shed.FULL
        late = expected_wait_s(ahead, self._full_per_s) > FORESEEN * self._patience_s()
        return Shed.LATE if late else None

    def _lower(self, priority: Priority) -> deque[asyncio.Future[bool]]:
        """The last of the queues whose place one of this priority may take; empty for none."""
        lower = (self._queues[each] for each in reversed(Priority) if each > priority)
        return next((queue for queue in lower if queue), deque())

    def _patience_s(self) -> float:
        now = asyncio.get_running_loop().time()
        if not self.waiting and now - self._queue_ended_at > self._policy.queue_s:
            return self._policy.queue_s
        return patience_s(self._policy, now - self._jammed_since)

    def _one_fewer(self) -> None:
        self.waiting -= 1
        if not self.waiting:
            self._queue_ended_at = asyncio.get_running_loop().time()

    def _give_up(self, priority: Priority, turn: asyncio.Future[bool]) -> None:
        if not turn.done():
            self._queues[priority].remove(turn)
            self._one_fewer()
        elif turn.result():
            self._leave()

    def _leave(self) -> None:
        self.running -= 1
        if self.waiting:
            self._wake()

    def _wake(self) -> None:
        while self.waiting and self.running < self._most:
            turn = next(queue for queue in self._queues if queue).popleft()
            self._one_fewer()
            self.running += 1
            turn.set_result(True)

    def _refusal(self, priority: Priority, why: Shed) -> Problem:
        self.shed[priority, why] += 1
        return self.problem(why)

    def problem(self, why: Shed) -> Problem:
        """What is told to who was refused."""
        return Problem.of(
            ProblemType.OVERLOADED,
            "Nothing was done. Repeat the same request a little later.",
            members={"reason": why.value},
            headers={"Retry-After": str(self.retry_after_s)},
            repeat_is_safe=True,
        )
