"""A shop moves from SQLite to Valkey, and loses no order and no key."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from gateway.ledger import Ledger, LedgerRefused
from gateway.orders.claiming import InFlight, Replay
from gateway.orders.entry import Entry
from gateway.settings.ledger import LedgerSettings
from gateway.stores import valkey_moving
from gateway.stores.moving import BATCH, Moved, move
from gateway.stores.sqlite_moving import SqliteSource
from gateway.stores.valkey import ValkeyLedger
from gateway.stores.valkey_lane import BATCH_MAX
from gateway.stores.valkey_moving import ValkeyTarget

from .making import (
    HOST,
    LEASE_S,
    Stores,
    attached,
    dead_letter,
    failed,
    fresh,
    in_doubt,
    settled,
    submission,
)
from .servers import REMOTE, store_url

ORDERS = 3 * BATCH // 2
"""A page and a half, each of several pipelines."""


class BrokenOff(Exception):
    """The move ends here."""


class Briefly(ValkeyTarget):
    """A target that only the first page reaches."""

    put_before = False

    async def put(self, entries: Sequence[Entry]) -> int:
        if self.put_before:
            raise BrokenOff
        self.put_before = True
        return await super().put(entries)


class Unended(ValkeyTarget):
    """A target that dies after so many steps of its end."""

    steps = 0

    async def _arrive(
        self, action: str, removed: int, at: float, *, only: int | None = None
    ) -> list[bytes]:
        if action == "end":
            self.steps -= 1
            if self.steps < 0:
                raise BrokenOff
        return await super()._arrive(action, removed, at, only=only)


@pytest.fixture(params=[kind for kind in REMOTE if kind != "sentinel"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def one_that_forgot_an_order(stores: Stores) -> Ledger:
    """For good: what it counts is more than what it holds."""
    ledger = await stores.replica()
    gone = await settled(ledger, submission("gone"))
    stores.clock.advance(gone.promise.retention_s + gone.promise.tombstone_s)
    await ledger.renew_hold()
    assert await ledger.retire(10) == (1, 1)
    return ledger


async def test_every_order_and_key_arrives_and_nobody_opens_it_meanwhile(
    quick_folder: Path, kind: str
) -> None:
    old = Stores("sqlite", quick_folder / "old.db")
    new = Stores(kind, Path(), store_url(kind))
    new.clock = old.clock
    ledger = await one_that_forgot_an_order(old)
    entries = [
        await settled(ledger, submission("confirmed")),
        await settled(ledger, submission("rejected", scope="other"), 422),
        await failed(ledger, submission("failed")),
        await dead_letter(ledger, submission("dead")),
    ]
    request = attached()
    pending, _ = await fresh(ledger, request)
    await in_doubt(ledger, submission("doubt", scope="third"))
    counts = await ledger.counts()
    await old.close()
    old.clock.advance(LEASE_S * 2)

    source = SqliteSource(quick_folder / "old.db", host=HOST, clock=old.clock)
    target = ValkeyTarget(LedgerSettings(url=new.url))
    refusals: list[str] = []

    async def open_it() -> None:
        with pytest.raises(LedgerRefused) as caught:
            await new.make().open()
        refusals.append(str(caught.value))

    await target.look()
    departure = await source.begin()
    await target.begin(departure.move_id)
    await open_it()
    await target.close()
    target = ValkeyTarget(LedgerSettings(url=new.url))
    moved = await move(source, target, lambda *_: None)
    assert moved.entries == moved.copied == 6
    await target.close()
    await source.close()
    assert "being copied here" in refusals[0]

    arrived = await new.replica()
    assert isinstance(arrived, ValkeyLedger)
    assert await arrived.counts() == counts
    assert counts.removed == 1
    for entry in entries:
        assert await arrived.find(entry.id) == entry
    assert [each.key for each in (await arrived.page()).entries][:4] == [
        "confirmed",
        "rejected",
        "failed",
        "dead",
    ]
    assert (await arrived.claim(submission("confirmed"))).claimed == Replay(entries[0])
    twin = (await arrived.claim(attached())).claimed
    assert isinstance(twin, InFlight)
    assert twin.entry.id == pending.id
    assert {each.entry.key for each in await arrived.lease_due(10)} == {pending.key, "doubt"}
    other = ValkeyTarget(LedgerSettings(url=new.url))
    await other.look()
    with pytest.raises(LedgerRefused, match="holds a ledger already"):
        await other.begin("another move")
    await other.close()
    await new.close()


async def moved(source: SqliteSource, target: ValkeyTarget) -> Moved:
    try:
        return await move(source, target, lambda *_: None)
    finally:
        await target.close()
        await source.close()


async def test_orders_arrive_many_at_once_and_in_the_order_of_their_making(
    quick_folder: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(valkey_moving, "BODIES_MAX", 1000)
    old = Stores("sqlite", quick_folder / "old.db")
    new = Stores(kind, Path(), store_url(kind))
    new.clock = old.clock
    ledger = await old.replica()
    requests = [submission(f"key-{n}", scope=f"scope-{n % 50}") for n in range(ORDERS)]
    await asyncio.gather(*(settled(ledger, request) for request in requests))
    made = [entry.id for entry in (await ledger.page(limit=ORDERS)).entries]
    await old.close()
    old.clock.advance(LEASE_S * 2)

    source = SqliteSource(quick_folder / "old.db", host=HOST, clock=old.clock)
    settings = LedgerSettings(url=new.url)
    with pytest.raises(BrokenOff):
        await moved(source, Briefly(settings))
    done = await moved(source, ValkeyTarget(settings))
    assert (done.entries, done.copied) == (ORDERS, ORDERS - BATCH)

    arrived = await new.replica()
    assert [entry.id for entry in (await arrived.page(limit=ORDERS)).entries] == made
    latest = await settled(arrived, submission("after the move"))
    assert [entry.id for entry in (await arrived.page(limit=500)).entries] == [*made, latest.id]
    await new.close()


async def test_no_more_is_under_way_than_goes_out_as_one_pipeline(
    quick_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(valkey_moving, "BODIES_MAX", 100)
    ledger = await (old := Stores("sqlite", quick_folder / "old.db")).replica()
    entry = await settled(ledger, submission())  # its answer has 10 bytes
    sizes = [len(some) for some in valkey_moving._pipelines([entry] * 13)]
    assert sizes == [10, 3]
    monkeypatch.setattr(valkey_moving, "BODIES_MAX", 1)
    assert [len(some) for some in valkey_moving._pipelines([entry] * 3)] == [1, 1, 1]
    monkeypatch.undo()
    sizes = [len(some) for some in valkey_moving._pipelines([entry] * (BATCH_MAX + 2))]
    assert sizes == [BATCH_MAX, 2]
    await old.close()


@pytest.mark.parametrize("steps", [0, 1])
async def test_a_move_that_is_broken_off_at_its_end_is_ended_once(
    quick_folder: Path, kind: str, steps: int
) -> None:
    old = Stores("sqlite", quick_folder / "old.db")
    new = Stores(kind, Path(), store_url(kind))
    new.clock = old.clock
    ledger = await one_that_forgot_an_order(old)
    entry = await settled(ledger, submission())
    counts = await ledger.counts()
    await old.close()
    old.clock.advance(LEASE_S * 2)

    source = SqliteSource(quick_folder / "old.db", host=HOST, clock=old.clock)
    settings = LedgerSettings(url=new.url)
    target = Unended(settings)
    target.steps = steps
    with pytest.raises(BrokenOff):
        await moved(source, target)
    with pytest.raises(LedgerRefused, match="being copied here"):
        await new.make().open()
    other = ValkeyTarget(LedgerSettings(url=f"{new.url}-other"))
    with pytest.raises(LedgerRefused, match="moved already"):
        await moved(source, other)
    done = await moved(source, ValkeyTarget(settings))
    assert (done.entries, done.copied) == (1, 0)
    arrived = await new.replica()
    assert await arrived.counts() == counts
    assert await arrived.find(entry.id) == entry
    with pytest.raises(LedgerRefused, match="holds a ledger already"):
        await moved(source, ValkeyTarget(settings))
    await new.close()
