"""Submissions, answers and stores for the contract suite."""

import contextlib
import itertools
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias
from uuid import uuid4

import apsw

from gateway.ledger import Claim, Lease, Ledger
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
from gateway.orders.claiming import ClaimRequest, Fresh
from gateway.orders.entry import Entry, KeptRequest, KeyKind
from gateway.orders.promise import Capability, LookupPlan, Promise
from gateway.orders.states import Reason
from gateway.settings.ledger_urls import parse_remote
from gateway.stores.memory import MemoryLedger, MemoryState
from gateway.stores.sqlite import SqliteLedger
from gateway.stores.sqlite_host import HostFacts
from gateway.stores.valkey import ValkeyLedger
from gateway.stores.valkey_nodes import Access

AnyLedger: TypeAlias = MemoryLedger | SqliteLedger | ValkeyLedger

LEASE_S = 10.0
WHO = "replica-1"
PROMISE = Promise(
    route="place-order",
    upstream="backend",
    capabilities=frozenset({Capability.LOOKUP}),
    lookup=LookupPlan("GET", "/orders?idempotency_key={key}"),
    attach_window_s=60.0,
    retention_s=1000.0,
    tombstone_s=5000.0,
    invalidates=("/orders",),
)
HOST = HostFacts("machine-1", "boot-1", "", apsw.sqlite_lib_version())

LOST = Lost(LostReason.TIMEOUT, 100)
NOT_SENT = NotSent(NotSentReason.CONNECT_REFUSED)


class TurnableClock:
    """A host's clock that moves only by hand."""

    def __init__(self, boot_s: float = 500.0, wall_s: float = 1_800_000_000.0) -> None:
        self.boot_s = boot_s
        self.wall_s = wall_s

    def monotonic(self) -> float:
        return self.boot_s

    def wall(self) -> float:
        return self.wall_s

    def advance(self, seconds: float) -> None:
        self.boot_s += seconds
        self.wall_s += seconds

    def jump(self, seconds: float) -> None:
        self.wall_s += seconds


class Stores:
    """Replicas on one store, as a test asks for them; all are closed at its end."""

    def __init__(self, kind: str, path: Path, url: str = "") -> None:
        self.kind = kind
        self.url = f"{url}?prefix=t{uuid4().hex}"
        self.path = path
        self.clock = TurnableClock()
        self._state = MemoryState(self.clock)
        self._offset_s = self.clock.wall() - self.clock.monotonic()
        self._ids = itertools.count(1)
        self._opened: list[AnyLedger] = []

    def make(self, who: str = WHO) -> AnyLedger:
        if self.kind == "memory":
            return MemoryLedger(
                self._state,
                clock=self.clock,
                who=who,
                lease_s=LEASE_S,
                new_holder=self._new_holder,
            )
        if self.kind not in ("sqlite", "sqlite inline"):
            return ValkeyLedger(
                parse_remote(self.url),
                access=Access(),
                clock=self.clock,
                who=who,
                lease_s=LEASE_S,
                new_holder=self._new_holder,
                time=self._time,
                durability="replicated" if self.kind == "sentinel" else "fsync",
                replicas=1 if self.kind == "sentinel" else 0,
                look_s=0.05,
            )
        return SqliteLedger(
            self.path,
            clock=self.clock,
            who=who,
            lease_s=LEASE_S,
            new_holder=self._new_holder,
            inline=self.kind == "sqlite inline",
            host=HOST,
            poll_s=0.01,
        )

    async def replica(self, who: str = WHO) -> AnyLedger:
        ledger = self.make(who)
        await ledger.open()
        self._opened.append(ledger)
        return ledger

    async def close(self) -> None:
        for ledger in self._opened:
            await ledger.close()

    async def end_hold(self, ledger: AnyLedger) -> None:
        """The store takes ``ledger``'s hold for lapsed, before the ledger knows."""
        holder = ledger.hold.holder
        if isinstance(ledger, SqliteLedger):
            await ledger._write(lambda rows: rows.end_hold(holder))
        elif isinstance(ledger, ValkeyLedger):
            await ledger._kept.everywhere("end", holder)
        else:
            self._state.end_hold(holder)

    def _time(self) -> float:
        """The clock of a server: as the memory store's."""
        return self.clock.monotonic() + self._offset_s

    def _new_holder(self) -> str:
        return f"holder-{next(self._ids)}"


_numbers = itertools.count(1)


def submission(
    key: str = "key",
    *,
    scope: str = "scope",
    kind: KeyKind = "given",
    fingerprint: str = "r1:aa",
    canonical: str | None = "c1:aa",
    dispatch: bool = True,
    promise: Promise = PROMISE,
    request: KeptRequest | None = None,
) -> ClaimRequest:
    """A new submission each time: claim id and order id never repeat, in no process."""
    number = f"{os.getpid()}-{next(_numbers)}"
    return ClaimRequest(
        claim_id=f"claim-{number}",
        order_id=f"order-{number}",
        scope=scope,
        key=key,
        key_kind=kind,
        upstream_key=f"upstream-{number}",
        fingerprint=fingerprint,
        canonical_fingerprint=canonical,
        request=request
        or KeptRequest(b"POST", b"/orders", ((b"Host", b"backend"),), b'{"sku": 1}'),
        promise=promise,
        dispatch=dispatch,
        who=WHO,
    )


def attached(fingerprint: str = "r1:aa", scope: str = "scope") -> ClaimRequest:
    """A submission without a key: the gateway has made it one that never repeats."""
    key = f"made-{next(_numbers)}"
    return submission(key, scope=scope, kind="attached", fingerprint=fingerprint)


def answered(status: int, body: bytes = b'{"id": 42}') -> Answered:
    headers = ((b"Content-Type", b"application/json"), (b"X-Order", b"42"))
    return Answered(Answer(status, b"Phrase", headers, body))


async def fresh(ledger: Ledger, request: ClaimRequest | None = None) -> tuple[Entry, Lease]:
    """Claim a key that must be free."""
    claim = await ledger.claim(request or submission())
    return held(claim)


def held(claim: Claim) -> tuple[Entry, Lease]:
    assert isinstance(claim.claimed, Fresh)
    assert claim.lease is not None
    assert claim.lease.token == claim.claimed.entry.token
    return claim.claimed.entry, claim.lease


async def ended(
    ledger: Ledger,
    entry: Entry,
    lease: Lease,
    end: AttemptEnd,
    *,
    due_in_s: float | None = None,
) -> Entry:
    """Write down how the attempt under way ended."""
    after = life.end_attempt(entry, end, ledger.now(), WHO)
    await ledger.write(lease, entry, after, due_in_s=due_in_s)
    return after


async def settled(ledger: Ledger, request: ClaimRequest | None = None, status: int = 201) -> Entry:
    entry, lease = await fresh(ledger, request)
    return await ended(ledger, entry, lease, answered(status))


async def failed(ledger: Ledger, request: ClaimRequest | None = None) -> Entry:
    """Not admitted (403): over, nothing placed, and the key may be claimed again."""
    return await settled(ledger, request, 403)


async def in_doubt(
    ledger: Ledger, request: ClaimRequest | None = None, *, due_in_s: float | None = None
) -> tuple[Entry, Lease]:
    entry, lease = await fresh(ledger, request)
    return await ended(ledger, entry, lease, LOST, due_in_s=due_in_s), lease


async def dead_letter(ledger: Ledger, request: ClaimRequest | None = None) -> Entry:
    entry, lease = await in_doubt(ledger, request)
    after = life.bury(entry, Reason.DOUBT_DEADLINE, ledger.now(), WHO)
    await ledger.write(lease, entry, after)
    return after


def late(number: int, status: int) -> Callable[[Entry, float], Entry | None]:
    """The amendment that a late answer to attempt ``number`` makes."""

    def change(entry: Entry, now: float) -> Entry | None:
        return life.late_answer(entry, number, answered(status).answer, now, WHO)

    return change


def bare(entry: Entry) -> Entry:
    return replace(entry, request=None, answer=None)


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """A stranger's read that never ends: the log may be copied, and does not start over."""
    db = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    db.execute("BEGIN")
    db.execute("SELECT count(*) FROM orders").fetchall()
    try:
        yield
    finally:
        db.close()
