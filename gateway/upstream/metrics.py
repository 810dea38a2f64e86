"""Upstreams on ``/metrics``: read when they are asked for, so that no request pays for them."""

import asyncio
from collections.abc import Iterator, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from gateway.upstream.servers import Upstream


class UpstreamMetrics(Collector):
    """Collect in the loop that the upstreams live in."""

    def __init__(self, upstreams: Mapping[str, Upstream]) -> None:
        self._upstreams = upstreams

    def collect(self) -> Iterator[Metric]:
        state = GaugeMetricFamily(
            "ordergate_breaker_open",
            "1 while the upstream's breaker lets nothing or only probes through",
            labels=["upstream"],
        )
        opened = CounterMetricFamily(
            "ordergate_breaker_opened", "Times that a breaker opened", labels=["upstream"]
        )
        busy = GaugeMetricFamily(
            "ordergate_server_busy",
            "Connections to a server in use or being opened, and who waits for one",
            labels=["upstream", "server"],
        )
        out = GaugeMetricFamily(
            "ordergate_server_out",
            "1 while a server is put aside (ejected, or found down by its check)",
            labels=["upstream", "server"],
        )
        for upstream in self._upstreams.values():
            state.add_metric([upstream.name], float(upstream.breaker.shut))
            opened.add_metric([upstream.name], upstream.breaker.opened)
            for server in upstream.servers:
                labels = [upstream.name, server.name]
                busy.add_metric(labels, server.pool.busy)
                out.add_metric(labels, float(server.standing.is_out(_now())))
        yield from (state, opened, busy, out)


def _now() -> float:
    try:
        return asyncio.get_running_loop().time()
    except RuntimeError:
        return 0.0  # nobody serves: names alone are asked for
