"""The faults of the order backend: what each one does, and how often it comes. Pure."""

import random
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

WORK_S_MAX = 2.0
"""The backend's longest work on an order, from the request's last byte to the commit. The gateway's
``settle_s`` is longer than this: that is the upstream's side of the bargain."""

_QUICK_S = (0.003, 0.05)
_SLOW_S = (1.2, 1.8)
"""Beyond the gateway's attempt timeout of 1 s, within WORK_S_MAX by a margin for a busy machine."""


class Fault(StrEnum):
    """What goes wrong with one submission."""

    NONE = "none"
    SLOW = "slow"
    NOT_PROCESSED = "429_not_processed"
    LOST_REPLY = "lost_reply"
    RESET_BEFORE = "reset_before_commit"
    RESET_AFTER = "reset_after_commit"
    LATE = "reset_then_late_commit"
    HANG_BEFORE = "hang_before_commit"
    HANG_AFTER = "hang_after_commit"
    ERROR_BEFORE = "5xx_before_commit"
    ERROR_AFTER = "5xx_after_commit"
    TRUNCATED = "truncated_answer"


class Ending(StrEnum):
    """What the caller gets in the end."""

    ANSWER = "answer"
    NOT_PROCESSED = "not_processed"
    ERROR = "error"
    CLOSE = "close"
    RESET = "reset"
    HANG = "hang"
    TRUNCATE = "truncate"


@dataclass(frozen=True, slots=True)
class Course:
    """One fault taken apart: is the order processed, and what does the caller get of it?

    ``reset_first``: the connection is reset before the work begins, so that the commit comes
    after the caller has given up.
    """

    processes: bool
    ending: Ending
    reset_first: bool = False

    @property
    def leaves_doubt(self) -> bool:
        """Whether the caller can't tell from what it got if the order was made."""
        return self.ending not in (Ending.ANSWER, Ending.NOT_PROCESSED)


COURSES: Mapping[Fault, Course] = MappingProxyType(
    {
        Fault.NONE: Course(True, Ending.ANSWER),
        Fault.SLOW: Course(True, Ending.ANSWER),
        Fault.NOT_PROCESSED: Course(False, Ending.NOT_PROCESSED),
        Fault.LOST_REPLY: Course(True, Ending.CLOSE),
        Fault.RESET_BEFORE: Course(False, Ending.RESET),
        Fault.RESET_AFTER: Course(True, Ending.RESET),
        Fault.LATE: Course(True, Ending.RESET, reset_first=True),
        Fault.HANG_BEFORE: Course(False, Ending.HANG),
        Fault.HANG_AFTER: Course(True, Ending.HANG),
        Fault.ERROR_BEFORE: Course(False, Ending.ERROR),
        Fault.ERROR_AFTER: Course(True, Ending.ERROR),
        Fault.TRUNCATED: Course(True, Ending.TRUNCATE),
    }
)

STORM: Mapping[Fault, int] = MappingProxyType(
    {
        Fault.NONE: 68,
        Fault.SLOW: 5,
        Fault.NOT_PROCESSED: 4,
        Fault.LOST_REPLY: 5,
        Fault.RESET_BEFORE: 2,
        Fault.RESET_AFTER: 3,
        Fault.LATE: 3,
        Fault.HANG_BEFORE: 1,
        Fault.HANG_AFTER: 2,
        Fault.ERROR_BEFORE: 2,
        Fault.ERROR_AFTER: 2,
        Fault.TRUNCATED: 3,
    }
)
"""Out of a hundred submissions. Far worse than any backend one would keep."""

_ERRORS = (500, 502, 503, 504)


@dataclass(frozen=True, slots=True)
class Ordeal:
    """What one submission will meet. ``work_s`` is the time until the commit, if there is one."""

    fault: Fault = Fault.NONE
    work_s: float = 0.0
    error_status: int = 500

    @property
    def course(self) -> Course:
        return COURSES[self.fault]


def draw(seed: int, reference: str, nth: int, mix: Mapping[Fault, int] = STORM) -> Ordeal:
    """The ordeal of the ``nth`` submission of one intent: the same in whatever order they come."""
    rng = random.Random(f"faults:{seed}:{reference}:{nth}")
    fault = rng.choices(list(mix), weights=list(mix.values()))[0]
    slow = fault in (Fault.SLOW, Fault.LATE)
    return Ordeal(fault, rng.uniform(*(_SLOW_S if slow else _QUICK_S)), rng.choice(_ERRORS))


class LookupFault(StrEnum):
    """What goes wrong with one lookup. A lookup may fail; it never lies."""

    NONE = "none"
    ERROR = "5xx"
    CLOSE = "close"


_LOOKUP_STORM = {LookupFault.NONE: 88, LookupFault.ERROR: 6, LookupFault.CLOSE: 6}


def draw_lookup(seed: int, key: str, nth: int) -> LookupFault:
    """The fate of the ``nth`` lookup of one key."""
    rng = random.Random(f"lookups:{seed}:{key}:{nth}")
    return rng.choices(list(_LOOKUP_STORM), weights=list(_LOOKUP_STORM.values()))[0]
