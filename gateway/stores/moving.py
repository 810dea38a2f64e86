"""A shop moves from one ledger to another, whatever keeps them, without losing an order or a key.

The source is stopped and fenced first: no gateway holds it, and none can open it from then on. Each
step may be done twice, so that a move that was broken off anywhere is ended by the same command.
What waits is due at once on the other side; it is taken up as after a crash.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

from gateway.ledger import Counts, EntryUnreadable, LedgerRefused
from gateway.orders.entry import Entry

BATCH = 200
"""Entries in one durable step: some megabytes with their bodies, milliseconds of work."""


@dataclass(frozen=True, slots=True)
class Departure:
    """What a source says once it can't change any more. ``ledger_time``: the other side's time
    must not begin earlier. ``ended_at``: all had arrived before, and the source is marked as moved
    to the target of this name."""

    move_id: str
    counts: Counts
    ledger_time: float
    ended_at: str | None = None


class Source(Protocol):
    """Every method raises LedgerRefused in words for the operator."""

    async def look(self) -> None:
        """Refuse what there is no use in beginning with. Changes nothing."""
        ...

    async def begin(self) -> Departure:
        """Refuse where a gateway holds the ledger; else see that none can act on it any more.
        Durable. Begun before and not ended, it is the same move."""
        ...

    async def entries(self, after: str | None, limit: int) -> tuple[Sequence[Entry], str | None]:
        """Whole entries, requests and answers with them, in the order of their making; ``after``
        is the second value of the call before, which is None at the end."""
        ...

    async def finish(self, target: str) -> None:
        """All have arrived: mark the ledger as moved to ``target``. Durable."""
        ...

    async def close(self) -> None: ...


class Target(Protocol):
    """Every method raises LedgerRefused in words for the operator. ``name`` is its own."""

    @property
    def name(self) -> str: ...

    async def look(self) -> None:
        """Refuse where nothing could arrive, before the source is fenced."""
        ...

    async def begin(self, move_id: str) -> bool:
        """Refuse where anything is in it that is not of this move; no gateway can open it from
        here on. Durable. Whether the move had begun here before."""
        ...

    async def put(self, entries: Sequence[Entry]) -> int:
        """Keep those that are not there yet, in this order; how many. Durable when it returns."""
        ...

    async def held(self, entries: Sequence[Entry]) -> Sequence[Entry | None]:
        """What is kept here of each of them."""
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


Told: TypeAlias = Callable[[Literal["copied", "compared"], int], None]
"""Hears how many entries have been gone through."""


async def move(source: Source, target: Target, told: Told) -> Moved:
    """Move everything, then compare all of it. Raises LedgerRefused, and then the same call may be
    made again."""
    await source.look()
    await target.look()
    departure = await source.begin()
    if not departure.counts.conserved:
        raise LedgerRefused(
            "the source has lost an entry: made and accounted for differ. Keep it and report it"
        )
    begun = await target.begin(departure.move_id)
    ended = departure.ended_at is not None
    if ended and not (begun and departure.ended_at == target.name):
        raise LedgerRefused(
            "the source was moved already, and not to this target: two gateways on two ledgers"
            " would order twice. Remove this target; move on from the ledger that is in use"
        )
    entries = copied = 0
    async for page in _pages(source):
        copied += await target.put(page)
        entries += len(page)
        told("copied", entries)
    await _compare(source, target, departure.counts, told)
    await source.finish(target.name)
    await target.finish(departure)
    return Moved(entries, copied, departure.counts)


async def _pages(source: Source) -> AsyncIterator[Sequence[Entry]]:
    after: str | None = None
    while True:
        try:
            page, after = await source.entries(after, BATCH)
        except EntryUnreadable as error:
            raise LedgerRefused(
                f"{error}: copy with the version that wrote it, or go back to the source with"
                " `adopt = true` under `[ledger]` and throw the half copy away"
            ) from error
        yield page
        if after is None:
            return


async def _compare(source: Source, target: Target, counts: Counts, told: Told) -> None:
    """Each entry must have arrived just as it is, bodies and all, and nothing besides."""
    arrived, compared = await target.counts(), 0
    if not _same(counts, arrived):
        raise _lost(f"{_words(counts)} against {_words(arrived)}")
    async for page in _pages(source):
        for ours, theirs in zip(page, await target.held(page), strict=True):
            if ours != theirs:
                raise _lost(f"order {ours.id} {'is missing' if theirs is None else 'differs'}")
        compared += len(page)
        told("compared", compared)


def _lost(what: str) -> LedgerRefused:
    return LedgerRefused(
        f"what arrived is not what left: {what}. Nothing was given free: remove the target and"
        " copy again"
    )


def _same(ours: Counts, theirs: Counts) -> bool:
    """Conservation over the move: of each status as many, and as many disputed."""
    return (dict(ours.by_status), ours.disputed) == (dict(theirs.by_status), theirs.disputed)


def _words(counts: Counts) -> str:
    return ", ".join(f"{status} {number}" for status, number in counts.by_status.items() if number)
