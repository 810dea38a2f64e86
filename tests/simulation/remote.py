"""A replica's ledger on the remote store: the port, each call over the simulated network."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextvars import copy_context
from dataclasses import dataclass
from functools import partial
from typing import Generic, NoReturn, TypeVar

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
    Taking,
    Watchers,
)
from gateway.orders.claiming import Claimed, ClaimRequest
from gateway.orders.entry import Entry
from gateway.orders.states import Status
from gateway.stores import doubting, steps

from .store import Node, Side, State, Step, Store, nothing
from .world import Host

T = TypeVar("T")

CALL_TIMEOUT_S = 0.5
"""A quarter of the lease, so that a renewal that failed can be tried again in time."""


@dataclass(slots=True, eq=False)
class _Call(Generic[T]):
    """One call on its way. ``lost``: its caller has given it up."""

    answered: "asyncio.Future[Callable[[], T]]"
    known: int
    lost: bool = False

    def give_up(self) -> None:
        self.lost = True
        self.answered.cancel()


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
        self._node = store.primary
        self._host = host
        self._who = who
        self._lease_s = lease_s
        self._new_holder = new_holder
        self._hold = Hold("", float("-inf"))
        self._renewing = asyncio.Lock()
        self._offset: float | None = None
        self._context = copy_context()
        self._known = 0
        self._forgotten = False

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
    def trouble(self) -> str | None:
        return None if self._offset is not None else "the ledger is not open"

    @property
    def distrusted(self) -> str | None:
        return "the store forgot" if self._store.distrusted else None

    @property
    def unreadable(self) -> Mapping[str, str]:
        return {}

    def turn(self) -> None:
        """It has learnt who is primary."""
        self._node = self._store.primary

    # --- open, close, hold -------------------------------------------------------------------

    async def open(self) -> None:
        seen = await self._call("open", lambda rows: rows.now)
        self._offset = seen - self._host.clock.monotonic()
        self._store.subscribers.append(self)
        self._host.at_crash(self._leave)
        await self.renew_hold()

    async def close(self) -> None:
        holder = self._hold.holder
        self._hold.lapsed = True
        await self._call("close", lambda rows: rows.end_hold(holder))
        self._leave()

    def _leave(self) -> None:
        """The connection of the subscriber ends with its process."""
        if self in self._store.subscribers:
            self._store.subscribers.remove(self)

    async def renew_hold(self) -> None:
        async with self._renewing:
            if not await self._renewed():
                await self._take_hold()

    async def _renewed(self) -> bool:
        start, hold = self._host.clock.monotonic(), self._hold
        if not hold.valid(start):
            return False
        renewed = await self._call(
            "renew", lambda rows: rows.renew_hold(hold.holder, self._lease_s)
        )
        if renewed:
            hold.trusted_until = steps.trusted_until(start, self._lease_s)
        else:
            hold.lapsed = True
        return renewed

    async def _take_hold(self) -> None:
        holder, start = self._new_holder(), self._host.clock.monotonic()
        said = self._forgotten

        def step(rows: State) -> None:
            if said and rows.forgot_at is None:
                rows.forgot_at = rows.now
            rows.take_hold(holder, self._lease_s)

        await self._call("hold", step)
        self._forgotten = False
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
        with Taking(hold):
            claimed: Claimed = await self._call(
                "claim",
                lambda rows: steps.claim(rows, request, hold.holder, _make(rows)),
                lambda: self._store.claimed(self._host),
            )
        return steps.as_claim(claimed, hold)

    async def peek(self, request: ClaimRequest) -> Claimed | None:
        holder = self._hold.holder
        return await self._call("peek", lambda rows: steps.peek(rows, request, holder))

    async def write(
        self, lease: Lease, before: Entry, after: Entry, *, due_in_s: float | None = None
    ) -> None:
        await self._call("write", lambda rows: steps.write(rows, lease, before, after, due_in_s))

    async def release(self, lease: Lease, *, due_in_s: float) -> None:
        await self._call("release", lambda rows: rows.give_back(lease, due_in_s))

    async def amend(self, entry_id: str, change: Change) -> Entry | None:
        return await self._call("amend", lambda rows: steps.amend(rows, entry_id, change))

    async def disclaim(self, request: ClaimRequest) -> bool:
        return await self._call("disclaim", lambda rows: steps.disclaim(rows, request))

    async def lease_due(self, limit: int) -> list[Leased]:
        hold = await self._valid_hold()
        with Taking(hold):
            taken: list[Entry] = await self._call(
                "lease_due",
                lambda rows: steps.lease_due(rows, hold.holder, limit, self._who, rows.forgot_at),
            )
        return [Leased(entry, Lease(entry.id, entry.token, hold)) for entry in taken]

    async def find(self, entry_id: str) -> Entry | None:
        kept = await self._call("find", lambda rows: rows.by_id(entry_id))
        return None if kept is None else kept.entry

    async def find_by_key(self, scope: str, key: str) -> Entry | None:
        kept = await self._call("find", lambda rows: rows.by_key(scope, key))
        return None if kept is None else kept.entry

    async def page(
        self, statuses: tuple[Status, ...] = (), limit: int = 50, after: str | None = None
    ) -> Page:
        return await self._call("page", lambda rows: rows.page(statuses, limit, after))

    async def counts(self) -> Counts:
        return await self._call("counts", lambda rows: rows.counts())

    async def retire(self, limit: int) -> tuple[int, int]:
        return await self._call("retire", lambda rows: rows.retire(limit))

    # --- over the network --------------------------------------------------------------------

    async def _call(self, name: str, step: Step[T], done: Callable[[], None] = nothing) -> T:
        """Raises what the step raises; LedgerUnavailable where no answer comes, or a short one.
        ``done`` is called when the step was made."""
        await self._store.hit(self._host, name, Side.BEFORE)
        loop = asyncio.get_running_loop()
        call: _Call[T] = _Call(loop.create_future(), self._known)
        loop.call_soon(self._leave_with, call, name, step, done)
        expiry = loop.call_later(CALL_TIMEOUT_S, call.give_up)
        try:
            result = await call.answered
        except asyncio.CancelledError:
            if not call.lost:
                raise
        finally:
            expiry.cancel()
        if call.lost:  # also where both came at once: who has waited too long looks no more
            raise LedgerUnavailable(f"{name}: no answer from the store")
        await self._store.hit(self._host, name, Side.AFTER)
        return result()

    def _leave_with(
        self, call: "_Call[T]", name: str, step: Step[T], done: Callable[[], None]
    ) -> None:
        """The call leaves the process; what follows is no longer in its hands."""
        node = self._node

        def arrive() -> None:
            if node.backlog is not None:
                node.backlog.append(arrive)
            elif self._store.keeps or not call.lost:
                run()

        def run() -> None:
            result, changes = self._store.call(node, step, self)
            done()
            if not self._store.unheard(self._host, name):
                position = node.position if node.takes_calls else None
                tell = partial(self._answer, node, call, result, changes, position)
                short = partial(self._answer, node, call, _short, (), None)
                self._store.safe(node, tell, short)

        self._store.link(self._host, node.host).carry(arrive, nothing)

    def _answer(
        self,
        node: Node,
        call: "_Call[T]",
        result: Callable[[], T],
        changes: Sequence[Entry],
        position: int | None,
    ) -> None:
        """What the call came to, with the changes that it made, and how far the store was: an
        answer that was acknowledged is never older than what was known when it was asked for."""

        def heard() -> None:
            for entry in changes:
                self.watchers.publish(entry)
            forgot = position is not None and position <= call.known
            if forgot:
                self._forgotten, self._known = True, 0
                self._hold.lapsed = True
            elif position is not None:
                self._known = max(self._known, position)
            if not call.answered.done():
                call.answered.set_result(_forgetful if forgot else result)

        self._send(node, heard)

    def tell(self, entry: Entry) -> None:
        """A change that somebody else made; nobody repeats it where the link is cut."""
        self._send(self._store.primary, lambda: self.watchers.publish(entry))

    def _send(self, node: Node, heard: Callable[[], None]) -> None:
        """From the store to this replica's process, which reads it when it runs."""
        loop = self._store.loop

        def arrive() -> None:
            loop.call_soon(heard, context=self._context)

        self._store.link(node.host, self._host).carry(arrive, nothing)


def _make(rows: State) -> steps.Make:
    return doubting.trusting if rows.forgot_at is None else doubting.claim


def _forgetful() -> NoReturn:
    raise LedgerUnavailable("the store forgot what it had acknowledged")


def _short() -> NoReturn:
    raise LedgerUnavailable("the standby did not acknowledge in time")
