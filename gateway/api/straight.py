"""Requests of plain routes, sent upstream before a request is made of the bytes, and answered out
of the upstream's connection. (Orders: ``straight_orders``.)

What stands between the listener and the hop for other requests (an id, the log, the counts, the
limit of requests at work) is done here in the same way. What takes a turn that is out of the
ordinary (an answer that comes in pieces or not at all, a client that is slow, a drain) goes on in
the handler, from where it is.
"""

import asyncio
from collections.abc import Callable
from typing import Any

from gateway.api.attempts import BEGUN, Begun, ProxyLimits, came_to
from gateway.api.failures import problem_of
from gateway.api.proxies import Peer
from gateway.api.straight_lines import BYTES_MAX, Back, Handler, Line, StraightLog
from gateway.api.straight_orders import HandedOver, OrderCourse, StraightOrders, Submits
from gateway.api.templates import client_head, passes, upstream_lines
from gateway.telemetry import Telemetry
from gateway.upstream import AnswerHead, Connection, StreamedAnswer, Upstream
from gateway.upstream.breaking import is_failure
from gateway.upstream.brief import BriefExchange, Interims
from gateway.upstream.requests import framing
from gateway.upstream.streaming import StreamExchange
from middleware.admission import Admission
from middleware.messages import RawHeaders
from middleware.problems import BEGAN, REQUEST_ID
from middleware.request_id import incoming_id
from middleware.tasks import Tasks, result_of

_ASKED_AGAIN = 503
"""The handler may send the request once more after it."""


class Straight:
    """``way(method, target)``: where a request goes, if it is one that may go straight. ``orders``
    takes what is an order; ``handler`` what goes on. ``trust_ids``: a client's own Request-Id
    counts. ``failed`` is told of what nobody foresaw."""

    def __init__(
        self,
        *,
        way: Callable[[bytes, bytes], Upstream | Submits | None],
        orders: StraightOrders,
        handler: Handler,
        limits: ProxyLimits,
        admission: Admission,
        telemetry: Telemetry,
        tasks: Tasks,
        make_id: Callable[[], str],
        trust_ids: bool,
        trusts: Callable[[str], bool],
        log: StraightLog,
        failed: Callable[[BaseException], None],
    ) -> None:
        self._way = way
        self._orders = orders
        self._body_bytes_max = min(limits.body_bytes_max, BYTES_MAX)
        self._make_id = make_id
        self._trust_ids = trust_ids
        self._trusts = trusts
        self.log = log
        self.handler = handler
        self.timeouts = limits.timeouts_until(limits.total_s, 0.0)
        self._waited_s = min(limits.timeouts.head_s, limits.total_s)
        self.admission = admission
        self.telemetry = telemetry
        self.tasks = tasks
        self.failed = failed

    def __call__(
        self,
        method: bytes,
        target: bytes,
        fields: RawHeaders,
        body: bytes | memoryview,
        address: str,
        back: Back,
    ) -> "Course | OrderCourse | HandedOver | None":
        """Send it, or None: then it goes the usual way, and nothing was done."""
        if len(body) > self._body_bytes_max or not self.admission.is_vacant:
            return None  # first: where there is too much to do, this is what most of them come to
        to = self._way(method, target)
        if to is None:
            return None
        identity = (incoming_id(fields) if self._trust_ids else None) or self._make_id()
        line = Line(method, target, fields, address, identity)
        peer = Peer(address, self._trusts(address))
        if isinstance(to, Submits):
            return self._orders.begin(to, line, peer, bytes(body), back)
        return self._send(to, line, peer, body, back)

    def _send(
        self, upstream: Upstream, line: Line, peer: Peer, body: bytes | memoryview, back: Back
    ) -> "Course | None":
        told = (
            None if upstream.deadline_field is None else (upstream.deadline_field, self._waited_s)
        )
        lines = upstream_lines(line.fields, peer, line.identity.encode("ascii"), told)
        if lines is None:
            return None
        now = back.now()
        connection = upstream.take_idle(now=now, plain=True)
        if connection is None:
            return None
        self.admission.enter()
        upstream.retries.attempted()
        course = Course(self, upstream, connection, line, back)
        parts = (line.method, line.target, lines, framing(line.method, len(body)))
        whole = b"".join((b"%b %b HTTP/1.1\r\n%b%b\r\n" % parts, body))
        connection.ask(course, whole, now + self.timeouts.head_s)
        return course


class Course(BriefExchange):
    """One request on its way; ends once, by ``Back.answered``, ``Back.goes_on`` or ``cancel``."""

    __slots__ = (
        "_back",
        "_connection",
        "_exchange",
        "_interims",
        "_lane",
        "_line",
        "_seeing_out",
        "_upstream",
    )

    def __init__(
        self,
        lane: Straight,
        upstream: Upstream,
        connection: Connection,
        line: Line,
        back: Back,
    ) -> None:
        super().__init__(connection, line.method, lane.timeouts, back.now())
        self._lane = lane
        self._upstream = upstream
        self._connection = connection
        self._back = back
        self._exchange: StreamExchange | None = None
        self._interims: Interims | None = None
        self._seeing_out: asyncio.Task[int] | None = None
        self._line = line

    # What its exchange comes to.

    def wants(self, head: AnswerHead, size: int) -> bool:
        return (
            head.status != _ASKED_AGAIN
            and size <= BYTES_MAX
            and self._back.may_be_answered()
            and passes(head.headers)
        )

    def came(self, head: AnswerHead, body: bytes) -> None:
        told = b""
        try:
            took_s = self._back.now() - self.began
            self._end(head.status, len(body), took_s)
            failed = is_failure(head.status)
            self._upstream.ended(self._connection, failed=failed, took_s=took_s)
            told = client_head(
                head, self._line.identity.encode("ascii"), self._back.date(), len(body)
            )
        except Exception as error:  # noqa: BLE001 - the last line of defence: who waits is told
            self._lane.failed(error)
            self._back.abort()
        self._back.answered(told + body)

    def goes_on(self, exchange: StreamExchange, interims: Interims) -> None:
        self._exchange, self._interims = exchange, interims
        if not self._back.goes_on():
            self.abandoned()

    def _end(self, status: int | None, size: int, took_s: float) -> None:
        self._lane.admission.ended(took_s)
        if status is not None:
            self._lane.telemetry.answered("plain", status)
        self._lane.log(self._line, status, size, took_s)

    # What the client's connection does with it.

    @property
    def handler(self) -> Handler:
        return self._lane.handler

    def marks(self) -> dict[Any, Any]:
        """What the request that goes on has: an id, a place at work and a first attempt."""
        exchange, interims = self._exchange, self._interims
        assert exchange is not None and interims is not None  # noqa: S101, PT018 - it goes on
        begun = Begun(self._upstream, self._connection, exchange, interims, self.began)
        return {REQUEST_ID: self._line.identity, BEGAN: self.began, BEGUN: begun}

    def abandoned(self) -> None:
        """The client has left before the handler had it. What the upstream says still counts."""
        self._seeing_out = self._lane.tasks.start(self._see_out(), name="request seen out")
        self._seeing_out.add_done_callback(self._seen_out)

    async def _see_out(self) -> int:
        """The status that it would have been told."""
        assert self._exchange is not None  # noqa: S101 - as above
        coming = self._exchange.answer()
        made = await came_to(self._upstream, self._connection, coming, self.began)
        if not isinstance(made, StreamedAnswer):
            return problem_of(made).status
        await made.aclose()
        return made.status

    def _seen_out(self, task: "asyncio.Task[int]") -> None:
        self._end(result_of(task), 0, self._back.now() - self.began)
        self._back.answered(b"")

    def cancel(self) -> None:
        """The drain is over."""
        if self._seeing_out is not None:
            self._seeing_out.cancel()
            return
        self._connection.release(clean=False)
        self._upstream.unsent(self._connection)
        self._end(None, 0, self._back.now() - self.began)
