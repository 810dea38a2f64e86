"""Any history gives the same answers on every store as on the memory store, which is its model."""

import asyncio
import shutil
import tempfile
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from gateway.ledger import Lease, LeaseLost, Ledger, LedgerUnavailable
from gateway.orders import life
from gateway.orders.attempts import AttemptEnd
from gateway.orders.claiming import ClaimRequest
from gateway.orders.entry import Entry, KeyKind
from gateway.orders.states import IllegalMove, Reason, Status

from .making import LEASE_S, LOST, NOT_SENT, PROMISE, Stores, answered, late, submission
from .servers import store_url

T = TypeVar("T")

REPLICAS = 2
EXPECTED = (LeaseLost, LedgerUnavailable, ValueError, IllegalMove)
ENDS: list[AttemptEnd] = [LOST, NOT_SENT, *(answered(status) for status in (201, 403, 422, 503))]
STEPS: list[Callable[[Entry, float], Entry]] = [
    lambda entry, now: life.dispatch(entry, now, "me"),
    lambda entry, now: life.resend(entry, now, "me"),
    lambda entry, now: life.quiet(entry),
    lambda entry, now: life.absent(entry, now, "me"),
    lambda entry, now: life.fail(entry, Reason.ABSENCE_PROVED, now, "me"),
    lambda entry, now: life.bury(entry, Reason.DOUBT_DEADLINE, now, "me"),
    *(lambda entry, now, end=end: life.end_attempt(entry, end, now, "me") for end in ENDS),
]


@dataclass
class Twin:
    """One lease as both stores gave it, and the entry as its holder last saw it."""

    leases: tuple[Lease, Lease]
    seen: Entry


class Histories(RuleBasedStateMachine):
    kind: str

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.folder = tempfile.mkdtemp()
        self.stores = [
            Stores("memory", Path()),
            Stores(self.kind, Path(self.folder) / "ledger.db", store_url(self.kind)),
        ]
        self.stores[1].clock = self.stores[0].clock
        self.clock = self.stores[0].clock
        self.twins: list[Twin] = []
        self.requests: list[ClaimRequest] = []
        self.ids: list[str] = []

    @initialize()
    def open(self) -> None:
        self.ledgers: list[list[Ledger]] = [
            [self.run(store.replica(f"replica-{number}")) for store in self.stores]
            for number in range(REPLICAS)
        ]

    def teardown(self) -> None:
        for store in self.stores:
            self.run(store.close())
        self.loop.close()
        shutil.rmtree(self.folder)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(work)

    def both(self, replica: int, call: Callable[[Ledger, int], Awaitable[T]]) -> list[T] | None:
        """The same call on both stores; None where both raised the same."""

        async def one(which: int) -> T | type[Exception]:
            try:
                return await call(self.ledgers[replica][which], which)
            except EXPECTED as error:
                return type(error)

        results = [self.run(one(which)) for which in range(2)]
        assert isinstance(results[0], type) == isinstance(results[1], type), results
        if isinstance(results[0], type):
            assert results[0] is results[1]
            return None
        return [result for result in results if not isinstance(result, type)]

    def same(self, replica: int, call: Callable[[Ledger], Awaitable[T]]) -> T | None:
        results = self.both(replica, lambda ledger, _: call(ledger))
        if results is None:
            return None
        assert results[0] == results[1]
        return results[0]

    replicas = st.integers(0, REPLICAS - 1)
    picks = st.integers(0, 10**6)

    @rule(
        replica=replicas,
        key=st.sampled_from("abc"),
        kind=st.sampled_from(["given", "attached"]),
        fingerprint=st.sampled_from(["r1:aa", "r1:bb"]),
        dispatch=st.booleans(),
        echo=st.booleans(),
        pick=picks,
    )
    def claim(
        self,
        replica: int,
        key: str,
        kind: KeyKind,
        fingerprint: str,
        dispatch: bool,
        echo: bool,
        pick: int,
    ) -> None:
        request = submission(
            key, kind=kind, fingerprint=fingerprint, canonical=None, dispatch=dispatch
        )
        if kind == "attached":
            request = replace(request, key=request.order_id)
        if echo and self.requests:
            request = self.requests[pick % len(self.requests)]
            if self.run(self.ledgers[0][0].find_by_key(request.scope, request.key)) is None:
                return  # a month later nobody repeats one attempt at a claim
        self.requests.append(request)
        self.same(replica, lambda ledger: ledger.peek(request))
        claims = self.both(replica, lambda ledger, _: ledger.claim(request))
        if claims is None:
            return
        assert claims[0].claimed == claims[1].claimed
        leases = [claim.lease for claim in claims]
        self.ids.append(claims[0].claimed.entry.id)
        if leases[0] is None or leases[1] is None:
            assert leases == [None, None]
        else:
            assert leases[0].token == leases[1].token
            self.twins.append(Twin((leases[0], leases[1]), claims[0].claimed.entry))

    @rule(
        replica=replicas,
        pick=picks,
        step=st.sampled_from(STEPS),
        due_in_s=st.sampled_from([None, None, 0.0, 5.0]),
    )
    def write(
        self,
        replica: int,
        pick: int,
        step: Callable[[Entry, float], Entry],
        due_in_s: float | None,
    ) -> None:
        if not self.twins:
            return
        twin = self.twins[pick % len(self.twins)]
        before = twin.seen
        try:
            after = step(before, self.ledgers[0][0].now())
        except (ValueError, IllegalMove):
            return
        written = self.both(
            replica,
            lambda ledger, which: ledger.write(
                twin.leases[which], before, after, due_in_s=due_in_s
            ),
        )
        if written is not None:
            twin.seen = after

    @rule(replica=replicas, pick=picks, due_in_s=st.sampled_from([0.0, 5.0]))
    def release(self, replica: int, pick: int, due_in_s: float) -> None:
        if self.twins:
            twin = self.twins[pick % len(self.twins)]
            self.both(
                replica,
                lambda ledger, which: ledger.release(twin.leases[which], due_in_s=due_in_s),
            )

    @rule(replica=replicas, pick=picks, status=st.sampled_from([201, 422, 500]))
    def amend(self, replica: int, pick: int, status: int) -> None:
        if self.ids:
            entry_id = self.ids[pick % len(self.ids)]
            self.same(replica, lambda ledger: ledger.amend(entry_id, late(1, status)))

    @rule(replica=replicas, pick=picks)
    def disclaim(self, replica: int, pick: int) -> None:
        if self.requests:
            request = self.requests[pick % len(self.requests)]
            self.same(replica, lambda ledger: ledger.disclaim(request))

    @rule(replica=replicas, limit=st.integers(0, 4))
    def lease_due(self, replica: int, limit: int) -> None:
        taken = self.both(replica, lambda ledger, _: ledger.lease_due(limit))
        if taken is None:
            return
        ours, theirs = taken
        assert [leased.entry for leased in ours] == [leased.entry for leased in theirs]
        for one, other in zip(ours, theirs, strict=True):
            self.twins.append(Twin((one.lease, other.lease), one.entry))

    @rule(replica=replicas)
    def renew(self, replica: int) -> None:
        self.same(replica, lambda ledger: ledger.renew_hold())

    @rule(replica=replicas, limit=st.integers(1, 3))
    def retire(self, replica: int, limit: int) -> None:
        self.same(replica, lambda ledger: ledger.retire(limit))

    @rule(
        seconds=st.sampled_from(
            [0.5, 3.0, LEASE_S, PROMISE.attach_window_s, PROMISE.retention_s, PROMISE.tombstone_s]
        )
    )
    def wait(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @invariant()
    def they_hold_the_same(self) -> None:
        if not hasattr(self, "ledgers"):
            return
        counts = self.same(0, lambda ledger: ledger.counts())
        assert counts is not None
        assert counts.conserved
        self.same(0, lambda ledger: shown(ledger, limit=100))
        self.same(0, lambda ledger: shown(ledger, Status.IN_DOUBT, Status.FAILED, limit=2))
        for entry_id in self.ids[-5:]:
            self.same(1, partial(_find, entry_id))


async def shown(ledger: Ledger, *statuses: Status, limit: int) -> tuple[tuple[Entry, ...], bool]:
    """A page, and whether there is another one: a cursor is the store's own."""
    page = await ledger.page(statuses, limit)
    return page.entries, page.next is not None


def _find(entry_id: str, ledger: Ledger) -> Awaitable[Entry | None]:
    return ledger.find(entry_id)


def machine(kind: str, examples: int) -> Any:
    made: Any = type("Histories", (Histories,), {"kind": kind})
    made.TestCase.settings = settings(
        max_examples=examples,
        stateful_step_count=30,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
    )
    return made.TestCase


TestHistoriesOnSqlite = machine("sqlite inline", 30)
TestHistoriesOnSqliteWithItsThread = machine("sqlite", 10)
TestHistoriesOnValkey = machine("valkey", 20)
TestHistoriesOnOldRedis = machine("redis 6.2", 10)
TestHistoriesOnSentinel = machine("sentinel", 5)
TestHistoriesOnACluster = machine("cluster", 5)
