"""Asking an upstream whether it holds an order. A lookup proves itself before it counts."""

from collections.abc import Callable, Mapping
from pathlib import Path

from gateway.orders.attempts import Answer, Answered, NotSent
from gateway.orders.entry import Entry
from gateway.orders.lookups import (
    Absent,
    Found,
    LookupResult,
    NoEvidence,
    NoEvidenceReason,
    lookup_target,
    read_lookup,
)
from gateway.orders.promise import LookupPlan
from gateway.telemetry import Telemetry
from gateway.upstream import ConnectFailed, Connection, Exchange, Upstream, UpstreamRequest
from gateway.upstream.breaking import is_failure
from middleware.clock import Clock
from middleware.messages import RawHeaders

LOOKUP_TIMEOUT_S = 10.0
"""A lookup is a read by key; one slower than this is asked again by the back-off."""

LOOKUP_BYTES_MAX = 4_194_304
"""One order, or the few that one key may wrongly have; a listing of a shop is no lookup."""

PROVED_FOR_S = 300.0
"""The upstream may be deployed anew at any time: a proof of its lookup holds for so long."""


class Lookups:
    """Looks orders up through their upstream's pool, with headers from secret files."""

    def __init__(
        self,
        *,
        pools: Mapping[str, Upstream],
        clock: Clock,
        telemetry: Telemetry,
        random_key: Callable[[], str],
    ) -> None:
        self._pools = pools
        self._clock = clock
        self._telemetry = telemetry
        self._logger = telemetry.log_of("upstream")
        self._random_key = random_key
        self._proved: dict[tuple[str, LookupPlan, bool], tuple[Upstream | None, float]] = {}
        """Of which upstream, and until when: one that was configured anew is proved anew."""
        self._told: dict[tuple[str, LookupPlan, bool], str] = {}
        """What was last logged of a lookup that does not prove itself: an outage is a line, not
        one an order."""

    async def look_up(self, entry: Entry) -> LookupResult:
        """What the upstream says of ``entry``; every trouble is NoEvidence."""
        plan = entry.promise.lookup
        if plan is None:
            return NoEvidence(NoEvidenceReason.NOT_PROVED, "no lookup")
        upstream = entry.promise.upstream
        result: LookupResult | None = await self._unproved(upstream, plan)
        result = result or await self._ask(upstream, plan, entry.upstream_key, entry.id)
        if isinstance(result, Found):
            result = await self._unproved(upstream, plan, holding=True) or result
        self._telemetry.looked_up(type(result).__name__.lower())
        return result

    async def _unproved(
        self, upstream: str, plan: LookupPlan, *, holding: bool = False
    ) -> NoEvidence | None:
        """None when a random key was lately said to be absent: an upstream that ignores the
        parameter would "find" a stranger's order. ``holding``: asked while the upstream was seen
        to hold an order; one that holds none says "absent" whether it reads the key or not."""
        which = upstream, plan, holding
        now = self._clock.monotonic()
        pool = self._pools.get(upstream)
        proved, until = self._proved.get(which, (None, 0.0))
        if until > now and proved is pool:
            return None
        result = await self._ask(upstream, plan, self._random_key())
        if isinstance(result, Absent):
            self._proved[which] = pool, now + PROVED_FOR_S
            self._told.pop(which, None)
            return None
        detail = result.detail if isinstance(result, NoEvidence) else "found a random key"
        if self._told.get(which) != detail:
            self._told[which] = detail
            self._logger.error(
                "lookup does not prove itself: a random key must be absent",
                upstream=upstream,
                why=detail,
            )
        return NoEvidence(NoEvidenceReason.NOT_PROVED, detail)

    async def _ask(
        self, upstream: str, plan: LookupPlan, key: str, order: str | None = None
    ) -> LookupResult:
        answer = await self.answer(upstream, plan, key, order)
        return answer if isinstance(answer, NoEvidence) else read_lookup(answer, plan, key)

    async def answer(
        self, upstream: str, plan: LookupPlan, key: str, order: str | None = None
    ) -> Answer | NoEvidence:
        """The upstream's own answer to one lookup, not yet read; NoEvidence where it gave none.
        ``order``: which one is looked up, so that one of which the upstream can say nothing does
        not close it for the others."""
        pool = self._pools[upstream]
        try:
            request = _request(plan, key, pool.origin.authority)
        except (OSError, ValueError) as error:  # the secret file, or what it says
            self._logger.error("a lookup can't be asked", upstream=upstream, why=str(error))
            return NoEvidence(NoEvidenceReason.NOT_SENT, "lookup_headers or lookup is unusable")
        try:
            connection = pool.take_idle() or await pool.connect(pool.limits.connect_timeout_s)
        except ConnectFailed as failure:
            return NoEvidence(NoEvidenceReason.NOT_SENT, failure.reason.value)
        answer = await self._fetch(pool, connection, request, order)
        return NoEvidence(NoEvidenceReason.NO_ANSWER) if answer is None else answer

    async def _fetch(
        self,
        pool: Upstream,
        connection: Connection,
        request: UpstreamRequest,
        order: str | None,
    ) -> Answer | None:
        began = self._clock.monotonic()
        exchange = connection.send(request, answer_bytes_max=LOOKUP_BYTES_MAX)
        try:
            end = await exchange.wait(LOOKUP_TIMEOUT_S)
        finally:
            _leave(exchange)
        if isinstance(end, NotSent):
            pool.unsent(connection)
            return None
        answer = end.answer if isinstance(end, Answered) else None
        failed = answer is None or is_failure(answer.status)
        took_s = self._clock.monotonic() - began
        # An answered lookup says nothing of the order's attempts: only failures are its own.
        pool.ended(connection, failed=failed, took_s=took_s, order=order if failed else None)
        return answer


def _request(plan: LookupPlan, key: str, host: str) -> UpstreamRequest:
    """Made before a connection is taken. Raises OSError and ValueError for what can't be sent."""
    headers = (
        (b"Host", host.encode("ascii")),
        (b"Accept", b"application/json"),
        *secret_headers(plan),
    )
    return UpstreamRequest(plan.method.encode("ascii"), lookup_target(plan, key), headers)


def _leave(exchange: Exchange) -> None:
    if not exchange.ended:
        exchange.stop_listening()


def secret_headers(plan: LookupPlan) -> RawHeaders:
    """The fields in the secret file, one ``Name: value`` a line, read anew for each lookup so that
    a rotated secret is taken up."""
    if plan.headers_file is None:
        return ()
    lines = Path(plan.headers_file).read_bytes().splitlines()
    pairs = (line.partition(b":") for line in lines if line.strip())
    return tuple((name.strip(), value.strip()) for name, _, value in pairs)
