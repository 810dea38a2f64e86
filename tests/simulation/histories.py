"""One seed, one history: the real gateway, its customers, a stormy upstream, and what befalls them.

``play`` draws a plan from the seed and plays it to its end: the storm, the healing, everybody's
definite answer, a repeat of every order, a quiet time; then the judges: the demo's oracle on what
was told, held and kept, and the invariants that only a simulation can look at from outside.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from gateway.demo.customer import PATIENCE_S
from gateway.demo.faults import WORK_S_MAX, Ordeal
from gateway.demo.intents import Intent
from gateway.demo.oracle import Verdict
from gateway.demo.wire import Reply, Request, exchange
from gateway.orders.entry import AttemptResult, Entry
from gateway.orders.promise import Capability
from gateway.orders.states import FINAL, Status
from gateway.retention import EVERY_S as RETENTION_EVERY_S
from gateway.stores.steps import CLAIM_REASONS
from middleware.idempotency.rules import raw_fingerprint

from .blows import Blow
from .caches import READERS, Reader
from .chaos import Chaos, Scene
from .clients import Clients
from .gateways import (
    CLOCK_RATES,
    DEDUP_FOR_S,
    RETENTION_S,
    LedgerOf,
    Replica,
    Route,
    door,
    embedded,
    heard,
    remote,
    replicas,
    settings,
)
from .judging import faults, flaws, judged
from .plans import Plan
from .store import Store
from .transcripts import transcript
from .upstream import REMEMBERS_S_MORE, Upstream
from .world import World

SETTLED_WITHIN_S = 400.0
"""From the healing to everybody's definite answer: longer than any promise of the route."""

QUIET_S = 2 * WORK_S_MAX
"""What was begun upstream has shown by then."""

KEY_MISMATCH, GONE = 422, 410

SKEW_S_MAX = 300.0
"""No replica's wall clock is right."""

MEMORY = Path("/dev/shm")
"""Where embedded ledgers lie, if it is there: what a disk does is proved with real processes."""

LATE_S = RETENTION_S + RETENTION_EVERY_S + 5.0
"""After so long the answers of a route that forgets are gone."""


@dataclass(slots=True)
class Played:
    """A history and what is wrong with it. ``doubted``: the orders that were ever in doubt."""

    plan: Plan
    verdict: Verdict
    flaws: list[str]
    orders: int
    doubted: int
    kills: int
    faults: Counter[str]
    world: World
    transcript: str

    @property
    def clean(self) -> bool:
        return not self.flaws

    @property
    def digest(self) -> str:
        """Equal for equal histories."""
        return self.world.digest()

    def report(self) -> str:
        """For a failing test: what, how to see it again, and the story of the orders."""
        blows = ", ".join(self.plan.blows)
        made_of = f"{self.plan.capability}, {self.plan.replicas} replicas, {blows}"
        return "\n".join(
            [
                f"seed {self.plan.seed} ({made_of}):",
                *(f"  {flaw}" for flaw in self.flaws),
                again(self.plan.seed),
                self.transcript,
            ]
        )


def again(seed: int) -> str:
    """How to see a history again."""
    return f"again: ./run test --simulate 1 --simulate-from {seed}"


Prepare = Callable[["Stage"], None]
"""Changes a stage before it is played: for safeguards switched off, and other upstreams."""


def play(plan: Plan, prepare: Prepare | None = None) -> Played:
    """Play the history of a plan in a world of its own."""
    with TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as folder:
        stage = Stage(plan, Path(folder) / "ledger.db")
        if prepare is not None:
            prepare(stage)
        with heard(stage.world, stage.bugs):
            return stage.world.run(stage.story())


class WatchedUpstream(Upstream):
    """Tells of every submission the moment it arrives."""

    arrived: Callable[[str, int], None] = staticmethod(lambda _reference, _nth: None)

    def draw(self, reference: str, nth: int) -> Ordeal:
        self.arrived(reference, nth)
        return super().draw(reference, nth)


@dataclass(slots=True)
class Stage:
    """Everything of one history."""

    plan: Plan
    file: Path
    world: World = field(init=False)
    store: Store | None = field(init=False)
    upstream: WatchedUpstream = field(init=False)
    replicas: list[Replica] = field(init=False)
    clients: Clients = field(init=False)
    chaos: Chaos = field(init=False)
    reader: Reader = field(init=False)
    bugs: list[str] = field(default_factory=list)
    flaws: list[str] = field(default_factory=list)
    _references: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        plan = self.plan
        self.world = World(plan.seed)
        names = [f"replica-{number}" for number in range(1, plan.replicas + 1)]
        self.store = None if plan.embedded else self._store()
        ledger_of = self._ledgers()
        self.upstream = WatchedUpstream(
            self.world,
            self.world.host("upstream"),
            plan.capabilities,
            rude=plan.rude,
            names_refusals=plan.names_refusals,
            remembers_s=None if plan.forgetful else DEDUP_FOR_S + REMEMBERS_S_MORE,
        )
        served = Route(plan.capabilities, plan.names_refusals, plan.forgets, plan.caches)
        bettered = replace(served, capabilities=plan.capabilities | {Capability.DEDUP})
        later = settings(bettered) if plan.upgrades else None
        self.replicas = replicas(self.world, names, settings(served), ledger_of, later)
        self._set_clocks()
        self.clients = Clients(
            self.world,
            door(),
            orders=plan.orders,
            keyed_only=plan.keyed_only,
            patient=Blow.UPSTREAM_GONE in plan.blows,
        )
        self.reader = Reader(self.world, self.world.host("reader"), door(), self.clients.journal)
        self.chaos = Chaos(self._scene(), plan.blows)
        self.upstream.arrived = self._arrived
        if self.store is not None:
            self.store.claimed = self.chaos.beat

    def _store(self) -> Store:
        names = ("store", "standby") if self.plan.replicated else ("store",)
        return Store(self.world, [self.world.host(name) for name in names], keeps=self.plan.keeps)

    def _ledgers(self) -> LedgerOf:
        if self.store is not None:
            return remote(self.store)
        torn = self.world.chance("torn log") if self.plan.replicas == 1 else None
        return embedded(self.world, self.file, torn)

    def _set_clocks(self) -> None:
        """None is right, and none runs at the right rate; processes of one host share theirs."""
        for replica in self.replicas:
            clock = replica.host.clock
            clock.jump(self.world.random.uniform(-SKEW_S_MAX, SKEW_S_MAX))
            clock.rate = self.world.random.uniform(*CLOCK_RATES)
            if self.plan.embedded:
                replica.host.clock = self.replicas[0].host.clock
        if self.store is not None:
            self.store.host.clock.rate = self.world.random.uniform(*CLOCK_RATES)

    def _scene(self) -> Scene:
        return Scene(
            self.world,
            self.replicas,
            self.upstream,
            self.clients.hosts,
            self.plan.capabilities,
            self.store,
            self.plan.forgetful,
        )

    # --- the story ---------------------------------------------------------------------------

    async def story(self) -> Played:
        self.upstream.start()
        for replica in self.replicas:
            replica.start()
        shopping = asyncio.ensure_future(self.clients.shop())
        readers = READERS if self.plan.caches else 0
        reading = [asyncio.ensure_future(self.reader.read_on()) for _ in range(readers)]
        await self.chaos.storm()
        self.chaos.calm()
        self.upstream.calm()
        await self._within("every customer has a definite answer", shopping)
        await self._within("the ledger has nothing pending", self._settled())
        for each in reading:
            each.cancel()
        if reading:
            await self.reader.read_all()
        await self._come_back()
        if not self.plan.forgetful:
            await self._reuse_keys()
        await asyncio.sleep(LATE_S if self.plan.forgets else QUIET_S)
        if self.plan.forgets:
            await self._come_back_late()
        await self._within("the ledger has nothing pending in the end", self._settled())
        return await self._judged()

    async def _come_back(self) -> None:
        """Repeats are answered at once: but the order of a customer who had been told of a dead
        letter may have failed since. Then this is a new try, or without a key a new order (DESIGN
        section 4), which ends like any other."""
        unanswered = await self.clients.come_back(window_is_open=not self.plan.forgets)
        if not unanswered or self.plan.forgets or self.plan.forgetful:
            return
        failed = {self.reference(each) for each in await self.entries() if _failed_since(each)}
        anew = [each for each in unanswered if each.reference in failed]
        if len(anew) < len(unanswered):
            self.flaws.append(f"{len(unanswered) - len(anew)} repeats had no definite answer")
        await self._within("every new try has a definite answer", self.clients.shop_again(anew))

    async def _reuse_keys(self) -> None:
        """A careless shop uses its keys for other orders: each must be refused."""
        host = self.clients.hosts[0]
        for intent in list(self.clients.journal.intents.values()):
            if intent.key is not None:
                submission = self.world.spawn(host, exchange(door(), _other(intent), PATIENCE_S))
                reply = await submission
                if not isinstance(reply, Reply) or reply.status != KEY_MISMATCH:
                    self.flaws.append(f"{intent.reference}: key_reused: another body got {reply}")

    async def _come_back_late(self) -> None:
        """Whoever has a key of their own asks once more when the answer is gone: told so, and
        nothing is ordered again."""
        for intent in list(self.clients.journal.intents.values()):
            if intent.key is None or self.clients.journal.ends.get(intent.reference) not in FINAL:
                continue
            again = exchange(door(), _submission(intent), PATIENCE_S)
            reply = await self.world.spawn(self.clients.hosts[0], again)
            if not isinstance(reply, Reply) or reply.status != GONE:
                self.flaws.append(f"{intent.reference}: not_gone: a late repeat got {reply}")

    async def _within(self, what: str, work: Awaitable[object]) -> None:
        try:
            async with asyncio.timeout(SETTLED_WITHIN_S):
                await work
        except TimeoutError:
            self.flaws.append(f"not within {SETTLED_WITHIN_S:.0f} s: {what}")

    async def _settled(self) -> None:
        while True:
            busy = self.upstream.observed.in_flight or not all(r.gateway for r in self.replicas)
            if not busy and not any(entry.pending for entry in await self.entries()):
                return
            await asyncio.sleep(0.5)

    async def entries(self) -> list[Entry]:
        """The ledger as it stands, asked behind everybody's back."""
        if self.store is not None:
            return self.store.entries()
        gateway = self.replicas[0].gateway
        assert gateway is not None
        shown = (await gateway.ledger.page(limit=1_000)).entries
        return [found for entry in shown if (found := await gateway.ledger.find(entry.id))]

    # --- watching and judging ----------------------------------------------------------------

    def _arrived(self, reference: str, nth: int) -> None:
        """I7: nothing is sent that the ledger doesn't show as an attempt already."""
        self.chaos.beat(None)
        if self.store is None or reference in self.lost():
            return
        kept = [entry for entry in self.store.entries() if self.reference(entry) == reference]
        begun = sum(
            attempt.result is not AttemptResult.NOT_SENT
            for entry in kept
            for attempt in entry.attempts
        )
        if nth > begun:
            self.flaws.append(f"{reference}: submission {nth} arrived, {begun} are recorded")

    def reference(self, entry: Entry) -> str:
        """Which customer's order it is."""
        return self.of(entry.fingerprint)

    def of(self, fingerprint: str) -> str:
        """Which customer means this."""
        if fingerprint not in self._references:
            for intent in self.clients.journal.intents.values():
                made = raw_fingerprint("POST", b"/orders", None, intent.body)
                self._references[made] = intent.reference
        return self._references.get(fingerprint, "?")

    def lost(self) -> set[str]:
        """Whose order the store forgot, or a part of it."""
        forgettings = self.store.forgettings.all if self.store is not None else ()
        return {self.of(lost) for each in forgettings for lost in each.lost}

    async def _judged(self) -> Played:
        entries = await self.entries()
        verdict = judged(self, entries)
        self.flaws += flaws(self, verdict, entries)
        self.clients.record()
        return Played(
            plan=self.plan,
            verdict=verdict,
            flaws=self.flaws,
            orders=len(entries),
            doubted=sum(entry.doubt_since is not None for entry in entries),
            kills=self.chaos.kills,
            faults=faults(self),
            world=self.world,
            transcript=transcript(self, verdict, entries) if self.flaws else "",
        )


def _failed_since(entry: Entry) -> bool:
    """It failed, or was refused, which releases a key that the gateway made, and may have been
    claimed again just now (nothing was pending before)."""
    claims = [event for event in entry.events if event.reason in CLAIM_REASONS]
    again = entry.pending and claims[-1].source is Status.FAILED
    released = entry.attached and entry.status is Status.REJECTED
    return again or released or entry.status is Status.FAILED


def _other(intent: Intent) -> Request:
    """The same customer's key with another body."""
    other = intent.body.replace(b'"quantity": ', b'"quantity": 1')
    return _submission(replace(intent, body=other))


def _submission(intent: Intent) -> Request:
    key, who, body = (intent.key or "").encode(), intent.who.encode(), intent.body
    fields = ((b"Authorization", who), (b"Idempotency-Key", key))
    return Request("POST", "/orders", (*fields, (b"Content-Type", b"application/json")), body)
