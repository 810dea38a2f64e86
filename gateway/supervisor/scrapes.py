"""The metrics of many workers as those of one gateway: pure.

Each worker is a source of its own. Counters and histograms are added up, the dead included: of a
worker that was killed stays what it had told last. What a gauge means decides how it is merged.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import TypeAlias

from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector


class Merge(Enum):
    """``SHARED``: read from the ledger that all share, so one worker's word is enough (and all
    shared gauges come from the same worker, that they fit together). ``LEAST``: all of them have
    to say 1. ``ADDED``: each counts its own."""

    SHARED = "shared"
    LEAST = "least"
    ADDED = "added"


GAUGES: Mapping[str, Merge] = {
    "ordergate_orders": Merge.SHARED,
    "ordergate_orders_made": Merge.SHARED,
    "ordergate_orders_removed": Merge.SHARED,
    "ordergate_conservation_gap": Merge.SHARED,
    "ordergate_ledger_distrusted": Merge.SHARED,
    "ordergate_orders_disputed": Merge.SHARED,
    "ordergate_oldest_pending_age_seconds": Merge.SHARED,
    "ordergate_oldest_dead_letter_age_seconds": Merge.SHARED,
    "ordergate_orders_unreadable": Merge.ADDED,
    "ordergate_ledger_up": Merge.LEAST,
}
"""Gauges that are not here are added up."""

LEDGER_UP = "ordergate_ledger_up"

_ACCUMULATED = ("counter", "histogram", "summary")

Labels: TypeAlias = tuple[tuple[str, str], ...]
Samples: TypeAlias = dict[tuple[str, Labels], float]


@dataclass(slots=True)
class Family:
    type: str
    documentation: str
    samples: Samples = field(default_factory=dict)


Scrape: TypeAlias = dict[str, Family]
"""By family name; nothing in it is shared with another scrape."""


def parse(text: str) -> Scrape:
    """A page of ``/metrics``. Raises ValueError."""
    scrape: Scrape = {}
    for found in text_string_to_metric_families(text):
        family = scrape.setdefault(found.name, Family(found.type, found.documentation))
        for sample in found.samples:
            labels = tuple(sorted(sample.labels.items()))
            family.samples[sample.name, labels] = float(sample.value)
    return scrape


class Scrapes:
    """What each worker told last. A worker is known by a number that is never used again."""

    def __init__(self) -> None:
        self._base: Scrape = {}
        self._last: dict[int, Scrape] = {}

    def began(self, worker: int) -> None:
        self._last[worker] = {}

    def told(self, worker: int, text: str) -> None:
        """Take a page of a worker; one that comes after its end is passed over."""
        if worker in self._last:
            self._last[worker] = parse(text)

    def ended(self, worker: int) -> None:
        """What it counted stays; its gauges go with it."""
        last = self._last.pop(worker, {})
        _accumulate(self._base, {name: each for name, each in last.items() if _stays(name, each)})

    def merged(self) -> Scrape:
        """All of them as one."""
        whole: Scrape = {}
        _accumulate(whole, self._base)
        for scrape in self._last.values():
            _accumulate(whole, {n: each for n, each in scrape.items() if not _is_shared(n)})
        shared = self._who_knows_the_ledger()
        _accumulate(whole, {name: each for name, each in shared.items() if _is_shared(name)})
        return whole

    def page(self) -> bytes:
        """The merged metrics in the text format."""
        registry = CollectorRegistry()
        registry.register(_Collected(self.merged()))
        return generate_latest(registry)

    def _who_knows_the_ledger(self) -> Scrape:
        """The first whose ledger is up, else the first that has told anything."""
        told = [scrape for scrape in self._last.values() if scrape]
        up = (scrape for scrape in told if _value(scrape, LEDGER_UP) == 1.0)
        return next(up, told[0] if told else {})


class _Collected(Collector):
    def __init__(self, scrape: Scrape) -> None:
        self._scrape = scrape

    def collect(self) -> Iterable[Metric]:
        for name, family in self._scrape.items():
            metric = Metric(name, family.documentation, family.type)
            for (sample, labels), value in family.samples.items():
                metric.add_sample(sample, dict(labels), value)
            yield metric


def _stays(name: str, family: Family) -> bool:
    return family.type in _ACCUMULATED or _is_birthday(name)


def _is_birthday(name: str) -> bool:
    """``…_created``: since when a counter counts; the text format shows it as a gauge."""
    return name.endswith("_created")


def _is_shared(name: str) -> bool:
    return GAUGES.get(name) is Merge.SHARED


def _value(scrape: Scrape, name: str) -> float | None:
    return scrape[name].samples.get((name, ())) if name in scrape else None


def _accumulate(whole: Scrape, part: Mapping[str, Family]) -> None:
    for name, family in part.items():
        kept = whole.setdefault(name, Family(family.type, family.documentation))
        least = _is_birthday(name) or GAUGES.get(name) is Merge.LEAST
        for sample, value in family.samples.items():
            before = kept.samples.get(sample)
            if before is None:
                kept.samples[sample] = value
            else:
                kept.samples[sample] = min(before, value) if least else before + value
