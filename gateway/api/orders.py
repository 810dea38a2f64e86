"""Order routes: a checked submission becomes a claim, and an outcome becomes a response."""

import asyncio
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, cast

from aiohttp import web

from gateway.api.answers import (
    Relayed,
    Told,
    ledger_unavailable,
    order_members,
    relayed,
    tell,
)
from gateway.api.forwarding import uncompressed, upstream_fields, with_deadline
from gateway.api.proxies import Peer
from gateway.api.quota import Quota
from gateway.api.replay_check import NotLetIn, ReplayCheck
from gateway.ledger import Ledger, LedgerUnavailable
from gateway.orders.claiming import ANONYMOUS, ClaimRequest
from gateway.orders.entry import Entry, KeptRequest
from gateway.orders.promise import Promise
from gateway.placement import Admit, Placed, Placement, Placing, Settled
from gateway.telemetry import Telemetry
from gateway.upstream import IllFormedRequest, UpstreamRequest
from gateway.upstream.connections import Readable
from middleware.access_log import ORDER_ID
from middleware.idempotency.gate import SUBMISSION, Submission
from middleware.idempotency.rules import (
    Key,
    canonical_fingerprint,
    key_field,
    made_at,
    parse_key,
    split_target,
    upstream_key,
)
from middleware.messages import RawHeaders, first
from middleware.problems import REQUEST_ID, Handler, Problem, ProblemType
from middleware.tasks import TasksClosed


@dataclass(frozen=True, slots=True)
class OrderRoute:
    """What the handler needs to know of a route of kind ``order``."""

    promise: Promise
    in_flight: Literal["wait", "conflict"] = "wait"
    upstream_key: Literal["digest", "client"] = "digest"
    deadline_field: bytes | None = None


class Arrival(NamedTuple):
    """How a submission came: its fields, over whose connection, and under which request id."""

    headers: RawHeaders
    peer: Peer
    request_id: str
    transport: asyncio.BaseTransport | None


@dataclass(slots=True)
class Begun:
    """A submission that has been claimed for, or will be: ``placing`` None. ``began``: loop time;
    the client's patience counts from there. ``counted``: as a new order of ``who``; else it may be
    none, ``too_old`` since its key may have been forgotten."""

    route: OrderRoute
    claim: ClaimRequest
    anonymous: bool
    began: float
    who: str
    counted: bool
    too_old: bool
    placing: Placing | None = None

    @property
    def answer_by(self) -> float:
        return self.began + self.route.promise.answer_within_s


BEGUN_ORDER = cast("web.RequestKey[Begun | Problem]", web.RequestKey("begun_order", object))
"""Of a request whose order was begun, or refused, before there was a request (``straight_orders``).
"""


class OrdersApi:
    """Handles submissions. ``new_id`` makes ids that grant access: 128 random bits or more."""

    def __init__(
        self,
        *,
        placement: Placement,
        replay_check: ReplayCheck,
        quota: Quota,
        client: Callable[[Peer, RawHeaders], str],
        ledger: Ledger,
        telemetry: Telemetry,
        new_id: Callable[[], str],
        who: str,
        respond: Callable[[Told], web.StreamResponse],
        peer: Callable[[web.BaseRequest], Peer],
        ended: Readable,
    ) -> None:
        self._placement = placement
        self._replay_check = replay_check
        self._quota = quota
        self._client = client
        self._ledger = ledger
        self._telemetry = telemetry
        self._new_id = new_id
        self._who = who
        self._respond = respond
        self._peer = peer
        self._ended = ended

    async def submit(self, request: web.BaseRequest, route: OrderRoute) -> web.StreamResponse:
        """One submission to its answer, its ``202``, or a Problem."""
        began = asyncio.get_running_loop().time()  # the body is in
        request_id = request.get(REQUEST_ID, "")
        arrival = Arrival(request.raw_headers, self._peer(request), request_id, request.transport)
        return await self.go_on(request, self.made(request[SUBMISSION], route, arrival, began))

    def made(
        self, submission: Submission, route: OrderRoute, arrival: Arrival, began: float
    ) -> Begun:
        """What is to be placed, counted where the client may make one more. Raises Problem."""
        claim = self.claim_request(submission, route, arrival)
        who = submission.scope or self._client(arrival.peer, arrival.headers)
        too_old = self._is_too_old(claim)
        counted = not too_old and self._quota.take(who, began)
        return Begun(route, claim, submission.scope is None, began, who, counted, too_old)

    def begin(self, begun: Begun) -> Placing:
        """Raises TasksClosed. What turns out to be no new order does not count as one of the
        client's; while it may yet be made, unheard, it does."""
        try:
            begun.placing = self._placement.begin(begun.claim)
        except TasksClosed:
            self._share(begun, None)
            raise
        begun.placing.on_end(lambda entry: self._share(begun, entry))
        return begun.placing

    async def go_on(self, request: web.BaseRequest, begun: Begun) -> web.StreamResponse:
        """From wherever it is to what the client is told, or to a Problem."""
        claim, headers = begun.claim, request.raw_headers
        try:
            placed = await self._placed(
                begun,
                lambda entry: self._replay_check.let_in(
                    request, entry, by=begun.answer_by, route=claim.promise.route
                ),
            )
        except NotLetIn as refused:
            self._telemetry.submitted("refused_replay")
            return self._respond(refused.told)
        except LedgerUnavailable as trouble:
            key = _shown(headers, claim.key) if claim.key_kind == "given" else None
            raise ledger_unavailable(trouble, key) from trouble
        request[ORDER_ID] = placed.entry.id
        key = _shown(headers, placed.entry.key)
        told = tell(placed, key, self._ledger.now(), anonymous=begun.anonymous)
        return self._respond(told)

    async def unheard(self, begun: Begun) -> tuple[int, str | None]:
        """The client has left; what becomes of its order is counted all the same. The status that
        it would have been told, and the id of the order, where there is one."""
        try:
            placed = await self._placed(begun)
        except LedgerUnavailable as trouble:
            return ledger_unavailable(trouble, None).status, None
        try:
            told = tell(placed, "", self._ledger.now(), anonymous=begun.anonymous)
        except Problem as problem:
            return problem.status, placed.entry.id
        return told.status, placed.entry.id

    async def _placed(self, begun: Begun, admit: Admit | None = None) -> Placed:
        try:
            if not begun.counted:
                await self._refuse_new(begun)
            placed = await self._placement.placed(
                begun.placing or self.begin(begun),
                answer_by=begun.answer_by,
                wait_in_flight=begun.route.in_flight == "wait",
                admit=admit,
            )
        except LedgerUnavailable as trouble:
            self._telemetry.submitted("refused_by_ledger")
            self._telemetry.log_of("ledger").error("order refused", reason=str(trouble))
            raise
        self.count(begun, placed)
        return placed

    def whole(self, begun: Begun, headers: RawHeaders) -> tuple[Settled, Relayed] | None:
        """An order of this very submission and its answer, where there is nothing else to be said
        of it and nobody to be waited for. Counts nothing."""
        placed = None if begun.placing is None else begun.placing.settled()
        if placed is None:
            return None
        key = _shown(headers, placed.entry.key)
        answer = relayed(placed, key, self._ledger.now())
        return None if answer is None else (placed, answer)

    def _is_too_old(self, claim: ClaimRequest) -> bool:
        """Whether the key was made so long ago that an order under it may have been forgotten."""
        made = made_at(claim.key) if claim.key_kind == "given" else None
        if made is None:
            return False
        try:
            return made + claim.promise.retention_s + claim.promise.tombstone_s < self._ledger.now()
        except LedgerUnavailable:
            return False  # it can't be claimed either

    async def _refuse_new(self, begun: Begun) -> None:
        """The client's share of new orders is used up, or its key is too old: only what is known
        goes on. No new key is called safe: the same key may be on its way through another process.

        Raises Problem and LedgerUnavailable."""
        if await self._ledger.peek(begun.claim) is not None:
            return
        if begun.too_old:
            self._telemetry.submitted("refused_too_old")
            raise Problem.of(
                ProblemType.KEY_TOO_OLD,
                "The key says when it was made, and what was ordered under it since may have been"
                " forgotten. Nothing was done. See whether the order exists; if not, order with a"
                " new key.",
            )
        self._telemetry.submitted("refused_by_quota")
        raise Problem.of(
            ProblemType.QUOTA,
            "Nothing was recorded. Repeat with the same key a while later.",
            headers={"Retry-After": "60"},
            repeat_is_safe=True,
        )

    def count(self, begun: Begun, placed: Placed) -> None:
        """What became of it, where its client may be told."""
        self._telemetry.order_took(asyncio.get_running_loop().time() - begun.began)
        self._telemetry.submitted(type(placed).__name__.lower())
        if isinstance(placed, Settled) and placed.replayed:
            self._telemetry.replays.inc()

    def _share(self, begun: Begun, claimed: Entry | None) -> None:
        """Give the client's place back, unless a new entry was made."""
        is_new = claimed is not None and claimed.id == begun.claim.order_id
        if begun.counted and not is_new:
            self._quota.give_back(begun.who, begun.began)

    def claim_request(
        self, submission: Submission, route: OrderRoute, arrival: Arrival
    ) -> ClaimRequest:
        """What a checked submission asks of the ledger. Raises Problem."""
        scope = submission.scope or ANONYMOUS
        key = submission.key or self._new_id()
        path, query = split_target(submission.target)
        theirs = key if route.upstream_key == "client" else upstream_key(submission.scope, key)
        order_id = self._new_id()
        return ClaimRequest(
            order_id,  # names the claim too: as random, and as much this submission's own
            order_id,
            scope,
            key,
            submission.key_kind,
            theirs,
            submission.fingerprint,
            canonical_fingerprint(submission.method, path, query, submission.body),
            _kept(submission, theirs, route, arrival),
            route.promise,
            dispatch=True,
            who=self._who,
            waited_at=self._waited_at(arrival.transport),
        )

    def _waited_at(self, transport: asyncio.BaseTransport | None) -> float:
        """Now, where the client still waits: a process that stood still may read what was given up
        long ago, and its end along with it. Minus infinity where it does not, or who knows."""
        try:
            now = self._ledger.now()
        except LedgerUnavailable:
            return -math.inf
        if transport is None or transport.is_closing() or self._ended(transport)():
            return -math.inf
        return now


def _kept(submission: Submission, theirs: str, route: OrderRoute, arrival: Arrival) -> KeptRequest:
    """The bytes of every attempt; ill-formed ones are refused here, before any claim."""
    fields = upstream_fields(
        arrival.headers,
        peer=arrival.peer,
        request_id=arrival.request_id,
        upstream_key=theirs,
    )
    if route.promise.outcomes.answer_id is not None:
        fields = uncompressed(fields)
    if route.deadline_field is not None:
        waited_s = route.promise.attempt_timeout_s
        fields = with_deadline(fields, route.deadline_field, waited_s)
    method = submission.method.encode("ascii")
    try:
        checked = UpstreamRequest(method, submission.target, fields, submission.body)
    except IllFormedRequest as flaw:
        raise Problem.of(ProblemType.MALFORMED_REQUEST, str(flaw)) from flaw
    return KeptRequest(method, submission.target, fields, submission.body, checked.lines)


def _shown(headers: RawHeaders, key: str | None) -> str:
    """The key as the client wrote it, if it did; else as the IETF draft has it."""
    sent = first(headers, b"idempotency-key")
    if sent is not None:
        return sent.strip().decode("latin-1")
    return key_field(key or "")


def order_problems(is_order: Callable[[web.BaseRequest], bool]) -> Any:
    """Middleware: every problem on an order route says what is known of the order. That nobody
    foresaw something is told further out (``say_of_order``)."""

    @web.middleware
    async def middleware(request: web.BaseRequest, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except Problem as problem:
            if is_order(request):
                say_of_order(request, problem)
            raise

    return middleware


def say_of_order(request: web.BaseRequest, problem: Problem) -> None:
    """What a problem doesn't say of the order yet: that nothing is known, and its key."""
    problem.members = {**order_members(None), **problem.members}
    key = first(request.raw_headers, b"idempotency-key")
    if key is not None and isinstance(parse_key([key]), Key):
        problem.headers.setdefault("Idempotency-Key", _shown(request.raw_headers, None))
