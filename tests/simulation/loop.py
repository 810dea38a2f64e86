"""An event loop on virtual time that knows which simulated process each callback belongs to.

Time moves only when nothing is ready, and then straight to the next timer. Callbacks run first
in, first out, as on real loops; timers of one instant run in the order they were set. Nothing
here asks the machine for time, chance, threads or sockets, so that one seed is one history.

A *life* is one run of a process on a host, from start to crash. A context variable tags every
callback, timer and task with the life that made it. A paused life keeps its callbacks until it
is resumed. A crashed life is frozen: its callbacks are dropped and its tasks are kept, never
resumed and never finalised until the world is over, so that no ``finally`` block of a dead
process runs while anything could see it.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Generator, Sequence
from concurrent.futures import Executor
from contextvars import Context
from heapq import heapify, heappop, heappush
from typing import Any, Protocol, TypeVar, TypeVarTuple

from .lives import Handle, Life, TimerHandle, here, life_in

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

STEPS_MAX = 2_000_000
"""A history takes some thousands of callbacks; a thousand times that is a loop without end."""

TIME_S_MAX = 30 * 86_400.0
"""Tombstones last 30 days; nothing that a history waits for lies beyond."""

CLOSES_MAX = 100
"""How often a coroutine may refuse to end (an ``await`` in ``finally``) before it is a bug."""

CANCELLED_TIMERS_MAX = 256
"""Cancelled timers are swept out when they are this many and half of all: memory, not truth."""


class Stuck(Exception):
    """The history can't go on: nothing will ever happen again, or it never stops happening."""


class Wires(Protocol):
    """What the loop asks of the network."""

    async def connect(
        self, factory: Callable[[], asyncio.BaseProtocol], host: str, port: int
    ) -> tuple[asyncio.Transport, asyncio.BaseProtocol]: ...

    def listen(
        self, factory: Callable[[], asyncio.BaseProtocol], port: int
    ) -> asyncio.AbstractServer: ...

    def address_of(self, host: str) -> str: ...


class SimulatedLoop(asyncio.BaseEventLoop):
    """asyncio's own loop with virtual time in place of the selector.

    ``executor_delay_s`` is drawn twice for each ``run_in_executor`` call: before the work, and
    between the work and its result, so that a crash can fall on either side. Work of one
    executor is done in order, one at a time. The default runs it at once.
    """

    def __init__(self, *, steps_max: int = STEPS_MAX, time_s_max: float = TIME_S_MAX) -> None:
        super().__init__()
        self.steps = 0
        self.steps_max = steps_max
        self.time_s_max = time_s_max
        self._stopping: bool  # BaseEventLoop's: set by stop(), read by run_forever()
        self.network: Wires | None = None
        self.executor_delay_s: Callable[[], float] = lambda: 0.0
        self.outside = Life("-", 0)
        self._lives: list[Life] = [self.outside]
        self._now = 0.0
        self._order = 0
        self._task_count = 0
        self._over = False
        self._queue: deque[Handle | TimerHandle] = deque()
        self._timers: list[tuple[float, int, Handle | TimerHandle]] = []
        self._timers_cancelled = 0
        self._executor_free_at: dict[tuple[Life | None, Executor | None], float] = {}

    # Scheduling

    def time(self) -> float:
        return self._now

    def call_soon(
        self,
        callback: Callable[[*Ts], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.Handle:
        handle = Handle(callback, args, self, context)
        if not self._over:
            self._queue.append(handle)
        return handle

    def call_soon_threadsafe(
        self,
        callback: Callable[[*Ts], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.Handle:
        return self.call_soon(callback, *args, context=context)

    def call_at(
        self,
        when: float,
        callback: Callable[[*Ts], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        handle = TimerHandle(when, callback, args, self, context)
        if not self._over:
            self._order += 1
            heappush(self._timers, (when, self._order, handle))
        return handle

    def call_later(
        self,
        delay: float,
        callback: Callable[[*Ts], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        when = self._now + delay
        handle = TimerHandle(when, callback, args, self, context)
        if not self._over:
            self._order += 1
            heappush(self._timers, (when, self._order, handle))
        return handle

    def after(
        self, delay_s: float, callback: Callable[..., object], args: Sequence[Any], context: Context
    ) -> None:
        """``call_later`` of what nobody will cancel, such as a segment on the wire."""
        if not self._over:
            self._order += 1
            handle = Handle(callback, args, self, context)
            heappush(self._timers, (self._now + delay_s, self._order, handle))

    def create_task(
        self,
        coro: Coroutine[Any, Any, T] | Generator[Any, None, T],
        *,
        name: object = None,
        context: Context | None = None,
        **options: Any,
    ) -> asyncio.Task[T]:
        """A task that its life remembers; unnamed ones are numbered by this loop, not globally."""
        self._task_count += 1
        label = f"task-{self._task_count}" if name is None else str(name)
        task = asyncio.Task(coro, loop=self, name=label, context=context, **options)
        life = life_in(context) or self.outside
        life.tasks.append(task)
        if len(life.tasks) > life.tasks_before_sweep and not self._over:
            life.tasks = [item for item in life.tasks if not item.done() or unretrieved(item)]
            life.tasks_before_sweep = 64 + 2 * len(life.tasks)
        return task

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[*Ts], T], *args: *Ts
    ) -> asyncio.Future[T]:
        future: asyncio.Future[T] = self.create_future()
        key = (here(), executor)
        begin = max(self._now, self._executor_free_at.get(key, 0.0)) + self.executor_delay_s()
        end = self._executor_free_at[key] = begin + self.executor_delay_s()

        def work() -> None:
            try:
                result = func(*args)
            except Exception as error:  # noqa: BLE001 - as an executor does, whatever it is
                self._at(end, _fail, future, error)
            else:
                self._at(end, _succeed, future, result)

        self._at(begin, work)
        return future

    def _at(self, when: float, callback: Callable[[*Ts], object], *args: *Ts) -> None:
        if when <= self._now:
            callback(*args)
        else:
            self.call_at(when, callback, *args)

    # Lives

    def begin(self, host: str, number: int) -> Life:
        """A new life, running."""
        life = Life(host, number)
        self._lives.append(life)
        return life

    def resume(self, life: Life) -> None:
        """Let a paused life run: what was ready or arrived first, then timers, as epoll does."""
        life.paused = False
        self._queue.extend(life.held)
        self._queue.extend(life.held_timers)
        life.held, life.held_timers = [], []

    def bury(self) -> None:
        """End the world: close the loop, then every coroutine, in lives that are no more."""
        self._over = True
        self.close()
        self._queue.clear()
        self._timers.clear()
        asyncio._set_running_loop(self)  # what runs while it closes may make tasks
        try:
            for life in self._lives:
                life.alive = False
                for task in life.tasks:  # with those made meanwhile
                    life.context.run(_bury, task)
                life.tasks = []
                life.held, life.held_timers = [], []
        finally:
            asyncio._set_running_loop(None)

    def unretrieved_errors(self) -> list[BaseException]:
        """The exceptions of living lives' tasks that nobody has looked at; each only once."""
        tasks = [task for life in self._lives if life.alive for task in life.tasks]
        return [error for task in tasks if (error := unretrieved(task)) and task.exception()]

    # Running: the method of BaseEventLoop that meets real time

    def _run_once(self) -> None:
        """Run until ``stop``: run_forever, which calls this again and again, asks no more often."""
        queue, timers = self._queue, self._timers
        while True:
            if not queue and not self._stopping:
                self._jump()
            now = self._now
            while timers and timers[0][0] <= now:
                due = heappop(timers)[2]
                if due._cancelled:
                    continue
                if due.life is not None and due.life.paused:
                    due.life.held_timers.append(due)
                else:
                    queue.append(due)
            self._run_batch(queue, len(queue))
            if self._stopping:
                return

    def _run_batch(self, queue: "deque[Handle | TimerHandle]", count: int) -> None:
        """What was ready when the turn of the loop began, and nothing that it makes ready."""
        self.steps += count
        if self.steps > self.steps_max:
            raise Stuck(f"{self.steps_max} steps, now at {self._now:.3f} s: a livelock?")
        for _ in range(count):
            handle = queue.popleft()
            life = handle.life
            if life is not None and (life.fuse_steps or life.paused or not life.alive):
                self._hinder(life, handle)
                if life.paused or not life.alive:
                    continue
            if handle._cancelled:
                continue
            try:
                handle._context.run(handle._callback, *handle._args)
            except (SystemExit, KeyboardInterrupt):
                raise
            except BaseException as error:  # noqa: BLE001 - as asyncio's handles do
                told = {"message": "callback failed", "exception": error, "handle": handle}
                self.call_exception_handler(told)

    def _hinder(self, life: Life, handle: Handle | TimerHandle) -> None:
        """Burn the life's fuse, where it runs; keep what comes while it is paused."""
        if life.fuse_steps and life.alive and not life.paused:
            life.burn()
        if life.alive and life.paused and not handle._cancelled:
            life.held.append(handle)

    def timer_cancelled(self) -> None:
        """By its handle, which stays where it is until many are swept out."""
        self._timers_cancelled += 1
        if self._timers_cancelled > CANCELLED_TIMERS_MAX + len(self._timers) // 2:
            self._timers[:] = [item for item in self._timers if not item[2]._cancelled]
            heapify(self._timers)
            self._timers_cancelled = 0

    def _jump(self) -> None:
        """Nothing is ready: on to the next timer."""
        while self._timers:
            when, _, handle = self._timers[0]
            if not handle._cancelled and (handle.life is None or handle.life.alive):
                break
            heappop(self._timers)
        else:
            raise Stuck(f"deadlock at {self._now:.3f} s: {self._who_waits()}")
        if when > self.time_s_max:
            raise Stuck(f"past {self.time_s_max} s of virtual time: {self._who_waits()}")
        self._now = max(self._now, when)

    def _who_waits(self) -> str:
        lines = ["nothing is ready; these tasks are pending:"]
        for life in self._lives:
            state = ("", " (paused)")[life.paused] if life.alive else " (crashed)"
            lines += [
                f"  {life.host}{state} {task.get_name()} {_where(task)}"
                for task in life.tasks
                if not task.done()
            ]
        return "\n".join(lines)

    # The network's part

    async def create_connection(  # type: ignore[override]
        self,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        host: str | None = None,
        port: int | None = None,
        **options: Any,
    ) -> tuple[asyncio.Transport, asyncio.BaseProtocol]:
        network = self._network(options)
        if host is None or port is None:
            raise ValueError("a simulated connection needs a host and a port")
        return await network.connect(protocol_factory, host, port)

    async def create_server(  # type: ignore[override]
        self,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        host: str | None = None,
        port: int | None = None,
        **options: Any,
    ) -> asyncio.AbstractServer:
        """Listen on every address of the calling host: a simulated host has one."""
        return self._network(options).listen(protocol_factory, port or 0)

    async def getaddrinfo(  # type: ignore[override]
        self, host: str, port: int, **options: Any
    ) -> list[tuple[int, int, int, str, tuple[str, int]]]:
        address = self._network({}).address_of(host)
        return [(2, 1, 6, "", (address, port))]  # AF_INET, SOCK_STREAM, IPPROTO_TCP

    def _network(self, options: dict[str, Any]) -> Wires:
        for name in ("ssl", "sock"):
            if options.get(name):
                raise NotImplementedError(f"{name} is not simulated")
        if self.network is None:
            raise RuntimeError("this loop has no network")
        return self.network


def unretrieved(future: "asyncio.Future[Any]") -> BaseException | None:
    """The exception of a future that nobody has looked at. Looking this way does not count."""
    if future.done() and future._log_traceback:
        return future._exception
    return None


def _succeed(future: "asyncio.Future[T]", result: T) -> None:
    if not future.done():
        future.set_result(result)


def _fail(future: "asyncio.Future[T]", error: Exception) -> None:
    if not future.done():
        future.set_exception(error)


def _bury(task: "asyncio.Task[Any]") -> None:
    """Close the task's coroutine without a word; its life is over, so that effects are void."""
    task._log_destroy_pending = False  # type: ignore[attr-defined]
    if task.done():
        task._log_traceback = False
        return
    coroutine: Any = task.get_coro()
    for _ in range(CLOSES_MAX):
        try:
            coroutine.close()
        except BaseException:  # noqa: BLE001 - the dead have no say; try until it has ended
            continue
        return


def _where(task: "asyncio.Task[Any]") -> str:
    """The innermost line at which a task waits."""
    inner: Any = task.get_coro()
    while getattr(inner, "cr_await", None) is not None and hasattr(inner.cr_await, "cr_frame"):
        inner = inner.cr_await
    frame = getattr(inner, "cr_frame", None)
    return f"at {frame.f_code.co_filename}:{frame.f_lineno}" if frame else "not started"
