"""Which handler answers a storefront's request, and what the middlewares must know of its route."""

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import TypeAlias, assert_never, cast

from aiohttp import web

from gateway.api.answers import STATUS_PATH, Told
from gateway.api.attempts import BEGUN, SAFE_METHODS
from gateway.api.cached import asked_upstream, cache_policies, fetch_of
from gateway.api.cors import CorsPolicy, joined, wanted_method
from gateway.api.forwarding import hops_left
from gateway.api.orders import BEGUN_ORDER, OrderRoute, OrdersApi
from gateway.api.proxy import ProxyApi
from gateway.api.replay_check import Check, SafeRequest
from gateway.api.scopes import SourceOf
from gateway.api.status import StatusApi
from gateway.api.straight_orders import Submits
from gateway.api.tunnels import Tunnels
from gateway.pages.problems import problem_page
from gateway.routes import Disguised, NoRoute, Route, RouteKind, RouteTable
from gateway.settings import RouteSettings, Settings
from gateway.telemetry import Telemetry
from gateway.upstream import Upstream
from middleware.admission import Priority
from middleware.caching.cache import Cache
from middleware.caching.storing import StoringPolicy
from middleware.idempotency.gate import GatePolicy, Shows
from middleware.problems import PROBLEMS_BASE, Handler, Middleware, Problem, ProblemType

OWN_PATHS = "/_gateway/"
"""Answered here, never forwarded, whatever the routes say."""

Found: TypeAlias = Route | NoRoute | Disguised
_FOUND = web.RequestKey("route", object)


class Router:
    """Finds a request's route once and remembers it with the request."""

    def __init__(
        self,
        settings: Settings,
        pools: Mapping[str, Upstream],
        respond: Callable[[Told], web.StreamResponse],
        source_of: SourceOf,
    ) -> None:
        self._respond = respond
        self._table: RouteTable = settings.route_table()
        self._by_name = {route.name: route for route in settings.routes}
        self._pools = pools
        self._orders: dict[str, OrderRoute] = {}
        self._policies: dict[str, GatePolicy] = {}
        for route in settings.routes:
            if route.kind == "order":
                self._orders[route.name] = OrderRoute(
                    route.promise(),
                    route.in_flight,
                    route.upstream_key,
                    settings.deadline_field(route.upstream),
                )
                self._policies[route.name] = _policy(route, settings, source_of)
        self._cors = {
            route.name: _cors_policy(route) for route in settings.routes if route.cors_origins
        }
        self._cached = cache_policies(settings)
        self._caches = any(route.kind == "cached" for route in settings.routes)
        self._plain = {
            route.name: route.upstream
            for route in settings.routes
            if route.kind == "plain" and _is_alone(route)
        }
        self._submits = {
            name: Submits(order, self._policies[name])
            for name, order in self._orders.items()
            if _is_alone(self._by_name[name])
        }
        self._status_cors = joined(self._cors, ("GET", "HEAD"))

    @property
    def scopes(self) -> tuple[Shows, ...]:
        """Every scope source of an order route, each once, in the order of the routes."""
        sources = (source for policy in self._policies.values() for source in policy.scope)
        return tuple(dict.fromkeys(sources))

    @property
    def replay_checks(self) -> dict[str, Check]:
        """By order route: what is asked before a repeat is told anything."""
        routes = (self._by_name[name] for name in self._orders)
        return {
            route.name: Check(
                route.upstream,
                None if route.replay_check is None else SafeRequest.parse(route.replay_check),
            )
            for route in routes
        }

    @property
    def storing(self) -> tuple[StoringPolicy, ...]:
        """What each cached route says of storing, but for routes whose requests are counted."""
        return tuple(
            self._cached[route.name].storing
            for route in self._by_name.values()
            if route.kind == "cached" and not (route.rate_per_address or route.rate_per_client)
        )

    def find(self, request: web.BaseRequest) -> Found | None:
        """The route; None for a path of the gateway's own."""
        if _FOUND not in request:
            request[_FOUND] = self._find(request)
        return cast("Found | None", request[_FOUND])

    def _find(self, request: web.BaseRequest) -> Found | None:
        if request.raw_path.startswith(OWN_PATHS):
            return None
        target = request.raw_path.encode("utf-8", "surrogateescape")
        return self._table.find(request.method.encode("ascii"), target)

    def order_route(self, request: web.BaseRequest) -> OrderRoute | None:
        found = self.find(request)
        return self._orders.get(found.name) if isinstance(found, Route) else None

    def is_order(self, request: web.BaseRequest) -> bool:
        """Also one that is refused because it would be an order once normalised."""
        return self.order_route(request) is not None or isinstance(self.find(request), Disguised)

    def route_name(self, request: web.BaseRequest) -> str | None:
        found = self.find(request)
        return found.name if isinstance(found, Route) else None

    def priority(self, request: web.BaseRequest) -> Priority:
        """Orders first, and what is asked of them; a read can be asked again."""
        own = self.find(request) is None
        return Priority.ORDER if own or self.is_order(request) else Priority.READ

    def ranked(self, method: bytes, target: bytes) -> tuple[str, Priority] | None:
        """Its kind for the counts, and its priority, before there is a request; None for one that
        is refused anyway."""
        if target.startswith(OWN_PATHS.encode()):
            return "own", Priority.ORDER
        found = self._table.find(method, target)
        if not isinstance(found, Route):
            return None
        return found.kind, Priority.ORDER if found.name in self._orders else Priority.READ

    def goes_straight(
        self, cache: Cache, method: bytes, target: bytes
    ) -> Upstream | Submits | None:
        """The upstream of a request that there is nothing to do about but to forward it: of a plain
        route, not counted, no page's of another origin, and no change of what ``cache`` or another
        process's may keep. Or what an order of such a route is to be checked by."""
        if target.startswith(OWN_PATHS.encode()):
            return None
        found = self._table.find(method, target)
        if not isinstance(found, Route):
            return None
        submits = self._submits.get(found.name)
        if submits is not None:
            return None if method in (b"HEAD", b"OPTIONS") else submits
        upstream = self._plain.get(found.name)
        if upstream is None:
            return None
        if method.decode("ascii") not in SAFE_METHODS and self._is_change(cache):
            return None
        if self._cors and method == b"OPTIONS":  # it may ask about another route
            return None
        pool = self._pools[upstream]
        return None if pool.is_sticky else pool

    @property
    def has_cors(self) -> bool:
        """Whether any route speaks to pages of other origins."""
        return bool(self._cors)

    def cors_policy(self, request: web.BaseRequest) -> CorsPolicy | None:
        """By the route that takes the request, or that would take what a preflight asks about."""
        if not self._cors:
            return None
        if request.raw_path.startswith(OWN_PATHS):
            return self._status_cors if _is_status(request.raw_path.partition("?")[0]) else None
        method = wanted_method(request)
        found = self.find(request) if method is None else self._asked_about(request, method)
        return self._cors.get(found.name) if isinstance(found, Route) else None

    def _asked_about(self, request: web.BaseRequest, method: str) -> Found:
        target = request.raw_path.encode("utf-8", "surrogateescape")
        return self._table.find(method.encode("utf-8", "surrogateescape"), target)

    def counted(self, telemetry: Telemetry) -> Middleware:
        """Middleware, outside ``problems``: every answer by kind of route and class of status."""

        @web.middleware
        async def middleware(request: web.BaseRequest, handler: Handler) -> web.StreamResponse:
            response = await handler(request)
            telemetry.answered(self._kind(request), response.status)
            return response

        return middleware

    def _kind(self, request: web.BaseRequest) -> str:
        match self.find(request):
            case Route(kind=kind):
                return kind
            case None:
                return "own"
            case _:
                return "refused"

    def _is_change(self, cache: Cache) -> bool:
        """Whether an unsafe request may change what somebody keeps."""
        return self._caches or cache.changes.told_elsewhere()

    async def _other(
        self,
        request: web.BaseRequest,
        route: Route,
        proxy: ProxyApi,
        cache: Cache,
        tunnels: Tunnels,
    ) -> web.StreamResponse:
        """A cached route's request; or a plain one's, which may change what others cache."""
        if hops_left(request.method, request.raw_headers) == 0:  # it is for us
            return self._respond(Told(204, b"No Content", ((b"Gateway-Source", b"gateway"),), b""))
        pool = self._pools[self._by_name[route.name].upstream]
        client = tunnels.wanted(request)
        if client is not None:
            if route.kind is not RouteKind.PLAIN:
                raise Problem.of(ProblemType.NOT_IMPLEMENTED, "No WebSocket is spoken here.")
            return await tunnels.forward(request, pool, client)
        if route.kind is RouteKind.CACHED:
            policy, fetch = self._cached[route.name], fetch_of(proxy, request, pool)
            asked = asked_upstream(proxy, request, policy)
            return await cache.serve(request, asked, policy, fetch)
        if request.method not in SAFE_METHODS and self._is_change(cache):
            policy, fetch = self._cached[route.name], fetch_of(proxy, request, pool)
            asked = asked_upstream(proxy, request, policy)
            return await cache.change(request, asked, policy, fetch)
        return await proxy.forward(request, pool)

    def handler(
        self,
        orders: OrdersApi,
        status: StatusApi,
        proxy: ProxyApi,
        cache: Cache,
        tunnels: Tunnels,
        gated: Callable[[GatePolicy, Handler], Handler],
    ) -> Handler:
        """The innermost handler; ``gated`` puts a gate before what takes an order."""
        submits = {
            name: gated(self._policies[name], partial(orders.submit, route=order))
            for name, order in self._orders.items()
        }

        async def handle(request: web.BaseRequest) -> web.StreamResponse:
            begun = _begun(request, orders, proxy)
            if begun is not None:
                return await begun
            found = self.find(request)
            match found:
                case None:
                    if tunnels.wanted(request) is not None:
                        raise Problem.of(
                            ProblemType.NOT_IMPLEMENTED, "No WebSocket is spoken here."
                        )
                    return await _own(request, status, self._respond)
                case Route():
                    submit = submits.get(found.name)
                    if submit is not None:
                        return await submit(request)
                    return await self._other(request, found, proxy, cache, tunnels)
                case Disguised():  # no order slips past unrecorded
                    raise Problem.of(
                        ProblemType.MALFORMED_REQUEST,
                        "Write the path plainly: without dot segments, double slashes, needless"
                        " percent-encoding or path parameters.",
                    )
                case NoRoute():
                    raise Problem.of(ProblemType.NOT_FOUND, "No route takes this request.")
                case _:
                    assert_never(found)

        return handle


def _begun(
    request: web.BaseRequest, orders: OrdersApi, proxy: ProxyApi
) -> Awaitable[web.StreamResponse] | None:
    """What went straight goes on from where it is, whatever has changed meanwhile."""
    begun, order = request.get(BEGUN), request.get(BEGUN_ORDER)
    if begun is not None:
        return proxy.forward(request, begun.upstream)
    if isinstance(order, Problem):
        raise order
    return None if order is None else orders.go_on(request, order)


async def _own(
    request: web.BaseRequest, status: StatusApi, respond: Callable[[Told], web.StreamResponse]
) -> web.StreamResponse:
    path = request.raw_path.partition("?")[0]
    if _is_status(path):
        return await status.handle(request)
    page = (
        problem_page(path.removeprefix(PROBLEMS_BASE)) if path.startswith(PROBLEMS_BASE) else None
    )
    if page is None or request.method not in ("GET", "HEAD"):
        raise Problem.of(ProblemType.NOT_FOUND)
    kind = (b"Content-Type", b"text/html; charset=utf-8")
    policy = (b"Content-Security-Policy", b"default-src 'none'")
    return respond(Told(200, b"OK", (kind, policy, (b"Gateway-Source", b"gateway")), page))


def _is_status(path: str) -> bool:
    return path == STATUS_PATH.rstrip("/") or path.startswith(STATUS_PATH)


def _is_alone(route: RouteSettings) -> bool:
    """Whether a request of it is nobody's business but its own: not counted with others, and no
    page's of another origin."""
    return not (route.rate_per_address or route.rate_per_client or route.cors_origins)


def _cors_policy(route: RouteSettings) -> CorsPolicy:
    methods = (route.pattern.method.decode("ascii"),)
    return CorsPolicy(frozenset(route.cors_origins), methods, route.cors_credentials)


def _policy(route: RouteSettings, settings: Settings, source_of: SourceOf) -> GatePolicy:
    return GatePolicy(
        key=route.key,
        scope=tuple(source_of(text) for text in route.scope),
        body_bytes_max=route.body_bytes_max,
        body_deadline_s=settings.limits.body_s,
        # A lookup is nobody's in particular: of two clients' same key it finds the other's order.
        unguessable_keys=route.upstream_key == "client" and route.lookup is not None,
    )
