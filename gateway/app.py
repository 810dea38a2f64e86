"""The composition root: what is made of what, and in which order it starts and stops."""

import asyncio
import os
import random
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from gateway.api.admin import AdminApi
from gateway.api.admin_access import admin_token
from gateway.api.admin_documents import effective
from gateway.api.cache_metrics import CacheMetrics
from gateway.api.health import HealthApi
from gateway.api.limits import admission_policy, cache_limits, grace_s, quota_limits
from gateway.api.load_metrics import LoadMetrics
from gateway.api.quota import Quota
from gateway.api.rates import rate_limiter
from gateway.api.tunnels import OpenTunnels
from gateway.failures import Failures
from gateway.ids import new_id
from gateway.ledger import Ledger, LedgerUnavailable
from gateway.lookup import Lookups
from gateway.opening import open_changes, open_ledger, open_shared
from gateway.operators import Operators
from gateway.orders.pacing import Load
from gateway.placement import Placement
from gateway.reconciler import Reconciler
from gateway.retention import Retention
from gateway.sending import Sender
from gateway.server import StorefrontServer, never_again
from gateway.settings import ListenSettings, Settings, UpstreamSettings
from gateway.settings.values import split_address
from gateway.storefront import Parts, Storefront, server_limits, stream, whole
from gateway.stores.sqlite import SqliteLedger
from gateway.telemetry import Telemetry
from gateway.telling import telling
from gateway.touched import takes
from gateway.upstream import Pools
from gateway.upstream.checking import HealthChecks
from gateway.upstream.connections import Readable, ended_now, readable_now
from gateway.upstream.making import make_upstream
from gateway.upstream.metrics import UpstreamMetrics
from gateway.vanished import VanishedUpstreams, say_what_changed
from middleware.admission import Admission
from middleware.caching.cache import Cache
from middleware.caching.changes import ChangeLog
from middleware.clock import Clock, SystemClock
from middleware.request_id import random_request_id
from middleware.tasks import Tasks

CLOSE_S = 5.0
"""For tasks to notice that they were cancelled; one that does not is a bug, and is logged."""


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
        ended: Readable = ended_now,
        retired: Sequence[UpstreamSettings] = (),
        changes: ChangeLog | None = None,
    ) -> None:
        self.settings = settings
        self.telemetry = Telemetry()
        self._failures = Failures(self.telemetry)
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
        self._hearing = False
        self._looking_out = False
        self._cached_by: tuple[Settings | None, bool] = None, False
        self._patience: asyncio.Timeout | None = None
        self.shown_listen: ListenSettings | None = None
        self._orders = Tasks(self._failures.task_failed)
        self._duties = Tasks(self._failures.task_failed)
        self._pools = Pools(
            lambda upstream: make_upstream(
                upstream, readable, draw=draw, event=self.telemetry.log_of("upstream").warning
            )
        )
        self._ended = ended
        self._pools.apply(settings.upstreams)
        self.telemetry.registry.register(UpstreamMetrics(self._pools))
        self._pools.retire(retired)
        self.vanished = VanishedUpstreams(
            ledger=self.ledger, pools=self._pools, telemetry=self.telemetry
        )
        self._rates = rate_limiter(settings, self.telemetry)
        self.admission = Admission(admission_policy(settings.limits), delay_s=self._write_delay_s)
        self._quota = Quota(quota_limits(settings.limits))
        self._tunnels = OpenTunnels()
        log = changes or open_changes(settings, given=ledger is not None)
        self.cache = self._make_cache(log)
        self.cache.changes.hears = self._caches()
        self.telemetry.registry.register(CacheMetrics(self.cache))
        self.told = telling(
            self.ledger,
            self.cache.changes.tell,
            lambda: self._caches() or log.in_use(),
            lambda: self.cache.changes.trouble if self._caches() else None,
        )
        self.telemetry.registry.register(LoadMetrics(self.admission))
        self._make_phases()
        front = self._front()
        self.storefront = StorefrontServer(
            front.handler,
            limits=server_limits(settings.limits, settings.listen),
            make_id=make_request_id,
            clock=self._clock,
            event=self.telemetry.log_of("requests").warning,
            trusts=front.trusts,
            proxy_protocol=settings.listen.proxy_protocol,
        )
        self._open_to(front)
        self._operators: Operators | None = None
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
        return Cache(
            limits=cache_limits(self.settings.cache),
            clock=self._clock,
            tasks=self._orders,
            log=log,
            takes=takes,
            whole=whole,
            stream=stream,
            background=self.admission.background,
            shared=open_shared(self.settings),
        )

    def _front(self) -> Storefront:
        return Storefront(
            self.settings,
            Parts(
                ledger=self.told,
                placement=self.placement,
                pools=self._pools,
                cache=self.cache,
                rates=self._rates,
                admission=self.admission,
                quota=self._quota,
                tunnels=self._tunnels,
                telemetry=self.telemetry,
                clock=self._clock,
                draw=self._draw,
                make_id=self._make_id,
                make_request_id=self._make_request_id,
                who=self._who,
                draining=lambda: self.draining,
                tasks=self._orders,
                ended=self._ended,
                surprised=self._failures.surprised,
                failed=self._failures.request_failed,
            ),
        )

    def _open_to(self, front: Storefront) -> None:
        front.take_over()
        self.storefront.quick = front.at_hand
        self.storefront.turn_off = refuses = front.turning_off
        self.storefront.turn_off_again = never_again if refuses is None else refuses.again
        self.storefront.sluice.shut = lambda: not self.admission.is_open
        self.storefront.go_straight = front.straight

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
        self._duties.start(self.retention.run(), name="retention")
        self._duties.start(self.admission.run(), name="admission")
        self._duties.start(HealthChecks(self._pools).run(), name="health checks")

    def _caches(self) -> bool:
        """Whether a cache of its own may keep what its orders change."""
        of, caches = self._cached_by
        if of is not self.settings:
            caches = any(route.kind == "cached" for route in self.settings.routes)
            self._cached_by = self.settings, caches
        return caches

    def _mind_cache(self) -> None:
        """Hear of changes once there is something that caches; others look who does."""
        if not self._caches():
            if not self._looking_out:
                self._looking_out = True
                self._duties.start(self.cache.look_out(), name="look out for caches")
        elif not self._hearing:
            self._hearing = self.cache.changes.hears = True
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
        if self._operators is not None:
            await self._operators.stop()
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
            front = self._front()
        except BaseException:
            self.settings = before
            raise
        self.admission.apply(admission_policy(settings.limits))
        self._quota.limits = quota_limits(settings.limits)
        vanished = self._pools.apply(settings.upstreams, grace_s=grace_s(before))
        limits = server_limits(settings.limits, settings.listen)
        self.storefront.reload(front.handler, limits, front.trusts)
        self._mind_cache()
        self._open_to(front)
        say_what_changed(before, settings, self.telemetry)
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
        settings = self.settings
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
            config=self._effective,
        )
        self._operators = Operators(
            [*health.routes(), *admin.routes()],
            settings.admin_token or admin_token(settings.admin_token_file),
            self._failures.request_failed,
        )
        self.admin_address = await self._operators.start(*split_address(settings.listen.admin))

    def _effective(self) -> dict[str, Any]:
        listen = self.shown_listen or self.settings.listen
        return effective(self.settings.model_copy(update={"listen": listen}))

    # --- duties ---

    async def _keep_hold(self) -> None:
        """Renew the hold at a third of the lease, so that two renewals may fail."""
        while True:
            await asyncio.sleep(self.settings.ledger.lease_s / 3)
            with suppress(LedgerUnavailable):
                await self.ledger.renew_hold()

    # --- failures ---

    def _disk_failed(self, reason: str) -> None:
        """The ledger's disk failed us: only another process may go on with the file."""
        self.telemetry.log_of("ledger").error("the ledger's disk failed: ending", reason=reason)
        self.disk_failed = True
        self.ending.set()
