"""A file that an older gateway wrote is brought to this version whole, or left as it was."""

from collections.abc import AsyncIterator
from pathlib import Path

import apsw
import pytest

from gateway.ledger import LedgerRefused
from gateway.orders.claiming import Replay
from gateway.orders.states import Status
from gateway.stores import sqlite_file
from gateway.stores.sqlite import SqliteLedger
from gateway.stores.sqlite_file import SCHEMA_VERSION

from . import old_ledger
from .making import LEASE_S, TurnableClock, answered, attached, ended, late, settled, submission


@pytest.fixture
def path(quick_folder: Path) -> Path:
    return quick_folder / "ledger.db"


@pytest.fixture
def clock() -> TurnableClock:
    return TurnableClock()


@pytest.fixture(params=old_ledger.versions())
async def migrated(
    request: pytest.FixtureRequest, path: Path, clock: TurnableClock
) -> AsyncIterator[SqliteLedger]:
    """A ledger of each version that was released, opened by this one."""
    old_ledger.load(request.param, path)
    ledger = old_ledger.make(path, clock)
    await ledger.open()
    yield ledger
    await ledger.close()


def schema_of(path: Path) -> int:
    db = apsw.Connection(str(path))
    version = int(db.pragma("user_version"))
    db.close()
    return version


def test_this_versions_own_file_is_kept_for_the_next() -> None:
    """The schema was raised without keeping what the version before it wrote: see old_ledger."""
    assert set(range(1, SCHEMA_VERSION)) <= set(old_ledger.versions())


async def test_an_older_ledger_keeps_every_order_and_its_answer(
    migrated: SqliteLedger, path: Path
) -> None:
    for status, key in old_ledger.KEYS.items():
        entry = await migrated.find_by_key("scope", key)
        assert entry is not None, key
        assert entry.status is status
        assert entry.settled or entry.request is not None
        if entry.settled:
            assert entry.answer is not None
            assert entry.answer.body == b'{"id": 42}'
    counts = await migrated.counts()
    assert counts.conserved
    assert counts.made == len(old_ledger.KEYS) + 1
    assert schema_of(path) == SCHEMA_VERSION


async def test_an_older_ledgers_keys_are_still_taken(migrated: SqliteLedger) -> None:
    confirmed = await migrated.claim(submission("confirmed"))
    assert isinstance(confirmed.claimed, Replay)
    again = await migrated.claim(attached("r1:attached"))
    assert isinstance(again.claimed, Replay)
    assert (await migrated.counts()).made == len(old_ledger.KEYS) + 1


async def test_an_older_ledgers_pending_orders_are_taken_up(
    migrated: SqliteLedger, clock: TurnableClock
) -> None:
    clock.advance(LEASE_S + 1)
    await migrated.renew_hold()
    taken = {leased.entry.key: leased for leased in await migrated.lease_due(10)}
    assert set(taken) == {"received", "dispatched", "in-doubt"}
    doubt = taken["in-doubt"]
    settled_late = await migrated.amend(doubt.entry.id, late(1, 201))
    assert settled_late is not None
    assert settled_late.status is Status.CONFIRMED


async def test_an_older_ledger_goes_on_as_if_it_were_new(
    migrated: SqliteLedger, clock: TurnableClock
) -> None:
    await settled(migrated, submission("new"))
    claim = await migrated.claim(submission("failed"))
    assert claim.lease is not None
    entry = await migrated.find_by_key("scope", "failed")
    assert entry is not None
    await ended(migrated, entry, claim.lease, answered(201))
    clock.advance(6_001)  # retention_s + tombstone_s
    while await migrated.retire(3) != (0, 0):
        pass
    counts = await migrated.counts()
    assert counts.conserved
    assert counts.by_status[Status.CONFIRMED] == 0
    assert counts.removed == 5


async def test_a_migration_that_fails_leaves_the_file_as_it_was(
    path: Path, clock: TurnableClock, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ledger = old_ledger.make(path, clock)
    await ledger.open()
    entries = await old_ledger.fill(ledger)
    await ledger.close()
    script = tmp_path / "broken.sql"
    script.write_text("ALTER TABLE orders RENAME TO gone; SELECT * FROM nowhere;")
    steps = {**sqlite_file.MIGRATIONS, SCHEMA_VERSION: script}
    with monkeypatch.context() as newer:
        newer.setattr(sqlite_file, "MIGRATIONS", steps)
        newer.setattr(sqlite_file, "SCHEMA_VERSION", SCHEMA_VERSION + 1)
        with pytest.raises(LedgerRefused):
            await old_ledger.make(path, clock).open()
    assert schema_of(path) == SCHEMA_VERSION
    again = old_ledger.make(path, clock)
    await again.open()
    assert [await again.find(entry.id) for entry in entries] == entries
    await again.close()


async def test_a_migration_is_one_transaction_for_all_who_start_together(
    path: Path, clock: TurnableClock, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    first = old_ledger.make(path, clock)
    await first.open()
    entries = await old_ledger.fill(first)
    await first.close()
    script = tmp_path / "next.sql"
    script.write_text("CREATE TABLE of_the_next_version (x INTEGER) STRICT;")
    monkeypatch.setattr(
        sqlite_file, "MIGRATIONS", {**sqlite_file.MIGRATIONS, SCHEMA_VERSION: script}
    )
    monkeypatch.setattr(sqlite_file, "SCHEMA_VERSION", SCHEMA_VERSION + 1)
    ledgers = [old_ledger.make(path, clock) for _ in range(3)]
    for ledger in ledgers:
        await ledger.open()
    assert schema_of(path) == SCHEMA_VERSION + 1
    assert await ledgers[2].find(entries[0].id) == entries[0]
    for ledger in ledgers:
        await ledger.close()
