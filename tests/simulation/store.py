"""A remote store: the memory store on a host of its own, calls to it over the simulated network.

One step runs at the store in one piece, as a script does on a Redis. What a replica calls leaves
its host at the end of the loop turn, unless the host crashed before; from then on it takes effect
whatever becomes of the caller, unless a cut link swallows it. A request that met a cut link is
gone, and so is an answer that did: no call takes effect after its caller gave it up, as with a
store that refuses calls past their deadline.
"""

import asyncio
import copy
from collections.abc import Awaitable, Callable
from contextvars import copy_context
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeVar

from gateway.ledger import (
    Change,
    Claim,
    Counts,
    Hold,
    Lease,
    Leased,
    Ledger,
    LedgerUnavailable,
    Page,
    Watchers,
)
from gateway.orders.claiming import Claimed, ClaimRequest
from gateway.orders.entry import Entry
from gateway.orders.states import Status
from gateway.stores import steps
from gateway.stores.memory import MemoryState

from .network import NetworkLink
from .world import Host, World

T = TypeVar("T")

CALL_TIMEOUT_S = 0.5
"""A quarter of the lease, so that a renewal that failed can be tried again in time."""


class Side(StrEnum):
    """Where in a call of the store a process may be hit."""

    BEFORE = "before"
    AFTER = "after"


Hit = Callable[[Host, str, Side], Awaitable[None]]
"""Called by every replica before a call leaves and after its answer has come: a failpoint."""


async def _unharmed(_host: Host, _call: str, _side: Side) -> None:
    pass


class Store:
    """The store. ``away``: it refuses every connection. ``unheard``: whether the answer to a call
    gets lost on its way. ``forgets_s``: how much of the latest
    writes ``restart`` loses (a store that acknowledged what was not durable); 0 for none."""

    forgets_s = 0.0

    def __init__(self, world: World, host: Host) -> None:
        self.host = host
        self.state = MemoryState(host.clock)
        self.away = False
        self.hit: Hit = _unharmed
        self.claimed: Callable[[Host], None] = lambda _host: None
        self.unheard: Callable[[Host, str], bool] = lambda _host, _call: False
        self._world = world
        self._past: list[tuple[float, MemoryState]] = []

    def link(self, source: Host, target: Host) -> NetworkLink:
        return self._world.network._link(source.name, target.name)

    def entries(self) -> list[Entry]:
        """Every entry as it stands."""
        return [row.entry for row in self.state._rows.values()]

    def restart(self) -> None:
        """Come back, without the writes of the last ``forgets_s`` seconds."""
        self.away = False
        since = self._world.loop.time() - self.forgets_s
        older = [state for at, state in self._past if at <= since]
        if self.forgets_s and older:
            readers, self.state = self.state.readers, older[-1]
            self.state.readers = readers
            self._world.record("the store has lost its last writes", self.host.name)

    def remember(self) -> None:
        """Keep a copy of the rows, for ``restart``; nothing where nothing will be forgotten."""
        if self.forgets_s:
            copied = copy.copy(self.state)
            for name in ("_ids", "_holders"):
                setattr(copied, name, dict(getattr(self.state, name)))
            rows = {key: copy.copy(row) for key, row in self.state._rows.items()}
            copied._rows = rows
            copied._pending = {key: rows[key] for key in self.state._pending}
            copied._attached = {
                key: [rows[row.entry.id] for row in kept]
                for key, kept in self.state._attached.items()
            }
            self._past.append((self._world.loop.time(), copied))


@dataclass(slots=True)
class _Flight:
    """One call, or one publication, on its way. Lost once it met a cut link."""

    lost: bool = False

    def lose(self) -> None:
        self.lost = True


class _Feed(Watchers):
    """What the store tells one replica: with the answer to its own calls, else by a message of
    its own, which a cut link loses."""

    def __init__(self, tell: Callable[[Entry], None]) -> None:
        super().__init__()
        self._tell = tell
        self.collecting: list[Entry] | None = None

    def publish(self, entry: Entry) -> None:
        if self.collecting is not None:
            self.collecting.append(entry)
        else:
            self._tell(entry)


@dataclass(slots=True)
class _Reply:
    """What a step came to, with the changes it made."""

    result: Callable[[], object]
    changes: list[Entry] = field(default_factory=list)


def _raising(error: Exception) -> Callable[[], object]:
    def result() -> object:
        raise error

    return result


class RemoteLedger(Ledger):
    """One replica's ledger on the store. Made by the process that uses it, for its life only."""

    def __init__(
        self,
        store: Store,
        host: Host,
        *,
        who: str,
        lease_s: float,
        new_holder: Callable[[], str],
    ) -> None:
        self.watchers = Watchers()
        self._store = store
        self._host = host
        self._who = who
        self._lease_s = lease_s
        self._new_holder = new_holder
        self._hold = Hold("", float("-inf"))
        self._renewing = asyncio.Lock()
        self._offset: float | None = None
        self._context = copy_context()
        self._feed = _Feed(self._tell)

    # --- what it knows by itself -------------------------------------------------------------

    def now(self) -> float:
        """The store's time, as the answer to ``open`` showed it: late by that answer's way."""
        if self._offset is None:
            raise LedgerUnavailable("the ledger is not open", written=False)
        return self._host.clock.monotonic() + self._offset

    @property
    def hold(self) -> Hold:
        return self._hold

    @property
    def distrusted(self) -> str | None:
        return None

    @property
    def trouble(self) -> str | None:
        return None if self._offset is not None else "the ledger is not open"

    # --- open, close, hold -------------------------------------------------------------------

    async def open(self) -> None:
        seen = await self._call("open", lambda: self._store.state.now)
        self._offset = seen - self._host.clock.monotonic()
        self._store.state.readers.append(self._feed)
        self._host.at_crash(self._leave)
        await self.renew_hold()

    async def close(self) -> None:
        holder = self._hold.holder
        self._hold.lapsed = True
        await self._call("close", lambda: self._store.state.end_hold(holder))
        self._leave()

    def _leave(self) -> None:
        """The connection of the subscriber ends with its process."""
        if self._feed in self._store.state.readers:
            self._store.state.readers.remove(self._feed)

    async def renew_hold(self) -> None:
        async with self._renewing:
            if not await self._renewed():
                await self._take_hold()

    async def _renewed(self) -> bool:
        start, hold = self._host.clock.monotonic(), self._hold
        if not hold.valid(start):
            return False
        renewed = await self._call(
            "renew", lambda: self._store.state.renew_hold(hold.holder, self._lease_s)
        )
        if renewed:
            hold.trusted_until = steps.trusted_until(start, self._lease_s)
        else:
            hold.lapsed = True
        return renewed

    async def _take_hold(self) -> None:
        holder, start = self._new_holder(), self._host.clock.monotonic()
        await self._call("hold", lambda: self._store.state.take_hold(holder, self._lease_s))
        self._hold = Hold(holder, steps.trusted_until(start, self._lease_s))

    async def _valid_hold(self) -> Hold:
        if not self._hold.valid(self._host.clock.monotonic()):
            async with self._renewing:
                if not self._hold.valid(self._host.clock.monotonic()):
                    await self._take_hold()
        return self._hold

    # --- orders ------------------------------------------------------------------------------

    async def claim(self, request: ClaimRequest) -> Claim:
        hold = await self._valid_hold()

        def step() -> Claimed:
            claimed = steps.claim(self._store.state, request, hold.holder)
            self._store.claimed(self._host)
            return claimed

        return steps.as_claim(await self._call("claim", step), hold)

    async def peek(self, request: ClaimRequest) -> Claimed | None:
        holder = self._hold.holder
        return await self._call("peek", lambda: steps.peek(self._store.state, request, holder))

    async def write(
        self, lease: Lease, before: Entry, after: Entry, *, due_in_s: float | None = None
    ) -> None:
        await self._call(
            "write", lambda: steps.write(self._store.state, lease, before, after, due_in_s)
        )

    async def release(self, lease: Lease, *, due_in_s: float) -> None:
        await self._call("release", lambda: self._store.state.give_back(lease, due_in_s))

    async def amend(self, entry_id: str, change: Change) -> Entry | None:
        return await self._call("amend", lambda: steps.amend(self._store.state, entry_id, change))

    async def disclaim(self, request: ClaimRequest) -> bool:
        return await self._call("disclaim", lambda: steps.disclaim(self._store.state, request))

    async def lease_due(self, limit: int) -> list[Leased]:
        hold = await self._valid_hold()
        taken = await self._call(
            "lease_due",
            lambda: steps.lease_due(self._store.state, hold.holder, limit, self._who),
        )
        return [Leased(entry, Lease(entry.id, entry.token, hold)) for entry in taken]

    async def find(self, entry_id: str) -> Entry | None:
        kept = await self._call("find", lambda: self._store.state.by_id(entry_id))
        return None if kept is None else kept.entry

    async def find_by_key(self, scope: str, key: str) -> Entry | None:
        kept = await self._call("find", lambda: self._store.state.by_key(scope, key))
        return None if kept is None else kept.entry

    async def page(
        self, statuses: tuple[Status, ...] = (), limit: int = 50, after: str | None = None
    ) -> Page:
        return await self._call("page", lambda: self._store.state.page(statuses, limit, after))

    async def counts(self) -> Counts:
        return await self._call("counts", lambda: self._store.state.counts())

    async def retire(self, limit: int) -> tuple[int, int]:
        return await self._call("retire", lambda: self._store.state.retire(limit))

    # --- over the network --------------------------------------------------------------------

    async def _call(self, name: str, step: Callable[[], T]) -> T:
        """Raises what the step raises; LedgerUnavailable where no answer comes."""
        await self._store.hit(self._host, name, Side.BEFORE)
        loop = asyncio.get_running_loop()
        answered: asyncio.Future[Callable[[], T]] = loop.create_future()
        request = _Flight()

        def leave() -> None:
            link = self._store.link(self._host, self._store.host)
            link.carry(arrive, request.lose)

        def arrive() -> None:
            if request.lost:
                return
            reply = self._run(step)
            if not self._store.unheard(self._host, name):
                self._reply(reply, answered)

        loop.call_soon(leave)
        expiry = loop.call_later(CALL_TIMEOUT_S, _expire, request, answered)
        try:
            result = await answered
        except asyncio.CancelledError:
            if not request.lost:
                raise
            raise LedgerUnavailable(f"{name}: no answer from the store") from None
        finally:
            expiry.cancel()
        if request.lost:  # both at once: who has waited too long doesn't look any more
            raise LedgerUnavailable(f"{name}: no answer from the store")
        await self._store.hit(self._host, name, Side.AFTER)
        return result()

    def _run(self, step: Callable[[], T]) -> _Reply:
        """The step, at the store."""
        if self._store.away:
            return _Reply(_raising(LedgerUnavailable("the store refuses", written=False)))
        changes: list[Entry] = []
        self._feed.collecting = changes
        try:
            value = step()
        except Exception as error:  # noqa: BLE001 - the caller's to handle, as from any call
            return _Reply(_raising(error))
        finally:
            self._feed.collecting = None
        self._store.remember()
        return _Reply(lambda: value, changes)

    def _reply(self, reply: _Reply, answered: "asyncio.Future[Callable[[], T]]") -> None:
        def tell() -> None:
            for entry in reply.changes:
                self.watchers.publish(entry)
            if not answered.done():
                answered.set_result(reply.result)  # type: ignore[arg-type]

        self._send(tell)

    def _tell(self, entry: Entry) -> None:
        self._send(lambda: self.watchers.publish(entry))

    def _send(self, tell: Callable[[], None]) -> None:
        """From the store to this replica's process, which reads it when it runs."""
        message = _Flight()
        loop = asyncio.get_event_loop()

        def arrive() -> None:
            if not message.lost:
                loop.call_soon(tell, context=self._context)

        self._store.link(self._store.host, self._host).carry(arrive, message.lose)


def _expire(request: _Flight, answered: "asyncio.Future[T]") -> None:
    request.lose()
    answered.cancel()
