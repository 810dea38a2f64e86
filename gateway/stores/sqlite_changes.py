"""The log of changes in a file beside the ledger, for the processes of one host.

Nothing in it outlives the processes that read it, so nothing is synced: a commit is in the page
cache, where every process of this host sees it. Whoever finds another file in its place, or one
that doesn't go back far enough, forgets all it has kept.
"""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import apsw

from middleware.caching.changes import HEARD_MAX, ChangesUnknown, News
from middleware.caching.invalidation import Mark

T = TypeVar("T")

SUFFIX = "-changes"

BUSY_S = 1.0
"""Another process's append takes microseconds; a second means that it was stopped in the middle."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS changes (
    seq  INTEGER PRIMARY KEY AUTOINCREMENT,
    mark BLOB NOT NULL
) STRICT
"""
_AFTER = "SELECT seq, mark FROM changes WHERE seq > ? ORDER BY seq"
_LAST = "SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'changes'), 0)"


def changes_path(ledger: Path) -> Path:
    return ledger.with_name(ledger.name + SUFFIX)


class SqliteChangeLog:
    """The ``ChangeLog`` port on the file at ``path``, which is made where it is missing."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._db: apsw.Connection | None = None
        self._file = (0, 0)
        self._fresh = True
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="change log")

    async def append(self, marks: Sequence[Mark]) -> None:
        rows = [(mark.encoded(),) for mark in marks]
        await self._call(lambda db: _append(db, rows))

    async def since(self, position: int) -> News:
        return await self._call(lambda db: self._since(db, position))

    async def close(self) -> None:
        with suppress(ChangesUnknown):
            await self._call(lambda db: db.close())
        self._thread.shutdown(wait=False)

    async def _call(self, work: Callable[[apsw.Connection], T]) -> T:
        def run() -> T:
            return work(self._connection())

        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, run)
        except (apsw.Error, OSError, RuntimeError, ValueError) as error:
            raise ChangesUnknown(f"the log of changes failed: {error}") from error

    def _since(self, db: apsw.Connection, position: int) -> News:
        db.execute("BEGIN")
        try:
            ((last,),) = db.execute(_LAST)
            fresh, self._fresh = self._fresh, False
            if position < 0 or (last == position and not fresh):
                return News(last, ())
            ((oldest,),) = db.execute("SELECT coalesce(min(seq), 0) FROM changes")
            if fresh or last < position or oldest > position + 1:
                return News(last, None)
            found = db.execute(_AFTER, (position,))
            return News(last, [(seq, Mark.decoded(mark)) for seq, mark in found])
        finally:
            db.execute("ROLLBACK")

    def _connection(self) -> apsw.Connection:
        if self._db is not None:
            with suppress(OSError):
                found = self._path.stat()
                if (found.st_dev, found.st_ino) == self._file:
                    return self._db
            self._db.close()
            self._db = None
        self._db = self._open()
        return self._db

    def _open(self) -> apsw.Connection:
        try:
            db = _opened(self._path)
        except (apsw.NotADBError, apsw.CorruptError):  # a power cut: nobody else is left to read it
            for end in ("", "-wal", "-shm"):
                self._path.with_name(self._path.name + end).unlink(missing_ok=True)
            db = _opened(self._path)
        found = self._path.stat()
        self._file, self._fresh = (found.st_dev, found.st_ino), True
        return db


def _opened(path: Path) -> apsw.Connection:
    path.parent.mkdir(parents=True, exist_ok=True)
    db = apsw.Connection(str(path))
    try:
        db.set_busy_timeout(int(BUSY_S * 1000))
        db.pragma("journal_mode", "wal")
        db.pragma("synchronous", "OFF")
        db.execute(_SCHEMA)
    except BaseException:
        db.close()
        raise
    return db


def _append(db: apsw.Connection, rows: Sequence[tuple[bytes]]) -> None:
    db.execute("BEGIN IMMEDIATE")
    try:
        db.executemany("INSERT INTO changes (mark) VALUES (?)", rows)
        ((last,),) = db.execute(_LAST)
        db.execute("DELETE FROM changes WHERE seq <= ?", (last - 2 * HEARD_MAX,))
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise
