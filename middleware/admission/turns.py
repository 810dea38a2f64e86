"""Turns at work: a cap, a short queue by priority, and refusals that cost little."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from aiohttp import web

from middleware.admission.queue import Queue
from middleware.admission.rules import (
    KEPT_TICKS,
    RATE_MEMORY,
    SAMPLE_S,
    SAMPLES_MIN,
    TICK_S,
    AdmissionPolicy,
    Limit,
    Priority,
    Shed,
    rooms,
    usual_s,
)
from middleware.bodies import PLACE
from middleware.problems import BEGAN, Handler, Middleware, Problem, ProblemType

AT_ONCE = 256
"""More don't come in one turn of the loop."""

BUSY_PER_S = 1.0
"""Fewer requests than this are nobody's rush."""


@dataclass(slots=True)
class _Idle:
    """For how long a request that is at work only waited: that is not how long its work takes."""

    seconds: float = 0.0


_IDLE: ContextVar[_Idle | None] = ContextVar("idle", default=None)


@contextmanager
def _idling() -> Iterator[None]:
    idle, time = _IDLE.get(), asyncio.get_running_loop().time
    began = time()
    try:
        yield
    finally:
        if idle is not None:
            idle.seconds += time() - began


class Admission:
    """A cap on requests at work at once. One more waits its turn, orders before reads, or is shed
    with 503 before anything of it is read. ``delay_s()``: for how long the oldest that waits for
    another worker of this process has waited.

    ``running``, ``waiting``, ``bodies`` (requests whose body is waited for), ``shed`` and
    ``lag_s`` are for metrics; nothing is admitted while ``running`` is at the limit or above
    (where many that stood ``aside`` are back at once).
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
        self._queue = Queue(policy, self._leave)
        self._kept_ticks = 0
        self._rooms = rooms(self.limit.value, kept=False)
        self._reached = self._was_reached = False
        self._coming = 0
        self.bodies = 0
        self._paced = 0
        self._peak = 0
        self._ended = 0
        self._took_s = 0.0
        self._per_s = 0.0
        self._full_per_s = 0.0
        self._orders_pressed = 0
        self._orders_pressed_per_s = 0.0

    @property
    def waiting(self) -> int:
        return self._queue.waiting

    def apply(self, policy: AdmissionPolicy) -> None:
        """Another policy, from the next request on."""
        self.limit.apply(policy)
        self._queue.policy = policy
        self._make_rooms()

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
            request[PLACE] = self
            idle = _Idle()
            _IDLE.set(idle)
            try:
                return await handler(request)
            finally:
                self.ended(time() - began - idle.seconds)

        return middleware

    def enter(self) -> bool:
        """Take a place, where there is one at once. Whoever does says ``ended``."""
        if not self.is_open:
            return False
        self._take_place()
        return True

    def ended(self, took_s: float) -> None:
        """A request that had a place is done."""
        self._ended += 1
        self._took_s += took_s
        self._leave()

    @asynccontextmanager
    async def background(self) -> AsyncIterator[None]:
        """At work for nobody who waits: after everybody else. Raises Problem where there is too
        much to do."""
        await self._turn(Priority.BACKGROUND)
        began = asyncio.get_running_loop().time()
        try:
            yield
        finally:
            self.ended(asyncio.get_running_loop().time() - began)

    @contextmanager
    def aside(self) -> Iterator[None]:
        """While a request that was admitted only waits, its place is another's. Whoever uses this
        limits how many wait."""
        self._leave()
        try:
            with _idling():
                yield
        finally:
            self.running += 1

    @contextmanager
    def at_the_clients_pace(self) -> Iterator[None]:
        """The same while a body is passed on, of as many as may be at work at the most."""
        if self._paced >= self._policy.requests_max:
            yield
            return
        self._paced += 1
        try:
            with self.aside():
                yield
        finally:
            self._paced -= 1

    @asynccontextmanager
    async def body_comes(self, request: web.BaseRequest) -> AsyncIterator[None]:
        """While a request that was admitted waits for its body, its place is another's; then it
        takes its turn once more. Raises Problem where too many wait so, or it is no longer time."""
        priority = self.priority_of(request)
        most = self._policy.bodies_max
        if self.bodies >= (most if priority is Priority.ORDER else most - most // 4):
            self.turned_off(priority, Shed.FULL, 1)
            raise self.problem(Shed.FULL)
        self.bodies += 1
        self._leave()
        try:
            with _idling():
                try:
                    yield
                finally:
                    self.bodies -= 1
                await self._turn(priority)
        except BaseException:
            self.running += 1  # it ends as one at work
            raise

    def turn_off(self, priority: Priority) -> Shed | None:
        """Why one more is to be refused at once: then ``turned_off`` is told of it. None where
        there is a place for it, at work or in the queue: then it comes in this turn of the loop."""
        why = self._foreseen(priority)
        if why is not None:
            return why
        if not self._coming:
            asyncio.get_running_loop().call_soon(self._all_have_come)
        self._coming += 1
        return None

    def turned_off(self, priority: Priority, why: Shed, count: int) -> None:
        """So many were refused."""
        self.shed[priority, why] += count
        self._press(priority, count)
        self._queue.refused()

    def _all_have_come(self) -> None:
        self._coming = 0

    @property
    def is_open(self) -> bool:
        """Whether one more, whatever it is, would be at work at once."""
        return self.running < self._rooms[Priority.READ] and not self._queue.waiting

    @property
    def is_vacant(self) -> bool:
        """The same beside those who were let in and are on their way."""
        room = self._rooms[Priority.READ]
        return self.running + self._coming < room and not self._queue.waiting

    @property
    def is_wide_open(self) -> bool:
        """Whether all who can come in one turn of the loop would be at work at once."""
        room = self._rooms[Priority.READ]
        return self.running + AT_ONCE < room and not self._queue.waiting

    def is_pressed(self) -> bool:
        """Whether work that can as well be left undone should be."""
        return not self.is_open or self.lag_s > self._policy.lag_s

    def is_busy(self) -> bool:
        """Whether requests come in at all."""
        return self.running > 0 or self._per_s > BUSY_PER_S

    # --- the limit follows ---

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
        pressed = RATE_MEMORY * self._orders_pressed_per_s
        self._orders_pressed_per_s = pressed + (1 - RATE_MEMORY) * self._orders_pressed / over_s
        self._orders_pressed = 0
        self.limit.tick(
            lag_s=self.lag_s,
            delay_s=delay_s,
            latency_s=latency_s,
            reached=self._reached,
            most=self.limit.value if self._reached else self._peak,
        )
        self._ended, self._took_s, self._reached = 0, 0.0, self._queue.waiting > 0
        self._peak = self.running
        self._kept_ticks = max(0, self._kept_ticks - 1)
        self._make_rooms()

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

    def _make_rooms(self) -> None:
        self._rooms = rooms(self.limit.value, kept=self._kept_ticks > 0)
        self._wake()

    @property
    def _policy(self) -> AdmissionPolicy:
        return self.limit.policy

    # --- who is at work ---

    async def _turn(self, priority: Priority) -> None:
        """Wait until it is this one's turn. Raises Problem where it won't be in time."""
        if self.running < self._rooms[priority] and not self._queue.before(priority):
            self._take_place()
            return
        why = self._foreseen(priority)
        if why is None:
            self._press(priority)
            why = await self._queue.wait(priority)
        if why is not None:
            self.turned_off(priority, why, 1)
            raise self.problem(why)

    def _foreseen(self, priority: Priority) -> Shed | None:
        over = self.running + self._coming - self._rooms[priority]
        if over < 0 and not self._queue.before(priority):
            return None
        return self._queue.foreseen(
            priority,
            over=max(0, over),
            per_s=self._full_per_s,
            passing_per_s=0.0 if priority is Priority.ORDER else self._orders_pressed_per_s,
        )

    def _press(self, priority: Priority, count: int = 1) -> None:
        """There was not enough room at once."""
        self._reached = True
        if priority is Priority.ORDER:
            self._kept_ticks = KEPT_TICKS
            self._orders_pressed += count

    def _take_place(self) -> None:
        self.running += 1
        if self.running > self._peak:
            self._peak = self.running

    def _leave(self) -> None:
        self.running -= 1
        if self._queue.waiting:
            self._wake()

    def _wake(self) -> None:
        self.running = self._queue.let_in(self._rooms, self.running)

    def problem(self, why: Shed) -> Problem:
        """What is told to who was refused."""
        return Problem.of(
            ProblemType.OVERLOADED,
            "Nothing was done. Repeat the same request a little later.",
            members={"reason": why.value},
            headers={"Retry-After": str(self.retry_after_s)},
            repeat_is_safe=True,
        )
