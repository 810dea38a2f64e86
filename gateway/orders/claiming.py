"""Who gets a key: the decision that a store takes inside its one atomic step."""

from dataclasses import dataclass
from math import inf
from typing import TypeAlias

from gateway.orders.entry import Entry, KeptRequest, KeyKind
from gateway.orders.promise import Promise
from gateway.orders.states import FINAL, Status
from middleware.idempotency.rules import Sameness, same_submission
from middleware.values import light

ANONYMOUS = "anonymous"
"""The scope of clients that show none; their keys are random or unguessable."""


@light
@dataclass(frozen=True, slots=True)
class ClaimRequest:
    """A submission that wants its key.

    ``claim_id`` is random for each submission: the same claim made twice (a lost
    acknowledgement) is one claim. ``dispatch`` says that a connection is at hand, so that the
    claim also records the dispatch; otherwise the order is ``received``. ``waited_at``: ledger time
    at which its client was seen to wait for the answer. What failed later than that may be what
    this client was told, or gave up on: then this submission belongs to the try that failed, and
    is no new one.
    """

    claim_id: str
    order_id: str
    scope: str
    key: str
    key_kind: KeyKind
    upstream_key: str
    fingerprint: str
    canonical_fingerprint: str | None
    request: KeptRequest
    promise: Promise
    dispatch: bool
    who: str
    waited_at: float = inf


@light
@dataclass(frozen=True, slots=True)
class Fresh:
    """The key is this submission's: a new entry, or the next try of one that failed."""

    entry: Entry


@light
@dataclass(frozen=True, slots=True)
class InFlight:
    """The same submission is pending or waits for a person."""

    entry: Entry


@light
@dataclass(frozen=True, slots=True)
class Replay:
    """The same submission has its final answer."""

    entry: Entry


@dataclass(frozen=True, slots=True)
class Mismatch:
    """The key is bound to another submission."""

    entry: Entry


@dataclass(frozen=True, slots=True)
class Unreadable:
    """The key's fingerprint has a tag that this version doesn't know: never ``Fresh``."""

    entry: Entry


Claimed: TypeAlias = Fresh | InFlight | Replay | Mismatch | Unreadable


def attach_matches(entry: Entry, now: float, waited_at: float = inf) -> bool:
    """Whether a submission without a key is taken for ``entry``: while it is pending or waits for
    a person, and for ``attach_window_s`` after it was confirmed. A rejection releases it at once,
    unless evidence says that the upstream holds the order after all, or the submission is older
    (``ClaimRequest.waited_at``).
    """
    window_s = entry.promise.attach_window_s
    match entry.status:
        case Status.REJECTED | Status.FAILED:
            held = entry.disputed or waited_at < entry.updated_at
            return held and now < entry.updated_at + window_s
        case Status.CONFIRMED:
            settled_at = entry.settled_at if entry.settled_at is not None else entry.updated_at
            return now < settled_at + window_s
        case _:
            return True


def decide(entry: Entry, request: ClaimRequest) -> Claimed | None:
    """What an existing entry means for ``request``; None: take the key again (``failed``)."""
    if entry.claim_id == request.claim_id:
        return _claimed_before(entry)
    match _sameness(entry, request):
        case Sameness.UNKNOWN_TAG:
            return Unreadable(entry)
        case Sameness.DIFFERENT:
            return Mismatch(entry)
        case Sameness.SAME:
            pass
    if entry.status in FINAL or (entry.status is Status.FAILED and entry.disputed):
        return Replay(entry)
    if entry.status is Status.FAILED:
        return None if request.waited_at >= entry.updated_at else Replay(entry)
    return InFlight(entry)


def _claimed_before(entry: Entry) -> Claimed:
    """The echo of a claim: ``Fresh`` only while it is as the claim left it. What has moved on is
    somebody else's, or over; it is neither sent nor claimed once more by an echo."""
    if entry.status in (Status.RECEIVED, Status.DISPATCHED):
        return Fresh(entry)
    return Replay(entry) if entry.settled else InFlight(entry)


def _sameness(entry: Entry, request: ClaimRequest) -> Sameness:
    return same_submission(
        entry.fingerprint,
        entry.canonical_fingerprint,
        request.fingerprint,
        lambda: request.canonical_fingerprint,
    )
