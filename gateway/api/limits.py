"""``[limits]`` and ``[cache]``, as each part takes its own."""

from gateway.api.attempts import ProxyLimits
from gateway.api.quota import QuotaLimits
from gateway.api.tunnels import TunnelLimits
from gateway.settings import LimitsSettings, Settings
from gateway.settings.cache import CacheSettings
from gateway.upstream import StreamTimeouts
from middleware.admission import AdmissionPolicy
from middleware.caching.policy import CacheLimits


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
        bodies_max=limits.bodies_max,
        lag_s=limits.lag_s,
        adaptive=limits.adaptive,
    )


def cache_limits(cache: CacheSettings) -> CacheLimits:
    return CacheLimits(
        bytes_max=cache.memory_bytes_max,
        object_bytes_max=cache.object_bytes_max,
        stale_when_away_s=cache.stale_when_away_s,
        shared_object_bytes_max=cache.shared_object_bytes_max,
        shared_timeout_s=cache.shared_timeout_s,
    )


def proxy_limits(limits: LimitsSettings) -> ProxyLimits:
    return ProxyLimits(
        body_bytes_max=limits.plain_body_bytes_max,
        body_idle_s=limits.plain_body_idle_s,
        uploads_max=limits.uploads_max,
        total_s=limits.plain_total_s,
        timeouts=StreamTimeouts(head_s=limits.plain_head_s, quiet_s=limits.plain_quiet_s),
    )


def grace_s(settings: Settings) -> float:
    """For a request that has found its route and not yet its pool: its body may take so long."""
    waits_s = [route.answer_within_s for route in settings.order_routes]
    return settings.limits.body_s + max(waits_s, default=0.0)
