"""The synchronous core: one batch, one transaction, one fsync; and what an error of SQLite means
for the calls of the batch and for all that come later."""

import errno
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Literal, TypeAlias

import apsw

from gateway.ledger import LedgerUnavailable
from gateway.stores.sqlite_batches import LEFT, Torn, run_together
from gateway.stores.sqlite_file import LedgerFile
from gateway.stores.sqlite_lane import Done, Op
from gateway.stores.sqlite_log import LogKeeper
from gateway.stores.sqlite_rows import SqliteRows
from gateway.stores.unreadable import Unreadables

DISK_FAILED = (apsw.IOError, apsw.CantOpenError, apsw.ReadOnlyError)
"""After a failed fsync the kernel may have dropped the pages and call the next fsync a success: it
must not be tried again, by no process that saw it. The next one copies the log anew."""

FATAL = (*DISK_FAILED, apsw.CorruptError, apsw.NotADBError)
"""The disk failed, or the file is not what it was."""

Ops: TypeAlias = Sequence[Op[Any]]


class _Displaced(Exception):
    """The ledger's files are not where they were; the argument says which is not."""


class SqliteWriter:
    """The only connection of this process that writes.

    ``trouble``: why the last try failed, until one succeeds (after a full disk: one that writes).
    ``broken``: why nothing is tried any more until the ledger is opened again.
    ``disk_failed``: it is broken so that only another process may try again.
    ``committed_at``: of the latest write that is durable (ledger time).
    """

    def __init__(
        self,
        file: LedgerFile,
        now: Callable[[], float],
        busy_s: float,
        unreadables: Unreadables,
    ) -> None:
        self._file = file
        self._db = db = file.writer
        self._now = now
        self._rows = SqliteRows(db, file.boot_id, unreadables)
        self._full = False
        self.log = LogKeeper(db, now, busy_s)
        self.trouble: str | None = None
        self.broken: str | None = None
        self.disk_failed = False
        self.committed_at = float("-inf")

    def commit(self, ops: Ops, *, together: bool = True) -> Done:
        """Run ``ops`` in one transaction. Each gets its value, its own exception, or what the
        failure of the whole means: LedgerUnavailable, nothing written or not known.

        ``together``: those that can be share their statements (``sqlite_batches``)."""
        if self.broken is not None:
            return _unavailable(ops, self.broken, written=False)
        try:
            outcomes = self._run(ops, together=together)
            self._look_around()
        except _Displaced as displaced:
            return self._stop(ops, str(displaced))
        except apsw.Error as error:
            place = self._file.displaced()  # what is read beside others may look like damage
            if place is not None:
                return self._stop(ops, place)
            return self._failed(ops, error, written=False)
        except Torn as torn:
            self._roll_back()
            if together:
                return self.commit(ops, together=False)
            return self._one_by_one(ops, torn)
        try:
            self._db.execute("COMMIT")
        except apsw.Error as error:
            return self._failed(ops, error, written=False if self._is_full(error) else None)
        if self._rows.writes:
            self.committed_at = self._rows.now
        if self._rows.writes or not self._full:
            self.trouble, self._full = None, False
        return Done(outcomes, self._rows.changed)

    def _look_around(self) -> None:
        """In the transaction: who came after it began waits for it, or works on other files."""
        place = self._file.displaced()
        if place is not None:
            raise _Displaced(place)

    def _stop(self, ops: Ops, place: str) -> Done:
        """Nothing is written any more; what is in a log that was removed is saved."""
        self._roll_back()
        self.broken = _displaced(place)
        if self._file.is_log_gone(place):
            with suppress(apsw.Error):
                self._db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_FULL)
        self.disk_failed = self.disk_failed or self._file.is_of_the_log(place)
        return _unavailable(ops, self.broken, written=False)

    def _run(self, ops: Ops, *, together: bool) -> list[Any]:
        self._db.execute("BEGIN IMMEDIATE")
        self._look_around()
        self._rows.begin(self._now())
        outcomes = self._together(ops) if together else [LEFT] * len(ops)
        for place, op in enumerate(ops):
            if outcomes[place] is LEFT:
                outcomes[place] = self._outcome(op)
        self._rows.flush()
        return outcomes

    def _together(self, ops: Ops) -> list[Any]:
        try:
            return run_together(self._rows, ops)
        except (apsw.ConstraintError, apsw.TooBigError, apsw.MismatchError) as error:
            raise Torn from error
        except apsw.Error:
            raise
        except Exception as error:  # one of them can't even be written down
            raise Torn from error

    def _outcome(self, op: Op[Any]) -> Any:
        before = self._rows.writes
        try:
            return op(self._rows)
        except (apsw.ConstraintError, apsw.TooBigError, apsw.MismatchError) as error:
            raise Torn from error
        except apsw.Error:
            raise
        except Exception as error:
            if self._rows.writes != before:
                raise Torn from error
            return error

    def _one_by_one(self, ops: Ops, torn: Torn) -> Done:
        """One of them can't be done; it alone is to suffer for it."""
        if len(ops) == 1:
            cause = torn.__cause__
            if isinstance(cause, apsw.Error):
                return _unavailable(ops, f"the ledger can't keep this: {cause}", written=False)
            return Done([cause])
        singles = [self.commit([op], together=False) for op in ops]
        return Done(
            [single.outcomes[0] for single in singles],
            [entry for single in singles for entry in single.changed],
        )

    def _failed(self, ops: Ops, error: apsw.Error, *, written: Literal[False] | None) -> Done:
        if self._is_full(error):
            error = apsw.FullError(str(error))
        text = explain(error)
        if isinstance(error, FATAL):
            self._break(error)
        else:
            self.trouble, self._full = text, isinstance(error, apsw.FullError)
        self._roll_back()
        return _unavailable(ops, text, written=written)

    def _is_full(self, error: apsw.Error) -> bool:
        """Also by a quota (ZFS, btrfs, a user's), which SQLite takes for a disk that failed: of a
        write only, of which nothing counts. A failed sync is one whatever the reason."""
        if not isinstance(error, apsw.IOError):
            return isinstance(error, apsw.FullError)
        of_a_write = getattr(error, "extendedresult", None) == apsw.SQLITE_IOERR_WRITE
        return of_a_write and self._db.system_errno == errno.EDQUOT

    def _roll_back(self) -> None:
        try:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
        except apsw.Error as error:
            self._break(error)

    def damaged(self, what: str) -> None:
        """The check behind the opening has found damage: nothing more is written. Any thread."""
        self.broken = self.broken or f"the ledger is damaged ({what}): keep the file, stop here"

    def _break(self, error: apsw.Error) -> None:
        self.broken = self.broken or explain(error)
        self.disk_failed = self.disk_failed or isinstance(error, DISK_FAILED)

    def checkpoint(self) -> None:
        """Keep the log small; what goes wrong with the disk here breaks the ledger too."""
        if self.broken is not None:
            return
        if self._file.displaced() is not None:
            return  # the next write says so
        try:
            self.log.keep()
        except apsw.Error as error:
            if isinstance(error, FATAL) and not self._is_full(error):
                self._break(error)


class SqliteReader:
    """Reads on a connection of its own, which can't write and never waits for a writer."""

    def __init__(
        self, file: LedgerFile, now: Callable[[], float], unreadables: Unreadables
    ) -> None:
        self._file = file
        self._db = file.reader
        self._now = now
        self._rows = SqliteRows(file.reader, file.boot_id, unreadables)

    def run(self, ops: Ops) -> Done:
        """Run ``ops`` on one state of the file; on none where that may be another log's."""
        try:
            self._db.execute("BEGIN")
            self._rows.begin(self._now())
            outcomes = [self._outcome(op) for op in ops]
            place = self._file.displaced()
            if place is not None and self._file.is_of_the_log(place):
                return _unavailable(ops, _displaced(place), written=False)
            return Done(outcomes)
        except apsw.Error as error:
            return _unavailable(ops, explain(error), written=False)
        finally:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")

    def _outcome(self, op: Op[Any]) -> Any:
        try:
            return op(self._rows)
        except apsw.Error:
            raise
        except Exception as error:  # noqa: BLE001 - handed to the caller
            return error


def _displaced(place: str) -> str:
    return f"{place} was moved, removed or replaced: put it back and restart the gateway"


def _unavailable(ops: Ops, text: str, *, written: Literal[False] | None) -> Done:
    return Done([LedgerUnavailable(text, written=written) for _ in ops])


def explain(error: apsw.Error) -> str:
    """What an operator reads in ``/readyz`` and in the log."""
    match error:
        case apsw.FullError():
            return "the ledger's disk is full"
        case apsw.BusyError() | apsw.LockedError():
            return "the ledger is locked by another program"
        case apsw.IOError():
            return f"the ledger's disk failed ({error}): restart the gateway"
        case apsw.CorruptError() | apsw.NotADBError():
            return f"the ledger is damaged ({error}): restart the gateway"
        case apsw.CantOpenError() | apsw.ReadOnlyError():
            return f"the ledger can't be written any more ({error}): restart the gateway"
        case _:
            return f"the ledger failed ({error})"
