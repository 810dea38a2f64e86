"""Orders as they lie in a bucket: reading them, and the one write that changes one.

``Seen`` stands between the rules of ``steps`` and a store that can't run them: it shows a rule
what was read, and keeps what the rule would write, which ``put`` then writes only where all that
was shown still stands.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from gateway.ledger import Lease
from gateway.orders.entry import Entry
from gateway.stores import steps, valkey_codec
from gateway.stores.steps import Custody, Kept
from gateway.stores.unreadable import unreadable
from gateway.stores.valkey_keys import NUMBER, Place
from gateway.stores.valkey_lane import Args


class Stored(NamedTuple):
    """An order as it was read, where it lies, and its version: a number that each write raises."""

    place: Place
    entry: Entry
    holder: str | None
    version: str
    member: str
    """How indices name it."""
    due_at: float | None
    """Where nobody holds it: when it is due, if it ever is."""

    @classmethod
    def of(cls, place: Place, flat: list[bytes]) -> "Stored | None":
        """None where there is none. Raises EntryUnreadable."""
        if not flat:
            return None
        fields = valkey_codec.pairs(flat)
        try:
            return cls._of(place, fields)
        except Exception as error:
            name = fields.get(b"id", b"").decode("utf-8", "replace")
            raise unreadable(name or place.ref, error) from error

    @classmethod
    def _of(cls, place: Place, fields: Mapping[bytes, bytes]) -> "Stored":
        holder = fields.get(b"h", b"").decode() or None
        member = f"{int(fields[b'n']):016}:{place.ref}"
        return cls(
            place,
            valkey_codec.entry(fields),
            holder,
            fields[b"v"].decode(),
            member,
            float(fields[b"du"]) if b"du" in fields and holder is None else None,
        )


@dataclass(frozen=True, slots=True)
class Intent:
    """What a rule would write: ``before`` None makes a new order."""

    before: Entry | None
    after: Entry
    custody: Custody | None
    now: float


class Seen:
    """``Rows`` of what was read. Whether the hold lives is left to the script."""

    # ruff: noqa: ARG002 - one order is shown, whatever it is asked by

    def __init__(self, now: float, own: Stored | None, newest: Stored | None = None) -> None:
        self.now = now
        self.intent: Intent | None = None
        self._own = own
        self._newest = newest

    def by_id(self, entry_id: str) -> Kept | None:
        return _kept(self._own)

    def by_key(self, scope: str, key: str) -> Kept | None:
        return _kept(self._own)

    def newest_attached(self, scope: str, fingerprint: str) -> Kept | None:
        return _kept(self._newest)

    def alive(self, holder: str) -> bool:
        return True

    def due(self, limit: int) -> list[Entry]:
        raise NotImplementedError("what is due is asked of each bucket")

    def insert(self, entry: Entry, holder: str) -> None:
        self.intent = Intent(None, entry, Custody(holder), self.now)

    def replace(self, before: Entry, after: Entry, custody: Custody | None) -> bool:
        self.intent = Intent(before, after, custody, self.now)
        return True


def _kept(stored: Stored | None) -> Kept | None:
    return None if stored is None else Kept(stored.entry, stored.holder)


# --- what scripts are given ------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Guard:
    """Under which condition a write stands. ``newest``: the end of the attach index that the rule
    was shown, for an order that belongs there and is claimed. ``trusting``: the rule knew of
    nothing that the store forgot."""

    kind: Literal["absent", "version", "token"]
    first: str = ""
    second: str = ""
    alive: bool = False
    newest: Stored | Literal["none"] | None = None
    trusting: bool = False


def absent(newest: Stored | None, since: float | None) -> Guard:
    """``since``, here and below: when the rule was told that the store forgot."""
    return Guard("absent", alive=True, newest=newest or "none", trusting=since is None)


def unchanged(stored: Stored, since: float | None, *, alive: bool = False) -> Guard:
    return Guard("version", stored.version, alive=alive, trusting=since is None)


def claimed_again(stored: Stored, newest: Stored | None, since: float | None) -> Guard:
    return replace(absent(newest, since), kind="version", first=stored.version)


def leased(lease: Lease, since: float | None) -> Guard:
    return Guard("token", str(lease.token), lease.hold.holder, trusting=since is None)


def put_keys(place: Place, entry: Entry, newest: Stored | None) -> Args:
    bucket = place.bucket
    attach = place.order
    if entry.attached:
        attach = bucket.attached(entry.scope, entry.fingerprint)
    return (
        place.order,
        bucket.meta,
        bucket.held,
        bucket.due,
        bucket.age,
        bucket.dead,
        bucket.answers,
        bucket.ends,
        bucket.by_id(entry.id),
        attach,
        place.order if newest is None else newest.place.order,
        *bucket.statuses,
    )


def put_args(op: str, place: Place, intent: Intent, guard: Guard, member: str) -> Args:
    """All but time and holder. ``member`` names ``guard.newest`` in the attach index."""
    before, after = intent.before, intent.after
    drops, fields = valkey_codec.put_fields(before, after)
    kind, due_in_s = _custody(intent.custody, intent.now)
    shown = guard.newest if after.attached else None
    return (
        op,
        place.ref,
        after.id,
        f"{'alive' if guard.alive else ''} {'trusting' if guard.trusting else ''}",
        guard.kind,
        guard.first,
        guard.second,
        "" if shown is None else "none" if shown == "none" else member,
        shown.version if isinstance(shown, Stored) else "",
        0 if before is None else NUMBER[before.status],
        NUMBER[after.status],
        "" if before and before.claimed_at == after.claimed_at else repr(after.claimed_at),
        kind,
        due_in_s,
        *_retention(before, after),
        int(after.disputed) - (0 if before is None else int(before.disputed)),
        after.token,
        len(drops),
        *drops,
        *fields,
    )


def _custody(custody: Custody | None, now: float) -> tuple[str, str]:
    """How the script says it: when something is due counts from the store's own time."""
    if custody is None:
        return "keep", ""
    if custody.holder is not None:
        return "held", ""
    return ("none", "") if custody.due_at is None else ("due", repr(custody.due_at - now))


def _retention(before: Entry | None, after: Entry) -> tuple[str, str, str]:
    ends = steps.entry_until(after)
    if ends is None:
        return ("off" if before is not None and before.settled else ""), "", ""
    answer = steps.answer_until(after)
    return "on", "" if answer is None else repr(answer), repr(ends)


def member_parts(member: bytes) -> tuple[int, str]:
    """The number and the ref of a member of an index."""
    number, _, ref = member.partition(b":")
    return int(number), ref.decode()
