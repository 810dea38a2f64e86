"""The two ends of a move that are SQLite files (``moving``)."""

import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import apsw

from gateway.ledger import Counts, LedgerRefused
from gateway.orders.entry import Entry
from gateway.stores.moving import Departure
from gateway.stores.sqlite_file import leave_log, migrate, open_writer, refusing, transaction
from gateway.stores.sqlite_host import HostFacts, check_host, check_there, make_file
from gateway.stores.sqlite_log_end import lost_behind, sync_log
from gateway.stores.sqlite_origin import (
    Mark,
    check_origin,
    marked,
    read_origin,
    time_offset_s,
    write_origin,
)
from gateway.stores.sqlite_rows import SqliteRows
from gateway.stores.sqlite_statements import TRUST
from gateway.stores.sqlite_trust import FileMemory, behind_s, recall, remembered_file, settle_trust
from gateway.stores.steps import NOBODY, Custody
from middleware.clock import Clock

BUSY_S = 2.0
"""Nobody else is at the file, or the move is refused."""

HOLDERS = "SELECT pid FROM holders WHERE boot_id = ? AND expires_at > ? ORDER BY pid"
FENCE = "UPDATE orders SET token = token + 1, holder = NULL, due_at = ? WHERE holder IS NOT NULL"
UNFENCE_LATE = "DROP TRIGGER IF EXISTS moved_away"
FENCE_LATE = (
    "CREATE TRIGGER moved_away BEFORE UPDATE OF status, token ON orders"
    " WHEN EXISTS (SELECT 1 FROM origin WHERE boot_id = '')"
    " BEGIN SELECT RAISE(ABORT, 'it was moved elsewhere'); END"
)
"""A late answer, or an operator's word, needs neither hold nor lease: a gateway that slept through
the move would write it here, where nobody reads it. While the ledger has a mark (``boot_id``)."""

TAKE_OVER = (
    "UPDATE tally SET made = made + ?1, removed = removed + ?1, ledger_time = max(ledger_time, ?2)"
)


class _End:
    """What both ends share: an open file, and transactions on it."""

    def __init__(self, path: Path, *, host: HostFacts, clock: Clock) -> None:
        self._path = path.resolve()
        self._host = host
        self._clock = clock
        self._db: apsw.Connection | None = None
        self._lost_at: int | None = None
        self._leave = True

    def _open(self) -> apsw.Connection:
        if self._db is None:
            check_host(self._path, self._host)
            self._db = open_writer(self._path, BUSY_S)
            self._lost_at = lost_behind(self._db, self._path)
            sync_log(self._path)
        return self._db

    @contextmanager
    def _writing(self) -> Iterator[apsw.Connection]:
        with refusing(self._path):
            db = self._open()
            with transaction(db):
                yield db
            self._leave = False

    def _rows(self, db: apsw.Connection) -> SqliteRows:
        rows = SqliteRows(db, self._host.boot_id)
        rows.begin(self._clock.monotonic() + self._offset_s(db))
        return rows

    def _offset_s(self, db: apsw.Connection) -> float:
        behind = behind_s(db, recall(self._path))
        return time_offset_s(db, self._host, self._clock, behind)

    async def close(self) -> None:
        """Where nothing was written the log stays as it is, with what it shows of the past."""
        if self._db is not None:
            leave_log(self._db, leave=self._leave)
            self._db.close()
            self._db = None


class SqliteSource(_End):
    """The ledger file that a shop leaves."""

    async def look(self) -> None:
        check_there(self._path)

    async def begin(self) -> Departure:
        with self._writing() as db:
            db.execute(UNFENCE_LATE)
            migrate(db)
            rows = self._rows(db)
            move_id = self._move_under_way(db)
            if move_id is None:
                self._refuse_holders(db, rows.now)
                self._refuse_one_that_forgot(db)
                move_id = secrets.token_hex(16)
                db.execute(FENCE, (rows.now,))
                offset = self._offset_s(db)
                write_origin(db, marked(Mark.MOVING, move_id, offset))
            db.execute(FENCE_LATE)
            return Departure(move_id, rows.counts(), rows.now, self._ended_at(db))

    def _ended_at(self, db: apsw.Connection) -> str | None:
        origin = read_origin(db)
        if origin is None or origin.mark is None or origin.mark[0] is not Mark.MOVED:
            return None
        return origin.mark[1].partition(" ")[2]

    def _move_under_way(self, db: apsw.Connection) -> str | None:
        """Its id, where one was begun before."""
        origin = read_origin(db)
        if origin is None:
            return None
        if origin.mark is not None and origin.mark[0] in (Mark.MOVING, Mark.MOVED):
            return origin.mark[1].partition(" ")[0]
        if origin.boot_id != self._host.boot_id:
            check_origin(origin, self._host, adopt=False)
        return None

    def _refuse_holders(self, db: apsw.Connection, now: float) -> None:
        pids = [str(pid) for (pid,) in db.execute(HOLDERS, (self._host.boot_id, now))]
        if pids:
            raise LedgerRefused(
                f"a gateway takes orders on {self._path} (process {', '.join(pids)}): stop it; one"
                " that was killed is forgotten when its lease is over"
            )

    def _refuse_one_that_forgot(self, db: apsw.Connection) -> None:
        """The other side would be trusted."""
        origin = read_origin(db)
        known = recall(self._path)
        _, forgot = settle_trust(db, known, origin, self._lost_at, now=0.0, who="copy")
        if forgot is not None:
            raise LedgerRefused(
                f"{self._path} forgot something ({forgot.why}): go on with it until it can be"
                " trusted again (ordergate trust), and copy it then"
            )

    async def entries(self, after: str | None, limit: int) -> tuple[Sequence[Entry], str | None]:
        with refusing(self._path):
            found = self._rows(self._open()).whole(int(after or 0), limit)
        more = str(found[-1][0]) if len(found) == limit else None
        return [entry for _, entry in found], more

    async def finish(self, target: str) -> None:
        with self._writing() as db:
            move_id = self._move_under_way(db)
            if move_id is None:
                raise LedgerRefused("the move was called off meanwhile: the source is in use again")
            write_origin(db, marked(Mark.MOVED, f"{move_id} {target}"))


class SqliteTarget(_End):
    """The ledger file that a shop moves to."""

    _began_at = 0.0
    """By the wall clock: when the source said what its ledger time is."""

    @property
    def name(self) -> str:
        return str(self._path)

    def _rows(self, db: apsw.Connection) -> SqliteRows:
        """Before any time: until the end the file has none of its own, and what waits is due."""
        rows = SqliteRows(db, self._host.boot_id)
        rows.begin(0.0)
        return rows

    async def look(self) -> None:
        check_host(self._path, self._host)
        make_file(self._path)
        if self._path.stat().st_size:
            with refusing(self._path):
                self._open()

    async def begin(self, move_id: str) -> bool:
        self._began_at = self._clock.wall()
        with self._writing() as db:
            migrate(db)
            origin = read_origin(db)
            if origin is not None and origin.mark == (Mark.ARRIVING, move_id):
                return True
            if origin is not None or self._rows(db).counts().made:
                raise LedgerRefused(
                    f"{self._path} is a ledger already, or part of another copy: name a new file"
                )
            write_origin(db, marked(Mark.ARRIVING, move_id))
        return False

    async def held(self, entries: Sequence[Entry]) -> Sequence[Entry | None]:
        with refusing(self._path):
            rows = self._rows(self._open())
            kept = [rows.by_id(entry.id) for entry in entries]
        return [None if each is None else each.entry for each in kept]

    async def put(self, entries: Sequence[Entry]) -> int:
        with self._writing() as db:
            rows = self._rows(db)
            put = sum(_put(rows, entry) for entry in entries)
            rows.flush()
            return put

    async def counts(self) -> Counts:
        with refusing(self._path):
            return self._rows(self._open()).counts()

    async def finish(self, departure: Departure) -> None:
        with self._writing() as db:
            db.execute(TAKE_OVER, (departure.counts.removed, departure.ledger_time))
            db.execute("DELETE FROM origin")
            ((epoch, _),) = db.execute(TRUST)
        remembered_file(self._path).unlink(missing_ok=True)  # of another ledger that was here
        behind = self._began_at - departure.ledger_time
        memory = FileMemory(self._path, epoch, lambda: behind)
        memory.keep(departure.ledger_time, now=True)


def _put(rows: SqliteRows, entry: Entry) -> bool:
    """False where it is there already."""
    if rows.by_id(entry.id) is not None:
        return False
    bare = replace(entry, answer=None, disputed=False)  # what an entry begins without
    rows.insert(bare, "")
    rows.replace(bare, entry, Custody(None, rows.now) if entry.waits else NOBODY)
    return True
