"""Finding, reading and writing single orders."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from gateway.ledger import EntryUnreadable, Lease, LedgerUnavailable, Watchers
from gateway.settings.ledger_urls import Kind
from gateway.stores.unreadable import Unreadables
from gateway.stores.valkey_calls import Calls
from gateway.stores.valkey_keys import Bucket, Layout, Place
from gateway.stores.valkey_rows import (
    Guard,
    Intent,
    Stored,
    member_parts,
    put_args,
    put_keys,
)

PLACES_MAX = 50_000
"""Orders whose place this process remembers by their id: 10 MB; another one costs a question."""


@dataclass(frozen=True, slots=True)
class Written:
    """It is done, and durable."""


@dataclass(frozen=True, slots=True)
class Changed:
    """The guard did not stand: ``stored`` is what is there (of a leased write: unknown)."""

    stored: Stored | None


@dataclass(frozen=True, slots=True)
class NewestIs:
    """The end of the attach index is another one than the rule was shown ("" none)."""

    member: bytes


Said = Written | Changed | NewestIs


class Orders:
    """``holder`` says under which hold this process writes now."""

    def __init__(
        self,
        calls: Calls,
        layout: Layout,
        watchers: Watchers,
        *,
        holder: Callable[[], str],
        new_op: Callable[[], str],
        unreadables: Unreadables | None = None,
    ) -> None:
        self.unreadables = unreadables or Unreadables()
        self._calls = calls
        self._layout = layout
        self._watchers = watchers
        self._holder = holder
        self._new_op = new_op
        self._places: OrderedDict[str, Place] = OrderedDict()

    # --- reading -----------------------------------------------------------------------------

    async def read(
        self, place: Place, *, told: bool = False, patient: bool = True
    ) -> Stored | None:
        """``told``: a client is told of it, so that it must be durable. ``patient``: wait for a
        failover, or a bucket that moves."""
        stored, _ = await self._read(place, (), told=told, patient=patient)
        return stored

    async def read_with_newest(
        self, place: Place, scope: str, fingerprint: str
    ) -> tuple[Stored | None, Stored | None]:
        """The order, and the newest of the attach index."""
        attach = place.bucket.attached(scope, fingerprint)
        stored, member = await self._read(place, (attach,), told=True)
        return stored, await self.newest(place.bucket, member)

    async def newest(self, bucket: Bucket, member: bytes) -> Stored | None:
        """A client is told of it."""
        if not member:
            return None
        return await self.read(Place(bucket, member_parts(member)[1]), told=True)

    async def _read(
        self, place: Place, more: tuple[bytes, ...], *, told: bool, patient: bool = True
    ) -> tuple[Stored | None, bytes]:
        bucket = place.bucket
        keys = (place.order, bucket.meta, *more)
        flat, newest = await self._calls.order(
            bucket,
            "read",
            keys,
            ("told" if told else "",),
            holder=self._holder(),
            writes=False,
            patient=patient,
        )
        stored = self._stored(place, flat)
        if stored is not None:
            self._remember(stored.entry.id, place)
        return stored, newest

    def _stored(self, place: Place, flat: list[bytes]) -> Stored | None:
        try:
            return Stored.of(place, flat)
        except EntryUnreadable as error:
            self.unreadables.met(error, place)
            raise

    async def find(self, entry_id: str, *, told: bool = False) -> Stored | None:
        place = await self.locate(entry_id)
        stored = None if place is None else await self.read(place, told=told)
        if stored is not None and stored.entry.id != entry_id:
            self._places.pop(entry_id, None)
            if await self.locate(entry_id) is None:
                return None  # it was forgotten since, and its key used again
            raise LedgerUnavailable(f"order {entry_id} lies where another one does", written=False)
        return stored

    async def locate(self, entry_id: str) -> Place | None:
        """An id does not say in which bucket the order is: ask all, unless we know."""
        known = self._places.get(entry_id)
        if known is not None:
            return known
        buckets = self._layout.buckets
        keys = [bucket.by_id(entry_id) for bucket in buckets]
        if self._calls.servers.kind is Kind.CLUSTER:
            asked = [(bucket, ("GET", key)) for bucket, key in zip(buckets, keys, strict=True)]
            refs = await self._calls.read_all(asked)
        else:
            refs = await self._calls.read(buckets[0], "MGET", *keys)
        for bucket, ref in zip(buckets, refs, strict=True):
            if ref is not None:
                return self._remember(entry_id, Place(bucket, ref.decode()))
        return None

    def _remember(self, entry_id: str, place: Place) -> Place:
        self._places[entry_id] = place
        if len(self._places) > PLACES_MAX:
            self._places.popitem(last=False)
        return place

    # --- writing -----------------------------------------------------------------------------

    async def put(
        self, place: Place, intent: Intent, guard: Guard, *, holder: str, patient: bool = True
    ) -> Said:
        """Write what a rule wants, where what it was shown still stands."""
        newest = guard.newest if isinstance(guard.newest, Stored) else None
        member = "" if newest is None else newest.member
        said, *rest = await self._calls.order(
            place.bucket,
            "put",
            put_keys(place, intent.after, newest),
            put_args(self._new_op(), place, intent, guard, member),
            holder=holder,
            patient=patient,
        )
        match said:
            case b"ok" | b"echo":
                self._remember(intent.after.id, place)
                self._watchers.publish(intent.after)
                return Written()
            case b"changed":
                return Changed(self._stored(place, rest[0]) if rest else None)
            case b"attached":
                return NewestIs(rest[0])
            case b"lapsed":
                raise LedgerUnavailable("this process's hold on the ledger lapsed", written=False)
            case b"taken":
                text = f"there is an order {intent.after.id} already"
                raise LedgerUnavailable(text, written=False)
            case _:
                raise LedgerUnavailable("the ledger is empty: it forgot everything", written=False)

    async def give_back(self, lease: Lease, due_in_s: float) -> None:
        place = await self.locate(lease.entry_id)
        if place is None:
            return
        bucket = place.bucket
        await self._calls.order(
            bucket,
            "release",
            (place.order, bucket.meta, bucket.held, bucket.due),
            (place.ref, lease.token, lease.hold.holder, repr(due_in_s)),
            holder=self._holder(),
        )
