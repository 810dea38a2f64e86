"""Which of an upstream's servers is asked next. Pure: time and chance are arguments.

Two servers are drawn, and the one with less under way is taken (the power of two choices): nearly
as good as the least loaded of all, and a herd never runs to the one that has just come back.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class BalancePolicy:
    """``eject_after`` failures in a row put a server aside for ``eject_s``, and for as much
    longer each time in a row, up to ten times that. One that comes back takes its full share
    only after ``slow_start_s``."""

    eject_after: int = 5
    eject_s: float = 10.0
    slow_start_s: float = 10.0
    checks_down: int = 2
    checks_up: int = 2


EJECTIONS_MAX = 10
SHARE_MIN = 0.1
"""Of a server that has just come back."""


@dataclass(slots=True)
class Standing:
    """What is known of one server. Times are the caller's, of one clock."""

    failures: int = 0
    ejections: int = 0
    ejected_until: float = 0.0
    back_since: float = -1e9
    checked_down: bool = False
    checks_alike: int = 0

    def is_out(self, now: float) -> bool:
        return self.checked_down or now < self.ejected_until

    def share(self, now: float, policy: BalancePolicy) -> float:
        """How much of its load it may bear yet: 1 is all."""
        since_s = now - max(self.back_since, self.ejected_until if self.ejections else -1e9)
        if since_s >= policy.slow_start_s:
            return 1.0
        return max(SHARE_MIN, since_s / policy.slow_start_s)

    def ended(self, now: float, policy: BalancePolicy, *, failed: bool) -> bool:
        """A call, or a connect, ended. True: it was just ejected."""
        if not failed:
            self.failures = 0
            if self.ejections and now >= self.ejected_until + policy.slow_start_s:
                self.ejections = 0
            return False
        self.failures += 1
        if self.failures < policy.eject_after or now < self.ejected_until:
            return False
        self.failures = 0
        self.ejections = min(self.ejections + 1, EJECTIONS_MAX)
        self.ejected_until = now + policy.eject_s * self.ejections
        return True

    def checked(self, now: float, policy: BalancePolicy, *, well: bool) -> bool:
        """A health check ended. True: the server is held for up, or down, from now on."""
        if well is not self.checked_down:  # no news
            self.checks_alike = 0
            return False
        self.checks_alike += 1
        if self.checks_alike < (policy.checks_up if well else policy.checks_down):
            return False
        self.checks_alike = 0
        self.checked_down = not well
        if well:
            self.back_since = now
        return True


@dataclass(frozen=True, slots=True)
class Candidate:
    """A server as the choice sees it."""

    busy: int
    share: float = 1.0
    is_out: bool = False

    @property
    def load(self) -> float:
        return (self.busy + 1) / self.share


def order_of_choice(candidates: Sequence[Candidate], draws: tuple[float, float]) -> tuple[int, ...]:
    """Two of the servers in order, the better one first; one where there is no other.

    Where all are out, all count: an upstream without a server is none, and a guess may be wrong.
    ``draws`` are in [0, 1).
    """
    able = [index for index, each in enumerate(candidates) if not each.is_out]
    able = able or list(range(len(candidates)))
    first = able.pop(int(draws[0] * len(able)))
    if not able:
        return (first,)
    second = able[int(draws[1] * len(able))]
    if candidates[second].load < candidates[first].load:
        first, second = second, first
    return (first, second)


def sticky_order(
    names: Sequence[str], candidates: Sequence[Candidate], value: bytes
) -> tuple[int, ...]:
    """The servers in the order in which this value prefers them (rendezvous hashing): when one
    goes, only its own clients move. Those that are out come last."""

    def rank(index: int) -> tuple[bool, bytes]:
        digest = hashlib.blake2b(names[index].encode() + b"\0" + value, digest_size=8).digest()
        return (candidates[index].is_out, digest)

    return tuple(sorted(range(len(names)), key=rank))


@dataclass(slots=True)
class Turn:
    """Servers that were tried for one connection, so that none is tried twice."""

    tried: set[int] = field(default_factory=set)

    def next(self, order: Sequence[int], count: int) -> int | None:
        """The first of ``order`` that was not tried, then any other; None where all were."""
        preferred: tuple[int, ...] = (*order, *range(count))
        for index in preferred:
            if index not in self.tried:
                self.tried.add(index)
                return index
        return None
