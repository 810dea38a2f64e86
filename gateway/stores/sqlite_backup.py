"""A consistent copy of a ledger file, also while gateways write it.

The copy is a whole, checked, synced file that no gateway takes for the ledger itself: it carries
the mark of a backup (``sqlite_origin``). One that is adopted all the same is a ledger that forgot.
"""

import os
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import apsw

from gateway.ledger import LedgerRefused
from gateway.stores.sqlite_check import damage_of
from gateway.stores.sqlite_file import APPLICATION_ID, migrate, transaction
from gateway.stores.sqlite_host import check_there, sync_folder
from gateway.stores.sqlite_origin import Mark, marked, write_origin

BUSY_MS = 2000
"""Readers wait for nobody but a gateway that just starts."""

STEP_PAGES = 2048
"""8 MiB at a time, so that Ctrl-C is heard."""


@dataclass(frozen=True, slots=True)
class Backup:
    """What was written. ``pending``: orders whose outcome the copy does not know."""

    path: Path
    file_bytes: int
    orders: int
    pending: int


def back_up(ledger: Path, target: Path, *, at: str) -> Backup:
    """Copy the ledger as it is just now to ``target``, which must not exist; ``at`` says when.

    Raises LedgerRefused, and then there is nothing at ``target`` that was not there before.
    """
    check_there(ledger)
    with _refusing(ledger, target):
        if target.exists():
            raise LedgerRefused(f"{target} exists: a backup overwrites nothing; name another file")
    with _refusing(ledger, target), _part_of(target) as part:
        _copy(ledger, part)
        made = _finish(part, target, at)
        os.link(part, target)  # fails where somebody else made it meanwhile
        sync_folder(target.parent)
        return made


@contextmanager
def _part_of(target: Path) -> Iterator[Path]:
    """A file of our own beside ``target``, gone afterwards."""
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=target.name + ".", suffix=".part")
    os.close(handle)
    part = Path(name)
    try:
        yield part
    finally:
        part.unlink(missing_ok=True)
        with suppress(FileNotFoundError):
            part.with_name(part.name + "-journal").unlink()


def _copy(ledger: Path, part: Path) -> None:
    """One read transaction from beginning to end: what is written meanwhile is not in it."""
    flags = apsw.SQLITE_OPEN_READONLY
    with closing(apsw.Connection(str(ledger), flags=flags)) as source:
        source.set_busy_timeout(BUSY_MS)
        if source.pragma("application_id") != APPLICATION_ID:
            raise LedgerRefused(f"{ledger} is another program's database, or none")
        source.execute("BEGIN")
        source.execute("SELECT count(*) FROM tally").fetchall()
        with (
            closing(apsw.Connection(str(part))) as copy,
            copy.backup("main", source, "main") as going,
        ):
            while not going.done:
                going.step(STEP_PAGES)


def _finish(part: Path, target: Path, at: str) -> Backup:
    """Make the copy one file, mark it, look whether it is whole, and sync it."""
    with closing(apsw.Connection(str(part))) as copy:
        copy.pragma("journal_mode", "delete")
        with transaction(copy):
            migrate(copy)
            write_origin(copy, marked(Mark.BACKUP, at))
        if damage := damage_of(copy):
            raise LedgerRefused(f"the ledger is damaged ({damage}): no backup was made of it")
        ((orders, pending),) = copy.execute(
            "SELECT made - removed, received + dispatched + in_doubt FROM tally"
        )
    handle = os.open(part, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
    return Backup(target, part.stat().st_size, orders, pending)


@contextmanager
def _refusing(ledger: Path, target: Path) -> Iterator[None]:
    try:
        yield
    except FileExistsError as error:
        raise LedgerRefused(f"{target} exists: a backup overwrites nothing") from error
    except OSError as error:
        raise LedgerRefused(f"{target} can't be written: {error.strerror}") from error
    except (apsw.NotADBError, apsw.CorruptError) as error:
        raise LedgerRefused(f"{ledger} is damaged or no ledger ({error})") from error
    except apsw.FullError as error:
        raise LedgerRefused(f"there is no room for a backup at {target.parent}") from error
    except apsw.Error as error:
        raise LedgerRefused(f"no backup could be made ({error})") from error
