"""The life of an order, in one file: every way an entry changes.

Each function takes an entry and returns the entry that follows; a store writes it under a guard.
``now`` is ledger time in seconds, ``who`` the replica or the operator. The table of legal moves is
``states.MOVES``; what an answer means is ``outcomes.judge``; what to do next about an order in
doubt is ``reconciling.plan``. Nothing here awaits.

    claim -> dispatched -> (answer) confirmed | rejected | failed
                        -> (no answer) in_doubt -> (evidence) confirmed | rejected | failed
                                                -> (nobody knows) dead_letter -> (a person)
"""

from dataclasses import replace
from typing import Any, assert_never

from gateway.orders.attempts import (
    Answer,
    Answered,
    AttemptEnd,
    Lost,
    LostReason,
    NotSent,
    NotSentReason,
)
from gateway.orders.bookkeeping import (
    begin,
    check_none_under_way,
    ended,
    ended_attempts,
    keep,
    last,
    moved,
    nothing_made,
    raise_token,
    under_key,
    with_event,
)
from gateway.orders.claiming import ClaimRequest
from gateway.orders.entry import Attempt, AttemptResult, Entry, Event, KeptAnswer
from gateway.orders.outcomes import (
    Confirms,
    NotAdmitted,
    NotProcessed,
    ProvesNothing,
    Refuses,
    Verdict,
    at_pointer,
    judge,
    parsed,
)
from gateway.orders.states import SETTLED, IllegalMove, Outcome, Reason, Status, check_move

# --- claim -----------------------------------------------------------------------------------


def claim(request: ClaimRequest, now: float) -> Entry:
    """A new entry: dispatched where a connection is at hand, else received."""
    status, reason = Status.RECEIVED, Reason.NO_CONNECTION
    attempts: tuple[Attempt, ...] = ()
    if request.dispatch:
        status, reason, attempts = Status.DISPATCHED, Reason.CLAIMED, (Attempt(1, now, True),)
    check_move(None, status, reason)
    number = 1 if attempts else None
    return Entry(  # by position: two dozen names cost more than all the rest of a claim
        request.order_id,
        request.scope,
        request.key,
        request.key_kind,
        request.upstream_key,
        request.fingerprint,
        request.canonical_fingerprint,
        request.promise,
        status,
        1,
        request.claim_id,
        now,
        now,
        now,
        attempts,
        (Event(now, None, status, reason, request.who, number),),
        now if attempts else None,
        request=request.request,
    )


def claim_again(entry: Entry, request: ClaimRequest, now: float) -> Entry:
    """The next try of an order that failed: attempts and tokens go on counting.

    The upstream key stays. The request is the new submission's (the same fingerprint, perhaps other
    credentials), and so is the promise: the upstream may do less by now, or be another one.
    """
    renewed = replace(
        entry,
        token=entry.token + 1,
        claim_id=request.claim_id,
        claimed_at=now,
        promise=request.promise,
        doubt_since=None,
        settled_at=None,
        not_before=0.0,
        answer=None,
        request=under_key(request.request, entry.upstream_key),
    )
    return _claimed(renewed, entry.status, request, Reason.CLAIMED_AGAIN, now)


def _claimed(
    entry: Entry, source: Status | None, request: ClaimRequest, reason: Reason, now: float
) -> Entry:
    if not request.dispatch:
        return moved(entry, Status.RECEIVED, Reason.NO_CONNECTION, now, request.who, source=source)
    begun = begin(entry, now, resend=False)
    return moved(
        begun, Status.DISPATCHED, reason, now, request.who, source=source, attempt=last(begun)
    )


# --- attempts --------------------------------------------------------------------------------


def dispatch(entry: Entry, now: float, who: str) -> Entry:
    """A connection is at hand for an order that was only received."""
    begun = begin(entry, now, resend=False)
    return moved(begun, Status.DISPATCHED, Reason.CONNECTED, now, who, attempt=last(begun))


def resend(entry: Entry, now: float, who: str) -> Entry:
    """Send an order in doubt once more, without leaving the doubt."""
    begun = begin(entry, now, resend=True)
    return moved(begun, Status.IN_DOUBT, Reason.RESENT, now, who, attempt=last(begun))


def end_attempt(entry: Entry, end: AttemptEnd, now: float, who: str) -> Entry:
    """What the end of the attempt under way makes of its order."""
    attempt = entry.open_attempt
    if attempt is None:
        raise ValueError(f"order {entry.id} has no attempt under way")
    match end:
        case NotSent(reason):
            return _not_sent(ended(entry, attempt, end), attempt, reason, now, who)
        case Lost(reason):
            lost = ended(entry, attempt, end)
            return moved(
                lost, Status.IN_DOUBT, Reason.NO_ANSWER, now, who, attempt.number, reason.value
            )
        case Answered(answer):
            verdict = judge(answer, entry.promise.outcomes, resend=attempt.resend)
            attempts = ended_attempts(entry, attempt, end, verdict)
            return _answered(entry, attempts, answer, verdict, now, who)
        case _:
            assert_never(end)


def _not_sent(entry: Entry, attempt: Attempt, reason: NotSentReason, now: float, who: str) -> Entry:
    target, why = Status.RECEIVED, Reason.NOT_SENT
    if attempt.resend:
        target = Status.IN_DOUBT
    elif reason is NotSentReason.CLAIM_UNACKNOWLEDGED:
        target, why = Status.FAILED, Reason.CLAIM_UNACKNOWLEDGED
    return moved(entry, target, why, now, who, attempt.number, reason.value)


def _answered(
    entry: Entry,
    attempts: tuple[Attempt, ...],
    answer: Answer,
    verdict: Verdict,
    now: float,
    who: str,
) -> Entry:
    """An answer in time, to a first attempt (dispatched) or to a re-send (in doubt): always the
    last. ``attempts`` are those of the entry with this one's end."""
    target, reason, detail = Status.IN_DOUBT, Reason.ANSWER_PROVES_NOTHING, str(answer.status)
    more: dict[str, Any] = {"attempts": attempts}
    number = len(attempts)
    match verdict:
        case Confirms():
            target, reason = Status.CONFIRMED, Reason.CONFIRMED_BY_ANSWER
        case Refuses() if refusal_settles(entry, number):
            target, reason = Status.REJECTED, Reason.REFUSED_BY_ANSWER
        case NotAdmitted():
            target, reason = Status.FAILED, Reason.NOT_ADMITTED
        case NotProcessed(retry_after_s):
            target, reason = Status.RECEIVED, Reason.NOT_PROCESSED
            more["not_before"] = now + (retry_after_s or 0.0)
        case Refuses():
            detail = f"{detail} before quiet"
        case ProvesNothing(why):
            detail = f"{detail} {why.value}"
        case _:
            assert_never(verdict)
    if target in SETTLED:
        more["answer"] = keep(answer, entry.promise.answer_bytes_max)
    return moved(entry, target, reason, now, who, number, detail, **more)


def _in_doubt(entry: Entry, number: int, detail: str, now: float, who: str) -> Entry:
    return moved(entry, Status.IN_DOUBT, Reason.ANSWER_PROVES_NOTHING, now, who, number, detail)


def refusal_settles(entry: Entry, number: int) -> bool:
    """Whether a refusal of attempt ``number`` settles the order.

    It must answer the latest attempt, and no earlier one may still take effect: each was not
    sent or proved to have made nothing; or the upstream deduplicates (it looks at the key before
    every other rule) and the refused re-send began after ``quiet_at``, so that it would have
    found what an earlier attempt made.
    """
    if number != len(entry.attempts):
        return False
    earlier = entry.attempts[:-1]
    if all(attempt.harmless for attempt in earlier):
        return True
    return entry.promise.dedup and entry.attempts[-1].after_quiet


# --- late answers ----------------------------------------------------------------------------


def late_answer(entry: Entry, number: int, answer: Answer, now: float, who: str) -> Entry | None:
    """What an answer means that came when nobody waited for it any more; None: nothing new.

    Needs no lease: a store applies it guarded by the entry itself, and raises the token. Where the
    ledger doesn't show yet that the attempt timed out, its answer ends it as one in time does.
    """
    attempt = next((each for each in entry.attempts if each.number == number), None)
    # The ledger forgot it. Of a try that failed a client that submits again gets the truth.
    unseen = number > len(entry.attempts) and entry.status is Status.REJECTED
    if attempt is None and not (entry.perhaps_told or unseen):
        return None
    if attempt is None or attempt.reason == LostReason.LEDGER_FORGOT:
        return _answer_to_a_forgotten(entry, number, answer, now, who)
    if attempt.result is AttemptResult.ANSWERED:
        return None
    if entry.pending and attempt.result is None:
        return end_attempt(raise_token(entry), Answered(answer), now, who)
    verdict = judge(answer, entry.promise.outcomes, resend=attempt.resend)
    if entry.status in SETTLED:
        return _contradiction(entry, number, answer, verdict, now, who)
    known = ended(raise_token(entry), attempt, Answered(answer), verdict)
    match verdict:
        case Confirms():
            return _late_success(known, number, answer, now, who)
        case Refuses() if entry.doubtful and refusal_settles(known, number):
            kept = replace(known, answer=keep(answer, entry.promise.answer_bytes_max))
            why = Reason.REFUSED_BY_LATE_ANSWER
            return moved(kept, Status.REJECTED, why, now, who, number, str(answer.status))
        case _:
            return _late_rest(known, number, answer, verdict, now, who)


def _answer_to_a_forgotten(
    entry: Entry, number: int, answer: Answer, now: float, who: str
) -> Entry | None:
    """To an attempt that the ledger does not show. One that stands for whatever it forgot
    (``suspect``) may stand for several: that one of them was refused settles nothing."""
    verdict = judge(answer, entry.promise.outcomes, resend=True)
    if entry.status in SETTLED:
        return _contradiction(entry, number, answer, verdict, now, who)
    if not entry.doubtful or not isinstance(verdict, Confirms):
        return None
    return _late_success(raise_token(entry), number, answer, now, who)


def _late_success(entry: Entry, number: int, answer: Answer, now: float, who: str) -> Entry:
    """It confirms from every status; from one that had been taken as proof of absence (the key
    was claimed again after ``failed``) it also disputes."""
    kept = replace(
        entry,
        answer=keep(answer, entry.promise.answer_bytes_max),
        disputed=entry.disputed or not entry.doubtful,
    )
    why = Reason.CONFIRMED_BY_LATE_ANSWER
    return moved(kept, Status.CONFIRMED, why, now, who, number, str(answer.status))


def _late_rest(
    entry: Entry, number: int, answer: Answer, verdict: Verdict, now: float, who: str
) -> Entry | None:
    if not entry.doubtful:
        return None
    detail = f"late {answer.status}"
    if not entry.absence_proved:
        if entry.status is Status.DEAD_LETTER:
            return entry
        return _in_doubt(entry, number, detail, now, who)
    if entry.status is Status.DEAD_LETTER:
        return moved(entry, Status.FAILED, Reason.ABSENCE_PROVED, now, who, number, detail)
    if isinstance(verdict, NotAdmitted):
        kept = replace(entry, answer=keep(answer, entry.promise.answer_bytes_max))
        return moved(kept, Status.FAILED, Reason.NOT_ADMITTED, now, who, number, detail)
    if isinstance(verdict, NotProcessed):
        entry = replace(entry, not_before=now + (verdict.retry_after_s or 0.0))
    return moved(entry, Status.IN_DOUBT, Reason.ABSENCE_PROVED, now, who, number, detail)


def _contradiction(
    entry: Entry, number: int, answer: Answer, verdict: Verdict, now: float, who: str
) -> Entry | None:
    """A success after ``rejected`` or ``failed``, or of another order than the confirmed one."""
    if not isinstance(verdict, Confirms) or entry.disputed:
        return None
    if entry.status is Status.CONFIRMED and not _other_order(entry, answer):
        return None
    return dispute(raise_token(entry), f"late {answer.status} to attempt {number}", now, who)


def _other_order(entry: Entry, answer: Answer) -> bool:
    pointer = entry.promise.outcomes.answer_id
    if pointer is None or entry.answer is None or entry.answer.body is None:
        return False
    ours = at_pointer(parsed(entry.answer.body), pointer)
    theirs = at_pointer(parsed(answer.body), pointer)
    return None not in (ours, theirs) and ours != theirs


# --- doubt -----------------------------------------------------------------------------------


def take_over(entry: Entry, now: float, who: str) -> Entry:
    """A new holder: the token grows, and an attempt that its worker left behind is Lost.

    The death of a worker is never taken for "not sent".
    """
    taken = raise_token(entry)
    attempt = taken.open_attempt
    if attempt is None:
        return taken
    lost = ended(taken, attempt, Lost(LostReason.LEASE_EXPIRED))
    return moved(lost, Status.IN_DOUBT, Reason.LEASE_EXPIRED, now, who, attempt.number)


def suspect(entry: Entry, now: float, who: str) -> Entry:
    """The ledger forgot something, perhaps an attempt at this order: there may have been one more,
    and nothing is known of it, nor of what a client was told (``perhaps_told``). A dead letter
    stays one."""
    check_none_under_way(entry)
    number = len(entry.attempts) + 1
    first = entry.first_dispatched_at
    forgotten = Attempt(number, now, resend=entry.doubtful)
    perhaps = replace(
        entry,
        attempts=(*entry.attempts, forgotten),
        first_dispatched_at=now if first is None else first,
    )
    lost = ended(perhaps, forgotten, Lost(LostReason.LEDGER_FORGOT))
    target = entry.status if entry.status is Status.DEAD_LETTER else Status.IN_DOUBT
    return moved(lost, target, Reason.LEDGER_FORGOT, now, who, number)


def found(entry: Entry, answer: KeptAnswer, now: float, who: str, *, several: bool) -> Entry:
    """A lookup found the order: definite, whenever it began. More than one match disputes."""
    if answer.body is not None and len(answer.body) > entry.promise.answer_bytes_max:
        answer = replace(answer, body=None)
    kept = replace(entry, answer=answer, disputed=entry.disputed or several)
    detail = "more than one match" if several else None
    return moved(kept, Status.CONFIRMED, Reason.FOUND_BY_LOOKUP, now, who, detail=detail)


def quiet(entry: Entry) -> Entry:
    """``settle_s`` have passed since the last attempt: none can take effect any more."""
    check_none_under_way(entry)
    return replace(entry, quiet_attempt=len(entry.attempts))


def absent(entry: Entry, now: float, who: str) -> Entry:
    """A lookup that began after quiet did not find it: no attempt so far placed the order. A dead
    letter has failed then."""
    if not entry.quiet:
        return moved(entry, entry.status, Reason.ABSENT_TOO_EARLY, now, who)
    dead = entry.status is Status.DEAD_LETTER
    target = Status.FAILED if dead else Status.IN_DOUBT
    return moved(nothing_made(entry), target, Reason.ABSENCE_PROVED, now, who)


def no_evidence(entry: Entry, detail: str, now: float, who: str) -> Entry:
    """A lookup that says neither yes nor no."""
    return moved(entry, entry.status, Reason.LOOKUP_PROVES_NOTHING, now, who, detail=detail)


# --- endings ---------------------------------------------------------------------------------


def fail(entry: Entry, reason: Reason, now: float, who: str) -> Entry:
    """Over, and proved not placed."""
    if not entry.absence_proved:
        raise ValueError(f"order {entry.id} is not proved absent")
    return moved(entry, Status.FAILED, reason, now, who)


def bury(entry: Entry, reason: Reason, now: float, who: str) -> Entry:
    """Only a person, or later evidence, can settle it."""
    check_none_under_way(entry)
    return moved(entry, Status.DEAD_LETTER, reason, now, who)


def resolve(
    entry: Entry,
    outcome: Outcome,
    note: str,
    now: float,
    who: str,
    nonce: str | None = None,
) -> Entry:
    """An operator settles an order in doubt or a dead letter; no answer of the upstream is kept.

    Not while an attempt is under way (IllegalMove): it ends within ``attempt_timeout_s``, and
    until then nobody can know. ``failed`` is the operator's word that no attempt placed it.
    """
    if entry.open_attempt is not None:
        raise IllegalMove(f"{entry.status} -> {outcome} while an attempt is under way")
    if outcome is Status.FAILED:
        entry = nothing_made(entry)
    why = Reason.OPERATOR
    return moved(raise_token(entry), outcome, why, now, who, detail=note, nonce=nonce)


def dispute(entry: Entry, detail: str, now: float, who: str) -> Entry:
    """Evidence contradicts the outcome: flag it; status and replayed answer do not change."""
    event = Event(now, entry.status, entry.status, Reason.DISPUTED, who, None, detail)
    return replace(entry, disputed=True, updated_at=now, events=with_event(entry.events, event))
