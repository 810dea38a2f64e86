"""Which simulated process a callback belongs to: one run of it, from start to crash."""

import asyncio
from collections.abc import Callable, Sequence
from contextvars import Context, ContextVar, copy_context
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .loop import SimulatedLoop

_LIFE: ContextVar["Life | None"] = ContextVar("life", default=None)


class Ended(BaseException):
    """The process of this code has crashed: whatever it does now must have no effect.

    Not an Exception, so that the code under test can't take it for a fault to be handled.
    """


class Life:
    """One run of a process. ``alive`` never comes back; a restart is another life."""

    def __init__(self, host: str, number: int) -> None:
        self.host = host
        self.number = number
        self.alive = True
        self.paused = False
        self.fuse_steps = 0
        self.on_fuse: Callable[[], object] = _nothing
        self.tasks: list[asyncio.Task[Any]] = []
        self.tasks_before_sweep = 64
        self.held: list[Handle | TimerHandle] = []
        self.held_timers: list[Handle | TimerHandle] = []
        self.context = Context()
        self.context.run(_LIFE.set, self)

    def light(self, steps: int, strike: Callable[[], object]) -> None:
        """Call ``strike`` before the callback that is so many ahead: at any ``await``."""
        self.fuse_steps = steps
        self.on_fuse = strike

    def burn(self) -> None:
        self.fuse_steps -= 1
        if not self.fuse_steps:
            self.on_fuse()


def here() -> Life | None:
    """The life that the running callback belongs to; None in the test's own code."""
    return _LIFE.get()


def ensure_alive() -> None:
    """Raise Ended where the running code belongs to a dead process.

    Everything whose effects outlive a process (a store, a disk) calls this before each effect.
    """
    life = _LIFE.get()
    if life is not None and not life.alive:
        raise Ended(f"{life.host} life {life.number}")


class Handle(asyncio.Handle):
    """asyncio's, made and cancelled with less ado: it knows its life, and not where it comes
    from."""

    __slots__ = ("life",)
    life: "Life | None"
    _callback: Callable[..., object]
    _context: Context

    def __init__(
        self,
        callback: Callable[..., object],
        args: Sequence[Any],
        loop: "SimulatedLoop",
        context: Context | None,
    ) -> None:
        if context is None:
            self._context = copy_context()
            self.life = _LIFE.get()
        else:
            self._context = context
            self.life = context.get(_LIFE)
        self._loop = loop
        self._callback = callback
        self._args = args
        self._cancelled = False
        self._repr = None
        self._source_traceback = None

    def cancel(self) -> None:
        self._cancelled = True
        self._callback, self._args = _nothing, ()


class TimerHandle(asyncio.TimerHandle):
    """The same for timers."""

    __slots__ = ("life",)
    life: "Life | None"
    _loop: "SimulatedLoop"
    _callback: Callable[..., object]
    _context: Context

    def __init__(
        self,
        when: float,
        callback: Callable[..., object],
        args: Sequence[Any],
        loop: "SimulatedLoop",
        context: Context | None,
    ) -> None:
        if context is None:
            self._context = copy_context()
            self.life = _LIFE.get()
        else:
            self._context = context
            self.life = context.get(_LIFE)
        self._loop = loop
        self._callback = callback
        self._args = args
        self._cancelled = False
        self._repr = None
        self._source_traceback = None
        self._when = when
        self._scheduled = True

    def cancel(self) -> None:
        if not self._cancelled:
            self._loop.timer_cancelled()
            self._cancelled = True
            self._callback, self._args = _nothing, ()


def life_in(context: Context | None) -> Life | None:
    return _LIFE.get() if context is None else context.get(_LIFE)


def _nothing() -> None:
    pass
