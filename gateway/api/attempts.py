"""A request that is no order, sent upstream: once, or again where that is harmless."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, TypeAlias

from aiohttp import web

from gateway.api.failures import is_harmless, problem_of
from gateway.api.forwarding import client_fields, with_deadline
from gateway.orders.attempts import LostReason
from gateway.telemetry import Telemetry
from gateway.upstream import (
    BodyMismatch,
    ConnectFailed,
    Connection,
    StreamedAnswer,
    StreamTimeouts,
    Upstream,
    UpstreamBroke,
    UpstreamRequest,
)
from gateway.upstream.breaking import is_failure
from gateway.upstream.brief import Interims
from gateway.upstream.heads import AnswerHead
from gateway.upstream.streaming import StreamExchange
from middleware.bodies import at_the_clients_pace, stream_body
from middleware.errors import CannotGoOn
from middleware.messages import RawHeaders, first
from middleware.problems import Problem, ProblemType
from middleware.retrying.rules import RetryPolicy, retry_after_s
from middleware.retrying.runner import retried

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
"""Safe by RFC 9110 section 9.2.1: sending one twice changes nothing."""

RETRIES = RetryPolicy(first_s=0.05, longest_s=1.0, attempts_max=3)
"""A second try meets a fresh connection or another second of a restart; a fourth only adds load."""

RETRY_AFTER_S_MAX = 2.0
"""A Retry-After up to here is waited for on the client's behalf; a longer one is the client's."""

CONTINUE = 100

Interim: TypeAlias = Callable[[web.BaseRequest, int, RawHeaders, bytes], None]
"""Tells the client a 1xx status, its fields and phrase, where its own answer has not begun."""


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


CameTo: TypeAlias = StreamedAnswer | ConnectFailed | UpstreamBroke
"""What an attempt comes to."""


class Begun(NamedTuple):
    """A first attempt that was made before the handler was asked (``straight``)."""

    upstream: Upstream
    connection: Connection
    exchange: StreamExchange
    interims: Interims
    began: float


BEGUN = web.RequestKey("begun", Begun)


@dataclass(frozen=True, slots=True)
class ProxyLimits:
    """``body_idle_s``: the longest pause of a client in the middle of its body. ``total_s``: for
    a whole request, all attempts and the last byte of the answer included. ``uploads_max``: bodies
    passed on at once while they come; each holds a connection for as long as its client likes."""

    body_bytes_max: int
    body_idle_s: float
    uploads_max: int
    total_s: float
    timeouts: StreamTimeouts

    def timeouts_until(self, by: float, now: float) -> StreamTimeouts:
        """What the waits of one attempt may take of what is left until ``by`` (loop time)."""
        left, own = by - now, self.timeouts
        if left >= own.head_s and left >= own.quiet_s:
            return own
        left = max(0.0, left)
        return StreamTimeouts(min(own.head_s, left), min(own.quiet_s, left))


class Attempts:
    """Makes them, within the limits of a whole request."""

    def __init__(
        self,
        *,
        telemetry: Telemetry,
        limits: ProxyLimits,
        draw: Callable[[], float],
        wall: Callable[[], float],
        interim: Interim,
    ) -> None:
        self._telemetry = telemetry
        self._limits = limits
        self._draw = draw
        self._wall = wall
        self._interim = interim
        self._uploads = 0

    async def open(
        self,
        request: web.BaseRequest,
        pool: Upstream,
        head: UpstreamRequest,
        body: bytes | None,
        by: float,
        begun: Begun | None = None,
    ) -> StreamedAnswer:
        """The answer, whole or not, or a Problem. The first attempt (``begun``, where it was made
        already) is bare: all around it that repeats it is made once there is need."""
        try:
            if begun is not None:
                begun.interims.pass_to(partial(self._pass_interim, request))
                made = await came_to(pool, begun.connection, begun.exchange.answer(), begun.began)
            else:
                pool.retries.attempted()
                made = await self._send(request, pool, head, by, streamed=body is None)
        except BodyMismatch as error:
            raise problem_of(error) from error
        if isinstance(made, StreamedAnswer) and made.status != 503:
            return made
        return await self._go_on(made, request, pool, head, body, by)

    async def _go_on(
        self,
        initial: CameTo,
        request: web.BaseRequest,
        pool: Upstream,
        head: UpstreamRequest,
        body: bytes | None,
        by: float,
    ) -> StreamedAnswer:
        """After a first attempt that came to ``initial``: others, where they are harmless."""
        once = bool(body) or body is None or head.method.decode("ascii") not in SAFE_METHODS
        begun, kept = [initial], list[StreamedAnswer]()

        async def attempt() -> StreamedAnswer:
            await _drop(kept)
            if begun:
                made = begun.pop()
            else:
                again = self._told_anew(head, pool, by)
                made = await self._send(request, pool, again, by, streamed=body is None)
            if not isinstance(made, StreamedAnswer):
                raise _Repeatable(made) if is_harmless(made, once) else made
            after_s = self._asked_s(made) if made.status == 503 and not once else None
            if after_s is not None:
                kept.append(made)
                raise _Repeatable(made, after_s)
            return made

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

    def _told_anew(self, head: UpstreamRequest, pool: Upstream, by: float) -> UpstreamRequest:
        """For another try: the upstream, where it is told, is told what is left."""
        if pool.deadline_field is None:
            return head
        left_s = by - asyncio.get_running_loop().time()
        waited_s = min(self._limits.timeouts.head_s, left_s)
        fields = with_deadline(head.headers, pool.deadline_field, waited_s)
        return UpstreamRequest(head.method, head.target, fields, head.body)

    async def _send(
        self,
        request: web.BaseRequest,
        pool: Upstream,
        head: UpstreamRequest,
        by: float,
        *,
        streamed: bool,
    ) -> CameTo:
        """One attempt. A connection that turns out to be closed gives way to a new one: nothing
        was sent, and nothing of the body was read. Raises BodyMismatch, Problem where too many
        bodies are on their way, and what the body does."""
        now = asyncio.get_running_loop().time
        began = now()
        sticky = pool.sticky(head.headers)
        with self._upload() if streamed else nullcontext():
            connection = pool.take_idle(sticky, plain=True)
            if connection is None:
                left_s = min(pool.limits.connect_timeout_s, max(0.0, by - began))
                try:
                    connection = await pool.connect(left_s, sticky, plain=True)
                except ConnectFailed as failure:
                    return failure
                began = now()
            timeouts = self._limits.timeouts_until(by, began)
            interim = partial(self._pass_interim, request)
            if streamed:
                coming = self._uploaded(request, connection, head, timeouts, by, interim)
            else:
                coming = connection.stream(head, timeouts=timeouts, interim=interim)
            return await came_to(pool, connection, coming, began)

    @contextmanager
    def _upload(self) -> Iterator[None]:
        """While a body is passed on as it comes. Raises Problem where too many are."""
        if self._uploads >= self._limits.uploads_max:
            raise Problem.of(
                ProblemType.OVERLOADED,
                "Too many uploads are on their way. Try again later.",
                headers={"Retry-After": "5"},
                repeat_is_safe=True,
            )
        self._uploads += 1
        try:
            yield
        finally:
            self._uploads -= 1

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
        body, length = body_of(request, self._limits), request.content_length
        try:
            with at_the_clients_pace(request):
                async with asyncio.timeout_at(by):
                    return await connection.stream(
                        head, body=body, content_length=length, timeouts=timeouts, interim=interim
                    )
        except TimeoutError:
            if request.content.is_eof():
                raise UpstreamBroke(LostReason.TIMEOUT) from None
            raise too_slow() from None

    def _pass_interim(self, request: web.BaseRequest, head: AnswerHead) -> None:
        """On to the client (RFC 9110 section 15.2), but 100: what a client is told about its body
        is ours to say, and the upstream was asked for nothing of the kind."""
        if head.status != CONTINUE:
            with suppress(ValueError):  # it can only be left out
                self._interim(request, head.status, client_fields(head.headers), head.phrase)


def body_of(request: web.BaseRequest, limits: ProxyLimits) -> AsyncIterator[bytes]:
    """Piece by piece, as it comes. Raises Problem."""
    return stream_body(request, body_bytes_max=limits.body_bytes_max, idle_s=limits.body_idle_s)


def too_slow() -> Problem:
    return Problem.of(ProblemType.REQUEST_TIMEOUT, "The body came too slowly.")


async def came_to(
    upstream: Upstream, connection: Connection, coming: Awaitable[StreamedAnswer], began: float
) -> CameTo:
    """What ``coming`` on ``connection`` comes to; the upstream's books are told. Raises
    BodyMismatch, and what the request's body does."""
    try:
        answer = await coming
    except UpstreamBroke as broke:
        upstream.ended(connection, failed=True, took_s=connection.loop.time() - began)
        return broke
    except BaseException as error:
        upstream.unsent(connection)  # the client's doing, or never sent
        if isinstance(error, ConnectFailed):
            return error
        raise
    took_s = connection.loop.time() - began
    upstream.ended(connection, failed=is_failure(answer.status), took_s=took_s)
    return answer


async def _drop(kept: list[StreamedAnswer]) -> None:
    while kept:
        await kept.pop().aclose()
