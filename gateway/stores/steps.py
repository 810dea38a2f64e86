"""The atomic steps of the port, over the rows that a store keeps.

A store opens its atomic step (a transaction; nothing at all, for memory), hands its ``Rows`` to
one of these functions, and makes durable what the function wrote. Each computes first and writes
last, so that an exception leaves nothing behind and harms no other step of the same transaction.
"""

from dataclasses import dataclass
from math import inf, nextafter
from typing import NamedTuple, Protocol

from gateway.ledger import LEASE_MARGIN, Change, Claim, Hold, Lease, LeaseLost, LedgerUnavailable
from gateway.orders import life
from gateway.orders.attempts import NotSent, NotSentReason
from gateway.orders.bookkeeping import raise_token
from gateway.orders.claiming import (
    Claimed,
    ClaimRequest,
    Fresh,
    InFlight,
    Replay,
    attach_matches,
    decide,
)
from gateway.orders.entry import Entry
from gateway.orders.states import Reason, Status
from gateway.stores import doubting

CLAIM_REASONS = frozenset({Reason.CLAIMED, Reason.CLAIMED_AGAIN, Reason.NO_CONNECTION})

CURSOR_DIGITS_MAX = 18
"""A row number is a signed 64-bit integer: any of 18 digits is one."""


class Kept(NamedTuple):
    """An entry as it stands, and under which hold it was taken (None: nobody has it)."""

    entry: Entry
    holder: str | None


@dataclass(frozen=True, slots=True)
class Custody:
    """Who has an entry from now on: a hold, or nobody until ``due_at`` (ledger time), or, for an
    entry that waits for nothing, nobody at all."""

    holder: str | None = None
    due_at: float | None = None


NOBODY = Custody()


class Rows(Protocol):
    """What a step reads and writes. ``now`` is ledger time."""

    @property
    def now(self) -> float: ...

    def by_id(self, entry_id: str) -> Kept | None: ...

    def by_key(self, scope: str, key: str) -> Kept | None: ...

    def newest_attached(self, scope: str, fingerprint: str) -> Kept | None:
        """The attached entry of this scope and fingerprint that was claimed last."""
        ...

    def alive(self, holder: str) -> bool:
        """Whether this hold has not lapsed."""
        ...

    def due(self, limit: int) -> list[Entry]:
        """Pending entries to be taken: first those of lapsed holds, oldest first; then those that
        nobody holds and that are due, the longest overdue first."""
        ...

    def insert(self, entry: Entry, holder: str) -> None: ...

    def replace(self, before: Entry, after: Entry, custody: Custody | None) -> bool:
        """Where id, status and token of ``before`` still stand; False where they don't, and
        nothing is written. ``custody`` None leaves the entry with whom it is."""
        ...


def trusted_until(start: float, lease_s: float) -> float:
    """Monotonic time up to which a hold is trusted that was asked for at ``start``."""
    return start + lease_s * (1 - LEASE_MARGIN)


def as_claim(claimed: Claimed, hold: Hold) -> Claim:
    match claimed:
        case Fresh(entry):
            return Claim(claimed, Lease(entry.id, entry.token, hold))
        case _:
            return Claim(claimed, None)


# --- claims ----------------------------------------------------------------------------------


def claim(
    rows: Rows, request: ClaimRequest, holder: str, make: doubting.Make = doubting.trusting
) -> Claimed:
    """Take the key, or say who has it. LedgerUnavailable where the hold has lapsed."""
    kept = _bound(rows, request)
    if kept is not None:
        verdict = _verdict(kept, request, holder)
        if verdict is not None:
            return verdict
    _need_alive(rows, holder)
    before = None if kept is None else kept.entry
    entry = make(before, request, _claimed_at(rows, request, before))
    if before is None:
        rows.insert(entry, holder)
    else:
        rows.replace(before, entry, Custody(holder))
    return Fresh(entry)


def _claimed_at(rows: Rows, request: ClaimRequest, before: Entry | None) -> float:
    """Now; in the attach index after all that was claimed before, since there the latest counts:
    clocks jump, and each gateway has its own idea of a remote ledger's time."""
    attached, fingerprint = request.key_kind == "attached", request.fingerprint
    if before is not None:
        attached, fingerprint = before.attached, before.fingerprint
    newest = rows.newest_attached(request.scope, fingerprint) if attached else None
    if newest is None or newest.entry.claimed_at < rows.now:
        return rows.now
    return nextafter(newest.entry.claimed_at, inf)


def peek(rows: Rows, request: ClaimRequest, holder: str) -> Claimed | None:
    """What ``claim`` would say; None where the key would be taken."""
    kept = _bound(rows, request)
    verdict = None if kept is None else _verdict(kept, request, holder)
    return None if isinstance(verdict, Fresh) else verdict


def _bound(rows: Rows, request: ClaimRequest) -> Kept | None:
    """The entry that this submission's key, or the attach index, leads to."""
    kept = rows.by_key(request.scope, request.key)
    if kept is not None:
        made_since = claims_attached_again(kept.entry, request)
        return (_attached(rows, request, kept.entry.fingerprint) if made_since else None) or kept
    if request.key_kind != "attached":
        return None
    return _attached(rows, request, request.fingerprint)


def claims_attached_again(entry: Entry, request: ClaimRequest) -> bool:
    """Whether ``request`` repeats a key that the gateway made and that failed. The same order may
    have been made since by one without a key: then that is the order which is repeated."""
    return entry.attached and decide(entry, request) is None


def _attached(rows: Rows, request: ClaimRequest, fingerprint: str) -> Kept | None:
    newest = rows.newest_attached(request.scope, fingerprint)
    if newest is None or not attach_matches(newest.entry, rows.now, request.waited_at):
        return None
    return newest


def _verdict(kept: Kept, request: ClaimRequest, holder: str) -> Claimed | None:
    verdict = decide(kept.entry, request)
    if not isinstance(verdict, Fresh) or _as_claimed(kept, holder):
        return verdict
    return Replay(kept.entry) if kept.entry.settled else InFlight(kept.entry)


def _as_claimed(kept: Kept, holder: str) -> bool:
    """Whether a repeated claim may have its lease again: nobody has acted on the entry since.

    Were it given after a takeover, two would hold one token.
    """
    entry = kept.entry
    untouched = bool(entry.events) and entry.events[-1].reason in CLAIM_REASONS
    return entry.pending and kept.holder == holder and untouched


def disclaim(rows: Rows, request: ClaimRequest, since: float | None = None) -> bool:
    """Settle the dispatch that this very claim recorded, and no later one.

    A claim that was only ``received`` is not settled but given back at once: placing it is what
    the client asked for. So is one from before the store forgot (``since``): it may have been
    settled so before, unheard, and claimed and sent by another since. Where somebody else has acted
    on it, it is theirs. So it is always True.
    """
    kept = rows.by_key(request.scope, request.key)
    if kept is None or kept.entry.claim_id != request.claim_id:
        return True
    before = kept.entry
    attempt = before.open_attempt
    if before.status is Status.DISPATCHED and attempt and attempt.number == _claimed_with(before):
        if since is not None and before.updated_at <= since:
            rows.replace(before, raise_token(before), Custody(None, rows.now))
            return True
        end = NotSent(NotSentReason.CLAIM_UNACKNOWLEDGED)
        rows.replace(before, life.end_attempt(before, end, rows.now, request.who), NOBODY)
    elif _never_sent(before) and kept.holder is not None:
        rows.replace(before, raise_token(before), Custody(None, rows.now))
    return True


def _never_sent(entry: Entry) -> bool:
    """As its claim left it, without an attempt of its own."""
    if entry.status is Status.RECEIVED:
        return True
    return entry.status is Status.IN_DOUBT and entry.events[-1].reason is Reason.LEDGER_FORGOT


def _claimed_with(entry: Entry) -> int | None:
    """The attempt that the latest claim recorded; None where it recorded none."""
    claims = [event for event in entry.events if event.reason in CLAIM_REASONS]
    return claims[-1].attempt if claims else None


# --- writes ----------------------------------------------------------------------------------


def write(rows: Rows, lease: Lease, before: Entry, after: Entry, due_in_s: float | None) -> None:
    """LeaseLost unless status and token still stand."""
    if not before.id == after.id == lease.entry_id:
        raise ValueError(f"a lease on {lease.entry_id} writes no other order")
    custody: Custody | None = NOBODY
    if after.waits:
        custody = None if due_in_s is None else Custody(None, rows.now + due_in_s)
    if before.token != lease.token or not rows.replace(before, after, custody):
        raise LeaseLost(f"order {before.id} is no longer {before.status} under {lease.token}")


def amend(rows: Rows, entry_id: str, change: Change) -> Entry | None:
    """The new entry. Whoever held it has lost it; where it is still pending it is due at once."""
    kept = rows.by_id(entry_id)
    if kept is None:
        return None
    before = kept.entry
    after = change(before, rows.now)
    if after is None or after is before:
        return None
    if after.id != before.id or after.token <= before.token:
        raise ValueError(f"an amendment of {entry_id} must raise its token")
    rows.replace(before, after, Custody(None, rows.now) if after.waits else NOBODY)
    return after


def lease_due(
    rows: Rows, holder: str, limit: int, who: str, forgot_at: float | None = None
) -> list[Entry]:
    """The entries taken, each with a higher token. LedgerUnavailable where the hold lapsed."""
    _need_alive(rows, holder)
    now = rows.now
    taken = [(each, doubting.take_over(each, forgot_at, now, who)) for each in rows.due(limit)]
    for before, after in taken:
        rows.replace(before, after, Custody(holder))
    return [after for _, after in taken]


def _need_alive(rows: Rows, holder: str) -> None:
    if not rows.alive(holder):
        raise LedgerUnavailable("this process's hold on the ledger has lapsed", written=False)


def page_start(after: str | None) -> int:
    """The number of the last entry of the page before; a cursor that isn't ours starts over."""
    if after is None or len(after) > CURSOR_DIGITS_MAX or not after.isascii():
        return 0
    return int(after) if after.isdecimal() else 0


# --- retention -------------------------------------------------------------------------------


def answer_until(entry: Entry) -> float | None:
    """When the kept body is to be removed (ledger time); None: there is none to remove."""
    if entry.settled_at is None or entry.answer is None or entry.answer.body is None:
        return None
    return entry.settled_at + entry.promise.retention_s


def entry_until(entry: Entry) -> float | None:
    """When the entry itself is to be removed; None while it has no outcome."""
    if entry.settled_at is None:
        return None
    return entry.settled_at + entry.promise.retention_s + entry.promise.tombstone_s
