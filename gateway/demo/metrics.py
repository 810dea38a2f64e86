"""What the gateway says of itself: its metrics, read as an operator's Prometheus would."""

from collections import Counter
from dataclasses import dataclass, field, replace

from prometheus_client.parser import text_string_to_metric_families

from gateway.demo.wire import Address, Reply, Request, exchange
from gateway.orders.states import PENDING, SETTLED, Status

SCRAPE_S_MAX = 1.0
"""A scrape is for show; the next one comes within a second."""


@dataclass(frozen=True, slots=True)
class Gauges:
    """One scrape. Whatever the gateway doesn't show is absent, or None."""

    orders: Counter[str] = field(default_factory=Counter)
    attempts: Counter[str] = field(default_factory=Counter)
    replays: int | None = None
    doubts: int | None = None
    doubts_resolved: int | None = None
    oldest_pending_age_s: float | None = None

    def after(self, earlier: "Gauges") -> "Gauges":
        """These, counted on from what an ``earlier`` process had counted before it was killed."""
        return replace(
            self,
            attempts=self.attempts + earlier.attempts,
            replays=_sum(self.replays, earlier.replays),
            doubts=_sum(self.doubts, earlier.doubts),
            doubts_resolved=_sum(self.doubts_resolved, earlier.doubts_resolved),
        )

    @property
    def pending(self) -> int:
        return sum(self.orders[status] for status in PENDING)


async def scrape(admin: Address) -> Gauges | None:
    """The metrics now, or None while there is nobody to ask."""
    outcome = await exchange(admin, Request("GET", "/metrics"), SCRAPE_S_MAX)
    if not isinstance(outcome, Reply) or outcome.status != 200:
        return None
    try:
        return read(outcome.body.decode())
    except ValueError:
        return None


def read(text: str) -> Gauges:
    """Prometheus' text format. Raises ValueError for anything else."""
    orders: Counter[str] = Counter()
    attempts: Counter[str] = Counter()
    single: dict[str, float] = {}
    resolved = 0
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == "ordergate_orders":
                orders[sample.labels.get("status", "")] += int(sample.value)
            elif sample.name == "ordergate_attempts_total":
                attempts[sample.labels.get("result", "")] += int(sample.value)
            elif sample.name == "ordergate_moves_total":
                resolved += int(sample.value) * _resolves(sample.labels)
            elif not sample.labels:
                single[sample.name] = sample.value
    return Gauges(
        orders=orders,
        attempts=attempts,
        replays=_whole(single.get("ordergate_replays_total")),
        doubts=_whole(single.get("ordergate_doubts_total")),
        doubts_resolved=resolved if "ordergate_doubts_total" in single else None,
        oldest_pending_age_s=single.get("ordergate_oldest_pending_age_seconds"),
    )


def _resolves(move: dict[str, str]) -> bool:
    """Whether it leads from doubt to an outcome."""
    return move.get("source") == Status.IN_DOUBT and move.get("target") in SETTLED


def _sum(one: int | None, other: int | None) -> int | None:
    return one if other is None else other + (one or 0)


def _whole(value: float | None) -> int | None:
    return None if value is None else int(value)
