"""Three gateways on one ledger, a stormy backend, shoppers; and gateways are killed and stopped.

``lay`` plays one siege to its end: blows at random moments while customers shop, then peace, until
everybody has a definite answer; the demo's oracle judges it, with the ledger's own word.
"""

import asyncio
import os
import random
import signal
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

import apsw

from gateway.demo.backend import Backend
from gateway.demo.books import Submitted
from gateway.demo.customer import Door
from gateway.demo.faults import STORM, Ordeal, draw, draw_lookup
from gateway.demo.gateway_process import (
    LEASE_S,
    GatewayFailed,
    GatewayProcess,
    configuration,
    free_seat,
)
from gateway.demo.journal import Journal
from gateway.demo.oracle import Entry, Held, Verdict, judge
from gateway.demo.report import transcripts
from gateway.demo.storefront import Storefront
from gateway.demo.wire import Address
from gateway.orders.entry import Entry as LedgerEntry
from gateway.orders.promise import Capability
from gateway.orders.states import PENDING
from gateway.stores.sqlite_rows import SqliteRows
from gateway.supervisor import EXIT_AGAIN
from middleware.tasks import Tasks

REPLICAS = 3
STARTS_MAX = 10
RESTART_S = 1.0
DRAIN_S = 75.0
"""Longer than the route's ``doubt_within_s`` and what starting again takes on a busy machine."""

CAPABILITIES: Sequence[frozenset[Capability]] = (
    frozenset({Capability.LOOKUP}),
    frozenset({Capability.DEDUP}),
    frozenset({Capability.DEDUP, Capability.LOOKUP}),
)


@dataclass(frozen=True, slots=True)
class Plan:
    """What befalls the gateways. A stop is longer than a lease: another takes the orders over."""

    seed: int
    kills: int
    stops: int = 0
    orders_per_second: float = 12.0
    pause_s: tuple[float, float] = (0.2, 1.0)


@dataclass(frozen=True, slots=True)
class Outcome:
    verdict: Verdict
    kills: int
    stops: int
    doubted: int
    whole: bool
    bugs: tuple[str, ...]
    transcript: str

    @property
    def clean(self) -> bool:
        return self.verdict.clean and self.whole and not self.bugs

    def line(self) -> str:
        """For the sums of a long run."""
        verdict, doubts = self.verdict, self.verdict.doubt_s
        slowest_s = doubts[-1] if doubts else 0.0
        return (
            f"kills {self.kills} stops {self.stops} intents {verdict.intents}"
            f" duplicates {verdict.duplicates} lost {verdict.lost}"
            f" contradictions {verdict.contradictions} pending {verdict.pending}"
            f" doubted {self.doubted} slowest doubt {slowest_s:.1f} s"
        )


class _AnyDoor:
    """A balancer that knows nothing: each connection goes to some gateway, up or not."""

    guarded = True

    def __init__(self, addresses: Sequence[Address], chance: random.Random) -> None:
        self._addresses = addresses
        self._chance = chance

    @property
    def address(self) -> Address:
        return self._chance.choice(self._addresses)


class _Witness:
    """Reads the ledger's file from outside: what had a dispatch on record at this moment (I7)."""

    def __init__(self, ledger: Path) -> None:
        self._db = apsw.Connection(str(ledger), flags=apsw.SQLITE_OPEN_READONLY)
        self._db.set_busy_timeout(2000)
        self._rows = SqliteRows(self._db, "")
        self._ids: dict[str, str] = {}
        self._seen = 0

    def has_dispatch_of(self, upstream_key: str) -> bool:
        for seq, entry in self._rows.whole(self._seen, 1_000_000):
            self._seen = seq
            self._ids[entry.upstream_key] = entry.id
        kept = self._rows.by_id(self._ids.get(upstream_key, ""))
        return kept is not None and bool(kept.entry.attempts)

    def entries(self) -> list[LedgerEntry]:
        return [entry for _, entry in self._rows.whole(0, 1_000_000)]

    def is_whole(self) -> bool:
        said = self._db.execute("PRAGMA integrity_check").fetchall()
        return said == [("ok",)] and self._rows.counts().conserved

    def pending(self) -> int:
        counted = self._rows.counts().by_status
        return sum(counted[status] for status in PENDING)

    def close(self) -> None:
        self._db.close()


class _WatchedBackend(Backend):
    """Asks the ledger, at each submission, whether it knows of it."""

    ledger: Path
    unrecorded: list[str]
    references: dict[str, str]
    _witness: _Witness | None = None

    def _meet(self, submitted: Submitted) -> Ordeal:
        if self._witness is None:
            self._witness = _Witness(self.ledger)
        key = submitted.key or ""
        self.references[key] = submitted.reference
        if not self._witness.has_dispatch_of(key):
            self.unrecorded.append(submitted.reference)
        return super()._meet(submitted)

    def shut(self) -> None:
        if self._witness is not None:
            self._witness.close()
            self._witness = None


@dataclass(slots=True)
class Siege:
    """One shop with three gateways. ``lay`` once."""

    folder: Path
    plan: Plan
    chance: random.Random = field(init=False)
    gateways: list[GatewayProcess] = field(default_factory=list)
    bugs: list[str] = field(default_factory=list)
    kills: int = 0
    stops: int = 0
    restarts: int = 0

    def __post_init__(self) -> None:
        self.chance = random.Random(f"siege {self.plan.seed}")

    async def lay(self) -> Outcome:
        """Play it; whatever happens, no process of it is left."""
        capabilities = CAPABILITIES[self.plan.seed % len(CAPABILITIES)]
        backend = self._backend(capabilities)
        try:
            address = await backend.start()
            await self.build(address, capabilities)
            return await self._story(backend)
        finally:
            backend.shut()
            await asyncio.gather(*(gateway.stop() for gateway in self.gateways))
            await backend.stop()

    def _backend(self, capabilities: frozenset[Capability]) -> _WatchedBackend:
        seed = self.plan.seed
        backend = _WatchedBackend(
            capabilities,
            lambda reference, nth: draw(seed, reference, nth, STORM),
            lambda key, nth: draw_lookup(seed, key, nth),
        )
        backend.ledger, backend.unrecorded, backend.references = self.ledger, [], {}
        return backend

    @property
    def ledger(self) -> Path:
        return self.folder / "data" / "ledger.db"

    async def build(self, backend: Address, capabilities: frozenset[Capability]) -> None:
        for number in range(REPLICAS):
            folder = self.folder / f"gateway-{number}"
            folder.mkdir()
            seat = free_seat(folder)
            text = configuration(seat, backend, capabilities)
            own = str(folder / "ledger.db")
            assert own in text
            seat.config_file.write_text(text.replace(own, str(self.ledger)))
            gateway = GatewayProcess(seat, {})
            self.gateways.append(gateway)
            await gateway.start()

    async def _story(self, backend: _WatchedBackend) -> Outcome:
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        journal = Journal(loop.time)
        doors = _AnyDoor([each.seat.storefront for each in self.gateways], self.chance)
        shop = Storefront(self.plan.seed, self.plan.orders_per_second, cast("Door", doors), journal)
        closed = asyncio.Event()
        tasks = Tasks(lambda name, error: self.bugs.append(f"{name}: {error!r}"))
        trading = tasks.start(shop.trade(closed, DRAIN_S), name="trade")
        try:
            await self._storm(tasks)
        finally:
            closed.set()
        await trading
        await self._settled()
        await shop.audit()
        await backend.quiet()
        await asyncio.gather(*(gateway.stop() for gateway in self.gateways))
        held = [Held(o.order_id, o.reference, o.who, o.body_digest) for o in backend.books.orders]
        entries, whole = self._kept(backend.references)
        case = journal.case(held, entries, self.kills)
        verdict = judge(replace(case, unrecorded=backend.unrecorded))
        return Outcome(
            verdict=verdict,
            kills=self.kills,
            stops=self.stops,
            doubted=sum(entry.doubt_since_s is not None for entry in entries),
            whole=whole,
            bugs=(*self.bugs, *shop.bugs, *backend.observed.bugs),
            transcript=transcripts(verdict, journal.events, backend.observed.events, began_s),
        )

    # --- what befalls them ---

    async def _storm(self, tasks: Tasks) -> None:
        blows = ["kill"] * self.plan.kills + ["stop"] * self.plan.stops
        self.chance.shuffle(blows)
        struck: dict[int, asyncio.Task[None]] = {}
        for blow in blows:
            await asyncio.sleep(self.chance.uniform(*self.plan.pause_s))
            number = await self._one_that_stands(struck)
            act = self._kill if blow == "kill" else self._pause
            struck[number] = tasks.start(act(self.gateways[number]), name=blow)
        await asyncio.gather(*struck.values(), return_exceptions=True)

    async def _one_that_stands(self, struck: dict[int, "asyncio.Task[None]"]) -> int:
        while True:
            up = [n for n in range(REPLICAS) if n not in struck or struck[n].done()]
            if up:
                return self.chance.choice(up)
            await asyncio.wait(struck.values(), return_when=asyncio.FIRST_COMPLETED)

    async def _kill(self, gateway: GatewayProcess) -> None:
        gateway.check()
        await gateway.kill()
        self.kills += 1
        await self._start(gateway)

    async def _start(self, gateway: GatewayProcess) -> None:
        """As systemd does: again after a pause, where the process says that this may help. A
        stopped gateway can hold the ledger's lock."""
        for _ in range(STARTS_MAX):
            try:
                return await gateway.start()
            except GatewayFailed as failed:
                if f"status {EXIT_AGAIN}" not in str(failed):
                    raise
                await gateway.stop()
                self.restarts += 1
                await asyncio.sleep(RESTART_S)
        raise GatewayFailed("it never started again")

    async def _pause(self, gateway: GatewayProcess) -> None:
        assert gateway._process is not None
        pid = gateway._process.pid
        os.killpg(pid, signal.SIGSTOP)
        await asyncio.sleep(1.5 * LEASE_S)
        os.killpg(pid, signal.SIGCONT)
        self.stops += 1

    async def _settled(self) -> None:
        """Until nothing is pending in the ledger, for as long as the route's promise takes."""
        with closing(_Witness(self.ledger)) as witness:
            try:
                async with asyncio.timeout(DRAIN_S):
                    while witness.pending():  # noqa: ASYNC110 - a file
                        await asyncio.sleep(0.1)
            except TimeoutError:
                self.bugs.append("orders are still pending")

    # --- what the ledger says ---

    def _kept(self, references: dict[str, str]) -> tuple[list[Entry], bool]:
        """The entries that reached the backend, and whether the file is whole and conserved."""
        with closing(_Witness(self.ledger)) as witness:
            kept = [each for each in witness.entries() if each.upstream_key in references]
            return [_as_told(references[each.upstream_key], each) for each in kept], (
                witness.is_whole()
            )


def _as_told(reference: str, entry: LedgerEntry) -> Entry:
    answer = entry.answer
    return Entry(
        reference,
        entry.status,
        None if answer is None else answer.status,
        None if answer is None else answer.body,
        entry.doubt_since,
        entry.settled_at,
    )
