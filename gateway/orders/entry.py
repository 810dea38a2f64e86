"""The entry: all that is known of one order, as an immutable value."""

from dataclasses import dataclass, field
from enum import StrEnum
from operator import attrgetter
from typing import Any, Literal

from gateway.orders.promise import Promise
from gateway.orders.states import ASKS, BEGINNINGS, DOINGS, PENDING, SETTLED, Reason, Status
from middleware.messages import RawHeaders
from middleware.values import light


class AttemptResult(StrEnum):
    """How an attempt ended."""

    NOT_SENT = "not_sent"
    ANSWERED = "answered"
    LOST = "lost"


KeyKind = Literal["given", "attached", "anonymous"]


@light
@dataclass(frozen=True, slots=True)
class Attempt:
    """One try to send the order. ``result`` None: it is under way (or its worker died).

    ``resend``: it was sent out of doubt, so that an earlier attempt may have taken effect.
    ``after_quiet``: it began when no earlier attempt could still take effect.
    ``made_nothing``: proved that this attempt placed no order.
    """

    number: int
    began_at: float
    after_quiet: bool = False
    resend: bool = False
    result: AttemptResult | None = None
    reason: str | None = None
    answer_status: int | None = None
    written_bytes: int = 0
    made_nothing: bool = False

    @property
    def harmless(self) -> bool:
        return self.result is AttemptResult.NOT_SENT or self.made_nothing


@light
@dataclass(frozen=True, slots=True)
class Event:
    """One move in the timeline. ``at`` in ledger time (seconds since the epoch).

    ``nonce`` is the operator's, where it was one: an action that stands here is not done twice.
    """

    at: float
    source: Status | None
    target: Status
    reason: Reason
    who: str
    attempt: int | None = None
    detail: str | None = None
    nonce: str | None = None


@light
@dataclass(frozen=True, slots=True)
class KeptRequest:
    """The submission as every attempt sends it: the same bytes each time.

    ``lines`` are the fields as the hop writes them, where it has just checked them.
    """

    method: bytes
    target: bytes
    headers: RawHeaders
    body: bytes
    lines: bytes | None = field(default=None, repr=False, compare=False)


@light
@dataclass(frozen=True, slots=True)
class KeptAnswer:
    """The answer that every repeat gets. ``body`` None: too large, or past its retention."""

    status: int
    phrase: bytes
    headers: RawHeaders
    body: bytes | None
    digest: str
    source: Literal["attempt", "lookup", "operator"] = "attempt"


@light
@dataclass(frozen=True, slots=True)
class Entry:
    """One row of the ledger. Times are ledger time, in seconds; changed only through ``life``.

    ``token`` is the fencing token: every lease, claim and amendment raises it.
    ``claim_id`` names the submission that took the key last, so that a repeated claim is known.
    ``doubt_since`` is set when the order first came into doubt.
    """

    id: str
    scope: str
    key: str
    key_kind: KeyKind
    upstream_key: str
    fingerprint: str
    canonical_fingerprint: str | None
    promise: Promise
    status: Status
    token: int
    claim_id: str
    created_at: float
    claimed_at: float
    updated_at: float
    attempts: tuple[Attempt, ...] = ()
    events: tuple[Event, ...] = ()
    first_dispatched_at: float | None = None
    doubt_since: float | None = None
    settled_at: float | None = None
    not_before: float = 0.0
    quiet_attempt: int = 0
    disputed: bool = False
    request: KeptRequest | None = None
    answer: KeptAnswer | None = None

    @property
    def pending(self) -> bool:
        return self.status in PENDING

    @property
    def settled(self) -> bool:
        return self.status in SETTLED

    @property
    def doubtful(self) -> bool:
        """Only evidence moves it on."""
        return self.status in (Status.IN_DOUBT, Status.DEAD_LETTER)

    @property
    def asked(self) -> Reason | None:
        """What an operator asked for that has not been done yet; only of an order in doubt."""
        if not self.doubtful:
            return None
        recent = (event.reason for event in reversed(self.events))
        last = next((reason for reason in recent if reason in ASKS | DOINGS), None)
        return last if last in ASKS else None

    @property
    def waits(self) -> bool:
        """Somebody is to act on it: it moves by itself, or an operator asked for something."""
        return self.pending or self.asked is not None

    @property
    def attached(self) -> bool:
        return self.key_kind == "attached"

    @property
    def open_attempt(self) -> Attempt | None:
        """The attempt under way, if there is one: never more than one, and always the last."""
        if self.attempts and self.attempts[-1].result is None:
            return self.attempts[-1]
        return None

    @property
    def absence_proved(self) -> bool:
        """Nothing was placed and nothing can be any more."""
        return all(attempt.harmless for attempt in self.attempts)

    @property
    def perhaps_told(self) -> bool:
        """The ledger forgot something since it was claimed, perhaps that its client was told that
        it failed: then nobody but a person may send it again."""
        return any(
            event.reason is Reason.LEDGER_FORGOT and event.at > self.claimed_at
            for event in self.events
        )

    def may_be_sent(self, now: float) -> bool:
        """Whether a byte of this order may leave at ``now``: nothing sent before may still take
        effect, or the upstream will know its key again. Asked of an entry whose attempt is about
        to begin, or is under way and has not been sent."""
        before = self.attempts if self.open_attempt is None else self.attempts[:-1]
        if not before or all(attempt.harmless for attempt in before):
            return True
        return self.promise.dedup and self.key_remembered(now)

    def key_remembered(self, now: float) -> bool:
        """Whether an attempt that starts now meets a known key however long it lies in a queue
        (``settle_s`` bounds that): one that the upstream looks at later than ``dedup_for_s`` after
        the first dispatch is a second order."""
        if self.first_dispatched_at is None:
            return True
        ends_by = self.first_dispatched_at + self.promise.dedup_for_s
        return now + max(self.promise.attempt_timeout_s, self.promise.settle_s) < ends_by

    @property
    def quiet_at(self) -> float:
        """When nothing that was sent may take effect any more, by what the timeline says of the
        last attempt's end or takeover. Whoever is to act on it measures it anew (``quiet``)."""
        if not self.attempts:
            return self.claimed_at
        last, promise = self.attempts[-1], self.promise
        ended = (
            event.at
            for event in reversed(self.events)
            if event.attempt == last.number and event.reason not in BEGINNINGS
        )
        return next(ended, last.began_at + promise.attempt_timeout_s) + promise.settle_s

    @property
    def quiet(self) -> bool:
        """It was seen that no attempt can still take effect (``settle_s`` after the last one)."""
        return self.quiet_attempt == len(self.attempts)


_FIELDS = Entry.__match_args__
_PLACES = {name: place for place, name in enumerate(_FIELDS)}
_values_of = attrgetter(*_FIELDS)


def changed(entry: Entry, **changes: Any) -> Entry:
    """``dataclasses.replace`` of an entry, at half its cost: each order is copied at its end."""
    values = list(_values_of(entry))
    for name, value in changes.items():
        values[_PLACES[name]] = value
    return Entry(*values)
