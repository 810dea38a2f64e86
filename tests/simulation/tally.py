"""What many histories came to: sums that can be added up, and told to people."""

import traceback
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Self

from .histories import Played, again

REPORTS_MAX = 3
"""Of failing histories: one is read at a time, and each is a page."""

CONFIDENT = 3.0
"""Nothing in N tries bounds a rate by 3/N with 95 % confidence (exp(-3) = 0.05)."""


@dataclass(slots=True)
class Tally:
    """Sums over histories. ``failing``: the seeds that had a flaw."""

    histories: int = 0
    orders: int = 0
    doubted: int = 0
    kills: int = 0
    duplicates: int = 0
    lost: int = 0
    contradictions: int = 0
    unsettled: int = 0
    other: int = 0
    seconds: float = 0.0
    faults: Counter[str] = field(default_factory=Counter)
    failing: list[int] = field(default_factory=list)
    reports: list[str] = field(default_factory=list)

    def add(self, played: Played) -> None:
        """Count one history in."""
        verdict = played.verdict
        self.histories += 1
        self.orders += played.orders
        self.doubted += played.doubted
        self.kills += played.kills
        self.duplicates += verdict.duplicates
        self.lost += verdict.lost
        self.contradictions += verdict.contradictions
        self.unsettled += verdict.pending
        self.other += max(0, len(played.flaws) - len(verdict.findings))
        self.faults += played.faults
        if not played.clean:
            self.failing.append(played.plan.seed)
            self.reports.append(played.report())

    def break_off(self, seed: int, error: BaseException) -> None:
        """Count in a history that did not come to its end."""
        self.histories += 1
        self.other += 1
        self.failing.append(seed)
        self.reports.append("".join(traceback.format_exception(error)) + again(seed))

    def __iadd__(self, other: "Tally") -> Self:
        for name in SUMS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.faults += other.faults
        self.failing = sorted({*self.failing, *other.failing})
        self.reports = (self.reports + other.reports)[:REPORTS_MAX]
        return self

    def lines(self) -> Iterable[str]:
        """For people."""
        doubt = self.doubted / max(1, self.orders)
        yield f"{self.histories:,} histories with {self.orders:,} orders and {self.kills:,} kills"
        yield f"{self.histories / max(0.001, self.seconds):.1f} histories a processor second"
        yield f"ever in doubt: {self.doubted:,} orders, {doubt:.1%}"
        yield "faults: " + ", ".join(f"{kind} {n:,}" for kind, n in self.faults.most_common())
        yield (
            f"duplicates {self.duplicates}, lost {self.lost}, contradictions"
            f" {self.contradictions}, without a definite answer {self.unsettled},"
            f" other flaws {self.other}"
        )
        if not self.failing and self.orders:
            bound = self.orders / CONFIDENT
            yield f"none in {self.orders:,} orders: under 1 in {bound:,.0f} (95 %), of these faults"


SUMS = (
    "histories",
    "orders",
    "doubted",
    "kills",
    "duplicates",
    "lost",
    "contradictions",
    "unsettled",
    "other",
    "seconds",
)
