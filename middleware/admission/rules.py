"""How many requests may be at work at once, and who comes first. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from math import sqrt

TICK_S = 0.1
"""How often the limit is looked at: some turns of a busy loop, and well under any patience."""

SAMPLE_S = 0.02
SAMPLES_MIN = 2
"""How often the lag is measured, and how often at least before it says anything."""

GROW_FIRST = 1.0
"""A tick, until the loop was late for the first time."""

GROW = 0.25
SHRINK = 0.85
SHRINK_MOST = 0.4
"""Doubled within half a second where there is room; where the loop is late by more than the limit
of lag, shrunk the more (by the root: part of the lag may be refusing and connecting)."""

DELAY_S = 0.1
"""What waits for so long for another worker of this process (the ledger's) is work piled up: the
loop itself may be as quick as ever."""

STANDING_WAIT_S = 0.1
"""The longest wait that is begun in a queue that has not been empty for longer than anybody may
wait in it: it takes up no burst any more, it only makes everybody late (as CoDel tells a good queue
from a bad one). Nobody notices a tenth of a second; a few hundred clients of whom each asks again
at once fit in, and cost less than refusing them time and again."""

FORESEEN = 0.5
"""Of the patience: who is let in to wait should not have waited in vain, and endings come in
bursts."""

RATE_MEMORY = 0.8
"""Of the rate of endings, kept from tick to tick: it follows within a second."""

KEPT_TICKS = 10
KEPT_SHARE = 0.25
"""For a second after an order had to wait or was refused, so much of the places is kept from
everything else: the next order finds one at once, where no queue may stand."""

BACKGROUND_SHARE = 0.5
"""Of the places of reads: what nobody waits for never takes up all."""

TOLERANCE = 2.0
"""Latency may double before it counts as congestion (``adaptive``)."""

NOISE_S = 0.005
"""Of latencies under a few milliseconds doubling says nothing."""

BASELINE_RISE = 1.005
"""A tick: what was normal is forgotten within some minutes, where the upstream has changed."""


class Priority(IntEnum):
    """Lower goes first."""

    ORDER = 0
    READ = 1
    BACKGROUND = 2


class Shed(StrEnum):
    """Why a request was refused. Log field and metric label too."""

    FULL = "full"
    OUTRANKED = "outranked"
    LATE = "late"
    WAITED = "waited"


@dataclass(frozen=True, slots=True)
class AdmissionPolicy:
    """``requests_max`` at work at once; ``queue_max`` more wait for up to ``queue_s``, and the
    bodies of ``bodies_max`` are on their way.

    ``lag_s``: an event loop that is late by more has too much to do, and fewer are let in.
    ``adaptive``: also where requests take twice as long as they used to.
    """

    requests_max: int
    requests_min: int = 64
    queue_max: int = 256
    queue_s: float = 0.5
    bodies_max: int = 4096
    lag_s: float = 0.003
    adaptive: bool = False

    def __post_init__(self) -> None:
        if self.requests_max < 1 or self.queue_max < 0:
            raise ValueError("admission needs room for at least one request")


def usual_s(samples: Sequence[float]) -> float:
    """What the ``samples`` of a tick, two or more, were like: their mean without the largest. One
    long turn is no load; a loop that is late again and again has too much to do."""
    return (sum(samples) - max(samples)) / (len(samples) - 1)


class Limit:
    """How many may be at work: additive increase, multiplicative decrease (AIMD). It begins with
    the fewest: a rush on a process that has just started must not find the door wide open, and a
    crowd that only waits for a slow backend doubles it in each tick."""

    def __init__(self, policy: AdmissionPolicy) -> None:
        self.policy = policy
        self._value = float(self._least)
        self._baseline_s: float | None = None
        self._grow = GROW_FIRST

    @property
    def value(self) -> int:
        return int(self._value)

    def apply(self, policy: AdmissionPolicy) -> None:
        """Another policy; what was found out about the present is kept."""
        self.policy = policy
        self._value = self._within(self._value)

    def tick(
        self,
        *,
        lag_s: float,
        latency_s: float | None,
        reached: bool,
        most: int,
        delay_s: float = 0.0,
    ) -> None:
        """What the last tick was like. ``latency_s``: the mean of what ended in it, if anything
        did. ``reached``: somebody had to wait, or was refused. ``most`` were at work at once:
        a loop that is late with few of them is late for another reason, and they stay."""
        excess = max(lag_s / self.policy.lag_s, delay_s / DELAY_S)
        if excess > 1 or self._is_slow(latency_s):
            if most >= self._least:
                self._grow = GROW
                less = SHRINK if excess <= 1 else min(SHRINK, 1 / sqrt(excess))
                self._value = self._within(min(self._value, most) * max(SHRINK_MOST, less))
        elif reached:
            self._value = self._within(self._value + max(1.0, self._value * self._grow))

    def _is_slow(self, latency_s: float | None) -> bool:
        if not self.policy.adaptive or latency_s is None:
            return False
        if self._baseline_s is None or latency_s < self._baseline_s:
            self._baseline_s = latency_s
            return False
        self._baseline_s *= BASELINE_RISE
        return latency_s > self._baseline_s * TOLERANCE + NOISE_S

    @property
    def _least(self) -> int:
        return min(self.policy.requests_min, self.policy.requests_max)

    def _within(self, value: float) -> float:
        return min(float(self.policy.requests_max), max(float(self._least), value))


def rooms(limit: int, *, kept: bool) -> tuple[int, ...]:
    """Up to how many may be at work for one more to be let in, by its priority. ``kept``: orders
    lately found no place."""
    reads = limit - int(limit * KEPT_SHARE) if kept else limit
    return (limit, reads, max(1, int(reads * BACKGROUND_SHARE)))


def expected_wait_s(ahead: int, per_s: float) -> float:
    """How long whoever has so many before it will wait, at this rate of endings; 0 where that is
    not known."""
    return 0.0 if per_s <= 0 else (ahead + 1) / per_s


def may_wait(
    policy: AdmissionPolicy, ahead: int, per_s: float, standing_s: float, passing_per_s: float = 0.0
) -> bool:
    """Whether one with so many before it may begin to wait, where somebody has waited for
    ``standing_s`` on end. ``passing_per_s``: how many come in a second and go before it, too."""
    if standing_s < policy.queue_s:
        return expected_wait_s(ahead, per_s) <= FORESEEN * policy.queue_s
    left_per_s = per_s - passing_per_s
    if left_per_s <= 0:  # nothing has ended, or not for such as this one: one may see if it does
        return ahead == 0 and passing_per_s <= 0
    return expected_wait_s(ahead, left_per_s) <= min(FORESEEN * policy.queue_s, STANDING_WAIT_S)
