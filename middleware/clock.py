"""The clock as a dependency, so that a simulation can turn it."""

import time
from typing import Protocol


class Clock(Protocol):
    """Two readings in seconds: one that never goes back, one that people read."""

    def monotonic(self) -> float:
        """Seconds since some fixed point; advances also while the machine sleeps where it can."""
        ...

    def wall(self) -> float:
        """Seconds since the Unix epoch. May jump; never used to decide an order's fate."""
        ...


class SystemClock:
    """The machine's own clocks. Durations by CLOCK_BOOTTIME where there is one (Linux)."""

    _monotonic_id = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)

    def monotonic(self) -> float:
        return time.clock_gettime(self._monotonic_id)

    def wall(self) -> float:
        return time.time()
