"""What to do next about an order that is not settled: one decision, as a value.

The reconciler asks ``plan`` after every change, does what it says, and asks again.
"""

from dataclasses import dataclass
from typing import TypeAlias

from gateway.orders.entry import Entry
from gateway.orders.promise import Capability
from gateway.orders.states import Reason, Status

BACKOFF_FIRST_S = 0.5
BACKOFF_FACTOR = 2.0
BACKOFF_MAX_S = 60.0
"""An order looked up once a minute for its hour in doubt costs an upstream next to nothing."""

WAIT_S_MIN = 0.001
"""A timer that is set for less than clocks can tell is over before they have moved: who asks again
then is told to wait again."""


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What the holder of the lease sees beside the entry.

    ``quiet_in_s``: until ``settle_s`` have passed since the end, or the takeover, of the last
    attempt, on the holder's own monotonic clock; 0 when they have. ``listening``: the connection
    of the last attempt is still read. ``next_try_in_s``: what remains of the back-off.
    ``looked_up_since_send``: a lookup was made after the last attempt.
    """

    now: float
    quiet_in_s: float
    listening: bool
    next_try_in_s: float = 0.0
    looked_up_since_send: bool = False


@dataclass(frozen=True, slots=True)
class Place:
    """Nothing of it is out: get a connection and send it."""


@dataclass(frozen=True, slots=True)
class Wait:
    for_s: float


@dataclass(frozen=True, slots=True)
class NoteQuiet:
    """Write down that no attempt can take effect any more."""


@dataclass(frozen=True, slots=True)
class LookUp:
    """Ask the upstream whether it holds the order."""


@dataclass(frozen=True, slots=True)
class Resend:
    """Send it again: the upstream deduplicates, or absence is proved."""


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Over, proved not placed."""

    reason: Reason


@dataclass(frozen=True, slots=True)
class Bury:
    """To the dead letters."""

    reason: Reason


@dataclass(frozen=True, slots=True)
class Done:
    """Settled, or a person's."""


Step: TypeAlias = Place | Wait | NoteQuiet | LookUp | Resend | GiveUp | Bury | Done


def backoff_s(tries: int, draw: float) -> float:
    """The pause before try ``tries`` + 1: exponential with full jitter over its upper half.

    ``draw`` is a number from 0 to 1.
    """
    ceiling = min(BACKOFF_MAX_S, BACKOFF_FIRST_S * BACKOFF_FACTOR ** min(tries, 16))
    return ceiling * (0.5 + draw / 2)


def plan(entry: Entry, seen: Circumstances) -> Step:
    """The next step for ``entry``. Never Place for an order in doubt; never Resend where an
    earlier attempt may still take effect, unless the upstream deduplicates.

    A step is right at ``seen.now``: whoever had to wait before doing it asks again.
    """
    step = _plan(entry, seen)
    return Wait(max(step.for_s, WAIT_S_MIN)) if isinstance(step, Wait) else step


def _plan(entry: Entry, seen: Circumstances) -> Step:
    if entry.pending and entry.open_attempt is not None:
        return Wait(entry.promise.attempt_timeout_s)
    match entry.status:
        case Status.RECEIVED:
            return _plan_received(entry, seen)
        case Status.IN_DOUBT:
            return _plan_doubt(entry, seen)
        case Status.DEAD_LETTER if entry.asked is Reason.OPERATOR_LOOKUP:
            return _plan_last_lookup(entry, seen)
        case _:
            return Done()


def _plan_received(entry: Entry, seen: Circumstances) -> Step:
    left_s = _placing_left_s(entry, seen)
    if left_s <= 0:
        return GiveUp(Reason.PLACE_DEADLINE)
    wait_s = max(seen.next_try_in_s, entry.not_before - seen.now)
    return Wait(min(wait_s, left_s)) if wait_s > 0 else Place()


def _placing_left_s(entry: Entry, seen: Circumstances) -> float:
    return entry.claimed_at + entry.promise.place_within_s - seen.now


def _plan_doubt(entry: Entry, seen: Circumstances) -> Step:
    if entry.absence_proved:
        return _plan_absent(entry, seen)
    promise = entry.promise
    if entry.asked is Reason.OPERATOR_LOOKUP and promise.can_look_up:
        return LookUp()
    askable = _askable(entry)
    if not askable and not seen.listening:
        return Bury(Reason.CANNOT_RECONCILE)
    doubt_since = entry.updated_at if entry.doubt_since is None else entry.doubt_since
    left_s = doubt_since + promise.doubt_within_s - seen.now
    if left_s <= 0:
        return Bury(Reason.DOUBT_DEADLINE)
    if not askable:
        return Wait(min(max(seen.quiet_in_s, promise.attempt_timeout_s), left_s))
    if not entry.quiet and seen.quiet_in_s <= 0:
        return NoteQuiet()
    return _plan_evidence(entry, seen, left_s)


def _askable(entry: Entry) -> bool:
    """Whether the upstream may tell what became of it: asked, or sent the order again, which may
    also make it."""
    able = entry.promise.capabilities
    return Capability.LOOKUP in able or (Capability.DEDUP in able and _resend_allowed(entry))


def _resend_allowed(entry: Entry) -> bool:
    """A person may order again what the client was perhaps told had failed."""
    return not entry.perhaps_told or entry.asked is Reason.OPERATOR_RESEND


def _plan_absent(entry: Entry, seen: Circumstances) -> Step:
    """Absence is proved: what is left of ``place_within_s`` may be used to send it again."""
    left_s = _placing_left_s(entry, seen)
    again = bool(entry.promise.capabilities) and left_s > 0 and _resend_allowed(entry)
    if not again or (entry.promise.dedup and not entry.key_remembered(seen.now)):
        return GiveUp(Reason.ABSENCE_PROVED)
    wait_s = max(seen.next_try_in_s, entry.not_before - seen.now)
    return Wait(min(wait_s, left_s)) if wait_s > 0 else Resend()


def _plan_last_lookup(entry: Entry, seen: Circumstances) -> Step:
    """An operator asks once more about a dead letter: after quiet, so that a "no" is a proof and
    asking again in a hurry can't put the proof off for ever."""
    if entry.quiet:
        return LookUp()
    return Wait(seen.quiet_in_s) if seen.quiet_in_s > 0 else NoteQuiet()


def _plan_evidence(entry: Entry, seen: Circumstances, left_s: float) -> Step:
    """``left_s``: until the doubt must end, which no wait outlasts by more than WAIT_S_MIN."""
    may_resend = entry.may_be_sent(seen.now) and _resend_allowed(entry)
    asked = entry.asked is Reason.OPERATOR_RESEND and may_resend
    until_quiet_s = left_s if entry.quiet else min(seen.quiet_in_s, left_s)
    if seen.next_try_in_s > 0:  # quiet ends a back-off: the same question gets a better answer
        return Wait(min(seen.next_try_in_s, until_quiet_s))
    if asked:
        return Resend()
    if entry.promise.can_look_up and (not may_resend or not seen.looked_up_since_send):
        return LookUp()
    if may_resend and (entry.quiet or not _await_quiet(entry)):
        return Resend()
    return Wait(until_quiet_s)


def _await_quiet(entry: Entry) -> bool:
    """After a refused re-send that could not settle: another one before ``quiet_at`` could not
    either, and would put ``quiet_at`` off."""
    last = entry.attempts[-1]
    return last.resend and last.made_nothing and not last.after_quiet
