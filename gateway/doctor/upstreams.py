"""The upstreams: whether they can be reached, and whether their lookups can be believed."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import assert_never

from gateway.doctor.findings import Diagnosis, in_time, ok, problem, warning
from gateway.doctor.ledger import secret_file
from gateway.lookup import LOOKUP_TIMEOUT_S, Lookups
from gateway.orders.attempts import Answer, NotSentReason
from gateway.orders.lookups import Absent, Found, NoEvidence, NoEvidenceReason, read_lookup
from gateway.orders.promise import LookupPlan
from gateway.settings import RouteSettings, Settings
from gateway.telemetry import Telemetry
from gateway.upstream import ConnectFailed
from gateway.upstream.making import make_upstream
from gateway.upstream.servers import Server
from middleware.clock import SystemClock

SLOW_S = 1.0
"""A lookup by an index takes milliseconds; a second is a search through all orders."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One lookup for a key that nobody ever used."""

    plan: LookupPlan
    key: str
    answer: Answer | NoEvidence
    took_s: float


async def upstreams(settings: Settings) -> AsyncIterator[Diagnosis]:
    """Connect to every upstream, and ask every lookup for a random key. Sends no order."""
    pools = {each.name: make_upstream(each) for each in settings.upstreams}
    try:
        away = set()
        for name, pool in pools.items():
            tried = [(server, await connected(server)) for server in pool.servers]
            if all(isinstance(outcome, NotSentReason) for _, outcome in tried):
                away.add(name)
            for server, outcome in tried:
                yield _reached(f"upstream {name}", server, outcome, is_away=name in away)
        lookups = Lookups(
            pools=pools,
            clock=SystemClock(),
            telemetry=Telemetry(),
            random_key=lambda: secrets.token_urlsafe(32),
        )
        for route in settings.order_routes:
            async for diagnosis in _route(route, lookups, is_away=route.upstream in away):
                yield diagnosis
    finally:
        for pool in pools.values():
            await pool.close()


async def connected(server: Server) -> float | NotSentReason:
    """The seconds that a connection to this one took, or why there is none."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    try:
        connection = await server.pool.connect(server.pool.limits.connect_timeout_s)
    except ConnectFailed as failure:
        return failure.reason
    connection.abort()
    return loop.time() - began


def _reached(
    part: str, server: Server, outcome: float | NotSentReason, *, is_away: bool
) -> Diagnosis:
    """``is_away``: none of the upstream's servers can be reached."""
    where = server.pool.origin.authority
    if not isinstance(outcome, NotSentReason):
        return ok(part, f"{where} connects in {in_time(outcome)}", connect_s=outcome)
    text, advice = f"{where} can't be reached: {outcome.value}", "start it, or mend urls"
    if outcome is NotSentReason.TLS_FAILED:
        advice = (
            "see that it speaks TLS there, that ca_file names who signed its certificate, and"
            " server_name the name in it"
        )
    if is_away:
        return problem(part, text, f"{advice}; until then orders are received and wait")
    return warning(part, text, f"{advice}; until then the others have its share")


async def _route(
    route: RouteSettings, lookups: Lookups, *, is_away: bool
) -> AsyncIterator[Diagnosis]:
    part, plan = f"route {route.name}", route.promise().lookup
    if plan is None:
        yield ok(part, f"nothing to look up ({' and '.join(route.capability or ()) or 'none'})")
        return
    if plan.headers_file is not None:
        yield secret_file(Path(plan.headers_file), "lookup_headers", part)
    if is_away:
        yield warning(part, "its lookup was not tried: no connection", "see the upstream")
        return
    for diagnosis in judged(part, await ask(lookups, route.upstream, plan)):
        yield diagnosis


async def ask(lookups: Lookups, upstream: str, plan: LookupPlan) -> Asked:
    loop, key = asyncio.get_running_loop(), secrets.token_urlsafe(32)
    began = loop.time()
    answer = await lookups.answer(upstream, plan, key)
    return Asked(plan, key, answer, loop.time() - began)


def judged(part: str, asked: Asked) -> Iterator[Diagnosis]:
    """A random key must be absent, or a lookup would find strangers' orders."""
    if isinstance(asked.answer, NoEvidence):
        yield _unanswered(part, asked.answer)
        return
    answer, took = asked.answer, in_time(asked.took_s)
    measured = {"lookup_s": asked.took_s, "lookup_status": answer.status}
    result = read_lookup(answer, asked.plan, asked.key)
    match result:
        case Absent() if answer.status == 404:
            yield warning(
                part,
                f"a random key is absent: 404 in {took}, as from a wrong path or a backend that"
                " is booting",
                "look up the key of an order that exists, by hand; better, have the backend"
                " answer 200 with [] for what it does not hold",
                **measured,
            )
        case Absent():
            yield ok(part, f"a random key is absent: {answer.status} in {took}", **measured)
        case Found():
            yield problem(
                part,
                f"a random key is found: {answer.status} with {len(answer.body)} bytes",
                "the upstream ignores the key; mend lookup, or the upstream: until then no"
                " lookup counts",
                **measured,
            )
        case NoEvidence(reason, detail):
            yield problem(
                part,
                f"a random key is answered {answer.status}, which proves nothing:"
                f" {reason.value}{': ' + detail if detail else ''}",
                "the lookup must answer 404, or 200 with []; 401 and 403 ask for lookup_headers",
                **measured,
            )
        case _:
            assert_never(result)
    if asked.took_s > SLOW_S:
        yield warning(
            part, f"its lookup took {took}", "index the key in the upstream's database", **measured
        )


def _unanswered(part: str, trouble: NoEvidence) -> Diagnosis:
    why = trouble.detail or trouble.reason.value
    if trouble.reason is NoEvidenceReason.NO_ANSWER:
        why = f"no whole answer within {LOOKUP_TIMEOUT_S:g} s"
    return problem(
        part, f"its lookup has no answer: {why}", "mend lookup, lookup_headers or the upstream"
    )
