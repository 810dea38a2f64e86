"""When to try again, and after how long. Pure: the draw and the time are arguments."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Exponential back-off with full jitter.

    ``attempts_max`` None: until the deadline. ``first_s`` and ``longest_s`` bound the pause.
    """

    first_s: float = 0.05
    longest_s: float = 5.0
    factor: float = 2.0
    attempts_max: int | None = None


def pause_s(policy: RetryPolicy, failures: int, draw: float) -> float:
    """The pause after ``failures`` failed tries; ``draw`` from 0 to 1."""
    ceiling = min(policy.longest_s, policy.first_s * policy.factor ** min(failures - 1, 32))
    return ceiling * draw
