"""What answers storefronts under one configuration; a reload makes it anew."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial

from aiohttp import web

from gateway.api.answers import Told
from gateway.api.at_hand import AtHand
from gateway.api.cors import cors
from gateway.api.limits import proxy_limits, tunnel_limits
from gateway.api.orders import OrdersApi, order_problems, say_of_order
from gateway.api.proxies import Peer, TrustedProxies
from gateway.api.proxy import ProxyApi
from gateway.api.quota import Quota
from gateway.api.rates import RatesOf, route_rates
from gateway.api.replay_check import ReplayCheck
from gateway.api.router import Router
from gateway.api.scopes import scope_sources
from gateway.api.status import StatusApi
from gateway.api.straight import Straight
from gateway.api.straight_lines import StraightLog
from gateway.api.straight_orders import StraightOrders
from gateway.api.tunnels import OpenTunnels, Tunnels
from gateway.api.turning_off import TurningOff
from gateway.ledger import Ledger
from gateway.placement import Placement
from gateway.server import (
    RawResponse,
    RawStream,
    ServerLimits,
    Switched,
    address_of,
    body_at_hand,
    client_end,
    compose,
    raw_response,
    send_interim,
)
from gateway.settings import LimitsSettings, ListenSettings, Settings
from gateway.telemetry import Telemetry
from gateway.upstream import Pools
from gateway.upstream.connections import Readable
from middleware.access_log import access_log
from middleware.admission import Admission
from middleware.caching.cache import Cache
from middleware.clock import Clock
from middleware.idempotency.gate import GatePolicy, idempotency_gate
from middleware.messages import RawHeaders
from middleware.problems import Problem, ProblemType, problems
from middleware.rates import RateLimiter
from middleware.request_id import request_id
from middleware.tasks import Tasks

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Parts:
    """What outlives a configuration. ``failed`` is told of each request that failed unforeseen."""

    ledger: Ledger
    placement: Placement
    pools: Pools
    cache: Cache
    rates: RateLimiter
    admission: Admission
    quota: Quota
    tunnels: OpenTunnels
    telemetry: Telemetry
    clock: Clock
    draw: Callable[[], float]
    make_id: Callable[[], str]
    make_request_id: Callable[[], str]
    who: str
    draining: Callable[[], bool]
    tasks: Tasks
    ended: Readable
    surprised: Callable[[BaseException], None]
    failed: Callable[[web.BaseRequest, BaseException], None]


class Storefront:
    """``handler`` takes every request; ``straight``, ``at_hand`` and ``turning_off`` spare it the
    simplest: None where the last two must not."""

    def __init__(self, settings: Settings, parts: Parts) -> None:
        self._settings = settings
        self._parts = parts
        self._proxies = TrustedProxies(settings.listen.trusted_proxies)
        self._peer = self._proxies.peers(address_of)
        self._sources = scope_sources(settings, parts.clock, parts.telemetry)
        self._router = Router(settings, parts.pools, respond, self._sources)
        self.trusts = self._proxies.trusts
        self._orders, self._replay_check = self._order_api()
        self.handler = self._handler()
        self.at_hand = self._quick()
        self.turning_off = self._turn_off()
        self.straight = self._go_straight()

    def take_over(self) -> None:
        """Requests are ranked by this configuration from here on."""
        self._parts.admission.priority_of = self._router.priority

    def _handler(self) -> Handler:
        """The middlewares, outermost first, around the router."""
        parts, router, settings = self._parts, self._router, self._settings
        rates = route_rates(settings.routes, self._sources)
        rates_of = RatesOf(rates, router.route_name, self._client)
        log = parts.telemetry.log_of("requests")
        return compose(
            (
                request_id(parts.make_request_id, trust_incoming=settings.listen.trust_request_id),
                access_log(
                    log.info,
                    wanted=lambda: not parts.telemetry.is_silent("requests", "info"),
                    client=self._client,
                ),
                *((cors(router.cors_policy, respond),) if router.has_cors else ()),
                router.counted(parts.telemetry),
                problems(raw_response, on_failure=parts.failed, failure=self._failure),
                order_problems(router.is_order),
                *((parts.rates.middleware(rates_of),) if rates else ()),
                parts.admission.middleware(),
            ),
            self._routed(),
        )

    def _failure(self, request: web.BaseRequest) -> Problem:
        """What is told where nobody foresaw what happened."""
        problem = Problem.of(ProblemType.INTERNAL_ERROR)
        if self._router.is_order(request):
            say_of_order(request, problem)
        return problem

    def _order_api(self) -> tuple[OrdersApi, ReplayCheck]:
        parts = self._parts
        replay_check = ReplayCheck(parts.pools, self._router.replay_checks, self._peer)
        orders = OrdersApi(
            placement=parts.placement,
            replay_check=replay_check,
            quota=parts.quota,
            client=self._proxies.client,
            ledger=parts.ledger,
            telemetry=parts.telemetry,
            new_id=parts.make_id,
            who=parts.who,
            respond=respond,
            peer=self._peer,
            ended=parts.ended,
        )
        return orders, replay_check

    def _routed(self) -> Handler:
        parts, router = self._parts, self._router
        status = StatusApi(
            ledger=parts.ledger,
            replay_check=self._replay_check,
            scopes=router.scopes,
            respond=respond,
            aside=parts.admission.aside,
            waits_max=self._settings.limits.waits_max,
        )
        proxy = ProxyApi(
            telemetry=parts.telemetry,
            limits=proxy_limits(self._settings.limits),
            draw=parts.draw,
            stream=stream,
            whole=whole,
            body_at_hand=body_at_hand,
            peer=self._peer,
            wall=parts.clock.wall,
            interim=send_interim,
        )
        tunnels = Tunnels(
            proxy=proxy,
            limits=tunnel_limits(self._settings.limits),
            open_now=parts.tunnels,
            wanted=client_end,
            switch=Switched,
            draining=parts.draining,
            aside=parts.admission.aside,
        )
        return router.handler(self._orders, status, proxy, parts.cache, tunnels, _gated)

    def _quick(self) -> AtHand | None:
        """None where each request's own id is to be kept, or requests are counted: that is done
        further in."""
        settings, router = self._settings, self._router
        counted = any(each.kind == "cached" and each.rate_per_address for each in settings.routes)
        if not router.storing or settings.listen.trust_request_id or counted:
            return None
        return AtHand(
            cache=self._parts.cache,
            current=router.storing,
            telemetry=self._parts.telemetry,
            make_id=self._parts.make_id,
            client=self._client_of,
            trusts=self.trusts,
        )

    def _turn_off(self) -> TurningOff | None:
        """None where each request's own id is to be kept, or pages of other origins are to read
        the refusal: that is done further in."""
        if self._settings.listen.trust_request_id or self._router.has_cors:
            return None
        return TurningOff(
            ranked=self._router.ranked,
            admission=self._parts.admission,
            telemetry=self._parts.telemetry,
            make_id=self._parts.make_request_id,
        )

    def _go_straight(self) -> Straight:
        parts = self._parts
        log = StraightLog(parts.telemetry, self._client_of)
        return Straight(
            way=partial(self._router.goes_straight, parts.cache),
            orders=StraightOrders(
                orders=self._orders,
                handler=self.handler,
                admission=parts.admission,
                telemetry=parts.telemetry,
                tasks=parts.tasks,
                log=log,
                failed=parts.surprised,
            ),
            handler=self.handler,
            limits=proxy_limits(self._settings.limits),
            admission=parts.admission,
            telemetry=parts.telemetry,
            tasks=parts.tasks,
            make_id=parts.make_request_id,
            trust_ids=self._settings.listen.trust_request_id,
            trusts=self.trusts,
            log=log,
            failed=parts.surprised,
        )

    def _client(self, request: web.BaseRequest) -> str:
        return self._proxies.client(self._peer(request), request.raw_headers)

    def _client_of(self, address: str, headers: RawHeaders) -> str:
        return self._proxies.client(Peer(address, self._proxies.trusts(address)), headers)


def _gated(policy: GatePolicy, handler: Handler) -> Handler:
    return partial(idempotency_gate(lambda _: policy), handler=handler)


def respond(told: Told) -> web.StreamResponse:
    return RawResponse(told.status, told.headers, told.body, phrase=told.phrase)


def stream(status: int, headers: RawHeaders, phrase: bytes, length: int | None) -> RawStream:
    return RawStream(status, headers, phrase=phrase, length=length)


def whole(status: int, headers: RawHeaders, phrase: bytes, body: bytes) -> RawResponse:
    return RawResponse(status, headers, body, phrase=phrase)


def server_limits(limits: LimitsSettings, listen: ListenSettings) -> ServerLimits:
    """What one of the processes bears."""
    return ServerLimits(
        connections_max=limits.share(limits.connections_max, listen.workers),
        connections_per_address_max=limits.share(
            limits.connections_per_address_max, listen.workers
        ),
        requests_per_connection_max=limits.requests_per_connection_max,
        pipelined_max=limits.pipelined_max,
        target_bytes_max=limits.target_bytes_max,
        encoded_slashes_pass=listen.encoded_slashes == "pass",
        head_bytes_max=limits.head_bytes_max,
        fields_max=limits.fields_max,
        header_s=limits.header_s,
        idle_s=limits.idle_s,
        write_s=limits.write_s,
    )
