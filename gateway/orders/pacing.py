"""How fast what waits is worked off: live traffic comes first. Pure."""

from enum import Enum


class Load(Enum):
    """What else the process has to do, and how many orders a second it works off meanwhile.

    An order costs one to two milliseconds of a core. IDLE: half a core at most. BUSY: under a
    fifth, and ten thousand orders are settled in two minutes all the same. PRESSED: requests
    wait already; a few go on, so that nothing ever stands still.
    """

    IDLE = 400.0
    BUSY = 100.0
    PRESSED = 10.0

    @property
    def per_s(self) -> float:
        return self.value


BURST_S = 0.1
"""What was not used for so long may be caught up with, and no more."""


class Pace:
    """One slot after the other, ``Load.per_s`` of them a second. Times are the caller's."""

    def __init__(self) -> None:
        self._next = 0.0

    def slot_in_s(self, now: float, load: Load) -> float:
        """Take the next slot: how long from now until it is there."""
        at = max(self._next, now - BURST_S)
        self._next = at + 1.0 / load.per_s
        return max(0.0, at - now)
