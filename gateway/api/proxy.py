"""Requests that are no orders: streamed through, both ways, with bounded memory."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import TypeAlias

from aiohttp import web

from gateway.api.forwarding import client_fields, upstream_fields
from gateway.api.proxies import Peer
from gateway.orders.attempts import LostReason, NotSentReason
from gateway.telemetry import Telemetry
from gateway.upstream import (
    BodyMismatch,
    ConnectFailed,
    Connection,
    IllFormedRequest,
    StreamedAnswer,
    StreamTimeouts,
    Upstream,
    UpstreamBroke,
    UpstreamRequest,
)
from gateway.upstream.breaking import is_failure
from middleware.bodies import refuse_declared_length, stream_body
from middleware.errors import CannotGoOn
from middleware.messages import RawHeaders
from middleware.problems import REQUEST_ID, Problem, ProblemType
from middleware.retrying.rules import RetryPolicy
from middleware.retrying.runner import retried

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
"""Safe by RFC 9110 section 9.2.1: sending one twice changes nothing."""

ONCE_MORE = RetryPolicy(first_s=0.02, longest_s=0.2, attempts_max=2)
"""A second try meets a fresh connection; a third would only add to the upstream's load."""

_GONE_BEFORE_ANSWER = frozenset({LostReason.RESET, LostReason.CLOSED})


class _Repeatable(CannotGoOn):
    """The try came to nothing in a way that may be repeated: not sent, or a safe method."""

    repeat_is_safe = True

    def __init__(self, cause: Exception) -> None:
        super().__init__(str(cause))
        self.cause = cause


MakeStream: TypeAlias = Callable[[int, RawHeaders, bytes, int | None], web.StreamResponse]
"""From status, fields, reason phrase and length (None: unknown) to the server's response whose
body comes piece by piece (``gateway.server.RawStream``)."""


MakeWhole: TypeAlias = Callable[[int, RawHeaders, bytes, bytes], web.StreamResponse]
"""From status, fields, reason phrase and body to the server's response that is written in one go
(``gateway.server.RawResponse``)."""


@dataclass(frozen=True, slots=True)
class ProxyLimits:
    """``body_idle_s``: the longest pause of a client in the middle of its body."""

    body_bytes_max: int
    body_idle_s: float
    timeouts: StreamTimeouts


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
    ) -> None:
        self._telemetry = telemetry
        self._stream = stream
        self._whole = whole
        self._body_at_hand = body_at_hand
        self._peer = peer
        self._limits = limits
        self._draw = draw

    async def forward(self, request: web.BaseRequest, pool: Upstream) -> web.StreamResponse:
        """The upstream's answer, or a Problem: 502 where it broke off, 503 where it could not be
        reached, 504 where it took too long. Once the head is out, trouble resets the client's
        connection: a part never passes for the whole."""
        refuse_declared_length(request, self._limits.body_bytes_max)
        body = self._body_at_hand(request)
        head = self._upstream_request(request, body or b"")
        return await self._relay(request, await self._open(request, pool, head, body))

    async def fetch(
        self, request: web.BaseRequest, pool: Upstream, method: bytes, headers: RawHeaders
    ) -> StreamedAnswer:
        """The upstream's answer to ``request`` with another method or other fields, for whoever
        keeps it. Raises Problem, as ``forward`` does. Without its body where ``method`` has none.
        """
        body: bytes | None = b""
        if method not in (b"GET", b"HEAD") or request.can_read_body:
            refuse_declared_length(request, self._limits.body_bytes_max)
            body = self._body_at_hand(request)
        head = self._upstream_request(request, body or b"", method, headers)
        return await self._open(request, pool, head, body)

    async def _open(
        self, request: web.BaseRequest, pool: Upstream, head: UpstreamRequest, body: bytes | None
    ) -> StreamedAnswer:
        once = bool(body) or body is None or head.method.decode("ascii") not in SAFE_METHODS

        async def attempt() -> StreamedAnswer:
            try:
                return await self._send(request, pool, head, streamed=body is None)
            except ConnectFailed as failure:
                closed = failure.reason is NotSentReason.CLOSED_BEFORE_SENDING
                raise _Repeatable(failure) if closed else failure from failure
            except UpstreamBroke as broke:
                gone = broke.reason in _GONE_BEFORE_ANSWER and broke.status is None
                raise _Repeatable(broke) if gone and not once else broke from broke

        try:
            return await retried(
                attempt, on=_Repeatable, policy=ONCE_MORE, draw=self._draw, sleep=asyncio.sleep
            )
        except _Repeatable as repeatable:
            raise problem_of(repeatable.cause) from repeatable
        except (ConnectFailed, UpstreamBroke, BodyMismatch) as error:
            raise problem_of(error) from error

    async def _send(
        self, request: web.BaseRequest, pool: Upstream, head: UpstreamRequest, *, streamed: bool
    ) -> StreamedAnswer:
        """A connection that turns out to be closed gives way to a new one: nothing was sent,
        and nothing of the body was read."""
        sticky = pool.sticky(head.headers)
        connection = pool.take_idle(sticky)
        if connection is None:
            connection = await pool.connect(pool.limits.connect_timeout_s, sticky)
        began = asyncio.get_running_loop().time()
        try:
            answer = await self._streamed(request, connection, head, streamed=streamed)
        except UpstreamBroke:
            took_s = asyncio.get_running_loop().time() - began
            pool.ended(connection, failed=True, took_s=took_s)
            raise
        except BaseException:
            pool.unsent(connection)  # the client's doing, or never sent
            raise
        took_s = asyncio.get_running_loop().time() - began
        pool.ended(connection, failed=is_failure(answer.status), took_s=took_s)
        return answer

    async def _streamed(
        self,
        request: web.BaseRequest,
        connection: Connection,
        head: UpstreamRequest,
        *,
        streamed: bool,
    ) -> StreamedAnswer:
        timeouts = self._limits.timeouts
        if not streamed:
            return await connection.stream(head, timeouts=timeouts)
        return await connection.stream(
            head,
            body=self._body(request),
            content_length=request.content_length,
            timeouts=timeouts,
        )

    def _upstream_request(
        self,
        request: web.BaseRequest,
        body: bytes,
        method: bytes | None = None,
        headers: RawHeaders | None = None,
    ) -> UpstreamRequest:
        fields = upstream_fields(
            request.raw_headers if headers is None else headers,
            peer=self._peer(request),
            request_id=request.get(REQUEST_ID, ""),
        )
        target = request.raw_path.encode("utf-8", "surrogateescape")
        try:
            return UpstreamRequest(method or request.method.encode("ascii"), target, fields, body)
        except IllFormedRequest as flaw:
            raise Problem.of(ProblemType.MALFORMED_REQUEST, str(flaw)) from flaw

    def _body(self, request: web.BaseRequest) -> AsyncIterator[bytes]:
        return stream_body(
            request,
            body_bytes_max=self._limits.body_bytes_max,
            idle_s=self._limits.body_idle_s,
        )

    async def _relay(self, request: web.BaseRequest, answer: StreamedAnswer) -> web.StreamResponse:
        """A small answer is here as a whole, and written as one; another is passed on as it comes,
        with no more of it in memory than the hop buffers."""
        fields = client_fields(answer.headers, (b"Gateway-Source", b"upstream"))
        body = answer.whole()
        if body is None or answer.content_length not in (None, len(body)):  # as of a HEAD
            return await self._pass_on(request, answer, fields)
        try:
            return self._whole(answer.status, fields, answer.phrase, body)
        except ValueError as flaw:
            raise problem_of(UpstreamBroke(LostReason.MALFORMED)) from flaw

    async def _pass_on(
        self, request: web.BaseRequest, answer: StreamedAnswer, fields: RawHeaders
    ) -> web.StreamResponse:
        async with aclosing(answer):
            try:
                response = self._stream(answer.status, fields, answer.phrase, answer.content_length)
            except ValueError as flaw:
                raise problem_of(UpstreamBroke(LostReason.MALFORMED)) from flaw
            await response.prepare(request)
            try:
                async for piece in answer:
                    await response.write(piece)
            except UpstreamBroke as broke:
                self._telemetry.log_of("upstream").warning(
                    "answer broke off", reason=broke.reason.value
                )
                raise problem_of(broke) from broke  # too late for a problem: the server resets
            await response.write_eof()
            return response


def problem_of(error: Exception) -> Problem:
    match error:
        case ConnectFailed(reason=reason):
            return Problem(
                503,
                "upstream-unreachable",
                "The shop's backend can not be reached",
                "Nothing was sent to it. Try again.",
                members={"reason": reason.value},
                headers={"Retry-After": "1"},
                repeat_is_safe=True,
            )
        case UpstreamBroke(reason=LostReason.TIMEOUT):
            return Problem(504, "upstream-timeout", "The shop's backend took too long")
        case UpstreamBroke(reason=reason):
            return Problem(
                502,
                "upstream-broke-off",
                "The shop's backend gave no usable answer",
                members={"reason": reason.value},
            )
        case _:
            return Problem.of(ProblemType.BODY_INCOMPLETE, str(error))
