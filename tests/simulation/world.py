"""A world: hosts, their clocks and faults, one seed, one history.

    def test_something() -> None:
        world = World(seed=7)
        server = world.host("server")
        async def story() -> str:
            world.spawn(server, serve())
            ...
        assert world.run(story()) == "told"

``run`` takes the test's own coroutine, which lives on no host: it spawns, waits, breaks things.
An exception that nobody looked at, on a living host, fails the run. When the coroutine ends the
world does: hosts lose their power, sockets close without a word, frozen coroutines are closed
with all effects void, so that nothing is left for the garbage collector to complain about. The
collector is off meanwhile: its moments are not ours to repeat.

What several lives share in this process (a store, a disk, books) must call ``ensure_alive``
before each effect, and must not keep an asyncio lock of a process that can die. Sets of objects
must not be iterated where the order shows: it is the order of addresses in memory.
"""

import asyncio
import gc
import hashlib
import random
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from contextvars import Context
from enum import StrEnum
from functools import partial
from math import floor
from typing import Any, TypeVar

from .lives import Life, here
from .loop import STEPS_MAX, TIME_S_MAX, SimulatedLoop, unretrieved
from .network import Conditions, Network

T = TypeVar("T")

EPOCH_S = 1_767_225_600.0
"""Wall time when a world begins (2026-01-01T00:00:00Z): any fixed day will do."""

TICKS = 2**20
"""A clock's steps in a second, as far as its owner can tell. Without them what is left to wait for
on a clock that is slower than the loop's gets ever smaller, and virtual time stands still."""

EPITAPH_EVENTS = 40
"""How much of its history a failure shows: about a screen."""


class Crash(StrEnum):
    """How a host's process ends."""

    KILLED = "killed"  # kill -9: the kernel closes its sockets, what it took is still delivered
    POWER = "power cut"  # nobody answers until a restart, then earlier connections get RST


class Crashed(Exception):
    """What the future of a spawned coroutine ends with when its host crashes."""


class SimClock:
    """A host's clock (``middleware.clock.Clock``): durations at a rate of its own, a wall clock to
    be turned. Timers of the loop keep true time, whatever the clock says."""

    def __init__(self, loop: SimulatedLoop) -> None:
        self._loop = loop
        self.skew_s = 0.0
        self.rate = 1.0

    def monotonic(self) -> float:
        return floor(self._loop.time() * self.rate * TICKS) / TICKS

    def wall(self) -> float:
        return EPOCH_S + self.monotonic() + self.skew_s

    def jump(self, seconds: float) -> None:
        """Turn the wall clock; monotonic() does not notice."""
        self.skew_s += seconds


class Host:
    """A machine with at most one process. ``at_crash`` does what an operating system does for a
    dead process (close its database handle); it belongs to the life that was running then."""

    def __init__(self, name: str, address: str, clock: SimClock) -> None:
        self.name = name
        self.address = address
        self.clock = clock
        self.life: Life | None = None
        self.lives = 0
        self.spawned: list[asyncio.Future[Any]] = []
        self._at_crash: list[Callable[[], object]] = []

    @property
    def alive(self) -> bool:
        return self.life is not None and self.life.alive

    def at_crash(self, callback: Callable[[], object]) -> None:
        self._at_crash.append(callback)

    def die(self) -> None:
        """The life ends: frozen, its waiters told, its leavings cleaned up, last first."""
        if self.life is not None:
            self.life.alive = False
        for future in self.spawned:
            if not future.done():
                future.set_exception(Crashed(self.name))
                future._log_traceback = False
        self.spawned = []
        callbacks, self._at_crash = self._at_crash, []
        for callback in reversed(callbacks):
            Context().run(callback)


class World:
    """Everything that one seed decides. ``random`` is for the test; links have chances of their
    own. ``disk_s`` bounds the delays of ``run_in_executor``; None runs executor work at once."""

    def __init__(
        self,
        seed: int | str,
        *,
        conditions: Conditions | None = None,
        disk_s: tuple[float, float] | None = None,
        steps_max: int = STEPS_MAX,
        time_s_max: float = TIME_S_MAX,
    ) -> None:
        self.seed = seed
        self.random = random.Random(f"{seed} world")
        self.loop = SimulatedLoop(steps_max=steps_max, time_s_max=time_s_max)
        self.network = Network(self.loop, seed, conditions or Conditions(), self._note)
        self.loop.network = self.network
        self.loop.set_exception_handler(self._on_error)
        if disk_s is not None:
            disk = random.Random(f"{seed} disk")
            self.loop.executor_delay_s = partial(disk.uniform, *disk_s)
        self.trace: list[tuple[float, str, str]] = []
        self.hosts: dict[str, Host] = {}
        self._errors: list[BaseException] = []
        self._spawned: list[asyncio.Future[Any]] = []
        self._over = False

    # Hosts

    def host(self, name: str) -> Host:
        """The host of this name, made at the first call."""
        if name not in self.hosts:
            self.hosts[name] = Host(name, self.network.add(name), SimClock(self.loop))
        return self.hosts[name]

    def chance(self, name: str) -> random.Random:
        """A source of chance of one's own, so that its draws don't depend on others'."""
        return random.Random(f"{self.seed} {name}")

    def spawn(
        self, host: Host, main: Coroutine[Any, Any, T], *, name: str = "main"
    ) -> asyncio.Future[T]:
        """Run a coroutine on the host (which starts if it is off); Crashed if the host crashes."""
        if not host.alive:
            self._start(host)
        assert host.life is not None
        context = host.life.context.copy()
        task = self.loop.create_task(main, name=name, context=context)
        ended: asyncio.Future[T] = self.loop.create_future()
        host.spawned.append(ended)
        self._spawned.append(ended)
        task.add_done_callback(partial(_pass_on, ended), context=Context())
        return ended

    def crash(self, host: Host, how: Crash = Crash.KILLED) -> None:
        """End the host's process now, as if between two instructions."""
        if host.life is None or not host.alive:
            return
        self.record(how, host.name)
        host.die()
        self.network.process_ends(host.life, without_power=how is Crash.POWER)

    async def crash_here(self, how: Crash = Crash.KILLED) -> None:
        """A failpoint: crash the calling host at this very line. Never returns there."""
        life = here()
        if life is None:
            raise RuntimeError("no simulated host runs here")
        self.crash(self.hosts[life.host], how)
        await self.loop.create_future()

    def restart(self, host: Host, main: Coroutine[Any, Any, T]) -> asyncio.Future[T]:
        """A new life on a host that crashed (or is killed now)."""
        self.crash(host)
        return self.spawn(host, main)

    def pause(self, host: Host) -> None:
        """SIGSTOP: nothing of the process runs; its kernel goes on taking bytes."""
        if host.life is not None and host.alive:
            self.record("paused", host.name)
            host.life.paused = True

    def resume(self, host: Host) -> None:
        """SIGCONT: what arrived is read first, then the timers that have run out fire."""
        if host.life is not None and host.alive and host.life.paused:
            self.record("resumed", host.name)
            self.loop.resume(host.life)

    # The network between them

    def partition(self, one: Host, other: Host) -> None:
        """Hold everything between two hosts, both ways."""
        self.cut(one, other)
        self.cut(other, one)

    def cut(self, source: Host, target: Host) -> None:
        """Hold everything from source to target; the other direction works."""
        self.record(f"cut towards {target.name}", source.name)
        self.network.cut(source.name, target.name)

    def heal(self, one: Host | None = None, other: Host | None = None) -> None:
        """Mend the links between two hosts; of one host with all; without arguments all links."""
        self.record("heal", "-")
        names = list(self.hosts)
        for source in names:
            for target in names:
                if source != target and _concerns(source, target, one, other):
                    self.network.heal(source, target)

    # The trace

    def record(self, text: str, host: str | None = None) -> None:
        """Add an event to the history. Never anything that the seed does not decide (a wall
        time, an id() or hash(), a random id of the system's)."""
        if self._over:
            return
        if host is None:
            life = here()
            host = life.host if life else "-"
        self.trace.append((self.loop.time(), host, text))

    def digest(self) -> str:
        """A hash of the whole history so far: equal for equal seeds."""
        sha = hashlib.sha256()
        for line in self.lines():
            sha.update(line.encode() + b"\n")
        return sha.hexdigest()

    def lines(self) -> Iterator[str]:
        """The history for people, one event a line."""
        for at, host, text in self.trace:
            yield f"{at:.9f} {host} {text}"

    # Running

    def run(self, story: Coroutine[Any, Any, T]) -> T:
        """Run the test's coroutine to its end, then end the world. Only once."""
        with _collector_off():
            try:
                result = self.loop.run_until_complete(story)
                self._gather_errors()
            except BaseException as error:
                error.add_note(self._epitaph())
                raise
            finally:
                self._end()
        if self._errors:
            raise ExceptionGroup("nobody looked at these", [_plain(e) for e in self._errors])
        return result

    def _end(self) -> None:
        self._over = True
        for host in self.hosts.values():
            host.die()
            if host.life is not None:
                self.network.process_ends(host.life, without_power=True)
        for future in self._spawned:
            future._log_traceback = False
        self.loop.bury()

    def _epitaph(self) -> str:
        """What one needs to understand a failure, and to see it again."""
        self._gather_errors()
        events = [f"  {line}" for line in list(self.lines())[-EPITAPH_EVENTS:]]
        errors = [f"  {error!r}" for error in self._errors]
        return "\n".join(
            [f"seed {self.seed!r}; the last events:", *events, "unseen errors:", *errors]
        )

    def _gather_errors(self) -> None:
        self._errors += self.loop.unretrieved_errors()
        for future in self._spawned:
            if (error := unretrieved(future)) is not None:
                self._errors.append(error)

    def _start(self, host: Host) -> None:
        host.lives += 1
        host.life = self.loop.begin(host.name, host.lives)
        self.network.power_on(host.life)
        self.record(f"starts life {host.lives}", host.name)

    def _note(self, host: str, text: str) -> None:
        if not self._over:
            self.trace.append((self.loop.time(), host, text))

    def _on_error(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        life = here()
        if self._over or (life is not None and not life.alive):
            return
        error = context.get("exception")
        self._errors.append(error or RuntimeError(str(context.get("message"))))


def _pass_on(ended: "asyncio.Future[T]", task: "asyncio.Task[T]") -> None:
    if ended.done():
        return
    if task.cancelled():
        ended.cancel()
    elif (error := task.exception()) is not None:
        ended.set_exception(error)
    else:
        ended.set_result(task.result())


def _concerns(source: str, target: str, one: Host | None, other: Host | None) -> bool:
    wanted = [host.name for host in (one, other) if host is not None]
    return all(name in (source, target) for name in wanted)


def _plain(error: BaseException) -> Exception:
    return error if isinstance(error, Exception) else RuntimeError(repr(error))


@contextmanager
def _collector_off() -> Iterator[None]:
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
