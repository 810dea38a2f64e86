"""Orders for the tests of the rules: each in the status a test begins with."""

from dataclasses import replace

from gateway.orders import life
from gateway.orders.attempts import (
    Answer,
    Answered,
    Lost,
    LostReason,
    NotSent,
    NotSentReason,
)
from gateway.orders.claiming import ClaimRequest
from gateway.orders.entry import Entry, KeptRequest
from gateway.orders.promise import Capability, LookupPlan, OutcomeTable, Promise
from gateway.orders.states import Reason, Status

WHO = "replica-1"
NOW = 1_000_000.0
KEY = "upstream-key"

NONE: frozenset[Capability] = frozenset()
DEDUP = frozenset({Capability.DEDUP})
LOOKUP = frozenset({Capability.LOOKUP})
BOTH = DEDUP | LOOKUP
CAPABILITIES = (NONE, DEDUP, LOOKUP, BOTH)

BY_KEY = LookupPlan("GET", "/orders?idempotency_key={key}")

TIMED_OUT = Lost(LostReason.TIMEOUT, 100)
REFUSED_CONNECT = NotSent(NotSentReason.CONNECT_REFUSED)
UNUSED = NotSent(NotSentReason.CLOSED_BEFORE_SENDING)


def promise(
    capabilities: frozenset[Capability] = LOOKUP, outcomes: OutcomeTable | None = None
) -> Promise:
    return Promise(
        route="place-order",
        upstream="backend",
        capabilities=capabilities,
        lookup=BY_KEY if Capability.LOOKUP in capabilities else None,
        outcomes=outcomes or OutcomeTable(),
        dedup_for_s=7200.0 if Capability.DEDUP in capabilities else 0.0,
    )


def submission(
    claim_id: str = "claim-1",
    *,
    dispatch: bool = True,
    promised: Promise | None = None,
    fingerprint: str = "r1:aa",
    canonical: str | None = "c1:aa",
    body: bytes = b'{"sku": 1}',
) -> ClaimRequest:
    return ClaimRequest(
        claim_id=claim_id,
        order_id="order-1",
        scope="scope",
        key="key",
        key_kind="given",
        upstream_key=KEY,
        fingerprint=fingerprint,
        canonical_fingerprint=canonical,
        request=KeptRequest(b"POST", b"/orders", ((b"Host", b"backend"),), body),
        promise=promised or promise(),
        dispatch=dispatch,
        who=WHO,
    )


def answer(
    status: int,
    body: bytes = b'{"id": 42}',
    *,
    kind: bytes = b"application/json",
    framed: bool = True,
    extra: tuple[tuple[bytes, bytes], ...] = (),
) -> Answer:
    return Answer(status, b"Phrase", ((b"Content-Type", kind), *extra), body, framed=framed)


def received(capabilities: frozenset[Capability] = LOOKUP) -> Entry:
    return life.claim(submission(dispatch=False, promised=promise(capabilities)), NOW)


def dispatched(
    capabilities: frozenset[Capability] = LOOKUP, outcomes: OutcomeTable | None = None
) -> Entry:
    return life.claim(submission(promised=promise(capabilities, outcomes)), NOW)


def answered(entry: Entry, status: int, body: bytes = b'{"id": 42}') -> Entry:
    return life.end_attempt(entry, Answered(answer(status, body)), NOW, WHO)


def lost(entry: Entry, now: float = NOW) -> Entry:
    return life.end_attempt(entry, TIMED_OUT, now, WHO)


def in_doubt(capabilities: frozenset[Capability] = LOOKUP) -> Entry:
    return lost(dispatched(capabilities))


def proved_absent(capabilities: frozenset[Capability] = LOOKUP) -> Entry:
    return life.absent(life.quiet(in_doubt(capabilities)), NOW, WHO)


def resent(entry: Entry, now: float = NOW) -> Entry:
    return life.resend(entry, now, WHO)


def dead_letter(capabilities: frozenset[Capability] = LOOKUP) -> Entry:
    return life.bury(in_doubt(capabilities), Reason.DOUBT_DEADLINE, NOW, WHO)


def confirmed(capabilities: frozenset[Capability] = LOOKUP) -> Entry:
    return answered(dispatched(capabilities), 201)


def rejected(capabilities: frozenset[Capability] = LOOKUP) -> Entry:
    return answered(dispatched(capabilities), 422)


def failed(capabilities: frozenset[Capability] = LOOKUP) -> Entry:
    """Failed by proved absence: an attempt was lost, and a lookup after quiet said no."""
    return life.fail(proved_absent(capabilities), Reason.ABSENCE_PROVED, NOW, WHO)


def in_status(status: Status, capabilities: frozenset[Capability] = LOOKUP) -> Entry:
    make = {
        Status.RECEIVED: received,
        Status.DISPATCHED: dispatched,
        Status.IN_DOUBT: in_doubt,
        Status.DEAD_LETTER: dead_letter,
        Status.CONFIRMED: confirmed,
        Status.REJECTED: rejected,
        Status.FAILED: failed,
    }
    return make[status](capabilities)


def within(entry: Entry, **times: float) -> Entry:
    """The same entry, promised other times."""
    return replace(entry, promise=replace(entry.promise, **times))  # type: ignore[arg-type]
