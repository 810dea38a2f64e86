"""What follows from the death of a worker: pure."""

from dataclasses import dataclass
from typing import TypeAlias

LIVED_S = 1.0
"""A worker that served for so long was well: what killed it then is not in the way of the next."""

LIVED_ON_A_DISK_S = 60.0
"""One whose ledger's disk failed may have served until the first sync that mattered."""

DEATHS_MAX = 5
"""At once, in a row: a second or two of chances, then a person has to look."""

PAUSE_FIRST_S = 0.1
PAUSE_LONGEST_S = 5.0


@dataclass(frozen=True, slots=True)
class Again:
    """Start the next one after ``pause_s``; ``deaths`` at once in a row so far."""

    pause_s: float
    deaths: int


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Nothing that is started here stays alive, nor anything else: say so, and end."""

    deaths: int


Sequel: TypeAlias = Again | GiveUp


def after_death(
    deaths: int,
    served_s: float | None,
    *,
    disk_failed: bool = False,
    others_live: bool = False,
) -> Sequel:
    """``deaths``: at once and in a row, before this one; ``served_s``: None, it never served. Where
    ``others_live``, nothing is given up: they are better than none."""
    lived_s = LIVED_ON_A_DISK_S if disk_failed else LIVED_S
    if served_s is not None and served_s >= lived_s:
        return Again(0.0, 0)
    deaths += 1
    if deaths >= DEATHS_MAX:
        return Again(PAUSE_LONGEST_S, deaths) if others_live else GiveUp(deaths)
    return Again(min(PAUSE_FIRST_S * 2.0 ** (deaths - 1), PAUSE_LONGEST_S), deaths)
