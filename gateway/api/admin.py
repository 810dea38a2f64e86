"""The operators' API: who waits, why, and the word of a person where no evidence comes."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from aiohttp import web

from gateway.api.admin_access import token_check
from gateway.api.admin_actions import AdminActions
from gateway.api.admin_cache import AdminCache
from gateway.api.admin_documents import as_json, counts_members, outline, summary, whole
from gateway.api.admin_filters import listed, parse_listing
from gateway.api.admin_upstreams import AdminUpstreams
from gateway.ledger import EntryUnreadable, Ledger, LedgerUnavailable
from gateway.telemetry import Telemetry
from gateway.upstream import Upstream
from middleware.caching.cache import Cache
from middleware.problems import Handler, Problem, ProblemType

__all__ = ["OPENAPI", "AdminApi", "ledger_problems", "token_check"]

OPENAPI = Path(__file__).with_name("openapi.json")
"""The description of this API (OpenAPI 3.1), as it is served."""


class AdminApi:
    """Orders for operators; every request shows the token (``Authorization: Bearer``).

    ``config`` makes the configuration in force, without secrets.
    """

    def __init__(
        self,
        *,
        ledger: Ledger,
        telemetry: Telemetry,
        upstreams: Mapping[str, Upstream],
        config: Callable[[], Mapping[str, Any]],
        cache: Cache,
    ) -> None:
        self._ledger = ledger
        self._config = config
        self._actions = AdminActions(ledger=ledger, telemetry=telemetry)
        self._cache = AdminCache(cache)
        self._upstreams = AdminUpstreams(upstreams=upstreams, telemetry=telemetry)
        self._openapi = OPENAPI.read_bytes()

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/admin/orders", self.list),
            web.get("/admin/orders/{id}", self.show),
            web.get("/admin/counts", self.counts),
            web.get("/admin/config", self.config),
            web.get("/admin/openapi.json", self.openapi),
            *self._actions.routes(),
            *self._cache.routes(),
            *self._upstreams.routes(),
        ]

    async def list(self, request: web.Request) -> web.Response:
        """``?status=in_doubt,dead_letter&route=…&upstream=…&older_than_s=3600&disputed=true``,
        ``&limit=50&after=CURSOR``; oldest first. What can't be read is listed apart, whatever its
        route and upstream."""
        listing = parse_listing(request.query)
        try:
            page = await listed(self._ledger, listing)
        except ValueError as error:
            raise Problem.of(ProblemType.MALFORMED_REQUEST, f"after: {error}") from error
        now = self._ledger.now()
        orders = [summary(entry, now) for entry in page.entries]
        unreadable = [outline(entry, now) for entry in page.unreadable]
        return as_json({"orders": orders, "unreadable": unreadable, "next": page.next})

    async def show(self, request: web.Request) -> web.Response:
        entry = await self._ledger.find(request.match_info["id"])
        if entry is None:
            raise Problem.of(ProblemType.NOT_FOUND, "There is no such order.")
        return as_json(whole(entry, self._ledger.now()))

    async def counts(self, _request: web.Request) -> web.Response:
        counts = await self._ledger.counts()
        return as_json(counts_members(counts, self._ledger.now()))

    async def config(self, _request: web.Request) -> web.Response:
        return as_json(self._config())

    async def openapi(self, _request: web.Request) -> web.Response:
        return web.Response(body=self._openapi, content_type="application/json")


def ledger_problems() -> Any:
    """Middleware: a ledger that is away is a ``503`` to operators too."""

    @web.middleware
    async def middleware(request: web.BaseRequest, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except EntryUnreadable as one:
            raise Problem(
                503,
                "order-unreadable",
                "What is kept of the order can not be read",
                str(one),
                members={"order": one.entry_id},
            ) from one
        except LedgerUnavailable as trouble:
            raise Problem(
                503, "ledger-unavailable", "The ledger can not be read", str(trouble)
            ) from trouble

    return middleware
