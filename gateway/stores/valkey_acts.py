"""What the port does to single orders: read, decide by the rules of ``steps``, write where what was
read still stands; where it does not, once more."""

from collections.abc import Callable

from gateway.ledger import Change, Claim, Hold, Lease, LeaseLost, LedgerUnavailable
from gateway.orders.claiming import Claimed, ClaimRequest, Fresh
from gateway.orders.entry import Entry
from gateway.stores import doubting, steps
from gateway.stores.valkey_keys import Layout
from gateway.stores.valkey_orders import Changed, NewestIs, Orders, Written
from gateway.stores.valkey_rows import (
    Seen,
    Stored,
    absent,
    claimed_again,
    leased,
    unchanged,
)
from gateway.stores.valkey_trust import Trust

AGAIN_MAX = 100
"""How often an order is read and decided again because somebody else was faster: two hundred
submissions of one key settle after a few."""


class Acts:
    def __init__(
        self,
        orders: Orders,
        layout: Layout,
        trust: Trust,
        *,
        holder: Callable[[], str],
        now: Callable[[], float],
    ) -> None:
        self._orders = orders
        self._layout = layout
        self._trust = trust
        self._holder = holder
        self._now = now

    async def claim(self, request: ClaimRequest, hold: Hold) -> Claim:
        place = self._layout.place(request.scope, request.key)
        own: Stored | None = None
        newest: Stored | None = None
        for _ in range(AGAIN_MAX):
            seen = Seen(self._now(), own, newest)
            since = self._trust.since(place.bucket.number)
            claimed = steps.claim(seen, request, hold.holder, doubting.making(since))
            if seen.intent is None:
                return steps.as_claim(claimed, hold)
            intent = seen.intent
            guard = absent(newest, since)
            if own is not None:
                guard = claimed_again(own, newest, since)
            match await self._orders.put(place, intent, guard, holder=hold.holder):
                case Written() if since is None and self._trust.reason is not None:
                    raise LedgerUnavailable("it was found meanwhile that the ledger forgot")
                case Written():
                    return steps.as_claim(Fresh(intent.after), hold)
                case Changed(stored):
                    own = stored
                case NewestIs(member):
                    newest = await self._orders.newest(place.bucket, member)
        raise LedgerUnavailable("the key changes faster than it can be read", written=False)

    async def peek(self, request: ClaimRequest) -> Claimed | None:
        place = self._layout.place(request.scope, request.key)
        newest: Stored | None = None
        if request.key_kind == "attached":
            own, newest = await self._orders.read_with_newest(
                place, request.scope, request.fingerprint
            )
        else:
            own = await self._orders.read(place, told=True)
            if own is not None and steps.claims_attached_again(own.entry, request):
                own, newest = await self._orders.read_with_newest(
                    place, request.scope, own.entry.fingerprint
                )
        return steps.peek(Seen(self._now(), own, newest), request, self._holder())

    async def write(
        self, lease: Lease, before: Entry, after: Entry, due_in_s: float | None
    ) -> None:
        place = self._layout.place_of(after)
        since = self._trust.since(place.bucket.number)
        doubting.check_lease(before, after, since)
        seen = Seen(self._now(), None)
        steps.write(seen, lease, before, after, due_in_s)
        assert seen.intent is not None  # noqa: S101 - it raised, or it wants to write
        guard = leased(lease, since)
        said = await self._orders.put(place, seen.intent, guard, holder=self._holder())
        if not isinstance(said, Written):
            raise LeaseLost(f"order {before.id} is no longer {before.status} under {lease.token}")

    async def amend(
        self, entry_id: str, change: Change, who: str, *, evidence: bool
    ) -> Entry | None:
        for _ in range(AGAIN_MAX):
            stored = await self._orders.find(entry_id)
            if stored is None:
                return None
            seen, since = Seen(self._now(), stored), self._trust.since(stored.place.bucket.number)
            applied = doubting.amending(change, since, who, evidence=evidence)
            after = steps.amend(seen, entry_id, applied)
            if seen.intent is None or await self._put(stored, seen, since):
                return after
        raise LedgerUnavailable("the order changes faster than it can be read", written=False)

    async def disclaim(self, request: ClaimRequest) -> bool:
        place = self._layout.place(request.scope, request.key)
        for _ in range(AGAIN_MAX):
            stored = await self._orders.read(place, told=True)
            seen, since = Seen(self._now(), stored), self._trust.since(place.bucket.number)
            done = steps.disclaim(seen, request, since)
            if stored is None or seen.intent is None or await self._put(stored, seen, since):
                return done
        raise LedgerUnavailable("the order changes faster than it can be read", written=False)

    async def _put(self, stored: Stored, seen: Seen, since: float | None) -> bool:
        """False where somebody was faster."""
        assert seen.intent is not None  # noqa: S101 - the callers have looked
        guard = unchanged(stored, since)
        said = await self._orders.put(stored.place, seen.intent, guard, holder=self._holder())
        return isinstance(said, Written)
