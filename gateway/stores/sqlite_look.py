"""A look at a ledger file from outside, also while gateways use it. It writes nothing in it.

SQLite itself may make the log's two side files where there are none; whoever opens the ledger
next uses them.
"""

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apsw

from gateway.ledger import Counts, LedgerRefused
from gateway.orders.states import PENDING
from gateway.stores import sqlite_statements as sql
from gateway.stores.doubting import Said
from gateway.stores.sqlite_check import damage_of
from gateway.stores.sqlite_file import APPLICATION_ID, SCHEMA_VERSION
from gateway.stores.sqlite_host import HostFacts
from gateway.stores.sqlite_log_end import lost_behind
from gateway.stores.sqlite_rows import SqliteRows
from gateway.stores.sqlite_trust import Remembered, recall, sign_of_forgetting
from middleware.clock import Clock

BUSY_MS = 2000
"""Readers wait for nobody but a gateway that just starts."""


class LedgerOutdated(LedgerRefused):
    """An earlier version's ledger: nothing is wrong with it, but this version can't read it yet."""


@dataclass(frozen=True, slots=True)
class LedgerLook:
    """What a ledger file says of itself. ``damage`` is empty where SQLite finds none; ``now`` is
    ledger time; ``holders`` are the processes that hold the ledger just now."""

    schema: int
    counts: Counts
    machine_id: str
    boot_id: str
    now: float
    holders: tuple[int, ...]
    damage: str
    check_s: float
    file_bytes: int
    log_bytes: int
    forgot: str | None = None
    """Why absence proves nothing there; None where it does."""

    @property
    def pending(self) -> int:
        counted = self.counts.by_status
        return sum(number for status, number in counted.items() if status in PENDING)


def look_at(path: Path, host: HostFacts, clock: Clock) -> LedgerLook:
    """Read the ledger at ``path``, which exists. Raises LedgerRefused where it can't be read, or
    is no ledger that this version knows."""
    path = path.resolve()
    known = recall(path)  # before the file is read: gateways write it first
    with _refusing(path), closing(_reader(path)) as db:
        schema = _schema(db, path)
        began = time.monotonic()
        damage = damage_of(db)
        check_s = time.monotonic() - began
        origin = db.execute("SELECT machine_id, boot_id, time_offset_s FROM origin").fetchone()
        machine_id, boot_id, offset_s = origin or ("", "", 0.0)
        now = clock.monotonic() + float(offset_s)
        alive: list[tuple[Any, ...]] = db.execute(
            "SELECT pid FROM holders WHERE boot_id = ? AND expires_at > ? ORDER BY pid",
            (host.boot_id, now),
        ).fetchall()
        return LedgerLook(
            schema=schema,
            counts=SqliteRows(db, host.boot_id).counts(),
            machine_id=machine_id,
            boot_id=boot_id,
            now=now,
            holders=tuple(pid for (pid,) in alive) if boot_id == host.boot_id else (),
            damage=damage,
            check_s=check_s,
            file_bytes=path.stat().st_size,
            forgot=_forgot(db, known, lost_behind(db, path)),
            log_bytes=_size(path.with_name(path.name + "-wal")),
        )


def _forgot(db: apsw.Connection, known: Remembered | None, lost_at: int | None) -> str | None:
    """What the next gateway to open it will say, or what the file says. A mark is no news here."""
    ((epoch, said),) = db.execute(sql.TRUST)
    ((at,),) = db.execute("SELECT ledger_time FROM tally")
    forgot = Said.of(said)
    before = None if forgot is None else forgot.why
    return sign_of_forgetting(known, None, epoch, float(at), lost_at) or before


def _reader(path: Path) -> apsw.Connection:
    db = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    db.set_busy_timeout(BUSY_MS)
    return db


def _schema(db: apsw.Connection, path: Path) -> int:
    kind, version = db.pragma("application_id"), int(db.pragma("user_version") or 0)
    if kind != APPLICATION_ID:
        raise LedgerRefused(f"{path} is another program's database, or none: name another file")
    if version < SCHEMA_VERSION:
        raise LedgerOutdated(f"{path} has schema {version}; a start brings it to {SCHEMA_VERSION}")
    if version > SCHEMA_VERSION:
        raise LedgerRefused(
            f"{path} was written by a newer gateway (schema {version}, this one knows"
            f" {SCHEMA_VERSION})"
        )
    return version


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


@contextmanager
def _refusing(path: Path) -> Iterator[None]:
    try:
        yield
    except (apsw.NotADBError, apsw.CorruptError) as error:
        raise LedgerRefused(f"{path} is damaged or no ledger ({error})") from error
    except apsw.Error as error:
        raise LedgerRefused(f"{path} can't be read ({error})") from error
    except ValueError as error:
        raise LedgerRefused(f"{path} has lost its tally") from error
    except OSError as error:
        raise LedgerRefused(f"{path} can't be read: {error.strerror}") from error
