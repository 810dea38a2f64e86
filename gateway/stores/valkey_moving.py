"""A ledger on Valkey or Redis as the end of a move (``moving``)."""

import asyncio
from collections.abc import Sequence
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
from gateway.stores.valkey_orders import Orders, Written
from gateway.stores.valkey_rows import Guard, Intent
from gateway.stores.valkey_views import Views
from middleware.clock import SystemClock

ABSENT = Guard("absent")
"""No hold is needed, and no index is looked at: one copier writes, before any gateway."""


class ValkeyTarget:
    """The remote ledger that a shop moves to, as durable as ``settings`` ask for."""

    def __init__(self, settings: LedgerSettings) -> None:
        self.name = settings.url
        self._settings = settings
        self._stack = AsyncExitStack()
        self._move_id = ""
        self._ops = 0

    async def look(self) -> None:
        try:
            await self._look()
        except BaseException:
            await self.close()
            raise

    async def _look(self) -> None:
        found, self._calls, self._layout = await self._stack.enter_async_context(
            asked(self._settings)
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
        self._move_id = move_id
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

    async def put(self, entries: Sequence[Entry]) -> int:
        """One by one: a ledger is in the order in which its orders were made."""
        put = 0
        for entry in entries:
            custody = Custody(None, 0.0) if entry.waits else NOBODY
            intent = Intent(None, entry, custody, now=0.0)
            place = self._layout.place_of(entry)
            said = await self._orders.put(place, intent, ABSENT, holder="")
            put += isinstance(said, Written)
        return put

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
        self._ops += 1
        return f"move-{self._move_id}-{self._ops}"
