"""The only place that starts tasks: named, referenced, awaited at shutdown."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from middleware.errors import CannotGoOn

T = TypeVar("T")


class TasksClosed(CannotGoOn):
    """A task was to be started after the owner began to stop. Nothing of it has run."""

    repeat_is_safe = True


def result_of(ended: "asyncio.Future[T]") -> T | None:
    """None where it was cancelled or failed."""
    if ended.cancelled() or ended.exception() is not None:
        return None
    return ended.result()


async def ended_by(work: "asyncio.Future[Any]", when: float) -> bool:
    """Wait for ``work`` until ``when`` (loop time), and no longer; whether it has ended.

    Neither the end of the time nor the caller's being cancelled disturbs it. (A shield and a
    timeout together do the same at three times the cost.)
    """
    if work.done():
        return True
    loop = asyncio.get_running_loop()
    waiter: asyncio.Future[None] = loop.create_future()

    def wake(_: object = None) -> None:
        if not waiter.done():
            waiter.set_result(None)

    timer = loop.call_at(when, wake)
    work.add_done_callback(wake)
    try:
        await waiter
    finally:
        timer.cancel()
        work.remove_done_callback(wake)
    return work.done()


class Tasks:
    """Owns every task it starts, until the task ends.

    ``on_failure(name, error)`` is told of each task that ended by an exception, so that none
    dies unheard. It must not raise.
    """

    def __init__(self, on_failure: Callable[[str, BaseException], None]) -> None:
        self._on_failure = on_failure
        self._running: set[asyncio.Task[Any]] = set()
        self._closed = False

    def __len__(self) -> int:
        return len(self._running)

    @property
    def names(self) -> list[str]:
        """The names of what still runs, for the log of a shutdown that takes long."""
        return sorted(task.get_name() for task in self._running)

    def start(self, coro: Coroutine[Any, Any, T], *, name: str) -> asyncio.Task[T]:
        """Run ``coro`` in a task of its own. Raises TasksClosed after ``close`` was called."""
        if self._closed:
            coro.close()
            raise TasksClosed(f"{name} was to start while stopping")
        task = asyncio.get_running_loop().create_task(coro, name=name)
        self._running.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if task.cancelled():
            return
        error = task.exception()
        if error is not None:
            self._on_failure(task.get_name(), error)

    async def finish(self, timeout_s: float) -> bool:
        """Wait until nothing runs, without cancelling; False if the time ran out first.

        Tasks that are started meanwhile are waited for too.
        """
        loop = asyncio.get_running_loop()
        end = loop.time() + timeout_s
        while self._others():
            left = end - loop.time()
            if left <= 0:
                return False
            await asyncio.wait(self._others(), timeout=left)
        return True

    async def close(self, timeout_s: float) -> list[str]:
        """Refuse new tasks, cancel the running ones and wait for them.

        Returns the names of those that had not ended after ``timeout_s``: bugs, to be logged.
        """
        self._closed = True
        running = self._others()
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running, timeout=timeout_s)
        return sorted(task.get_name() for task in running if not task.done())

    def _others(self) -> set[asyncio.Task[Any]]:
        """All but the caller, so that a task of ours may ask for the end of the others."""
        return self._running - {asyncio.current_task()}
