"""What must be true of an entry's own story, whatever anybody was told."""

from collections.abc import Iterator, Sequence

from gateway.orders.entry import Entry
from gateway.orders.states import IllegalMove, Reason, Status, check_move

from .gateways import CLOCK_RATES, DOUBT_WITHIN_S

CLOCKS_DIFFER_S = DOUBT_WITHIN_S * (CLOCK_RATES[1] - CLOCK_RATES[0])
"""What two replicas' readings of the ledger's time may differ by, when doubt ends."""


def unlawful(entry: Entry) -> Iterator[str]:
    """Moves that the table doesn't have, or that don't follow on each other."""
    status: Status | None = None
    for event in entry.events:
        if event.source is not status:
            yield f"the timeline jumps from {status} to {event.source}"
        status = event.target
        if event.reason is Reason.DISPUTED:
            continue
        try:
            check_move(event.source, event.target, event.reason)
        except IllegalMove as illegal:
            yield f"illegal: {illegal}"
    if status is not entry.status:
        yield f"the timeline ends in {status}, the entry is {entry.status}"


def too_many_dead(entries: Sequence[Entry]) -> Iterator[str]:
    """Under ``none`` no more than attempts were left in doubt; else only by the doubt's end, or
    where the store forgot and only sending again could tell."""
    helpless = [entry for entry in entries if not entry.promise.capabilities]
    dead = [entry for entry in entries if entry.status is Status.DEAD_LETTER]
    buried, doubts = sum(entry in helpless for entry in dead), sum(map(_left_in_doubt, helpless))
    if buried > doubts:
        yield f"{buried} dead letters, but {doubts} attempts were left in doubt"
    for entry in dead:
        last, since = entry.events[-1], entry.doubt_since or 0.0
        early = last.at < since + DOUBT_WITHIN_S - CLOCKS_DIFFER_S
        if entry in helpless or (entry.perhaps_told and not entry.promise.can_look_up):
            continue
        if last.reason is not Reason.DOUBT_DEADLINE or early:
            yield f"{entry.id} is a dead letter before its time ({last.reason})"


def _left_in_doubt(entry: Entry) -> int:
    return sum(not attempt.harmless for attempt in entry.attempts)
