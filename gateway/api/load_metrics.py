"""How loaded this process is, on ``/metrics``: read when it is asked for."""

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from middleware.admission import Admission, Priority, Shed


class LoadMetrics(Collector):
    def __init__(self, admission: Admission) -> None:
        self._admission = admission

    def collect(self) -> Iterator[Metric]:
        admission = self._admission
        for name, text, value in (
            ("requests_running", "Requests at work", admission.running),
            ("requests_waiting", "Requests that wait for their turn", admission.waiting),
            ("requests_awaited", "Requests whose body is waited for", admission.bodies),
            ("requests_limit", "How many may be at work just now", admission.limit.value),
            ("loop_lag_seconds", "How late the event loop was last", admission.lag_s),
        ):
            yield GaugeMetricFamily(f"ordergate_{name}", text, value=value)
        shed = CounterMetricFamily(
            "ordergate_requests_shed", "Requests refused for load", labels=["priority", "reason"]
        )
        for priority in Priority:
            for reason in Shed:
                count = admission.shed[priority, reason]
                shed.add_metric([priority.name.lower(), reason.value], count)
        yield shed
