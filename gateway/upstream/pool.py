"""The connections to one origin: few, fresh, and each in the hands of one exchange."""

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import NamedTuple

from gateway.orders.attempts import LostReason, NotSentReason
from gateway.upstream.connecting import ConnectFailed, reason_of
from gateway.upstream.connections import Connection, Readable, ended_now, readable_now
from gateway.upstream.keeping import IdleLimit
from gateway.upstream.limits import HopLimits
from gateway.upstream.opening import Tls, open_to
from gateway.upstream.origins import Origin
from middleware.tasks import Tasks

_REAP_EVERY_S = 0.05
"""One sweep for all that grow old within it: a busy pool must not set a timer for each."""

_UPLOAD_STOP_S = 1.0
"""An upload that was cancelled ends at once, unless the body's source clings to it."""


@dataclass(frozen=True, slots=True)
class PoolStats:
    """``places`` = ``connecting`` + ``idle`` + ``in_use``; ``waiting`` wait for one."""

    places: int
    connecting: int
    idle: int
    in_use: int
    waiting: int


class _Waiter(NamedTuple):
    """Who waits for a place. ``plain``: for a request that is no order."""

    place: asyncio.Future[Connection | None]
    plain: bool


class Pool:
    """At most ``limits.connections_max`` connections to ``origin``, ``limits.plain_max`` of them in
    the hands of requests that are no orders: those may be slow for as long as their clients like.

    A connection holds its place from before it is opened until it is gone, whatever becomes of
    those who use it. Made and used in one event loop; its timers are that loop's.
    """

    def __init__(
        self,
        origin: Origin,
        *,
        limits: HopLimits | None = None,
        tls: Tls | None = None,
        readable: Readable = readable_now,
    ) -> None:
        self.origin = origin
        self.limits = limits or HopLimits()
        self._idle_limit = IdleLimit(self.limits.idle_s)
        self.stale_s = self.limits.stale_s
        if (origin.scheme == "https") is not (tls is not None):
            raise ValueError("https, and https alone, needs TLS")
        self.tls = tls
        self._readable = readable if tls is None else ended_now
        # An upload's failure ends its exchange, which tells its owner: nothing to add here.
        self._uploads = Tasks(on_failure=lambda _name, _error: None)
        self._members: set[Connection] = set()
        self._idle: list[Connection] = []
        self._plain = 0
        self._waiting: deque[_Waiter] = deque()
        self._waiting_plain: deque[_Waiter] = deque()
        self._reaper: asyncio.TimerHandle | None = None
        self._closed = False
        self._change: asyncio.Future[None] | None = None

    @property
    def stats(self) -> PoolStats:
        connecting = sum(not member.is_connected for member in self._members)
        places, idle = len(self._members), len(self._idle)
        return PoolStats(
            places=places,
            connecting=connecting,
            idle=idle,
            in_use=places - connecting - idle,
            waiting=self._waiters,
        )

    @property
    def busy(self) -> int:
        """Connections that are being opened or spoken on, and who waits for one."""
        return len(self._members) - len(self._idle) + self._waiters

    @property
    def _waiters(self) -> int:
        return len(self._waiting) + len(self._waiting_plain)

    @property
    def has_plain_places(self) -> bool:
        """Whether another request that is no order may have a connection."""
        return self._plain < self.limits.plain_max

    def take_idle(self, *, plain: bool = False) -> Connection | None:
        """An idle connection that is open and fresh, at once, or None.

        The one used last: the others may grow old and go. The caller sends on it or puts it
        back.
        """
        if plain and not self.has_plain_places:
            return None
        if self._idle_limit.seconds < self._idle_limit.longest_s:
            self._recover()
        while self._idle:
            connection = self._idle.pop()
            connection.pooled = False
            if connection.looks_usable(self._idle_limit.seconds):
                return self._lent(connection, plain)
            if connection.is_fresh(self._idle_limit.seconds):  # ended, and the loop has not said so
                self.closed_idle(connection)
            connection.abort()
        return None

    async def connect(self, timeout_s: float, *, plain: bool = False) -> Connection:
        """A new connection; or, where it has to wait for a place, one that was just given back.

        The wait for a place counts in ``timeout_s``; orders come before what is ``plain``. Raises
        ConnectFailed. The caller sends on it or puts it back.
        """
        connection: Connection | None = None
        try:
            async with asyncio.timeout(timeout_s):
                connection = await self._place(plain)
                if not connection.is_connected:
                    await self._open(connection)
        except TimeoutError:
            if connection is None:
                raise ConnectFailed(NotSentReason.POOL_EXHAUSTED) from None
            raise ConnectFailed(NotSentReason.CONNECT_TIMEOUT) from None
        if self._closed:
            connection.abort()
            raise ConnectFailed(NotSentReason.STOPPING)
        return connection

    def put_back(self, connection: Connection) -> None:
        """Give back a connection that was not used, or whose exchange ended clean.

        It is closed instead where it can't serve anyone any more. Being put back unused does
        not make it younger.
        """
        if connection not in self._members and connection.is_open:
            connection.abort()  # from a pool of this upstream as it was configured before
        if connection not in self._members or connection.pooled:
            return
        if not connection.is_free:
            raise RuntimeError("a connection is given back by the exchange on it")
        self._returned(connection)
        if self._closed or not connection.is_fresh(self._idle_limit.seconds):
            connection.abort()
            return
        if self._waiters and not connection.looks_usable(self._idle_limit.seconds):
            connection.abort()
            return
        if waiter := self._next_waiter():
            waiter.place.set_result(self._lent(connection, waiter.plain))
            return
        connection.pooled = True
        self._idle.append(connection)
        if self._reaper is None:
            self._reap_in(self._idle_limit.seconds)

    def closed_idle(self, connection: Connection) -> None:
        """The upstream closed a connection that was used before and waited for its next use."""
        now = asyncio.get_running_loop().time()
        self._idle_limit.closed_by_upstream(connection.quiet_s, now)
        self.stale_s = min(self.limits.stale_s, self._idle_limit.seconds * 1.5)

    def _recover(self) -> None:
        self._idle_limit.recover(asyncio.get_running_loop().time())
        self.stale_s = min(self.limits.stale_s, self._idle_limit.seconds * 1.5)

    def gone(self, connection: Connection) -> None:
        """The connection has ended, or never began: its place is free."""
        if connection not in self._members:
            return
        self._members.discard(connection)
        self._returned(connection)
        if connection.pooled:
            connection.pooled = False
            self._idle.remove(connection)
        if not self._closed and (waiter := self._next_waiter()):
            waiter.place.set_result(self._new_member(waiter.plain))
        if self._change is not None and not self._change.done():
            self._change.set_result(None)

    async def close(self) -> None:
        """Close every connection; exchanges under way end as Lost(STOPPING), waits and connects
        as ConnectFailed(STOPPING). Returns when all open connections are gone."""
        self._closed = True
        if self._reaper is not None:
            self._reaper.cancel()
            self._reaper = None
        for waiting in (self._waiting, self._waiting_plain):
            while waiting:
                if not (waiter := waiting.popleft()).place.done():
                    waiter.place.set_result(None)
        for member in list(self._members):
            member.stop(LostReason.STOPPING)
        await self._uploads.close(_UPLOAD_STOP_S)
        while any(member.is_connected for member in self._members):
            self._change = asyncio.get_running_loop().create_future()
            await self._change

    async def _place(self, plain: bool) -> Connection:
        """A place, as a connection yet to be opened, or a free connection that has one."""
        if self._closed:
            raise ConnectFailed(NotSentReason.STOPPING)
        held_back = plain and not self.has_plain_places
        if not held_back and len(self._members) < self.limits.connections_max:
            return self._new_member(plain)
        waiting = self._waiting_plain if plain else self._waiting
        if len(waiting) >= self.limits.waiting_max:
            raise ConnectFailed(NotSentReason.POOL_EXHAUSTED)
        waiter = _Waiter(asyncio.get_running_loop().create_future(), plain)
        waiting.append(waiter)
        oldest = None if held_back else next((one for one in self._idle if one.is_open), None)
        if oldest is not None:
            oldest.abort()  # its place is wanted for a new one
        try:
            connection = await waiter.place
        except asyncio.CancelledError:
            self._pass_on(waiter)
            raise
        if connection is None:
            raise ConnectFailed(NotSentReason.STOPPING)
        return connection

    def _pass_on(self, waiter: _Waiter) -> None:
        """A wait was given up: what it may just have been given goes to the next."""
        if waiter.place.cancelled() or not waiter.place.done():
            waiting = self._waiting_plain if waiter.plain else self._waiting
            if waiter in waiting:
                waiting.remove(waiter)
            return
        connection = waiter.place.result()
        if connection is None:
            return
        if connection.is_connected:
            self.put_back(connection)
        else:
            self.gone(connection)

    async def _open(self, connection: Connection) -> None:
        opened = False
        try:
            await open_to(self.origin, self.tls, lambda: connection)
            opened = True
        except (OSError, UnicodeError) as error:
            raise ConnectFailed(reason_of(error)) from error
        finally:
            if not opened:  # uvloop may have closed what it opened without another word
                connection.abort()
                self.gone(connection)

    def _new_member(self, plain: bool) -> Connection:
        connection = Connection(self, self.limits, self._uploads, self._readable)
        self._members.add(connection)
        return self._lent(connection, plain)

    def _lent(self, connection: Connection, plain: bool) -> Connection:
        connection.plain = plain
        self._plain += plain
        return connection

    def _returned(self, connection: Connection) -> None:
        self._plain -= connection.plain
        connection.plain = False

    def _next_waiter(self) -> _Waiter | None:
        """Orders first; of the others as many as may have a place."""
        waiting = self._waiting
        while waiting or (self._waiting_plain and self.has_plain_places):
            waiter = (waiting or self._waiting_plain).popleft()
            if not waiter.place.done():
                return waiter
        return None

    def _reap_in(self, delay_s: float) -> None:
        self._reaper = asyncio.get_running_loop().call_later(delay_s, self._reap)

    def _reap(self) -> None:
        """Close what has been idle too long: the upstream has better uses for its sockets."""
        self._reaper = None
        idle_s = self._idle_limit.seconds
        for connection in [one for one in self._idle if one.quiet_s >= idle_s]:
            connection.abort()
        remaining_s = [idle_s - one.quiet_s for one in self._idle if one.is_open]
        if remaining_s:
            self._reap_in(max(min(remaining_s), _REAP_EVERY_S))
