"""A worker: one gateway that shares port and ledger with its siblings, for a supervisor.

It ends when the supervisor says so, and when the supervisor is gone. SIGTERM to a worker alone
drains it; repeated signals don't hurry it, since a service manager may signal every process.
"""

import asyncio
import json
import os
import signal
import socket
import sys
from dataclasses import dataclass

import structlog
from prometheus_client import generate_latest

from gateway.app import Gateway
from gateway.settings import Settings
from gateway.supervisor.channel import Channel, Configuration, Word
from gateway.supervisor.logs import Levels, configure_logging
from gateway.supervisor.process import loop_factory, served, started
from middleware.tasks import Tasks

log = structlog.get_logger("ordergate", part="process")

CLOSE_S = 1.0
"""For the task that listens to the supervisor: it waits for nothing else."""


def main() -> None:
    """``python -m gateway.supervisor.worker DESCRIPTOR``, as the supervisor calls it. Exits."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the supervisor's to handle
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    ours = socket.socket(fileno=int(sys.argv[1]))
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        sys.exit(runner.run(_run(ours)))


async def _run(ours: socket.socket) -> int:
    channel = await Channel.on(ours)
    first = await channel.receive()
    if first is None:
        return 0  # nobody is there to serve for
    configuration = Configuration.unpacked(first.content)
    settings = configuration.settings
    levels = configure_logging(settings.log, pid=os.getpid())
    gateway = Gateway(settings, retired=configuration.retired)
    gateway.telemetry.is_silent = levels.is_silent
    gateway.shown_listen = configuration.listen
    worker = Worker(gateway, levels, channel)
    try:
        return await worker.serve()
    finally:
        await channel.close()


@dataclass(slots=True)
class Worker:
    """A gateway on its supervisor's leash."""

    gateway: Gateway
    levels: Levels
    channel: Channel

    async def serve(self) -> int:
        if status := await started(self.gateway):
            return status
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self.gateway.ending.set)
        tasks = Tasks(_failed)
        tasks.start(self._obey(), name="listen to the supervisor")
        where = {"storefront": self.gateway.storefront_address, "admin": self.gateway.admin_address}
        self.channel.send(Word.SERVING, json.dumps(where).encode())
        status = await served(self.gateway)
        self.channel.send(Word.LAST_METRICS, generate_latest(self.gateway.telemetry.registry))
        await tasks.close(CLOSE_S)
        return status

    async def _obey(self) -> None:
        while (message := await self.channel.receive()) is not None:
            match message.word:
                case Word.CONFIGURATION:
                    configuration = Configuration.unpacked(message.content)
                    self.gateway.shown_listen = configuration.listen
                    self._reload(configuration.settings)
                case Word.DRAIN:
                    self.gateway.ending.set()
                case Word.HURRY:
                    self._hurry()
                case _:
                    log.error("the supervisor said what only a worker says", word=message.word.name)
        log.warning("the supervisor is gone")
        self.gateway.settings = without_delay(self.gateway.settings)
        self.gateway.ending.set()

    def _hurry(self) -> None:
        if not self.gateway.draining:
            self.gateway.settings = without_delay(self.gateway.settings, drain_s=0.0)
        self.gateway.ending.set()
        self.gateway.hurry()

    def _reload(self, settings: Settings) -> None:
        try:
            self.gateway.reload(settings)
        except Exception as error:
            log.exception("the configuration could not be taken")
            self.channel.send(Word.REFUSED, repr(error).encode())
            return
        self.levels.apply(settings.log)
        self.channel.send(Word.RELOADED)


def without_delay(settings: Settings, *, drain_s: float | None = None) -> Settings:
    """No balancer asks this process any more; whoever comes next wants the port."""
    listen = settings.listen
    changes = {
        "drain_delay_s": 0.0,
        "drain_s": listen.drain_s if drain_s is None else drain_s,
    }
    return settings.model_copy(update={"listen": listen.model_copy(update=changes)})


def _failed(name: str, error: BaseException) -> None:
    log.error("task failed", task=name, exc_info=error)


if __name__ == "__main__":
    main()
