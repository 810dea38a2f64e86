"""One run: the backend, the traffic, the kills, the live view, and the records for the oracle."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from rich.console import Console
from rich.live import Live

from gateway.demo.backend import Backend
from gateway.demo.customer import Door
from gateway.demo.faults import Fault, draw, draw_lookup
from gateway.demo.gateway_process import GatewayFailed, GatewayProcess
from gateway.demo.journal import Journal, spread
from gateway.demo.metrics import Gauges, scrape
from gateway.demo.oracle import Held, judge
from gateway.demo.report import Outcome, transcripts
from gateway.demo.storefront import Storefront, within
from gateway.demo.view import Snapshot, line, render
from gateway.demo.wire import Address
from gateway.orders.promise import Capability
from gateway.orders.states import Status
from middleware.tasks import Tasks

DRAIN_S = 60.0
"""After closing: longer than the route's ``doubt_within_s``, so that every order can end."""

KILL_EVERY_S = 20.0
"""One kill in a short run, in the middle; in a longer one, so often."""

BUSY_SUBMISSIONS = 3
"""A kill waits for a moment with so many submissions under way, or it shows little."""

BUSY_WAIT_S_MAX = 3.0
BUSY_LOOK_EVERY_S = 0.005

AWAY_S = 0.5
"""How long the gateway stays dead: customers meet the refused connections."""

LOOK_EVERY_S = 0.5
LINE_EVERY_S = 3.0


class Interrupted(Exception):
    """The user asked twice to leave: there is no verdict."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to play. ``seconds`` None is until ``close_early``."""

    capability: str
    capabilities: frozenset[Capability]
    seed: int
    orders_per_second: float
    seconds: float | None
    mix: Mapping[Fault, int]


class Stage:
    """Plays once: ``play`` after ``backend.start()``."""

    def __init__(self, plan: Plan, console: Console) -> None:
        loop = asyncio.get_running_loop()
        self._plan = plan
        self._console = console
        self._journal = Journal(loop.time)
        self._closing = asyncio.Event()
        self._failure: asyncio.Future[Outcome] = loop.create_future()
        self._tasks = Tasks(self._fell)
        self._bugs: list[str] = []
        self._gauges: Gauges | None = None
        self._counted = Gauges()
        self._cut_off: set[str] = set()
        self._doubts_by_kill = 0
        self._began_s = loop.time()
        self._phase = "open"
        self.backend = Backend(
            plan.capabilities,
            lambda reference, nth: draw(plan.seed, reference, nth, plan.mix),
            lambda key, nth: draw_lookup(plan.seed, key, nth),
        )

    def close_early(self) -> None:
        """Take in no more; the second time, leave at once."""
        if self._closing.is_set() and not self._failure.done():
            self._failure.set_exception(Interrupted())
        self._closing.set()

    async def play(self, address: Address, gateway: GatewayProcess | None) -> Outcome:
        """Traffic, kills, drain, audit, verdict. ``address`` is the backend's.

        Raises GatewayFailed where the gateway ends by itself or doesn't come back, Interrupted
        where the user doesn't want to wait.
        """
        self._began_s = asyncio.get_running_loop().time()
        self._welcome(address, gateway)
        story = self._tasks.start(self._story(address, gateway), name="demo-story")
        self._tasks.start(self._watch(gateway), name="demo-view")
        try:
            await asyncio.wait({story, self._failure}, return_when=asyncio.FIRST_COMPLETED)
            return self._failure.result() if self._failure.done() else story.result()
        finally:
            self._failure.cancel()
            await self._tasks.close(timeout_s=5.0)

    def _fell(self, name: str, error: BaseException) -> None:
        """A task of the stage's own ended badly."""
        if isinstance(error, GatewayFailed) and not self._failure.done():
            self._failure.set_exception(error)
        else:
            self._bugs.append(f"{name}: {error!r}")

    async def _story(self, address: Address, gateway: GatewayProcess | None) -> Outcome:
        loop = asyncio.get_running_loop()
        door = Door(gateway.seat.storefront if gateway else address, guarded=gateway is not None)
        shop = Storefront(self._plan.seed, self._plan.orders_per_second, door, self._journal)
        if self._plan.seconds is not None:
            loop.call_later(self._plan.seconds, self._close)
        killing = self._tasks.start(self._kill_now_and_then(gateway), name="demo-killer")
        await shop.trade(self._closing, DRAIN_S)
        await killing
        pending = 0
        if gateway is not None:
            pending = await self._ledger_settles(gateway)
            self._phase = "audit"
            await shop.audit()
        await self.backend.quiet()
        return self._judge(shop, gateway, pending)

    def _close(self) -> None:
        self._phase = "draining"
        self._closing.set()

    async def _kill_now_and_then(self, gateway: GatewayProcess | None) -> None:
        if gateway is None:
            return
        for pause_s in self._pauses_s():
            if await within(self._closing, pause_s):
                return
            await self._busy_moment()
            cut_off = self._journal.waiting().keys() - self.backend.observed.doubted
            self._doubts_by_kill += len(cut_off)
            self._cut_off |= cut_off
            self._say(f"kill -9 (with {self._journal.open_submissions} submissions under way)")
            await gateway.kill()
            self._counted = self._gauges or self._counted
            await asyncio.sleep(AWAY_S)
            await gateway.start()
            self._say("the gateway is back")

    def _pauses_s(self) -> Iterator[float]:
        """From one kill to the next."""
        if self._plan.seconds is None:
            while True:
                yield KILL_EVERY_S
        kills = max(1, int(self._plan.seconds // KILL_EVERY_S))
        yield from [self._plan.seconds / (kills + 1)] * kills

    async def _busy_moment(self) -> None:
        for _ in range(int(BUSY_WAIT_S_MAX / BUSY_LOOK_EVERY_S)):
            if self._journal.open_submissions >= BUSY_SUBMISSIONS:
                return
            await asyncio.sleep(BUSY_LOOK_EVERY_S)

    async def _ledger_settles(self, gateway: GatewayProcess) -> int:
        """Give what no customer waits for any more its time. Returns what is pending after it."""
        loop = asyncio.get_running_loop()
        latest_s = loop.time() + DRAIN_S
        while True:
            gauges = await scrape(gateway.seat.admin)
            pending = gauges.pending if gauges else 0
            if pending == 0 or loop.time() > latest_s:
                return pending
            await asyncio.sleep(0.5)

    def _judge(self, shop: Storefront, gateway: GatewayProcess | None, pending: int) -> Outcome:
        journal, seen, books = self._journal, self.backend.observed, self.backend.books
        held = [Held(o.order_id, o.reference, o.who, o.body_digest) for o in books.orders]
        verdict = judge(journal.case(held, kills=gateway.kills if gateway else 0))
        dead = {ref for ref, end in journal.ends.items() if end is Status.DEAD_LETTER}
        return Outcome(
            verdict=verdict,
            capability=self._plan.capability,
            seed=self._plan.seed,
            guarded=gateway is not None,
            seconds=round(self._elapsed_s(), 1),
            doubts=seen.doubts + self._doubts_by_kill,
            doubts_by_kill=self._doubts_by_kill,
            unexplained_dead_letters=len(dead - seen.doubted - self._cut_off),
            orders=len(books.orders),
            submissions=seen.submissions,
            lookups=seen.lookups,
            repeats=journal.repeats,
            replays=journal.replays,
            audited=shop.audited,
            audit_unanswered=shop.audit_unanswered,
            ledger_pending=pending,
            definite=spread(journal.definite_after_s),
            answered=spread(journal.answered_after_s),
            faults={str(fault): count for fault, count in seen.faults.items()},
            bugs=(*self._bugs, *shop.bugs, *seen.bugs),
            transcript=transcripts(verdict, journal.events, seen.events, self._began_s),
        )

    async def _watch(self, gateway: GatewayProcess | None) -> None:
        """Look, show, look again; and see that the gateway lives."""
        live = (
            Live(console=self._console, auto_refresh=False) if self._console.is_terminal else None
        )
        next_line_s = LINE_EVERY_S
        with live or contextlib.nullcontext():
            while True:
                if gateway is not None:
                    gateway.check()
                    gauges = await scrape(gateway.seat.admin)
                    self._gauges = None if gauges is None else gauges.after(self._counted)
                look = self._look(gateway)
                if live is not None:
                    live.update(render(look), refresh=True)
                elif look.elapsed_s >= next_line_s:
                    next_line_s = look.elapsed_s + LINE_EVERY_S
                    self._say(line(look))
                await asyncio.sleep(LOOK_EVERY_S)

    def _look(self, gateway: GatewayProcess | None) -> Snapshot:
        journal, seen, books = self._journal, self.backend.observed, self.backend.books
        waiting = journal.waiting()
        references = Counter(order.reference for order in books.orders)
        return Snapshot(
            elapsed_s=self._elapsed_s(),
            phase=self._phase,
            title=f"backend can: {self._plan.capability}",
            intents=len(journal.intents),
            told=journal.by_status(),
            waiting=len(waiting),
            oldest_waiting_s=max(waiting.values(), default=0.0),
            repeats=journal.repeats,
            replays=journal.replays,
            definite=spread(journal.definite_after_s),
            answered=spread(journal.answered_after_s),
            gauges=self._gauges,
            guarded=gateway is not None,
            kills=gateway.kills if gateway else 0,
            orders=len(books.orders),
            twice=sum(count > 1 for count in references.values()),
            submissions=seen.submissions,
            lookups=seen.lookups,
            in_flight=seen.in_flight,
            refusals=seen.refusals,
            doubts=seen.doubts,
            faults=seen.faults,
        )

    def _elapsed_s(self) -> float:
        return asyncio.get_running_loop().time() - self._began_s

    def _say(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False)

    def _welcome(self, address: Address, gateway: GatewayProcess | None) -> None:
        front = gateway.seat.storefront if gateway else address
        self._say(f"order backend    http://{address}")
        if gateway is not None:
            self._say(f"storefront       http://{front}")
            self._say(f"admin listener   http://{gateway.seat.admin}/metrics")
        self._say("Try it yourself:")
        for words in _curls(front, gateway):
            self._say(f"  {words}")
        if self._plan.seconds is None:
            self._say("Ctrl-C closes the shop and gives the verdict.")


def _curls(front: Address, gateway: GatewayProcess | None) -> list[str]:
    """Commands that work while the demo runs. The reference is the user's own: not judged."""
    who = "-H 'Authorization: Bearer me'"
    order = (
        f"curl -i http://{front}/orders {who} -H 'Idempotency-Key: \"mine-1\"'"
        " -H 'Content-Type: application/json'"
        ' -d \'{"reference":"mine-1","sku":"tea","quantity":1}\''
    )
    if gateway is None:
        return [order]
    return [
        order,
        f"curl -s {who} 'http://{front}/_gateway/orders?key=mine-1'",
        f"curl -s http://{front}/catalog",
        f"curl -s http://{gateway.seat.admin}/metrics",
    ]
