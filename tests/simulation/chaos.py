"""What befalls a history: blows at random moments, drawn from the seed, and their healing.

Every kind of blow falls on every capability, with one exception that follows from a stated limit
(DESIGN section 1: a "no" while a slow attempt still runs upstream beyond ``settle_s``). What a
replica has sent to the upstream before a cut is kept by its kernel and delivered after the heal,
whatever became of the attempt meanwhile: the cut is time in the upstream's queue. ``settle_s``
must exceed queueing and work, so that where a "no" is the last word (``blows.a_no_decides``) one
such cut, and a short one, is drawn (``HELD_S_MAX``). Elsewhere under ``dedup`` the key is
remembered, and under ``none`` nothing is ever sent again: there they last as long as any other.

A paused process needs no exception. It stands still between two callbacks, and the look at the
lease and the first byte are in one callback (``Sender._exchange``).
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from contextvars import Context
from dataclasses import dataclass
from functools import partial

from gateway.demo.faults import WORK_S_MAX
from gateway.orders.promise import Capability

from .blows import Blow, a_no_decides
from .gateways import CLOCK_RATES, SETTLE_S, Replica
from .store import NEWS_OF_FAILOVER_S, Side, Store
from .upstream import LAG_S_MAX, Upstream
from .world import Crash, Crashed, Host, World

STORM_S = 8.0
"""Blows fall within so long: the customers arrive in the first half."""

HELD_S_MAX = SETTLE_S / CLOCK_RATES[1] - WORK_S_MAX - LAG_S_MAX
"""What of ``settle_s``, by the fastest clock, the upstream's longest work and its lookups' lag
leave for the way to it."""

GONE_S = (40.0, 160.0)
"""Around ``place_within_s`` and ``doubt_within_s``, after which an order is given up, or a
person's."""

FLUSHED_SHARE = 0.25
"""How often a store that forgets loses everything, and not what was written lately."""

DRAIN_S = 5.0

DAY_S = 86_400.0


@dataclass(slots=True)
class _Armed:
    """A failpoint: strikes ``host`` at the call of its ledger that brings ``calls_left`` to 0."""

    host: Host
    side: Side
    calls_left: int
    strike: Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Scene:
    """Who can be hit."""

    world: World
    replicas: Sequence[Replica]
    upstream: Upstream
    clients: Sequence[Host]
    capabilities: frozenset[Capability]
    store: Store | None = None
    forgetful: bool = False

    @property
    def held_s_max(self) -> float:
        """How long what was sent may be on its way to the upstream."""
        decides = a_no_decides(self.capabilities, forgetful=self.forgetful)
        return HELD_S_MAX if decides else 6.0


class Chaos:
    """Strikes in ``storm``; after ``calm`` nothing is broken any more."""

    def __init__(self, scene: Scene, blows: Sequence[Blow]) -> None:
        self._scene = scene
        self._world = scene.world
        self._blows = blows
        self._chance = scene.world.chance("chaos")
        self._beats = 0
        self._last_beat: Host | None = None
        self._beat = asyncio.Event()
        self._armed: list[_Armed] = []
        self.kills = 0
        self.fallen: Counter[Blow] = Counter()
        if scene.store is not None:
            scene.store.hit = self._hit

    def beat(self, host: Host | None) -> None:
        """An order moves just now, by the work of ``host``: a good moment for trouble."""
        self._beats += 1
        self._last_beat = host
        self._beat.set()

    async def storm(self) -> None:
        """Returns when every blow has fallen, and the time is over."""
        async with asyncio.TaskGroup() as falling:
            falling.create_task(asyncio.sleep(STORM_S))
            for blow in self._blows:
                falling.create_task(self._fall(blow))

    def calm(self) -> None:
        """Heal everything; whoever is dead or frozen comes back."""
        self._armed.clear()
        self._world.heal()
        self._world.network.name_again()
        if self._scene.store is not None:
            self._scene.store.stand_by()
        for replica in self._scene.replicas:
            if replica.host.life is not None:
                replica.host.life.fuse_steps = 0
            self._wake(replica.host)
            self._revive(replica)
        self._revive_upstream()

    # --- when and whom -----------------------------------------------------------------------

    async def _fall(self, blow: Blow) -> None:
        replica = await self._moment()
        self.fallen[blow] += 1
        match blow:
            case Blow.CUT_CLIENT:
                await self._cut(self._chance.choice(self._scene.clients), replica.host, 4.0)
            case Blow.UPSTREAM_STRIKE:
                self._light(self._scene.upstream.host, self._strike_upstream)
            case Blow.CUT_UPSTREAM | Blow.UPSTREAM_CRASH | Blow.UPSTREAM_GONE:
                await self._trouble_upstream(blow, replica.host)
            case Blow.UPSTREAM_PAUSE | Blow.BROWN_OUT | Blow.NAMELESS:
                await self._slow_upstream(blow)
            case Blow.CUT_STORE | Blow.UNHEARD:
                await self._trouble_store(blow, replica.host)
            case (
                Blow.STORE_AWAY | Blow.STORE_FROZEN | Blow.CUT_STANDBY | Blow.FAILOVER | Blow.FORGET
            ):
                await self._break_store(blow)
            case Blow.RELOAD:
                self.reload()
            case Blow.CLOCK:
                self._jump()
            case _:
                await self._trouble_replica(blow, replica)

    async def _moment(self) -> Replica:
        """At any time; or when an order has just been claimed or has arrived upstream, or within
        a few round trips of that. And whom it hits then."""
        chosen = self._chance.choice(self._scene.replicas)
        if self._chance.random() < 0.4:
            await asyncio.sleep(self._chance.uniform(0.0, STORM_S))
            return chosen
        after = self._chance.randint(1, 20)
        lag_s = self._chance.choice((0.0, 0.003, 0.08)) * self._chance.random()
        faithful = self._chance.random() < 0.7
        with suppress(TimeoutError):
            async with asyncio.timeout(STORM_S):
                await self._beats_reach(after)
        busy = [each for each in self._scene.replicas if each.host is self._last_beat]
        await asyncio.sleep(lag_s)
        return busy[0] if busy and faithful else chosen

    async def _beats_reach(self, count: int) -> None:
        while self._beats < count:
            self._beat.clear()
            await self._beat.wait()

    def _later(self, delay_s: float, callback: Callable[[], object]) -> None:
        """On no host, whoever asks for it."""
        self._world.loop.call_later(delay_s, callback, context=Context())

    # --- replicas ----------------------------------------------------------------------------

    async def _trouble_replica(self, blow: Blow, replica: Replica) -> None:
        match blow:
            case Blow.CRASH:
                self._crash(replica)
            case Blow.STRIKE:
                self._light(replica.host, partial(self._crash, replica))
            case Blow.STUMBLE:
                self._arm(replica, partial(self._stumble, replica))
            case Blow.PAUSE:
                self._pause(replica)
            case Blow.HALT:
                self._light(replica.host, partial(self._pause, replica))
            case Blow.FREEZE:
                self._arm(replica, partial(self._freeze, replica))
            case Blow.DRAIN:
                await self._drain(replica)

    def _light(self, host: Host, strike: Callable[[], None]) -> None:
        """Strike when the host has done a few things more, or a few hundred."""
        life = host.life
        if life is not None and life.alive:
            life.light(self._chance.randint(1, self._chance.choice((30, 300))), strike)

    def _crash(self, replica: Replica) -> None:
        self.kills += replica.host.alive
        self._later(self._down_s(), partial(self._revive, replica))
        self._world.crash(replica.host, self._how())

    def _how(self) -> Crash:
        return Crash.POWER if self._chance.random() < 0.3 else Crash.KILLED

    def _down_s(self) -> float:
        return self._chance.uniform(0.05, self._chance.choice((0.5, 6.0)))

    def _revive(self, replica: Replica) -> None:
        if not replica.host.alive:
            replica.start()

    async def _drain(self, replica: Replica) -> None:
        """SIGTERM: finish what can be finished, leave, and be started again."""
        if replica.gateway is not None and replica.host.alive:
            stopping = replica.gateway.stop(DRAIN_S)
            with suppress(Crashed):
                await self._world.spawn(replica.host, stopping, name="stop")
            self._crash(replica)

    def _pause(self, replica: Replica) -> None:
        """For shorter or longer than a lease."""
        self._world.pause(replica.host)
        self._later(self._chance.uniform(0.1, 8.0), partial(self._wake, replica.host))

    def _wake(self, host: Host) -> None:
        self._world.resume(host)

    def _arm(self, replica: Replica, strike: Callable[[], Awaitable[None]]) -> None:
        side = self._chance.choice(list(Side))
        self._armed.append(_Armed(replica.host, side, self._chance.randint(1, 6), strike))

    async def _hit(self, host: Host, call: str, side: Side) -> None:
        if not self._armed:
            return
        mine = [each for each in self._armed if each.host is host and each.side is side]
        for armed in mine:
            armed.calls_left -= 1
        struck = next((armed for armed in mine if armed.calls_left <= 0), None)
        if struck is not None:
            self._armed.remove(struck)
            self._world.record(f"is hit {side} {call}", host.name)
            await struck.strike()

    async def _stumble(self, replica: Replica) -> None:
        self.kills += 1
        self._later(self._down_s(), partial(self._revive, replica))
        await self._world.crash_here(self._how())

    async def _freeze(self, replica: Replica) -> None:
        self._pause(replica)
        await asyncio.sleep(0)  # what is frozen stands still before its next callback

    # --- links, upstream, store, clocks ------------------------------------------------------

    async def _trouble_upstream(self, blow: Blow, host: Host) -> None:
        """See the module's docstring for the length of a cut."""
        if blow is Blow.CUT_UPSTREAM:
            await self._cut(host, self._scene.upstream.host, self._scene.held_s_max)
            return
        gone = blow is Blow.UPSTREAM_GONE
        down_s = self._chance.uniform(*(GONE_S if gone else (0.05, 3.0)))
        self._crash_upstream(down_s)
        await asyncio.sleep(down_s if gone else 0.0)

    async def _cut(self, one: Host, other: Host, longest_s: float) -> None:
        ways = self._chance.choice(([(one, other)], [(other, one)], [(one, other), (other, one)]))
        for source, target in ways:
            self._world.cut(source, target)
        await asyncio.sleep(self._chance.uniform(0.0, longest_s))
        self._world.heal(one, other)

    def _strike_upstream(self) -> None:
        self._crash_upstream(self._chance.uniform(0.05, 3.0))

    def _crash_upstream(self, down_s: float) -> None:
        self._later(down_s, self._revive_upstream)
        self._world.crash(self._scene.upstream.host, self._how())

    def _revive_upstream(self) -> None:
        if not self._scene.upstream.host.alive:
            self._scene.upstream.start()

    async def _trouble_store(self, blow: Blow, host: Host) -> None:
        store = self._scene.store
        assert store is not None
        if blow is Blow.CUT_STORE:
            await self._cut(host, store.host, 6.0)
        else:
            await self._lose_answers(store, host)

    async def _break_store(self, blow: Blow) -> None:
        store = self._scene.store
        assert store is not None
        for_s = self._chance.uniform(0.1, 4.0)
        match blow:
            case Blow.STORE_AWAY:
                store.primary.away = True
                self._world.record("the store is away", store.host.name)
            case Blow.STORE_FROZEN:
                store.freeze()
            case Blow.FORGET:
                flushed = self._chance.random() < FLUSHED_SHARE
                await store.forget(None if flushed else self._chance.uniform(0.0, 2.0))
                return
            case Blow.CUT_STANDBY:
                one, other = (node.host for node in store.nodes)
                await self._cut(one, other, 4.0)
                return
            case _:
                if self._chance.random() < 0.5:  # as a partition between the two brings it about
                    one, other = (node.host for node in store.nodes)
                    self._world.partition(one, other)
                    await asyncio.sleep(self._chance.uniform(0.0, 1.0))
                    store.fail_over()
                    self._world.heal(one, other)
                else:
                    store.fail_over()
                for_s = max(for_s, NEWS_OF_FAILOVER_S * 1.5)
        await asyncio.sleep(for_s)
        store.stand_by()

    async def _slow_upstream(self, blow: Blow) -> None:
        upstream = self._scene.upstream
        match blow:
            case Blow.UPSTREAM_PAUSE:
                self._world.pause(upstream.host)
                await asyncio.sleep(self._chance.uniform(0.1, self._scene.held_s_max))
                self._world.resume(upstream.host)
            case Blow.BROWN_OUT:
                upstream.browned_out = True
                await asyncio.sleep(self._chance.uniform(0.5, 4.0))
                upstream.browned_out = False
            case _:
                self._world.record("has no name any more", upstream.host.name)
                self._world.network.forget_name(upstream.host.name)
                await asyncio.sleep(self._chance.uniform(0.5, 4.0))
                self._world.network.name_again()

    def reload(self) -> None:
        """A better upstream, and replicas that are told of it, now and when they start again."""
        self._world.record("learns to deduplicate", self._scene.upstream.host.name)
        self._scene.upstream.better()
        for replica in self._scene.replicas:
            replica.reload()

    async def _lose_answers(self, store: Store, host: Host) -> None:
        """Some calls of one replica take effect, and it never hears."""
        self._world.record("some answers get lost", host.name)
        share = self._chance.choice((0.1, 0.5))
        store.unheard = lambda caller, _: caller is host and self._chance.random() < share
        await asyncio.sleep(self._chance.uniform(0.5, 4.0))
        store.unheard = lambda *_: False

    def _jump(self) -> None:
        """Somebody turns a wall clock."""
        hosts = [each.host for each in self._scene.replicas]
        if self._scene.store is not None:
            hosts.append(self._scene.store.host)
        host = self._chance.choice(hosts)
        host.clock.jump(self._chance.uniform(-DAY_S, DAY_S))
        self._world.record("the wall clock jumps", host.name)
