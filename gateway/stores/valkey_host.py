"""What this host remembers of a remote ledger, so that who starts on it notices that the ledger
forgot meanwhile.

``NAME`` says all of it, written anew with each renewal of the leases. Each process has a
``NAME.XXXXXXXX`` besides, with only how far each bucket's sequence is: written over in place before
an order is sent, so that a kill takes nothing; 512 bytes, so that it is never torn. Where a process
is gone, and its file's lock with it, who starts or renews next takes over what it knew.
"""

import asyncio
import fcntl
import glob
import os
import struct
from collections.abc import Callable, Iterable
from contextlib import ExitStack, suppress
from enum import Enum, auto
from pathlib import Path
from typing import Any
from uuid import uuid4

import orjson

from gateway.stores.valkey_keys import BUCKETS
from gateway.stores.valkey_remembered import Remembered

SEQS = struct.Struct(f"<{BUCKETS}Q")

OWN = "." + "[0-9a-f]" * 8
"""How the name of a process's own file ends."""

TRIES = 100
"""How often processes that start at once may get into each other's way."""

LEFT = "a gateway that is killed may not notice that the ledger forgot what it did last"


class _Whose(Enum):
    """Whose sequences count."""

    ALL = auto()
    GONE = auto()
    NONE = auto()


class HostMemory:
    """``file`` is ``NAME``; None: this process's own memory is all there is. ``event`` logs where
    it can't be written; no order waits for that."""

    def __init__(self, file: Path | None, known: Remembered, event: Callable[..., None]) -> None:
        self._file = file
        self._known = known
        self._event = event
        self._saved = b""
        self._own: int | None = None
        self._fails = False

    async def load(self) -> None:
        """What earlier processes, and others on this host, remembered. Without ``NAME`` nobody
        knows of which ledger the others' sequences are."""
        if self._file is None:
            return
        known, kept = self._known, await asyncio.to_thread(_read, self._file)
        if kept:
            known.epochs, known.seqs = map(list, zip(*kept["buckets"], strict=True))
            known.histories.update(kept["histories"])
        await self._look(_Whose.ALL if kept else _Whose.NONE)

    async def look(self) -> None:
        """Take over from processes that are gone, and see that this one has its file. Those that
        run notice by themselves: one that has not yet would raise a second alarm here."""
        await self._look(_Whose.GONE)

    async def _look(self, whose: "_Whose") -> None:
        if self._file is None:
            return
        try:
            with ExitStack() as looked_at:
                seqs, gone = await asyncio.to_thread(_look, self._file, looked_at, whose)
                self._known.seqs[:] = map(max, self._known.seqs, seqs)
                if self._own is not None and not os.fstat(self._own).st_nlink:
                    self.close()  # somebody has deleted it
                if self._own is None:
                    raw = SEQS.pack(*self._known.seqs)
                    self._own = await asyncio.to_thread(_new, self._file, raw)
                self.keep()
                if gone and not self._fails:
                    await asyncio.to_thread(_clear, gone)
        except OSError as error:
            self._failed(error)

    def keep(self) -> None:
        """How far the sequences are. By the loop itself: that takes 2 us, by a thread 160; it waits
        only where the file system stands still."""
        if self._own is None:
            return
        try:
            os.pwrite(self._own, SEQS.pack(*self._known.seqs), 0)
            self._fails = False
        except OSError as error:
            self._failed(error)

    async def save(self) -> None:
        """All of it, in place of what there was."""
        known = self._known
        if self._file is None or None in known.epochs:
            return
        buckets = list(zip(known.epochs, known.seqs, strict=True))
        raw = orjson.dumps({"buckets": buckets, "histories": known.histories})
        if raw != self._saved and await asyncio.to_thread(_save, self._file, raw):
            self._saved = raw

    def close(self) -> None:
        """The process's own file stays for who starts next, as a kill would leave it."""
        if self._own is not None:
            os.close(self._own)
            self._own = None

    def _failed(self, error: OSError) -> None:
        if not self._fails:
            self._fails = True
            self._event("what is known of the ledger can't be kept", reason=str(error), advice=LEFT)


# --- in a thread ---------------------------------------------------------------------------------


def _read(file: Path) -> dict[str, Any]:
    """Nothing, where it can't be read or is none of ours."""
    with suppress(OSError, ValueError, TypeError, KeyError):
        kept = orjson.loads(file.read_bytes())
        fit = [
            type(epoch) is str and type(seq) is int and 0 <= seq < 2**64
            for epoch, seq in kept["buckets"]
        ]
        if len(fit) == BUCKETS and all(fit) and isinstance(kept["histories"], dict):
            return dict(kept)
    return {}


def _save(file: Path, raw: bytes) -> bool:
    new = file.with_name(f"{file.name}.new.{os.getpid()}")
    with suppress(OSError):
        new.write_bytes(raw)
        new.replace(file)
        return True
    return False


def _look(file: Path, looked_at: ExitStack, whose: _Whose) -> tuple[list[int], list[Path]]:
    """The highest that they know, and the files of those that are gone: locked, so that nobody else
    takes them over, until ``looked_at`` ends."""
    for _ in range(TRIES):
        with suppress(FileNotFoundError):
            return _look_once(file, looked_at, whose)
        looked_at.close()
    return [0] * BUCKETS, []


def _look_once(file: Path, looked_at: ExitStack, whose: _Whose) -> tuple[list[int], list[Path]]:
    """Raises FileNotFoundError where one was taken over meanwhile: another file says it now."""
    seqs, gone = [0] * BUCKETS, []
    for path in file.parent.glob(glob.escape(file.name) + OWN):
        try:
            other = looked_at.enter_context(path.open("r+b", buffering=0))  # NFS locks no other
        except FileNotFoundError:
            raise
        except OSError:
            continue
        with suppress(OSError):
            is_gone = _locked(other.fileno())
            gone += [path] if is_gone else []
            counts = whose is _Whose.ALL or (whose is _Whose.GONE and is_gone)
            if counts and len(raw := other.read(SEQS.size)) == SEQS.size:
                seqs = list(map(max, seqs, SEQS.unpack(raw)))
    return seqs, gone


def _new(file: Path, raw: bytes) -> int:
    """A file of one's own, locked for as long as it is open. Raises OSError."""
    file.parent.mkdir(parents=True, exist_ok=True)
    for _ in range(TRIES):
        own = file.with_name(f"{file.name}.{uuid4().hex[:8]}")
        fd = os.open(own, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            os.pwrite(fd, raw, 0)
            if _locked(fd) and os.fstat(fd).st_nlink:
                return fd
        except OSError:
            os.close(fd)
            own.unlink(missing_ok=True)
            raise
        os.close(fd)  # somebody took it for left behind, and clears it away
    raise BlockingIOError("other processes are always faster")


def _clear(gone: Iterable[Path]) -> None:
    for path in gone:
        with suppress(OSError):
            path.unlink()


def _locked(fd: int) -> bool:
    """Whether nobody had it locked, and this process has now."""
    with suppress(BlockingIOError):
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False
