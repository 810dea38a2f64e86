"""How a change of an entry is written down: attempts, events, answers, tokens.

Only ``life`` uses it, where the reasons for a change are. Each function takes an entry and returns
the entry that follows.
"""

import hashlib
from dataclasses import replace
from typing import Any, Literal, assert_never

from gateway.orders.attempts import Answer, Answered, AttemptEnd, Lost, NotSent
from gateway.orders.entry import (
    Attempt,
    AttemptResult,
    Entry,
    Event,
    KeptAnswer,
    KeptRequest,
    changed,
)
from gateway.orders.outcomes import NotAdmitted, NotProcessed, Refuses, Verdict
from gateway.orders.states import SETTLED, Reason, Status, check_move
from middleware.messages import HOP_BY_HOP, end_to_end

EVENTS_MAX = 200
"""An order looked up every minute of its hour in doubt has some 130; the ends tell the story."""

NEVER_KEPT = frozenset(
    {
        b"set-cookie",
        b"set-cookie2",
        b"www-authenticate",
        b"authentication-info",
        b"proxy-authentication-info",
        b"content-length",
    }
)
"""Credentials and sessions belong to one exchange; the length is written anew with the body."""


_MADE_NOTHING = (Refuses, NotAdmitted, NotProcessed)
_DROPPED = NEVER_KEPT | HOP_BY_HOP


def raise_token(entry: Entry) -> Entry:
    """Every right to act that was given before is void from here on."""
    return replace(entry, token=entry.token + 1)


def keep(
    answer: Answer,
    bytes_max: int,
    source: Literal["attempt", "lookup", "operator"] = "attempt",
) -> KeptAnswer:
    """The answer as it is replayed; one too large to keep leaves status, headers and digest."""
    whole = len(answer.body) <= bytes_max and not answer.oversize
    return KeptAnswer(
        status=answer.status,
        phrase=answer.phrase,
        headers=end_to_end(answer.headers, _DROPPED),
        body=answer.body if whole else None,
        digest=answer.digest or hashlib.sha256(answer.body).hexdigest(),
        source=source,
    )


def nothing_made(entry: Entry) -> Entry:
    attempts = tuple(replace(attempt, made_nothing=True) for attempt in entry.attempts)
    return replace(entry, attempts=attempts)


def under_key(request: KeptRequest, upstream_key: str) -> KeptRequest:
    """As it is sent under this key, whichever its own submission came to: the route's
    ``upstream_key`` may have been changed since the key was claimed first."""
    key = upstream_key.encode("ascii")
    headers = tuple(
        (name, key if name.lower() == b"idempotency-key" else value)
        for name, value in request.headers
    )
    return request if headers == request.headers else replace(request, headers=headers, lines=None)


def check_none_under_way(entry: Entry) -> None:
    if entry.open_attempt is not None:
        raise ValueError(f"order {entry.id} has an attempt under way")


def begin(entry: Entry, now: float, *, resend: bool) -> Entry:
    """Raises ValueError where sending could make a second order: the last guard, not the rule
    (``reconciling.plan`` never asks for it)."""
    check_none_under_way(entry)
    if not entry.may_be_sent(now):
        raise ValueError(
            f"an earlier attempt of order {entry.id} may still take effect, and its key is not"
            " sure to be remembered"
        )
    number = len(entry.attempts) + 1
    attempt = Attempt(number, now, after_quiet=entry.quiet, resend=resend)
    first = entry.first_dispatched_at
    return replace(
        entry,
        attempts=(*entry.attempts, attempt),
        first_dispatched_at=now if first is None else first,
    )


def last(entry: Entry) -> int:
    return len(entry.attempts)


def ended(entry: Entry, attempt: Attempt, end: AttemptEnd, verdict: Verdict | None = None) -> Entry:
    return replace(entry, attempts=ended_attempts(entry, attempt, end, verdict))


def ended_attempts(
    entry: Entry, attempt: Attempt, end: AttemptEnd, verdict: Verdict | None = None
) -> tuple[Attempt, ...]:
    match end:
        case NotSent(reason):
            done = replace(attempt, result=AttemptResult.NOT_SENT, reason=reason.value)
        case Lost(reason, written_bytes, status):
            done = replace(
                attempt,
                result=AttemptResult.LOST,
                reason=reason.value,
                written_bytes=written_bytes,
                answer_status=status,
            )
        case Answered(answer, written_bytes):
            done = Attempt(
                attempt.number,
                attempt.began_at,
                attempt.after_quiet,
                attempt.resend,
                AttemptResult.ANSWERED,
                None,
                answer.status,
                written_bytes or attempt.written_bytes,
                isinstance(verdict, _MADE_NOTHING),
            )
        case _:
            assert_never(end)
    index = attempt.number - 1
    if len(entry.attempts) == 1:
        return (done,)
    return (*entry.attempts[:index], done, *entry.attempts[index + 1 :])


def moved(
    entry: Entry,
    target: Status,
    reason: Reason,
    now: float,
    who: str,
    attempt: int | None = None,
    detail: str | None = None,
    *,
    source: Status | Literal["its own"] | None = "its own",
    nonce: str | None = None,
    **more: Any,
) -> Entry:
    """The one place where a status changes: checked against the table, written to the timeline.

    ``more`` are fields that change with it: an entry is large, and copied once."""
    start = entry.status if source == "its own" else source
    check_move(start, target, reason)
    event = Event(now, start, target, reason, who, attempt, detail, nonce)
    settled = target in SETTLED
    more |= {
        "status": target,
        "updated_at": now,
        "events": with_event(entry.events, event),
        "settled_at": now if settled else None,
    }
    if settled:
        more["request"] = None
    if target is Status.IN_DOUBT and entry.doubt_since is None:
        more["doubt_since"] = now
    return changed(entry, **more)


def with_event(events: tuple[Event, ...], event: Event) -> tuple[Event, ...]:
    """The timeline with one more event; in a long one the middle is dropped, never the ends, and
    what later decisions look for only after everything else."""
    grown = (*events, event)
    if len(grown) <= EVENTS_MAX:
        return grown
    half = EVENTS_MAX // 2
    middle = range(half, len(grown) - 1)
    drop = next((index for index in middle if not _counts(grown[index])), half)
    return grown[:drop] + grown[drop + 1 :]


def _counts(event: Event) -> bool:
    """An operator's word, or that the ledger forgot (``Entry.perhaps_told``)."""
    return event.nonce is not None or event.reason is Reason.LEDGER_FORGOT
