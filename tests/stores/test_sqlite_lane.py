"""The line of a ledger file: which calls make a batch, and that each is run once, in its order."""

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from gateway.ledger import LedgerUnavailable
from gateway.stores import sqlite_lane
from gateway.stores.sqlite_lane import BATCH_MAX, Done, Op, Patience, ThreadLane

WAIT_S = 20.0


class Store:
    """Notes each batch. Holds the next ones up while ``open`` is not set."""

    def __init__(self) -> None:
        self.batches: list[list[Any]] = []
        self.began = threading.Event()
        self.open = threading.Event()
        self.open.set()
        self.after = 0

    def run(self, ops: Sequence[Op[Any]]) -> Done:
        self.began.set()
        assert self.open.wait(WAIT_S)
        values = [op(None) for op in ops]  # type: ignore[arg-type] # no rows are looked at
        self.batches.append(values)
        return Done(values)

    def afterwards(self) -> None:
        self.after += 1


@pytest.fixture
def store() -> Store:
    return Store()


def lane_to(store: Store) -> ThreadLane:
    patience = Patience(WAIT_S, lambda: LedgerUnavailable("late", written=None))
    return ThreadLane(store.run, lambda _: None, store.afterwards, patience, name="tried")


@pytest.fixture
async def lane(store: Store) -> AsyncIterator[ThreadLane]:
    lane = lane_to(store)
    yield lane
    store.open.set()
    await lane.stop()


def returning(value: int) -> Op[int]:
    return lambda _: value


async def test_calls_of_several_turns_of_the_loop_are_one_batch(
    lane: ThreadLane, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_lane, "GATHER_S", WAIT_S)
    calls: list[asyncio.Future[int]] = []
    for number in range(6):
        calls.append(lane.submit(returning(number)))
        await asyncio.sleep(0)
    assert await asyncio.gather(*calls) == [*range(6)]
    assert store.batches == [[*range(6)]]


async def test_a_loop_that_is_never_quiet_waits_for_no_larger_batch(
    lane: ThreadLane, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_lane, "GATHER_S", 0.0)
    calls = [lane.submit(returning(0))]
    async with asyncio.timeout(WAIT_S):
        while not calls[0].done():
            if len(calls) < BATCH_MAX:
                calls.append(lane.submit(returning(len(calls))))
            await asyncio.sleep(0)
        assert await asyncio.gather(*calls) == [*range(len(calls))]
    assert len(store.batches[0]) < 3


async def test_what_comes_while_a_batch_runs_is_the_next_one(
    lane: ThreadLane, store: Store
) -> None:
    store.open.clear()
    calls = [lane.submit(returning(0))]
    assert await asyncio.to_thread(store.began.wait, WAIT_S)
    for number in range(1, 4):
        calls.append(lane.submit(returning(number)))
        await asyncio.sleep(0)
    store.open.set()
    assert await asyncio.gather(*calls) == [0, 1, 2, 3]
    assert store.batches == [[0], [1, 2, 3]]


async def test_a_large_crowd_is_cut_into_batches(lane: ThreadLane, store: Store) -> None:
    calls = [lane.submit(returning(number)) for number in range(BATCH_MAX + 1)]
    await asyncio.gather(*calls)
    assert [len(batch) for batch in store.batches] == [BATCH_MAX, 1]


async def test_what_waits_at_the_end_is_run_and_nothing_later_is_taken(
    lane: ThreadLane, store: Store
) -> None:
    store.open.clear()
    calls = [lane.submit(returning(0))]
    assert await asyncio.to_thread(store.began.wait, WAIT_S)
    calls.append(lane.submit(returning(1)))
    stopping = asyncio.create_task(lane.stop())
    await asyncio.sleep(0)
    with pytest.raises(LedgerUnavailable, match="closed"):
        lane.submit(returning(2))
    store.open.set()
    assert await asyncio.gather(*calls) == [0, 1]
    await asyncio.wait_for(stopping, WAIT_S)
    assert (store.batches, store.after) == ([[0], [1]], 2)


async def test_what_is_abandoned_is_never_run(store: Store) -> None:
    lane = lane_to(store)
    call = lane.submit(returning(0))
    lane.abandon()
    await asyncio.sleep(0)
    assert store.batches == []
    assert not call.done()


async def test_calls_are_still_made_after_an_upkeep_that_failed(store: Store) -> None:
    def upkeep() -> None:
        store.afterwards()
        raise MemoryError

    patience = Patience(WAIT_S, lambda: LedgerUnavailable("late", written=None))
    lane = ThreadLane(store.run, lambda _: None, upkeep, patience, name="tried")
    for number in range(3):
        assert await lane.submit(lambda _, value=number: value) == number  # type: ignore[misc]
    await lane.stop()
    assert store.after == 3
