"""The remote ledger: Valkey or Redis, shared by gateways on any number of hosts.

What is written is decided here, by the rules of ``steps`` over what was read; a script writes it
where all of that still stands (``scripts/put.lua``), and where it does not, it is read and decided
again. The common claim, of a key that is free, is one such write and nothing else. Time is the
server's.
"""

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, TypeVar

from gateway.ledger import (
    Change,
    Claim,
    Counts,
    EntryUnreadable,
    Hold,
    Lease,
    Leased,
    LedgerRefused,
    LedgerUnavailable,
    Page,
    Taking,
    Watchers,
)
from gateway.orders.claiming import Claimed, ClaimRequest
from gateway.orders.entry import Entry
from gateway.orders.states import Status
from gateway.settings.ledger_urls import RemoteUrl
from gateway.stores import doubting
from gateway.stores.doubting import CanNotTell
from gateway.stores.unreadable import Unreadables
from gateway.stores.valkey_acts import Acts
from gateway.stores.valkey_calls import Calls
from gateway.stores.valkey_checks import Demands, Durability
from gateway.stores.valkey_due import DueOrders
from gateway.stores.valkey_hold import HoldKeeper
from gateway.stores.valkey_host import HostMemory
from gateway.stores.valkey_keys import Layout
from gateway.stores.valkey_lane import NotDone
from gateway.stores.valkey_nodes import Access, Ask, Node
from gateway.stores.valkey_orders import Orders
from gateway.stores.valkey_remembered import Remembered
from gateway.stores.valkey_rows import Stored
from gateway.stores.valkey_scripts import scripts
from gateway.stores.valkey_servers import Parts, Servers, servers
from gateway.stores.valkey_trust import Trust
from gateway.stores.valkey_views import Views
from gateway.stores.valkey_watching import LOOK_S, Watching
from middleware.clock import Clock
from middleware.tasks import Tasks, TasksClosed

T = TypeVar("T")

STORE_TIMEOUT_S = 5.0
"""A hundred times a commit with its acknowledgement, and longer than a call waits for a server to
be replaced: beyond it the client is better told."""

CLOSE_S = 5.0


NO_HOLD = Hold("", float("-inf"))


class ValkeyLedger:
    """The ``Ledger`` port on Valkey or Redis at ``url``.

    ``who`` names the replica in timelines; ``new_holder`` makes ids that never repeat;
    ``replicas`` have to acknowledge where ``durability`` is ``replicated``; ``file`` is where this
    host remembers the store; ``event`` logs what an operator must know. ``time`` stands for the
    server's clock (tests).
    """

    def __init__(
        self,
        url: RemoteUrl,
        *,
        access: Access,
        clock: Clock,
        who: str,
        lease_s: float,
        new_holder: Callable[[], str],
        durability: Durability = "fsync",
        replicas: int = 0,
        file: Path | None = None,
        event: Callable[..., None] = lambda *_, **__: None,
        store_timeout_s: float = STORE_TIMEOUT_S,
        look_s: float = LOOK_S,
        time: Callable[[], float] | None = None,
    ) -> None:
        self._url = url
        self._access = access
        self._clock = clock
        self._who = who
        self._lease_s = lease_s
        self._new_holder = new_holder
        self._timeout_s = store_timeout_s
        self._time = time
        self._layout = Layout(url.prefix)
        self._tasks = Tasks(self._task_failed)
        self._pipes = Tasks(_told_already)
        self._work = Tasks(_told_already)
        self._servers: Servers | None = None
        self._keeper: HoldKeeper | None = None
        self._durability: Durability = durability
        self._replicas = replicas
        self._event = event
        self._file = file
        self._watching = Watching(self._layout, look_s=look_s)
        self.watchers: Watchers = self._watching.watchers
        self._renewal: asyncio.Task[None] | None = None
        self._latest = float("-inf")
        self._trouble: str | None = None
        self._bug: str | None = None
        self._ops = 0
        self._writer = ""

    # --- time and trouble --------------------------------------------------------------------

    def now(self) -> float:
        if self._time is not None:
            return self._time()
        if self._servers is None:
            raise LedgerUnavailable("the ledger was never opened", written=False)
        self._latest = max(self._latest, self._clock.monotonic() + self._calls.lag_s)
        return self._latest

    @property
    def hold(self) -> Hold:
        return NO_HOLD if self._keeper is None else self._keeper.hold

    @property
    def _kept(self) -> HoldKeeper:
        assert self._keeper is not None  # noqa: S101 - made before anything is called
        return self._keeper

    @property
    def trouble(self) -> str | None:
        if self._servers is None:
            return "the ledger is not open"
        return self._bug or self._kept.unfit or self._trouble

    @property
    def distrusted(self) -> str | None:
        return None if self._servers is None else self._trust.reason

    # --- open and close ----------------------------------------------------------------------

    @property
    def unreadable(self) -> Mapping[str, str]:
        return {} if self._servers is None else self._orders.unreadables.known

    async def open(self) -> None:
        texts = [script.text for script in scripts().values()]
        self._tasks, self._pipes = Tasks(self._task_failed), Tasks(_told_already)
        self._work = Tasks(_told_already)
        parts = Parts(self._url, self._access, self._layout, texts, self._pipes, self._greet)
        found = servers(parts)
        try:
            await found.start()
            self._make(found)
            await self._memory.load()
            await self._kept.look_at_servers(first=True)
            await self._first_hold()
        except NotDone as no:
            await found.close()
            raise LedgerUnavailable(no.detail, written=False) from no
        except BaseException:
            await self._leave()
            raise

    async def _first_hold(self) -> None:
        """Once more where the first one shows that the store forgot: to say so there."""
        try:
            await self.renew_hold()
        except LedgerUnavailable:
            if self._trust.pending is None:
                raise
            await self.renew_hold()

    def _make(self, found: Servers) -> None:
        self._servers = found
        self._writer = self._new_holder()
        self._trust = Trust(
            Remembered(), who=self._who, event=self._event, say=self._say_that_it_forgot
        )
        self._memory = HostMemory(self._file, self._trust.remembered, self._event)
        self._calls = Calls(
            found,
            self._layout,
            clock=self._clock,
            given_time=self._time,
            trust=self._trust,
            memory=self._memory,
            hold=lambda: self.hold,
        )
        self._keeper = HoldKeeper(
            self._calls,
            self._trust,
            self._memory,
            self._layout,
            Demands(self._durability, self._replicas),
            clock=self._clock,
            lease_s=self._lease_s,
            new_holder=self._new_holder,
            epoch=self._writer,
            now=self.now,
            event=self._event,
        )
        self._orders = Orders(
            self._calls,
            self._layout,
            self.watchers,
            holder=lambda: self.hold.holder,
            new_op=self._new_op,
            unreadables=Unreadables(self._clock.monotonic),
        )
        self._acts = Acts(
            self._orders,
            self._layout,
            self._trust,
            holder=lambda: self.hold.holder,
            now=self.now,
        )
        self._due = DueOrders(
            self._calls, self._orders, self._layout.buckets, self.now, self._trust.since
        )
        self._views = Views(
            self._calls,
            self._orders,
            clock=self._clock,
            holder=lambda: self.hold.holder,
            now=self.now,
        )
        self._watching.start(self._calls, self._orders, self._tasks)

    async def close(self) -> None:
        if self._servers is None:
            return
        await self._tasks.close(CLOSE_S)
        await self._work.finish(self._timeout_s)
        self.hold.lapsed = True
        with suppress(LedgerUnavailable, TimeoutError):
            async with asyncio.timeout(self._timeout_s):
                await self._kept.everywhere("end", self.hold.holder)
        await self._leave()

    async def _leave(self) -> None:
        found, self._servers = self._servers, None
        await self._work.close(CLOSE_S)
        await self._pipes.close(CLOSE_S)
        if found is not None:
            self._memory.close()
            await found.close()

    def crash(self) -> None:
        """What ``kill -9`` leaves: the hold runs on until it lapses."""
        self.hold.lapsed = True
        found, self._servers = self._servers, None
        if found is not None:
            self._memory.close()
            self._left = asyncio.ensure_future(found.close())

    # --- the port: writing -------------------------------------------------------------------

    async def renew_hold(self) -> None:
        """One renewal at a time, whoever asks; it ends although they are cancelled."""
        self._need_open()
        if self._renewal is None or self._renewal.done():
            try:
                self._renewal = self._work.start(self._kept.renew(), name="renew the hold")
            except TasksClosed:
                raise LedgerUnavailable("the ledger is closed", written=False) from None
        await self._limited(self._renewal, "write")

    def _say_that_it_forgot(self) -> None:
        """Until it is said there, others take for true what is gone."""
        with suppress(TasksClosed):
            self._tasks.start(self._renew_anew(), name="say that the ledger forgot")

    async def _renew_anew(self) -> None:
        under_way = self._renewal
        if under_way is not None:
            await asyncio.wait([under_way], timeout=self._timeout_s)
        with suppress(LedgerUnavailable, LedgerRefused):  # then with the next one
            await self.renew_hold()

    async def claim(self, request: ClaimRequest) -> Claim:
        hold = await self._valid_hold()
        with Taking(hold):
            return await self._run("write", self._acts.claim(request, hold))

    async def write(
        self, lease: Lease, before: Entry, after: Entry, *, due_in_s: float | None = None
    ) -> None:
        self._need_open()
        await self._run("write", self._acts.write(lease, before, after, due_in_s))

    async def release(self, lease: Lease, *, due_in_s: float) -> None:
        self._need_open()
        await self._run("write", self._orders.give_back(lease, due_in_s))

    async def amend(self, entry_id: str, change: Change, *, evidence: bool = False) -> Entry | None:
        self._need_open()
        acting = self._acts.amend(entry_id, change, self._who, evidence=evidence)
        return await self._run("write", acting)

    async def disclaim(self, request: ClaimRequest) -> bool:
        self._need_open()
        return await self._run("write", self._acts.disclaim(request))

    async def lease_due(self, limit: int) -> list[Leased]:
        hold = await self._valid_hold()
        with Taking(hold):
            return await self._run("write", self._due.take(limit, hold, self._who))

    async def retire(self, limit: int) -> tuple[int, int]:
        self._need_open()
        return await self._run("write", self._views.retire(limit))

    # --- the port: reading -------------------------------------------------------------------

    async def peek(self, request: ClaimRequest) -> Claimed | None:
        self._need_open()
        return await self._run("read", self._acts.peek(request))

    async def find(self, entry_id: str) -> Entry | None:
        self._need_open()
        return self._shown(await self._run("read", self._orders.find(entry_id, told=True)))

    async def find_by_key(self, scope: str, key: str) -> Entry | None:
        self._need_open()
        place = self._layout.place(scope, key)
        return self._shown(await self._run("read", self._orders.read(place, told=True)))

    def _shown(self, stored: Stored | None) -> Entry | None:
        if stored is None:
            return None
        return doubting.shown(stored.entry, self._trust.since(stored.place.bucket.number))

    async def page(
        self, statuses: tuple[Status, ...] = (), limit: int = 50, after: str | None = None
    ) -> Page:
        self._need_open()
        return await self._run("read", self._views.page(statuses, limit, after))

    async def counts(self) -> Counts:
        self._need_open()
        return await self._run("read", self._views.counts())

    # --- the hold ----------------------------------------------------------------------------

    async def _valid_hold(self) -> Hold:
        """The hold, or a new one where it has lapsed: an order need not wait for the next
        renewal."""
        self._need_open()
        if not self.hold.valid(self._clock.monotonic()):
            try:
                await self.renew_hold()
            except LedgerUnavailable as trouble:  # what is under way is a hold, and no entry
                raise LedgerUnavailable(trouble.detail, written=False) from trouble
        if (unfit := self._kept.unfit) is not None:
            raise LedgerUnavailable(unfit, written=False)
        return self.hold

    # --- calls -------------------------------------------------------------------------------

    async def _run(self, kind: Literal["write", "read"], work: Coroutine[Any, Any, T]) -> T:
        """``work`` in a task of its own, which goes on although the caller leaves."""
        try:
            task = self._work.start(work, name=f"ledger {kind}")
        except TasksClosed:
            raise LedgerUnavailable("the ledger is not open", written=False) from None
        return await self._limited(task, kind)

    async def _limited(self, task: asyncio.Task[T], kind: Literal["write", "read"]) -> T:
        try:
            async with asyncio.timeout(self._timeout_s) as limit:
                done = await asyncio.shield(task)
        except TimeoutError:
            if not limit.expired():
                raise
            self._trouble = f"the ledger has let a {kind} wait for {self._timeout_s:g} s"
            written: Literal[False] | None = None if kind == "write" else False
            raise LedgerUnavailable(self._trouble, written=written) from None
        except LedgerUnavailable as unavailable:
            one = isinstance(unavailable, CanNotTell | EntryUnreadable)
            if self._servers is not None and not one:
                self._trouble = unavailable.detail
            raise
        self._trouble = None
        return done

    def _need_open(self) -> None:
        if self._servers is None:
            raise LedgerUnavailable("the ledger is not open", written=False)

    def _new_op(self) -> str:
        self._ops += 1
        return f"{self._writer}:{self._ops}"

    async def _greet(self, node: Node, told: Mapping[str, str], ask: Ask) -> None:
        await self._kept.greet(node, told, ask)

    def _task_failed(self, name: str, error: BaseException) -> None:
        if not isinstance(error, LedgerUnavailable):
            self._bug = f"could not {name}: {error!r}"


def _told_already(_name: str, _error: BaseException) -> None:
    """Whoever called was told, or has left."""
