"""What a ledger file must be before it is used, and what ledger time is on it."""

import asyncio
import stat
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import apsw
import pytest

from gateway.ledger import LedgerRefused
from gateway.stores import sqlite_statements
from gateway.stores.sqlite import SqliteLedger
from gateway.stores.sqlite_file import SCHEMA_VERSION
from gateway.stores.sqlite_host import HostFacts, filesystem_of, wal_reset_is_fixed

from .making import (
    HOST,
    LEASE_S,
    TurnableClock,
    fresh,
    in_doubt,
    settled,
    submission,
)

Open = Callable[..., Awaitable[SqliteLedger]]


@pytest.fixture
def path(quick_folder: Path) -> Path:
    return quick_folder / "folder" / "ledger.db"


@pytest.fixture
def clock() -> TurnableClock:
    return TurnableClock()


@pytest.fixture
async def opened(path: Path, clock: TurnableClock) -> AsyncIterator[Open]:
    ledgers: list[SqliteLedger] = []

    async def open_one(
        *, host: HostFacts = HOST, at: TurnableClock = clock, adopt: bool = False
    ) -> SqliteLedger:
        ledger = SqliteLedger(
            path,
            clock=at,
            who="replica-1",
            lease_s=LEASE_S,
            new_holder=lambda: f"holder-{id(at)}-{len(ledgers)}",
            store_timeout_s=5.0,
            adopt=adopt,
            host=host,
        )
        await ledger.open()
        ledgers.append(ledger)
        return ledger

    yield open_one
    for ledger in ledgers:
        await ledger.close()


def edit(path: Path, *statements: str) -> None:
    db = apsw.Connection(str(path))
    for statement in statements:
        db.execute(statement)
    db.close()


def content(path: Path) -> bytes:
    return path.read_bytes()


def put(path: Path, raw: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(raw)


def exists(path: Path) -> bool:
    return path.exists()


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


# --- the file --------------------------------------------------------------------------------


async def test_folder_and_file_are_made_for_their_owner_only(opened: Open, path: Path) -> None:
    await opened()
    assert mode(path.parent) == 0o700
    assert mode(path) == 0o600


async def test_a_restart_keeps_everything(opened: Open) -> None:
    ledger = await opened()
    confirmed = await settled(ledger, submission("a"))
    doubt, _ = await in_doubt(ledger, submission("b"))
    counts = await ledger.counts()
    await ledger.close()
    ledger = await opened()
    assert await ledger.find(confirmed.id) == confirmed
    assert await ledger.find(doubt.id) == doubt
    assert await ledger.counts() == counts
    (taken,) = await ledger.lease_due(10)
    assert taken.entry.id == doubt.id


async def test_commits_are_synced_as_promised(opened: Open) -> None:
    ledger = await opened()
    assert ledger._parts is not None
    db = ledger._parts.file.writer
    assert db.pragma("journal_mode") == "wal"
    assert db.pragma("synchronous") == 2


@pytest.mark.parametrize("raw", [b"hello", b"x" * 8192])
async def test_a_file_that_is_no_database_is_refused_and_kept(
    opened: Open, path: Path, raw: bytes
) -> None:
    put(path, raw)
    with pytest.raises(LedgerRefused, match="damaged or no ledger"):
        await opened()
    assert content(path) == raw


async def test_another_programs_database_is_refused(opened: Open, path: Path) -> None:
    put(path, b"")
    edit(path, "CREATE TABLE theirs (x)")
    before = content(path)
    with pytest.raises(LedgerRefused, match="another program"):
        await opened()
    assert content(path) == before


@pytest.mark.parametrize(("start", "length"), [(0, 100), (4096, 3 * 4096)])
async def test_a_damaged_ledger_is_refused_and_kept(
    opened: Open, path: Path, start: int, length: int
) -> None:
    ledger = await opened()
    for number in range(30):
        await settled(ledger, submission(f"key-{number}"))
    await ledger.close()
    raw = bytearray(content(path))
    raw[start : start + length] = b"\xa5" * length
    put(path, bytes(raw))
    with pytest.raises(LedgerRefused, match="damaged"):
        await opened()
    assert content(path) == raw


async def test_a_ledger_of_a_newer_version_is_refused(opened: Open, path: Path) -> None:
    await (await opened()).close()
    edit(path, f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    before = content(path)
    with pytest.raises(LedgerRefused, match="newer gateway"):
        await opened()
    assert content(path) == before


async def test_a_file_that_another_program_has_locked_is_refused(opened: Open, path: Path) -> None:
    await (await opened()).close()
    other = apsw.Connection(str(path))
    other.pragma("locking_mode", "EXCLUSIVE")
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(LedgerRefused, match="locked"):
        await opened()
    other.execute("ROLLBACK")
    other.close()
    await opened()


async def test_a_path_that_cannot_be_a_file_is_refused(opened: Open, path: Path) -> None:
    put(path / "file", b"")
    with pytest.raises(LedgerRefused, match="can't be opened"):
        await opened()


async def test_a_folder_that_cannot_be_made_is_refused(opened: Open, path: Path) -> None:
    put(path.parent, b"")
    with pytest.raises(LedgerRefused, match="can't be made"):
        await opened()


# --- the host --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "fixed"),
    [
        ("3.40.1", False),
        ("3.44.5", False),
        ("3.44.6", True),
        ("3.45.9", False),
        ("3.50.6", False),
        ("3.50.7", True),
        ("3.51.2", False),
        ("3.51.3", True),
        ("3.54.1", True),
        ("4.0.0", True),
        ("unknown", False),
    ],
)
async def test_an_unsafe_sqlite_is_refused(opened: Open, version: str, fixed: bool) -> None:
    assert wal_reset_is_fixed(version) is fixed
    host = replace(HOST, sqlite_version=version)
    if fixed:
        await opened(host=host)
        return
    with pytest.raises(LedgerRefused, match="WAL-reset"):
        await opened(host=host)


@pytest.mark.parametrize("kind", ["nfs4", "cifs", "9p", "fuse.sshfs"])
async def test_a_network_file_system_is_refused(opened: Open, path: Path, kind: str) -> None:
    mounts = (
        "21 1 8:1 / / rw,relatime - ext4 /dev/vda rw\n"
        f"30 21 0:40 / {path.parent} rw shared:1 - {kind} server:/share rw\n"
    )
    with pytest.raises(LedgerRefused, match=kind):
        await opened(host=replace(HOST, mounts=mounts))
    assert not exists(path)


def test_the_nearest_and_latest_mount_counts() -> None:
    mounts = (
        "21 1 8:1 / / rw - ext4 /dev/vda rw\n"
        "30 21 0:40 / /mnt/my\\040disk rw - nfs server:/ rw\n"
        "31 21 0:41 / /srv rw - nfs server:/ rw\n"
        "32 21 0:42 / /srv rw - xfs /dev/vdb rw\n"
        "a line that is no mount\n"
    )
    assert filesystem_of(Path("/mnt/my disk/ledger"), mounts) == "nfs"
    assert filesystem_of(Path("/mnt/my"), mounts) == "ext4"
    assert filesystem_of(Path("/srv/ledger"), mounts) == "xfs"
    assert filesystem_of(Path("/srv"), "") == ""


async def test_a_machine_without_a_boot_id_is_refused(opened: Open) -> None:
    with pytest.raises(LedgerRefused, match="boot id"):
        await opened(host=replace(HOST, boot_id=""))


async def test_this_machine_may_keep_a_ledger(opened: Open) -> None:
    host = HostFacts.read()
    if not host.boot_id:
        pytest.skip("this machine tells no boot id")
    await opened(host=host)


async def test_a_ledger_of_another_host_is_refused_until_adopted(opened: Open) -> None:
    ledger = await opened()
    entry, _ = await in_doubt(ledger)
    await ledger.close()
    other = replace(HOST, machine_id="machine-2", boot_id="boot-2")
    with pytest.raises(LedgerRefused, match="adopt = true"):
        await opened(host=other)
    adopted = await opened(host=other, adopt=True)
    assert await adopted.find(entry.id) == entry
    await adopted.close()
    await (await opened(host=other)).close()
    with pytest.raises(LedgerRefused, match="another host"):
        await opened()


async def test_machines_without_an_id_are_not_taken_for_one_another(opened: Open) -> None:
    nameless = replace(HOST, machine_id="")
    await (await opened(host=nameless)).close()
    await (await opened(host=nameless)).close()
    with pytest.raises(LedgerRefused, match="machine-id"):
        await opened(host=replace(nameless, boot_id="boot-2"))


# --- ledger time -----------------------------------------------------------------------------


async def test_a_restart_in_the_same_boot_goes_on_with_the_same_time(
    opened: Open, clock: TurnableClock
) -> None:
    ledger = await opened()
    before = ledger.now()
    await ledger.close()
    clock.jump(86_400)
    clock.advance(7)
    assert (await opened()).now() == before + 7


@pytest.mark.parametrize("jump_s", [86_400.0, -86_400.0])
async def test_time_never_runs_back_over_a_reboot(opened: Open, jump_s: float) -> None:
    ledger = await opened()
    await fresh(ledger)
    before = ledger.now()
    await ledger.close()
    rebooted = TurnableClock(boot_s=3.0, wall_s=before + jump_s)
    ledger = await opened(host=replace(HOST, boot_id="boot-2"), at=rebooted)
    assert ledger.now() == max(before, before + jump_s)


async def test_a_boot_in_a_wrong_year_forgets_no_key(opened: Open, clock: TurnableClock) -> None:
    ledger = await opened()
    entry = await settled(ledger)
    await ledger.close()
    rebooted = TurnableClock(boot_s=1.0, wall_s=clock.wall() + 1e9)
    ledger = await opened(host=replace(HOST, boot_id="boot-2"), at=rebooted)
    rebooted.jump(-1e9)  # the clock is set right
    assert await ledger.retire(10) == (0, 0)
    assert await ledger.find(entry.id) == entry


async def test_a_clock_that_was_set_late_forgets_no_key_at_the_next_boot(opened: Open) -> None:
    """A host without a clock of its own: the first boot takes orders before NTP sets it."""
    unset = TurnableClock(boot_s=3.0, wall_s=946_684_800.0)
    ledger = await opened(at=unset)
    unset.jump(1e9)
    entry = await settled(ledger)
    before = ledger.now()
    await ledger.close()
    for boot in (2, 3):
        rebooted = TurnableClock(boot_s=1.0, wall_s=unset.wall() + 60 * boot)
        ledger = await opened(host=replace(HOST, boot_id=f"boot-{boot}"), at=rebooted)
        assert ledger.now() == pytest.approx(before + 60 * boot, abs=1)
        assert await ledger.retire(10) == (0, 0)
        assert await ledger.find(entry.id) == entry
        await ledger.close()


async def test_after_a_reboot_every_earlier_hold_has_lapsed(
    opened: Open, clock: TurnableClock
) -> None:
    ledger = await opened()
    entry, _ = await fresh(ledger)
    ledger.crash()
    rebooted = TurnableClock(boot_s=1.0, wall_s=clock.wall())
    ledger = await opened(host=replace(HOST, boot_id="boot-2"), at=rebooted)
    (taken,) = await ledger.lease_due(10)
    assert taken.entry.id == entry.id


async def test_processes_of_one_boot_share_one_time(opened: Open, clock: TurnableClock) -> None:
    first = await opened()
    clock.jump(5)
    second = await opened()
    assert first.now() == second.now()


# --- work that grows with what is due --------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "index"),
    [
        (sqlite_statements.DUE, "open"),
        (sqlite_statements.ORPHANS, "open"),
        (sqlite_statements.ANSWERS_PAST, "answers_until"),
        (sqlite_statements.ENTRIES_PAST, "entries_until"),
        (sqlite_statements.OLDEST, "open"),
        (sqlite_statements.PAGE_OF_PENDING, "open"),
        (sqlite_statements.PAGE_OF_UNCONFIRMED, "unconfirmed"),
        (sqlite_statements.NEWEST_ATTACHED, "attached"),
        (sqlite_statements.SWEEP_HOLDERS, "open"),
        (sqlite_statements.ADOPT_ORPHANS, "open"),
    ],
)
async def test_ten_million_settled_orders_cost_nothing(
    opened: Open, query: str, index: str
) -> None:
    ledger = await opened()
    assert ledger._parts is not None
    db = ledger._parts.file.reader
    bindings = (0,) * query.count("?")
    plan = [row[3] for row in db.execute(f"EXPLAIN QUERY PLAN {query}", bindings)]
    on_orders = [step for step in plan if " o" in step.replace("holders", "")]
    assert any(f"INDEX {index} " in f"{step} " for step in on_orders), plan
    assert not any(step.startswith(("SCAN o", "SCAN orders")) for step in plan if index not in step)


async def test_who_starts_beside_another_waits_for_it_to_make_the_ledger(
    path: Path, opened: Open
) -> None:
    """SQLite itself does not wait where a file's way of writing is changed."""
    await asyncio.to_thread(path.parent.mkdir)
    other = apsw.Connection(str(path))
    other.execute("BEGIN IMMEDIATE")
    opening = asyncio.ensure_future(opened())
    done, _ = await asyncio.wait([opening], timeout=0.2)
    assert not done
    other.execute("ROLLBACK")
    other.close()
    await fresh(await opening)
