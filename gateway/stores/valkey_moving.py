"""A ledger on Valkey or Redis as the end of a move (``moving``)."""

import asyncio
import secrets
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack

from gateway.ledger import Counts, LedgerRefused, LedgerUnavailable, Watchers
from gateway.orders.entry import Entry
from gateway.settings.ledger import LedgerSettings
from gateway.stores.moving import Departure
from gateway.stores.remote import asked
from gateway.stores.steps import NOBODY, Custody
from gateway.stores.valkey_calls import Calls
from gateway.stores.valkey_checks import Demands, Facts, acknowledgement, unfit
from gateway.stores.valkey_keys import Layout
from gateway.stores.valkey_lane import BATCH_BYTES_MAX, BATCH_MAX
from gateway.stores.valkey_orders import Orders, Written
from gateway.stores.valkey_rows import Guard, Intent
from gateway.stores.valkey_views import Views
from middleware.clock import SystemClock

ABSENT = Guard("absent")
"""No hold is needed, and no index is looked at: one copier writes, before any gateway."""

BODIES_MAX = BATCH_BYTES_MAX // 2
"""Bytes of bodies in one pipeline; fields and timelines are less than as much again."""


class ValkeyTarget:
    """The remote ledger that a shop moves to, as durable as ``settings`` ask for."""

    def __init__(self, settings: LedgerSettings) -> None:
        self.name = settings.url
        self._settings = settings
        self._stack = AsyncExitStack()
        self._move_id = ""
        self._run = secrets.token_hex(4)
        self._ops = 0
        self._made_us = 0

    async def look(self) -> None:
        try:
            await self._look()
        except BaseException:
            await self.close()
            raise

    async def _look(self) -> None:
        found, self._calls, self._layout = await self._stack.enter_async_context(
            asked(self._settings, self._made_at)
        )
        demands = Demands(self._settings.durability, self._settings.replicas or 0)
        facts = [await Facts.of(node) for node in found.nodes]
        wrong = "; ".join(unfit(demands, facts, await found.replicas()))
        if wrong:
            raise LedgerRefused(wrong)
        for node in found.nodes:
            node.lane.acknowledgement = acknowledgement(demands, facts)
        self._make(self._calls, self._layout)

    async def begin(self, move_id: str) -> bool:
        self._move_id, self._made_us = move_id, 0
        said = await self._arrive("begin", 0, 0.0)
        if b"taken" in said or set(said) == {b"ended"}:
            raise LedgerRefused(
                f"{self._settings.url} holds a ledger already, or part of another copy: name"
                " another ?prefix="
            )
        return b"ok" not in said

    def _make(self, calls: Calls, layout: Layout) -> None:
        self._orders = Orders(calls, layout, Watchers(), holder=lambda: "", new_op=self._new_op)
        self._views = Views(
            calls, self._orders, clock=SystemClock(), holder=lambda: "", now=lambda: 0.0
        )

    def _made_at(self) -> float:
        """In place of the server's time: in the middle of the microsecond that numbers an order,
        so that rounding makes no other of it."""
        return (self._made_us + 0.5) / 1e6

    async def put(self, entries: Sequence[Entry]) -> int:
        """A pipeline at a time, which a server does in its order."""
        put = 0
        for some in _pipelines(entries):
            tried = await asyncio.gather(*map(self._put, some), return_exceptions=True)
            for each in tried:
                if isinstance(each, BaseException):
                    raise each
                put += each
        return put

    async def _put(self, entry: Entry) -> bool:
        """False where it is there already. Each order gets a time of its own, after that of the one
        before: a ledger is in the order in which its orders were made, whatever masters they are
        on. (The time is read before the first wait.)"""
        self._made_us = max(self._made_us + 1, int(entry.created_at * 1e6))
        custody = Custody(None, 0.0) if entry.waits else NOBODY
        intent = Intent(None, entry, custody, now=0.0)
        said = await self._orders.put(self._layout.place_of(entry), intent, ABSENT, holder="")
        return isinstance(said, Written)

    async def held(self, entries: Sequence[Entry]) -> Sequence[Entry | None]:
        places = [self._layout.place_of(entry) for entry in entries]
        kept = await asyncio.gather(*(self._orders.read(place) for place in places))
        return [None if each is None else each.entry for each in kept]

    async def counts(self) -> Counts:
        return await self._views.counts()

    async def finish(self, departure: Departure) -> None:
        """What had been removed is counted once, in the first bucket."""
        first = self._layout.buckets[0]
        counts, at = departure.counts, departure.ledger_time
        await self._arrive("end", counts.removed, at, only=first.number)
        await self._arrive("end", 0, at)

    async def _arrive(
        self, action: str, removed: int, at: float, *, only: int | None = None
    ) -> list[bytes]:
        replies = await self._calls.everywhere(
            "arrive",
            lambda bucket: (bucket.meta,),
            (action, self._move_id, self._move_id, removed, repr(at)),
            writes=True,
            only=only,
        )
        return [bytes(said) for _, said in replies]

    async def close(self) -> None:
        try:
            await self._stack.aclose()
        except LedgerUnavailable:
            return

    def _new_op(self) -> str:
        """What another run of this move wrote is there already."""
        self._ops += 1
        return f"move-{self._move_id}-{self._run}-{self._ops}"


def _pipelines(entries: Sequence[Entry]) -> Iterator[Sequence[Entry]]:
    """In portions that are not divided on the way."""
    start = size = 0
    for number, entry in enumerate(entries):
        more = _body_bytes(entry)
        if number - start == BATCH_MAX or (number > start and size + more > BODIES_MAX):
            yield entries[start:number]
            start, size = number, 0
        size += more
    yield entries[start:]


def _body_bytes(entry: Entry) -> int:
    request = 0 if entry.request is None else len(entry.request.body)
    answer = 0 if entry.answer is None else len(entry.answer.body or b"")
    return request + answer
