"""The integrity check that runs behind the opening: a large file takes seconds to read."""

import threading
from collections.abc import Callable
from pathlib import Path

import apsw
import structlog

log = structlog.get_logger("ordergate", part="ledger")

LOOK_UP_OPS = 100_000
"""How often, in SQLite's steps, a check looks whether it is to end: some milliseconds."""

DAMAGES_MAX = 3
"""Of a damaged file: more of them say the same again."""


def damage_of(db: apsw.Connection) -> str:
    """What ``quick_check`` says is wrong with the file; "" where nothing is."""
    found = [str(said) for (said,) in db.execute(f"PRAGMA quick_check({DAMAGES_MAX})")]
    return "" if found == ["ok"] else "; ".join(found)


class BackgroundCheck:
    """Checks the file at ``path`` once, in a thread of its own that reads and never writes.

    ``damaged`` is called in that thread, with what is wrong. A check that can't be made (a disk
    that fails under it) says nothing: orders meet the same disk. It is one read from beginning to
    end, which keeps the write-ahead log from being cut off: it ends early where it ``hinders``.
    """

    def __init__(
        self,
        path: Path,
        damaged: Callable[[str], None],
        hinders: Callable[[], bool] = lambda: False,
    ) -> None:
        self._damaged = damaged
        self._hinders = hinders
        self._stopped = False
        self._db = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
        self._db.set_progress_handler(self._is_to_end, LOOK_UP_OPS)
        self._thread = threading.Thread(target=self._check, name="ledger check", daemon=True)
        self._thread.start()

    def _is_to_end(self) -> bool:
        return self._stopped or self._hinders()

    def _check(self) -> None:
        try:
            damage = damage_of(self._db)
        except (apsw.CorruptError, apsw.NotADBError) as error:
            damage = str(error)
        except apsw.InterruptError:
            if not self._stopped:
                log.warning(
                    "the check of the ledger was broken off: it kept the log from being cut off;"
                    " run ordergate doctor when there are fewer orders"
                )
            return
        except apsw.Error:
            return  # the disk failed
        if damage and not self._stopped:
            self._damaged(damage)

    def stop(self) -> None:
        """End it, done or not. Blocks for milliseconds."""
        self._stopped = True  # an interrupt before the first step would be lost
        self._thread.join()
        self._db.close()

    def wait(self) -> None:
        """Until it is done; for tests."""
        self._thread.join()
