"""From SIGTERM to the end of the process, as a load balancer sees it (FAULTS.md K15, P2)."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.deploy.replicas import DRAIN_DELAY_S, Replica
from tests.scenarios.backend import Backend

KEY = "key-0123456789-abcdefghij"


@pytest.fixture
async def replica(tmp_path: Path, backend: Backend) -> AsyncIterator[Replica]:
    replica = Replica(tmp_path, "a", backend.port)
    yield replica
    await replica.stop()


async def until_unready(replica: Replica) -> None:
    async with asyncio.timeout(5):
        while (await replica.readyz())[0] != 503:  # noqa: ASYNC110 - it tells nobody
            await asyncio.sleep(0.01)


async def test_orders_are_taken_while_balancers_are_still_to_notice(replica: Replica) -> None:
    await replica.start()
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    ending = asyncio.create_task(replica.terminate())
    await until_unready(replica)
    assert (await replica.order(KEY))[0] == 201
    assert (await replica.readyz())[1]["reasons"] == ["draining"]
    assert await ending == 0
    assert loop.time() - began_s >= DRAIN_DELAY_S


async def test_a_second_signal_ends_the_wait_for_balancers(replica: Replica) -> None:
    text = replica.config.read_text()
    replica.config.write_text(text.replace(f"delay_s = {DRAIN_DELAY_S}", "delay_s = 60"))
    await replica.start()
    ending = asyncio.create_task(replica.terminate())
    await until_unready(replica)
    os.kill(replica.pid, signal.SIGTERM)
    assert await ending == 0
