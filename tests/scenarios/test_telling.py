"""What an order changed is told to every cache, also where the telling fails in the middle."""

from collections.abc import AsyncIterator

import pytest

from gateway.ledger import Ledger, LedgerUnavailable
from gateway.orders import life
from gateway.orders.attempts import Answer
from gateway.orders.entry import Entry
from gateway.stores.memory import MemoryLedger, MemoryState
from gateway.telling import telling
from middleware.caching.changes import ChangesUnknown
from middleware.caching.invalidation import Mark
from middleware.clock import SystemClock
from tests.stores.making import WHO, in_doubt

PLACED = Answer(201, b"Created", ((b"Location", b"/shelf/42"),), b"{}")


class Caches:
    """Hears what is told, but each ``deaf`` time."""

    def __init__(self) -> None:
        self.deaf: set[int] = set()
        self.heard: set[bytes] = set()
        self._times = 0

    async def tell(self, marks: tuple[Mark, ...]) -> None:
        self._times += 1
        if self._times in self.deaf:
            raise ChangesUnknown("away")
        self.heard |= {mark.name for mark in marks}


@pytest.fixture
async def ledger() -> AsyncIterator[Ledger]:
    clock = SystemClock()
    state = MemoryState(clock)
    ledger = MemoryLedger(state, clock=clock, who=WHO, lease_s=60.0, new_holder=lambda: "holder")
    await ledger.open()
    yield ledger
    await ledger.close()


@pytest.mark.parametrize("deaf", [set(), {1}, {2}, {1, 2}])
async def test_what_a_late_answer_names_is_told_though_a_telling_failed(
    ledger: Ledger, deaf: set[int]
) -> None:
    entry, _ = await in_doubt(ledger)
    caches = Caches()
    caches.deaf = deaf
    told = telling(ledger, caches.tell, lambda: True)

    def late(before: Entry, now: float) -> Entry | None:
        return life.late_answer(before, 1, PLACED, now, WHO)

    for _ in range(3):  # as whoever records a late answer does, until the ledger takes it
        try:
            await told.amend(entry.id, late)
            break
        except LedgerUnavailable:
            continue
    after = await ledger.find(entry.id)
    assert after is not None
    assert after.settled
    assert b"/shelf/42" in caches.heard
