"""The remote ledger: Valkey or Redis, shared by gateways on any number of hosts.

What is written is decided here, by the rules of ``steps`` over what was read; a script writes it
where all of that still stands (``scripts/put.lua``), and where it does not, it is read and decided
again. The common claim, of a key that is free, is one such write and nothing else. Time is the
server's.
"""

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from typing import Any, Literal, TypeVar

from gateway.ledger import (
    Change,
    Claim,
    Counts,
    Hold,
    Lease,
    Leased,
    LeaseLost,
    LedgerUnavailable,
    Page,
    Watchers,
)
from gateway.orders.claiming import Claimed, ClaimRequest
from gateway.orders.entry import Entry
from gateway.orders.states import Status
from gateway.settings.ledger_urls import RemoteUrl
from gateway.stores import steps
from gateway.stores.valkey_calls import Calls
from gateway.stores.valkey_due import DueOrders
from gateway.stores.valkey_keys import Layout
from gateway.stores.valkey_lane import NotDone
from gateway.stores.valkey_orders import Changed, NewestIs, Orders, Written
from gateway.stores.valkey_rows import Seen, Stored, absent, leased, unchanged
from gateway.stores.valkey_scripts import scripts
from gateway.stores.valkey_servers import Access, Node, Parts, Servers, servers
from gateway.stores.valkey_views import Views
from gateway.stores.valkey_watching import LOOK_S, Watching
from middleware.clock import Clock
from middleware.tasks import Tasks, TasksClosed

T = TypeVar("T")

STORE_TIMEOUT_S = 5.0
"""A hundred times a commit with its acknowledgement, and longer than a call waits for a server to
be replaced: beyond it the client is better told."""

AGAIN_MAX = 100
"""How often an order is read and decided again because somebody else was faster: two hundred
submissions of one key settle after a few."""

CLOSE_S = 5.0


class ValkeyLedger:
    """The ``Ledger`` port on Valkey or Redis at ``url``.

    ``who`` names the replica in timelines; ``new_holder`` makes ids that never repeat. ``time``
    stands for the server's clock (tests).
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
        self._watching = Watching(self._layout, look_s=look_s)
        self.watchers: Watchers = self._watching.watchers
        self._hold = Hold("", float("-inf"))
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
        return self._hold

    @property
    def trouble(self) -> str | None:
        if self._servers is None:
            return "the ledger is not open"
        return self._bug or self._trouble

    # --- open and close ----------------------------------------------------------------------

    async def open(self) -> None:
        texts = [script.text for script in scripts().values()]
        self._tasks, self._pipes = Tasks(self._task_failed), Tasks(_told_already)
        self._work = Tasks(_told_already)
        parts = Parts(self._url, self._access, self._layout, texts, self._pipes, self._greet)
        found = servers(parts)
        try:
            await found.start()
            self._make(found)
            await self.renew_hold()
        except NotDone as no:
            await found.close()
            raise LedgerUnavailable(no.detail, written=False) from no
        except BaseException:
            await self._leave()
            raise

    def _make(self, found: Servers) -> None:
        self._servers = found
        self._writer = self._new_holder()
        self._calls = Calls(
            found,
            self._layout,
            clock=self._clock,
            given_time=self._time,
            on_forgotten=self._forgot,
        )
        self._orders = Orders(
            self._calls,
            self._layout,
            self.watchers,
            holder=lambda: self._hold.holder,
            new_op=self._new_op,
        )
        self._due = DueOrders(self._calls, self._orders, self._layout.buckets, self.now)
        self._views = Views(
            self._calls,
            self._orders,
            clock=self._clock,
            holder=lambda: self._hold.holder,
            now=self.now,
        )
        self._watching.start(self._calls, self._orders, self._tasks)

    async def close(self) -> None:
        if self._servers is None:
            return
        await self._tasks.close(CLOSE_S)
        await self._work.finish(self._timeout_s)
        self._hold.lapsed = True
        with suppress(LedgerUnavailable, TimeoutError):
            async with asyncio.timeout(self._timeout_s):
                await self._hold_everywhere("end", self._hold.holder)
        await self._leave()

    async def _leave(self) -> None:
        found, self._servers = self._servers, None
        await self._work.close(CLOSE_S)
        await self._pipes.close(CLOSE_S)
        if found is not None:
            await found.close()

    def crash(self) -> None:
        """What ``kill -9`` leaves: the hold runs on until it lapses."""
        self._hold.lapsed = True
        found, self._servers = self._servers, None
        if found is not None:
            self._left = asyncio.ensure_future(found.close())

    # --- the port: writing -------------------------------------------------------------------

    async def renew_hold(self) -> None:
        """One renewal at a time, whoever asks; it ends although they are cancelled."""
        self._need_open()
        if self._renewal is None or self._renewal.done():
            try:
                self._renewal = self._work.start(self._renew(), name="renew the hold")
            except TasksClosed:
                raise LedgerUnavailable("the ledger is closed", written=False) from None
        await self._limited(self._renewal, "write")

    async def claim(self, request: ClaimRequest) -> Claim:
        return await self._run("write", self._claim(request))

    async def write(
        self, lease: Lease, before: Entry, after: Entry, *, due_in_s: float | None = None
    ) -> None:
        await self._run("write", self._write(lease, before, after, due_in_s))

    async def release(self, lease: Lease, *, due_in_s: float) -> None:
        self._need_open()
        await self._run("write", self._orders.give_back(lease, due_in_s))

    async def amend(self, entry_id: str, change: Change) -> Entry | None:
        return await self._run("write", self._amend(entry_id, change))

    async def disclaim(self, request: ClaimRequest) -> bool:
        return await self._run("write", self._disclaim(request))

    async def lease_due(self, limit: int) -> list[Leased]:
        hold = await self._valid_hold()
        return await self._run("write", self._due.take(limit, hold, self._who))

    async def retire(self, limit: int) -> tuple[int, int]:
        self._need_open()
        return await self._run("write", self._views.retire(limit))

    # --- the port: reading -------------------------------------------------------------------

    async def peek(self, request: ClaimRequest) -> Claimed | None:
        return await self._run("read", self._peek(request))

    async def find(self, entry_id: str) -> Entry | None:
        self._need_open()
        stored = await self._run("read", self._orders.find(entry_id))
        return None if stored is None else stored.entry

    async def find_by_key(self, scope: str, key: str) -> Entry | None:
        self._need_open()
        stored = await self._run("read", self._orders.read(self._layout.place(scope, key)))
        return None if stored is None else stored.entry

    async def page(
        self, statuses: tuple[Status, ...] = (), limit: int = 50, after: str | None = None
    ) -> Page:
        self._need_open()
        return await self._run("read", self._views.page(statuses, limit, after))

    async def counts(self) -> Counts:
        self._need_open()
        return await self._run("read", self._views.counts())

    # --- rules over what was read ------------------------------------------------------------

    async def _claim(self, request: ClaimRequest) -> Claim:
        hold = await self._valid_hold()
        place = self._layout.place(request.scope, request.key)
        own: Stored | None = None
        newest: Stored | None = None
        for _ in range(AGAIN_MAX):
            seen = Seen(self.now(), own, newest)
            claimed = steps.claim(seen, request, hold.holder)
            if seen.intent is None:
                return steps.as_claim(claimed, hold)
            guard = absent(newest) if own is None else unchanged(own, alive=True)
            match await self._orders.put(place, seen.intent, guard, holder=hold.holder):
                case Written():
                    return steps.as_claim(claimed, hold)
                case Changed(stored):
                    own = stored
                case NewestIs(member):
                    newest = await self._orders.newest(place.bucket, member)
        raise LedgerUnavailable("the key changes faster than it can be read", written=False)

    async def _peek(self, request: ClaimRequest) -> Claimed | None:
        self._need_open()
        place = self._layout.place(request.scope, request.key)
        newest: Stored | None = None
        if request.key_kind == "attached":
            own, newest = await self._orders.read_with_newest(
                place, request.scope, request.fingerprint
            )
        else:
            own = await self._orders.read(place)
        return steps.peek(Seen(self.now(), own, newest), request, self._hold.holder)

    async def _write(
        self, lease: Lease, before: Entry, after: Entry, due_in_s: float | None
    ) -> None:
        self._need_open()
        seen = Seen(self.now(), None)
        steps.write(seen, lease, before, after, due_in_s)
        assert seen.intent is not None  # noqa: S101 - it raised, or it wants to write
        said = await self._orders.put(
            self._layout.place_of(after), seen.intent, leased(lease), holder=self._hold.holder
        )
        if not isinstance(said, Written):
            raise LeaseLost(f"order {before.id} is no longer {before.status} under {lease.token}")

    async def _amend(self, entry_id: str, change: Change) -> Entry | None:
        self._need_open()
        for _ in range(AGAIN_MAX):
            stored = await self._orders.find(entry_id)
            seen = Seen(self.now(), stored)
            after = steps.amend(seen, entry_id, change)
            if stored is None or seen.intent is None or await self._put(stored, seen):
                return after
        raise LedgerUnavailable("the order changes faster than it can be read", written=False)

    async def _disclaim(self, request: ClaimRequest) -> bool:
        self._need_open()
        place = self._layout.place(request.scope, request.key)
        for _ in range(AGAIN_MAX):
            stored = await self._orders.read(place)
            seen = Seen(self.now(), stored)
            done = steps.disclaim(seen, request)
            if stored is None or seen.intent is None or await self._put(stored, seen):
                return done
        raise LedgerUnavailable("the order changes faster than it can be read", written=False)

    async def _put(self, stored: Stored, seen: Seen) -> bool:
        """False where somebody was faster."""
        assert seen.intent is not None  # noqa: S101 - the callers have looked
        guard = unchanged(stored)
        said = await self._orders.put(stored.place, seen.intent, guard, holder=self._hold.holder)
        return isinstance(said, Written)

    # --- the hold ----------------------------------------------------------------------------

    async def _valid_hold(self) -> Hold:
        """The hold, or a new one where it has lapsed: an order need not wait for the next
        renewal."""
        self._need_open()
        if not self._hold.valid(self._clock.monotonic()):
            await self.renew_hold()
        return self._hold

    async def _renew(self) -> None:
        hold, start = self._hold, self._clock.monotonic()
        if hold.valid(start):
            renewed = await self._hold_everywhere("renew", hold.holder)
            if renewed and hold.valid(self._clock.monotonic()):
                hold.trusted_until = steps.trusted_until(start, self._lease_s)
                return
        hold.lapsed = True
        holder, start = self._new_holder(), self._clock.monotonic()
        self._calls.remembered.hold(holder)
        await self._hold_everywhere("take", holder)
        self._hold = Hold(holder, steps.trusted_until(start, self._lease_s))

    async def _hold_everywhere(self, action: Literal["take", "renew", "end"], holder: str) -> bool:
        """Whether it is so in every bucket: a hold is one right to act on all of them."""
        replies = await self._calls.everywhere(
            "hold",
            lambda bucket: (bucket.meta, bucket.holds),
            (action, self._lease_s, self._writer if action == "take" else ""),
            holder=holder,
            writes=True,
        )
        return all(said == b"ok" for _, (said,) in replies)

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
            if self._servers is not None:
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

    async def _greet(self, node: Node, told: Mapping[str, str]) -> None:
        node.replication_id = told.get("master_replid")

    async def _forgot(self, sign: str) -> None:
        self._trouble = f"the ledger forgot: {sign}"

    def _task_failed(self, name: str, error: BaseException) -> None:
        if not isinstance(error, LedgerUnavailable):
            self._bug = f"could not {name}: {error!r}"


def _told_already(_name: str, _error: BaseException) -> None:
    """Whoever called was told, or has left."""
