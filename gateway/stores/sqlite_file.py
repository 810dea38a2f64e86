"""The ledger file: what must be true before it is used. Whose it is, and what ledger time is on
it: ``sqlite_origin``."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apsw

from gateway.ledger import LedgerLocked, LedgerRefused
from gateway.stores.codec import key_digest
from gateway.stores.doubting import Said
from gateway.stores.sqlite_check import damage_of
from gateway.stores.sqlite_host import HostFacts, check_host, make_file
from gateway.stores.sqlite_log_end import lost_behind, sync_log
from gateway.stores.sqlite_origin import read_origin, settle_origin
from gateway.stores.sqlite_statements import ADOPT_ORPHANS, BY_ID, TALLY
from gateway.stores.sqlite_trust import behind_s, recall, settle_trust
from middleware.clock import Clock

WHAT_IT_IS = (
    "SELECT (SELECT user_version FROM pragma_user_version),"
    " (SELECT application_id FROM pragma_application_id), EXISTS (SELECT 1 FROM sqlite_schema)"
)
"""In one statement: another gateway that starts may make it a ledger between two."""

APPLICATION_ID = 0x0D0E12A7
"""In the file's header: it is a ledger of ours. Any number that no registered format has."""

MIGRATIONS = {
    0: Path(__file__).with_name("schema.sql"),
    1: Path(__file__).with_name("schema_2.sql"),
    2: Path(__file__).with_name("schema_3.sql"),
}
"""From a schema version to the next; the newest version is one more than the last key."""

SCHEMA_VERSION = max(MIGRATIONS) + 1

QUICK_CHECK_BYTES_MAX = 64 * 1024 * 1024
"""Some 0.2 s of start-up; a larger file is checked behind it (``sqlite_check``)."""

CACHE_KIB = 16_384
"""The upper levels of every index of a ledger of some million entries."""

STATEMENTS_MAX = 256
"""Prepared statements kept: a batch's are one for each number of rows. A few MB."""

JOURNAL_BYTES_MAX = 64 * 1024 * 1024
"""What the write-ahead log shrinks to after a burst."""

ROOM_BYTES_MIN = 64 * 1024
"""What an opening makes beside the file: a log of some pages, and its index of 32 KiB."""

AGAIN_S = 0.01
"""Between two tries of what SQLite does not wait for."""

_KEEP = (
    "it was left as it is; keep it, restore a backup or move it away, and ask the upstream: orders"
    " in it may be open"
)


@dataclass(frozen=True, slots=True)
class LedgerFile:
    """An open ledger, ``checked`` where it is small. ``places``: its own path as it was given, its
    log's index and its log, each with device and inode. ``time_offset_s`` + boot clock = ledger
    time. ``forgot``: since when and why absence proves nothing here."""

    path: Path
    places: tuple[tuple[str, tuple[int, int]], ...]
    writer: apsw.Connection
    reader: apsw.Connection
    boot_id: str
    time_offset_s: float
    checked: bool
    epoch: str
    forgot: Said | None

    def displaced(self) -> str | None:
        """The first of ``places`` that does not lead to its file any more. What is written there
        then is lost to all others; beside another index nobody sees what others do, nor waits for
        them. Any thread."""
        for place, inode in self.places:
            if _inode(place) != inode:
                return place
        return None

    def is_of_the_log(self, place: str | None) -> bool:
        """Of one that is displaced: a process that opens the ledger anew is well. Where the ledger
        itself is elsewhere it would be another one."""
        return place in (self.places[1][0], self.places[2][0])

    def is_log_gone(self, place: str) -> bool:
        """Nothing is where the log was, and its index is in place: nobody is at another log."""
        return place == self.places[2][0] and not os.path.lexists(place)

    def close(self, *, leave: bool = False) -> None:
        """``leave`` leaves the write-ahead log to the next who opens: nothing is synced again."""
        self.reader.close()
        leave_log(self.writer, leave=leave)
        self.writer.close()


def open_file(
    path: Path, *, host: HostFacts, clock: Clock, adopt: bool, busy_s: float, who: str
) -> LedgerFile:
    """Open, check and migrate; raises LedgerRefused and then has changed nothing in the file.
    ``who`` opens it."""
    given, path = path.absolute(), path.resolve()
    check_host(path, host)
    make_file(path)
    known = recall(path)
    with refusing(path):
        writer = open_writer(path, busy_s)
        try:
            lost_at = lost_behind(writer, path)
            sync_log(path)
            with transaction(writer):
                migrate(writer)
                origin = read_origin(writer)
                behind = behind_s(writer, known)
                offset = settle_origin(writer, host, clock, adopt=adopt, behind_s=behind)
                now = clock.monotonic() + offset
                epoch, forgot = settle_trust(writer, known, origin, lost_at, now=now, who=who)
                _adopt_orphans(writer)
            _copy_log(writer)
            reader = _open_reader(path, busy_s)
        except BaseException:
            writer.close()
            raise
        places = tuple((each, _inode(each)) for each in (str(given), f"{path}-shm", f"{path}-wal"))
        return LedgerFile(
            path,
            places,
            writer,
            reader,
            host.boot_id,
            offset,
            _checked_at_opening(writer),
            epoch,
            forgot,
        )


def _inode(path: str) -> tuple[int, int]:
    """Device and inode; (-1, -1) where there is nothing."""
    try:
        found = os.stat(path)  # noqa: PTH116 - a third of what Path's costs, six times a batch
    except OSError:
        return -1, -1
    return found.st_dev, found.st_ino


@contextmanager
def refusing(path: Path) -> Iterator[None]:
    """Turns what SQLite says about a file that can't be used into what to do about it."""
    try:
        yield
    except (apsw.BusyError, apsw.LockedError) as error:
        raise LedgerLocked(
            f"{path} is locked by another program: close it (a database shell, a backup, another"
            " gateway that is starting) and start again"
        ) from error
    except (apsw.NotADBError, apsw.CorruptError) as error:
        raise LedgerRefused(f"{path} is damaged or no ledger ({error}): {_KEEP}") from error
    except (apsw.Error, OSError) as error:
        if isinstance(error, apsw.FullError) or (
            isinstance(error, apsw.IOError) and _is_full(path)
        ):
            raise LedgerLocked(f"the disk of {path} is full: make room") from error
        if isinstance(error, apsw.IOError | apsw.NoMemError | OSError):
            raise LedgerLocked(
                f"{path} can't be read or written just now ({error}): look at its disk (dmesg)"
            ) from error
        raise LedgerRefused(
            f"{path} can't be opened ({error}): check that it is a file that this user may read"
            " and write, on a disk that works"
        ) from error


def _is_full(path: Path) -> bool:
    """No room for the log's index is an I/O error to SQLite, as a quota is."""
    try:
        found = os.statvfs(path.parent)
    except OSError:
        return False
    return found.f_bavail * found.f_frsize < ROOM_BYTES_MIN


# --- connections -----------------------------------------------------------------------------


def open_writer(path: Path, busy_s: float) -> apsw.Connection:
    """It leaves its log at closing until the file is known to be ours."""
    db = apsw.Connection(
        str(path), flags=apsw.SQLITE_OPEN_READWRITE, statementcachesize=STATEMENTS_MAX
    )
    try:
        db.set_busy_timeout(int(busy_s * 1000))
        leave_log(db, leave=True)
        _check_file(db, path)
        _make_durable(db, busy_s)
    except BaseException:
        db.close()
        raise
    return db


def leave_log(db: apsw.Connection, *, leave: bool) -> None:
    """Whether closing leaves the write-ahead log as it is instead of copying it into the file."""
    db.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, int(leave))


def _check_file(db: apsw.Connection, path: Path) -> None:
    ((version, kind, holds),) = db.execute(WHAT_IT_IS)
    if version == kind == holds == 0:
        return  # new
    if kind != APPLICATION_ID:
        raise LedgerRefused(f"{path} is another program's database: name another file")
    if version > SCHEMA_VERSION:
        raise LedgerRefused(
            f"{path} was written by a newer gateway (schema {version}, this one knows"
            f" {SCHEMA_VERSION}): install that version"
        )
    if _checked_at_opening(db):
        damage = damage_of(db)
        if damage:
            raise LedgerRefused(f"{path} is damaged ({damage}): {_KEEP}")


def _checked_at_opening(db: apsw.Connection) -> bool:
    pages, page_bytes = db.pragma("page_count"), db.pragma("page_size")
    return bool(pages * page_bytes <= QUICK_CHECK_BYTES_MAX)


def _copy_log(db: apsw.Connection) -> None:
    """Copy the whole log into the file and sync it, where nobody else is at it.

    Whoever wrote the log may have ended because a sync of it failed: then what is read from it
    need not be on the disk, and syncing it again proves nothing. Written anew, it is.
    """
    try:
        db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
    except (apsw.BusyError, apsw.LockedError):
        return  # others are: they would have ended too


def _make_durable(db: apsw.Connection, busy_s: float) -> None:
    """What a commit returned for survives a power cut. Checkpoints are the writer's own work."""
    mode = _with_a_log(db, time.monotonic() + busy_s)
    if mode != "wal":
        raise LedgerRefused(f"the ledger's file system allows no write-ahead log ({mode})")
    db.pragma("synchronous", "FULL")
    db.pragma("wal_autocheckpoint", 0)
    db.pragma("journal_size_limit", JOURNAL_BYTES_MAX)
    db.pragma("cache_size", -CACHE_KIB)
    db.pragma("temp_store", "MEMORY")  # else a statement of many rows makes a file for its undoing
    db.pragma("trusted_schema", "OFF")


def _with_a_log(db: apsw.Connection, until: float) -> Any:
    """The mode it is in then. SQLite does not wait here for who is at the file: another gateway
    that starts on a new ledger, as a rule."""
    while True:
        try:
            return db.pragma("journal_mode", "wal")
        except apsw.BusyError:
            if time.monotonic() >= until:
                raise
        time.sleep(AGAIN_S)


def _open_reader(path: Path, busy_s: float) -> apsw.Connection:
    db = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    db.set_busy_timeout(int(busy_s * 1000))
    db.pragma("cache_size", -CACHE_KIB)
    return db


@contextmanager
def transaction(db: apsw.Connection) -> Iterator[None]:
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


# --- contents --------------------------------------------------------------------------------


def migrate(db: apsw.Connection) -> None:
    """Bring the schema to this version, in the caller's transaction, and try it."""
    version = int(db.pragma("user_version"))
    db.create_scalar_function("key_digest", _key_digest, 2, deterministic=True)
    while version < SCHEMA_VERSION:
        db.execute(MIGRATIONS[version].read_text(encoding="utf-8"))
        version += 1
        db.pragma("user_version", version)
        db.pragma("application_id", APPLICATION_ID)
    if db.execute(TALLY).fetchone() is None:
        raise LedgerRefused(f"the ledger has lost its tally: {_KEEP}")
    db.execute(BY_ID, ("",)).fetchone()


def _key_digest(*of: Any) -> Any:
    return key_digest(*of)


def _adopt_orphans(db: apsw.Connection) -> None:
    """Holds that an entry names but that are not kept (nobody writes such a file) have lapsed."""
    db.execute(ADOPT_ORPHANS)
