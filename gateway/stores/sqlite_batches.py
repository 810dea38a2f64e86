"""What most calls of a batch are, done together: claims of new keys, and orders that end.

Each is decided by the same pure functions as one by one, and guarded in the same way; only the
statements take many rows. Whatever is not so plain (a key that is known, two of one key, a lease
that was lost) is left to ``steps``, call by call, in the same transaction.
"""

from collections.abc import Sequence
from typing import Any, Final

from gateway.ledger import Lease
from gateway.orders import life
from gateway.orders.claiming import Claimed, ClaimRequest, Fresh
from gateway.orders.entry import Entry
from gateway.stores import codec, steps
from gateway.stores.sqlite_rows import SqliteRows

LEFT: Final = object()
"""The outcome of a call that is still to be made."""


class Torn(Exception):
    """What was done together can't stand: roll back, and make each call by itself."""


class ClaimCall:
    """``steps.claim`` as a call of a batch."""

    __slots__ = ("holder", "request")

    def __init__(self, request: ClaimRequest, holder: str) -> None:
        self.request = request
        self.holder = holder

    def __call__(self, rows: SqliteRows) -> Claimed:
        return steps.claim(rows, self.request, self.holder)


class WriteCall:
    """``steps.write`` as a call of a batch."""

    __slots__ = ("after", "before", "due_in_s", "lease")

    def __init__(self, lease: Lease, before: Entry, after: Entry, due_in_s: float | None) -> None:
        self.lease = lease
        self.before = before
        self.after = after
        self.due_in_s = due_in_s

    def __call__(self, rows: SqliteRows) -> None:
        return steps.write(rows, self.lease, self.before, self.after, self.due_in_s)

    @property
    def plain(self) -> bool:
        """It only ends an order that was pending, under a lease that was right when it was read."""
        before, after = self.before, self.after
        return (
            before.id == after.id == self.lease.entry_id
            and before.token == self.lease.token
            and before.pending
            and after.settled
            and before.answer is None
        )


def run_together(rows: SqliteRows, calls: Sequence[Any]) -> list[Any]:
    """The outcomes of those calls that can be made together, LEFT for the others. Raises Torn."""
    outcomes: list[Any] = [LEFT] * len(calls)
    claims: list[tuple[int, ClaimCall]] = []
    ends: dict[str, tuple[int, WriteCall]] = {}
    for place, call in enumerate(calls):
        if type(call) is ClaimCall:
            claims.append((place, call))
        elif type(call) is WriteCall and call.plain:
            ends.setdefault(call.before.id, (place, call))
    if ends:  # first: the pages of their requests serve the new ones
        if not rows.settle_all([(call.before, call.after) for _, call in ends.values()]):
            raise Torn
        for place, _ in ends.values():
            outcomes[place] = None
    new = _new_keys(rows, claims)
    if new:
        entries = [life.claim(call.request, rows.now) for _, _, call in new]
        rows.insert_all(entries, [digest for digest, _, _ in new], new[0][2].holder)
        for (_, place, _), entry in zip(new, entries, strict=True):
            outcomes[place] = Fresh(entry)
    return outcomes


def _new_keys(
    rows: SqliteRows, claims: Sequence[tuple[int, ClaimCall]]
) -> list[tuple[bytes, int, ClaimCall]]:
    """Those, after the digests of their keys, whose key and, for an attached one, submission has
    no entry and is alone in the batch; all under one hold that has not lapsed."""
    if not claims or not rows.alive(claims[0][1].holder):
        return []
    holder = claims[0][1].holder
    first: dict[bytes, tuple[int, ClaimCall]] = {}
    attached: set[tuple[str, str]] = set()
    for place, call in claims:
        request = call.request
        if call.holder != holder:
            continue
        if request.key_kind == "attached":
            submission = (request.scope, request.fingerprint)
            if submission in attached or rows.newest_attached(*submission) is not None:
                continue
            attached.add(submission)
        first.setdefault(codec.key_digest(request.scope, request.key), (place, call))
    known = rows.known_keys(list(first))
    return [(digest, *each) for digest, each in first.items() if digest not in known]
