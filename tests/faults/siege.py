"""Three gateways on one ledger, a stormy backend, shoppers; gateways are killed and stopped, and
their store is struck.

``lay`` plays one siege to its end: blows at random moments while customers shop, then peace, until
everybody has a definite answer; the demo's oracle judges it, with the ledger's own word.
"""

import asyncio
import os
import random
import signal
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple, cast

from gateway.demo.backend import Backend
from gateway.demo.books import Submitted
from gateway.demo.customer import Door
from gateway.demo.faults import STORM, Ordeal, draw, draw_lookup
from gateway.demo.gateway_process import (
    LEASE_S,
    GatewayFailed,
    GatewayProcess,
    Seat,
    configuration,
)
from gateway.demo.journal import Journal
from gateway.demo.oracle import Entry, Held, Verdict, judge
from gateway.demo.report import transcripts
from gateway.demo.storefront import Storefront
from gateway.demo.wire import Address, Reply, Request, exchange
from gateway.orders.entry import Entry as LedgerEntry
from gateway.orders.promise import Capability
from gateway.supervisor import EXIT_AGAIN
from middleware.tasks import Tasks
from tests.faults.besieged import Besieged, until
from tests.faults.witnesses import Witness
from tests.ports import free_port

REPLICAS = 3
STARTS_MAX = 10
RESTART_S = 1.0
DRAIN_S = 75.0
"""Longer than the route's ``doubt_within_s`` and what starting again takes on a busy machine."""

READY_S_MAX = 180.0
"""It is not, while the store can take no orders."""

PATIENCE_S = 60.0
"""For a busy machine to do what takes a moment."""

CAPABILITIES: Sequence[frozenset[Capability]] = (
    frozenset({Capability.LOOKUP}),
    frozenset({Capability.DEDUP}),
    frozenset({Capability.DEDUP, Capability.LOOKUP}),
)


@dataclass(frozen=True, slots=True)
class Plan:
    """What befalls the gateways, and meanwhile the store. A stop is longer than a lease: another
    takes the orders over."""

    seed: int
    kills: int = 0
    stops: int = 0
    outages: int = 0
    orders_per_second: float = 12.0
    pause_s: tuple[float, float] = (0.2, 1.0)


class Outage(NamedTuple):
    """A blow at the store, until it was whole again."""

    kind: str
    began_s: float
    ended_s: float

    def since(self, s: float) -> "Outage":
        return Outage(self.kind, self.began_s - s, self.ended_s - s)


@dataclass(frozen=True, slots=True)
class Outcome:
    verdict: Verdict
    kills: int
    stops: int
    outages: tuple[Outage, ...]
    doubted: int
    flaws: tuple[str, ...]
    bugs: tuple[str, ...]
    transcript: str

    @property
    def clean(self) -> bool:
        return self.verdict.clean and not self.flaws and not self.bugs

    def complaint(self) -> str:
        bugs = [bug[-500:] for bug in self.bugs[:3]]
        outages = ", ".join(f"{each.kind} {each.began_s:.1f} s" for each in self.outages)
        return f"{outages}\nbugs {bugs}, of the ledger {self.flaws[:3]}\n{self.transcript}"

    def line(self) -> str:
        """For the sums of a long run."""
        verdict, doubts = self.verdict, self.verdict.doubt_s
        slowest_s = doubts[-1] if doubts else 0.0
        return (
            f"kills {self.kills} stops {self.stops} outages {len(self.outages)}"
            f" intents {verdict.intents}"
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


class _WatchedBackend(Backend):
    """Asks the ledger, when a submission arrives, whether it knows of it. Nobody waits for that."""

    witness: Witness
    unrecorded: list[str]
    references: dict[str, str]
    asking: Tasks

    def _meet(self, submitted: Submitted) -> Ordeal:
        self.references[submitted.key or ""] = submitted.reference
        self.asking.start(self._ask(submitted), name="witness")
        return super()._meet(submitted)

    async def _ask(self, submitted: Submitted) -> None:
        if not await self.witness.has_dispatch_of(submitted):
            self.unrecorded.append(submitted.reference)


@dataclass(slots=True)
class Siege:
    """One shop with three gateways on ``store``. ``lay`` once."""

    folder: Path
    plan: Plan
    store: Besieged
    chance: random.Random = field(init=False)
    gateways: list[GatewayProcess] = field(default_factory=list)
    bugs: list[str] = field(default_factory=list)
    kills: int = 0
    stops: int = 0
    outages: list[Outage] = field(default_factory=list)
    tasks: Tasks = field(init=False)

    def __post_init__(self) -> None:
        self.chance = random.Random(f"siege {self.plan.seed}")
        self.tasks = Tasks(lambda name, error: self.bugs.append(f"{name}: {error!r}"))

    async def lay(self) -> Outcome:
        """Play it; whatever happens, no process of it is left."""
        capabilities = CAPABILITIES[self.plan.seed % len(CAPABILITIES)]
        backend = self._backend(capabilities)
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self.store.close)
            await self.store.start()
            stack.push_async_callback(backend.stop)
            address = await backend.start()
            stack.push_async_callback(self.leave)
            await self.build(address, capabilities)
            backend.witness = self.store.witness()
            stack.push_async_callback(backend.witness.close)
            return await self._story(backend)

    def _backend(self, capabilities: frozenset[Capability]) -> _WatchedBackend:
        seed = self.plan.seed
        backend = _WatchedBackend(
            capabilities,
            lambda reference, nth: draw(seed, reference, nth, STORM),
            lambda key, nth: draw_lookup(seed, key, nth),
        )
        backend.unrecorded, backend.references, backend.asking = [], {}, self.tasks
        return backend

    async def build(self, backend: Address, capabilities: frozenset[Capability]) -> None:
        """The first gateway makes the ledger, and the others find it."""
        for number in range(REPLICAS):
            folder = self.folder / f"gateway-{number}"
            folder.mkdir()
            storefront, admin = (Address("127.0.0.1", free_port()) for _ in range(2))
            seat = Seat(storefront, admin, folder)
            seat.config_file.write_text(configuration(seat, backend, capabilities))
            environment = self.store.environment()
            self.gateways.append(GatewayProcess(seat, environment, ready_s_max=READY_S_MAX))
        first, *others = self.gateways
        await first.start()
        await asyncio.gather(*(each.start() for each in others))

    async def leave(self) -> None:
        await asyncio.gather(*(gateway.stop() for gateway in self.gateways))

    async def _story(self, backend: _WatchedBackend) -> Outcome:
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        journal = Journal(loop.time)
        doors = _AnyDoor([each.seat.storefront for each in self.gateways], self.chance)
        shop = Storefront(self.plan.seed, self.plan.orders_per_second, cast("Door", doors), journal)
        closed = asyncio.Event()
        trading = self.tasks.start(shop.trade(closed, DRAIN_S), name="trade")
        try:
            await self._storm()
        finally:
            closed.set()
        await trading
        await self._settled(backend.witness)
        await shop.audit()
        await backend.quiet()
        await self._hear_warnings()
        await self.leave()
        await self.tasks.finish(PATIENCE_S)
        held = [Held(o.order_id, o.reference, o.who, o.body_digest) for o in backend.books.orders]
        entries = await kept(backend.witness, backend.references)
        case = journal.case(held, entries, self.kills)
        verdict = judge(replace(case, unrecorded=backend.unrecorded))
        return Outcome(
            verdict=verdict,
            kills=self.kills,
            stops=self.stops,
            outages=tuple(each.since(began_s) for each in self.outages),
            doubted=sum(entry.doubt_since_s is not None for entry in entries),
            flaws=tuple(await backend.witness.flaws()),
            bugs=(*self.bugs, *shop.bugs, *backend.observed.bugs),
            transcript=transcripts(verdict, journal.events, backend.observed.events, began_s),
        )

    # --- what befalls them ---

    async def _storm(self) -> None:
        outages = self.tasks.start(self._outages(), name="outages")
        blows = ["kill"] * self.plan.kills + ["stop"] * self.plan.stops
        self.chance.shuffle(blows)
        struck: dict[int, asyncio.Task[None]] = {}
        for blow in blows:
            await asyncio.sleep(self.chance.uniform(*self.plan.pause_s))
            number = await self._one_that_stands(struck)
            act = self._kill if blow == "kill" else self._pause
            struck[number] = self.tasks.start(act(self.gateways[number]), name=blow)
        await asyncio.gather(outages, *struck.values(), return_exceptions=True)

    async def _outages(self) -> None:
        chance = random.Random(f"outages {self.plan.seed}")
        for _ in range(self.plan.outages):
            await asyncio.sleep(chance.uniform(*self.plan.pause_s))
            began_s = asyncio.get_running_loop().time()
            kind = await self.store.strike(chance)
            self.outages.append(Outage(kind, began_s, asyncio.get_running_loop().time()))

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
                await asyncio.sleep(RESTART_S)
        raise GatewayFailed("it never started again")

    async def _pause(self, gateway: GatewayProcess) -> None:
        assert gateway._process is not None
        pid = gateway._process.pid
        os.killpg(pid, signal.SIGSTOP)
        await asyncio.sleep(1.5 * LEASE_S)
        os.killpg(pid, signal.SIGCONT)
        self.stops += 1

    async def _settled(self, witness: Witness) -> None:
        """Until nothing is pending in the ledger, for as long as the route's promise takes."""
        try:
            await until(partial(_nothing_waits, witness), DRAIN_S)
        except TimeoutError:
            self.bugs.append("orders are still pending")

    async def _hear_warnings(self) -> None:
        """A gateway that says that its ledger forgot is wrong, or the ledger did."""
        for gateway in self.gateways:
            told = await exchange(gateway.seat.admin, Request("GET", "/readyz"), PATIENCE_S)
            if not isinstance(told, Reply) or b"warnings" in told.body:
                self.bugs.append(f"{gateway.seat.folder.name} says {told}")


async def _nothing_waits(witness: Witness) -> bool:
    return await witness.pending() == 0


async def kept(witness: Witness, references: Mapping[str, str]) -> list[Entry]:
    """The entries that reached the backend."""
    return [
        _as_told(references[each.upstream_key], each)
        for each in await witness.entries()
        if each.upstream_key in references
    ]


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
