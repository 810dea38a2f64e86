"""What stands in a log behind its end, as SQLite sees it: whether durable commits were lost.

SQLite takes a log up to the last commit before the first frame that is not whole, and says nothing
of what is behind. That may be a write that a kill or a power cut broke off, in any order of its
pages, and nobody was told of it; frames of an earlier log, whose salts are others, or of a write
that failed; or, where a place in the middle was damaged, commits that clients were told of.

Of the last speaks this alone: behind a frame that is not whole, a whole commit and a whole frame
that continues it. A frame's checksum continues the one before, and each commit is synced before the
next frame is written: all before that commit was on the disk. (The last commit of a write that was
broken off has no frame after it. No commit fills its sector up with copies of its last frame where
SQLite takes overwriting for safe, which is how it is built: SQLITE_POWERSAFE_OVERWRITE.)

The format: sqlite.org/fileformat2.html#the_write_ahead_log.
"""

import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple, TypeAlias

import apsw

Pair: TypeAlias = tuple[int, int]

HEADER = struct.Struct(">8I")
"""Magic, version, page size, sequence, two salts, two of checksum."""

FRAME = struct.Struct(">6I")
"""Page, pages of the file after a commit (else 0), two salts, two of checksum."""

SUMMED_HEADER_BYTES, SUMMED_FRAME_BYTES = 24, 8
"""What of a header the checksum behind it is made of; of a frame the whole page too."""

ORDERS = {0x377F0682: "<", 0x377F0683: ">"}
"""From the magic to the order of bytes that the checksums are made in."""

LOOK_FRAMES_MAX = 16_000
"""How far behind: 64 MB, some 20 ms. A log is no longer, as a rule, and a commit no rarer."""


class _Frame(NamedTuple):
    pages_after_commit: int
    salts: Pair
    checksum: Pair


def lost_behind(db: apsw.Connection, ledger: Path) -> int | None:
    """The byte at which the log of ``ledger`` is damaged, where commits behind it are lost; None
    where nothing shows that. ``db`` has read the ledger and is in no transaction; what is behind is
    there until somebody writes. Raises apsw.Error, OSError."""
    try:
        frames, _ = db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_NOOP)
    except apsw.BusyError:
        return None  # somebody ends a write just now: who opened it before us has looked
    at: int | None = None
    with _opened(ledger) as file:
        if file is None or frames < 0:
            return None
        page_bytes = int(db.pragma("page_size") or 0)
        for _ in range(2):  # what another process was just writing is whole by now
            at = _lost_behind(_Log(file, page_bytes), frames)
            if at is None:
                return None
    return at


def sync_log(ledger: Path) -> None:
    """Before the first write behind what was found in the log: a process that was killed in a
    commit may have left it unsynced. Raises OSError."""
    with _opened(ledger) as file:
        if file is not None:
            os.fsync(file)


@contextmanager
def _opened(ledger: Path) -> Iterator[int | None]:
    """The log, None where there is none. (SQLite has no locks on it that a close would drop.)"""
    file = None
    with suppress(FileNotFoundError):
        file = os.open(ledger.with_name(ledger.name + "-wal"), os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield file
    finally:
        if file is not None:
            os.close(file)


def _lost_behind(log: "_Log", frames: int) -> int | None:
    """As ``lost_behind``, where SQLite found so many ``frames``."""
    at = None
    if log.salts is None:
        if frames:
            return None  # SQLite read it when it was whole
        at = 0
    for number in range(frames + 1, min(log.frames, frames + LOOK_FRAMES_MAX)):
        commits = log.frame(number).pages_after_commit > 0
        if at is not None:
            if commits and log.is_whole(number) and log.is_whole(number + 1):
                return at
        elif not log.is_whole(number):
            at = log.place(number)
        elif commits:
            return None  # another process has written since, or all of it is in the ledger's file
    return None


class _Log:
    """A log in the open ``file``. ``salts`` is None where its header is damaged; frames count
    from 1."""

    def __init__(self, file: int, page_bytes: int) -> None:
        self._file = file
        self._page_bytes = page_bytes
        self._frame_bytes = FRAME.size + page_bytes
        self.frames = max(0, os.fstat(file).st_size - HEADER.size) // self._frame_bytes
        self.salts: Pair | None = None
        self._order = ORDERS[0x377F0682]
        self._checksum = (0, 0)
        head = self._read(0, HEADER.size)
        magic, *_, salt, salt_2, sum_1, sum_2 = HEADER.unpack(head)
        order = ORDERS.get(magic)
        if order and _sum(head[:SUMMED_HEADER_BYTES], (0, 0), order) == (sum_1, sum_2):
            self._order, self.salts, self._checksum = order, (salt, salt_2), (sum_1, sum_2)

    def place(self, number: int) -> int:
        return HEADER.size + (number - 1) * self._frame_bytes

    def frame(self, number: int) -> _Frame:
        _, after, *rest = FRAME.unpack(self._read(self.place(number), FRAME.size))
        return _Frame(after, (rest[0], rest[1]), (rest[2], rest[3]))

    def is_whole(self, number: int) -> bool:
        """It continues the frame before it, which need not be whole."""
        frame, before = self.frame(number), self._checksum
        salts = self.salts
        if number > 1:
            previous = self.frame(number - 1)
            salts, before = salts or previous.salts, previous.checksum
        if frame.salts != salts:
            return False
        data = self._read(self.place(number), self._frame_bytes)
        summed = data[:SUMMED_FRAME_BYTES] + data[FRAME.size :]
        return _sum(summed, before, self._order) == frame.checksum

    def _read(self, place: int, size: int) -> bytes:
        """Zeros where it can't be read: that is damage as well."""
        data = b""
        with suppress(OSError):
            data = os.pread(self._file, size, place)
        return data.ljust(size, b"\0")


def _sum(data: bytes, before: Pair, order: str) -> Pair:
    """sqlite.org/fileformat2.html#checksum_algorithm; some 0.1 ms a page."""
    one, two = before
    for first, second in struct.iter_unpack(f"{order}II", data):
        one = (one + first + two) & 0xFFFFFFFF
        two = (two + second + one) & 0xFFFFFFFF
    return one, two
