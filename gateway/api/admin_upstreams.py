"""What operators see of upstreams, and their word on a breaker."""

import asyncio
from collections.abc import Mapping
from typing import Any

import orjson
from aiohttp import web

from gateway.api.admin_documents import as_json
from gateway.telemetry import Telemetry
from gateway.upstream import Upstream
from gateway.upstream.breaking import Override
from middleware.problems import Problem, ProblemType

TEXT_CHARS_MAX = 1000


class AdminUpstreams:
    """``GET /admin/upstreams``, ``PUT /admin/upstreams/{name}/breaker``.

    A word on a breaker holds until the next word or the process's end, also through a reload; a
    supervisor tells all its workers, those too that are started later.
    """

    def __init__(self, *, upstreams: Mapping[str, Upstream], telemetry: Telemetry) -> None:
        self._upstreams = upstreams
        self._log = telemetry.log_of("upstream")

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/admin/upstreams", self.list),
            web.put("/admin/upstreams/{name}/breaker", self.set_breaker),
        ]

    async def list(self, _request: web.Request) -> web.Response:
        shown = [upstream_members(each) for each in self._upstreams.values()]
        return as_json({"upstreams": shown})

    async def set_breaker(self, request: web.Request) -> web.Response:
        """Hold it open or closed, or let it decide again (``auto``)."""
        name = request.match_info["name"]
        override, operator, reason = _word(await request.read())
        if name not in self._upstreams:
            raise Problem.of(ProblemType.NOT_FOUND, "There is no such upstream.")
        upstream = self._upstreams[name]
        upstream.breaker.set(override)
        self._log.warning(
            "breaker set by an operator",
            upstream=upstream.name,
            override=override.value,
            operator=operator,
            reason=reason,
        )
        return as_json(upstream_members(upstream))


def upstream_members(upstream: Upstream) -> dict[str, Any]:
    now = asyncio.get_running_loop().time()
    breaker = upstream.breaker
    rates = breaker.rates(now)
    return {
        "name": upstream.name,
        "breaker": {
            "state": breaker.effective.value,
            "override": breaker.override.value,
            "opened": breaker.opened,
            "open_for_s": round(breaker.open_for_s(now), 3),
            "calls": rates.calls,
            "failed": rates.failed,
            "slow": rates.slow,
        },
        "servers": [
            {
                "name": server.name,
                "busy": server.pool.busy,
                "out": server.standing.is_out(now),
                "checked_down": server.standing.checked_down,
                "ejected_for_s": round(max(0.0, server.standing.ejected_until - now), 3),
                "share": round(server.standing.share(now, upstream.balance), 3),
            }
            for server in upstream.servers
        ],
    }


def _word(body: bytes) -> tuple[Override, str, str]:
    try:
        told = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise _malformed("send a JSON object") from error
    if not isinstance(told, dict) or set(told) != {"override", "operator", "reason"}:
        raise _malformed("send override, operator and reason, and nothing else")
    override = told["override"]
    if override not in tuple(Override):
        raise _malformed('override: "open", "closed" or "auto"')
    return Override(override), _text(told, "operator"), _text(told, "reason")


def _text(told: Mapping[str, Any], name: str) -> str:
    value = told[name]
    if not isinstance(value, str) or not value.strip() or len(value) > TEXT_CHARS_MAX:
        raise _malformed(f"{name}: text of 1 to {TEXT_CHARS_MAX} characters")
    return value


def _malformed(detail: str) -> Problem:
    return Problem.of(ProblemType.MALFORMED_REQUEST, detail)
