"""A lane: calls wait in line, and all that wait are run as one batch.

In production a thread of its own runs the batches; in a simulation the event loop does, at its
next turn. Either way a call runs to its end although its caller has gone.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any, NamedTuple, Protocol, TypeAlias, TypeVar

import structlog

from gateway.ledger import LedgerUnavailable
from gateway.orders.entry import Entry
from gateway.stores.sqlite_rows import SqliteRows

T = TypeVar("T")

log = structlog.get_logger("ordergate", part="ledger")

BATCH_MAX = 256
"""Calls in one transaction: some 10 ms of work, which the first of them waits for too."""

GATHER_S = 0.002
"""A busy loop may add to a batch for so long: a disk's sync takes about as long."""

QUIET_TURNS = 5
"""Of the event loop that bring no call end a batch: some 20 us where there is nothing to do. With
one, batches were half as large and an order cost a fifth more."""

WAITING_MAX = 4096
"""Calls in line: a second of work on a slow disk. Beyond it, waiting helps nobody."""

Op: TypeAlias = Callable[[SqliteRows], T]


class Done(NamedTuple):
    """What became of a batch: for each call its value or the exception it ends with; the entries
    that were changed durably."""

    outcomes: list[Any]
    changed: Sequence[Entry] = ()


class _Call(NamedTuple):
    op: Op[Any]
    future: asyncio.Future[Any]


Run: TypeAlias = Callable[[Sequence[Op[Any]]], Done]
"""Runs a batch."""

Heard: TypeAlias = Callable[[Sequence[Entry]], None]
"""Hears of each batch that has ended, on the event loop, with the entries that it changed."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a call waits for its outcome, and what it is told then."""

    limit_s: float
    over: Callable[[], LedgerUnavailable]


class Lane(Protocol):
    @property
    def delay_s(self) -> float:
        """For how long the oldest call that is not answered has waited."""
        ...

    def submit(self, op: Op[T]) -> asyncio.Future[T]:
        """LedgerUnavailable (nothing written) where too many wait, or the lane has stopped; what
        ``Patience`` says where it has waited for too long, and then it may still be run."""
        ...

    async def stop(self) -> None:
        """Run what waits, and end."""
        ...

    def abandon(self) -> None:
        """End at once: what waits is never run and never answered."""
        ...


class _Line:
    """What both lanes share: the bounds, and the handing back of results.

    ``afterwards`` runs where the batches run, once one was handed back: for work nobody awaits.
    One timer serves all that wait: a timer a call costs more than the call.
    """

    def __init__(
        self, run: Run, heard: Heard, afterwards: Callable[[], None], patience: Patience
    ) -> None:
        self._run = run
        self._heard = heard
        self._afterwards = afterwards
        self._patience = patience
        self._loop = asyncio.get_running_loop()
        self._deadlines: deque[tuple[float, asyncio.Future[Any]]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._waiting = 0
        self._stopped = False

    def _enter(self, op: Op[T]) -> _Call:
        if self._stopped:
            raise LedgerUnavailable("the ledger is closed", written=False)
        if self._waiting >= WAITING_MAX:
            raise LedgerUnavailable("too many calls wait for the ledger", written=False)
        self._waiting += 1
        future: asyncio.Future[T] = self._loop.create_future()
        self._forget_ended()
        self._deadlines.append((self._loop.time() + self._patience.limit_s, future))
        if self._timer is None:
            self._timer = self._loop.call_later(self._patience.limit_s, self._end_late)
        return _Call(op, future)

    @property
    def delay_s(self) -> float:
        self._forget_ended()
        if not self._deadlines:
            return 0.0
        return self._loop.time() - self._deadlines[0][0] + self._patience.limit_s

    def _forget_ended(self) -> None:
        deadlines = self._deadlines
        while deadlines and deadlines[0][1].done():
            deadlines.popleft()

    def _end_late(self) -> None:
        """Tell those that have waited for too long; come again for the next in line."""
        now, self._timer = self._loop.time(), None
        self._forget_ended()
        while self._deadlines and self._deadlines[0][0] <= now:
            self._deadlines.popleft()[1].set_exception(self._patience.over())
            self._forget_ended()
        if self._deadlines:
            self._timer = self._loop.call_at(self._deadlines[0][0], self._end_late)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _run_batch(self, batch: Sequence[_Call]) -> Done:
        try:
            return self._run([call.op for call in batch])
        except Exception as error:  # noqa: BLE001 - a bug; nobody may wait for ever because of it
            return Done([error for _ in batch])

    def _deliver(self, batch: Sequence[_Call], done: Done) -> None:
        self._waiting -= len(batch)
        for call, outcome in zip(batch, done.outcomes, strict=True):
            if call.future.done():
                continue  # its caller has gone
            if isinstance(outcome, BaseException):
                call.future.set_exception(outcome)
            else:
                call.future.set_result(outcome)
        self._heard(done.changed)


class ThreadLane(_Line):
    """Batches run in one dedicated thread; results come back in one callback a batch.

    A batch is handed over once the event loop has nothing more to add to it: most of what a small
    batch costs is the transaction, and while the loop is busy, the thread would only contend with
    it for Python's lock. What comes while a batch runs is the next one.
    """

    def __init__(
        self,
        run: Run,
        heard: Heard,
        afterwards: Callable[[], None],
        patience: Patience,
        *,
        name: str,
    ) -> None:
        super().__init__(run, heard, afterwards, patience)
        self._calls: list[_Call] = []
        self._batches: SimpleQueue[list[_Call] | None] = SimpleQueue()
        self._running = False
        self._gathering = False
        self._gathered = 0
        self._quiet_turns = 0
        self._gather_until = 0.0
        self._ended = asyncio.Event()
        self._abandoned = False
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def submit(self, op: Op[T]) -> asyncio.Future[T]:
        call = self._enter(op)
        self._calls.append(call)
        if not self._running and not self._gathering:
            self._begin_gathering()
        return call.future

    def _begin_gathering(self) -> None:
        self._gathering, self._gathered, self._quiet_turns = True, 0, 0
        self._gather_until = self._loop.time() + GATHER_S
        self._loop.call_soon(self._gather)

    def _gather(self) -> None:
        """Look again at the next turn of the loop, while some bring more calls."""
        waiting = len(self._calls)
        self._quiet_turns = self._quiet_turns + 1 if waiting == self._gathered else 0
        self._gathered = waiting
        whole = self._quiet_turns >= QUIET_TURNS or waiting >= BATCH_MAX or self._stopped
        if whole or self._loop.time() >= self._gather_until:
            self._gathering = False
            self._hand_over()
        else:
            self._loop.call_soon(self._gather)

    def _hand_over(self) -> None:
        if self._running or self._abandoned:
            return
        if self._calls:
            self._running = True
            batch, self._calls = self._calls[:BATCH_MAX], self._calls[BATCH_MAX:]
            self._batches.put(batch)
        elif self._stopped:
            self._running = True  # for good: the thread ends
            self._batches.put(None)

    def _came_back(self, batch: Sequence[_Call], done: Done) -> None:
        self._running = False
        if self._stopped:
            self._hand_over()
        elif self._calls:
            self._begin_gathering()
        self._deliver(batch, done)

    async def stop(self) -> None:
        self._stopped = True
        self._hand_over()
        await self._ended.wait()
        self._stop_timer()

    def abandon(self) -> None:
        self._stopped = self._abandoned = True
        self._stop_timer()
        self._batches.put(None)
        self._thread.join()

    def _work(self) -> None:
        while (batch := self._batches.get()) is not None and not self._abandoned:
            self._post(self._came_back, batch, self._run_batch(batch))
            try:
                self._afterwards()
            except Exception as error:
                # A bug, or no memory: the calls that come must still be made.
                log.exception("upkeep failed", reason=str(error))
        if not self._abandoned:
            self._post(self._ended.set)

    def _post(self, callback: Callable[..., None], *args: object) -> None:
        with suppress(RuntimeError):  # the loop has been closed over our heads
            self._loop.call_soon_threadsafe(callback, *args)


class InlineLane(_Line):
    """Batches run on the event loop, at the turn after the first call: no thread, no chance."""

    def __init__(
        self, run: Run, heard: Heard, afterwards: Callable[[], None], patience: Patience
    ) -> None:
        super().__init__(run, heard, afterwards, patience)
        self._calls: list[_Call] = []

    def submit(self, op: Op[T]) -> asyncio.Future[T]:
        call = self._enter(op)
        if not self._calls:
            self._loop.call_soon(self._flush)
        self._calls.append(call)
        return call.future

    async def stop(self) -> None:
        self._stopped = True
        while self._calls:
            self._flush()
        self._stop_timer()

    def abandon(self) -> None:
        self._stopped = True
        self._stop_timer()
        self._calls.clear()

    def _flush(self) -> None:
        batch, self._calls = self._calls[:BATCH_MAX], self._calls[BATCH_MAX:]
        if not batch:
            return
        if self._calls:
            self._loop.call_soon(self._flush)
        self._deliver(batch, self._run_batch(batch))
        self._afterwards()
