"""The power fails (FAULTS.md Q5): what a client was told is on the disk, or on the replica.

./run test tests/faults/test_power_cuts.py --power-cuts 20 -s
"""

import asyncio
import itertools
import os
import random
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import apsw
import pytest

from tests.faults.besieged import Besieged
from tests.faults.disks import IMAGE_BYTES, Disk, need_disks
from tests.faults.judging import RememberingGateway, WatchedBackend, findings
from tests.faults.power import ANSWERS_S, Disks, OneDisk
from tests.faults.siege import Plan, Siege

SHOPPERS = 8
TRADE_S = (0.3, 1.2)
"""From the start to the cut: some tens to hundreds of orders, in all stages."""

ROOM_BYTES = 2 * 1024 * 1024
"""For the orders between two cuts: about half of it is used."""

CUTS_EACH = 10
"""In one siege of servers; sieges of other seeds follow."""

SERVERS: dict[str, Callable[[Path], Besieged]] = {"valkey": OneDisk, "replicated": Disks}


@pytest.fixture
def disk(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Disk]:
    """With room for the orders of all its cuts."""
    need_disks(tmp_path)
    room = IMAGE_BYTES + request.config.getoption("--power-cuts") * ROOM_BYTES
    disk = Disk(tmp_path / "disk.image", tmp_path / "data", room=room)
    disk.make()
    yield disk
    disk.drop()


@dataclass
class Shoppers:
    """Each orders again and again under new keys, and remembers what it was told."""

    gateway: RememberingGateway
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
    backend = WatchedBackend()
    await backend.start()
    gateway = RememberingGateway(tmp_path, backend.port)
    told = asked = 0
    try:
        for number in range(cuts):
            shoppers = await trade_until_the_cut(disk, gateway, chance, number)
            await gateway.start()
            await check(gateway, backend, shoppers)
            told, asked = told + len(shoppers.told), asked + len(shoppers.asked)
            assert await gateway.terminate() == 0
            assert is_whole(gateway.ledger)
        await gateway.start()
        assert await findings(gateway, backend) == []
    finally:
        await gateway.stop()
        await backend.stop()
    print(f"{cuts} power cuts, {asked} orders, {told} told before a cut, none lost", flush=True)


async def trade_until_the_cut(
    disk: Disk, gateway: RememberingGateway, chance: random.Random, number: int
) -> Shoppers:
    await gateway.start()
    shoppers = Shoppers(gateway)
    names = [f"cut-{number}-{shopper}" for shopper in range(SHOPPERS)]
    trading = [asyncio.create_task(shoppers.shop(name)) for name in names]
    await asyncio.sleep(chance.uniform(*TRADE_S))
    os.kill(gateway.pid, signal.SIGSTOP)
    await asyncio.sleep(ANSWERS_S)
    disk.cut()
    await gateway.kill()
    await asyncio.gather(*trading, return_exceptions=True)
    disk.back()
    return shoppers


async def check(gateway: RememberingGateway, backend: WatchedBackend, shoppers: Shoppers) -> None:
    """What was told is told again, and whatever was asked for becomes one order."""
    posts = len(backend.posts)
    for key, answer in shoppers.told.items():
        assert await gateway.order(key) == answer
    again = {request.key for request in backend.posts[posts:]}
    upstream_keys = {order["id"]: order["key"] for order in backend.orders}
    assert not again & {upstream_keys[told["id"]] for _, told in shoppers.told.values()}
    for key in shoppers.asked:
        if key not in shoppers.told:
            assert (await gateway.until_known(key))[0] == 201
    keys = [order["key"] for order in backend.orders]
    assert len(keys) == len(set(keys))


def is_whole(ledger: Path) -> bool:
    db = apsw.Connection(str(ledger), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        return db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    finally:
        db.close()


@pytest.mark.timeout(0)
@pytest.mark.parametrize("store", SERVERS)
async def test_a_power_cut_of_the_servers_loses_and_doubles_no_order(
    store: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    need_disks(tmp_path)
    wanted: int = request.config.getoption("--power-cuts")
    sums: Counter[str] = Counter()
    for seed in itertools.count(1):
        cuts = min(CUTS_EACH, wanted - sums["cuts"])
        if cuts <= 0:
            break
        folder = tmp_path / str(seed)
        folder.mkdir()
        plan = Plan(seed, outages=cuts, orders_per_second=25.0, pause_s=(0.5, 2.0))
        outcome = await Siege(folder, plan, SERVERS[store](folder)).lay()
        sums["cuts"] += len(outcome.outages)
        sums["intents"] += outcome.verdict.intents
        sums["doubted"] += outcome.doubted
        print(f"{store}, seed {seed}: {outcome.line()}", flush=True)
        assert outcome.clean, f"{outcome.line()}\n{outcome.complaint()}"
    print(f"{store}: " + ", ".join(f"{name} {sums[name]}" for name in sums), flush=True)
    assert sums["cuts"] == wanted
