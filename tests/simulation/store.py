"""A remote store: the memory store on hosts of its own, calls to it over the simulated network.

One step runs at the store in one piece, as a script does on a Redis. What a replica calls leaves
its host at the end of the loop turn, unless the host crashed before; from then on it takes effect
whatever becomes of the caller, however late it comes: a cut link or a frozen server keeps it, as
the kernels of both sides do. Calls that come at once are taken in any order.

A store is one server that loses nothing it has answered, or two: a primary, and a standby that
runs the same steps a little later. Then an answer waits until the standby has what it rests on;
where that takes too long it is *short*: what was done may yet be lost, and the caller is told that
nobody knows (``LedgerUnavailable``). A failover makes the standby primary as it stands. Replicas
learn of it one after the other, and go on asking the deposed one meanwhile, which acknowledges
nothing any more. Both servers go by one clock: a stated need of such a store.
"""

import asyncio
import copy
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial
from typing import Any, Generic, NoReturn, Protocol, TypeVar

from gateway.ledger import LedgerUnavailable, Watchers
from gateway.orders.entry import Entry
from gateway.stores.valkey_remembered import Head, Known, Remembered

from .forgetting import Forgetting, Forgettings, State, lost_between
from .loop import SimulatedLoop
from .network import NetworkLink
from .world import Host, SimClock, World

T = TypeVar("T")

ACKNOWLEDGED_WITHIN_S = 0.2
"""How long an answer waits for the standby: within the call's own time, the way back included."""

NEWS_OF_FAILOVER_S = 1.0
"""In which every replica has learnt who is primary."""


class Side(StrEnum):
    """Where in a call of the store a process may be hit."""

    BEFORE = "before"
    AFTER = "after"


Hit = Callable[[Host, str, Side], Awaitable[None]]
"""Called by every replica before a call leaves and after its answer has come: a failpoint."""


class Subscriber(Protocol):
    """Who hears of changes, and of a failover."""

    def tell(self, entry: Entry) -> None: ...
    def turn(self) -> None: ...


Step = Callable[[State], T]
"""What is done at the store in one piece; the same again on the standby."""


@dataclass(frozen=True, slots=True)
class Asker:
    """Who asks: under which hold, with the mark of the call, and what is ``known`` of the store
    (None: what it has is taken as it is)."""

    holder: str
    mark: str
    known: Known | None


@dataclass(frozen=True, slots=True)
class Answer(Generic[T]):
    """What a step came to, or raised, when ``outcome`` is called; what it ``changed``; and whether
    it ``wrote``. ``made``: the number of the step, of all that were ever made. ``forgot``: nothing
    was done, since the store has less than its caller knows."""

    head: Head
    wrote: bool
    outcome: Callable[[], T]
    changed: Sequence[Entry] = ()
    made: int = 0
    forgot: bool = False


def nothing() -> None:
    pass


async def _unharmed(_host: Host, _call: str, _side: Side) -> None:
    pass


class _Press(Watchers):
    """Collects what a step has changed."""

    def __init__(self) -> None:
        super().__init__()
        self.changed: list[Entry] = []

    def publish(self, entry: Entry) -> None:
        self.changed.append(entry)

    def take(self) -> list[Entry]:
        changed, self.changed = self.changed, []
        return changed


class Node:
    """One server. ``position``: how many steps it has made. ``away``: it refuses connections.
    ``backlog``: what waits while it is frozen (None: it is not)."""

    def __init__(self, host: Host, clock: SimClock) -> None:
        self.host = host
        self.press = _Press()
        self.state = State(clock)
        self.stands_by = False
        self.state.readers.append(self.press)
        self.position = 0
        self.away = False
        self.backlog: list[Callable[[], None]] | None = None
        self.standby: Node | None = None
        self.acknowledged = 0
        self.waiting: list[tuple[int, Callable[[], None]]] = []
        self._early: dict[int, tuple[float, Step[object], Asker]] = {}

    @property
    def takes_calls(self) -> bool:
        """A standby takes them from its primary only."""
        return not (self.away or self.stands_by)

    def run(self, step: Step[T], asker: Asker) -> Answer[T]:
        """One step, under a hold."""
        self.position += 1
        self.state.changed = False
        outcome: Callable[[], T]
        try:
            value = step(self.state)
            outcome = lambda: value  # noqa: E731
        except Exception as error:  # noqa: BLE001 - the caller's to handle, as from any call
            outcome = _raising(error)
        wrote = self.state.changed
        if wrote:
            self.state.count(asker.holder, asker.mark)
        return Answer(self.state.head(asker.holder), wrote, outcome, self.press.take())

    def follow(self, position: int, at: float, step: Step[object], asker: Asker) -> None:
        """The primary's step ``position``, here; early ones wait for those before them."""
        self._early[position] = (at, step, asker)
        while (due := self._early.pop(self.position + 1, None)) is not None:
            self.state.at = due[0]
            self.run(due[1], due[2])
            self.state.at = None

    def acknowledge(self, position: int) -> None:
        """The standby has made this many steps."""
        self.acknowledged = max(self.acknowledged, position)
        safe = [tell for at, tell in self.waiting if at <= self.acknowledged]
        self.waiting = [each for each in self.waiting if each[0] > self.acknowledged]
        for tell in safe:
            tell()

    def copy_of(self, other: "Node") -> None:
        """Begin anew with all that the other has."""
        self.state = copy.copy(other.state)
        for name in ("_ids", "_holders", "wrote"):
            setattr(self.state, name, dict(getattr(other.state, name)))
        self.state.marks = list(other.state.marks)
        rows = {key: copy.copy(row) for key, row in other.state._rows.items()}
        self.state._rows = rows
        self.state._pending = {key: rows[key] for key in other.state._pending}
        self.state._attached = {
            key: [rows[row.entry.id] for row in kept] for key, kept in other.state._attached.items()
        }
        self.state.readers = [self.press]
        self.position = other.position
        self._early.clear()
        self.waiting.clear()


class Store:
    """The store. ``unheard``: whether the answer to a call gets lost on its way; ``keeps``: calls
    whose caller has given up take effect when they come (else they are refused); ``files``: what
    gateways leave on their hosts."""

    short_counts = False
    """A safeguard's switch: answers that the standby has not acknowledged are believed."""

    def __init__(self, world: World, hosts: Sequence[Host], *, keeps: bool = True) -> None:
        self.nodes = [Node(host, hosts[0].clock) for host in hosts]
        self.primary = self.nodes[0]
        if len(hosts) > 1:
            self._attach(self.nodes[1])
        self.replicated = len(hosts) > 1
        self.keeps = keeps
        self.shorts = 0
        self.hit: Hit = _unharmed
        self.claimed: Callable[[Host], None] = lambda _host: None
        self.unheard: Callable[[Host, str], bool] = lambda _host, _call: False
        self.subscribers: list[Subscriber] = []
        self.forgettings = Forgettings()
        self.files: defaultdict[str, Remembered] = defaultdict(Remembered)
        self._steps_made = 0
        self._world = world
        self._chance = world.chance("store")

    @property
    def host(self) -> Host:
        return self.primary.host

    @property
    def loop(self) -> SimulatedLoop:
        return self._world.loop

    @property
    def distrusted(self) -> bool:
        """Whether it is said there that it forgot something."""
        return bool(self.primary.state.forgot)

    @property
    def state(self) -> State:
        return self.primary.state

    def link(self, source: Host, target: Host) -> NetworkLink:
        return self._world.network._link(source.name, target.name)

    def entries(self) -> list[Entry]:
        """Every entry as it stands."""
        return [row.entry for row in self.state._rows.values()]

    # --- calls -------------------------------------------------------------------------------

    def call(
        self, node: Node, step: Step[T], asker: Asker, caller: "Subscriber"
    ) -> "Answer[T] | None":
        """Make the step at ``node`` and send it to the standby; what is to be answered once it is
        ``safe``. None where it takes no calls."""
        if not node.takes_calls:
            return None
        at = node.state.now
        if asker.known is not None and node.state.behind(asker.known, asker.holder):
            return Answer(node.state.head(asker.holder), False, _nothing_done, forgot=True)
        answer = replace(node.run(step, asker), made=self._count())
        self.forgettings.written(node.state, answer.changed)
        if node.standby is not None:
            self._replicate(node, node.standby, at, step, asker)
        if answer.changed:
            self.safe(node, partial(self._publish, answer.changed, caller), None)
        return answer

    def _count(self) -> int:
        self._steps_made += 1
        return self._steps_made

    def safe(self, node: Node, tell: Callable[[], None], short: Callable[[], None] | None) -> None:
        """Call ``tell`` once the standby has all that ``node`` has done so far; ``short`` where it
        has not in time."""
        if not self.replicated or self.short_counts or node.away:
            tell()
            return
        if node is self.primary and node.acknowledged >= node.position:
            tell()
            return
        waiting = (node.position, tell)
        node.waiting.append(waiting)
        if short is not None:
            late = partial(self._too_late, node, waiting, short)
            self._world.loop.call_later(ACKNOWLEDGED_WITHIN_S, late, context=Context())

    def _too_late(
        self, node: Node, waiting: tuple[int, Callable[[], None]], short: Callable[[], None]
    ) -> None:
        if waiting in node.waiting:
            node.waiting.remove(waiting)
            self.shorts += 1
            short()

    def _replicate(
        self, node: Node, standby: Node, at: float, step: Step[object], asker: Asker
    ) -> None:
        position = node.position

        def arrive() -> None:
            if node.standby is standby:
                standby.follow(position, at, step, asker)
                self.link(standby.host, node.host).carry(acknowledge, nothing)

        def acknowledge() -> None:
            if node.standby is standby:
                node.acknowledge(standby.position)

        self.link(node.host, standby.host).carry(arrive, nothing)

    def _publish(self, changed: Sequence[Entry], caller: "Subscriber") -> None:
        for entry in changed:
            for subscriber in self.subscribers:
                if subscriber is not caller:
                    subscriber.tell(entry)

    # --- what befalls it ---------------------------------------------------------------------

    async def forget(self, for_s: float | None) -> None:
        """Lose everything that is written from now on for so long, acknowledged or not: an old
        backup is put back. None: lose all there is (FLUSHALL)."""
        backup, made = Node(self.host, self.host.clock), 0
        if for_s is not None:
            backup.copy_of(self.primary)
            made = self._steps_made
            await asyncio.sleep(for_s)
        lost = lost_between(self.state, backup.state)
        at, upto = self._world.loop.time(), self._steps_made
        backup.state.gone += ((made, upto),)
        self.forgettings.all.append(Forgetting(at, backup.state.gone, lost))
        self._world.record(
            f"forgets the last {upto - made} steps, {len(lost)} orders", self.host.name
        )
        self.primary.copy_of(backup)

    def freeze(self) -> None:
        """SIGSTOP of the primary: its kernel goes on taking calls."""
        self.primary.backlog = []
        self._world.record("the store stands still", self.host.name)

    def thaw(self) -> None:
        """What has come meanwhile is done, each connection in no particular order."""
        for node in self.nodes:
            backlog, node.backlog = node.backlog or [], None
            self._chance.shuffle(backlog)
            for arrive in backlog:
                arrive()

    def fail_over(self) -> None:
        """The standby becomes primary, as it stands; nothing where there is none."""
        old, new = self.primary, self.primary.standby
        if new is None:
            return
        lost = old.position - new.position
        self._world.record(f"fails over, without the last {lost} steps", new.host.name)
        old.standby, new.acknowledged, self.primary = None, 0, new
        new.stands_by = False
        for subscriber in list(self.subscribers):
            delay_s = self._chance.uniform(0.0, NEWS_OF_FAILOVER_S)
            self._world.loop.call_later(delay_s, subscriber.turn, context=Context())

    def _attach(self, node: Node) -> None:
        self.primary.standby, node.stands_by = node, True

    def stand_by(self) -> None:
        """Whoever is not primary is the primary's standby again, with all that it has."""
        self.thaw()
        for node in self.nodes:
            node.away = False
            if node is not self.primary and self.primary.standby is None:
                node.copy_of(self.primary)
                self._attach(node)
                self.primary.acknowledge(node.position)
                self._world.record("stands by", node.host.name)


def _raising(error: Exception) -> Callable[[], Any]:
    def result() -> NoReturn:
        raise error

    return result


def _nothing_done() -> NoReturn:
    raise LedgerUnavailable("the store forgot: nothing was done", written=False)
