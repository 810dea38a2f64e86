"""The write-ahead log: copied into the file as it grows, and never left to grow without bound.

A reader keeps the state that it began with: while it reads, the log can be copied but not started
over. Reads of ours take milliseconds; a stranger's (a database shell, a backup that hangs) may
never end. Then the log grows, operators are told who reads, and in the end no more orders are
taken, before the log has filled the disk.
"""

from collections.abc import Callable

import apsw
import structlog

from gateway.stores.sqlite_host import readers_of

log = structlog.get_logger("ordergate", part="ledger")

CHECKPOINT_PAGES = 4000
"""16 MB of log: a page that many batches changed is copied once for all of them, in some ten
milliseconds, after the results are out. (SQLite's own choice is 1000.)"""

LOG_PAGES_MAX = 16_000
"""64 MB: readers that always overlap keep the log from starting over; then they are waited for."""

LOG_PAGES_REFUSED = 262_144
"""1 GiB, a hundred thousand orders behind one reader: the log must not fill the disk, where the
outcomes of orders already sent need room."""

RESTART_BUSY_S = 0.05
"""How long: a read of ours takes milliseconds; a stranger's backup must not hold up orders."""

RETRY_S = 1.0
"""A log that was held open is cut off so soon after its reader has gone, at a twentieth of the
writer's time."""


class LogKeeper:
    """Copies the log of the connection ``db`` and cuts it off. ``now`` in seconds, never running
    back. Used by the writer's thread alone, but for ``trouble`` and ``long``."""

    def __init__(self, db: apsw.Connection, now: Callable[[], float], busy_s: float) -> None:
        self._db = db
        self._now = now
        self._busy_s = busy_s
        self._pages = 0
        self._copied_pages = 0
        self._tried_at = float("-inf")
        self._told_pages = 0
        self.trouble: str | None = None
        """Why no more orders are taken, until the log could be cut off."""
        db.set_wal_hook(self._logged)

    def _logged(self, _db: apsw.Connection, _name: str, pages: int) -> int:
        self._pages = pages
        return apsw.SQLITE_OK

    @property
    def long(self) -> bool:
        """Half-way to where orders are refused: what need not read is to read no more."""
        return self._pages >= LOG_PAGES_REFUSED // 2

    def keep(self) -> None:
        """Copy the log each time it has grown; waits for nobody, at first. Raises apsw.Error, but
        no BusyError."""
        self._copied_pages = min(self._copied_pages, self._pages)
        if not self._is_time():
            return
        self._copied_pages, self._tried_at = self._pages, self._now()
        if self._pages < LOG_PAGES_MAX:
            self._copy()
        else:
            self._cut_off()
        self._judge()

    def _is_time(self) -> bool:
        if self._pages - self._copied_pages >= CHECKPOINT_PAGES:
            return True
        return self._pages >= LOG_PAGES_MAX and self._now() - self._tried_at >= RETRY_S

    def _copy(self) -> None:
        try:
            self._db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
        except (apsw.BusyError, apsw.LockedError):
            return  # another process copies

    def _cut_off(self) -> None:
        self._db.set_busy_timeout(int(RESTART_BUSY_S * 1000))
        try:
            self._db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
            self._pages = self._copied_pages = 0
        except (apsw.BusyError, apsw.LockedError):
            return  # somebody reads what is only in the log
        finally:
            self._db.set_busy_timeout(int(self._busy_s * 1000))

    def _judge(self) -> None:
        """Tell operators of a log that is held open, once for each time it has doubled."""
        if self._pages < LOG_PAGES_MAX:
            if self._told_pages:
                log.info("the ledger's log was cut off again", log_pages=self._pages)
            self._told_pages, self.trouble = 0, None
            return
        if self._pages >= max(LOG_PAGES_MAX, 2 * self._told_pages):
            self._told_pages = self._pages
            log.warning(
                "the ledger's log grows: a program reads the ledger without end; close database"
                " shells and backups that hang",
                log_bytes=self._pages * int(self._db.pragma("page_size") or 0),
                readers=readers_of(self._db.filename),
            )
        if self._pages >= LOG_PAGES_REFUSED:
            self.trouble = (
                "a program reads the ledger without end, and its log would fill the disk: close"
                " database shells and backups that hang"
            )
