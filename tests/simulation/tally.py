"""What many histories came to: sums that can be added up, kept by commit, and told to people."""

import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import orjson

from .histories import Played

ROOT = Path(__file__).resolve().parents[2]

KEPT = ROOT / ".simulation"
"""One file a commit, one line a chunk; outside git, so that runs of one commit can be summed."""

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


# --- what is kept of a commit ----------------------------------------------------------------


def version() -> str | None:
    """The commit, where the tree is as committed, and the Python, on which a history depends;
    None where what runs has no name."""
    if _git("status", "--porcelain", "--untracked-files=no") != "":
        return None
    commit = _git("rev-parse", "--short=12", "HEAD")
    return commit and f"{commit}-py{sys.version_info.major}.{sys.version_info.minor}"


def _git(*arguments: str) -> str | None:
    try:
        ran = subprocess.run(
            ["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return ran.stdout.strip()


def keep(named: str, first: int, tally: Tally) -> None:
    """Add one chunk to what is kept of a version, in one write."""
    KEPT.mkdir(exist_ok=True)
    line = {"first": first, **{name: getattr(tally, name) for name in SUMS}}
    line |= {"faults": dict(tally.faults), "failing": tally.failing}
    with (KEPT / f"{named}.jsonl").open("ab") as file:
        file.write(orjson.dumps(line) + b"\n")


def kept(named: str) -> dict[int, Tally]:
    """The chunks of a version, by their first seed; the latest of each, whole lines only."""
    try:
        lines: Sequence[bytes] = (KEPT / f"{named}.jsonl").read_bytes().split(b"\n")[:-1]
    except FileNotFoundError:
        return {}
    chunks: dict[int, Tally] = {}
    for line in lines:
        read = orjson.loads(line)
        sums = {name: read[name] for name in SUMS}
        chunks[read["first"]] = Tally(
            **sums, faults=Counter(read["faults"]), failing=read["failing"]
        )
    return chunks
