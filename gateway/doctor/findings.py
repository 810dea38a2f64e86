"""What the doctor says: one finding for each thing that was looked at."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Level(StrEnum):
    """``problem``: a promise does not hold here. ``warning``: it may not, or soon will not."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """``advice`` says what to do; it is empty only where there is nothing to do. ``measured`` is
    the same for machines, unit last."""

    part: str
    level: Level
    text: str
    advice: str = ""
    measured: Mapping[str, Any] = field(default_factory=dict)


def ok(part: str, text: str, **measured: Any) -> Diagnosis:
    return Diagnosis(part, Level.OK, text, "", measured)


def warning(part: str, text: str, advice: str, **measured: Any) -> Diagnosis:
    return Diagnosis(part, Level.WARNING, text, advice, measured)


def problem(part: str, text: str, advice: str, **measured: Any) -> Diagnosis:
    return Diagnosis(part, Level.PROBLEM, text, advice, measured)


def problems_among(found: Iterable[Diagnosis]) -> int:
    return sum(each.level is Level.PROBLEM for each in found)


def in_bytes(number: int) -> str:
    """A size as people read it."""
    size = float(number)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.3g} {unit}"
        size /= 1024
    return f"{size:.3g} TiB"


def in_time(seconds: float) -> str:
    """A short time as people read it."""
    if seconds < 0.001:
        return f"{seconds * 1e6:.0f} us"
    if seconds < 1:
        return f"{seconds * 1e3:.1f} ms"
    return f"{seconds:.1f} s"
