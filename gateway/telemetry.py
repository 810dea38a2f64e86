"""Metrics and log lines in the glossary's words. One registry a process; nothing global."""

from collections.abc import Callable, Iterable
from typing import Any, Literal, TypeAlias, get_args

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from gateway.orders.entry import Entry, Event
from gateway.orders.states import Reason, Status

ORDER_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""From a fast backend's answer to the longest that answer_within_s usually lets a client wait."""


LogPart: TypeAlias = Literal["process", "requests", "orders", "upstream", "reconciler", "ledger"]
"""What a log line speaks of; each part has a level of its own (``[log] levels``)."""


NOTED_MAX = 1024
"""Durations noted before they are counted, however seldom somebody asks."""

_CLASSES = tuple(f"{digit}xx" for digit in range(10))

Notes: TypeAlias = dict[tuple[Counter, tuple[str, ...]], int]


class _Noted(Collector):
    """Has what was noted counted whenever the registry is read; shows nothing itself. Noting costs
    a fifth of counting."""

    def __init__(self, count: Callable[[], None]) -> None:
        self._count = count

    def collect(self) -> Iterable[Metric]:
        self._count()
        return ()


def _never_silent(_part: LogPart, _level: str) -> bool:
    return False


class Telemetry:
    """What the process tells operators. What each request counts is only noted, and counted when
    somebody asks (``_Noted``). ``is_silent`` says which lines nobody will see: they cost more than
    the count."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._notes: Notes = {}
        self._took_s: list[float] = []
        self.registry.register(_Noted(self._count_noted))  # first: its turn comes before theirs
        self._logs = {
            part: structlog.get_logger("ordergate", part=part) for part in get_args(LogPart)
        }
        self.log = self.log_of("process")
        self._attempts = self._counter("attempts", "Attempts by how they ended", "result")
        self._lookups = self._counter("lookups", "Lookups by what they said", "result")
        self._moves = self._counter("moves", "Moves of orders", "source", "target", "reason")
        self._submissions = self._counter("submissions", "Submissions by their fate", "fate")
        self._requests = self._counter("requests", "Requests answered", "kind", "code")
        self._rates_exceeded = self._counter("rates_exceeded", "Requests refused with 429", "rate")
        self._tokens_refused = self._counter(
            "tokens_refused", "Bearer tokens that were not believed", "reason"
        )
        self._retries = self._counter(
            "retries", "What was sent to an upstream once more", "upstream"
        )
        self._retries_refused = self._counter(
            "retries_refused", "Retries that were not made, to spare the upstream", "upstream"
        )
        self.doubts = self._counter("doubts", "Orders that came into doubt")
        self.replays = self._counter("replays", "Answers replayed from the ledger")
        self.late_answers = self._counter("late_answers", "Answers after the timeout")
        self.order_seconds = Histogram(
            "ordergate_order_seconds",
            "From the end of the submission's body to its answer",
            buckets=ORDER_SECONDS,
            registry=self.registry,
        )
        self.orders = self._gauge("orders", "Orders in the ledger", "status")
        self.made = self._gauge("orders_made", "Entries ever made")
        self.removed = self._gauge("orders_removed", "Entries removed after retention")
        self.conservation_gap = self._gauge(
            "conservation_gap", "Entries made less entries accounted for: 0, or one is lost"
        )
        self.disputed = self._gauge("orders_disputed", "Settled orders that evidence contradicts")
        self.oldest_pending = self._gauge(
            "oldest_pending_age_seconds", "Age of the oldest pending order"
        )
        self.oldest_dead_letter = self._gauge(
            "oldest_dead_letter_age_seconds", "Age of the oldest dead letter"
        )
        self.ledger_up = self._gauge("ledger_up", "1 while the ledger takes orders")
        self.ledger_distrusted = self._gauge(
            "ledger_distrusted", "1 since the ledger forgot something, until an operator trusts it"
        )
        self.unreadable = self._gauge(
            "orders_unreadable", "Orders that were met lately and can not be read"
        )
        self.is_silent: Callable[[LogPart, str], bool] = _never_silent

    def log_of(self, part: LogPart) -> Any:
        """The logger of a part."""
        return self._logs[part]

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"ordergate_{name}", text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"ordergate_{name}", text, labels, registry=self.registry)

    def _count(self, counter: Counter, *labels: str, times: int = 1) -> None:
        noted = counter, labels
        self._notes[noted] = self._notes.get(noted, 0) + times

    def _count_noted(self) -> None:
        for (counter, labels), times in self._notes.items():
            counter.labels(*labels).inc(times)
        self._notes.clear()
        for took_s in self._took_s:
            self.order_seconds.observe(took_s)
        self._took_s.clear()

    def order_took(self, took_s: float) -> None:
        self._took_s.append(took_s)
        if len(self._took_s) >= NOTED_MAX:
            self._count_noted()

    def attempt_ended(self, result: str) -> None:
        self._count(self._attempts, result)

    def retried(self, upstream: str) -> None:
        self._count(self._retries, upstream)

    def retry_refused(self, upstream: str) -> None:
        self._count(self._retries_refused, upstream)

    def looked_up(self, result: str) -> None:
        self._count(self._lookups, result)

    def submitted(self, fate: str) -> None:
        self._count(self._submissions, fate)

    def rate_exceeded(self, rate: str) -> None:
        self._count(self._rates_exceeded, rate)

    def token_refused(self, reason: str) -> None:
        self._count(self._tokens_refused, reason)

    def answered(self, kind: str, status: int, times: int = 1) -> None:
        self._count(self._requests, kind, _CLASSES[status // 100], times=times)

    def claimed(self, entry: Entry) -> None:
        """A claim, also of an order that failed before: its earlier moves are known."""
        self._moved(entry, entry.events[-1])

    def taken_over(self, entry: Entry) -> None:
        """A lease that was taken: a move only where its last holder left an attempt behind."""
        if entry.events and entry.events[-1].reason is Reason.LEASE_EXPIRED:
            self.attempt_ended("lost")
            self._moved(entry, entry.events[-1])

    def moved(self, before: Entry | None, after: Entry) -> None:
        """Log and count each move from ``before`` to ``after``; neither keys nor bodies."""
        known = len(before.events) if before is not None else 0
        if before is not None and after.events == before.events:
            return
        for event in after.events[known:] or after.events[-1:]:
            self._moved(after, event)

    def _moved(self, entry: Entry, event: Event) -> None:
        source = event.source or ""
        self._count(self._moves, source, event.target, event.reason)
        if event.target is Status.IN_DOUBT and event.source is not Status.IN_DOUBT:
            self.doubts.inc()
        level = "warning" if event.target is Status.DEAD_LETTER else "info"
        if self.is_silent("orders", level):
            return
        getattr(self.log_of("orders"), level)(
            "order moved",
            order=entry.id,
            route=entry.promise.route,
            source=str(source),
            target=event.target.value,
            reason=event.reason.value,
            attempt=event.attempt,
            detail=event.detail,
        )
