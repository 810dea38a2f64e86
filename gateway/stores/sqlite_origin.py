"""Whose ledger a file is, what ledger time is on it, and what it must not be used as.

Ledger time is the boot clock plus an offset that the first to open the file in a boot writes into
it, and that everybody else takes from it: it never follows the wall clock's jumps, is the same in
every process of the host, and begins each boot no earlier than the last write of the boot before.

A file that is no ledger in use carries a *mark* where the name of its host would stand: a backup,
and both ends of a move. It was on no host in this boot, so that every opening meets the mark.
"""

from dataclasses import dataclass
from enum import StrEnum

import apsw

from gateway.ledger import LedgerRefused
from gateway.stores.sqlite_host import HostFacts
from middleware.clock import Clock


class Mark(StrEnum):
    """What stands before the colon of a mark; what comes after it says which backup or move."""

    BACKUP = "backup"
    MOVING = "moving"
    MOVED = "moved"
    ARRIVING = "arriving"


REFUSALS = {
    Mark.BACKUP: (
        "this is a backup: it does not know what was ordered since it was made. Only where the"
        " ledger itself is gone, take it over with `adopt = true` under `[ledger]`: what is not in"
        " it is looked up before it is sent; docs/operations.md, Backups, says what to do"
    ),
    Mark.MOVING: (
        "`ordergate ledger copy` is moving this ledger elsewhere, or was broken off: say the same"
        " command again to end the move, or go back with `adopt = true` under `[ledger]` and throw"
        " the half copy away"
    ),
    Mark.MOVED: (
        "this ledger was moved elsewhere by `ordergate ledger copy`: two gateways on two ledgers"
        " would order twice. Use the new one; this one only if nothing was ever taken there, with"
        " `adopt = true` under `[ledger]`"
    ),
    Mark.ARRIVING: (
        "this is half a copy: say the same `ordergate ledger copy` again to end it, or remove it"
    ),
}


@dataclass(frozen=True, slots=True)
class Origin:
    """What a file says: its host (or a mark), the boot it was used in, ledger time less the boot
    clock."""

    machine_id: str
    boot_id: str
    time_offset_s: float

    @property
    def mark(self) -> tuple[Mark, str] | None:
        """The mark and what it says; None for a ledger in use."""
        word, colon, said = self.machine_id.partition(":")
        return (Mark(word), said) if colon and word in set(Mark) else None


def read_origin(db: apsw.Connection) -> Origin | None:
    """None for a new ledger."""
    row = db.execute("SELECT machine_id, boot_id, time_offset_s FROM origin").fetchone()
    return None if row is None else Origin(*row)


def write_origin(db: apsw.Connection, origin: Origin) -> None:
    db.execute(
        "INSERT OR REPLACE INTO origin (one, machine_id, boot_id, time_offset_s)"
        " VALUES (1, ?, ?, ?)",
        (origin.machine_id, origin.boot_id, origin.time_offset_s),
    )


def marked(mark: Mark, said: str, time_offset_s: float = 0.0) -> Origin:
    return Origin(f"{mark}:{said}", "", time_offset_s)


def settle_origin(
    db: apsw.Connection, host: HostFacts, clock: Clock, *, adopt: bool, behind_s: float
) -> float:
    """Check whose ledger it is, in the caller's transaction, and make it this boot's; what to add
    to the boot clock. Raises LedgerRefused."""
    offset = time_offset_s(db, host, clock, behind_s)
    origin = read_origin(db)
    if origin is not None and origin.boot_id != host.boot_id:
        check_origin(origin, host, adopt=adopt)
    write_origin(db, Origin(host.machine_id, host.boot_id, offset))
    return offset


def time_offset_s(
    db: apsw.Connection, host: HostFacts, clock: Clock, behind_s: float = 0.0
) -> float:
    """What to add to the boot clock for ledger time on this file, which was ``behind_s`` behind the
    wall clock. Were that made up for at a boot, keys would be forgotten before their time."""
    origin = read_origin(db)
    ((last,),) = db.execute("SELECT ledger_time FROM tally")
    if origin is not None and origin.boot_id == host.boot_id:
        return max(origin.time_offset_s, float(last) - clock.monotonic())
    return max(clock.wall() - behind_s, float(last)) - clock.monotonic()


def check_origin(origin: Origin, host: HostFacts, *, adopt: bool) -> None:
    """The same machine after a reboot, or another one? Two hosts must not share a ledger."""
    mark = origin.mark
    if mark is not None:
        if not adopt or mark[0] is Mark.ARRIVING:
            raise LedgerRefused(REFUSALS[mark[0]])
        return
    if adopt or (origin.machine_id and origin.machine_id == host.machine_id):
        return
    raise LedgerRefused(
        "this ledger was last used on another host, or on one that can't be told from another"
        " (no /etc/machine-id). Two hosts on one ledger would order twice. Once the other is"
        " surely stopped for good, take it over with `adopt = true` under `[ledger]`"
    )
