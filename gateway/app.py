"""The composition root: what is made of what, and in which order it starts and stops."""

import asyncio
import os
import random
import secrets
import socket
import time
from base64 import urlsafe_b64encode
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from aiohttp import web

from gateway.api.admin import AdminApi, ledger_problems, token_check
from gateway.api.admin_access import admin_token
from gateway.api.admin_documents import effective
from gateway.api.answers import Told
from gateway.api.at_hand import AtHand
from gateway.api.cache_metrics import CacheMetrics
from gateway.api.cors import cors
from gateway.api.health import HealthApi
from gateway.api.load_metrics import LoadMetrics
from gateway.api.orders import OrdersApi, order_problems
from gateway.api.proxies import Peer, TrustedProxies
from gateway.api.proxy import ProxyApi, ProxyLimits
from gateway.api.quota import Quota, QuotaLimits
from gateway.api.rates import RatesOf, rate_limiter, route_rates
from gateway.api.replay_check import ReplayCheck
from gateway.api.router import Router
from gateway.api.scopes import scope_sources
from gateway.api.status import StatusApi
from gateway.api.tunnels import TunnelLimits, Tunnels
from gateway.api.turning_off import TurningOff
from gateway.ledger import Ledger, LedgerUnavailable
from gateway.lookup import Lookups
from gateway.orders.pacing import Load
from gateway.placement import Placement
from gateway.reconciler import Reconciler
from gateway.retention import Retention
from gateway.sending import Sender
from gateway.server import (
    RawResponse,
    RawStream,
    ServerLimits,
    StorefrontServer,
    Switched,
    address_of,
    body_at_hand,
    client_end,
    compose,
    raw_response,
)
from gateway.settings import LimitsSettings, ListenSettings, Settings, UpstreamSettings
from gateway.settings.values import split_address
from gateway.stores.sqlite import SqliteLedger
from gateway.stores.sqlite_changes import SqliteChangeLog, changes_path
from gateway.telemetry import Telemetry
from gateway.telling import telling
from gateway.touched import takes
from gateway.upstream import Pools, StreamTimeouts
from gateway.upstream.checking import HealthChecks
from gateway.upstream.connections import Readable, readable_now
from gateway.upstream.making import make_upstream
from gateway.upstream.metrics import UpstreamMetrics
from gateway.vanished import VanishedUpstreams
from middleware.access_log import access_log
from middleware.admission import Admission, AdmissionPolicy
from middleware.caching.cache import Cache
from middleware.caching.changes import ChangeLog, MemoryLog
from middleware.caching.policy import CacheLimits
from middleware.clock import Clock, SystemClock
from middleware.deadline import deadline
from middleware.idempotency.gate import idempotency_gate
from middleware.messages import RawHeaders
from middleware.problems import problems
from middleware.request_id import random_request_id, request_id
from middleware.tasks import Tasks

RETENTION_EVERY_S = 60.0
"""What is past its time may wait a minute; a sweep of nothing costs two index look-ups."""

CLOSE_S = 5.0
"""For tasks to notice that they were cancelled; one that does not is a bug, and is logged."""


def new_id() -> str:
    """An id that grants access by itself: 128 random bits, base64url, after the time in
    milliseconds: what is made together lies together in the ledger's indices."""
    made_at_ms = int(time.time() * 1000) % (1 << 40)
    return urlsafe_b64encode(made_at_ms.to_bytes(5, "big") + secrets.token_bytes(16)).decode()


class Gateway:
    """One process's gateway. ``start``, then ``stop`` once; everything it needs is made here, and
    what a simulation turns (ledger, clock, chance, ids) may be given. ``ending`` is set by whoever
    wants it to stop, and by itself when ``disk_failed``: another process must be started then."""

    def __init__(
        self,
        settings: Settings,
        *,
        ledger: Ledger | None = None,
        clock: Clock | None = None,
        draw: Callable[[], float] = random.random,
        make_id: Callable[[], str] = new_id,
        make_request_id: Callable[[], str] = random_request_id,
        who: str | None = None,
        admin: bool = True,
        readable: Readable = readable_now,
        retired: Sequence[UpstreamSettings] = (),
        changes: ChangeLog | None = None,
    ) -> None:
        self.settings = settings
        self.telemetry = Telemetry()
        self._clock = clock or SystemClock()
        self._draw = draw
        self._make_id = make_id
        self._make_request_id = make_request_id
        self._who = who or f"{socket.gethostname()}/{os.getpid()}"
        self.ending = asyncio.Event()
        self.disk_failed = False
        self.ledger = ledger or open_ledger(
            settings,
            self._clock,
            self._who,
            make_id,
            self._disk_failed,
            self.telemetry.log_of("ledger").error,
        )
        self.draining = False
        self._with_admin = admin
        self._cache_minded = False
        self._patience: asyncio.Timeout | None = None
        self.shown_listen: ListenSettings | None = None
        self._orders = Tasks(self._task_failed)
        self._duties = Tasks(self._task_failed)
        self._pools = Pools(
            lambda upstream: make_upstream(
                upstream, readable, draw=draw, event=self.telemetry.log_of("upstream").warning
            )
        )
        self._pools.apply(settings.upstreams)
        self.telemetry.registry.register(UpstreamMetrics(self._pools))
        self._pools.retire(retired)
        self.vanished = VanishedUpstreams(
            ledger=self.ledger, pools=self._pools, telemetry=self.telemetry
        )
        self._rates = rate_limiter(settings, self.telemetry)
        self.admission = Admission(admission_policy(settings.limits), delay_s=self._write_delay_s)
        self._quota = Quota(quota_limits(settings.limits))
        log = changes or open_changes(settings, given=ledger is not None)
        self.cache = self._make_cache(log)
        self.telemetry.registry.register(CacheMetrics(self.cache))
        self.told = telling(
            self.ledger,
            self.cache.changes.tell,
            lambda: self._minds_changes() or log.in_use(),
            lambda: self.cache.changes.trouble if self._minds_changes() else None,
        )
        self.telemetry.registry.register(LoadMetrics(self.admission))
        self._make_phases()
        self.storefront = StorefrontServer(
            self._storefront_handler(),
            limits=server_limits(settings.limits),
            make_id=make_request_id,
            clock=self._clock,
            event=self.telemetry.log_of("requests").warning,
            trusts=self._proxies.trusts,
            proxy_protocol=settings.listen.proxy_protocol,
        )
        self._mind_the_door()
        self._admin_runner: web.AppRunner | None = None
        self.storefront_address = ("", 0)
        self.admin_address = ("", 0)

    @property
    def upstreams(self) -> Pools:
        return self._pools

    # --- made of what ---

    def _make_phases(self) -> None:
        ledger, clock, telemetry, who = self.told, self._clock, self.telemetry, self._who
        self.sender = Sender(
            ledger=ledger,
            pools=self._pools,
            tasks=self._orders,
            clock=clock,
            telemetry=telemetry,
            draw=self._draw,
            who=who,
        )
        lookups = Lookups(
            pools=self._pools, clock=clock, telemetry=telemetry, random_key=self._make_id
        )
        self.reconciler = Reconciler(
            ledger=ledger,
            sender=self.sender,
            lookups=lookups,
            load=self._load,
            tasks=self._duties,
            clock=clock,
            telemetry=telemetry,
            draw=self._draw,
            who=who,
        )
        self.placement = Placement(
            ledger=ledger,
            sender=self.sender,
            hand_over=self.reconciler,
            tasks=self._orders,
            telemetry=telemetry,
            aside=self.admission.aside,
        )
        self.retention = Retention(ledger)

    def _make_cache(self, log: ChangeLog) -> Cache:
        cached = self.settings.cache
        return Cache(
            limits=CacheLimits(cached.memory_bytes_max, cached.object_bytes_max),
            clock=self._clock,
            tasks=self._orders,
            log=log,
            takes=takes,
            whole=whole,
            stream=stream,
        )

    def _quick(self, router: Router) -> AtHand | None:
        """None where each request's own id is to be kept, or requests are counted: that is done
        further in."""
        routes = self.settings.routes
        counted = any(each.kind == "cached" and each.rate_per_address for each in routes)
        if not router.storing or self.settings.listen.trust_request_id or counted:
            return None
        return AtHand(
            cache=self.cache,
            current=router.storing,
            admission=self.admission,
            telemetry=self.telemetry,
            make_id=self._make_id,
            client=self._client_of,
        )

    def _turn_off(self, router: Router) -> TurningOff | None:
        """None where each request's own id is to be kept, or pages of other origins are to read
        the refusal: that is done further in."""
        if self.settings.listen.trust_request_id or router.has_cors:
            return None
        return TurningOff(
            ranked=router.ranked,
            admission=self.admission,
            telemetry=self.telemetry,
            make_id=self._make_request_id,
            client=self._client_of,
        )

    def _mind_the_door(self) -> None:
        self.storefront.quick = self._at_hand
        self.storefront.turn_off = self._turning_off

    def _client_of(self, address: str, headers: RawHeaders) -> str:
        return self._proxies.client(Peer(address, self._proxies.trusts(address)), headers)

    def _storefront_handler(self) -> Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]:
        """The middlewares, outermost first, around the router."""
        self._proxies = TrustedProxies(self.settings.listen.trusted_proxies)
        peer = self._proxies.peers(address_of)

        def client(request: web.BaseRequest) -> str:
            return self._proxies.client(peer(request), request.raw_headers)

        sources = scope_sources(self.settings, self._clock, self.telemetry)
        router = Router(self.settings, self._pools, respond, sources)
        replay_check = ReplayCheck(self._pools, router.replay_checks, peer)
        orders = OrdersApi(
            placement=self.placement,
            replay_check=replay_check,
            quota=self._quota,
            client=client,
            ledger=self.ledger,
            telemetry=self.telemetry,
            new_id=self._make_id,
            who=self._who,
            respond=respond,
            peer=peer,
        )
        status = StatusApi(
            ledger=self.ledger,
            replay_check=replay_check,
            scopes=router.scopes,
            respond=respond,
            aside=self.admission.aside,
            waits_max=self.settings.limits.waits_max,
        )
        proxy = ProxyApi(
            telemetry=self.telemetry,
            limits=proxy_limits(self.settings.limits),
            draw=self._draw,
            stream=stream,
            whole=whole,
            body_at_hand=body_at_hand,
            peer=peer,
            wall=self._clock.wall,
        )
        rates = route_rates(self.settings.routes, sources)
        rates_of = RatesOf(rates, router.route_name, client)
        self.admission.priority_of = router.priority
        self._at_hand = self._quick(router)
        self._turning_off = self._turn_off(router)
        of_orders = (deadline(router.budget_s), idempotency_gate(router.gate_policy))
        tunnels = Tunnels(
            proxy=proxy,
            limits=tunnel_limits(self.settings.limits),
            wanted=client_end,
            switch=Switched,
            draining=lambda: self.draining,
            aside=self.admission.aside,
        )
        return compose(
            (
                request_id(
                    self._make_request_id, trust_incoming=self.settings.listen.trust_request_id
                ),
                access_log(
                    self.telemetry.log_of("requests").info,
                    wanted=lambda: not self.telemetry.is_silent("requests", "info"),
                    client=client,
                ),
                *((cors(router.cors_policy, respond),) if router.has_cors else ()),
                router.counted(self.telemetry),
                problems(raw_response, on_failure=self._request_failed),
                order_problems(router.is_order),
                *((self._rates.middleware(rates_of),) if rates else ()),
                self.admission.middleware(),
            ),
            router.handler(orders, status, proxy, self.cache, tunnels, partial(compose, of_orders)),
        )

    def _write_delay_s(self) -> float:
        """A remote ledger's server does its work elsewhere: waiting for it costs this process
        nothing."""
        return self.ledger.delay_s if isinstance(self.ledger, SqliteLedger) else 0.0

    def _load(self) -> Load:
        if self.admission.is_pressed():
            return Load.PRESSED
        return Load.BUSY if self.admission.is_busy() else Load.IDLE

    # --- start and stop ---

    async def start(self) -> None:
        """Open the ledger, then listen, then take up what was left. Raises LedgerRefused,
        LedgerUnavailable, OSError."""
        await self.ledger.open()
        self._duties.start(self._keep_hold(), name="hold")
        listen = self.settings.listen
        self.storefront_address = await self.storefront.start(
            *split_address(listen.address), reuse_port=listen.workers > 1
        )
        if self._with_admin:
            await self._start_admin()
        self._duties.start(self.reconciler.run(), name="reconciler")
        self._mind_cache()
        self._duties.start(self._retire(), name="retention")
        self._duties.start(self.admission.run(), name="admission")
        self._duties.start(HealthChecks(self._pools).run(), name="health checks")

    def _minds_changes(self) -> bool:
        """Whether a cache of its own, or of a gateway that has other routes, may keep what its
        orders change."""
        return any(route.kind == "cached" or route.invalidates for route in self.settings.routes)

    def _mind_cache(self) -> None:
        """Hear of changes once there is something that caches; other gateways ask nobody."""
        if self._minds_changes() and not self._cache_minded:
            self._cache_minded = True
            self._duties.start(self.cache.listen(), name="cache")

    async def stop(self, drain_s: float, *, delay_s: float = 0.0) -> None:
        """Refuse readiness, serve on for ``delay_s`` so that load balancers notice, finish what is
        in flight within ``drain_s``, give the hold back. Never raises for what is broken: the
        ledger's next opener takes over whatever is left."""
        self.draining = True
        with suppress(TimeoutError):
            async with asyncio.timeout(delay_s + drain_s) as self._patience:
                await asyncio.sleep(delay_s)
                await self.storefront.drain(drain_s)
                await self._orders.finish(drain_s)
        self._patience = None
        await self.storefront.drain(0.0)
        stuck = await self._duties.close(CLOSE_S) + await self._orders.close(CLOSE_S)
        for name in stuck:
            self.telemetry.log_of("process").error("task did not end", task=name)
        await self._pools.close()
        await self._rates.close()
        await self.cache.close()
        if self._admin_runner is not None:
            await self._admin_runner.cleanup()
        with suppress(LedgerUnavailable):
            await self.ledger.close()

    def hurry(self) -> None:
        """Cut a drain short: what is in flight stays resolvable by whoever opens the ledger."""
        if self._patience is not None:
            self._patience.reschedule(asyncio.get_running_loop().time())

    # --- a changed configuration ---

    def reload(self, settings: Settings) -> None:
        """Take routes, upstreams and limits of ``settings`` from the next request on.

        What is under way goes on as it began, and orders keep what they were promised: the pool
        of an upstream that vanished stays until no order that waits names it. Fails whole or not
        at all.
        """
        before, self.settings = self.settings, settings
        try:
            handler = self._storefront_handler()
        except BaseException:
            self.settings = before
            raise
        self.admission.apply(admission_policy(settings.limits))
        self._quota.limits = quota_limits(settings.limits)
        vanished = self._pools.apply(settings.upstreams, grace_s=_grace_s(before))
        self.storefront.reload(handler, server_limits(settings.limits), self._proxies.trusts)
        self._mind_cache()
        self._mind_the_door()
        moved = _moved(before, settings)
        if moved:
            self.telemetry.log_of("upstream").warning(
                "upstreams have new addresses: orders that wait are looked up there; a backend"
                " with other books needs another name",
                upstreams=moved,
            )
        if vanished:
            self.telemetry.log_of("upstream").warning(
                "upstreams are gone from the configuration: orders that wait may still need them",
                upstreams=vanished,
            )
        self.vanished.look_now()

    def mind_upstreams(self) -> None:
        """Say which orders name upstreams that are not there, and close the vanished ones in
        their time. After ``start``; ends with ``stop``."""
        self._duties.start(self.vanished.run(), name="vanished upstreams")

    async def _start_admin(self) -> None:
        health = HealthApi(
            ledger=self.told,
            telemetry=self.telemetry,
            clock=self._clock,
            draining=lambda: self.draining,
        )
        admin = AdminApi(
            ledger=self.told,
            telemetry=self.telemetry,
            cache=self.cache,
            upstreams=self._pools,
            config=lambda: effective(
                self.settings.model_copy(
                    update={"listen": self.shown_listen or self.settings.listen}
                )
            ),
        )
        token = self.settings.admin_token or admin_token(self.settings.admin_token_file)
        middlewares: list[Any] = [
            problems(on_failure=self._request_failed),
            token_check(lambda: token),
            ledger_problems(),
        ]
        application = web.Application(middlewares=middlewares)
        application.add_routes([*health.routes(), *admin.routes()])
        self._admin_runner = web.AppRunner(application, access_log=None)
        await self._admin_runner.setup()
        host, port = split_address(self.settings.listen.admin)
        site = web.TCPSite(self._admin_runner, host, port)
        await site.start()
        bound = self._admin_runner.addresses[0]
        self.admin_address = (str(bound[0]), int(bound[1]))

    # --- duties ---

    async def _keep_hold(self) -> None:
        """Renew the hold at a third of the lease, so that two renewals may fail."""
        while True:
            await asyncio.sleep(self.settings.ledger.lease_s / 3)
            with suppress(LedgerUnavailable):
                await self.ledger.renew_hold()

    async def _retire(self) -> None:
        while True:
            with suppress(LedgerUnavailable):
                await self.retention.run_once()
            await asyncio.sleep(RETENTION_EVERY_S)

    # --- failures ---

    def _disk_failed(self, reason: str) -> None:
        """The ledger's disk failed us: only another process may go on with the file."""
        self.telemetry.log_of("ledger").error("the ledger's disk failed: ending", reason=reason)
        self.disk_failed = True
        self.ending.set()

    def _task_failed(self, name: str, error: BaseException) -> None:
        if isinstance(error, LedgerUnavailable):
            self.telemetry.log_of("ledger").warning(
                "ledger unavailable", task=name, reason=str(error)
            )
        else:
            self.telemetry.log_of("process").error("task failed", task=name, exc_info=error)

    def _request_failed(self, request: web.BaseRequest, error: BaseException) -> None:
        log = self.telemetry.log_of("requests")
        path = request.raw_path.partition("?")[0]
        if isinstance(error, ConnectionError):  # of the client: an upstream's is translated
            log.info("client left before its answer was whole", path=path, why=str(error))
        else:
            log.error("request failed", path=path, exc_info=error)


def _moved(before: Settings, after: Settings) -> list[str]:
    """The upstreams that kept their name and changed their address."""
    urls = {upstream.name: upstream.urls for upstream in before.upstreams}
    return [each.name for each in after.upstreams if urls.get(each.name, each.urls) != each.urls]


def respond(told: Told) -> web.StreamResponse:
    return RawResponse(told.status, told.headers, told.body, phrase=told.phrase)


def stream(status: int, headers: RawHeaders, phrase: bytes, length: int | None) -> RawStream:
    return RawStream(status, headers, phrase=phrase, length=length)


def whole(status: int, headers: RawHeaders, phrase: bytes, body: bytes) -> RawResponse:
    return RawResponse(status, headers, body, phrase=phrase)


def _grace_s(settings: Settings) -> float:
    """For a request that has found its route and not yet its pool: its body may take so long."""
    waits_s = [route.answer_within_s for route in settings.order_routes]
    return settings.limits.body_s + max(waits_s, default=0.0)


def server_limits(limits: LimitsSettings) -> ServerLimits:
    return ServerLimits(
        connections_max=limits.connections_max,
        connections_per_address_max=limits.connections_per_address_max,
        requests_per_connection_max=limits.requests_per_connection_max,
        pipelined_max=limits.pipelined_max,
        target_bytes_max=limits.target_bytes_max,
        head_bytes_max=limits.head_bytes_max,
        fields_max=limits.fields_max,
        header_s=limits.header_s,
        idle_s=limits.idle_s,
        write_s=limits.write_s,
    )


def tunnel_limits(limits: LimitsSettings) -> TunnelLimits:
    return TunnelLimits(limits.tunnels_max, limits.tunnel_idle_s)


def quota_limits(limits: LimitsSettings) -> QuotaLimits:
    return QuotaLimits(limits.orders_per_client_max, limits.orders_window_s)


def admission_policy(limits: LimitsSettings) -> AdmissionPolicy:
    return AdmissionPolicy(
        requests_max=limits.requests_max,
        requests_min=limits.requests_min,
        queue_max=limits.queue_max,
        queue_s=limits.queue_s,
        lag_s=limits.lag_s,
        adaptive=limits.adaptive,
    )


def proxy_limits(limits: LimitsSettings) -> ProxyLimits:
    return ProxyLimits(
        body_bytes_max=limits.plain_body_bytes_max,
        body_idle_s=limits.plain_body_idle_s,
        total_s=limits.plain_total_s,
        timeouts=StreamTimeouts(head_s=limits.plain_head_s, quiet_s=limits.plain_quiet_s),
    )


def open_changes(settings: Settings, *, given: bool) -> ChangeLog:
    """Beside the ledger, for the processes that share it; a ledger that was given is nobody
    else's."""
    if given:
        return MemoryLog()
    if settings.ledger.remote is not None:
        from gateway.stores.remote import remote_changes  # an SQLite ledger needs no client of it

        return remote_changes(settings.ledger)
    return SqliteChangeLog(changes_path(settings.ledger.path))


def open_ledger(
    settings: Settings,
    clock: Clock,
    who: str,
    make_id: Callable[[], str],
    disk_failed: Callable[[str], None] | None = None,
    event: Callable[..., None] = lambda *_, **__: None,
) -> Ledger:
    if settings.ledger.remote is not None:
        from gateway.stores.remote import remote_ledger  # an SQLite ledger needs no client of it

        return remote_ledger(settings.ledger, clock=clock, who=who, new_holder=make_id, event=event)
    return SqliteLedger(
        settings.ledger.path,
        clock=clock,
        who=who,
        lease_s=settings.ledger.lease_s,
        new_holder=make_id,
        adopt=settings.ledger.adopt,
        disk_failed=disk_failed,
    )
