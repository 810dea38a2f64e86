"""Who waits for a turn at work: by priority, for a short while, and not where a jam stands."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence

from middleware.admission.rules import AdmissionPolicy, Priority, Shed, may_wait
from middleware.tasks import ended_by


class Queue:
    """A jam begins where somebody has to wait, and is over once nobody waits any more and nobody
    was refused for ``queue_s``. ``give_back()``: a place was given to one who has left."""

    def __init__(self, policy: AdmissionPolicy, give_back: Callable[[], None]) -> None:
        self.policy = policy
        self.waiting = 0
        self._give_back = give_back
        self._lines: tuple[deque[asyncio.Future[bool]], ...] = tuple(deque() for _ in Priority)
        self._jammed_since: float | None = None
        self._refused_at = -1e9

    def before(self, priority: Priority) -> int:
        """How many of those who wait go before one more of this priority."""
        count = 0
        for line in self._lines[: priority + 1]:
            count += len(line)
        return count

    def foreseen(
        self, priority: Priority, *, over: int, per_s: float, passing_per_s: float
    ) -> Shed | None:
        """Why one more need not wait; None where it may. ``over``: how many more than there are
        places for are at work, or on their way. ``per_s``: how many end in a second, 0 where that
        is not known. ``passing_per_s``: how many will go before it in a second that come later."""
        before = self.before(priority)
        if before == self.waiting and over + before >= self.policy.queue_max:
            return Shed.FULL
        standing_s = self._standing_s(_now())
        may = may_wait(self.policy, over + before, per_s, standing_s, passing_per_s)
        return None if may else Shed.LATE

    def refused(self) -> None:
        """Somebody was, with or without having waited."""
        self._refused_at = _now()
        if self._jammed_since is None:
            self._jammed_since = self._refused_at

    async def wait(self, priority: Priority) -> Shed | None:
        """Until it is this one's turn, and then a place was taken for it; or why it won't be."""
        if self.waiting >= self.policy.queue_max:
            self._outrank(priority)
        now = _now()
        if self._jammed_since is None:
            self._jammed_since = now
        turn: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._lines[priority].append(turn)
        self.waiting += 1
        try:
            await ended_by(turn, now + self.policy.queue_s)
        except asyncio.CancelledError:
            if not turn.done():
                self._leave(priority, turn)
            elif turn.result():
                self._give_back()
            raise
        if not turn.done():
            self._leave(priority, turn)
            return Shed.WAITED
        return None if turn.result() else Shed.OUTRANKED

    def let_in(self, rooms: Sequence[int], running: int) -> int:
        """Give places while there are any; ``rooms``: up to how many at work, by priority. How many
        are at work then."""
        while self.waiting:
            priority = next(each for each in Priority if self._lines[each])
            if running >= rooms[priority]:
                break
            running += 1
            turn = self._lines[priority].popleft()
            self._one_fewer()
            turn.set_result(True)
        return running

    def _outrank(self, priority: Priority) -> None:
        """The last of the lowest has to go; ``foreseen`` has seen that there is one."""
        lower = (self._lines[each] for each in reversed(Priority) if each > priority)
        next(line for line in lower if line).pop().set_result(False)
        self._one_fewer()

    def _leave(self, priority: Priority, turn: asyncio.Future[bool]) -> None:
        self._lines[priority].remove(turn)
        self._one_fewer()

    def _one_fewer(self) -> None:
        self.waiting -= 1
        if not self.waiting and _now() - self._refused_at > self.policy.queue_s:
            self._jammed_since = None

    def _standing_s(self, now: float) -> float:
        if not self.waiting and now - self._refused_at > self.policy.queue_s:
            self._jammed_since = None
        return 0.0 if self._jammed_since is None else now - self._jammed_since


def _now() -> float:
    return asyncio.get_running_loop().time()
