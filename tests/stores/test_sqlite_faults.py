"""What the embedded ledger does when the disk, the lock, the time or a process fails."""

import asyncio
import itertools
import os
import secrets
import shutil
import subprocess
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import apsw
import pytest

from gateway.ledger import LEASE_MARGIN, LeaseLost, LedgerUnavailable
from gateway.orders import life
from gateway.orders.claiming import Fresh, InFlight
from gateway.orders.entry import Entry, KeptRequest
from gateway.orders.states import Reason, Status
from gateway.stores import sqlite_lane, sqlite_log
from gateway.stores.sqlite import SqliteLedger
from gateway.stores.sqlite_rows import SqliteRows

from .making import (
    LEASE_S,
    TurnableClock,
    answered,
    ended,
    fresh,
    in_doubt,
    submission,
)
from .processes import held_back, line, make, process

WAIT_S = 20.0
BODY = KeptRequest(b"POST", b"/orders", (), secrets.token_bytes(20_000))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


@pytest.fixture
async def ledger(path: Path) -> AsyncIterator[SqliteLedger]:
    opened = make(path)
    await opened.open()
    yield opened
    await opened.close()


def trouble(ledger: SqliteLedger) -> str | None:
    return ledger.trouble


def size(path: Path) -> int:
    return path.stat().st_size


def move(path: Path, target: Path) -> None:
    path.rename(target)


# --- one batch, many calls -------------------------------------------------------------------


async def test_writes_that_wait_together_are_one_transaction(ledger: SqliteLedger) -> None:
    assert ledger._parts is not None
    commits: list[int] = []

    def committed() -> bool:
        commits.append(1)
        return False

    ledger._parts.file.writer.set_commit_hook(committed)
    gate = threading.Event()
    busy = held_back(ledger, gate)
    await asyncio.sleep(0)
    claims = [asyncio.create_task(fresh(ledger, submission(f"key-{n}"))) for n in range(50)]
    await asyncio.sleep(0)
    gate.set()
    await asyncio.gather(busy, *claims)
    assert 1 <= len(commits) <= 2
    assert (await ledger.counts()).made == 50


async def test_one_bad_call_does_not_harm_the_others_of_its_batch(ledger: SqliteLedger) -> None:
    doubt, lease = await in_doubt(ledger, submission("doubt"))
    stale = life.bury(doubt, Reason.DOUBT_DEADLINE, doubt.updated_at, "me")

    def explode(before: Entry, now: float) -> Entry:
        raise LookupError("mine")

    def torn(rows: SqliteRows) -> None:
        rows.insert(life.claim(submission("torn"), rows.now), "nobody")
        raise RuntimeError("half way")

    def twice(rows: SqliteRows) -> None:
        rows.insert(life.claim(submission("doubt"), rows.now), "nobody")

    results = await asyncio.gather(
        ledger.claim(submission("a")),
        ledger.amend(doubt.id, explode),
        ledger._write(torn),
        ledger.claim(submission("a")),
        ledger.write(lease, stale, doubt),
        ledger._write(twice),
        ledger.claim(submission("b")),
        return_exceptions=True,
    )
    kinds = [type(result) for result in results]
    assert kinds[1:3] == [LookupError, RuntimeError]
    assert kinds[4:6] == [LeaseLost, LedgerUnavailable]
    claims = [results[0], results[3], results[6]]
    assert [type(getattr(claim, "claimed", None)) for claim in claims] == [Fresh, InFlight, Fresh]
    assert await ledger.find_by_key("scope", "torn") is None
    counts = await ledger.counts()
    assert counts.conserved
    assert counts.made == 3


async def test_a_call_past_its_deadline_may_still_be_written(path: Path) -> None:
    ledger = make(path, timeout_s=0.2)
    await ledger.open()
    gate = threading.Event()
    busy = held_back(ledger, gate)
    await asyncio.sleep(0)
    with pytest.raises(LedgerUnavailable) as caught:
        await fresh(ledger)
    assert caught.value.written is None
    assert caught.value.hold is ledger.hold
    assert trouble(ledger) is not None
    gate.set()
    await asyncio.wait([busy])
    assert isinstance(busy.exception(), LedgerUnavailable)
    await ledger.renew_hold()
    assert await ledger.find_by_key("scope", "key") is not None
    assert trouble(ledger) is None
    await ledger.close()


async def test_a_claim_that_waits_for_a_new_hold_in_vain_is_surely_not_written(path: Path) -> None:
    ledger = make(path, timeout_s=0.2)
    await ledger.open()
    gate = threading.Event()
    busy = held_back(ledger, gate)
    await asyncio.sleep(0)
    ledger.hold.lapsed = True
    with pytest.raises(LedgerUnavailable) as caught:
        await fresh(ledger)
    assert caught.value.written is False
    gate.set()
    await asyncio.wait([busy])
    await ledger.renew_hold()
    assert await ledger.find_by_key("scope", "key") is None
    await ledger.close()


async def test_reads_go_on_while_the_writer_hangs(path: Path) -> None:
    ledger = make(path, timeout_s=0.2)
    await ledger.open()
    gate = threading.Event()
    busy = held_back(ledger, gate)
    await asyncio.wait([busy])
    assert (await ledger.counts()).made == 0
    assert trouble(ledger) is not None
    gate.set()
    await ledger.renew_hold()
    assert trouble(ledger) is None
    await ledger.close()


async def test_too_many_waiting_calls_are_refused_and_nothing_is_written(
    ledger: SqliteLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_lane, "WAITING_MAX", 4)
    gate = threading.Event()
    busy = held_back(ledger, gate)
    claims = [asyncio.create_task(ledger.claim(submission(f"key-{n}"))) for n in range(6)]
    await asyncio.sleep(0)
    gate.set()
    await busy
    results = await asyncio.gather(*claims, return_exceptions=True)
    refused = [result for result in results if isinstance(result, LedgerUnavailable)]
    assert len(refused) == 3
    assert all(refusal.written is False for refusal in refused)
    assert (await ledger.counts()).made == 3
    await fresh(ledger, submission("after"))


async def test_a_hold_that_lapses_while_it_is_renewed_stays_lapsed(path: Path) -> None:
    clock = TurnableClock()
    ledger = make(path, clock=clock)
    await ledger.open()
    hold = ledger.hold
    gate = threading.Event()
    busy = held_back(ledger, gate)
    renewing = asyncio.create_task(ledger.renew_hold())
    await asyncio.sleep(0)  # the renewal has begun,
    await asyncio.sleep(0)  # and its write waits
    clock.advance(LEASE_S * (1 - LEASE_MARGIN))
    gate.set()
    await asyncio.gather(busy, renewing)
    assert ledger.hold is not hold
    assert not hold.valid(0.0)
    await ledger.close()


# --- locks -----------------------------------------------------------------------------------


async def test_a_locked_ledger_is_unavailable_until_it_is_free(path: Path) -> None:
    ledger = make(path, timeout_s=0.4)
    await ledger.open()
    other = apsw.Connection(str(path))
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(LedgerUnavailable) as caught:
        await fresh(ledger)
    assert caught.value.written is False
    assert trouble(ledger) == "the ledger is locked by another program"
    assert (await ledger.counts()).made == 0
    other.execute("ROLLBACK")
    other.close()
    await fresh(ledger)
    assert trouble(ledger) is None
    await ledger.close()


# --- the disk --------------------------------------------------------------------------------


async def fill(ledger: SqliteLedger) -> int:
    """Claim until the ledger says no; how many were claimed."""
    for number in itertools.count():
        try:
            await fresh(ledger, submission(f"key-{number}", request=BODY))
        except LedgerUnavailable as refusal:
            written = refusal.written
            break
    assert written is False
    return number


async def check_full(ledger: SqliteLedger) -> None:
    first, _ = await fresh(ledger, submission("first", request=BODY))
    count = await fill(ledger)
    assert trouble(ledger) == "the ledger's disk is full"
    counts = await ledger.counts()
    assert counts.conserved
    assert counts.made == count + 1
    assert await ledger.find(first.id) == first
    assert await ledger.find_by_key("scope", f"key-{count}") is None


async def test_a_full_disk_refuses_and_writes_nothing_until_there_is_room(
    ledger: SqliteLedger,
) -> None:
    assert ledger._parts is not None
    db = ledger._parts.file.writer
    db.pragma("max_page_count", db.pragma("page_count") + 60)
    await check_full(ledger)
    db.pragma("max_page_count", 1_000_000)
    await fresh(ledger, submission("room"))
    assert trouble(ledger) is None


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "small"
    folder.mkdir()
    mount = shutil.which("mount")
    if os.geteuid() != 0 or mount is None:
        pytest.skip("mounting a small disk needs root")
    made = subprocess.run(
        [mount, "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(folder)], capture_output=True
    )
    if made.returncode != 0:
        pytest.skip(f"no small disk can be mounted here: {made.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


async def test_a_disk_that_is_really_full_loses_nothing(small_disk: Path) -> None:
    path = small_disk / "ledger.db"
    ledger = make(path)
    await ledger.open()
    filler = small_disk / "filler"
    filler.write_bytes(b"x" * 1_500_000)
    await check_full(ledger)
    filler.unlink()
    entry, _ = await fresh(ledger, submission("room"))
    assert trouble(ledger) is None
    await ledger.close()
    again = make(path)
    await again.open()
    assert await again.find(entry.id) == entry
    await again.close()


async def test_a_failing_disk_ends_all_writing_and_loses_nothing_acknowledged(path: Path) -> None:
    lines: list[str] = []
    async with process("starve", path, "400000") as running:
        while text := await line(running):
            lines.append(text)
    claimed = [text.split()[1] for text in lines if text.startswith("claimed")]
    assert "after" not in claimed
    assert lines[-2] == "refused None"
    assert lines[-1].startswith("still False the ledger's disk failed")
    ledger = make(path)
    await ledger.open()
    for key in claimed:
        assert await ledger.find_by_key("scope", key) is not None
    assert (await ledger.counts()).conserved
    await ledger.close()


async def test_a_ledger_that_was_deleted_under_us_is_noticed(
    ledger: SqliteLedger, path: Path
) -> None:
    elsewhere = path.with_name("elsewhere.db")
    move(path, elsewhere)
    with pytest.raises(LedgerUnavailable, match="moved, removed or replaced"):
        await ledger.renew_hold()
    assert trouble(ledger) is not None
    with pytest.raises(LedgerUnavailable):
        await fresh(ledger)
    move(elsewhere, path)


async def test_nothing_is_polled_while_nobody_watches(ledger: SqliteLedger) -> None:
    entry, lease = await fresh(ledger)
    before = ledger._polling.task
    watch = ledger.watchers.add(entry.id)
    polling = ledger._polling.task
    assert before is None
    assert polling is not None
    await ended(ledger, entry, lease, answered(201))
    assert (await watch.next()).status is Status.CONFIRMED
    ledger.watchers.remove(entry.id, watch)
    await asyncio.wait_for(polling, WAIT_S)


async def test_the_log_is_copied_into_the_file_by_the_writer(
    ledger: SqliteLedger, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_log, "CHECKPOINT_PAGES", 1000)
    before = size(path)
    for number in range(300):
        await fresh(ledger, submission(f"key-{number}", request=BODY))
    await ledger.renew_hold()
    assert size(path) > before + 1_000_000


async def test_a_log_that_readers_keep_open_is_not_copied_after_every_write(
    ledger: SqliteLedger, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_log, "CHECKPOINT_PAGES", 1000)
    monkeypatch.setattr(sqlite_log, "LOG_PAGES_MAX", 1500)
    assert ledger._parts is not None
    copied: list[int] = []
    keeper = ledger._parts.writer.log
    judge = keeper._judge

    def counted() -> None:
        copied.append(1)
        judge()

    monkeypatch.setattr(keeper, "_judge", counted)
    stranger = apsw.Connection(str(path))
    stranger.execute("BEGIN")
    stranger.execute("SELECT count(*) FROM orders").fetchall()
    for number in range(400):
        await fresh(ledger, submission(f"key-{number}", request=BODY))
    assert 2 <= len(copied) <= 6
    assert trouble(ledger) is None
    stranger.close()
    await fresh(ledger, submission("after"))


async def test_a_crash_drops_what_waits_and_keeps_what_was_acknowledged(path: Path) -> None:
    ledger = make(path, inline=True)
    await ledger.open()
    entry, _ = await fresh(ledger, submission("kept"))
    waiting = asyncio.create_task(ledger.claim(submission("lost")))
    await asyncio.sleep(0)
    ledger.crash()
    again = make(path)
    await again.open()
    assert await again.find(entry.id) == entry
    assert await again.find_by_key("scope", "lost") is None
    waiting.cancel()
    await again.close()
