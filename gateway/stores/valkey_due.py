"""Taking over what is due: asked of every bucket, taken some at a time."""

import asyncio
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any

from gateway.ledger import EntryUnreadable, Hold, Lease, Leased, LedgerUnavailable
from gateway.stores import doubting
from gateway.stores.steps import Custody
from gateway.stores.valkey_calls import Calls
from gateway.stores.valkey_keys import Bucket, Place
from gateway.stores.valkey_orders import Orders, Written
from gateway.stores.valkey_rows import Intent, Stored, member_parts, unchanged

ROUNDS_MAX = 20
"""How often what is due is asked for again because another process was faster."""

FOUND_AT_ONCE = 200
"""Orders asked for at a time: each may hold a body of 1 MiB."""

TAKEN_AT_ONCE = 32
"""Orders read and taken together, in two round trips. Taken one by one from a server some
milliseconds away, or by a busy process, they took longer than the ledger waits, and were lost to
a hold that nobody trusted any more, time and again."""

TAKE_S = 1.0
"""What is begun later is left to the next call: what was taken is not to wait for it."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """Orphans first, the oldest first; then what is due, the longest overdue first."""

    overdue: tuple[int, float]
    number: int
    bucket_number: int
    ref: str
    holder: str | None
    """The hold that lapsed."""

    def still(self, stored: Stored) -> bool:
        """Whether nobody has taken it, or given it back for later, since it was found."""
        if self.holder is not None:
            return stored.holder == self.holder
        return stored.holder is None and stored.due_at == self.overdue[1]

    def place(self, buckets: tuple[Bucket, ...]) -> Place:
        return Place(buckets[self.bucket_number], self.ref)


@dataclass(slots=True)
class _Haul:
    """What a call that takes has come to. A bucket that refuses, since it moves or its server has
    no memory, holds up no other: it is left out from then on (``refusals``, by its number)."""

    until: float
    taken: list[Leased] = field(default_factory=list)
    refusals: dict[int, LedgerUnavailable] = field(default_factory=dict)
    again: bool = False

    def note(self, candidate: Candidate, said: Leased | LedgerUnavailable | None) -> None:
        """Raises what leaves open whether it was taken."""
        match said:
            case Leased():
                self.taken.append(said)
            case EntryUnreadable():
                pass  # told; it is passed over from now on
            case None:  # somebody was faster
                self.again = True
            case _ if said.written is None:
                raise said
            case _:
                self.refusals[candidate.bucket_number] = said
                self.again = True


class DueOrders:
    def __init__(
        self,
        calls: Calls,
        orders: Orders,
        buckets: tuple[Bucket, ...],
        now: Callable[[], float],
        distrusted_since: Callable[[int], float | None],
    ) -> None:
        self._calls = calls
        self._orders = orders
        self._buckets = buckets
        self._now = now
        self._distrusted_since = distrusted_since

    async def take(self, limit: int, hold: Hold, who: str) -> list[Leased]:
        """What was taken is handed out although more could not be: nobody else may take it."""
        haul = _Haul(asyncio.get_running_loop().time() + TAKE_S)
        try:
            for _ in range(ROUNDS_MAX):
                if not await self._take_more(haul, limit, hold, who):
                    break
        except LedgerUnavailable as trouble:
            if trouble.written is None or not haul.taken:
                raise
        if haul.refusals and not haul.taken:
            raise next(iter(haul.refusals.values()))
        return haul.taken

    async def _take_more(self, haul: "_Haul", limit: int, hold: Hold, who: str) -> bool:
        """Whether there may be more to take, and time for it."""
        room = min(limit - len(haul.taken), FOUND_AT_ONCE)
        candidates = await self._candidates(room, hold.holder, haul.refusals)
        haul.again = len(candidates) == FOUND_AT_ONCE
        for start in range(0, len(candidates), TAKEN_AT_ONCE):
            some = candidates[start : start + TAKEN_AT_ONCE]
            said = await asyncio.gather(*(self._try(each, hold, who) for each in some))
            for each, result in zip(some, said, strict=True):
                haul.note(each, result)
            if asyncio.get_running_loop().time() >= haul.until:
                return False
        return haul.again and len(haul.taken) < limit

    async def _candidates(
        self, limit: int, holder: str, without: Collection[int]
    ) -> list[Candidate]:
        """Those that can't be read are passed over: they hold up nobody. ``without``: buckets."""
        passed = self._orders.unreadables.passed_over()
        replies = await self._calls.everywhere(
            "due",
            lambda bucket: (bucket.meta, bucket.held, bucket.due),
            (max(limit, 0) + len(passed),),
            holder=holder,
            some=True,
        )
        asked = [(bucket, reply) for bucket, reply in replies if bucket.number not in without]
        found = [each for bucket, reply in asked for each in _read(bucket, reply)]
        if passed:
            found = [each for each in found if each.place(self._buckets) not in passed]
        found.sort(key=lambda each: (each.overdue, each.number, each.bucket_number))
        return found[: max(limit, 0)]

    async def _try(
        self, candidate: Candidate, hold: Hold, who: str
    ) -> Leased | LedgerUnavailable | None:
        try:
            return await self._take(candidate, hold, who)
        except LedgerUnavailable as trouble:
            return trouble

    async def _take(self, candidate: Candidate, hold: Hold, who: str) -> Leased | None:
        """None: somebody else was faster. What moves just now holds up no other."""
        place = candidate.place(self._buckets)
        stored = await self._orders.read(place, patient=False)
        if stored is None or not stored.entry.waits or not candidate.still(stored):
            return None
        # Where the store forgot, an order from before may be further than it looks.
        since = self._distrusted_since(stored.place.bucket.number)
        after = doubting.take_over(stored.entry, since, self._now(), who)
        intent = Intent(stored.entry, after, Custody(hold.holder), self._now())
        guard = unchanged(stored, since, alive=True)
        said = await self._orders.put(place, intent, guard, holder=hold.holder, patient=False)
        if not isinstance(said, Written):
            return None
        return Leased(after, Lease(after.id, after.token, hold))


def _read(bucket: Bucket, reply: list[Any]) -> list[Candidate]:
    said, orphans, due = reply
    if said == b"lapsed":
        raise LedgerUnavailable("this process's hold on the ledger has lapsed", written=False)
    found = []
    for member in orphans:
        number, ref = member_parts(member)
        ref, _, holder = ref.partition(":")
        found.append(Candidate((0, 0.0), number, bucket.number, ref, holder))
    for member, score in zip(due[::2], due[1::2], strict=True):
        number, ref = member_parts(member)
        found.append(Candidate((1, float(score)), number, bucket.number, ref, None))
    return found
