"""One worker process, as its supervisor sees it."""

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import structlog

import gateway
from gateway.supervisor.channel import Channel, Configuration, Word

log = structlog.get_logger("ordergate", part="process")

START_S_MAX = 600.0
"""A cold interpreter and a ledger of millions of orders need some seconds. A new version may have
to write all of them anew, 300,000 in 6 s; ended in between, it would have to begin again."""

EXIT_S_MAX = 5.0
"""From the end of its stream to the end of the process: a worker does nothing in between."""


class Worker:
    """A running process. ``serial`` is never used again, unlike ``slot`` and ``pid``."""

    def __init__(
        self, slot: int, serial: int, process: asyncio.subprocess.Process, channel: Channel
    ) -> None:
        self.slot = slot
        self.serial = serial
        self.admin: tuple[str, int] | None = None
        """Its own admin listener, once it serves."""
        self.last_metrics: str | None = None
        self._process = process
        self._channel = channel
        self._served_at: float | None = None

    @property
    def serves(self) -> bool:
        return self.admin is not None

    @property
    def pid(self) -> int:
        return self._process.pid

    @classmethod
    async def spawn(cls, slot: int, serial: int, configuration: Configuration) -> "Worker":
        """Raises OSError."""
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                process = await asyncio.create_subprocess_exec(
                    *(sys.executable, "-P", "-m", "gateway.supervisor.worker"),
                    str(theirs.fileno()),
                    stdin=asyncio.subprocess.DEVNULL,
                    pass_fds=[theirs.fileno()],
                    env=_environment(),
                )
            except BaseException:
                ours.close()
                raise
        worker = cls(slot, serial, process, await Channel.on(ours))
        worker.configure(configuration)
        return worker

    def configure(self, configuration: Configuration) -> None:
        self._channel.send(Word.CONFIGURATION, configuration.packed())

    def drain(self) -> None:
        self._channel.send(Word.DRAIN)

    def hurry(self) -> None:
        self._channel.send(Word.HURRY)

    def kill(self) -> None:
        """Does nothing to one that has ended. Not by the process's own ``send_signal``: that
        takes the exit status of one that has just ended, and asyncio then reports 255."""
        if self._process.returncode is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)

    async def life(self, on_serving: Callable[["Worker"], None]) -> tuple[int, float | None]:
        """Until it has ended: exit status, and for how long it served (None: never)."""
        loop = asyncio.get_running_loop()
        late = loop.call_later(START_S_MAX, self._is_late)
        try:
            while (message := await self._channel.receive()) is not None:
                match message.word:
                    case Word.SERVING:
                        late.cancel()
                        self._serves(message.content)
                        on_serving(self)
                    case Word.REFUSED:
                        # It would go on by the old configuration: the next takes the new one.
                        log.error("a worker could not reload", pid=self.pid)
                        self.drain()
                    case Word.LAST_METRICS:
                        self.last_metrics = message.content.decode()
                    case Word.RELOADED:
                        log.info("worker reloaded", worker=self.slot, pid=self.pid)
                    case _:
                        log.error("a worker said what only we say", word=message.word.name)
            status = await self._ended()
        finally:
            late.cancel()
            self.admin = None
            self.kill()
            await self._channel.close()
        served_s = None if self._served_at is None else loop.time() - self._served_at
        return status, served_s

    def _serves(self, content: bytes) -> None:
        where = json.loads(content)
        self.admin = (str(where["admin"][0]), int(where["admin"][1]))
        self._served_at = asyncio.get_running_loop().time()

    async def _ended(self) -> int:
        try:
            async with asyncio.timeout(EXIT_S_MAX):
                return await self._process.wait()
        except TimeoutError:
            log.error("a worker did not end", pid=self.pid)
            self.kill()
            return await self._process.wait()

    def _is_late(self) -> None:
        log.error("a worker did not start in time", pid=self.pid, seconds=START_S_MAX)
        self.kill()


def _environment() -> dict[str, str]:
    """Ours, and where this very package is: the worker must not find another one."""
    home = str(Path(gateway.__file__).parent.parent)
    paths = [home, *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(dict.fromkeys(filter(None, paths)))}
