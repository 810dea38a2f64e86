"""Health checks: what they say of a server, and what they don't."""

import asyncio

from gateway.upstream.checking import HealthChecks
from gateway.upstream.servers import HealthPolicy, Upstream
from tests.edge.stage import eventually
from tests.upstream.conftest import Stage
from tests.upstream.faulty import always

WELL = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


async def test_a_server_whose_places_are_all_taken_is_not_held_for_down(stage: Stage) -> None:
    server = await stage.upstream(always(WELL))
    pool = stage.pool(server, connections_max=1)
    health = HealthPolicy(b"GET", b"/healthz", 0.2)
    upstream = Upstream("backend", [pool], health=health)
    busy = await pool.connect(1.0)
    standing = upstream.servers[0].standing
    checks = asyncio.create_task(HealthChecks({"backend": upstream}).run())
    try:
        await eventually(lambda: len(server.requests) >= 3 or standing.checked_down)
    finally:
        checks.cancel()
        await asyncio.gather(checks, return_exceptions=True)
    assert not standing.checked_down
    assert pool.stats.places == 1
    pool.put_back(busy)
