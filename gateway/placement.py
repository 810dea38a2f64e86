"""The phases of one order: connect, claim, dispatch, settle. Callable without a request.

Connect first: an open connection is at hand before the key is claimed, so that a slow connect
makes no doubt; then one durable write claims the key and records the dispatch; then, after a look
at the lease, the first byte. The phases run in a task of their own: a client that leaves changes
nothing.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol, TypeAlias, assert_never

from gateway.ledger import (
    Claim,
    Hold,
    Lease,
    Leased,
    LeaseLost,
    Ledger,
    LedgerUnavailable,
)
from gateway.orders.attempts import Answer
from gateway.orders.claiming import (
    Claimed,
    ClaimRequest,
    Fresh,
    InFlight,
    Mismatch,
    Replay,
    Unreadable,
)
from gateway.orders.entry import Entry
from gateway.orders.states import Reason, Status
from gateway.sending import Listening, Sender
from gateway.telemetry import Telemetry
from gateway.upstream import ConnectFailed, Connection, Upstream
from middleware.tasks import Tasks, TasksClosed, ended_by, result_of
from middleware.values import light

WAITS_MAX = 10_000
"""Repeats that wait aside at once; one more keeps its place at work. Each costs some 30 KiB."""

CONNECT_SHARE = 0.5
"""The part of answer_within_s that a connect may take: the rest is for the answer."""


@light
@dataclass(frozen=True, slots=True)
class Settled:
    """An outcome: confirmed, rejected or failed. ``live`` is the answer itself where this very
    submission got it; ``replayed``: it was settled before this submission came."""

    entry: Entry
    replayed: bool
    live: Answer | None = None


@dataclass(frozen=True, slots=True)
class StillPending:
    """Not settled in time, or a dead letter: the client gets ``202`` and a status URL."""

    entry: Entry
    created: bool


@dataclass(frozen=True, slots=True)
class KeyMismatch:
    entry: Entry


@dataclass(frozen=True, slots=True)
class KeyUnreadable:
    entry: Entry


@dataclass(frozen=True, slots=True)
class Busy:
    """In flight, and the route says not to wait (``in_flight = "conflict"``)."""

    entry: Entry


Placed: TypeAlias = Settled | StillPending | KeyMismatch | KeyUnreadable | Busy


Admit: TypeAlias = Callable[[Entry], Awaitable[None]]
"""Awaited before anything that is in the ledger already is told; what it raises is told instead."""


class HandOver(Protocol):
    """Takes an order that placement can't bring to its end (the reconciler's side)."""

    def adopt(self, leased: Leased, listening: Listening | None) -> None: ...


@dataclass(slots=True)
class _Progress:
    """What the placing task has reached, for a handler whose time is up."""

    entry: Entry | None = None
    created: bool = False
    answer: Answer | None = None


class Placing(NamedTuple):
    """A submission that is being placed; ``task`` goes on whoever waits for it."""

    task: "asyncio.Task[Claimed]"
    progress: _Progress

    def on_end(self, callback: Callable[[Entry | None], None]) -> None:
        """Call ``callback`` once it has come to an end, soon: with the entry that it claimed."""
        progress = self.progress
        self.task.add_done_callback(
            lambda _: callback(progress.entry if progress.created else None)
        )

    def settled(self) -> Settled | None:
        """The outcome, where the order was made here and placing it has come to one; else
        ``Placement.placed`` says what it came to."""
        claimed = result_of(self.task) if self.task.done() else None
        if not isinstance(claimed, Fresh):
            return None
        placed = _outcome(claimed.entry, created=True, answer=self.progress.answer)
        return placed if isinstance(placed, Settled) else None


class Placement:
    """Takes submissions to an outcome, or to a durable pending order, in time. ``aside`` is
    entered while one only waits for what another does: that is no work."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        sender: Sender,
        hand_over: HandOver,
        tasks: Tasks,
        telemetry: Telemetry,
        aside: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self._aside = aside
        self._waiting = 0
        self._ledger = ledger
        self._sender = sender
        self._hand_over = hand_over
        self._tasks = tasks
        self._telemetry = telemetry

    def begin(self, request: ClaimRequest) -> Placing:
        """Place ``request``. Its ``dispatch`` is True: where no connection is to be had, it is
        claimed without. Raises TasksClosed; then nothing was done."""
        progress = _Progress()
        task = self._tasks.start(self._place(request, progress), name=f"place {request.order_id}")
        return Placing(task, progress)

    async def placed(
        self,
        placing: Placing,
        *,
        answer_by: float,
        wait_in_flight: bool = True,
        admit: Admit | None = None,
    ) -> Placed:
        """Wait for the outcome until ``answer_by`` (loop time).

        The work goes on when the caller leaves or the time is up. Raises LedgerUnavailable when
        the ledger can't say for sure; then nothing was sent, or what was sent is still settled.
        """
        task, progress = placing
        if not await ended_by(task, answer_by):
            if progress.entry is None:
                raise LedgerUnavailable("no claim in time", written=None)
            return StillPending(progress.entry, progress.created)
        claimed = task.result()
        if isinstance(claimed, Fresh) and not claimed.entry.pending:
            return _outcome(claimed.entry, created=True, answer=progress.answer)
        if admit is not None and not isinstance(claimed, Fresh):
            await admit(claimed.entry)
        return await self._told(claimed, progress, answer_by, wait_in_flight)

    async def _told(
        self, claimed: Claimed, progress: _Progress, answer_by: float, wait_in_flight: bool
    ) -> Placed:
        match claimed:
            case Fresh(entry):
                entry = await self._waited(entry, answer_by)
                return _outcome(entry, created=True, answer=progress.answer)
            case InFlight(entry):
                if entry.pending and not wait_in_flight:  # a dead letter is not being placed
                    return Busy(entry)
                entry = await self._waited(entry, answer_by)
                if _unacknowledged(entry):
                    raise LedgerUnavailable("an earlier submission was not recorded", written=False)
                return _outcome(entry, created=False)
            case Replay(entry):
                if _unacknowledged(entry):
                    raise LedgerUnavailable("an earlier submission was not recorded", written=False)
                return Settled(entry, replayed=True)
            case Mismatch(entry):
                return KeyMismatch(entry)
            case Unreadable(entry):
                return KeyUnreadable(entry)
            case _:
                assert_never(claimed)

    async def _waited(self, entry: Entry, answer_by: float) -> Entry:
        if not entry.pending or self._waiting >= WAITS_MAX:
            return await self.settled_by(entry, answer_by)
        self._waiting += 1
        try:
            with self._aside():
                return await self.settled_by(entry, answer_by)
        finally:
            self._waiting -= 1

    async def settled_by(self, entry: Entry, answer_by: float) -> Entry:
        """``entry`` as it stands once it no longer moves by itself, or at ``answer_by``."""
        if not entry.pending:
            return entry
        watch = self._ledger.watchers.add(entry.id)
        try:
            async with asyncio.timeout_at(answer_by):
                entry = await self._ledger.find(entry.id) or entry
                self._ledger.watchers.note(entry)
                while entry.pending:
                    entry = await watch.next()
                    if entry.status is Status.FAILED:  # its key may have been claimed again since
                        entry = await self._ledger.find(entry.id) or entry
        except (TimeoutError, LedgerUnavailable):
            pass
        finally:
            self._ledger.watchers.remove(entry.id, watch)
        return entry

    async def _place(self, request: ClaimRequest, progress: _Progress) -> Claimed:
        pool = self._sender.pool(request.promise.upstream)
        sticky = pool.sticky(request.request.headers)
        connection = pool.take_idle(sticky)
        if connection is None:
            seen = await self._ledger.peek(request)
            if seen is not None:
                progress.entry = seen.entry
                return seen
            connection = await self._connect(pool, request, sticky)
        try:
            if connection is None:
                request = replace(request, dispatch=False)
            claim = await self._claim(request)
        except BaseException:
            if connection is not None:
                pool.put_back(connection)
            raise
        entry = progress.entry = claim.claimed.entry
        if claim.lease is None:
            if connection is not None:
                pool.put_back(connection)
            return claim.claimed
        progress.created = True
        try:
            return await self._claimed(entry, claim.lease, connection, progress)
        except Exception:
            # A bug, or nothing more is known: what a live hold keeps is taken up by nobody else.
            await self._sender.give_back(claim.lease, due_in_s=0.0)
            raise

    async def _claimed(
        self, entry: Entry, lease: Lease, connection: Connection | None, progress: _Progress
    ) -> Fresh:
        self._telemetry.claimed(entry)
        if connection is not None and entry.open_attempt is not None:
            return await self._dispatch(entry, lease, connection, progress)
        # In doubt from the start, where the ledger forgot: it is looked up before it is sent.
        if connection is not None:
            self._sender.pool(entry.promise.upstream).put_back(connection)
        self._hand_over.adopt(Leased(entry, lease), None)
        return Fresh(entry)

    async def _connect(
        self, pool: Upstream, request: ClaimRequest, sticky: bytes | None
    ) -> Connection | None:
        share_s = request.promise.answer_within_s * CONNECT_SHARE
        try:
            return await pool.connect(min(pool.limits.connect_timeout_s, share_s), sticky)
        except ConnectFailed as failure:
            self._telemetry.log_of("upstream").warning(
                "no connection", upstream=request.promise.upstream, reason=failure.reason.value
            )
            return None

    async def _claim(self, request: ClaimRequest) -> Claim:
        try:
            return await self._ledger.claim(request)
        except LedgerUnavailable as trouble:
            if trouble.written is None:
                self._let_lapse(trouble.hold)
                with suppress(TasksClosed):
                    self._tasks.start(
                        self._sender.disclaim(request), name=f"disclaim {request.order_id}"
                    )
                raise
            # Nothing was written: who only asks for what is settled can still be told.
            seen = await self._ledger.peek(request)
            if not isinstance(seen, Replay | Mismatch):
                raise
            return Claim(seen, None)

    def _let_lapse(self, hold: Hold | None) -> None:
        """The claim may yet be made, after whoever disclaims it saw nothing: by a server that stood
        still, or over a link that was cut. Made under a hold that lives on it would be kept, and
        nobody would know. A later hold has nothing to do with it."""
        if hold is not None:
            hold.lapsed = True

    async def _dispatch(
        self, entry: Entry, lease: Lease, connection: Connection, progress: _Progress
    ) -> Fresh:
        try:
            sent = await self._sender.attempt(entry, lease, connection)
        except LeaseLost:
            await self._sender.give_back(lease, due_in_s=0.0)
            return Fresh(await self._ledger.find(entry.id) or entry)
        # An answer that did not settle the order (a 429, a 5xx) is not the client's.
        progress.entry = sent.entry
        progress.answer = sent.answer if sent.entry.settled else None
        if sent.entry.pending:
            self._hand_over.adopt(Leased(sent.entry, lease), sent.listening)
        return Fresh(sent.entry)


def _unacknowledged(entry: Entry) -> bool:
    """Failed only because the ledger was away: whoever submitted it was told to repeat with the
    same key, and may be doing so just now. Nobody is told that a new key is safe."""
    failed = entry.status is Status.FAILED
    return failed and entry.events[-1].reason is Reason.CLAIM_UNACKNOWLEDGED


def _outcome(entry: Entry, *, created: bool, answer: Answer | None = None) -> Placed:
    if not entry.settled:
        return StillPending(entry, created)
    own = answer if entry.answer is not None else None
    return Settled(entry, replayed=not created, live=own)
