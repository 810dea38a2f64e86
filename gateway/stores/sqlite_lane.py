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

from gateway.ledger import LedgerUnavailable
from gateway.orders.entry import Entry
from gateway.stores.sqlite_rows import SqliteRows

T = TypeVar("T")

BATCH_MAX = 256
"""Calls in one transaction: some 10 ms of work, which the first of them waits for too."""

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

    The thread is woken once for all calls of a turn of the loop, and not at all while it works: it
    looks for more by itself. (A wake-up a call made it contend for Python's lock with each.)
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
        self._calls: deque[_Call] = deque()
        self._bell: SimpleQueue[None] = SimpleQueue()
        self._asleep = True
        self._ringing = False
        self._ended = asyncio.Event()
        self._abandoned = False
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def submit(self, op: Op[T]) -> asyncio.Future[T]:
        call = self._enter(op)
        self._calls.append(call)
        if self._asleep and not self._ringing:
            self._ringing = True
            self._loop.call_soon(self._ring)
        return call.future

    def _ring(self) -> None:
        self._ringing = self._asleep = False
        self._bell.put(None)

    async def stop(self) -> None:
        if not self._stopped:
            self._stopped = True
            self._bell.put(None)
        await self._ended.wait()
        self._stop_timer()

    def abandon(self) -> None:
        self._stopped = self._abandoned = True
        self._stop_timer()
        self._bell.put(None)
        self._thread.join()

    def _work(self) -> None:
        while True:
            batch = self._next_batch()
            if self._abandoned:
                return
            if batch:
                self._post(self._deliver, batch, self._run_batch(batch))
                self._afterwards()
            elif self._stopped:
                break
            else:
                self._bell.get()
        self._post(self._ended.set)

    def _next_batch(self) -> list[_Call]:
        """All that wait. Where none does, ``_asleep`` is set before a second look: whoever comes
        after that look sees it, and rings."""
        batch: list[_Call] = []
        while len(batch) < BATCH_MAX:
            try:
                batch.append(self._calls.popleft())
            except IndexError:
                if batch or self._asleep:
                    break
                self._asleep = True
        self._asleep = not batch
        return batch

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
