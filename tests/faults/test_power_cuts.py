"""The power fails (FAULTS.md Q5): what a client was told is on the disk.

The ledger lies on a small file system of its own, in an image behind a loop device. At the cut the
gateway is stopped, the image is copied, and the gateway killed; it starts again on the copy. The
copy has what the file system had sent to its disk at that moment, and none of what was only in
memory: each cut also proves that, on a file that was written and never synced. What it can't show
is a disk that says that it has written, and has not.

    ./run test tests/faults/test_power_cuts.py --power-cuts 20 -s
"""

import asyncio
import os
import random
import shutil
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import apsw
import pytest

from tests.faults.processes import GatewayProcess
from tests.scenarios.backend import Backend

IMAGE_BYTES = 48 * 1024 * 1024
SHOPPERS = 8
TRADE_S = (0.3, 1.2)
"""From the start to the cut: some tens to hundreds of orders, in all stages."""

NEVER_SYNCED = b"this was only in memory " * 4096


def run(*command: str | Path) -> None:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    if done.returncode != 0:
        raise OSError(f"{command[0]}: {done.stderr.strip()}")


@dataclass
class Disk:
    """A file system in ``image``, mounted at ``folder``."""

    image: Path
    folder: Path
    cuts: int = 0

    def make(self) -> None:
        self.folder.mkdir()
        with self.image.open("wb") as file:
            file.truncate(IMAGE_BYTES)
        run("mkfs.ext4", "-q", "-F", self.image)
        self.mount()

    def mount(self) -> None:
        """Nothing is written back by the clock: only what somebody asks for is on the disk."""
        run("mount", "-o", "loop,commit=300,noauto_da_alloc", self.image, self.folder)

    def cut(self) -> None:
        """From here on there is only what the disk had."""
        self.cuts += 1
        kept = self.image.with_suffix(f".{self.cuts}")
        shutil.copyfile(self.image, kept)
        run("umount", "-l", self.folder)
        self.image.unlink()
        self.image = kept

    def back(self) -> None:
        self.mount()

    def drop(self) -> None:
        subprocess.run(["umount", "-l", str(self.folder)], capture_output=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    disk = Disk(tmp_path / "disk.image", tmp_path / "data")
    if os.geteuid() != 0 or shutil.which("mkfs.ext4") is None:
        pytest.skip("a disk of one's own needs root and mkfs.ext4")
    try:
        disk.make()
    except OSError as error:
        pytest.skip(f"no loop device can be mounted here: {error}")
    yield disk
    disk.drop()


@dataclass
class Shoppers:
    """Each orders again and again under new keys, and remembers what it was told."""

    gateway: GatewayProcess
    told: dict[str, tuple[int, Any]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    async def shop(self, name: str) -> None:
        for number in range(10_000):
            key = f"{name}-{number}-0123456789-abcdef"
            self.asked.append(key)
            answer = await self.gateway.order(key)
            if answer[0] == 201:
                self.told[key] = answer


@pytest.mark.timeout(0)
async def test_a_power_cut_loses_nothing_that_was_told(
    disk: Disk, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    cuts: int = request.config.getoption("--power-cuts")
    chance = random.Random("power cuts")
    backend = Backend()
    await backend.start()
    gateway = GatewayProcess(tmp_path, backend.port)
    told = asked = 0
    try:
        for number in range(cuts):
            shoppers = await trade_until_the_cut(disk, gateway, chance, number)
            await gateway.start()
            await check(gateway, backend, shoppers)
            told, asked = told + len(shoppers.told), asked + len(shoppers.asked)
            assert await gateway.terminate() == 0
            assert is_whole(gateway.ledger)
    finally:
        await gateway.stop()
        await backend.stop()
    print(f"{cuts} power cuts, {asked} orders, {told} told before a cut, none lost", flush=True)


async def trade_until_the_cut(
    disk: Disk, gateway: GatewayProcess, chance: random.Random, number: int
) -> Shoppers:
    await gateway.start()
    shoppers = Shoppers(gateway)
    names = [f"cut-{number}-{shopper}" for shopper in range(SHOPPERS)]
    trading = [asyncio.create_task(shoppers.shop(name)) for name in names]
    await asyncio.sleep(chance.uniform(*TRADE_S))
    witness = disk.folder / f"never-synced-{number}"
    witness.write_bytes(NEVER_SYNCED)
    os.kill(gateway.pid, signal.SIGSTOP)
    await asyncio.sleep(0.05)  # answers that had left reach their customers
    disk.cut()
    await gateway.kill()
    await asyncio.gather(*trading, return_exceptions=True)
    disk.back()
    assert not witness.exists() or witness.read_bytes() != NEVER_SYNCED
    return shoppers


async def check(gateway: GatewayProcess, backend: Backend, shoppers: Shoppers) -> None:
    """What was told is told again, and whatever was asked for becomes one order."""
    posts = len(backend.posts)
    for key, answer in shoppers.told.items():
        assert await gateway.order(key) == answer
    again = {request.key for request in backend.posts[posts:]}
    upstream_keys = {order["id"]: order["key"] for order in backend.orders}
    assert not again & {upstream_keys[told["id"]] for _, told in shoppers.told.values()}
    for key in shoppers.asked:
        if key not in shoppers.told:
            await until_confirmed(gateway, key)
    keys = [order["key"] for order in backend.orders]
    assert len(keys) == len(set(keys))


async def until_confirmed(gateway: GatewayProcess, key: str) -> None:
    async with asyncio.timeout(30):
        while True:
            try:
                status, told = await gateway.order(key)
            except aiohttp.ClientError:
                continue
            if status == 201:
                return
            assert status in (202, 503)
            if status == 202:
                await gateway.until_settled(told["id"])


def is_whole(ledger: Path) -> bool:
    db = apsw.Connection(str(ledger), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        return db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    finally:
        db.close()
