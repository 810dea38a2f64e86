"""Whether a ledger file is as far as it was, or an older copy of itself was put in its place.

A file knows that it is a copy where it carries a mark (``sqlite_origin``). Else its gateways know
it again: beside it they keep its epoch, which was made with it, and ledger time as of their latest
write, which grows with each. A file with another epoch, or from an earlier time, forgot what was
written since; one whose log is damaged in the middle (``sqlite_log_end``) what was behind that. It
says so from then on, until an operator trusts it again.
"""

import os
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

import apsw
import orjson
import structlog

from gateway.ledger import LedgerRefused
from gateway.stores import sqlite_statements as sql
from gateway.stores.doubting import LEAVE, Said
from gateway.stores.sqlite_origin import Mark, Origin

log = structlog.get_logger("ordergate", part="ledger")

SUFFIX = ".remembered"
"""As what a host remembers of a remote ledger."""


KEEP_EVERY_S = 1.0
"""What is written in the second before a kill may be gone unnoticed, but for what the log shows
(``sqlite_log_end``); it costs 0.1 ms each time."""


@dataclass(frozen=True, slots=True)
class Remembered:
    """What was known of the file when it was last written: its epoch, when that was (ledger
    time), and how far ledger time was behind the wall clock then."""

    epoch: str
    at: float
    behind_s: float = 0.0


def remembered_file(ledger: Path) -> Path:
    return ledger.with_name(ledger.name + SUFFIX)


def recall(ledger: Path) -> Remembered | None:
    """None where nothing is known, or nothing that can be read."""
    with suppress(OSError, ValueError, TypeError):
        epoch, at, *later = orjson.loads(remembered_file(ledger).read_bytes())
        behind_s = later[0] if later else 0.0  # an earlier version kept none
        if isinstance(epoch, str) and isinstance(at, float) and isinstance(behind_s, float):
            return Remembered(epoch, at, behind_s)
    return None


def behind_s(db: apsw.Connection, known: Remembered | None) -> float:
    """How far ledger time on this very file was behind the wall clock when it was last written: the
    clock was set since boot."""
    ((epoch, _),) = db.execute(sql.TRUST)
    return 0.0 if known is None or known.epoch != epoch else max(0.0, known.behind_s)


class FileMemory:
    """Remembers how far the ledger is, and how far ``behind`` the wall clock. Used by the writer's
    thread: it waits for the same disk."""

    def __init__(self, ledger: Path, epoch: str, behind: Callable[[], float]) -> None:
        self._file = remembered_file(ledger)
        self._epoch = epoch
        self._behind = behind
        self._kept_at = self._kept_behind_s = float("-inf")

    def keep(self, at: float, *, now: bool = False) -> None:
        """``at``: of the latest durable write (ledger time). In place of what was known; where
        that can't be, the file's own word is left."""
        behind_s = self._behind()
        known = at == self._kept_at and abs(behind_s - self._kept_behind_s) < KEEP_EVERY_S
        if known or not (now or at - self._kept_at >= KEEP_EVERY_S):
            return
        self._kept_at, self._kept_behind_s = at, behind_s
        new = self._file.with_name(f"{self._file.name}.{os.getpid()}")
        with suppress(OSError):
            new.write_bytes(orjson.dumps([self._epoch, at, behind_s]))
            new.replace(self._file)


def sign_of_forgetting(
    known: Remembered | None, origin: Origin | None, epoch: str, at: float, lost_at: int | None
) -> str | None:
    """Why the file must have forgotten something; None where nothing says so. ``origin``, ``epoch``
    and ``at`` (of its last write) are the file's own word; ``lost_at``: the byte of its log behind
    which something is lost."""
    mark = None if origin is None else origin.mark
    if mark is not None and mark[0] is Mark.BACKUP:
        return f"it is a backup of {mark[1]}"
    if mark is not None and mark[0] is Mark.MOVED:
        return "it was moved elsewhere, and may have been used there"
    if known is not None and known.epoch != epoch:
        return "another ledger was in its place before"
    damage = None if lost_at is None else f"its log (-wal) was found damaged at byte {lost_at}"
    if known is not None and at < known.at:
        gone = f"what {known.at - at:.3g} s brought" if at else "all that was in it"
        return f"{damage or 'it is an older copy of itself'}: {gone} is gone"
    return damage and f"{damage}: orders that were written behind that are gone"


def _is_news(said: Said, why: str, known: Remembered | None) -> bool:
    """Of a file that had forgot before: not what another process has said of the same loss."""
    return said.why != why or (known is not None and known.at > said.at)


def settle_trust(
    db: apsw.Connection,
    known: Remembered | None,
    origin: Origin | None,
    lost_at: int | None,
    *,
    now: float,
    who: str,
) -> tuple[str, Said | None]:
    """The file's epoch, and since when and why it is not trusted; said there for good, in the
    caller's transaction. ``known`` and ``lost_at`` were found before that began."""
    ((epoch, said),) = db.execute(sql.TRUST)
    ((at,),) = db.execute("SELECT ledger_time FROM tally")
    forgot = Said.of(said)
    why = sign_of_forgetting(known, origin, epoch, float(at), lost_at)
    if why is not None and (forgot is None or _is_news(forgot, why, known)):
        forgot = Said(now, why, who)
        db.execute(sql.FORGET, (forgot.text(),))
        log.error("the ledger forgot", reason=why, advice=LEAVE)
    return epoch, forgot


def trust_again(ledger: Path, busy_ms: int = 5000) -> str | None:
    """Take back that absence proves nothing, while gateways run; why it was said, None: it was
    not. Raises LedgerRefused."""
    flags = apsw.SQLITE_OPEN_READWRITE
    try:
        with closing(apsw.Connection(str(ledger), flags=flags)) as db:
            db.set_busy_timeout(busy_ms)
            db.pragma("synchronous", "FULL")
            with db:
                ((_, said),) = db.execute(sql.TRUST)
                db.execute(sql.FORGET, (None,))
    except apsw.Error as error:
        raise LedgerRefused(f"{ledger} can't be trusted again: {error}") from error
    forgot = Said.of(said)
    return None if forgot is None else forgot.why
