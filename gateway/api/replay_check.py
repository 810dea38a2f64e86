"""Before a stored answer is repeated: does the upstream still let this caller in?

A token may have been revoked since the first try (FAULTS row L17), and the gateway authenticates
nobody. By option a safe request goes upstream with the caller's own credentials first.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from aiohttp import web

from gateway.api.answers import RETRY_AFTER_S, Told
from gateway.api.forwarding import client_fields, upstream_fields
from gateway.api.proxies import Peer
from gateway.orders.attempts import Answer, Answered, Lost, LostReason, NotSent
from gateway.orders.entry import Entry
from gateway.upstream import ConnectFailed, IllFormedRequest, Upstream, UpstreamRequest
from middleware.messages import HOP_BY_HOP, RawHeaders, without
from middleware.problems import REQUEST_ID, Problem

ANSWER_BYTES_MAX = 65_536
"""Of a refusal, which is a line of text; of a larger one the client gets status and fields."""

TRIES = 2
"""A kept connection may close as the question goes out; it is safe to ask again, once."""

_OF_THE_ORDER = frozenset(
    {
        b"accept-encoding", b"content-encoding", b"content-language", b"content-length",
        b"content-location", b"content-type", b"expect", b"idempotency-key", b"if-match",
        b"if-modified-since", b"if-none-match", b"if-range", b"if-unmodified-since", b"prefer",
        b"range",
    }
) | HOP_BY_HOP  # fmt: skip
"""Fields that speak of the order, or would make the answer conditional."""

_OF_THE_BODY = frozenset({b"content-type", b"content-encoding", b"etag"})


@dataclass(frozen=True, slots=True)
class SafeRequest:
    """What is asked: ``"GET /me"``."""

    method: bytes
    target: bytes

    @classmethod
    def parse(cls, text: str) -> "SafeRequest":
        method, _, target = text.partition(" ")
        return cls(method.encode("ascii"), target.encode("ascii"))


@dataclass(frozen=True, slots=True)
class Check:
    """What an order route has asked, and of whom; ``safe`` None: nothing."""

    upstream: str
    safe: SafeRequest | None


class NotLetIn(Exception):
    """The upstream's own 401 or 403, for the client."""

    def __init__(self, told: Told) -> None:
        super().__init__(str(told.status))
        self.told = told


class ReplayCheck:
    """Asks the upstream about callers, on routes that have a check. Never on the way of a fresh
    order. ``checks``: of every order route, by its name."""

    def __init__(
        self,
        pools: Mapping[str, Upstream],
        checks: Mapping[str, Check],
        peer: Callable[[web.BaseRequest], Peer],
    ) -> None:
        self._pools = pools
        self._checks = checks
        self._peer = peer

    async def let_in(
        self, request: web.BaseRequest, entry: Entry, *, by: float, route: str | None = None
    ) -> None:
        """Return where the upstream answers 2xx before ``by`` (loop time), or the order's route
        has no check. Raises NotLetIn, or a Problem (503) where it did not say.

        The order's route and its upstream may have other names by now; ``route`` is the one that
        takes the request."""
        check = self._check_of(entry, route)
        if check is not None and check.safe is not None:
            promised = entry.promise.upstream
            upstream = promised if promised in self._pools else check.upstream
            await self._checked(request, upstream, check.safe, by)

    def _check_of(self, entry: Entry, route: str | None) -> Check | None:
        """Where nobody can say what became of the order's route, any check of its upstream's, or
        any at all: what was to be checked is never told unchecked."""
        for name in (entry.promise.route, route or ""):
            if name in self._checks:
                return self._checks[name]
        every = list(self._checks.values())
        same = [each for each in every if each.upstream == entry.promise.upstream]
        return next((each for each in same or every if each.safe is not None), None)

    async def _checked(
        self, request: web.BaseRequest, upstream: str, safe: SafeRequest, by: float
    ) -> None:
        request_id, peer = request.get(REQUEST_ID, ""), self._peer(request)
        fields = upstream_fields(request.raw_headers, peer=peer, request_id=request_id)
        fields = without(fields, _OF_THE_ORDER)
        try:
            asked = UpstreamRequest(safe.method, safe.target, fields)
            async with asyncio.timeout_at(by):
                answer = await self._ask(self._pools[upstream], asked, by)
        except (TimeoutError, ConnectFailed, IllFormedRequest) as trouble:
            raise _unchecked() from trouble
        if answer is None or not (answer.status in (401, 403) or 200 <= answer.status <= 299):
            raise _unchecked()
        if answer.status in (401, 403):
            raise NotLetIn(_told(answer))

    async def _ask(self, pool: Upstream, asked: UpstreamRequest, by: float) -> Answer | None:
        for _ in range(TRIES):
            connection = pool.take_idle() or await pool.connect(pool.limits.connect_timeout_s)
            exchange = connection.send(asked, answer_bytes_max=ANSWER_BYTES_MAX)
            try:
                left_s = by - asyncio.get_running_loop().time()
                end = await exchange.wait(max(0.0, left_s))
            finally:
                exchange.stop_listening()
                pool.unsent(connection)  # an ask in between is no judge of the upstream
            match end:
                case Answered(answer=answer):
                    return answer
                case NotSent() | Lost(reason=LostReason.RESET | LostReason.CLOSED):
                    continue
                case _:
                    return None
        return None


def _told(answer: Answer) -> Told:
    source = (b"Gateway-Source", b"upstream")
    if answer.oversize:
        return Told(
            answer.status,
            answer.phrase,
            client_fields(_without_body_fields(answer.headers), source),
            b"",
        )
    return Told(answer.status, answer.phrase, client_fields(answer.headers, source), answer.body)


def _without_body_fields(headers: RawHeaders) -> RawHeaders:
    return without(headers, _OF_THE_BODY)


def _unchecked() -> Problem:
    return Problem(
        503,
        "caller-not-checked",
        "Whether you may see the answer can not be checked",
        "The order is recorded. Repeat with the same key.",
        headers={"Retry-After": str(RETRY_AFTER_S)},
        repeat_is_safe=True,
    )
