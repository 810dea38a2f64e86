"""What looks at many orders: pages, counts, and forgetting what is past its time."""

import asyncio
from collections.abc import Callable, Sequence

from gateway.ledger import Counts, EntryUnreadable, Page, UnreadableEntry
from gateway.orders.entry import Entry
from gateway.orders.states import Status
from gateway.stores import steps, valkey_codec
from gateway.stores.unreadable import unreadable
from gateway.stores.valkey_calls import Calls
from gateway.stores.valkey_keys import BUCKETS, NUMBER, STATUSES, Bucket, Place
from gateway.stores.valkey_orders import Orders
from gateway.stores.valkey_rows import member_parts
from middleware.clock import Clock

RETIRED_AT_ONCE = 32
"""Orders read and stripped or removed together."""


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
        found_there = await self._bare([Place(bucket, ref) for _, bucket, ref in shown])
        kept = tuple(each for each in found_there if isinstance(each, Entry))
        more = str(shown[-1][0]) if len(beyond) > limit and shown else None
        return Page(
            tuple(each for each in kept if each.status in asked),
            more,
            tuple(each for each in found_there if isinstance(each, UnreadableEntry)),
        )

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

    async def _bare(self, places: Sequence[Place]) -> list[Entry | UnreadableEntry | None]:
        """Without requests and answers; None is gone."""
        asked = [(each.bucket, ("HMGET", each.order, "d", "p", "id", "st", "n")) for each in places]
        told = await self._calls.read_all(asked)
        return [self._shown(place, *values) for place, values in zip(places, told, strict=True)]

    def _shown(
        self,
        place: Place,
        document: bytes | None,
        promise: bytes | None,
        name: bytes | None,
        status: bytes | None,
        number: bytes | None,
    ) -> Entry | UnreadableEntry | None:
        """A number is a time: the microseconds of its making, or a few more."""
        if number is None:
            return None
        try:
            return valkey_codec.entry({b"d": document or b"", b"p": promise or b""})
        except Exception as error:  # noqa: BLE001 - told, and shown
            text = (name or b"").decode("utf-8", "replace") or place.ref
            told = unreadable(text, error)
            self._orders.unreadables.met(told, place)
            said = STATUSES[int(status) - 1].value if status else "unknown"
            return UnreadableEntry(told.entry_id, said, int(number) / 1e6, told.why)

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
        stripped = await self._retire_all(answers, "answer")
        entries = await self._past(lambda bucket: [bucket.ends], now, limit)
        return stripped, await self._retire_all(entries, "entry")

    async def _retire_all(self, places: Sequence[Place], what: str) -> int:
        """How many are done with; one by one, a server some milliseconds away would take too long.
        Those that another process was faster with count beside our own: there may be more."""
        done: list[bool | None] = []
        for start in range(0, len(places), RETIRED_AT_ONCE):
            some = places[start : start + RETIRED_AT_ONCE]
            done += await asyncio.gather(*(self._retire(each, what) for each in some))
        ours, others = done.count(True), done.count(False)
        return ours + others if ours else 0

    async def _past(
        self, sets_of: Callable[[Bucket], Sequence[bytes]], now: float, limit: int
    ) -> list[Place]:
        passed = self._orders.unreadables.passed_over()
        found = await self._range(sets_of, "-inf", now, limit + len(passed))
        found.sort(key=lambda each: (each[3], each[0], each[1].number))
        places = [Place(bucket, ref) for _, bucket, ref, _ in found]
        return [each for each in places if each not in passed][:limit]

    async def _retire(self, place: Place, what: str) -> bool | None:
        """False: somebody else was faster. None: it stays."""
        try:
            stored = await self._orders.read(place)
        except EntryUnreadable:
            return None
        if stored is None:
            return False
        if not stored.entry.settled:
            return None
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
