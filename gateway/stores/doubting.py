"""What a store does that forgot: that a key is not there proves nothing, and an order from before
may be further than it looks. Until an operator trusts the store again.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import NamedTuple, TypeAlias

import orjson

from gateway.ledger import Change, LeaseLost, LedgerUnavailable
from gateway.orders import life
from gateway.orders.claiming import ClaimRequest
from gateway.orders.entry import Entry
from gateway.orders.states import Reason, Status

LEAVE = (
    "keys that are not there are looked up before they are sent, and what has no key, or no way to"
    " be looked up, is refused, until an operator, once no client repeats a key from before, runs:"
    " ordergate trust --config FILE"
)


class Said(NamedTuple):
    """What was said of a store: since when (ledger time), why, and by whom."""

    at: float
    why: str
    who: str

    def text(self) -> str:
        return orjson.dumps(list(self)).decode()

    @classmethod
    def of(cls, text: str | None) -> "Said | None":
        return cls(*orjson.loads(text)) if text else None

    @property
    def advice(self) -> str:
        """For ``/readyz``, the metric and the log."""
        return f"the store forgot ({self.why}): {LEAVE}"


class CanNotTell(LedgerUnavailable):
    """This claim is refused, others are not: no trouble of the ledger's."""


Make: TypeAlias = Callable[[Entry | None, ClaimRequest, float], Entry]
"""From an entry that failed, or none, to the one that is claimed."""


def making(since: float | None) -> Make:
    """How claims are made. ``since``: when it was noticed that the store forgot; None: it is
    trusted."""
    return trusting if since is None else partial(claim, since=since)


def claim(before: Entry | None, request: ClaimRequest, now: float, since: float) -> Entry:
    """The claim as it must be made: in doubt from the start, so that the order is looked up, or
    sent under its old key, before anything new is.

    CanNotTell where neither could: a route with no way to ask, or a submission without
    a key of its own, which was perhaps sent under one that nobody knows any more. (An anonymous
    one without a key is never the same as another: nothing of it can be forgotten.) Nor of a
    submission from before: what its client was told since may be what is forgotten.
    """
    if request.key_kind == "anonymous":
        return trusting(before, request, now)
    if not request.promise.capabilities:
        raise CanNotTell(
            "the ledger forgot, and this route can neither look up nor deduplicate", written=False
        )
    if request.key_kind == "attached":
        raise CanNotTell(
            "the ledger forgot, and a submission without Idempotency-Key can't be looked up",
            written=False,
        )
    if request.waited_at < since:
        raise CanNotTell(
            "the ledger forgot, and a submission from before may have been answered", written=False
        )
    claimed = trusting(before, replace(request, dispatch=False), now)
    return life.suspect(claimed, now, request.who)


def trusting(before: Entry | None, request: ClaimRequest, now: float) -> Entry:
    """The claim where what is not there was never there."""
    if before is None:
        return life.claim(request, now)
    return life.claim_again(before, request, now)


def unsuspected(entry: Entry, since: float | None) -> bool:
    """Whether it is open, from before the store was found to have forgotten, and nobody has taken
    into account yet that it may be further than it looks."""
    if since is None or entry.settled or entry.claimed_at > since:
        return False
    return not any(
        event.reason is Reason.LEDGER_FORGOT and event.at >= since for event in entry.events
    )


def take_over(before: Entry, since: float | None, now: float, who: str) -> Entry:
    """``since``: when it was noticed that the store forgot; None: it is trusted."""
    after = life.take_over(before, now, who)
    if since is None or not unsuspected(after, since):
        return after
    return life.suspect(after, max(now, since), who)


def check_lease(before: Entry, after: Entry, since: float | None) -> None:
    """Raise LeaseLost where a lease on an entry from before is to write anything but that the order
    is held: another may have been given since, under which it was sent again, and be gone."""
    if unsuspected(before, since) and after.status is not Status.CONFIRMED:
        raise LeaseLost(f"order {before.id} is from before the ledger forgot")


def amending(change: Change, since: float | None, who: str, *, evidence: bool) -> Change:
    """``change``, of an entry that is suspected first. ``evidence``: it is what one attempt came
    to, of which there may have been more than the entry shows; else it is a person's word."""
    return change if since is None else partial(_amend, change, since, who, evidence)


def _amend(
    change: Change, since: float, who: str, evidence: bool, before: Entry, now: float
) -> Entry | None:
    if not unsuspected(before, since):
        return change(before, now)
    if evidence:
        return change(take_over(before, since, now, who), now)
    if before.doubtful and before.open_attempt is None:
        # As of when it was noticed: it is not written where the person's word is refused.
        before = life.suspect(before, max(before.updated_at, since), who)
    return change(before, now)


def shown(entry: Entry | None, since: float | None) -> Entry | None:
    """What a client may be told of. A try from before that failed may have been followed by one
    that is gone: it looks like none, so that its client submits again, under the same key."""
    old = entry is not None and since is not None and entry.updated_at <= since
    return None if old and entry is not None and entry.status is Status.FAILED else entry
