"""Requests that are no orders: streamed through, both ways, with bounded memory."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, suppress
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

from aiohttp import web

from gateway.api.failures import is_harmless, problem_of
from gateway.api.forwarding import client_fields, upstream_fields, with_deadline
from gateway.api.proxies import Peer
from gateway.orders.attempts import LostReason
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
from gateway.upstream.heads import AnswerHead
from gateway.upstream.upgrading import Outcome
from middleware.bodies import refuse_declared_length, refuse_length, stream_body
from middleware.errors import CannotGoOn
from middleware.messages import RawHeaders, first
from middleware.problems import REQUEST_ID, Problem, ProblemType
from middleware.retrying.rules import RetryPolicy, retry_after_s
from middleware.retrying.runner import retried

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
"""Safe by RFC 9110 section 9.2.1: sending one twice changes nothing."""

RETRIES = RetryPolicy(first_s=0.05, longest_s=1.0, attempts_max=3)
"""A second try meets a fresh connection or another second of a restart; a fourth only adds load."""

RETRY_AFTER_S_MAX = 2.0
"""A Retry-After up to here is waited for on the client's behalf; a longer one is the client's."""

CONTINUE = 100


class _Repeatable(CannotGoOn):
    """The try came to nothing in a way that may be repeated: not sent, or a safe method."""

    repeat_is_safe = True

    def __init__(
        self,
        cause: Exception | StreamedAnswer,
        after_s: float | None = None,
    ) -> None:
        super().__init__(str(cause))
        self.cause = cause
        self.after_s = after_s


_CameTo: TypeAlias = StreamedAnswer | ConnectFailed | UpstreamBroke  # of one attempt

MakeStream: TypeAlias = Callable[[int, RawHeaders, bytes, int | None], web.StreamResponse]
"""From status, fields, reason phrase and length (None: unknown) to the server's response whose
body comes piece by piece (``gateway.server.RawStream``)."""


MakeWhole: TypeAlias = Callable[[int, RawHeaders, bytes, bytes], web.StreamResponse]
"""From status, fields, reason phrase and body to the server's response that is written in one go
(``gateway.server.RawResponse``)."""


Interim: TypeAlias = Callable[[web.BaseRequest, int, RawHeaders, bytes], None]
"""Tells the client a 1xx status, its fields and phrase, where its own answer has not begun."""


@dataclass(frozen=True, slots=True)
class ProxyLimits:
    """``body_idle_s``: the longest pause of a client in the middle of its body. ``total_s``: for
    a whole request, all attempts and the last byte of the answer included."""

    body_bytes_max: int
    body_idle_s: float
    total_s: float
    timeouts: StreamTimeouts

    def timeouts_until(self, by: float, now: float) -> StreamTimeouts:
        """What the waits of one attempt may take of what is left until ``by`` (loop time)."""
        left, own = by - now, self.timeouts
        if left >= own.head_s and left >= own.quiet_s:
            return own
        left = max(0.0, left)
        return StreamTimeouts(min(own.head_s, left), min(own.quiet_s, left))


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
        self._stream = stream
        self._whole = whole
        self._body_at_hand = body_at_hand
        self._peer = peer
        self._wall = wall
        self._interim = interim
        self._limits = limits
        self._draw = draw

    async def forward(self, request: web.BaseRequest, pool: Upstream) -> web.StreamResponse:
        """The upstream's answer, or a Problem: 502 where it broke off, 503 where it could not be
        reached, 504 where it took too long. Once the head is out, trouble resets the client's
        connection: a part never passes for the whole."""
        body = self._small_body(request)
        head = self._upstream_request(request, pool, body or b"")
        by = asyncio.get_running_loop().time() + self._limits.total_s
        answer = await self._open(request, pool, head, body, by)
        return await self._relay(request, answer, by)

    async def fetch(
        self, request: web.BaseRequest, pool: Upstream, method: bytes, headers: RawHeaders
    ) -> StreamedAnswer:
        """The upstream's answer to ``request`` with another method or other fields, for whoever
        keeps it. Raises Problem, as ``forward`` does. Without its body where ``method`` has none.
        """
        body: bytes | None = b""
        if method not in (b"GET", b"HEAD") or request.can_read_body:
            body = self._small_body(request)
        head = self._upstream_request(request, pool, body or b"", method, headers)
        by = asyncio.get_running_loop().time() + self._limits.total_s
        return await self._open(request, pool, head, body, by)

    async def upgrade(self, request: web.BaseRequest, pool: Upstream, protocol: bytes) -> Outcome:
        """The upstream's end of a tunnel, or its answer where it does not agree. One attempt.

        Raises Problem, ConnectFailed and UpstreamBroke."""
        head = self._upstream_request(request, pool, b"")
        loop = asyncio.get_running_loop()
        connection = await pool.connect(pool.limits.connect_timeout_s, pool.sticky(head.headers))
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
        by = asyncio.get_running_loop().time() + self._limits.total_s
        return await self._relay(request, answer, by)

    async def _open(
        self,
        request: web.BaseRequest,
        pool: Upstream,
        head: UpstreamRequest,
        body: bytes | None,
        by: float,
    ) -> StreamedAnswer:
        """The first attempt is bare: all around it that repeats it is made once there is need."""
        pool.retries.attempted()
        try:
            made = await self._send(request, pool, head, by, streamed=body is None)
        except BodyMismatch as error:
            raise problem_of(error) from error
        if isinstance(made, StreamedAnswer) and made.status != 503:
            return made
        return await self._go_on(made, request, pool, head, body, by)

    async def _go_on(
        self,
        made: _CameTo,
        request: web.BaseRequest,
        pool: Upstream,
        head: UpstreamRequest,
        body: bytes | None,
        by: float,
    ) -> StreamedAnswer:
        """After a first attempt that came to ``made``: others, where they are harmless."""
        once = bool(body) or body is None or head.method.decode("ascii") not in SAFE_METHODS
        begun, kept = [made], list[StreamedAnswer]()

        async def attempt() -> StreamedAnswer:
            await _drop(kept)
            if begun:
                came_to = begun.pop()
            else:
                came_to = await self._send(request, pool, head, by, streamed=body is None)
            if not isinstance(came_to, StreamedAnswer):
                raise _Repeatable(came_to) if is_harmless(came_to, once) else came_to
            after_s = self._asked_s(came_to) if came_to.status == 503 and not once else None
            if after_s is not None:
                kept.append(came_to)
                raise _Repeatable(came_to, after_s)
            return came_to

        try:
            return await retried(
                attempt,
                on=_Repeatable,
                policy=RETRIES,
                draw=self._draw,
                sleep=asyncio.sleep,
                admit=lambda pause_s: self._admits(pool, by, pause_s),
            )
        except _Repeatable as repeatable:
            if isinstance(repeatable.cause, StreamedAnswer):
                return repeatable.cause
            raise problem_of(repeatable.cause) from repeatable
        except (ConnectFailed, UpstreamBroke, BodyMismatch) as error:
            raise problem_of(error) from error
        except asyncio.CancelledError:
            await _drop(kept)
            raise

    def _asked_s(self, answer: StreamedAnswer) -> float | None:
        """Retry-After, where it is worth waiting for here."""
        told = first(answer.headers, b"retry-after")
        after_s = None if told is None else retry_after_s(told, self._wall())
        return after_s if after_s is not None and after_s <= RETRY_AFTER_S_MAX else None

    def _admits(self, pool: Upstream, by: float, pause_s: float) -> bool:
        """Whether there is time for another try, and the upstream has load to spare for it."""
        if asyncio.get_running_loop().time() + pause_s >= by:
            return False
        if not pool.retries.take():
            self._telemetry.retry_refused(pool.name)
            return False
        self._telemetry.retried(pool.name)
        return True

    async def _send(
        self,
        request: web.BaseRequest,
        pool: Upstream,
        head: UpstreamRequest,
        by: float,
        *,
        streamed: bool,
    ) -> _CameTo:
        """One attempt. A connection that turns out to be closed gives way to a new one: nothing
        was sent, and nothing of the body was read. Raises BodyMismatch, and what the body does."""
        now = asyncio.get_running_loop().time
        began = now()
        sticky = pool.sticky(head.headers)
        connection = pool.take_idle(sticky)
        if connection is None:
            left_s = min(pool.limits.connect_timeout_s, max(0.0, by - began))
            try:
                connection = await pool.connect(left_s, sticky)
            except ConnectFailed as failure:
                return failure
            began = now()
        timeouts = self._limits.timeouts_until(by, began)
        interim = partial(self._pass_interim, request)
        try:
            if streamed:
                answer = await self._uploaded(request, connection, head, timeouts, by, interim)
            else:
                answer = await connection.stream(head, timeouts=timeouts, interim=interim)
        except UpstreamBroke as broke:
            pool.ended(connection, failed=True, took_s=now() - began)
            return broke
        except BaseException as error:
            pool.unsent(connection)  # the client's doing, or never sent
            if isinstance(error, ConnectFailed):
                return error
            raise
        pool.ended(connection, failed=is_failure(answer.status), took_s=now() - began)
        return answer

    async def _uploaded(
        self,
        request: web.BaseRequest,
        connection: Connection,
        head: UpstreamRequest,
        timeouts: StreamTimeouts,
        by: float,
        interim: Callable[[AnswerHead], None],
    ) -> StreamedAnswer:
        """Ended at ``by`` too: each wait for a piece of the body is short, all of them are not."""
        body, length = self._body(request), request.content_length
        try:
            async with asyncio.timeout_at(by):
                return await connection.stream(
                    head, body=body, content_length=length, timeouts=timeouts, interim=interim
                )
        except TimeoutError:
            if request.content.is_eof():
                raise UpstreamBroke(LostReason.TIMEOUT) from None
            raise Problem.of(ProblemType.REQUEST_TIMEOUT, "The body came too slowly.") from None

    def _pass_interim(self, request: web.BaseRequest, head: AnswerHead) -> None:
        """On to the client (RFC 9110 section 15.2), but 100: what a client is told about its body
        is ours to say, and the upstream was asked for nothing of the kind."""
        if head.status != CONTINUE:
            with suppress(ValueError):  # it can only be left out
                self._interim(request, head.status, client_fields(head.headers), head.phrase)

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
        if pool.deadline_field is not None:
            waited_s = min(self._limits.timeouts.head_s, self._limits.total_s)
            fields = with_deadline(fields, pool.deadline_field, waited_s)
        target = request.raw_path.encode("utf-8", "surrogateescape")
        try:
            return UpstreamRequest(method or request.method.encode("ascii"), target, fields, body)
        except IllFormedRequest as flaw:
            raise Problem.of(ProblemType.MALFORMED_REQUEST, str(flaw)) from flaw

    def _small_body(self, request: web.BaseRequest) -> bytes | None:
        """The body where all of it is here; None where it has to be streamed."""
        body = self._body_at_hand(request)
        if body is None:
            refuse_declared_length(request, self._limits.body_bytes_max)
        else:
            refuse_length(len(body), self._limits.body_bytes_max)
        return body

    def _body(self, request: web.BaseRequest) -> AsyncIterator[bytes]:
        limits = self._limits
        return stream_body(request, body_bytes_max=limits.body_bytes_max, idle_s=limits.body_idle_s)

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


async def _drop(kept: list[StreamedAnswer]) -> None:
    while kept:
        await kept.pop().aclose()
