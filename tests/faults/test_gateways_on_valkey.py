"""Whole gateways, each its own process, on one remote ledger: the promises hold across them."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.faults.processes import ROOT, GatewayProcess
from tests.scenarios import backend as acts
from tests.scenarios.backend import Backend
from tests.stores.servers import Group, Server, sentinel, valkey_binary

from .remote import Backup, durable

KEY = "key-0123456789-abcdefghij"


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    with durable() as server:
        yield server


@pytest.fixture
async def gateways(
    tmp_path: Path, backend: Backend, server: Server
) -> AsyncIterator[list[GatewayProcess]]:
    pair = [
        GatewayProcess(tmp_path / name, backend.port, ledger=server.url) for name in ("one", "two")
    ]
    await asyncio.gather(*(each.start() for each in pair))
    yield pair
    await asyncio.gather(*(each.stop() for each in pair))


async def settled(gateway: GatewayProcess, key: str = KEY) -> tuple[int, Any]:
    """What the key's client is told in the end."""
    async with asyncio.timeout(40):
        while True:
            status, told = await gateway.order(key)
            if status == 202:
                await gateway.until_settled(told["id"])
            elif status != 503:
                return status, told
            await asyncio.sleep(0.1)


async def test_a_storm_of_one_key_over_two_gateways_makes_one_order(
    backend: Backend, gateways: list[GatewayProcess]
) -> None:
    answers = await asyncio.gather(*(gateways[number % 2].order(KEY) for number in range(100)))
    assert {status for status, _ in answers} == {201}
    assert {told["id"] for _, told in answers} == {"o-1"}
    assert len(backend.posts) == len(backend.orders) == 1


async def test_what_a_killed_gateway_left_the_other_settles(
    backend: Backend, gateways: list[GatewayProcess]
) -> None:
    dead, heir = gateways
    backend.script.append(acts.after("go", acts.take))
    asked = asyncio.create_task(dead.order(KEY))
    await backend.until(lambda: len(backend.posts) == 1)
    await dead.kill()
    with pytest.raises(aiohttp.ClientError):
        await asked
    backend.gate("go").set()
    await backend.until(lambda: len(backend.orders) == 1)
    status, told = await settled(heir)
    assert (status, told["id"]) == (201, "o-1")
    assert len(backend.orders) == 1


async def test_while_the_store_is_down_nothing_is_sent_and_afterwards_all_is_as_before(
    backend: Backend, gateways: list[GatewayProcess], server: Server
) -> None:
    first = await gateways[0].order(KEY)
    server.kill()
    status, told = await gateways[1].order("key-while-it-is-down-0123")
    assert (status, told["safe_new_key"]) == (503, False)
    assert len(backend.posts) == 1
    server.start()
    assert await settled(gateways[1]) == first
    assert (await settled(gateways[0], "key-while-it-is-down-0123"))[0] == 201
    assert len(backend.orders) == 2


async def test_an_order_that_the_store_forgot_is_found_and_not_made_again(
    backend: Backend, gateways: list[GatewayProcess], server: Server
) -> None:
    first = await gateways[0].order(KEY)
    server.run("FLUSHALL")
    status, told = await settled(gateways[1])
    assert (status, told["id"]) == (201, first[1]["id"])
    assert len(backend.orders) == 1
    _, ready = await gateways[1].readyz()
    assert "ordergate trust" in ready["warnings"][0]
    trust = await asyncio.create_subprocess_exec(
        *(gateways[0].python, "-m", "gateway", "trust", "--config", str(gateways[0].config)),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
    )
    said, _ = await trust.communicate()
    assert b"Trusted again" in said
    async with asyncio.timeout(10):
        while "warnings" in (await gateways[1].readyz())[1]:  # noqa: ASYNC110
            await asyncio.sleep(0.1)


async def test_an_order_that_only_a_killed_gateway_knew_is_not_made_again_from_an_old_backup(
    tmp_path: Path, backend: Backend, server: Server
) -> None:
    gateway = GatewayProcess(tmp_path / "only", backend.port, ledger=server.url)
    await gateway.start()
    backup = Backup(server)
    backend.script.append(acts.after("go", acts.take))
    asked = asyncio.create_task(gateway.order(KEY))
    await backend.until(lambda: len(backend.posts) == 1)
    await gateway.kill()
    with pytest.raises(aiohttp.ClientError):
        await asked
    backup.put_back()
    backend.gate("go").set()
    await backend.until(lambda: len(backend.orders) == 1)
    await gateway.start()
    status, told = await settled(gateway)
    await gateway.stop()
    assert (status, told["id"]) == (201, "o-1")
    assert len(backend.posts) == len(backend.orders) == 1


@pytest.fixture
def watched() -> Iterator[Group]:
    group = sentinel(valkey_binary())
    yield group
    group.close()


async def test_a_failover_loses_no_order_and_makes_none_twice(
    tmp_path: Path, backend: Backend, watched: Group
) -> None:
    gateway = GatewayProcess(
        tmp_path / "one",
        backend.port,
        ledger=watched.url,
        durability='durability = "replicated"\nreplicas = 1',
    )
    await gateway.start()
    try:
        first = await gateway.order(KEY)
        assert first[0] == 201
        watched.servers[0].kill()
        # The only replica was promoted: nobody could acknowledge an order now.
        async with asyncio.timeout(20):
            while (ready := await gateway.readyz())[0] != 503:  # noqa: ASYNC110
                await asyncio.sleep(0.1)
        assert ready[1]["reasons"]
        assert (await gateway.order("key-with-no-replica-left-0"))[0] == 503
        assert len(backend.posts) == 1
        watched.servers[0].start()  # the old master comes back, as the new one's replica
        assert await settled(gateway) == first
        assert (await settled(gateway, "key-with-no-replica-left-0"))[0] == 201
        assert len(backend.orders) == 2
    finally:
        await gateway.stop()
