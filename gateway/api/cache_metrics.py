"""The cache's counts, as metrics."""

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from middleware.caching.cache import Cache


class CacheMetrics(Collector):
    """Read when they are scraped: a hit costs one addition."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache

    def collect(self) -> Iterator[Metric]:
        cache = self._cache
        requests = CounterMetricFamily(
            "ordergate_cache_requests", "Requests of cached routes by result", labels=["result"]
        )
        requests.add_metric(["hit"], cache.hits)
        requests.add_metric(["forwarded"], cache.forwarded)
        requests.add_metric(["collapsed"], cache.flights.waited)
        yield requests
        if cache.shared is not None:
            looks = CounterMetricFamily(
                "ordergate_cache_shared",
                "Looks at shared answers by result",
                labels=["result"],
            )
            looks.add_metric(["found"], cache.shared.found)
            looks.add_metric(["missed"], cache.shared.missed)
            looks.add_metric(["failed"], cache.shared.failed)
            yield looks
        yield CounterMetricFamily(
            "ordergate_cache_evictions", "Answers that left for want of room", cache.store.evicted
        )
        yield GaugeMetricFamily("ordergate_cache_entries", "Answers kept", cache.store.count)
        yield GaugeMetricFamily(
            "ordergate_cache_bytes", "What they take, overhead included", cache.store.bytes_used
        )
