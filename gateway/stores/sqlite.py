"""The embedded ledger: one SQLite file, shared by the processes of one host.

All waiting writes go into one transaction with one fsync (``sqlite_writer``), in a thread of
their own or, for simulations, inline on the event loop (``sqlite_lane``); reads have a connection
and a thread of their own. What must be true of file and host is ``sqlite_file``; the SQL is
``sqlite_rows``; what is written is decided by ``steps``.
"""

import asyncio
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, TypeVar

import structlog

from gateway.ledger import (
    Change,
    Claim,
    Counts,
    Hold,
    Lease,
    Leased,
    LedgerUnavailable,
    Page,
    Taking,
    Watchers,
)
from gateway.orders.claiming import Claimed, ClaimRequest
from gateway.orders.entry import Entry
from gateway.orders.states import Status
from gateway.stores import doubting, steps
from gateway.stores.doubting import Said
from gateway.stores.sqlite_batches import ClaimCall, WriteCall
from gateway.stores.sqlite_check import BackgroundCheck
from gateway.stores.sqlite_file import LedgerFile, open_file
from gateway.stores.sqlite_host import HostFacts
from gateway.stores.sqlite_lane import InlineLane, Lane, Op, Patience, ThreadLane
from gateway.stores.sqlite_polling import POLL_S, FilePolling
from gateway.stores.sqlite_rows import SqliteRows
from gateway.stores.sqlite_trust import FileMemory
from gateway.stores.sqlite_writer import SqliteReader, SqliteWriter
from gateway.stores.steps import Kept
from gateway.stores.unreadable import Unreadables
from middleware.clock import Clock
from middleware.tasks import Tasks, TasksClosed

T = TypeVar("T")

log = structlog.get_logger("ordergate", part="ledger")

STORE_TIMEOUT_S = 5.0
"""A thousand times a commit: beyond it the disk hangs, and the client is better told so."""

BUSY_SHARE = 0.5
"""The part of the deadline spent waiting for another process's lock; the rest is for the work."""

CLOSE_TASKS_S = 5.0
"""The tasks of the ledger end at their next await; longer means a disk that hangs."""


@dataclass(slots=True)
class _Parts:
    """What there is while the ledger is open."""

    file: LedgerFile
    writer: SqliteWriter
    writes: Lane
    reads: Lane
    memory: FileMemory
    check: BackgroundCheck | None = None

    def remember(self) -> None:
        self.memory.keep(self.writer.committed_at, now=True)

    def stop_check(self) -> None:
        if self.check is not None:
            self.check.stop()


class SqliteLedger:
    """The ``Ledger`` port on the SQLite file at ``path``.

    ``who`` names the replica in timelines; ``new_holder`` makes ids that never repeat; ``inline``
    commits on the event loop (simulations); ``adopt`` takes over another host's ledger; ``host``
    is read from the machine unless given. Every call ends within ``store_timeout_s``.
    ``disk_failed`` is called once when only another process may go on with the file.
    """

    def __init__(
        self,
        path: Path,
        *,
        clock: Clock,
        who: str,
        lease_s: float,
        new_holder: Callable[[], str],
        store_timeout_s: float = STORE_TIMEOUT_S,
        adopt: bool = False,
        inline: bool = False,
        host: HostFacts | None = None,
        poll_s: float = POLL_S,
        disk_failed: Callable[[str], None] | None = None,
    ) -> None:
        self._polling = FilePolling(self._write, self._read, poll_s=poll_s)
        self.watchers: Watchers = self._polling.watchers
        self._path = path
        self._clock = clock
        self._who = who
        self._lease_s = lease_s
        self._new_holder = new_holder
        self._timeout_s = store_timeout_s
        self._busy_s = store_timeout_s * BUSY_SHARE
        self._adopt = adopt
        self._inline = inline
        self._host = host
        self._disk_failed = disk_failed
        self._parts: _Parts | None = None
        self._hold = Hold("", float("-inf"))
        self._time_offset_s: float | None = None
        self._late: dict[Literal["write", "read"], str] = {}
        self._forgot: Said | None = None
        self._unreadables = Unreadables(clock.monotonic)
        self._tasks = Tasks(self._task_failed)
        self._renewal: asyncio.Task[None] | None = None

    @property
    def delay_s(self) -> float:
        """For how long the oldest write that is not done has waited."""
        return 0.0 if self._parts is None else self._parts.writes.delay_s

    # --- the port ----------------------------------------------------------------------------

    def now(self) -> float:
        if self._time_offset_s is None:
            raise LedgerUnavailable("the ledger was never opened", written=False)
        return self._clock.monotonic() + self._time_offset_s

    @property
    def hold(self) -> Hold:
        return self._hold

    @property
    def trouble(self) -> str | None:
        if self._parts is None:
            return "the ledger is not open"
        writer = self._parts.writer
        troubles = (writer.broken, writer.trouble, writer.log.trouble, *self._late.values())
        return next((trouble for trouble in troubles if trouble is not None), None)

    @property
    def distrusted(self) -> str | None:
        return None if self._forgot is None else self._forgot.advice

    @property
    def unreadable(self) -> Mapping[str, str]:
        return self._unreadables.known

    async def open(self) -> None:
        file = self._open_file() if self._inline else await asyncio.to_thread(self._open_file)
        self._time_offset_s, self._forgot = file.time_offset_s, file.forgot
        self._tasks = Tasks(self._task_failed)
        self._parts = self._make_parts(file)
        try:
            await self._polling.start(self._tasks)
            await self.renew_hold()
        except BaseException:
            self.crash()
            raise
        if not (file.checked or self._inline):
            writer = self._parts.writer
            self._parts.check = BackgroundCheck(file.path, writer.damaged, lambda: writer.log.long)

    async def close(self) -> None:
        parts = self._parts
        if parts is None:
            return
        self._polling.stop()
        await self._tasks.close(CLOSE_TASKS_S)
        holder = self._hold.holder
        self._hold.lapsed = True
        with suppress(LedgerUnavailable):
            await self._write(lambda rows: rows.end_hold(holder))
        self._parts = None
        try:
            async with asyncio.timeout(self._timeout_s):
                await parts.writes.stop()
                await parts.reads.stop()
                await asyncio.to_thread(parts.stop_check)
                await asyncio.to_thread(parts.remember)
        except TimeoutError:
            return  # the disk hangs under a thread of ours: its connection can't be closed
        leave = parts.writer.broken is not None
        if self._inline:
            parts.file.close(leave=leave)
        else:
            await asyncio.to_thread(parts.file.close, leave=leave)

    def crash(self) -> None:
        """What ``kill -9`` leaves of this ledger: waiting writes are gone, the hold runs on."""
        parts, self._parts = self._parts, None
        self._polling.stop()
        if parts is not None:
            self._hold.lapsed = True
            parts.writes.abandon()
            parts.reads.abandon()
            parts.stop_check()
            parts.file.close(leave=True)

    async def renew_hold(self) -> None:
        """One renewal at a time, whoever asks; it ends although they are cancelled."""
        if self._renewal is None or self._renewal.done():
            try:
                self._renewal = self._tasks.start(self._renew(), name="renew the ledger's hold")
            except TasksClosed:
                raise LedgerUnavailable("the ledger is closed", written=False) from None
        await asyncio.shield(self._renewal)

    async def claim(self, request: ClaimRequest) -> Claim:
        hold = self._hold
        if not hold.valid(self._clock.monotonic()):
            hold = await self._valid_hold()
        parts = self._open_parts()
        if (full := parts.writer.log.trouble) is not None:
            raise LedgerUnavailable(full, written=False)
        call: Op[Claimed] = ClaimCall(request, hold.holder)
        if self._forgot is not None:
            make = doubting.making(self._distrusted_since)
            call = partial(steps.claim, request=request, holder=hold.holder, make=make)
        with Taking(hold):
            claimed = await parts.writes.submit(call)
        return steps.as_claim(claimed, hold)

    async def peek(self, request: ClaimRequest) -> Claimed | None:
        holder = self._hold.holder
        return await self._read(lambda rows: steps.peek(rows, request, holder))

    async def write(
        self, lease: Lease, before: Entry, after: Entry, *, due_in_s: float | None = None
    ) -> None:
        doubting.check_lease(before, after, self._distrusted_since)
        await self._open_parts().writes.submit(WriteCall(lease, before, after, due_in_s))

    async def release(self, lease: Lease, *, due_in_s: float) -> None:
        await self._write(lambda rows: rows.give_back(lease, due_in_s))

    async def amend(self, entry_id: str, change: Change, *, evidence: bool = False) -> Entry | None:
        change = doubting.amending(change, self._distrusted_since, self._who, evidence=evidence)
        return await self._write(lambda rows: steps.amend(rows, entry_id, change))

    async def disclaim(self, request: ClaimRequest) -> bool:
        return await self._write(lambda rows: steps.disclaim(rows, request, self._distrusted_since))

    async def lease_due(self, limit: int) -> list[Leased]:
        hold = await self._valid_hold()
        since = self._distrusted_since
        with Taking(hold):
            taken = await self._write(
                lambda rows: steps.lease_due(rows, hold.holder, limit, self._who, since)
            )
        return [Leased(entry, Lease(entry.id, entry.token, hold)) for entry in taken]

    async def find(self, entry_id: str) -> Entry | None:
        return self._shown(await self._read(lambda rows: rows.by_id(entry_id)))

    async def find_by_key(self, scope: str, key: str) -> Entry | None:
        return self._shown(await self._read(lambda rows: rows.by_key(scope, key)))

    def _shown(self, kept: Kept | None) -> Entry | None:
        return None if kept is None else doubting.shown(kept.entry, self._distrusted_since)

    @property
    def _distrusted_since(self) -> float | None:
        """Ledger time: what was written before may be older than it looks; None: trusted."""
        return None if self._forgot is None else self._forgot.at

    async def page(
        self, statuses: tuple[Status, ...] = (), limit: int = 50, after: str | None = None
    ) -> Page:
        return await self._read(lambda rows: rows.page(statuses, limit, after))

    async def counts(self) -> Counts:
        return await self._read(SqliteRows.counts)

    async def retire(self, limit: int) -> tuple[int, int]:
        return await self._write(lambda rows: rows.retire(limit, self._clock.wall()))

    # --- calls -------------------------------------------------------------------------------

    async def _write(self, op: Op[T]) -> T:
        return await self._open_parts().writes.submit(op)

    async def _read(self, op: Op[T]) -> T:
        return await self._open_parts().reads.submit(op)

    def _patience(self, kind: Literal["write", "read"]) -> Patience:
        def over() -> LedgerUnavailable:
            self._late[kind] = f"the ledger has let a {kind} wait for {self._timeout_s:g} s"
            return LedgerUnavailable(self._late[kind], written=None if kind == "write" else False)

        return Patience(self._timeout_s, over)

    def _written(self, changed: Sequence[Entry]) -> None:
        self._late.pop("write", None)
        for entry in changed:
            self.watchers.publish(entry)
        if self._disk_failed is not None and self._parts and self._parts.writer.disk_failed:
            tell, self._disk_failed = self._disk_failed, None
            tell(self._parts.writer.broken or "")

    def _have_read(self, _: Sequence[Entry]) -> None:
        self._late.pop("read", None)

    def _open_parts(self) -> _Parts:
        if self._parts is None:
            raise LedgerUnavailable("the ledger is not open", written=False)
        return self._parts

    def _open_file(self) -> LedgerFile:
        return open_file(
            self._path,
            host=self._host or HostFacts.read(),
            clock=self._clock,
            adopt=self._adopt,
            busy_s=self._busy_s,
            who=self._who,
        )

    def _make_parts(self, file: LedgerFile) -> _Parts:
        met = self._unreadables
        writer = SqliteWriter(file, self.now, self._busy_s, met)
        memory = FileMemory(file.path, file.epoch, lambda: self._clock.wall() - self.now())

        def upkeep() -> None:
            writer.checkpoint()
            memory.keep(writer.committed_at)

        reader = SqliteReader(file, self.now, met)
        of_writes, of_reads = self._patience("write"), self._patience("read")
        if self._inline:
            writes: Lane = InlineLane(writer.commit, self._written, upkeep, of_writes)
            reads: Lane = InlineLane(reader.run, self._have_read, _nothing, of_reads)
        else:
            writes = ThreadLane(
                writer.commit, self._written, upkeep, of_writes, name="ledger writer"
            )
            reads = ThreadLane(
                reader.run, self._have_read, _nothing, of_reads, name="ledger reader"
            )
        return _Parts(file, writer, writes, reads, memory)

    # --- the hold ----------------------------------------------------------------------------

    async def _valid_hold(self) -> Hold:
        """The hold, or a new one where it has lapsed: an order need not wait for the next
        renewal."""
        if not self._hold.valid(self._clock.monotonic()):
            try:
                await self.renew_hold()
            except LedgerUnavailable as trouble:  # what is under way is a hold, and no entry
                raise LedgerUnavailable(trouble.detail, written=False) from trouble
        return self._hold

    async def _renew(self) -> None:
        hold, start = self._hold, self._clock.monotonic()
        if hold.valid(start):
            renewed, forgot = await self._write(lambda rows: self._renew_row(rows, hold.holder))
            self._have_read_trust(forgot)
            if renewed and hold.valid(self._clock.monotonic()):
                hold.trusted_until = steps.trusted_until(start, self._lease_s)
                return
        hold.lapsed = True
        holder, start = self._new_holder(), self._clock.monotonic()
        await self._write(lambda rows: rows.take_hold(holder, os.getpid(), self._lease_s))
        self._hold = Hold(holder, steps.trusted_until(start, self._lease_s))

    def _renew_row(self, rows: SqliteRows, holder: str) -> tuple[bool, Said | None]:
        return rows.renew_hold(holder, self._lease_s), rows.forgot()

    def _have_read_trust(self, forgot: Said | None) -> None:
        """An operator may have said that the ledger is to be trusted again."""
        if forgot is None and self._forgot is not None:
            log.info("the ledger is trusted again")
        self._forgot = forgot

    def _task_failed(self, name: str, error: BaseException) -> None:
        """An unavailable ledger was told to whoever asked; anything else is a bug, and shown."""
        if not isinstance(error, LedgerUnavailable):
            self._late["write"] = f"could not {name}: {error!r}"


def _nothing() -> None:
    """After a read there is nothing more to do."""
