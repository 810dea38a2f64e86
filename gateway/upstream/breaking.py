"""When to leave an upstream alone: a circuit breaker. Pure: time is an argument.

Failures and slow calls are counted over a sliding window. Open, nothing is sent; after a while a
few probes are let through, and they alone decide. An order that fails each time it is tried counts
once: what the upstream chokes on must not close the shop for everybody else.
"""

from collections import OrderedDict
from dataclasses import dataclass
from enum import StrEnum

BUCKETS = 10
"""The window slides in tenths of itself."""

FAILING_ORDERS_MAX = 1024
"""Orders remembered to have failed: more at once are no single order's fault."""

FAILING_ORDER_S = 900.0
"""An order's re-sends come minutes apart; after a quarter of an hour it may count again."""


PROBE_S_MAX = 30.0
"""A probe of which nothing is heard for so long is given up, and another one let through."""


def is_failure(status: int) -> bool:
    """Whether an answer says that the server did not do its work: 5xx but 501."""
    return status >= 500 and status != 501


class BreakerState(StrEnum):
    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class Override(StrEnum):
    """What an operator said. ``auto``: the breaker decides."""

    AUTO = "auto"
    OPEN = "open"
    CLOSED = "closed"


class Verdict(StrEnum):
    ADMIT = "admit"
    PROBE = "probe"
    REFUSE = "refuse"


@dataclass(frozen=True, slots=True)
class BreakerPolicy:
    """``failures``, ``slow``: the share of calls from which on it opens, where there were
    ``calls_min`` in ``window_s``. A call that took ``slow_s`` is slow (None: none is)."""

    failures: float = 0.5
    slow: float = 0.8
    slow_s: float | None = None
    calls_min: int = 20
    window_s: float = 10.0
    open_s: float = 5.0
    probes: int = 3


@dataclass(slots=True)
class _Bucket:
    number: int
    calls: int = 0
    failed: int = 0
    slow: int = 0


@dataclass(frozen=True, slots=True)
class Rates:
    """What the window holds."""

    calls: int
    failed: int
    slow: int


class Breaker:
    """``allows`` before a call, ``ended`` after it, ``unused`` for a probe that made none."""

    def __init__(self, policy: BreakerPolicy) -> None:
        self.policy = policy
        self.override = Override.AUTO
        self.state = BreakerState.CLOSED
        self.opened = 0
        self._reopen_at = 0.0
        self._probing = 0
        self._probed_at = 0.0
        self._probes_well = 0
        self._buckets: list[_Bucket] = []
        self._failing: OrderedDict[str, float] = OrderedDict()

    def allows(self, now: float) -> Verdict:
        if self.state is BreakerState.CLOSED and self.override is Override.AUTO:
            return Verdict.ADMIT
        if self.override is not Override.AUTO:
            return Verdict.REFUSE if self.override is Override.OPEN else Verdict.ADMIT
        if self.state is BreakerState.OPEN:
            if now < self._reopen_at:
                return Verdict.REFUSE
            self.state, self._probing, self._probes_well = BreakerState.HALF_OPEN, 0, 0
        if self._probing >= self.policy.probes:
            if now - self._probed_at < PROBE_S_MAX:
                return Verdict.REFUSE
            self._probing = 0  # whoever had them never said what became of them
        self._probing += 1
        self._probed_at = now
        return Verdict.PROBE

    def open_for_s(self, now: float) -> float:
        """Seconds until it lets a probe through; 0 where it does already."""
        if self.override is Override.OPEN:
            return self.policy.open_s
        return max(0.0, self._reopen_at - now) if self.state is BreakerState.OPEN else 0.0

    def unused(self) -> None:
        """A probe was let through and sent nothing."""
        self._probing = max(0, self._probing - 1)

    def ended(
        self, now: float, *, failed: bool, took_s: float, probe: bool, order: str | None = None
    ) -> bool:
        """A call ended. ``order``: of which order it was an attempt. False: it says nothing of
        the others, for this order has failed before."""
        if failed and order is not None and self._failed_before(order, now):
            if probe:
                self.unused()
            return False
        if not failed and order is not None:
            self._failing.pop(order, None)
        slow = self.policy.slow_s is not None and took_s >= self.policy.slow_s
        if probe and self.state is BreakerState.HALF_OPEN:
            self._probed(now, well=not failed and not slow)
        elif self.state is BreakerState.CLOSED:
            self._count(now, failed=failed, slow=slow)
        return True

    @property
    def effective(self) -> BreakerState:
        """The state that counts: an operator's word before its own judgement."""
        match self.override:
            case Override.AUTO:
                return self.state
            case Override.OPEN:
                return BreakerState.OPEN
            case Override.CLOSED:
                return BreakerState.CLOSED

    @property
    def shut(self) -> bool:
        """Whether it lets nothing, or only probes, through."""
        return self.effective is not BreakerState.CLOSED

    def set(self, override: Override) -> None:
        """An operator's word. Back to ``auto`` it begins closed, with nothing held against it."""
        self.override = override
        self._close()

    def rates(self, now: float) -> Rates:
        current = self._number(now)
        seen = [each for each in self._buckets if each.number > current - BUCKETS]
        return Rates(
            sum(each.calls for each in seen),
            sum(each.failed for each in seen),
            sum(each.slow for each in seen),
        )

    def _number(self, now: float) -> int:
        return int(now * BUCKETS / self.policy.window_s)

    def _count(self, now: float, *, failed: bool, slow: bool) -> None:
        number = self._number(now)
        if not self._buckets or self._buckets[-1].number != number:
            self._buckets = self._buckets[-BUCKETS + 1 :]
            self._buckets.append(_Bucket(number))
        bucket = self._buckets[-1]
        bucket.calls += 1
        if not failed and not slow:
            return
        bucket.failed += failed
        bucket.slow += slow
        if self.override is not Override.AUTO:
            return
        rates = self.rates(now)
        policy = self.policy
        if rates.calls >= policy.calls_min and (
            rates.failed >= policy.failures * rates.calls or rates.slow >= policy.slow * rates.calls
        ):
            self._open(now)

    def _probed(self, now: float, *, well: bool) -> None:
        self._probing = max(0, self._probing - 1)
        if not well:
            self._open(now)
            return
        self._probes_well += 1
        if self._probes_well >= self.policy.probes:
            self._close()

    def _open(self, now: float) -> None:
        self.state = BreakerState.OPEN
        self.opened += 1
        self._reopen_at = now + self.policy.open_s
        self._buckets = []

    def _close(self) -> None:
        self.state = BreakerState.CLOSED
        self._buckets = []

    def _failed_before(self, order: str, now: float) -> bool:
        """Note that it failed; whether that is old news."""
        last = self._failing.pop(order, None)
        self._failing[order] = now
        if len(self._failing) > FAILING_ORDERS_MAX:
            self._failing.popitem(last=False)
        return last is not None and now - last < FAILING_ORDER_S
