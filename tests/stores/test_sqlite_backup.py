"""A backup is whole, marked as what it is, and made while orders are taken."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import apsw
import pytest

from gateway.ledger import LedgerRefused
from gateway.orders.claiming import Replay
from gateway.orders.states import Status
from gateway.stores import sqlite_backup
from gateway.stores.sqlite import SqliteLedger
from gateway.stores.sqlite_backup import back_up
from middleware.clock import SystemClock

from . import old_ledger
from .making import LEASE_S, NOT_SENT, ended, fresh, in_doubt, settled, submission
from .processes import line, make, process

AT = "2026-11-26T00:00:00+00:00"


@pytest.fixture
def path(quick_folder: Path) -> Path:
    return quick_folder / "ledger.db"


@pytest.fixture
async def ledger(path: Path) -> AsyncIterator[SqliteLedger]:
    opened = make(path)
    await opened.open()
    yield opened
    await opened.close()


def restored(path: Path) -> SqliteLedger:
    return SqliteLedger(
        path,
        clock=SystemClock(),
        who="replica-1",
        lease_s=LEASE_S,
        new_holder=lambda: secrets.token_hex(8),
        adopt=True,
    )


def beside(path: Path) -> set[str]:
    """But what the ledger's writer remembers there whenever it likes."""
    return {each.name for each in path.parent.iterdir() if ".remembered" not in each.name}


def is_private(path: Path) -> bool:
    return path.stat().st_mode & 0o077 == 0


async def test_a_backup_is_taken_while_another_process_writes_and_is_whole(
    path: Path, ledger: SqliteLedger
) -> None:
    target = path.with_name("backup.db")
    told = []
    async with process("load", path) as running:
        for _ in range(200):
            told.append((await line(running)).split())
        made = await asyncio.to_thread(back_up, path, target, at=AT)
        for _ in range(50):
            await line(running)
        running.kill()
    db = apsw.Connection(str(target), flags=apsw.SQLITE_OPEN_READONLY)
    assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    db.close()
    copy = restored(target)
    await copy.open()
    counts = await copy.counts()
    assert counts.conserved
    assert counts.made == made.orders
    for word, key in told:
        entry = await copy.find_by_key("scope", key)
        assert entry is not None
        assert word == "claimed" or entry.status is Status.CONFIRMED
    await copy.close()
    assert is_private(target)


async def test_no_gateway_takes_a_backup_for_the_ledger(path: Path, ledger: SqliteLedger) -> None:
    confirmed = await settled(ledger, submission("confirmed"))
    doubtful, _ = await in_doubt(ledger, submission("doubtful"), due_in_s=0.0)
    target = path.with_name("backup.db")
    made = back_up(path, target, at=AT)
    assert (made.orders, made.pending) == (2, 1)
    with pytest.raises(LedgerRefused, match="this is a backup"):
        await make(target).open()
    copy = restored(target)
    await copy.open()
    assert await copy.find(confirmed.id) == confirmed
    assert isinstance((await copy.claim(submission("confirmed"))).claimed, Replay)
    assert [leased.entry.id for leased in await copy.lease_due(10)] == [doubtful.id]
    await copy.close()
    again = make(target)  # adopted once, it is the ledger
    await again.open()
    await again.close()


async def test_what_was_only_received_is_in_doubt_in_a_backup(
    path: Path, ledger: SqliteLedger
) -> None:
    """It may have been sent between the backup and the day on which it is restored."""
    entry, lease = await fresh(ledger, submission("waits"))
    received = await ended(ledger, entry, lease, NOT_SENT, due_in_s=0.0)
    target = path.with_name("backup.db")
    assert back_up(path, target, at=AT).pending == 1
    assert await ledger.find(entry.id) == received
    copy = restored(target)
    await copy.open()
    (leased,) = await copy.lease_due(10)
    assert leased.entry.status is Status.IN_DOUBT
    assert not leased.entry.absence_proved
    assert leased.entry.request == received.request
    assert (await copy.counts()).conserved
    await copy.close()


async def test_an_older_ledger_is_backed_up_as_this_versions(path: Path) -> None:
    old_ledger.load(1, path)
    made = back_up(path, path.with_name("backup.db"), at=AT)
    assert made.orders == len(old_ledger.KEYS) + 1
    copy = restored(made.path)
    await copy.open()
    assert (await copy.counts()).made == made.orders
    await copy.close()


async def test_a_backup_overwrites_nothing(path: Path, ledger: SqliteLedger) -> None:
    target = path.with_name("precious")
    target.write_bytes(b"precious")
    with pytest.raises(LedgerRefused, match="overwrites nothing"):
        back_up(path, target, at=AT)
    assert target.read_bytes() == b"precious"
    with pytest.raises(LedgerRefused, match="overwrites nothing"):
        back_up(path, path, at=AT)


async def test_a_backup_that_fails_leaves_nothing_behind(
    path: Path, ledger: SqliteLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_backup, "damage_of", lambda _db: "row 7 missing")
    before = beside(path)
    with pytest.raises(LedgerRefused, match="row 7 missing"):
        back_up(path, path.with_name("backup.db"), at=AT)
    assert beside(path) == before


def test_what_is_no_ledger_is_not_backed_up(path: Path) -> None:
    target = path.with_name("backup.db")
    with pytest.raises(LedgerRefused, match="no ledger at"):
        back_up(path, target, at=AT)
    path.write_bytes(b"dear diary " * 1000)
    with pytest.raises(LedgerRefused, match="no ledger"):
        back_up(path, target, at=AT)
    with pytest.raises(LedgerRefused, match="can't be written"):
        back_up(path, path.with_name("nowhere") / "backup.db", at=AT)
    assert beside(path) == {path.name}
