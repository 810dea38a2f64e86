"""A breaker that is half open, while slow clients hold all that is not kept for orders."""

import asyncio

import pytest

from gateway.orders.attempts import NotSentReason
from gateway.upstream import ConnectFailed
from gateway.upstream.breaking import BreakerPolicy
from gateway.upstream.servers import Upstream
from tests.upstream.conftest import Stage
from tests.upstream.faulty import hang

SOON_S = 1.0


async def test_what_has_to_wait_for_a_place_keeps_no_probe_from_an_order(stage: Stage) -> None:
    pool = stage.pool(await stage.upstream(hang), connections_max=4, plain_max=3)
    upstream = Upstream("backend", [pool], breaker=BreakerPolicy(probes=1, calls_min=1, open_s=0.1))
    held = [await upstream.connect(SOON_S, plain=True) for _ in range(3)]
    upstream.ended(held[0], failed=True, took_s=0.0)
    assert upstream.breaker.shut
    await asyncio.sleep(0.15)  # until it lets a probe through
    reads = [asyncio.create_task(upstream.connect(2 * SOON_S, plain=True)) for _ in range(3)]
    await asyncio.sleep(0)
    order = await upstream.connect(SOON_S)
    assert order.probe
    upstream.put_back(order)
    for read in reads:
        with pytest.raises(ConnectFailed) as failed:
            await read
        assert failed.value.reason is NotSentReason.POOL_EXHAUSTED
