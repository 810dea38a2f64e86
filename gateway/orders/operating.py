"""What operators may do with an order, and what came of it: pure, like all of its life.

An operator asks; whoever takes the order next, under a lease, does it. The asking is an event in
the timeline, so it outlives any worker, and carries a nonce, so that it counts once.
"""

from dataclasses import replace
from enum import StrEnum

from gateway.orders import life
from gateway.orders.bookkeeping import moved, raise_token
from gateway.orders.entry import Entry, Event
from gateway.orders.states import ASKS, DOINGS, SETTLED, Outcome, Reason, Status

LOOKUP_DONE = DOINGS - {Reason.RESENT}


class Refusal(StrEnum):
    """Why an operator's word on an order is not taken."""

    SETTLED = "settled"
    NOT_IN_DOUBT = "not_in_doubt"
    ATTEMPT_UNDER_WAY = "attempt_under_way"
    NO_LOOKUP = "no_lookup"
    ABSENCE_PROVED = "absence_proved"
    SECOND_ORDER = "could_make_a_second_order"
    NOT_QUIET = "may_still_take_effect"


class ActionRefused(Exception):
    """The order, as it stands, does not allow the action; nothing was changed. ``wait_s``: for how
    long, where time alone will change that."""

    def __init__(self, refusal: Refusal, entry: Entry, wait_s: float | None = None) -> None:
        super().__init__(refusal.value)
        self.refusal = refusal
        self.entry = entry
        self.wait_s = wait_s


def lookup_refusal(entry: Entry) -> Refusal | None:
    """None where asking the upstream can tell something, and hurts nobody."""
    if (refusal := _not_in_doubt(entry)) is not None:
        return refusal
    if not entry.promise.can_look_up:
        return Refusal.NO_LOOKUP
    return Refusal.ABSENCE_PROVED if entry.absence_proved else None


def resend_refusal(entry: Entry, now: float) -> Refusal | None:
    """None where one more attempt can't make a second order: absence is proved, or the upstream
    deduplicates and still remembers the key."""
    if (refusal := _not_in_doubt(entry)) is not None:
        return refusal
    return None if entry.may_be_sent(now) else Refusal.SECOND_ORDER


def resolve(entry: Entry, outcome: Outcome, note: str, now: float, who: str, nonce: str) -> Entry:
    """Settled by a person. That it was not placed nobody can know while what was sent may still
    take effect. Raises ActionRefused and IllegalMove."""
    after = life.resolve(entry, outcome, note, now, who, nonce)
    quiet = entry.absence_proved or entry.quiet or now >= entry.quiet_at
    if outcome is Status.CONFIRMED or quiet:
        return after
    again = entry.status is Status.IN_DOUBT and entry.may_be_sent(now)  # before that time comes
    raise ActionRefused(Refusal.NOT_QUIET, entry, None if again else entry.quiet_at - now)


def _not_in_doubt(entry: Entry) -> Refusal | None:
    if entry.status in SETTLED:
        return Refusal.SETTLED
    if entry.open_attempt is not None:
        return Refusal.ATTEMPT_UNDER_WAY
    return None if entry.doubtful else Refusal.NOT_IN_DOUBT


def ask_lookup(entry: Entry, note: str | None, now: float, who: str, nonce: str) -> Entry:
    """To be looked up at once. Raises ActionRefused."""
    if (refusal := lookup_refusal(entry)) is not None:
        raise ActionRefused(refusal, entry)
    why = Reason.OPERATOR_LOOKUP
    return moved(raise_token(entry), entry.status, why, now, who, detail=note, nonce=nonce)


def ask_resend(entry: Entry, note: str | None, now: float, who: str, nonce: str) -> Entry:
    """To be sent again at once. Raises ActionRefused. A dead letter is in doubt again, and has
    ``doubt_within_s`` anew."""
    if (refusal := resend_refusal(entry, now)) is not None:
        raise ActionRefused(refusal, entry)
    if entry.status is Status.DEAD_LETTER:
        entry = replace(entry, doubt_since=None)
    why = Reason.OPERATOR_RESEND
    return moved(raise_token(entry), Status.IN_DOUBT, why, now, who, detail=note, nonce=nonce)


def action_of(entry: Entry, nonce: str) -> Event | None:
    """The event of the action that this nonce stands for, where it was done already."""
    return next((event for event in entry.events if event.nonce == nonce), None)


def result_of(entry: Entry, action: Event) -> Event | None:
    """The event that tells what came of ``action``; None while nothing did."""
    if action.reason not in ASKS:
        return action
    later = entry.events[entry.events.index(action) + 1 :]
    ends = (event for event in later if _ends(action.reason, event))
    return next(ends, None)


def _ends(asked: Reason, event: Event) -> bool:
    if event.target in SETTLED or event.reason in (Reason.DOUBT_DEADLINE, Reason.CANNOT_RECONCILE):
        return True
    if asked is Reason.OPERATOR_LOOKUP:
        return event.reason in LOOKUP_DONE
    return event.reason not in ASKS | DOINGS
