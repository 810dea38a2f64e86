"""When to try again, and after how long. Pure: the draw and the time are arguments."""

import re
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

_SECONDS = re.compile(rb"[0-9]{1,9}")


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Exponential back-off with full jitter.

    ``attempts_max`` None: until the deadline. ``first_s`` and ``longest_s`` bound the pause.
    """

    first_s: float = 0.05
    longest_s: float = 5.0
    factor: float = 2.0
    attempts_max: int | None = None


def pause_s(policy: RetryPolicy, failures: int, draw: float, at_least_s: float = 0.0) -> float:
    """The pause after ``failures`` failed tries; ``draw`` from 0 to 1. ``at_least_s`` is what the
    other side asked for; the jitter comes on top, so that not all come back at once."""
    ceiling = min(policy.longest_s, policy.first_s * policy.factor ** min(failures - 1, 32))
    return at_least_s + ceiling * draw


def retry_after_s(value: bytes, now: float) -> float | None:
    """Seconds from ``now`` (Unix time), of Retry-After's seconds or date (RFC 9110 section
    10.2.3); None where it is neither."""
    text = value.strip()
    if _SECONDS.fullmatch(text):
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text.decode("ascii")).timestamp() - now)
    except (ValueError, OverflowError):
        return None
