"""The ledger's folder: what is promised as durable is as durable as this."""

import os
import stat
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from gateway.doctor.findings import Diagnosis, in_bytes, in_time, ok, problem, warning
from gateway.stores.sqlite_host import NETWORK_FILESYSTEMS, HostFacts, filesystem_of

SYNCS = 50
"""Enough for a median; the slowest of them stands for p99."""

VOLATILE = frozenset({"tmpfs", "ramfs", "devtmpfs", "zram"})
LAYERS = frozenset({"overlay", "aufs", "fuse-overlayfs"})

TOO_FAST_S = 10e-6
"""The fastest disks with a capacitor take some 20 us for a write and a sync."""

SLOW_S, VERY_SLOW_S = 0.05, 0.5
"""An order waits for two syncs: a tenth of a second is felt, a second is past patience."""

FREE_BYTES_MIN = 128 * 1024 * 1024
"""Room for the write-ahead log (64 MiB after a burst) and as much again."""

FREE_BYTES_LOW = 1024**3
"""Some 200,000 orders of 5 KB: days, in which somebody can act."""

INODES_MIN = 64


def disk(ledger: Path, host: HostFacts) -> Iterator[Diagnosis]:
    """Look at the file system that ``ledger`` is, or will be, on."""
    folder = nearest_folder(ledger.resolve())
    if obstacles := in_the_way(ledger.resolve()):
        yield problem(
            "disk",
            f"{obstacles[0]} is a file where the ledger's folder should be",
            "name another folder in [ledger] url",
        )
        return
    yield file_system(filesystem_of(folder, host.mounts), folder)
    if not os.access(folder, os.W_OK | os.X_OK):
        yield problem(
            "disk",
            f"this user may not write in {folder}",
            "give the gateway's user the folder; run the doctor as that user",
        )
        return
    yield space(os.statvfs(folder))
    try:
        yield syncs(sync_times(folder))
    except OSError as error:
        yield problem(
            "disk", f"{folder} can't be written and synced: {error.strerror}", "mend the disk"
        )


def nearest_folder(path: Path) -> Path:
    """The folder of ``path``, or what of it exists and this user may see."""
    return next(each for each in path.parents if stat.S_ISDIR(_mode(each)))


def in_the_way(path: Path) -> list[Path]:
    """Files where folders should be."""
    return [each for each in path.parents if stat.S_ISREG(_mode(each))]


def _mode(path: Path) -> int:
    """0 where there is nothing, or it is in a folder that this user may not enter."""
    try:
        return path.stat().st_mode
    except OSError:
        return 0


def file_system(kind: str, folder: Path) -> Diagnosis:
    part = "disk"
    if kind in NETWORK_FILESYSTEMS:
        return problem(
            part,
            f"{folder} is on a network file system ({kind}), where SQLite's locks don't hold",
            "put the ledger on a local disk",
        )
    if kind in VOLATILE:
        return problem(
            part,
            f"{folder} is in memory ({kind}): a reboot loses every order",
            "put the ledger on a disk, as in sqlite:////var/lib/ordergate/ledger.db",
        )
    if kind in LAYERS:
        return warning(
            part,
            f"{folder} is in a container's own layer ({kind}), which goes with the container",
            "mount a volume there",
        )
    return ok(part, f"{folder} is on {kind or 'a file system of unknown type'}", filesystem=kind)


def space(found: os.statvfs_result) -> Diagnosis:
    part = "disk"
    free = found.f_bavail * found.f_frsize
    inodes = found.f_favail if found.f_files else None
    text = f"{in_bytes(free)} free"
    text += "" if inodes is None else f", {inodes} inodes free"
    measured = {"free_bytes": free, "free_inodes": inodes}
    advice = "make room: on a full disk every order is refused with 503"
    if free < FREE_BYTES_MIN or (inodes is not None and inodes < INODES_MIN):
        return problem(part, text, advice, **measured)
    if free < FREE_BYTES_LOW:
        return warning(part, text, advice, **measured)
    return ok(part, text, **measured)


def sync_times(folder: Path, count: int = SYNCS) -> list[float]:
    """Seconds for each of ``count`` writes of a page, each with its fdatasync, to a file without
    a name in ``folder``: nothing stays, whatever happens. Raises OSError."""
    handle, name = tempfile.mkstemp(prefix=".ordergate-doctor-", dir=folder)
    try:
        Path(name).unlink()
        page, taken = b"\0" * 4096, []
        for number in range(count):
            began = time.perf_counter()
            os.pwrite(handle, page, number * len(page))
            os.fdatasync(handle)
            taken.append(time.perf_counter() - began)
        return taken
    finally:
        os.close(handle)


def syncs(taken: Sequence[float]) -> Diagnosis:
    part = "disk"
    ordered = sorted(taken)
    half, worst = ordered[len(ordered) // 2], ordered[int(len(ordered) * 0.99)]
    text = (
        f"{len(ordered)} syncs (an order waits for two): p50 {in_time(half)}, p99 {in_time(worst)}"
    )
    measured = {"sync_p50_s": half, "sync_p99_s": worst}
    if half < TOO_FAST_S:
        return warning(
            part,
            f"{text}: faster than a disk can be",
            "see that fsync reaches the disk (no eatmydata, no nobarrier, no unsafe cache of the"
            " hypervisor): what is lost in a power cut was promised as kept",
            **measured,
        )
    if half > VERY_SLOW_S or worst > 2 * VERY_SLOW_S:
        return problem(part, text, "give the ledger a disk of its own, or a faster one", **measured)
    if half > SLOW_S or worst > VERY_SLOW_S:
        return warning(
            part,
            text,
            "give the ledger a disk of its own, or a faster one",
            **measured,
        )
    return ok(part, text, **measured)
