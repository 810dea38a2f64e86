"""Requests that are no orders: streamed through, both ways, with bounded memory."""

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from typing import TypeAlias

from aiohttp import web

from gateway.api.attempts import BEGUN, Attempts, Interim, ProxyLimits, body_of, too_slow
from gateway.api.failures import problem_of
from gateway.api.forwarding import (
    as_told,
    client_fields,
    hops_left,
    one_hop_less,
    upstream_fields,
    with_deadline,
)
from gateway.api.proxies import Peer
from gateway.orders.attempts import LostReason
from gateway.telemetry import Telemetry
from gateway.upstream import (
    IllFormedRequest,
    StreamedAnswer,
    Upstream,
    UpstreamBroke,
    UpstreamRequest,
)
from gateway.upstream.breaking import is_failure
from gateway.upstream.upgrading import Outcome
from middleware.bodies import at_the_clients_pace, body_comes, refuse_declared_length, refuse_length
from middleware.messages import RawHeaders
from middleware.problems import REQUEST_ID, Problem, ProblemType

SMALL_BYTES = 65_536
"""A body up to here is waited for before it takes a connection of the upstream's: phones send
slowly, and others do on purpose."""

MakeStream: TypeAlias = Callable[[int, RawHeaders, bytes, int | None], web.StreamResponse]
"""From status, fields, reason phrase and length (None: unknown) to the server's response whose
body comes piece by piece (``gateway.server.RawStream``)."""


MakeWhole: TypeAlias = Callable[[int, RawHeaders, bytes, bytes], web.StreamResponse]
"""From status, fields, reason phrase and body to the server's response that is written in one go
(``gateway.server.RawResponse``)."""


class ProxyApi:
    """Forwards a request to its upstream and streams the answer back."""

    def __init__(
        self,
        *,
        telemetry: Telemetry,
        limits: ProxyLimits,
        draw: Callable[[], float],
        stream: MakeStream,
        whole: MakeWhole,
        body_at_hand: Callable[[web.BaseRequest], bytes | None],
        peer: Callable[[web.BaseRequest], Peer],
        wall: Callable[[], float],
        interim: Interim,
    ) -> None:
        self._telemetry = telemetry
        self._attempts = Attempts(
            telemetry=telemetry, limits=limits, draw=draw, wall=wall, interim=interim
        )
        self._stream = stream
        self._whole = whole
        self._body_at_hand = body_at_hand
        self._peer = peer
        self._limits = limits

    async def forward(self, request: web.BaseRequest, pool: Upstream) -> web.StreamResponse:
        """The upstream's answer, or a Problem: 502 where it broke off, 503 where it could not be
        reached, 504 where it took too long. Once the head is out, trouble resets the client's
        connection: a part never passes for the whole."""
        begun = request.get(BEGUN)
        began = asyncio.get_running_loop().time() if begun is None else begun.began
        by = began + self._limits.total_s
        body = await self._small_body(request, by)
        head = self._upstream_request(request, pool, body or b"")
        answer = await self._attempts.open(request, pool, head, body, by, begun)
        return await self._relay(request, answer, by)

    def as_told(self, request: web.BaseRequest, *, fronted: bool) -> RawHeaders:
        """The fields of ``request`` by which the upstream may choose its answer."""
        return as_told(request.raw_headers, self._peer(request), fronted=fronted)

    def ends_by(self) -> float:
        """When a request that begins now has to be over (loop time)."""
        return asyncio.get_running_loop().time() + self._limits.total_s

    async def fetch(
        self,
        request: web.BaseRequest,
        pool: Upstream,
        method: bytes,
        headers: RawHeaders,
        by: float,
    ) -> StreamedAnswer:
        """The upstream's answer to ``request`` with another method or other fields, for whoever
        keeps it; that its body comes ``by`` then is the caller's to see to. Raises Problem, as
        ``forward`` does. Without its body where ``method`` has none.
        """
        body: bytes | None = b""
        if method not in (b"GET", b"HEAD") or request.can_read_body:
            body = await self._small_body(request, by)
        head = self._upstream_request(request, pool, body or b"", method, headers)
        return await self._attempts.open(request, pool, head, body, by)

    async def upgrade(self, request: web.BaseRequest, pool: Upstream, protocol: bytes) -> Outcome:
        """The upstream's end of a tunnel, or its answer where it does not agree. One attempt.

        Raises Problem, ConnectFailed and UpstreamBroke."""
        head = self._upstream_request(request, pool, b"")
        loop = asyncio.get_running_loop()
        limit_s, sticky = pool.limits.connect_timeout_s, pool.sticky(head.headers)
        connection = await pool.connect(limit_s, sticky, plain=True)
        began = loop.time()
        try:
            outcome = await connection.upgrade(head, protocol, self._limits.timeouts)
        except UpstreamBroke:
            pool.ended(connection, failed=True, took_s=loop.time() - began)
            raise
        except BaseException:
            pool.unsent(connection)
            raise
        failed = isinstance(outcome, StreamedAnswer) and is_failure(outcome.status)
        pool.ended(connection, failed=failed, took_s=loop.time() - began)
        return outcome

    async def relay(self, request: web.BaseRequest, answer: StreamedAnswer) -> web.StreamResponse:
        """Pass an answer on, within the time that a whole request has."""
        return await self._relay(request, answer, self.ends_by())

    def _upstream_request(
        self,
        request: web.BaseRequest,
        pool: Upstream,
        body: bytes,
        method: bytes | None = None,
        headers: RawHeaders | None = None,
    ) -> UpstreamRequest:
        fields = upstream_fields(
            request.raw_headers if headers is None else headers,
            peer=self._peer(request),
            request_id=request.get(REQUEST_ID, ""),
        )
        left = hops_left(request.method, request.raw_headers)
        if left:
            fields = one_hop_less(fields, left)
        if pool.deadline_field is not None:
            waited_s = min(self._limits.timeouts.head_s, self._limits.total_s)
            fields = with_deadline(fields, pool.deadline_field, waited_s)
        target = request.raw_path.encode("utf-8", "surrogateescape")
        try:
            return UpstreamRequest(method or request.method.encode("ascii"), target, fields, body)
        except IllFormedRequest as flaw:
            raise Problem.of(ProblemType.MALFORMED_REQUEST, str(flaw)) from flaw

    async def _small_body(self, request: web.BaseRequest, by: float) -> bytes | None:
        """The body where all of it is here or is small; None where it has to be streamed."""
        body = self._body_at_hand(request)
        if body is not None:
            refuse_length(len(body), self._limits.body_bytes_max)
            return body
        refuse_declared_length(request, self._limits.body_bytes_max)
        if request.content_length is None or request.content_length > SMALL_BYTES:
            return None
        try:
            async with body_comes(request), asyncio.timeout_at(by):
                return b"".join([piece async for piece in body_of(request, self._limits)])
        except TimeoutError:
            raise too_slow() from None

    async def _relay(
        self, request: web.BaseRequest, answer: StreamedAnswer, by: float
    ) -> web.StreamResponse:
        """A small answer is here as a whole, and written as one; another is passed on as it comes,
        with no more of it in memory than the hop buffers."""
        fields = client_fields(answer.headers, (b"Gateway-Source", b"upstream"))
        body = answer.whole()
        if body is None or answer.content_length not in (None, len(body)):  # as of a HEAD
            return await self._pass_on(request, answer, fields, by)
        try:
            return self._whole(answer.status, fields, answer.phrase, body)
        except ValueError as flaw:
            raise problem_of(UpstreamBroke(LostReason.MALFORMED)) from flaw

    async def _pass_on(
        self, request: web.BaseRequest, answer: StreamedAnswer, fields: RawHeaders, by: float
    ) -> web.StreamResponse:
        async with aclosing(answer):
            try:
                response = self._stream(answer.status, fields, answer.phrase, answer.content_length)
            except ValueError as flaw:
                raise problem_of(UpstreamBroke(LostReason.MALFORMED)) from flaw
            await response.prepare(request)
            try:
                with at_the_clients_pace(request):
                    async with asyncio.timeout_at(by):
                        async for piece in answer:
                            await response.write(piece)
            except TimeoutError:
                raise problem_of(UpstreamBroke(LostReason.TIMEOUT)) from None
            except UpstreamBroke as broke:
                self._telemetry.log_of("upstream").warning(
                    "answer broke off", reason=broke.reason.value
                )
                raise problem_of(broke) from broke  # too late for a problem: the server resets
            await response.write_eof()
            return response
