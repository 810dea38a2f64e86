"""A replica's ledger on the remote store: the port, each call over the simulated network."""

import asyncio
import itertools
from collections.abc import Callable, Mapping
from contextlib import suppress
from contextvars import copy_context
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, Literal, NoReturn, TypeVar, cast

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
from gateway.orders.claiming import Claimed, ClaimRequest, Fresh
from gateway.orders.entry import Entry
from gateway.orders.states import Status
from gateway.stores import doubting, steps
from gateway.stores.doubting import Said
from gateway.stores.valkey_remembered import GONE, Known, Remembered, forgotten
from gateway.stores.valkey_trust import Trust

from . import forgetting
from .forgetting import ONLY, State, distrust
from .store import Answer, Asker, Node, Side, Step, Store, nothing
from .world import Host

T = TypeVar("T")

CALL_TIMEOUT_S = 0.5
"""A quarter of the lease, so that a renewal that failed can be tried again in time."""


OF_THE_HOLD = frozenset({"renew", "hold", "close"})
"""Calls that decide nothing about an order: what is said of the store takes nothing from them."""


@dataclass(slots=True, eq=False)
class _Call(Generic[T]):
    """One call on its way. ``lost``: its caller has given it up."""

    name: str
    step: Step[T]
    holder: str
    adopts: bool
    answered: "asyncio.Future[Callable[[], T]]"
    known: Known | None = None
    latest_write: int = 0
    heard: int = 0
    left_at: float = 0.0
    lost: bool = False

    def give_up(self) -> None:
        self.lost = True
        self.answered.cancel()


def heard(since: float | None, step: Step[T]) -> Step[T]:
    """``step``, unless it was decided without knowing that it is said there that the store forgot:
    then nothing is done (``put.lua``)."""

    def unless_unheard(rows: State) -> T:
        if since is None and rows.forgot:
            raise LedgerUnavailable("another gateway found that the store forgot", written=False)
        return step(rows)

    return unless_unheard


class _Dated:
    def __init__(self, rows: State, now: float) -> None:
        self._rows = rows
        self.now = now

    def __getattr__(self, name: str) -> Any:
        return getattr(self._rows, name)


def dated(rows: State, now: float) -> steps.Rows:
    """The rows, to a rule that was asked at ``now``. Which holds are alive they know themselves."""
    return cast("steps.Rows", _Dated(rows, now))


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
        self._hold.lapsed = True
        self._renewing = asyncio.Lock()
        self._offset: float | None = None
        self._context = copy_context()
        left = store.files[host.name]  # what is known is on the host at once (``valkey_host``)
        known = Remembered(epochs=left.epochs, seqs=left.seqs)
        self._trust = Trust(known, who=who, event=lambda *_, **__: None, say=self._say_soon)
        self._latest_write = ("", 0)
        self._closing = False
        self._marks = itertools.count()

    # --- what it knows by itself -------------------------------------------------------------

    def now(self) -> float:
        """The store's time, as its fastest answer showed it: late by that answer's way."""
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
        return self._trust.reason

    @property
    def unreadable(self) -> Mapping[str, str]:
        return {}

    def turn(self) -> None:
        """It has learnt who is primary."""
        self._node = self._store.primary

    # --- open, close, hold -------------------------------------------------------------------

    async def open(self) -> None:
        self._store.subscribers.append(self)
        self._host.at_crash(self._leave)
        try:
            await self.renew_hold()
        except LedgerUnavailable:
            if self._trust.pending is None:
                raise
            await self.renew_hold()

    async def close(self) -> None:
        holder = self._hold.holder
        self._hold.lapsed = self._closing = True
        await self._call("close", lambda rows: rows.end_hold(holder))
        self._leave()

    def _leave(self) -> None:
        """The connection of the subscriber ends with its process."""
        if self in self._store.subscribers:
            self._store.subscribers.remove(self)

    async def renew_hold(self) -> None:
        """Where the store forgot, say so there first, and take a new hold."""
        async with self._renewing:
            if self._trust.pending is not None or not await self._renewed():
                await self._take_hold()

    def _say_soon(self) -> None:
        if self._closing:  # it ends its hold, and may miss what it wrote under that
            return
        loop = asyncio.get_running_loop()
        self._saying = loop.create_task(self._say(), context=self._context)

    async def _say(self) -> None:
        with suppress(LedgerUnavailable):
            await self.renew_hold()

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
        told, self._hold.lapsed = self._trust.pending, True
        if told is not None:
            await self._call("distrust", partial(distrust, why=told.text()), adopts=True)
        holder, start = self._new_holder(), self._host.clock.monotonic()
        self._trust.remembered.hold(holder)
        await self._call(
            "hold", lambda rows: rows.take_hold(holder, self._lease_s), holder, adopts=bool(told)
        )
        if self._trust.pending is told:
            self._trust.pending = None
        self._hold = Hold(holder, steps.trusted_until(start, self._lease_s))

    async def _valid_hold(self) -> Hold:
        if not self._hold.valid(self._host.clock.monotonic()):
            async with self._renewing:
                if not self._hold.valid(self._host.clock.monotonic()):
                    await self._take_hold()
        return self._hold

    # --- orders ------------------------------------------------------------------------------

    async def claim(self, request: ClaimRequest) -> Claim:
        """The entry is made before it is sent, at the time that the gateway knows by then."""
        hold = await self._valid_hold()
        since, claimed = self._trust.since(ONLY), self._store.claimed
        made_at, make = self.now(), doubting.making(since)

        def step(rows: State) -> Claimed:
            return steps.claim(dated(rows, made_at), request, hold.holder, make)

        with Taking(hold):
            verdict: Claimed = await self._call(
                "claim",
                heard(since, step),
                hold.holder,
                done=lambda: claimed(self._host),
            )
            if since is None and self._trust.reason is not None and isinstance(verdict, Fresh):
                raise LedgerUnavailable("it was found meanwhile that the store forgot")
        return steps.as_claim(verdict, hold)

    async def peek(self, request: ClaimRequest) -> Claimed | None:
        holder = self._hold.holder
        return await self._call("peek", lambda rows: steps.peek(rows, request, holder))

    async def write(
        self, lease: Lease, before: Entry, after: Entry, *, due_in_s: float | None = None
    ) -> None:
        since = self._trust.since(ONLY)
        doubting.check_lease(before, after, since)
        await self._call(
            "write",
            heard(since, lambda rows: forgetting.write(rows, lease, before, after, due_in_s)),
        )

    async def release(self, lease: Lease, *, due_in_s: float) -> None:
        await self._call("release", lambda rows: rows.give_back(lease, due_in_s))

    async def amend(self, entry_id: str, change: Change, *, evidence: bool = False) -> Entry | None:
        """It is read first, with what is said there."""

        def step(rows: State) -> Entry | None:
            since = self._since(rows)
            return steps.amend(
                rows, entry_id, doubting.amending(change, since, self._who, evidence=evidence)
            )

        return await self._call("amend", step)

    async def disclaim(self, request: ClaimRequest) -> bool:
        """As above."""
        return await self._call(
            "disclaim", lambda rows: steps.disclaim(rows, request, self._since(rows))
        )

    def _since(self, rows: State) -> float | None:
        said = Said.of(rows.forgot)
        return self._trust.since(ONLY) if said is None else said.at

    async def lease_due(self, limit: int) -> list[Leased]:
        hold = await self._valid_hold()
        since = self._trust.since(ONLY)
        with Taking(hold):
            taken: list[Entry] = await self._call(
                "lease_due",
                heard(
                    since,
                    lambda rows: steps.lease_due(rows, hold.holder, limit, self._who, since),
                ),
                hold.holder,
            )
        return [Leased(entry, Lease(entry.id, entry.token, hold)) for entry in taken]

    async def find(self, entry_id: str) -> Entry | None:
        kept = await self._call("find", lambda rows: rows.by_id(entry_id))
        return self._shown(kept)

    async def find_by_key(self, scope: str, key: str) -> Entry | None:
        kept = await self._call("find", lambda rows: rows.by_key(scope, key))
        return self._shown(kept)

    def _shown(self, kept: steps.Kept | None) -> Entry | None:
        return None if kept is None else doubting.shown(kept.entry, self._trust.since(ONLY))

    async def page(
        self, statuses: tuple[Status, ...] = (), limit: int = 50, after: str | None = None
    ) -> Page:
        return await self._call("page", lambda rows: rows.page(statuses, limit, after))

    async def counts(self) -> Counts:
        return await self._call("counts", lambda rows: rows.counts())

    async def retire(self, limit: int) -> tuple[int, int]:
        return await self._call("retire", lambda rows: rows.retire(limit))

    async def ask(self, name: str, step: Step[T]) -> T:
        """What is not the ledger's, and lies beside it."""
        return await self._call(name, step)

    # --- over the network --------------------------------------------------------------------

    async def _call(
        self,
        name: str,
        step: Step[T],
        holder: str | None = None,
        *,
        adopts: bool = False,
        done: Callable[[], None] = nothing,
    ) -> T:
        """Raises what the step raises; LedgerUnavailable where no answer comes, or none that can be
        believed. ``holder``: whose hold it is made under, if not the present one. ``adopts``: what
        the store has is taken as it is. ``done`` is called when the step was made."""
        await self._store.hit(self._host, name, Side.BEFORE)
        loop = asyncio.get_running_loop()
        under = self._hold.holder if holder is None else holder
        call: _Call[T] = _Call(name, step, under, adopts, loop.create_future())
        loop.call_soon(self._leave_with, call, done)
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

    def _leave_with(self, call: "_Call[T]", done: Callable[[], None]) -> None:
        """The call leaves the process; what follows is no longer in its hands."""
        node = self._node
        call.known = self._trust.remembered.known(ONLY)
        under, latest = self._latest_write
        call.latest_write = latest if under == call.known.holder else 0
        known = None if call.adopts else call.known
        asker = Asker(call.holder, f"{next(self._marks):08x}", known)
        call.heard = self._store.forgettings.heard[self._host.name]
        call.left_at = self._store.loop.time()

        def arrive() -> None:
            if node.backlog is not None:
                node.backlog.append(arrive)
            elif self._store.keeps or not call.lost:
                run()

        def run() -> None:
            answer = self._store.call(node, call.step, asker, self)
            done()
            if self._store.unheard(self._host, call.name):
                return
            if answer is None:
                self._tell(node, call, _raises("the store refuses", written=False))
                return
            short = partial(self._tell, node, call, _raises("the standby was too slow"))
            self._store.safe(node, partial(self._answer, node, call, answer), short)

        self._store.link(self._host, node.host).carry(arrive, nothing)

    def _tell(self, node: Node, call: "_Call[T]", outcome: Callable[[], T]) -> None:
        """No answer of the step's, but of what became of the call."""

        def heard() -> None:
            if not call.answered.done():
                call.answered.set_result(outcome)

        self._send(node, heard)

    def _answer(self, node: Node, call: "_Call[T]", answer: Answer[T]) -> None:
        """What the call came to, with the changes that it made."""

        def heard() -> None:
            for entry in answer.changed:
                self.watchers.publish(entry)
            outcome = self._believed(call, answer)
            if not call.answered.done():
                call.answered.set_result(outcome)

        self._send(node, heard)

    def _believed(self, call: "_Call[T]", answer: Answer[T]) -> Callable[[], T]:
        """What to make of an acknowledged answer: nothing, where it shows that the store forgot."""
        head, trust, known = answer.head, self._trust, call.known
        forgettings, heard = self._store.forgettings, self._store.forgettings.heard
        assert known is not None
        offset = head.now - self._host.clock.monotonic()
        self._offset = offset if self._offset is None else max(self._offset, offset)
        if call.adopts:
            trust.told(ONLY, head.forgot)
            trust.remembered.adopt(ONLY, head)
            heard[self._host.name] = head.seq
            return answer.outcome
        held = self._hold.holder == call.holder and self._hold.valid(self._host.clock.monotonic())
        sign = forgotten(known, head, holder=call.holder, wrote=answer.wrote, held=held)
        if sign is None and answer.forgot:
            sign = GONE
        if sign is not None:
            trust.noticed(sign, head.now)
            return _raises(f"the store forgot: {sign}")
        if held and trust.reason is None and not head.forgot:
            forgettings.believed(
                self._who, call.left_at, call.latest_write, heard=call.heard, seq=head.seq
            )
        heard[self._host.name] = max(heard[self._host.name], head.seq)
        trust.remembered.note(ONLY, head, holder=call.holder)
        if answer.wrote:
            self._latest_write = max((call.holder, answer.made), self._latest_write, key=_number)
        told = trust.told(ONLY, head.forgot)
        if told and call.name not in OF_THE_HOLD:
            return _raises("another gateway found that the store forgot")
        return answer.outcome

    def tell(self, entry: Entry) -> None:
        """A change that somebody else made; nobody repeats it where the link is cut."""
        self._send(self._store.primary, lambda: self.watchers.publish(entry))

    def _send(self, node: Node, heard: Callable[[], None]) -> None:
        """From the store to this replica's process, which reads it when it runs."""
        loop = self._store.loop

        def arrive() -> None:
            loop.call_soon(heard, context=self._context)

        self._store.link(node.host, self._host).carry(arrive, nothing)


def _number(write: tuple[str, int]) -> int:
    return write[1]


def _raises(detail: str, *, written: Literal[False] | None = None) -> Callable[[], NoReturn]:
    def outcome() -> NoReturn:
        raise LedgerUnavailable(detail, written=written)

    return outcome
