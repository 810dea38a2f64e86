"""Every test that awaits runs on asyncio's own loop and on uvloop."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
import uvloop

from gateway.upstream import HopLimits, Origin, Pool, Tls
from tests.upstream.faulty import Behaviour, FaultyUpstream


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


class Stage:
    """Starts faulty upstreams and pools to them; stops them all."""

    def __init__(self) -> None:
        self.upstreams: list[FaultyUpstream] = []
        self.pools: list[Pool] = []

    async def upstream(
        self, behaviour: Behaviour, tls: ssl.SSLContext | None = None
    ) -> FaultyUpstream:
        upstream = FaultyUpstream(behaviour, tls)
        await upstream.start()
        self.upstreams.append(upstream)
        return upstream

    def pool(self, upstream: FaultyUpstream, tls: Tls | None = None, **limits: Any) -> Pool:
        return self.pool_to(upstream.origin, tls, **limits)

    def pool_to(self, origin: Origin, tls: Tls | None = None, **limits: Any) -> Pool:
        pool = Pool(origin, limits=HopLimits(**limits), tls=tls)
        self.pools.append(pool)
        return pool


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    stage = Stage()
    yield stage
    for pool in stage.pools:
        await pool.close()
        assert pool.stats.places == 0
        assert pool.stats.waiting == 0
    for upstream in stage.upstreams:
        await upstream.stop()


@pytest.fixture
def unanswered() -> Iterator[Any]:
    """A loopback address that answers no SYN: a listener whose queue is full."""
    from tests.upstream.faulty import full_listener

    with full_listener() as origin:
        yield origin
