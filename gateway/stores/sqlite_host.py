"""Whether this machine, this disk and this SQLite may keep a ledger at all."""

import os
import re
import stat
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import apsw

from gateway.ledger import LedgerRefused

NETWORK_FILESYSTEMS = frozenset(
    {
        "9p", "afs", "beegfs", "ceph", "cifs", "coda", "fuse.ceph", "fuse.glusterfs",
        "fuse.rclone", "fuse.s3fs", "fuse.sshfs", "gfs2", "glusterfs", "gpfs", "lustre", "ncpfs",
        "nfs", "nfs4", "ocfs2", "orangefs", "pvfs2", "smb", "smb2", "smb3", "smbfs",
    }
)  # fmt: skip
"""Locks and shared memory of the write-ahead log don't work between the hosts that share them."""


@dataclass(frozen=True, slots=True)
class HostFacts:
    """What this machine says of itself. ``mounts`` is /proc/self/mountinfo as it stands."""

    machine_id: str
    boot_id: str
    mounts: str
    sqlite_version: str

    @classmethod
    def read(cls) -> "HostFacts":
        return cls(
            machine_id=_text("/etc/machine-id").strip(),
            boot_id=_text("/proc/sys/kernel/random/boot_id").strip(),
            mounts=_text("/proc/self/mountinfo"),
            sqlite_version=apsw.sqlite_lib_version(),
        )


def _text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def wal_reset_is_fixed(version: str) -> bool:
    """Whether this SQLite has the fix for the WAL-reset bug, which can corrupt a database."""
    try:
        major, minor, patch = (int(part) for part in version.split(".")[:3])
    except ValueError:
        return False
    if (major, minor) in ((3, 44), (3, 50)):
        return patch >= {44: 6, 50: 7}[minor]
    return (major, minor, patch) >= (3, 51, 3)


def filesystem_of(path: Path, mounts: str) -> str:
    """The type of the file system that ``path`` (absolute, resolved) lies on; "" if unknown."""
    best, kind = -1, ""
    for line in mounts.splitlines():
        left, dash, right = line.partition(" - ")
        fields = left.split()
        if not dash or len(fields) < 5 or not right:
            continue
        point = Path(re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), fields[4]))
        if len(point.parts) >= best and (path == point or point in path.parents):
            best, kind = len(point.parts), right.split()[0]
    return kind


SHM_READ_LOCKS = range(123, 128)
"""The bytes of the ``-shm`` file that readers lock (sqlite.org/walformat.html: WAL_READ_LOCK)."""


def readers_of(path: str) -> list[int]:
    """The processes, but ours, that read the ledger at ``path`` just now; [] where none is seen."""
    try:
        shared = Path(path + "-shm").stat()
    except OSError:
        return []
    file = f"{os.major(shared.st_dev):02x}:{os.minor(shared.st_dev):02x}:{shared.st_ino}"
    found = set()
    for line in _text("/proc/locks").splitlines():
        fields = line.split()
        if len(fields) < 8 or fields[5] != file or not fields[4].isdecimal():
            continue
        if fields[6].isdecimal() and int(fields[6]) in SHM_READ_LOCKS:
            found.add(int(fields[4]))
    return sorted(found - {os.getpid()})


def check_host(path: Path, host: HostFacts) -> None:
    """Raise LedgerRefused where a ledger at ``path`` would not be safe, whatever is in it."""
    if not wal_reset_is_fixed(host.sqlite_version):
        raise LedgerRefused(
            f"SQLite {host.sqlite_version} can corrupt the ledger (the WAL-reset bug): install an"
            " apsw that brings 3.51.3 or later"
        )
    if not host.boot_id:
        raise LedgerRefused(
            "this machine tells no boot id (/proc/sys/kernel/random/boot_id), so the ledger can't"
            " keep time over a restart: run the gateway on Linux with /proc mounted"
        )
    kind = filesystem_of(path.parent, host.mounts)
    if kind in NETWORK_FILESYSTEMS:
        raise LedgerRefused(
            f"{path.parent} is on a network file system ({kind}), where SQLite's locks do not"
            " hold: put the ledger on a local disk, or use a ledger server"
        )


def check_there(path: Path) -> None:
    """Raise LedgerRefused where there is no ledger file, or this user may not look."""
    try:
        if stat.S_ISREG(path.stat().st_mode):
            return
    except (FileNotFoundError, NotADirectoryError):
        pass
    except OSError as error:
        raise LedgerRefused(
            f"{path} can't be read: {error.strerror}; run this as the gateway's user, or as root"
        ) from error
    raise LedgerRefused(f"there is no ledger at {path}")


def make_file(path: Path) -> None:
    """The folder (0700) and the empty file (0600), durable in their parents, unless there. A log
    without its file is kept: SQLite would take it for a leftover, and remove it.

    An existing file is not touched: a plain open and close would drop the locks that SQLite holds
    on it for other connections of this process.
    """
    log = path.with_name(path.name + "-wal")
    try:
        if not _is_empty(log) and _is_empty(path):  # in this order: a new file is written first
            raise LedgerRefused(
                f"{log} is there, and what it belongs to is not: put {path.name} back, whose latest"
                " orders are in it; or move the log away too, if orders in it are settled"
            )
        missing = [each for each in (path.parent, *path.parent.parents) if not each.exists()]
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        for folder in missing:
            sync_folder(folder.parent)
        with suppress(FileExistsError):
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
            sync_folder(path.parent)
    except OSError as error:
        raise LedgerRefused(
            f"the ledger can't be made at {path}: {error.strerror}; choose a folder that this"
            " user may write"
        ) from error


def _is_empty(path: Path) -> bool:
    """Also where there is nothing. Raises OSError."""
    try:
        return path.stat().st_size == 0
    except (FileNotFoundError, NotADirectoryError):
        return True


def sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
