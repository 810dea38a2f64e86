"""How much load retries may add. Pure."""

from dataclasses import dataclass

EXTRA_LOAD_MAX = 0.1
"""One retry for ten first attempts: an upstream that fails is not buried under what it failed."""

BURST_MAX = 10.0
"""Retries in hand: a restart of a quiet upstream is got over, a storm is not."""


@dataclass(slots=True)
class RetryBudget:
    """A token bucket: first attempts fill it, retries empty it. One for each upstream."""

    tokens: float = BURST_MAX

    def attempted(self) -> None:
        """A first attempt was made."""
        self.tokens = min(BURST_MAX, self.tokens + EXTRA_LOAD_MAX)

    def take(self) -> bool:
        """Whether one retry more may be made."""
        if self.tokens < 1.0:
            return False
        self.tokens -= 1.0
        return True
