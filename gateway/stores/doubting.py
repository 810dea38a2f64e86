"""What a store does that forgot: that a key is not there proves nothing, and an order from before
may be further than it looks. Until an operator trusts the store again.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import NamedTuple, TypeAlias

import orjson

from gateway.ledger import Change, LedgerUnavailable
from gateway.orders import life
from gateway.orders.claiming import ClaimRequest
from gateway.orders.entry import Entry
from gateway.orders.states import Status

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


def take_over(before: Entry, since: float | None, now: float, who: str) -> Entry:
    """``since``: when it was noticed that the store forgot; None: it is trusted."""
    after = life.take_over(before, now, who)
    if since is None or before.updated_at > since or not after.pending:
        return after
    return life.suspect(after, now, who)


def proving(change: Change, since: float | None, who: str) -> Change:
    """``change`` by what one attempt came to. Of an entry from before, where the store forgot:
    there may have been more attempts than it shows, so that a refusal of this one settles nothing.
    """
    return change if since is None else partial(_prove, change, since, who)


def _prove(change: Change, since: float, who: str, before: Entry, now: float) -> Entry | None:
    if before.updated_at > since or before.settled:
        return change(before, now)
    if before.pending:
        return change(take_over(before, since, now, who), now)
    after = change(before, now)  # of a dead letter that a person perhaps had sent again
    refused = after is not None and after.status in (Status.FAILED, Status.REJECTED)
    return None if refused else after


def shown(entry: Entry | None, since: float | None) -> Entry | None:
    """What a client may be told of. A try from before that failed may have been followed by one
    that is gone: it looks like none, so that its client submits again, under the same key."""
    old = entry is not None and since is not None and entry.updated_at <= since
    return None if old and entry is not None and entry.status is Status.FAILED else entry
