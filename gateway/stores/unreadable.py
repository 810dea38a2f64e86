"""Orders that this version can't read: a newer one wrote them, or they are damaged.

They are there, whatever is in them: their keys are taken, nothing is written over them, and nobody
acts on them but a version that can read them. Operators are told of each once, and shown it.
"""

from collections.abc import Callable, Hashable, Mapping
from time import monotonic
from types import MappingProxyType
from typing import NamedTuple

import structlog

from gateway.ledger import EntryUnreadable

log = structlog.get_logger("ordergate", part="ledger")

AGAIN_S = 60.0
"""How soon one that was due is tried again: whoever can read it may have changed it."""

FORGOTTEN_S = 3 * AGAIN_S
"""What is met no more for so long is settled, or gone."""

KNOWN_MAX = 10_000
"""Passed over at once; beyond that they hold up what is due behind them. A few MB."""


class _Met(NamedTuple):
    at: float
    place: Hashable
    why: str


class Unreadables:
    """What this process has met lately. ``clock`` in seconds, never running back. Any thread."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._met: dict[str, _Met] = {}

    def met(self, error: EntryUnreadable, place: Hashable) -> None:
        """``place``: how the store names it among what is due."""
        entry_id, now = error.entry_id, self._clock()
        if entry_id not in self._met:
            log.error("an order can not be read", order=entry_id, reason=error.why)
            if len(self._met) >= KNOWN_MAX:
                self._met.pop(next(iter(self._met)))
        self._met[entry_id] = _Met(now, place, error.why)

    def passed_over(self) -> set[Hashable]:
        """Those that need not be tried again just now."""
        now = self._clock()
        return {each.place for each in tuple(self._met.values()) if now - each.at < AGAIN_S}

    @property
    def known(self) -> Mapping[str, str]:
        """Id, and why it can't be read, of each that was met lately."""
        now = self._clock()
        for entry_id, each in tuple(self._met.items()):
            if now - each.at >= FORGOTTEN_S:
                self._met.pop(entry_id, None)
        return MappingProxyType({name: each.why for name, each in tuple(self._met.items())})


def unreadable(entry_id: str, error: Exception) -> EntryUnreadable:
    """What a failed reading of an order means."""
    return EntryUnreadable(entry_id, f"{type(error).__name__}: {error}"[:200])
