"""The ledger itself: whole, ours, and what waits in it."""

import stat
from collections.abc import Iterator
from pathlib import Path

from gateway.doctor.findings import Diagnosis, in_bytes, in_time, ok, problem, warning
from gateway.orders.states import Status
from gateway.stores.sqlite_host import HostFacts
from gateway.stores.sqlite_look import LedgerLook
from gateway.stores.sqlite_origin import REFUSALS, Mark, Origin

LOG_BYTES_MAX = 256 * 1024 * 1024
"""The log shrinks to 64 MiB after a burst; one four times that isn't copied back at all."""

PART = "ledger"


FORGOT_ADVICE = 'docs/operations.md, "A ledger that forgot"; in the end: ordergate trust'


def ledger(look: LedgerLook, host: HostFacts, *, adopt: bool) -> Iterator[Diagnosis]:
    yield _whole(look)
    yield ok(PART, f"schema {look.schema}, {in_bytes(look.file_bytes)}", schema=look.schema)
    yield _origin(look, host, adopt=adopt)
    if look.forgot is not None:
        yield problem(PART, f"it forgot something: {look.forgot}", FORGOT_ADVICE)
    yield from _log(look)
    yield _holders(look)
    yield from _orders(look)


def _whole(look: LedgerLook) -> Diagnosis:
    if look.damage:
        return problem(
            PART,
            f"it is damaged: {look.damage}",
            "stop the gateway and keep the file; restore a backup, and ask the upstream about"
            " orders made since",
        )
    return ok(PART, f"whole: quick_check took {in_time(look.check_s)}", quick_check_s=look.check_s)


def _origin(look: LedgerLook, host: HostFacts, *, adopt: bool) -> Diagnosis:
    mark = Origin(look.machine_id, look.boot_id, 0.0).mark
    if mark is not None and adopt and mark[0] is not Mark.ARRIVING:
        return warning(
            PART,
            f"marked as {mark[0]}: the next start takes it over (adopt = true)",
            'docs/operations.md, "Backups" and "To another ledger", says what comes of it',
        )
    if mark is not None:
        return problem(PART, f"marked as {mark[0]}: the gateway will refuse it", REFUSALS[mark[0]])
    if look.boot_id == host.boot_id or not look.boot_id:
        return ok(PART, "of this host, and of this boot")
    if look.machine_id and look.machine_id == host.machine_id:
        return ok(PART, "of this host, last used before its reboot")
    if adopt:
        return warning(
            PART,
            "another host's: the next start takes it over (adopt = true)",
            "be sure that the other host never opens it again",
        )
    return problem(
        PART,
        "another host's: the gateway will refuse it",
        "once the other host is stopped for good, start with adopt = true under [ledger]",
    )


def _log(look: LedgerLook) -> Iterator[Diagnosis]:
    if look.log_bytes > LOG_BYTES_MAX:
        yield warning(
            PART,
            f"its write-ahead log has grown to {in_bytes(look.log_bytes)}",
            "something reads without end and keeps it from being copied back: close database"
            " shells and backups that hang",
            log_bytes=look.log_bytes,
        )


def _holders(look: LedgerLook) -> Diagnosis:
    if look.holders:
        names = ", ".join(str(pid) for pid in look.holders)
        return ok(PART, f"held by process {names}", holders=list(look.holders))
    if look.pending:
        return warning(
            PART,
            f"{look.pending} orders are pending and no gateway holds the ledger",
            "start the gateway: it takes them up",
        )
    return ok(PART, "no gateway holds it")


def _orders(look: LedgerLook) -> Iterator[Diagnosis]:
    counts = look.counts
    measured = {status.value: number for status, number in counts.by_status.items()}
    yield ok(PART, f"{counts.made} orders made, {look.pending} pending", **measured)
    if not counts.conserved:
        yield problem(
            PART,
            "entries made and entries accounted for differ: one was lost",
            "keep the file, and report it: this must not happen",
        )
    if waiting := counts.by_status.get(Status.DEAD_LETTER, 0):
        since = counts.oldest_dead_letter_at
        age = "" if since is None else f", the oldest for {max(0.0, look.now - since):.0f} s"
        yield warning(
            PART,
            f"{waiting} dead letters wait for a person{age}",
            "ordergate orders list --status dead_letter; docs/operations.md says what then",
            dead_letters=waiting,
        )
    if counts.disputed:
        yield warning(
            PART,
            f"{counts.disputed} settled orders are disputed: evidence contradicts the outcome",
            "ordergate orders list --disputed; compare each with the upstream's books",
            disputed=counts.disputed,
        )


def is_missing(path: Path) -> bool:
    """Whether there is nothing; in a folder that this user may not enter there may be."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return False


def secret_file(path: Path, what: str, part: str) -> Diagnosis:
    """Whether a file that holds a secret is readable here, and to nobody else."""
    try:
        with path.open("rb") as file:
            file.read(1)
        mode = stat.S_IMODE(path.stat().st_mode)
    except OSError as error:
        return problem(
            part,
            f"{what} {path} can't be read: {error.strerror}",
            "let the gateway's user read it; run the doctor as that user, or as root",
        )
    if mode & 0o077:
        return warning(
            part,
            f"{what} {path} is open to other users ({mode:04o})",
            f"chmod 600 {path}",
        )
    return ok(part, f"{what} {path} is readable by its owner alone")
