"""WebSockets (RFC 6455): once the upstream agrees, its bytes and the client's pass untouched."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from aiohttp import web

from gateway.api.failures import problem_of
from gateway.api.forwarding import client_fields
from gateway.api.proxy import ProxyApi
from gateway.upstream import ConnectFailed, UpstreamBroke, UpstreamEnd
from gateway.upstream.servers import Upstream
from middleware.messages import RawHeaders, without
from middleware.problems import Problem, ProblemType

PROTOCOL = b"websocket"

_DRAIN_QUIET_S = 1.0
"""While draining, a tunnel in which nothing moved for so long is closed: both sides reconnect."""

_LOOK_EVERY_S = 1.0


class End(Protocol):
    """One end of a tunnel."""

    async def read(self) -> bytes: ...

    async def write(self, data: bytes) -> None: ...


class OwnEnd(End, Protocol):
    """The client's."""

    def end(self) -> None: ...


Switch: TypeAlias = Callable[[RawHeaders], web.StreamResponse]
"""From the upstream's fields to the response that says 101 (``gateway.server.Switched``)."""


@dataclass(frozen=True, slots=True)
class TunnelLimits:
    """``tunnels_max`` at once: each holds a connection to the upstream that orders want too.
    ``idle_s``: nothing moved in either direction."""

    tunnels_max: int
    idle_s: float


@dataclass(slots=True)
class OpenTunnels:
    """How many there are, also of those that began under another configuration."""

    count: int = 0


class Tunnels:
    """Asks the upstream, and passes bytes both ways until either end is done.

    ``wanted``: the client's end, where a request asks for a tunnel. ``aside``: a tunnel is no
    request at work; its place is another's.
    """

    def __init__(
        self,
        *,
        proxy: ProxyApi,
        limits: TunnelLimits,
        open_now: OpenTunnels,
        wanted: Callable[[web.BaseRequest], OwnEnd | None],
        switch: Switch,
        draining: Callable[[], bool],
        aside: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self._proxy = proxy
        self._limits = limits
        self.wanted = wanted
        self._switch = switch
        self._draining = draining
        self._aside = aside
        self._open = open_now

    async def forward(
        self, request: web.BaseRequest, pool: Upstream, client: OwnEnd
    ) -> web.StreamResponse:
        """The end of the tunnel, the upstream's answer where it does not agree, or a Problem."""
        if self._open.count >= self._limits.tunnels_max:
            raise Problem.of(
                ProblemType.OVERLOADED,
                "Too many WebSockets are open. Try again later.",
                headers={"Retry-After": "5"},
                repeat_is_safe=True,
            )
        self._open.count += 1
        try:
            return await self._forward(request, pool, client)
        finally:
            self._open.count -= 1

    async def _forward(
        self, request: web.BaseRequest, pool: Upstream, client: OwnEnd
    ) -> web.StreamResponse:
        try:
            outcome = await self._proxy.upgrade(request, pool, PROTOCOL)
        except (ConnectFailed, UpstreamBroke) as error:
            raise problem_of(error) from error
        if not isinstance(outcome, UpstreamEnd):
            return await self._proxy.relay(request, outcome)
        upstream = outcome.tunnel
        try:
            fields = client_fields(outcome.headers, (b"Gateway-Source", b"upstream"))
            upgrade = ((b"Upgrade", PROTOCOL), *without(fields, frozenset({b"date"})))
            response = self._switch(upgrade)
            await response.prepare(request)
            with self._aside():
                await self._splice(client, upstream)
        finally:
            upstream.close()
        return response

    async def _splice(self, client: OwnEnd, upstream: End) -> None:
        """Until either end is done or breaks, or nothing moves."""
        moved = asyncio.get_running_loop().time()

        async def pass_on(source: End, target: End, *, to_client: bool) -> None:
            nonlocal moved
            while piece := await source.read():
                moved = asyncio.get_running_loop().time()
                await target.write(piece)
            if to_client:
                client.end()

        ways = {
            asyncio.create_task(pass_on(upstream, client, to_client=True)),
            asyncio.create_task(pass_on(client, upstream, to_client=False)),
        }
        try:
            while not any(way.done() for way in ways):
                await asyncio.wait(ways, timeout=_LOOK_EVERY_S, return_when=asyncio.FIRST_COMPLETED)
                quiet_s = asyncio.get_running_loop().time() - moved
                if quiet_s >= self._idle_s():
                    return
        finally:
            await _stop(ways)

    def _idle_s(self) -> float:
        return _DRAIN_QUIET_S if self._draining() else self._limits.idle_s


async def _stop(ways: set["asyncio.Task[None]"]) -> None:
    for way in ways:
        way.cancel()
    for way in ways:
        with suppress(asyncio.CancelledError, ConnectionError, UpstreamBroke):
            await way
