"""The log of changes in a file beside the ledger, for the processes of one host.

Nothing in it outlives the processes that read it, so nothing is synced: a commit is in the page
cache, where every process of this host sees it. Appending has a thread of its own. Reading has
not: it waits for no lock, what it reads is in memory, and a thread would cost ten times as much.
Whoever finds another file in its place, or one that doesn't go back far enough, forgets all it
has kept.
"""

import asyncio
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import apsw

from middleware.caching.changes import HEARD_MAX, ChangesUnknown, News
from middleware.caching.invalidation import Mark

SUFFIX = "-changes"

BUSY_S = 1.0
"""Another process's append takes microseconds; a second means that it was stopped in the middle."""

READ_BUSY_S = 0.01
"""A reader waits only while the log is being made; the event loop waits with it."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS changes (
    seq  INTEGER PRIMARY KEY AUTOINCREMENT,
    mark BLOB NOT NULL
) STRICT
"""
_AFTER = "SELECT seq, mark FROM changes WHERE seq > ? ORDER BY seq"
_LAST = "SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'changes'), 0)"
_OLDEST = "SELECT coalesce(min(seq), 0) FROM changes"

_FAILURES = (apsw.Error, OSError, RuntimeError, ValueError)


def changes_path(ledger: Path) -> Path:
    return ledger.with_name(ledger.name + SUFFIX)


class SqliteChangeLog:
    """The ``ChangeLog`` port on the file at ``path``, which is made where it is missing."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._name = str(path)
        self._reader: _Opened | None = None
        self._writer: _Opened | None = None
        self._version = -1
        self._position = -1
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="change log")

    async def append(self, marks: Sequence[Mark]) -> None:
        rows = [(mark.encoded(),) for mark in marks]
        try:
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(self._thread, self._append, rows)
        except _FAILURES as error:
            raise ChangesUnknown(f"the log of changes failed: {error}") from error

    async def since(self, position: int) -> News:
        try:
            return self._since(position)
        except _FAILURES as error:
            raise ChangesUnknown(f"the log of changes failed: {error}") from error

    def nothing_new(self, position: int) -> bool:
        reader = self._reader
        try:
            return (
                reader is not None
                and position == self._position
                and reader.in_place(self._path)
                and reader.version() == self._version
            )
        except _FAILURES:
            return False

    def in_use(self) -> bool:
        """A cache makes the file before it keeps anything."""
        return os.access(self._name, os.F_OK)

    async def look(self) -> bool:
        """It is seen without a question."""
        return False

    async def recent(self) -> News:
        news = await self.since(-1)
        return News(news.position, None)

    def stamp(self, position: int) -> bytes | None:  # noqa: ARG002 - one host's: nobody else reads it
        return None

    def position_of(self, stamp: bytes) -> int | None:  # noqa: ARG002
        return None

    async def close(self) -> None:
        def close() -> None:
            if self._writer is not None:
                self._writer.db.close()

        with suppress(RuntimeError):
            await asyncio.get_running_loop().run_in_executor(self._thread, close)
        self._thread.shutdown(wait=False)
        if self._reader is not None:
            self._reader.db.close()
            self._reader = None

    def _append(self, rows: Sequence[tuple[bytes]]) -> None:
        writer = self._writer
        if writer is None or not writer.in_place(self._path):
            if writer is not None:
                writer.db.close()
            writer = self._writer = _made(self._path, BUSY_S)
        _write(writer.db, rows)

    def _since(self, position: int) -> News:
        reader, fresh = self._reader, False
        if reader is None or not reader.in_place(self._path):
            if reader is not None:
                reader.db.close()
            reader, fresh = _made(self._path, READ_BUSY_S), reader is not None
            self._reader = reader
        version = reader.version()  # before the rows: what comes in between is seen next time
        news = _news(reader.db, position, fresh=fresh)
        self._version, self._position = version, news.position
        return news


class _Opened:
    """A connection, and which file it is to."""

    def __init__(self, path: Path, db: apsw.Connection) -> None:
        self.db = db
        found = path.stat()
        self._file = (found.st_dev, found.st_ino)

    def in_place(self, path: Path) -> bool:
        try:
            found = os.stat(path)  # noqa: PTH116 - at every read; a Path costs as much again
        except FileNotFoundError:
            return False
        return (found.st_dev, found.st_ino) == self._file

    def version(self) -> int:
        """Another whenever another connection has committed."""
        ((version,),) = self.db.execute("PRAGMA data_version")
        return int(version)


def _made(path: Path, busy_s: float) -> _Opened:
    try:
        return _Opened(path, _opened(path, busy_s))
    except (apsw.NotADBError, apsw.CorruptError):  # a power cut: nobody else is left to read it
        for end in ("", "-wal", "-shm"):
            path.with_name(path.name + end).unlink(missing_ok=True)
        return _Opened(path, _opened(path, busy_s))


def _opened(path: Path, busy_s: float) -> apsw.Connection:
    path.parent.mkdir(parents=True, exist_ok=True)
    db = apsw.Connection(str(path))
    try:
        db.set_busy_timeout(int(BUSY_S * 1000))
        db.pragma("journal_mode", "wal")
        db.pragma("synchronous", "OFF")
        db.execute(_SCHEMA)
        db.set_busy_timeout(int(busy_s * 1000))
    except BaseException:
        db.close()
        raise
    return db


def _news(db: apsw.Connection, position: int, *, fresh: bool) -> News:
    db.execute("BEGIN")
    try:
        ((last,),) = db.execute(_LAST)
        if position < 0 or (last == position and not fresh):
            return News(last, ())
        ((oldest,),) = db.execute(_OLDEST)
        if fresh or last < position or oldest > position + 1:
            return News(last, None)
        found = db.execute(_AFTER, (position,))
        return News(last, [(seq, Mark.decoded(mark)) for seq, mark in found])
    finally:
        db.execute("ROLLBACK")


def _write(db: apsw.Connection, rows: Sequence[tuple[bytes]]) -> None:
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
