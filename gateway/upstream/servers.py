"""An upstream as a whole: its servers, which of them is asked, and whether any is.

Callers see what a single pool has: ``take_idle``, ``connect``, ``put_back``. What a call came to
they report by ``ended``.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from gateway.orders.attempts import NotSentReason
from gateway.upstream.balancing import (
    BalancePolicy,
    Candidate,
    Standing,
    Turn,
    order_of_choice,
    sticky_order,
)
from gateway.upstream.breaking import Breaker, BreakerPolicy, Verdict
from gateway.upstream.connecting import ConnectFailed
from gateway.upstream.connections import Connection
from gateway.upstream.limits import HopLimits
from gateway.upstream.opening import Tls
from gateway.upstream.origins import Origin
from gateway.upstream.pool import Pool, PoolStats
from middleware.messages import RawHeaders, first
from middleware.retrying.budget import RetryBudget

TRIES_MAX = 3
"""Servers tried for one connection: with three in a row away, the next is no likelier."""

_NOT_THE_SERVERS = frozenset({NotSentReason.POOL_EXHAUSTED, NotSentReason.STOPPING})
"""We are full, or going: that is nothing to hold against a server."""

Event = Callable[..., object]


def silent(*_: object, **__: object) -> None:
    pass


@dataclass(frozen=True, slots=True)
class HealthPolicy:
    """What each server is asked, and how often."""

    method: bytes
    target: bytes
    every_s: float


@dataclass(slots=True)
class Server:
    """One address of an upstream."""

    pool: Pool
    standing: Standing = field(default_factory=Standing)

    @property
    def name(self) -> str:
        return self.pool.origin.authority

    def candidate(self, now: float, policy: BalancePolicy) -> Candidate:
        return Candidate(
            self.pool.busy, self.standing.share(now, policy), self.standing.is_out(now)
        )


class Upstream:
    """One or several servers with one set of books. Made and used in one event loop.

    ``deadline_field``: in which it is told how long it is waited for. ``retries``: the budget of
    what is sent to it once more.
    """

    def __init__(
        self,
        name: str,
        pools: Sequence[Pool],
        *,
        balance: BalancePolicy | None = None,
        breaker: BreakerPolicy | None = None,
        sticky_header: bytes | None = None,
        deadline_field: bytes | None = None,
        health: HealthPolicy | None = None,
        draw: Callable[[], float] = lambda: 0.5,
        event: Event = silent,
    ) -> None:
        self.name = name
        self.servers = tuple(Server(pool) for pool in pools)
        self.breaker = Breaker(breaker or BreakerPolicy())
        self.balance = balance or BalancePolicy()
        self.health = health
        self.deadline_field = deadline_field
        self.retries = RetryBudget()
        self._sticky_header = sticky_header
        self._draw = draw
        self._event = event
        self._only = self.servers[0].pool if len(self.servers) == 1 else None
        self._names = [server.name for server in self.servers]
        self._by_pool = {id(server.pool): server for server in self.servers}

    @property
    def limits(self) -> HopLimits:
        return self.servers[0].pool.limits

    @property
    def is_sticky(self) -> bool:
        """Whether a request's fields may say which server it goes to."""
        return self._sticky_header is not None and self._only is None

    @property
    def origin(self) -> Origin:
        """The first server's: what lookups name as their host."""
        return self.servers[0].pool.origin

    @property
    def tls(self) -> Tls | None:
        """All its servers' own."""
        return self.servers[0].pool.tls

    @property
    def stats(self) -> PoolStats:
        each = [server.pool.stats for server in self.servers]
        return PoolStats(
            places=sum(one.places for one in each),
            connecting=sum(one.connecting for one in each),
            idle=sum(one.idle for one in each),
            in_use=sum(one.in_use for one in each),
            waiting=sum(one.waiting for one in each),
        )

    def sticky(self, headers: RawHeaders) -> bytes | None:
        """What keeps a request with these fields at one server; None where nothing does."""
        if self._sticky_header is None or self._only is not None:
            return None
        return first(headers, self._sticky_header)

    # --- a connection ---

    def take_idle(
        self, sticky: bytes | None = None, now: float | None = None, *, plain: bool = False
    ) -> Connection | None:
        """An idle connection that is open and fresh, at once, or None; to the server whose turn
        it is, or to the next best. ``now``: the loop's time, from who has it. ``plain``: for what
        is no order."""
        if now is None:
            now = asyncio.get_running_loop().time()
        verdict = self.breaker.allows(now)
        if verdict is Verdict.REFUSE:
            return None
        if self._only is not None:
            connection = self._only.take_idle(plain=plain)
        else:
            connection = self._idle_of_several(sticky, now, plain=plain)
        return self._let_through(connection, verdict)

    def _idle_of_several(
        self, sticky: bytes | None, now: float, *, plain: bool
    ) -> Connection | None:
        order = self._order(sticky, now)
        for index in order[:1] if sticky is not None else order:
            connection = self.servers[index].pool.take_idle(plain=plain)
            if connection is not None:
                return connection
        return None

    def _let_through(self, connection: Connection | None, verdict: Verdict) -> Connection | None:
        if verdict is Verdict.PROBE:
            if connection is None:
                self.breaker.unused()
            else:
                connection.probe = True
        return connection

    async def connect(
        self, timeout_s: float, sticky: bytes | None = None, *, plain: bool = False
    ) -> Connection:
        """A connection, new where none is free. A server that can't be reached gives way to
        another within ``timeout_s``: nothing was sent. ``plain``: for what is no order. Raises
        ConnectFailed."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        verdict = self.breaker.allows(began)
        if verdict is Verdict.REFUSE:
            raise ConnectFailed(NotSentReason.BREAKER_OPEN)
        if plain and verdict is Verdict.PROBE and not self._has_plain_places:
            self.breaker.unused()  # an order may have it: waiting here would keep it from all
            raise ConnectFailed(NotSentReason.POOL_EXHAUSTED)
        connection = None
        try:
            connection = await self._connected(began + timeout_s, sticky, plain=plain)
        except ConnectFailed as failure:
            if failure.reason not in _NOT_THE_SERVERS:
                probe, verdict = verdict is Verdict.PROBE, Verdict.ADMIT
                now = loop.time()
                self._count(now, failed=True, took_s=now - began, probe=probe, order=None)
            raise
        finally:
            self._let_through(connection, verdict)
        return connection

    async def _connected(self, by: float, sticky: bytes | None, *, plain: bool) -> Connection:
        loop = asyncio.get_running_loop()
        turn, tries = Turn(), min(TRIES_MAX, len(self.servers))
        while True:
            server, tries = self._next(turn, sticky), tries - 1
            left_s = by - loop.time()
            try:
                return await self._connect_to(server, left_s / 2 if tries else left_s, plain=plain)
            except ConnectFailed as failure:
                if failure.reason not in _NOT_THE_SERVERS:
                    self._judge(server, failed=True)
                if not tries or failure.reason is NotSentReason.STOPPING:
                    raise

    @property
    def _has_plain_places(self) -> bool:
        return any(server.pool.has_plain_places for server in self.servers)

    def _next(self, turn: Turn, sticky: bytes | None) -> Server:
        if self._only is not None:
            return self.servers[0]
        now = asyncio.get_running_loop().time()
        index = turn.next(self._order(sticky, now), len(self.servers))
        return self.servers[0 if index is None else index]

    async def _connect_to(self, server: Server, timeout_s: float, *, plain: bool) -> Connection:
        if self._only is None:
            idle = server.pool.take_idle(plain=plain)
            if idle is not None:
                return idle
        return await server.pool.connect(timeout_s, plain=plain)

    def _order(self, sticky: bytes | None, now: float) -> tuple[int, ...]:
        candidates = [server.candidate(now, self.balance) for server in self.servers]
        if sticky is not None:
            return sticky_order(self._names, candidates, sticky)
        return order_of_choice(candidates, (self._draw(), self._draw()))

    def put_back(self, connection: Connection) -> None:
        """Give back a connection that was not used."""
        self.unsent(connection)
        self._pool_of(connection).put_back(connection)

    def _pool_of(self, connection: Connection) -> Pool:
        """Its own; one from before a reload goes where any pool closes it."""
        server = self._by_pool.get(id(connection.home))
        return self.servers[0].pool if server is None else server.pool

    # --- what became of it ---

    def ended(
        self, connection: Connection, *, failed: bool, took_s: float, order: str | None = None
    ) -> None:
        """A call on ``connection`` ended: answered, lost, or no longer waited for. ``failed``: the
        server did not do its work. ``order``: which one it was an attempt at."""
        probe, connection.probe = connection.probe, False
        now = connection.loop.time()
        counts = self._count(now, failed=failed, took_s=took_s, probe=probe, order=order)
        if self._only is not None:
            return  # there is no other server to go to
        server = self._by_pool.get(id(connection.home))
        if server is not None and (counts or not failed):
            self._judge(server, failed=failed)

    def unsent(self, connection: Connection) -> None:
        """Nothing was sent on ``connection``, which is of no use any more."""
        if connection.probe:
            connection.probe = False
            self.breaker.unused()

    def _count(
        self, now: float, *, failed: bool, took_s: float, probe: bool, order: str | None
    ) -> bool:
        before = self.breaker.state
        counts = self.breaker.ended(now, failed=failed, took_s=took_s, probe=probe, order=order)
        if self.breaker.state is not before:
            self._event("breaker moved", upstream=self.name, state=self.breaker.state.value)
        return counts

    def _judge(self, server: Server, *, failed: bool) -> None:
        if self._only is not None:
            return  # there is no other to go to
        now = asyncio.get_running_loop().time()
        if server.standing.ended(now, self.balance, failed=failed):
            self._event(
                "server ejected",
                upstream=self.name,
                server=server.name,
                seconds=round(server.standing.ejected_until - now, 3),
            )

    def checked(self, server: Server, *, well: bool) -> None:
        """A health check of ``server`` ended."""
        now = asyncio.get_running_loop().time()
        if server.standing.checked(now, self.balance, well=well):
            self._event(
                "server is up" if well else "server is down",
                upstream=self.name,
                server=server.name,
            )

    async def close(self) -> None:
        for server in self.servers:
            await server.pool.close()
