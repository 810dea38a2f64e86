"""The duty that asks each server whether it is up, where the configuration says how."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace

from gateway.orders.attempts import Answered
from gateway.upstream.connecting import ConnectFailed
from gateway.upstream.pool import Pool
from gateway.upstream.requests import UpstreamRequest
from gateway.upstream.servers import Server, Upstream

LOOK_EVERY_S = 0.1
"""How often it is seen what is due: the shortest pause that can be set."""

IDLE_S = 1.0
"""Where nothing is to be checked: until a changed configuration says what."""

ANSWER_BYTES_MAX = 65_536
"""What a server says of itself is not read any further."""


class HealthChecks:
    """Call ``run`` in an owned task. Checks of one server never overlap."""

    def __init__(self, upstreams: Mapping[str, Upstream]) -> None:
        self._upstreams = upstreams
        self._due: dict[int, float] = {}

    async def run(self) -> None:
        """For ever; the tasks of checks under way end with it."""
        async with asyncio.TaskGroup() as group:
            while True:
                for upstream, server in self._now_due():
                    group.create_task(self._check(upstream, server))
                await asyncio.sleep(LOOK_EVERY_S if self._due else IDLE_S)

    def _now_due(self) -> list[tuple[Upstream, Server]]:
        now = asyncio.get_running_loop().time()
        checked = [
            (upstream, server)
            for upstream in self._upstreams.values()
            if upstream.health is not None
            for server in upstream.servers
        ]
        self._due = {id(server): self._due.get(id(server), 0.0) for _, server in checked}
        found = []
        for upstream, server in checked:
            if self._due[id(server)] <= now and upstream.health is not None:
                self._due[id(server)] = now + upstream.health.every_s
                found.append((upstream, server))
        return found

    async def _check(self, upstream: Upstream, server: Server) -> None:
        health = upstream.health
        if health is None:
            return
        try:
            async with asyncio.timeout(health.every_s * 0.9):  # over before the next begins
                well = await _is_well(server, health.method, health.target)
        except (TimeoutError, ConnectFailed):
            well = False
        except Exception:  # noqa: BLE001 - one server's check must not end those of all
            well = False
        upstream.checked(server, well=well)


async def _is_well(server: Server, method: bytes, target: bytes) -> bool:
    """On a connection of its own: what the others are kept busy with is no news of the server."""
    request = UpstreamRequest(
        method,
        target,
        ((b"Host", server.name.encode("ascii")), (b"User-Agent", b"ordergate-health")),
    )
    limits = replace(server.pool.limits, connections_max=1)
    own = Pool(server.pool.origin, limits=limits, tls=server.pool.tls)
    connection = await own.connect(limits.connect_timeout_s)
    exchange = connection.send(request, answer_bytes_max=ANSWER_BYTES_MAX)
    try:
        end = await exchange.wait(60.0)
    finally:
        exchange.stop_listening()
        await own.close()
    return isinstance(end, Answered) and 200 <= end.answer.status < 400
