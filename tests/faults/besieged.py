"""The stores that three gateways share in a siege, and what befalls them."""

import asyncio
import contextlib
import random
import signal
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Protocol

import redis

from tests.faults.remote import durable
from tests.faults.witnesses import FileWitness, RemoteWitness, Witness

OUTAGE_S_MAX = 120.0
"""From a blow until the store is whole again: Sentinel takes some seconds, a busy machine more."""

FREEZE_S = (0.5, 4.0)
"""Within and beyond what a call waits for its reply."""


async def until(true: Callable[[], Awaitable[bool]], within_s: float = OUTAGE_S_MAX) -> None:
    """A server that can't be asked says no. Raises TimeoutError."""
    async with asyncio.timeout(within_s):
        while True:
            with contextlib.suppress(redis.RedisError):
                if await true():
                    return
            await asyncio.sleep(0.1)


class Besieged(Protocol):
    """``close`` it, also where ``start`` failed."""

    async def start(self) -> None: ...

    def environment(self) -> Mapping[str, str]:
        """The settings of a gateway on it."""
        ...

    def witness(self) -> Witness: ...

    async def strike(self, chance: random.Random) -> str:
        """One blow at the store itself; what it was, once all is whole again."""
        ...

    async def close(self) -> None: ...


def settings(**ledger: str) -> dict[str, str]:
    return {f"ORDERGATE_LEDGER__{name.upper()}": value for name, value in ledger.items()}


class File:
    """SQLite, on the disk that the test's folder is on."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "data" / "ledger.db"

    async def start(self) -> None:
        return

    def environment(self) -> Mapping[str, str]:
        return settings(url=f"sqlite:///{self._file}")

    def witness(self) -> Witness:
        return FileWitness(self._file)

    async def strike(self, chance: random.Random) -> str:
        raise NotImplementedError("what a file can suffer are power cuts and failing disks")

    async def close(self) -> None:
        return


class OneServer:
    """Valkey with ``fsync``: it is killed and comes back with what it had synced, or stands still
    for a while."""

    def __init__(self, folder: Path) -> None:
        self._server = durable()

    async def start(self) -> None:
        await self._server.start_again()

    def environment(self) -> Mapping[str, str]:
        return settings(url=self._server.url, durability="fsync")

    def witness(self) -> Witness:
        return RemoteWitness([self._server.port])

    async def strike(self, chance: random.Random) -> str:
        if chance.random() < 0.5:
            self._server.kill()
            await self._server.start_again()
            return "killed"
        self._server.send(signal.SIGSTOP)
        await asyncio.sleep(chance.uniform(*FREEZE_S))
        self._server.send(signal.SIGCONT)
        return "frozen"

    async def close(self) -> None:
        self._server.close()
