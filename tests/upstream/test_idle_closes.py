"""How often an upstream that closes idle connections leaves an order in doubt for nothing.

The one case that can't be told: the upstream closes within the microseconds in which our request
is on its way. ``--idle-closes 1000`` measures; a hundred orders run by default.
"""

import asyncio
import random
import sys
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.upstream import Origin, Pool
from gateway.upstream.keeping import SHORTEST_S, IdleLimit
from tests.upstream.asking import CREATED, attempt, eventually
from tests.upstream.conftest import Stage
from tests.upstream.faulty import Wire

SHOPPERS = 10
WARM_UP = 20
"""Requests in which the pool sees how soon this upstream closes."""


@pytest.fixture
async def closer() -> AsyncIterator[Origin]:
    script = Path(__file__).with_name("idle_closer.py")
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(script), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    port = int(await process.stdout.readline())
    yield Origin("127.0.0.1", port)
    process.kill()
    await process.wait()


def test_the_limit_follows_what_was_seen_and_recovers() -> None:
    limit = IdleLimit(1.0)
    limit.closed_by_upstream(5.0, 0.0)
    assert limit.seconds == 1.0, "a close that late is nothing to fear"
    limit.closed_by_upstream(0.4, 0.0)
    limit.closed_by_upstream(0.6, 1.0)
    assert limit.seconds == 0.1
    limit.recover(5.0)
    assert limit.seconds == 0.1
    limit.recover(11.0)
    limit.recover(12.0)
    assert limit.seconds == 0.2
    for now in range(20, 100, 10):
        limit.recover(now)
    assert limit.seconds == 1.0
    limit.closed_by_upstream(0.0, 100.0)
    assert limit.seconds == SHORTEST_S


async def test_an_upstream_that_closes_soon_is_not_waited_for_longer(stage: Stage) -> None:
    async def close_soon(wire: Wire) -> None:
        while await wire.request() is not None:
            await wire.send(CREATED)
            await asyncio.sleep(0.05)
            return

    pool = stage.pool(await stage.upstream(close_soon))
    await attempt(pool)
    await eventually(lambda: pool.stats.places == 0)
    assert pool.stale_s < 0.2
    assert pool._idle_limit.seconds < 0.1


async def test_idle_connections_that_are_closed_at_random_make_no_doubt(
    stage: Stage, closer: Origin, pytestconfig: pytest.Config
) -> None:
    orders = int(pytestconfig.getoption("--idle-closes"))
    pool = stage.pool_to(closer)
    ends: Counter[str] = Counter()

    async def shop(seed: int) -> None:
        draw = random.Random(seed)
        for _ in range(orders // SHOPPERS):
            await asyncio.sleep(draw.uniform(0, 0.6))
            ends[await _end(pool)] += 1

    for _ in range(WARM_UP):
        await _end(pool)
        await asyncio.sleep(0.1)
    async with asyncio.TaskGroup() as tasks:
        for seed in range(SHOPPERS):
            tasks.create_task(shop(seed))
    print(f"idle closes: {dict(ends)}")
    assert ends["Answered"] + ends["Lost"] == orders
    assert ends["Lost"] == 0


async def _end(pool: Pool) -> str:
    """An attempt that was not sent is made anew: nothing is in doubt."""
    while True:
        end = type(await attempt(pool)).__name__
        if end != "NotSent":
            return end
