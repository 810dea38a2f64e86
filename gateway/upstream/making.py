"""An upstream from its settings."""

import random
from collections.abc import Callable

from gateway.settings import UpstreamSettings
from gateway.settings.certificates import client_context
from gateway.upstream.balancing import BalancePolicy
from gateway.upstream.breaking import BreakerPolicy
from gateway.upstream.connections import Readable, readable_now
from gateway.upstream.limits import HopLimits
from gateway.upstream.opening import Tls
from gateway.upstream.origins import Origin
from gateway.upstream.pool import Pool
from gateway.upstream.servers import Event, HealthPolicy, Upstream, silent

STALE_SHARE = 1.5
"""What was idle for less than idle_s when it was taken may be half as old again at its first byte:
the claim is written in between."""


def make_upstream(
    upstream: UpstreamSettings,
    readable: Readable = readable_now,
    *,
    draw: Callable[[], float] = random.random,
    event: Event = silent,
) -> Upstream:
    """Raises OSError, ValueError where its certificates can't be used."""
    limits = HopLimits(
        connections_max=upstream.connections_max,
        plain_max=_plain_max(upstream),
        connect_timeout_s=upstream.connect_timeout_s,
        idle_s=upstream.idle_s,
        stale_s=upstream.idle_s * STALE_SHARE,
        age_s=upstream.connection_age_s,
    )
    context = client_context(upstream)
    tls = None if context is None else Tls(context, upstream.server_name)
    pools = [
        Pool(Origin.parse(url), limits=limits, tls=tls, readable=readable) for url in upstream.urls
    ]
    sticky, deadline = upstream.sticky_header, upstream.deadline_header
    return Upstream(
        upstream.name,
        pools,
        sticky_header=None if sticky is None else sticky.encode("ascii"),
        deadline_field=None if deadline is None else deadline.encode("ascii"),
        health=_health(upstream),
        balance=BalancePolicy(
            eject_after=upstream.eject_after,
            eject_s=upstream.eject_s,
            slow_start_s=upstream.slow_start_s,
        ),
        breaker=BreakerPolicy(
            failures=upstream.breaker_failures,
            slow=upstream.breaker_slow,
            slow_s=upstream.breaker_slow_s,
            calls_min=upstream.breaker_calls_min,
            window_s=upstream.breaker_window_s,
            open_s=upstream.breaker_open_s,
            probes=upstream.breaker_probes,
        ),
        draw=draw,
        event=event,
    )


def _plain_max(upstream: UpstreamSettings) -> int:
    """Three quarters, where nothing else is said, and the last of very few."""
    told, places = upstream.plain_connections_max, upstream.connections_max
    return places - places // 4 if told is None else min(told, places)


def _health(upstream: UpstreamSettings) -> HealthPolicy | None:
    if upstream.health_check is None:
        return None
    method, _, target = upstream.health_check.partition(" ")
    return HealthPolicy(method.encode("ascii"), target.encode("ascii"), upstream.health_every_s)
