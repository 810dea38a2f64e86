"""Waking those who wait for an order that another process writes to the file: nobody tells, so it
is looked at, while anybody watches."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Any, Protocol, TypeVar

from gateway.ledger import LedgerUnavailable, Watch, Watchers
from gateway.stores.sqlite_lane import Op
from gateway.stores.sqlite_rows import SqliteRows
from middleware.tasks import Tasks, TasksClosed

T = TypeVar("T")

POLL_S = 0.05
"""How soon a waiter hears of what another process wrote: well under what a person notices, and
one pragma a time."""

LOOK_SHARE = 0.1
"""The part of the time that looking may take: ten thousand watched orders, and another process
that writes all the time, cost a tenth of the reader's time, and the waiters some of theirs."""

LOOK_BATCH = 50
"""Entries read at once: some milliseconds of the reader, in which others wait."""

LOOK_EVERY_MAX_S = 0.5
"""And no more than this of the waiters' time: a person hardly notices."""


class Ask(Protocol):
    """A call to a lane."""

    def __call__(self, op: Op[T], /) -> Coroutine[Any, Any, T]: ...


class PolledWatchers(Watchers):
    """Says when somebody begins to watch, so that nothing is polled while nobody does."""

    def __init__(self, begin: Callable[[], None]) -> None:
        super().__init__()
        self._begin = begin

    def add(self, entry_id: str, notify: Callable[[], None] | None = None) -> Watch:
        watch = super().add(entry_id, notify)
        self._begin()
        return watch


class FilePolling:
    """The duty behind ``watchers``: works while somebody watches, and the ledger is open."""

    def __init__(self, write: Ask, read: Ask, *, poll_s: float) -> None:
        self.watchers = PolledWatchers(self._begin)
        self._write = write
        self._read = read
        self._poll_s = poll_s
        self._tasks: Tasks | None = None
        self.task: asyncio.Task[None] | None = None
        self._data_version = 0

    async def start(self, tasks: Tasks) -> None:
        self._data_version = await self._write(SqliteRows.data_version)
        self._tasks = tasks

    def stop(self) -> None:
        self._tasks = None

    def _begin(self) -> None:
        if self._tasks is None or (self.task is not None and not self.task.done()):
            return
        with suppress(TasksClosed):
            self.task = self._tasks.start(self._poll(), name="watch the ledger's file")

    async def _poll(self) -> None:
        while self.watchers.watched and self._tasks is not None:
            took_s = 0.0
            with suppress(LedgerUnavailable):
                took_s = await self._look()
            await asyncio.sleep(max(self._poll_s, min(took_s / LOOK_SHARE, LOOK_EVERY_MAX_S)))

    async def _look(self) -> float:
        """Publish the watched entries that changed, where another process has written at all; how
        long the reading of the versions took."""
        data_version = await self._write(SqliteRows.data_version)
        if data_version == self._data_version:
            return 0.0
        began, watched = asyncio.get_running_loop().time(), self.watchers.watched
        versions = await self._read(lambda rows: rows.versions(watched))
        took_s = asyncio.get_running_loop().time() - began
        changed = [each for each, version in versions if version != self.watchers.known(each)]
        for start in range(0, len(changed), LOOK_BATCH):
            await self._publish(changed[start : start + LOOK_BATCH])
        self._data_version = data_version
        return took_s

    async def _publish(self, entry_ids: Sequence[str]) -> None:
        for entry in await self._read(lambda rows: rows.readable(entry_ids)):
            self.watchers.publish(entry)
