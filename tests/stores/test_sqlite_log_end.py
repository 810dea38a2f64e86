"""What behind the end of a log shows that durable commits were lost, and what never may: a write
that a kill or a power cut broke off, frames of an earlier log, a log that others write just now."""

import os
import random
import secrets
import struct
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import apsw
import pytest

from gateway.ledger import LedgerRefused
from gateway.stores.moving import move
from gateway.stores.sqlite_host import HostFacts
from gateway.stores.sqlite_log_end import lost_behind
from gateway.stores.sqlite_moving import SqliteSource, SqliteTarget
from middleware.clock import SystemClock

from .making import TurnableClock, reading, settled, submission
from .processes import line, make, process

HEADER, FRAME = 32, 24 + 4096
"""sqlite.org/fileformat2.html#walformat"""

SECTOR = 512
"""What a disk writes whole, or not at all."""

TORN = 400


@pytest.fixture
def path(quick_folder: Path) -> Path:
    return quick_folder / "ledger.db"


def log_of(path: Path) -> Path:
    return path.with_name(path.name + "-wal")


def commits(log: bytes) -> list[int]:
    """The numbers of the frames that end one, from 1."""
    heads = range(HEADER, len(log) - FRAME + 1, FRAME)
    ends = [struct.unpack_from(">4xI", log, place)[0] > 0 for place in heads]
    return [number for number, end in enumerate(ends, 1) if end]


def place(number: int) -> int:
    return HEADER + (number - 1) * FRAME


def changed(log: bytes, at: int) -> bytes:
    return log[:at] + bytes([log[at] ^ 1]) + log[at + 1 :]


@contextmanager
def used(path: Path) -> Iterator[apsw.Connection]:
    """As a gateway opens it: the log is read, and left as it is."""
    with closing(apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)) as db:
        db.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        db.pragma("wal_autocheckpoint", 0)
        db.execute("SELECT count(*) FROM sqlite_schema").fetchall()
        yield db


def contents(path: Path) -> tuple[bytes, bytes]:
    return path.read_bytes(), log_of(path).read_bytes()


def put(path: Path, new: tuple[bytes, bytes]) -> None:
    """As the file and the log of a ledger that nobody has open."""
    path.with_name(path.name + "-shm").unlink(missing_ok=True)
    path.write_bytes(new[0])
    log_of(path).write_bytes(new[1])


def seen(path: Path, log: bytes) -> int | None:
    """What is seen in a ledger with this ``log`` that nobody has open."""
    path.with_name(path.name + "-shm").unlink(missing_ok=True)
    log_of(path).write_bytes(log)
    with used(path) as db:
        return lost_behind(db, path)


def write(path: Path, rows: int = 3, row_bytes: int = 3000) -> bytes:
    """One commit of so many pages and some; the log as it is then."""
    with used(path) as db, db:
        db.execute("CREATE TABLE IF NOT EXISTS test (a)")
        many = [(secrets.token_bytes(row_bytes),) for _ in range(rows)]
        db.executemany("INSERT INTO test VALUES (?)", many)
    return log_of(path).read_bytes()


async def crashed(path: Path, orders: int = 6) -> bytes:
    """The log of a gateway that was killed."""
    ledger = make(path)
    await ledger.open()
    for number in range(orders):
        await settled(ledger, submission(f"key-{number}"))
    ledger.crash()
    return log_of(path).read_bytes()


# --- what is lost ----------------------------------------------------------------------------


async def test_damage_with_whole_commits_behind_is_seen_wherever_it_is(path: Path) -> None:
    log = await crashed(path)
    ends = commits(log)
    assert len(ends) > 10
    for number in range(1, ends[-1] + 1):
        shown = any(number < end < ends[-1] for end in ends)
        for at in (place(number) + 5, place(number) + 10, place(number) + 2000):
            found = seen(path, changed(log, at))
            assert found == (place(number) if shown else None), (number, at)
        found = seen(path, changed(log, place(number) + 20))  # what the next one continues
        assert found == (place(number) if any(number + 1 < e < ends[-1] for e in ends) else None)


async def test_a_damaged_header_is_seen(path: Path) -> None:
    log = await crashed(path)
    for at in range(HEADER):
        assert seen(path, changed(log, at)) == 0
    assert seen(path, bytes(HEADER) + log[HEADER:]) == 0
    assert seen(path, bytes(5 * FRAME) + log[5 * FRAME :]) == 0


@pytest.mark.parametrize("junk", [bytes, secrets.token_bytes])
async def test_damage_of_many_pages_is_seen(path: Path, junk: object) -> None:
    assert callable(junk)
    log = await crashed(path, 20)
    start, end = place(20), place(60) + 1234
    assert seen(path, log[:start] + junk(end - start) + log[end:]) == start


async def test_a_move_from_a_log_that_lost_something_is_refused_and_leaves_it(path: Path) -> None:
    log = await crashed(path)
    log = changed(log, place(commits(log)[-4]) - 100)
    log_of(path).write_bytes(log)
    host, clock = HostFacts.read(), TurnableClock(SystemClock().monotonic() + 60)  # no hold is left
    source = SqliteSource(path, host=host, clock=clock)
    target = SqliteTarget(path.with_name("target.db"), host=host, clock=clock)
    with pytest.raises(LedgerRefused, match="damaged at byte"):
        await move(source, target, lambda *_: None)
    await source.close()
    await target.close()
    assert log_of(path).read_bytes() == log


# --- what is no loss -------------------------------------------------------------------------


def torn(before: bytes, after: bytes, chance: random.Random) -> bytes:
    """A write of which some sectors reached the disk, and perhaps not all of the file's length."""
    wide = before.ljust(len(after), b"\0")
    kept = chance.random()
    parts = [
        (after if chance.random() < kept else wide)[start : start + SECTOR]
        for start in range(0, len(after), SECTOR)
    ]
    size = chance.choice([len(after), chance.randint(len(before), max(len(before), len(after)))])
    return b"".join(parts)[:size]


def before_and_after(path: Path, number: int) -> tuple[bytes, bytes]:
    """The log before its last commit and after it, over what different earlier logs left."""
    for _ in range(number % 3):
        for _ in range(4):
            write(path, 1 + number)
        with used(path) as db:
            db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_RESTART)
    if number % 2:
        write(path)
        write(path, 1)
    before = log_of(path).read_bytes()
    return before, write(path, 4, 1000 + 600 * number)


@pytest.mark.parametrize("number", range(6))
async def test_a_commit_that_a_power_cut_broke_off_is_no_loss(path: Path, number: int) -> None:
    await crashed(path)
    before, after = before_and_after(path, number)
    assert len(commits(after)) > 1
    chance = random.Random(number)
    for _ in range(TORN):
        assert seen(path, torn(before, after, chance)) is None
    new = [at for at in range(HEADER, len(after)) if after[at : at + 1] != before[at : at + 1]]
    for size in range(new[0], new[-1], 97):
        assert seen(path, after[:size]) is None
        assert seen(path, after[:size] + before[size:]) is None


async def test_half_a_head_of_an_earlier_frame_makes_no_commit(path: Path) -> None:
    """Where a sector ends within a frame's head, what was there before says whether it is one."""
    before = await crashed(path)
    after = write(path, 8)
    first, last = len(before), len(after)
    for at in range(first + FRAME, last, FRAME):
        stale = after[:at] + struct.pack(">2I", 2, 40) + after[at + 8 :]
        assert seen(path, stale) is None
        assert seen(path, before + bytes(FRAME) + stale[first + FRAME :]) is None


async def test_pages_of_a_broken_off_commit_in_any_order_are_no_loss(path: Path) -> None:
    """Each way in which whole pages of it can be there."""
    before = await crashed(path)
    after = write(path, 5)
    frames = [after[at : at + FRAME] for at in range(len(before), len(after), FRAME)]
    assert 4 < len(frames) < 11
    for there in range(2 ** len(frames)):
        tail = (frame if there >> n & 1 else bytes(FRAME) for n, frame in enumerate(frames))
        assert seen(path, before + b"".join(tail)) is None


async def test_what_writes_that_failed_left_is_no_loss(path: Path) -> None:
    """Each went on from the same place: the shorter ones leave the ends of the longer ones."""
    log = await crashed(path)
    left, base = log, contents(path)
    for rows in (9, 6, 5, 3, 2, 1):
        put(path, base)
        new = write(path, rows)
        left = new + left[len(new) :]
        assert seen(path, left) is None
        assert seen(path, log + bytes(FRAME) + left[len(log) + FRAME :]) is None


async def test_an_earlier_log_behind_the_end_is_no_loss(path: Path) -> None:
    await crashed(path, 12)
    with used(path) as db:
        db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_RESTART)
        assert lost_behind(db, path) is None  # the next write makes the new header
        with used(path) as second:
            assert lost_behind(second, path) is None
        ends = commits(log_of(path).read_bytes())
        for number in range(5):
            log = write(path, 1)
            assert number + 1 < len(ends)
            assert seen(path, log) is None
            with used(path) as second:
                assert lost_behind(second, path) is None
    with used(path) as db:
        log_of(path).write_bytes(bytes(HEADER) + log[HEADER:])
        assert lost_behind(db, path) is None  # what was read is in use
        log_of(path).write_bytes(log)
    ledger = make(path)
    await ledger.open()
    assert ledger.distrusted is None
    await ledger.close()


async def test_a_log_that_others_write_is_no_loss(path: Path) -> None:
    """They append to it, copy it and start over, while it is looked at."""
    await (ledger := make(path)).open()
    await ledger.close()
    async with process("load", path) as running:
        await line(running)
        with used(path) as db:
            for number in range(3000):
                assert lost_behind(db, path) is None
                if number % 100 == 0:
                    db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)


async def test_a_whole_log_of_a_killed_process_is_no_loss(path: Path) -> None:
    for _ in range(3):
        async with process("load", path) as running:
            for _ in range(50):
                await line(running)
            running.kill()
            await running.wait()
        with used(path) as db:
            assert lost_behind(db, path) is None


@pytest.mark.parametrize("log", [b"", bytes(31), bytes(32), bytes(100_000)])
async def test_a_log_with_nothing_in_it_is_no_loss(path: Path, log: bytes) -> None:
    await (ledger := make(path)).open()
    await ledger.close()
    assert seen(path, log) is None


async def test_a_commit_of_more_pages_than_are_kept_in_memory_is_no_loss(path: Path) -> None:
    """It goes out before it ends, and some of its pages twice."""
    log = await crashed(path)
    with used(path) as db:
        db.pragma("cache_size", 10)
        db.execute("BEGIN; CREATE TABLE large (a)")
        for _ in range(100):
            db.execute("INSERT INTO large VALUES (?)", (secrets.token_bytes(3000),))
            db.execute("UPDATE large SET a = a || 'x' WHERE rowid % 7 = 0")
        unfinished = log_of(path).read_bytes()
        db.execute("COMMIT")
    after = log_of(path).read_bytes()
    assert len(unfinished) > len(log) + 20 * FRAME
    assert seen(path, unfinished) is None
    chance = random.Random(1)
    for _ in range(20):
        assert seen(path, torn(unfinished, after, chance)) is None
        assert seen(path, torn(log, after, chance)) is None


# --- before the first write ------------------------------------------------------------------


async def test_what_was_found_in_the_log_is_synced_before_anything_is_written(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a power cut could leave two commits behind a gap that nobody was told of."""
    log = await crashed(path)
    synced: list[bytes] = []
    monkeypatch.setattr(os, "fsync", lambda _file: synced.append(log_of(path).read_bytes()))
    with reading(path):
        ledger = make(path)
        await ledger.open()
    assert synced == [log]
    await ledger.close()


def fail(_file: int) -> None:
    raise OSError(5, "Input/output error")


async def test_a_log_that_can_not_be_synced_is_not_written_to(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = await crashed(path)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(LedgerRefused, match="look at its disk"):
            await make(path).open()
    assert log_of(path).read_bytes() == log
