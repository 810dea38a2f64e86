"""Routes of kind ``cached``: what is set for them, and the upstream as the cache sees it."""

import asyncio
from collections.abc import AsyncIterator, Callable

from aiohttp import web

from gateway.api.failures import problem_of
from gateway.api.forwarding import client_fields
from gateway.api.proxy import ProxyApi
from gateway.orders.attempts import LostReason
from gateway.settings import RouteSettings, Settings
from gateway.touched import OrderPaths
from gateway.upstream import StreamedAnswer, Upstream, UpstreamBroke
from middleware.caching.asked import CREDENTIALS, Asked
from middleware.caching.cache import asked_of
from middleware.caching.exchange import Fetch
from middleware.caching.policy import CachePolicy
from middleware.caching.storing import StoringPolicy
from middleware.messages import RawHeaders

_FROM_UPSTREAM = (b"Gateway-Source", b"upstream")


class UpstreamAnswer:
    """An upstream's answer with the fields that go to clients; what breaks is a Problem, and what
    has not come ``by`` then (loop time)."""

    def __init__(self, answer: StreamedAnswer, by: float) -> None:
        self._answer = answer
        self._by = by
        self._whole = answer.whole()
        self.headers: RawHeaders = client_fields(answer.headers, _FROM_UPSTREAM)

    @property
    def status(self) -> int:
        return self._answer.status

    @property
    def phrase(self) -> bytes:
        return self._answer.phrase

    @property
    def content_length(self) -> int | None:
        return self._answer.content_length

    @property
    def framed(self) -> bool:
        return self._answer.framed

    async def __aiter__(self) -> AsyncIterator[bytes]:
        if self._whole is not None:
            if self._whole:
                yield self._whole
            return
        try:
            while (piece := await self._next()) is not None:
                yield piece
        except UpstreamBroke as broke:
            raise problem_of(broke) from broke

    async def _next(self) -> bytes | None:
        try:
            async with asyncio.timeout_at(self._by):
                return await anext(self._answer, None)
        except TimeoutError:
            await self._answer.aclose()
            raise UpstreamBroke(LostReason.TIMEOUT) from None

    async def aclose(self) -> None:
        if self._whole is None:
            await self._answer.aclose()


def asked_upstream(proxy: ProxyApi, request: web.BaseRequest, policy: CachePolicy) -> Asked:
    """What ``request`` asks for, as the upstream is told: what is overwritten on the way must not
    select what is kept."""
    return asked_of(request, proxy.as_told(request, fronted=policy.storing.behind_proxies))


def fetch_of(proxy: ProxyApi, request: web.BaseRequest, pool: Upstream) -> Fetch:
    """Whatever is fetched for ``request`` has the time of one."""
    by = proxy.ends_by()

    async def fetch(method: bytes, headers: RawHeaders) -> UpstreamAnswer:
        return UpstreamAnswer(await proxy.fetch(request, pool, method, headers, by), by)

    return fetch


def order_paths(settings: Settings) -> OrderPaths:
    routes = settings.order_routes
    invalidates = [each for route in routes for each in route.invalidates]
    return OrderPaths(tuple(route.pattern for route in routes), tuple(dict.fromkeys(invalidates)))


def cache_policies(settings: Settings) -> dict[str, CachePolicy]:
    """By route, for every route that is no order's: a plain one caches nothing, but changes
    what others do."""
    paths = order_paths(settings)
    strict, touched = paths.strict(), paths.touched()
    named = _scope_names(settings.order_routes, "header")
    credentials = CREDENTIALS | frozenset(name.lower() for name in named)
    scope_cookies = _scope_names(settings.order_routes, "cookie")
    policies = {}
    for route in settings.routes:
        if route.kind != "order":
            storing = StoringPolicy(
                targets=tuple(name.lower().encode() for name in route.targeted_fields),
                credentials=credentials,
                session_cookies=_session_cookies(route, scope_cookies),
                behind_proxies=bool(settings.listen.trusted_proxies),
            )
            personal: Callable[[bytes], bool] = paths.personal(route.pattern)
            policies[route.name] = CachePolicy(storing, personal, strict, touched)
    return policies


def _session_cookies(route: RouteSettings, scope_cookies: frozenset[bytes]) -> frozenset[bytes]:
    """With none named, every cookie shows who a client is."""
    named = frozenset(name.encode() for name in route.session_cookies)
    return named | scope_cookies if named else named


def _scope_names(routes: tuple[RouteSettings, ...], wanted: str) -> frozenset[bytes]:
    """Whatever header field or cookie tells orders' clients apart tells readers apart too."""
    sources = (source.partition(":") for route in routes for source in route.scope)
    return frozenset(name.encode() for place, _, name in sources if place == wanted)
