"""What looks at many orders: pages, counts, and forgetting what is past its time."""

from collections.abc import Callable, Sequence

from gateway.ledger import Counts, Page
from gateway.orders.entry import Entry
from gateway.orders.states import Status
from gateway.stores import steps, valkey_codec
from gateway.stores.valkey_calls import Calls
from gateway.stores.valkey_keys import BUCKETS, NUMBER, STATUSES, Bucket, Place
from gateway.stores.valkey_orders import Orders
from gateway.stores.valkey_rows import member_parts
from middleware.clock import Clock


class Views:
    def __init__(
        self,
        calls: Calls,
        orders: Orders,
        *,
        clock: Clock,
        holder: Callable[[], str],
        now: Callable[[], float],
    ) -> None:
        self._calls = calls
        self._orders = orders
        self._clock = clock
        self._holder = holder
        self._now = now

    # --- pages -------------------------------------------------------------------------------

    async def page(self, statuses: tuple[Status, ...], limit: int, after: str | None) -> Page:
        """A cursor is an order's number and its bucket, in one: numbers are times."""
        start = steps.page_start(after)
        asked = set(statuses or STATUSES)
        number = start // BUCKETS
        found = await self._range(
            lambda bucket: [bucket.statuses[NUMBER[each] - 1] for each in asked],
            number,
            "+inf",
            limit + 2,
        )
        cursors = sorted(
            (number * BUCKETS + bucket.number, bucket, ref) for number, bucket, ref, _ in found
        )
        beyond = [each for each in cursors if each[0] > start]
        shown = beyond[:limit]
        entries = await self._bare([Place(bucket, ref) for _, bucket, ref in shown])
        kept = tuple(each for each in entries if each is not None and each.status in asked)
        return Page(kept, str(shown[-1][0]) if len(beyond) > limit and shown else None)

    async def _range(
        self,
        sets_of: Callable[[Bucket], Sequence[bytes]],
        lowest: float | str,
        highest: float | str,
        limit: int,
    ) -> list[tuple[int, Bucket, str, float]]:
        """Number, bucket, ref and score of what the sets hold between two scores."""
        replies = await self._calls.everywhere_flat(
            "range", sets_of, (_text(lowest), _text(highest), limit)
        )
        found = []
        for bucket, flat in replies:
            for member, score in zip(flat[::2], flat[1::2], strict=True):
                number, ref = member_parts(member)
                found.append((number, bucket, ref, float(score)))
        return found

    async def _bare(self, places: Sequence[Place]) -> list[Entry | None]:
        """Without requests and answers."""
        asked = [(each.bucket, ("HMGET", each.order, "d", "p")) for each in places]
        entries = []
        for document, promise in await self._calls.read_all(asked):
            fields = {b"d": document, b"p": promise}
            entries.append(None if document is None else valkey_codec.entry(fields))
        return entries

    # --- counts ------------------------------------------------------------------------------

    async def counts(self) -> Counts:
        replies = await self._calls.everywhere(
            "counts", lambda bucket: (bucket.meta, bucket.age, bucket.dead), ()
        )
        sums = [0] * (3 + len(STATUSES))
        oldest: list[float] = []
        oldest_dead: list[float] = []
        for _, (numbers, age, dead) in replies:
            sums = [total + int(each or 0) for total, each in zip(sums, numbers, strict=True)]
            oldest += [float(age)] if age else []
            oldest_dead += [float(dead)] if dead else []
        made, removed, disputed, *by_status = sums
        return Counts(
            made=made,
            removed=removed,
            by_status=dict(zip(STATUSES, by_status, strict=True)),
            disputed=disputed,
            oldest_pending_at=min(oldest, default=None),
            oldest_dead_letter_at=min(oldest_dead, default=None),
        )

    # --- retention ---------------------------------------------------------------------------

    async def retire(self, limit: int) -> tuple[int, int]:
        """What is past its time by the store's clock *and* by ours: one of them may have jumped,
        and a key that is forgotten too early is an order made twice."""
        now = min(self._now(), self._clock.wall())
        answers = await self._past(lambda bucket: [bucket.answers], now, limit)
        stripped = [each for each in answers if await self._retire(each, "answer")]
        entries = await self._past(lambda bucket: [bucket.ends], now, limit)
        removed = [each for each in entries if await self._retire(each, "entry")]
        return len(stripped), len(removed)

    async def _past(
        self, sets_of: Callable[[Bucket], Sequence[bytes]], now: float, limit: int
    ) -> list[Place]:
        found = await self._range(sets_of, "-inf", now, limit)
        found.sort(key=lambda each: (each[3], each[0], each[1].number))
        return [Place(bucket, ref) for _, bucket, ref, _ in found[:limit]]

    async def _retire(self, place: Place, what: str) -> bool:
        stored = await self._orders.read(place)
        if stored is None or not stored.entry.settled:
            return False
        entry, bucket = stored.entry, place.bucket
        attach = place.order
        if entry.attached:
            attach = bucket.attached(entry.scope, entry.fingerprint)
        status = NUMBER[entry.status]
        keys = (
            place.order,
            bucket.meta,
            bucket.answers,
            bucket.ends,
            bucket.by_id(entry.id),
            attach,
            bucket.statuses[status - 1],
        )
        args = (place.ref, stored.version, what, status, int(entry.disputed))
        (said,) = await self._calls.order(bucket, "retire", keys, args, holder=self._holder())
        return bool(said == b"ok")


def _text(bound: float | str) -> str:
    return bound if isinstance(bound, str) else repr(bound)
