"""Probes and metrics, on the operators' listener only."""

from collections.abc import Callable

import orjson
from aiohttp import web
from prometheus_client import generate_latest

from gateway.ledger import Ledger, LedgerUnavailable
from gateway.orders.states import Status
from gateway.pages.problems import problem_page
from gateway.telemetry import Telemetry
from middleware.clock import Clock
from middleware.problems import PROBLEMS_BASE, Problem, ProblemType

UNREADABLE_SHOWN = 3
"""Of the orders that can't be read: the log names each, and `ordergate orders list` all."""


class HealthApi:
    """``/livez`` says that the loop turns; ``/readyz`` that orders are taken just now."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        telemetry: Telemetry,
        clock: Clock,
        draining: Callable[[], bool],
    ) -> None:
        self._ledger = ledger
        self._telemetry = telemetry
        self._clock = clock
        self._draining = draining

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/livez", self.livez),
            web.get("/readyz", self.readyz),
            web.get("/metrics", self.metrics),
            web.get(PROBLEMS_BASE + "{slug}", self.problem),
        ]

    async def problem(self, request: web.Request) -> web.Response:
        """The page behind the ``type`` of this listener's problems."""
        page = problem_page(request.match_info["slug"])
        if page is None:
            raise Problem.of(ProblemType.NOT_FOUND)
        return web.Response(body=page, content_type="text/html", charset="utf-8")

    async def livez(self, _request: web.Request) -> web.Response:
        return web.Response(text="alive\n")

    async def readyz(self, _request: web.Request) -> web.Response:
        """200, or 503 with the reasons: nothing here asks the upstream, whose trouble must not
        take every replica out of the balancer."""
        reasons = self._reasons()
        told = {"ready": not reasons, "reasons": reasons}
        if warnings := self._warnings():
            told["warnings"] = warnings
        return web.Response(
            status=503 if reasons else 200,
            body=orjson.dumps(told) + b"\n",
            content_type="application/json",
        )

    def _warnings(self) -> list[str]:
        warnings = []
        if (distrusted := self._ledger.distrusted) is not None:
            warnings.append(f"ledger: {distrusted}")
        if unreadable := self._ledger.unreadable:
            some = ", ".join(list(unreadable)[:UNREADABLE_SHOWN])
            warnings.append(f"ledger: orders that can not be read ({len(unreadable)}): {some}")
        return warnings

    def _reasons(self) -> list[str]:
        reasons = []
        if self._draining():
            reasons.append("draining")
        if (trouble := self._ledger.trouble) is not None:
            reasons.append(f"ledger: {trouble}")
        if not self._ledger.hold.valid(self._clock.monotonic()):
            reasons.append("ledger: the lease has lapsed")
        return reasons

    async def metrics(self, _request: web.Request) -> web.Response:
        await self._read_ledger()
        return web.Response(
            body=generate_latest(self._telemetry.registry),
            headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"},
        )

    async def _read_ledger(self) -> None:
        """Gauges come from the ledger itself; when it can't be read they keep their values and
        ``ordergate_ledger_up`` says 0."""
        told = self._telemetry
        try:
            counts = await self._ledger.counts()
        except LedgerUnavailable:
            told.ledger_up.set(0)
            return
        told.ledger_up.set(0 if self._reasons() else 1)
        told.ledger_distrusted.set(0 if self._ledger.distrusted is None else 1)
        told.unreadable.set(len(self._ledger.unreadable))
        for status in Status:
            told.orders.labels(status.value).set(counts.by_status.get(status, 0))
        told.made.set(counts.made)
        told.removed.set(counts.removed)
        told.conservation_gap.set(counts.made - counts.removed - sum(counts.by_status.values()))
        told.disputed.set(counts.disputed)
        now = self._ledger.now()
        for gauge, since in (
            (told.oldest_pending, counts.oldest_pending_at),
            (told.oldest_dead_letter, counts.oldest_dead_letter_at),
        ):
            gauge.set(0.0 if since is None else max(0.0, now - since))
