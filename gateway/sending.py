"""One attempt at an order: look at the lease, send, wait, write down what it came to.

Placement makes the first attempt by it, the reconciler every later one.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import assert_never

from gateway.ledger import Lease, LeaseLost, Ledger, LedgerUnavailable
from gateway.orders import life
from gateway.orders.attempts import (
    Answer,
    Answered,
    AttemptEnd,
    Lost,
    LostReason,
    NotSent,
    NotSentReason,
)
from gateway.orders.claiming import ClaimRequest
from gateway.orders.entry import Entry
from gateway.telemetry import Telemetry
from gateway.upstream import Connection, Exchange, Upstream, UpstreamRequest
from gateway.upstream.breaking import is_failure
from middleware.clock import Clock
from middleware.retrying.rules import RetryPolicy
from middleware.retrying.runner import retried
from middleware.tasks import Tasks, TasksClosed
from middleware.values import light

LEDGER_RETRY = RetryPolicy(first_s=0.1, longest_s=2.0)
"""An outcome in hand is written as soon as the ledger takes it: nobody else can know it."""


LOOKED_INTO_BYTES = 1_048_576
"""Of an answer that must show its id, however little of it is kept."""


class Listening:
    """An exchange that is read on after its timeout. It is over once what came of it is in the
    ledger too: until then the order is not without evidence."""

    def __init__(self) -> None:
        self.over = False
        self._told: list[Callable[[], None]] = []

    def on_over(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` when it is over; at once, if it is."""
        if self.over:
            callback()
        else:
            self._told.append(callback)

    def end(self) -> None:
        self.over = True
        for callback in self._told:
            callback()


@light
@dataclass(frozen=True, slots=True)
class Sent:
    """What one attempt left: the entry after it, and the listening where it is still read."""

    entry: Entry
    end: AttemptEnd
    listening: Listening | None
    answer: Answer | None = None


class Sender:
    """One attempt: look at the lease, send, wait, write down what it came to.

    Used by placement for the first attempt and by the reconciler for every later one.
    """

    def __init__(
        self,
        *,
        ledger: Ledger,
        pools: Mapping[str, Upstream],
        tasks: Tasks,
        clock: Clock,
        telemetry: Telemetry,
        draw: Callable[[], float],
        who: str,
    ) -> None:
        self._ledger = ledger
        self._pools = pools
        self._tasks = tasks
        self._clock = clock
        self._telemetry = telemetry
        self._logger = telemetry.log_of("upstream")
        self._draw = draw
        self._who = who

    def pool(self, upstream: str) -> Upstream:
        return self._pools[upstream]

    async def attempt(self, entry: Entry, lease: Lease, connection: Connection) -> Sent:
        """Send ``entry``, whose open attempt the ledger already shows, on ``connection``.

        Returns after the attempt's end is durable. Raises LeaseLost when somebody else acted
        meanwhile; an answer is recorded as evidence all the same.
        """
        exchange: Exchange | None = None
        end: AttemptEnd
        try:
            exchange, end = await self._exchange(entry, lease, connection)
        except Exception:
            # An exception of ours proves nothing about the order: it is in doubt, not free.
            self._logger.exception("attempt broke off", order=entry.id)
            self.pool(entry.promise.upstream).unsent(connection)
            connection.stop(LostReason.INTERNAL)  # else it keeps its place in the pool
            end = Lost(LostReason.INTERNAL)
        self._telemetry.attempt_ended(_result_label(end))
        listening = None
        if exchange is not None and not exchange.ended:
            listening = self._listen_on(entry, exchange)
        try:
            after = await self.write_end(entry, lease, end)
        except LeaseLost:
            if isinstance(end, Answered):
                await self.record_late(entry.id, len(entry.attempts), end.answer)
            raise
        return Sent(after, end, listening, end.answer if isinstance(end, Answered) else None)

    async def _exchange(
        self, entry: Entry, lease: Lease, connection: Connection
    ) -> tuple[Exchange | None, AttemptEnd]:
        kept = entry.request
        if kept is None:
            raise ValueError(f"order {entry.id} has no request to send")
        request = UpstreamRequest(kept.method, kept.target, kept.headers, kept.body, kept.lines)
        if not lease.hold.valid(self._clock.monotonic()):
            self.pool(entry.promise.upstream).put_back(connection)
            return None, NotSent(NotSentReason.LEASE_LOST)
        if not entry.may_be_sent(self._ledger.now()):
            self.pool(entry.promise.upstream).put_back(connection)
            return None, NotSent(NotSentReason.TOO_LATE)
        began = self._clock.monotonic()
        bytes_max = entry.promise.answer_bytes_max
        if entry.promise.outcomes.answer_id is not None:
            bytes_max = max(bytes_max, LOOKED_INTO_BYTES)
        exchange = connection.send(request, answer_bytes_max=bytes_max)
        end = await exchange.wait(entry.promise.attempt_timeout_s)
        if end is None:
            end = Lost(LostReason.TIMEOUT, exchange.written_bytes)
        self._report(entry, connection, end, self._clock.monotonic() - began)
        return exchange, end

    def _report(self, entry: Entry, connection: Connection, end: AttemptEnd, took_s: float) -> None:
        """To breaker and balancer: did the server do its work?"""
        upstream = self.pool(entry.promise.upstream)
        match end:
            case Answered(answer=answer):
                failed = is_failure(answer.status)
            case Lost(reason=LostReason.STOPPING) | NotSent():
                upstream.unsent(connection)
                return
            case Lost():
                failed = True
            case _:
                assert_never(end)
        upstream.ended(connection, failed=failed, took_s=took_s, order=entry.id)

    async def write_end(self, entry: Entry, lease: Lease, end: AttemptEnd) -> Entry:
        """Settle, or move, by the attempt's end; goes on trying while the ledger is away."""
        after = life.end_attempt(entry, end, self._ledger.now(), self._who)
        try:
            await self._ledger.write(lease, entry, after)
        except (LeaseLost, LedgerUnavailable):
            after = await self._write_end_again(entry, lease, end)
        self._telemetry.moved(entry, after)
        return after

    async def _write_end_again(self, entry: Entry, lease: Lease, end: AttemptEnd) -> Entry:
        """The first try came to nothing, or was made and not acknowledged."""
        after = entry

        async def write() -> None:
            nonlocal after
            after = life.end_attempt(entry, end, self._ledger.now(), self._who)
            try:
                await self._ledger.write(lease, entry, after)
            except LeaseLost:
                after = await self._written_before(lease)

        await self._insist(write)
        return after

    async def _written_before(self, lease: Lease) -> Entry:
        """The end that an earlier try of ours wrote, whose acknowledgement was lost: the token is
        still ours, so nobody else wrote it. Raises LeaseLost where it is not."""
        stored = await self._ledger.find(lease.entry_id)
        if stored is None or stored.token != lease.token or stored.open_attempt is not None:
            raise LeaseLost(f"order {lease.entry_id} was changed by somebody else")
        return stored

    async def give_back(self, lease: Lease, *, due_in_s: float) -> None:
        """Let go of an order that may still be ours, as soon as the ledger takes it: what a live
        hold keeps, nobody else ever takes up."""

        async def release() -> None:
            await self._ledger.release(lease, due_in_s=due_in_s)

        await self._insist(release)

    async def record_late(self, entry_id: str, number: int, answer: Answer) -> None:
        """An answer that nobody waits for any more is evidence; needs no lease."""

        async def amend() -> Entry | None:
            before = await self._ledger.find(entry_id)
            after = await self._ledger.amend(
                entry_id,
                lambda entry, now: life.late_answer(entry, number, answer, now, self._who),
                evidence=True,
            )
            if after is not None:
                self._telemetry.moved(before, after)
            return after

        self._telemetry.late_answers.inc()
        await self._insist(amend)

    def _listen_on(self, entry: Entry, exchange: Exchange) -> Listening:
        """The timeout ended the waiting, not the listening: read on until ``settle_s``."""
        number = len(entry.attempts)
        listening = Listening()
        timer = asyncio.get_running_loop().call_later(
            entry.promise.settle_s, exchange.stop_listening
        )

        async def record(answer: Answer) -> None:
            try:
                await self.record_late(entry.id, number, answer)
            finally:
                listening.end()

        def ended(end: AttemptEnd) -> None:
            timer.cancel()
            if not isinstance(end, Answered):
                listening.end()
                return
            with suppress(TasksClosed):
                self._tasks.start(record(end.answer), name=f"late {entry.id}")

        exchange.on_end(ended)
        return listening

    async def _insist(self, call: Callable[[], Awaitable[object]]) -> None:
        await retried(
            call,
            on=LedgerUnavailable,
            policy=LEDGER_RETRY,
            draw=self._draw,
            sleep=asyncio.sleep,
        )

    async def disclaim(self, request: ClaimRequest) -> None:
        """Settle a claim that was perhaps made, and never sent, as soon as the ledger is back."""

        async def settle() -> None:
            if not await self._ledger.disclaim(request):
                raise LedgerUnavailable("the claim is not settled yet")

        await self._insist(settle)


def _result_label(end: AttemptEnd) -> str:
    match end:
        case NotSent():
            return "not_sent"
        case Answered():
            return "answered"
        case Lost():
            return "lost"
        case _:
            assert_never(end)
