"""Stores on servers whose power fails while three gateways take orders on them."""

import asyncio
import random
import signal
from collections.abc import Mapping
from pathlib import Path

from tests.faults.besieged import settings, until
from tests.faults.disks import Disk
from tests.faults.failing_over import Peer, Watched
from tests.faults.remote import durable
from tests.faults.witnesses import RemoteWitness, Witness
from tests.stores.servers import Server

ANSWERS_S = 0.05
"""For answers that had left to arrive: what was told before the cut is what must be kept."""


async def cut(server: Server, disk: Disk) -> None:
    """The server is gone, and what it had not synced."""
    server.send(signal.SIGSTOP)
    await asyncio.sleep(ANSWERS_S)
    await asyncio.to_thread(disk.cut)
    server.kill()
    await asyncio.to_thread(disk.back)


class OneDisk:
    """A Valkey with ``fsync``, that starts again with what its disk has."""

    def __init__(self, folder: Path) -> None:
        self._disk = Disk(folder / "disk.image", folder / "disk")
        self._server: Server | None = None

    async def start(self) -> None:
        await asyncio.to_thread(self._disk.make)
        self._server = durable(folder=self._disk.folder)
        await self._server.start_again()

    @property
    def _running(self) -> Server:
        assert self._server is not None
        return self._server

    def environment(self) -> Mapping[str, str]:
        return settings(url=self._running.url, durability="fsync")

    def witness(self) -> Witness:
        return RemoteWitness([self._running.port])

    async def strike(self, chance: random.Random) -> str:
        await cut(self._running, self._disk)
        await self._running.start_again()
        return "power cut"

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        self._disk.drop()


class Disks(Watched):
    """A master with a replica and a Sentinel. The master's power fails; the replica has it all, and
    takes its place; what was master follows, with what its disk has."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._disks = [
            Disk(folder / f"disk-{number}.image", folder / f"server-{number}")
            for number in range(self.replicas + 1)
        ]

    async def start(self) -> None:
        for disk in self._disks:
            await asyncio.to_thread(disk.make)
        await super().start()

    async def strike(self, chance: random.Random) -> str:
        await self.kill(await self.master())
        await until(self.is_whole)
        return "power cut"

    async def end(self, old: Peer) -> None:
        await cut(old.server, self._disks[self.peers.index(old)])

    async def close(self) -> None:
        await super().close()
        for disk in self._disks:
            disk.drop()
