"""Cached reads in the simulation: the log of changes on the simulated store, and readers who must
never be shown an order list as it was before an order that somebody was already told of (P5)."""

import asyncio
from collections.abc import Sequence
from typing import TypeVar

import orjson

from gateway.demo.journal import Journal
from gateway.demo.wire import Address, Reply, Request, exchange
from gateway.ledger import LedgerUnavailable
from gateway.orders.states import Status
from middleware.caching.changes import ChangesUnknown, News
from middleware.caching.invalidation import Mark
from middleware.messages import first

from .remote import RemoteLedger
from .store import Step
from .world import Host, World

T = TypeVar("T")

READ_EVERY_S = (0.02, 0.2)
PATIENCE_S = 3.0

READERS = 3
"""While one waits for a list that is late, another finds what a third has brought."""


class RemoteChangeLog:
    """The ``ChangeLog`` port beside a replica's ledger on the simulated store."""

    def __init__(self, ledger: RemoteLedger) -> None:
        self._ledger = ledger

    async def append(self, marks: Sequence[Mark]) -> None:
        await self._ask("changes_append", lambda rows: rows.marks.extend(marks))

    async def since(self, position: int) -> News:
        return await self._ask("changes_since", lambda rows: rows.news(position))

    def nothing_new(self, position: int) -> bool:
        return False

    def in_use(self) -> bool:
        return True

    async def look(self) -> bool:
        return False

    async def recent(self) -> News:
        return await self._ask("changes_since", lambda rows: rows.news(0))

    def stamp(self, position: int) -> bytes | None:
        return None

    def position_of(self, stamp: bytes) -> int | None:
        return None

    async def close(self) -> None:
        return None

    async def _ask(self, name: str, step: Step[T]) -> T:
        try:
            return await self._ledger.ask(name, step)
        except LedgerUnavailable as trouble:
            raise ChangesUnknown(trouble.detail) from trouble


class Reader:
    """Looks at the lists of orders, one after the other, by any replica. ``stale``: what was shown
    too late; ``hits``: how many answers came from a cache."""

    def __init__(self, world: World, host: Host, door: Address, journal: Journal) -> None:
        self.stale: list[str] = []
        self.hits = 0
        self._world = world
        self._host = host
        self._door = door
        self._journal = journal
        self._chance = world.chance("reader")

    async def read_on(self) -> None:
        """For ever: all lists, and those of the latest orders more often."""
        while True:
            await asyncio.sleep(self._chance.uniform(*READ_EVERY_S))
            references = list(self._journal.intents)[-self._chance.choice((2, 1_000)) :]
            if references:
                await self.read(self._chance.choice(references))

    async def read_all(self) -> None:
        """Each list once."""
        for reference in list(self._journal.intents):
            await self.read(reference)

    async def read(self, reference: str) -> None:
        told = {
            each.order_id
            for each in self._journal.told
            if each.reference == reference and each.status is Status.CONFIRMED
        }
        request = Request("GET", f"/orders?of={reference}")
        asked = exchange(self._door, request, PATIENCE_S)
        reply = await self._world.spawn(self._host, asked, name="reader")
        if not isinstance(reply, Reply) or reply.status != 200:
            return
        said = first(reply.headers, b"cache-status") or b""
        hit = b"; hit" in said or b"collapsed" in said
        self.hits += hit
        missing = told - {order["id"] for order in orjson.loads(reply.body)} - {None}
        if missing:
            self.stale.append(f"{reference}: stale: {', '.join(map(str, missing))} is not shown")
