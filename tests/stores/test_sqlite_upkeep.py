"""What the embedded ledger does beside orders: its log, its check, and its forgetting."""

import asyncio
import contextlib
import secrets
import time
from collections.abc import AsyncIterator
from pathlib import Path

import apsw
import pytest
from structlog.testing import capture_logs

from gateway.ledger import LedgerUnavailable
from gateway.orders.entry import KeptRequest
from gateway.retention import BATCH, Retention
from gateway.stores import sqlite_check, sqlite_file, sqlite_log
from gateway.stores.sqlite import SqliteLedger
from gateway.stores.sqlite_check import BackgroundCheck
from gateway.stores.sqlite_host import readers_of

from .making import (
    HOST,
    LEASE_S,
    TurnableClock,
    answered,
    ended,
    fresh,
    reading,
    settled,
    submission,
)
from .processes import line, make, process

BODY = KeptRequest(b"POST", b"/orders", (), secrets.token_bytes(20_000))
LOG_PAGES_MAX = 400


@pytest.fixture
def path(quick_folder: Path) -> Path:
    return quick_folder / "ledger.db"


@pytest.fixture
async def ledger(path: Path) -> AsyncIterator[SqliteLedger]:
    opened = make(path)
    await opened.open()
    yield opened
    await opened.close()


def log_bytes(path: Path) -> int:
    return path.with_name(path.name + "-wal").stat().st_size


def trouble(ledger: SqliteLedger) -> str | None:
    return ledger.trouble


async def grow(ledger: SqliteLedger, orders: int) -> None:
    for _ in range(orders):
        await settled(ledger, submission(secrets.token_hex(8), request=BODY))


# --- the log ---------------------------------------------------------------------------------


@pytest.fixture
def small_log(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_log, "CHECKPOINT_PAGES", 50)
    monkeypatch.setattr(sqlite_log, "LOG_PAGES_MAX", LOG_PAGES_MAX)
    monkeypatch.setattr(sqlite_log, "RETRY_S", 0.0)
    monkeypatch.setattr(sqlite_log, "RESTART_BUSY_S", 0.001)


@pytest.mark.usefixtures("small_log")
async def test_a_long_reader_is_told_of_and_its_log_is_cut_off_when_it_has_gone(
    ledger: SqliteLedger, path: Path
) -> None:
    with capture_logs() as told:
        with reading(path):
            await grow(ledger, 100)
            grown = log_bytes(path)
            assert grown > LOG_PAGES_MAX * 4096
            assert trouble(ledger) is None
        await ledger.renew_hold()
        await ledger.renew_hold()
    assert log_bytes(path) < grown / 10
    words = [each["event"] for each in told]
    assert len([word for word in words if "log grows" in word]) >= 1
    assert words[-1] == "the ledger's log was cut off again"


@pytest.mark.usefixtures("small_log")
async def test_without_long_readers_the_log_stays_small_under_load(
    ledger: SqliteLedger, path: Path
) -> None:
    async def read_on() -> None:
        while True:
            await ledger.counts()

    reading_on = asyncio.create_task(read_on())
    with capture_logs() as told:
        await grow(ledger, 200)
        reading_on.cancel()
        await grow(ledger, 20)
    assert log_bytes(path) < 2 * LOG_PAGES_MAX * 4096
    assert [each for each in told if "log grows" in each["event"]] == []


async def test_the_process_that_reads_without_end_is_named(path: Path) -> None:
    ledger = make(path)
    await ledger.open()
    await settled(ledger)
    async with process("read", path) as running:
        assert await line(running) == "reading"
        assert readers_of(str(path)) == [running.pid]
    assert readers_of(str(path)) == []
    await ledger.close()


@pytest.mark.usefixtures("small_log")
async def test_a_log_that_would_fill_the_disk_refuses_orders_but_no_outcomes(
    ledger: SqliteLedger, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_log, "LOG_PAGES_REFUSED", 2 * LOG_PAGES_MAX)
    with reading(path):
        under_way = [await fresh(ledger, submission(f"key-{n}", request=BODY)) for n in range(20)]
        with pytest.raises(LedgerUnavailable) as caught:
            await grow(ledger, 300)
        assert caught.value.written is False
        assert "reads the ledger without end" in (trouble(ledger) or "")
        for entry, lease in under_way:
            await ended(ledger, entry, lease, answered(201))
    await ledger.renew_hold()
    await ledger.renew_hold()
    assert trouble(ledger) is None
    await grow(ledger, 1)


# --- the check -------------------------------------------------------------------------------


def spoil(path: Path) -> bytes:
    """Damage what opening does not look at: the first page of answers."""
    db = apsw.Connection(str(path))
    ((page,),) = db.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'answers'")
    db.close()
    raw = bytearray(path.read_bytes())
    raw[(page - 1) * 4096 : page * 4096] = b"\xa5" * 4096
    path.write_bytes(raw)
    return bytes(raw[(page - 1) * 4096 : page * 4096])


def holds(path: Path, spoiled: bytes) -> bool:
    return spoiled in path.read_bytes()


async def test_damage_of_a_large_ledger_is_found_behind_the_opening(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = make(path)
    await ledger.open()
    await grow(ledger, 50)
    await ledger.close()
    spoiled = spoil(path)
    monkeypatch.setattr(sqlite_file, "QUICK_CHECK_BYTES_MAX", 0)
    ledger = make(path)
    await ledger.open()
    assert ledger._parts is not None
    assert ledger._parts.check is not None
    await asyncio.to_thread(ledger._parts.check.wait)
    assert "damaged" in (trouble(ledger) or "")
    with pytest.raises(LedgerUnavailable, match="damaged") as caught:
        await fresh(ledger)
    assert caught.value.written is False
    await ledger.close()
    assert holds(path, spoiled)


async def test_a_large_ledger_that_is_whole_takes_orders_while_it_is_checked(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_file, "QUICK_CHECK_BYTES_MAX", 0)
    ledger = make(path)
    await ledger.open()
    await grow(ledger, 20)
    assert ledger._parts is not None
    assert ledger._parts.check is not None
    await asyncio.to_thread(ledger._parts.check.wait)
    assert trouble(ledger) is None
    await ledger.close()


async def test_a_check_under_way_does_not_hold_up_the_closing(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_file, "QUICK_CHECK_BYTES_MAX", 0)
    ledger = make(path)
    await ledger.open()
    assert ledger._parts is not None
    ledger._parts.check = SlowCheck(path)
    async with asyncio.timeout(5):
        await ledger.close()


@pytest.mark.usefixtures("small_log")
async def test_a_check_that_holds_the_log_open_ends_before_orders_are_refused(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_file, "QUICK_CHECK_BYTES_MAX", 0)
    monkeypatch.setattr(sqlite_log, "LOG_PAGES_REFUSED", 6 * LOG_PAGES_MAX)
    monkeypatch.setattr(sqlite_check, "damage_of", read_without_end)
    ledger = make(path)
    with capture_logs() as told:
        await ledger.open()
        await grow(ledger, 400)
    assert "check of the ledger was broken off" in " ".join(each["event"] for each in told)
    assert trouble(ledger) is None
    await ledger.close()


def read_without_end(db: apsw.Connection) -> str:
    """The check of a file that is far larger than this one."""
    db.execute(f"{WITHOUT_END}, (SELECT count(*) FROM orders)").fetchall()
    return ""


WITHOUT_END = (
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"
)


class SlowCheck(BackgroundCheck):
    """One of a file that is far larger than this one."""

    def _check(self) -> None:
        with contextlib.suppress(apsw.InterruptError):
            while True:
                self._db.execute(WITHOUT_END).fetchall()

    def __init__(self, path: Path) -> None:
        super().__init__(path, lambda _: None)


# --- retention -------------------------------------------------------------------------------

HELD_UP_S_MAX = 0.25
"""What one batch of deletions may hold up an order for, on a busy machine."""


async def test_forgetting_many_orders_holds_up_no_order(
    path: Path, request: pytest.FixtureRequest
) -> None:
    count = int(request.config.getoption("--retire"))
    clock = TurnableClock()
    ledger = SqliteLedger(
        path,
        clock=clock,
        who="replica-1",
        lease_s=LEASE_S,
        new_holder=lambda: secrets.token_hex(8),
        host=HOST,
    )
    await ledger.open()
    for start in range(0, count, 250):
        keys = range(start, min(start + 250, count))
        await asyncio.gather(*(settled(ledger, submission(f"key-{n}")) for n in keys))
    clock.advance(6_001)  # retention_s + tombstone_s
    await ledger.renew_hold()
    forgetting = asyncio.create_task(Retention(ledger).run_once())
    waits_s = []
    while not forgetting.done():
        began = time.perf_counter()
        await settled(ledger, submission(secrets.token_hex(8)))
        waits_s.append((time.perf_counter() - began) / 2)  # two writes
    touched = await forgetting
    assert touched == 2 * count  # each answer, each entry
    assert 2 * len(waits_s) >= count / BATCH  # a write of ours came between any two batches
    print(f"retired {count}: slowest write {max(waits_s) * 1000:.1f} ms of {len(waits_s)}")
    assert max(waits_s) < HELD_UP_S_MAX
    counts = await ledger.counts()
    assert counts.conserved
    assert counts.removed == count
    await ledger.close()
