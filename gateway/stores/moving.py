"""A shop moves from one ledger to another, whatever keeps them, without losing an order or a key.

The source is stopped and fenced first: no gateway holds it, and none can open it from then on. Each
step may be done twice, so that a move that was broken off anywhere is ended by the same command.
What waits is due at once on the other side; it is taken up as after a crash.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from gateway.ledger import Counts, LedgerRefused
from gateway.orders.entry import Entry

BATCH = 200
"""Entries in one durable step: some megabytes with their bodies, milliseconds of work."""


@dataclass(frozen=True, slots=True)
class Departure:
    """What a source says once it can't change any more. ``ledger_time``: the other side's time
    must not begin earlier. ``ended``: all had arrived before, and the source is marked as moved."""

    move_id: str
    counts: Counts
    ledger_time: float
    ended: bool = False


class Source(Protocol):
    """Every method raises LedgerRefused in words for the operator."""

    async def begin(self) -> Departure:
        """Refuse where a gateway holds the ledger; else see that none can act on it any more.
        Durable. Begun before and not ended, it is the same move."""
        ...

    async def entries(self, after: str | None, limit: int) -> tuple[Sequence[Entry], str | None]:
        """Whole entries, requests and answers with them, in the order of their making; ``after``
        is the second value of the call before, which is None at the end."""
        ...

    async def finish(self) -> None:
        """All have arrived: mark the ledger as moved. Durable."""
        ...

    async def close(self) -> None: ...


class Target(Protocol):
    """Every method raises LedgerRefused in words for the operator."""

    async def begin(self, move_id: str) -> None:
        """Refuse where anything is in it that is not of this move; no gateway can open it from
        here on. Durable."""
        ...

    async def put(self, entries: Sequence[Entry]) -> int:
        """Keep those that are not there yet, in this order; how many. Durable when it returns."""
        ...

    async def counts(self) -> Counts: ...

    async def finish(self, departure: Departure) -> None:
        """Take over what was counted as removed, and let gateways in. Durable."""
        ...

    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Moved:
    """What a move came to. ``copied``: by this command; the rest had arrived before."""

    entries: int
    copied: int
    counts: Counts


async def move(source: Source, target: Target, told: Callable[[int], None]) -> Moved:
    """Move everything; ``told`` hears how many entries have been gone through. Raises
    LedgerRefused, and then the same call may be made again."""
    departure = await source.begin()
    if not departure.counts.conserved:
        raise LedgerRefused(
            "the source has lost an entry: made and accounted for differ. Keep it and report it"
        )
    await target.begin(departure.move_id)
    if departure.ended and not _same(departure.counts, await target.counts()):
        raise LedgerRefused(
            "the source was moved already, and not to this target: two gateways on two ledgers"
            " would order twice. Remove this target; move on from the ledger that is in use"
        )
    entries = copied = 0
    after: str | None = None
    while True:
        page, after = await source.entries(after, BATCH)
        copied += await target.put(page)
        entries += len(page)
        told(entries)
        if after is None:
            break
    _check(departure.counts, await target.counts())
    await source.finish()
    await target.finish(departure)
    return Moved(entries, copied, departure.counts)


def _check(ours: Counts, theirs: Counts) -> None:
    if not _same(ours, theirs):
        raise LedgerRefused(
            f"what arrived is not what left: {_words(ours)} against {_words(theirs)}. Nothing was"
            " given free: remove the target and copy again"
        )


def _same(ours: Counts, theirs: Counts) -> bool:
    """Conservation over the move: of each status as many, and as many disputed."""
    return (dict(ours.by_status), ours.disputed) == (dict(theirs.by_status), theirs.disputed)


def _words(counts: Counts) -> str:
    return ", ".join(f"{status} {number}" for status, number in counts.by_status.items() if number)
