"""The Ledger port: what the phases and duties ask of a store, in the language of orders.

A store keeps entries; it decides nothing. The decisions are ``claiming.decide`` and the functions
of ``life``, which a store calls inside its atomic step where the step depends on what is stored.

Leases. A process holds one ``Hold``: a time-bounded right, renewed at a third of ``lease_s``, to
act on every entry it has taken. A hold that has lapsed is never renewed: the process takes a new
one and has lost all its entries, which anybody may take over. Each taking, claim and amendment
raises the entry's fencing token, and every write names status and token.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol, TypeAlias

from gateway.orders.claiming import Claimed, ClaimRequest
from gateway.orders.entry import Entry
from gateway.orders.states import Status
from middleware.errors import CannotGoOn, Fault
from middleware.values import light


class LedgerUnavailable(CannotGoOn):
    """The ledger can't be read, written or acknowledged: nothing may be sent.

    ``written`` is False where nothing was written, None where that isn't known. ``hold``: the one
    under which a call that takes entries (``claim``, ``lease_due``) may yet take some unheard.
    """

    fault = Fault.STORE
    hold: "Hold | None" = None

    def __init__(self, detail: str, *, written: Literal[False] | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.written = written


class EntryUnreadable(LedgerUnavailable):
    """What is kept of an order can't be read by this version: a newer one wrote it, or it is
    damaged. It is there: its key is taken, and it stays as it is."""

    def __init__(self, entry_id: str, why: str) -> None:
        super().__init__(f"order {entry_id} can't be read by this version ({why})", written=False)
        self.entry_id = entry_id
        self.why = why


class LedgerRefused(CannotGoOn):
    """The ledger must not be opened as it is (another host's, damaged, an unsafe SQLite …).

    The text says what is wrong and what to do.
    """

    fault = Fault.STORE


class LedgerLocked(LedgerRefused):
    """Another process holds it just now (one that starts, or that was stopped in a write), or its
    disk is full: to be tried again, with a pause, without a person."""


class LeaseLost(CannotGoOn):
    """Status or token are no longer what the writer saw: somebody else acted. Read it again."""

    fault = Fault.STORE


LEASE_MARGIN = 0.2
"""The part of a lease that is not trusted: for clocks that run at different rates, and for the
time between looking at the lease and writing the first byte."""


class Hold:
    """This process's right to act, as it knows it: trusted from the *start* of the call that got
    it, less a margin, on its own monotonic clock."""

    __slots__ = ("holder", "lapsed", "trusted_until")

    def __init__(self, holder: str, trusted_until: float) -> None:
        self.holder = holder
        self.trusted_until = trusted_until
        self.lapsed = False

    def valid(self, monotonic: float) -> bool:
        """False once and for ever after the trusted time has passed without a renewal."""
        if monotonic >= self.trusted_until:
            self.lapsed = True
        return not self.lapsed


class Taking:
    """Around a call that takes entries under ``hold``: says so of one that nobody knows the end
    of. What it took, or takes later, belongs to that hold as long as it is renewed."""

    __slots__ = ("_hold",)

    def __init__(self, hold: Hold) -> None:
        self._hold = hold

    def __enter__(self) -> None:
        return None

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, LedgerUnavailable) and error.written is None:
            error.hold = self._hold


@light
@dataclass(frozen=True, slots=True)
class Lease:
    """The right to act on one entry: the hold it was taken under, and the fencing token."""

    entry_id: str
    token: int
    hold: Hold


@light
@dataclass(frozen=True, slots=True)
class Claim:
    """What a claim came to; ``lease`` only with ``Fresh``."""

    claimed: Claimed
    lease: Lease | None


@light
@dataclass(frozen=True, slots=True)
class Leased:
    entry: Entry
    lease: Lease


@dataclass(frozen=True, slots=True)
class Counts:
    """Conservation: ``made`` = the sum of ``by_status`` + ``removed``, always."""

    made: int
    removed: int
    by_status: Mapping[Status, int] = field(default_factory=dict)
    disputed: int = 0
    oldest_pending_at: float | None = None
    oldest_dead_letter_at: float | None = None

    @property
    def conserved(self) -> bool:
        return self.made == self.removed + sum(self.by_status.values())


@dataclass(frozen=True, slots=True)
class UnreadableEntry:
    """What is known of an order that can't be read: ``status`` as it is written, ``created_at``
    in ledger time."""

    id: str
    status: str
    created_at: float
    why: str


@dataclass(frozen=True, slots=True)
class Page:
    entries: tuple[Entry, ...]
    next: str | None
    unreadable: tuple[UnreadableEntry, ...] = ()


Change: TypeAlias = Callable[[Entry, float], Entry | None]
"""An amendment: from an entry and ledger time to the entry that follows, or None for no change."""


class Watch:
    """One waiter's view of one entry: the newest version that was published since it began."""

    def __init__(self, notify: Callable[[], None] | None = None) -> None:
        self._changed = asyncio.Event()
        self._notify = notify
        self.latest: Entry | None = None

    def publish(self, entry: Entry) -> None:
        self.latest = entry
        self._changed.set()
        if self._notify is not None:
            self._notify()

    async def next(self) -> Entry:
        """The newest version published since the last call; waits for one without a limit."""
        await self._changed.wait()
        self._changed.clear()
        assert self.latest is not None  # noqa: S101 - set before the event
        return self.latest


Version: TypeAlias = tuple[int, str, float]
"""Something small that differs whenever the entry does: token, status, time of the last move."""


def version_of(entry: Entry) -> Version:
    return entry.token, entry.status.value, entry.updated_at


def _is_older(entry: Entry, version: Version) -> bool:
    return (entry.token, entry.updated_at) < (version[0], version[2])


class Watchers:
    """Who waits for which entry in this process. A store publishes each durable change."""

    def __init__(self) -> None:
        self._watches: dict[str, dict[Watch, None]] = {}
        self._known: dict[str, Version] = {}
        self._told: set[str] = set()

    def add(self, entry_id: str, notify: Callable[[], None] | None = None) -> Watch:
        """``notify`` is called at each publication, for a watcher that waits for other things
        too."""
        watch = Watch(notify)
        self._watches.setdefault(entry_id, {})[watch] = None
        return watch

    def remove(self, entry_id: str, watch: Watch) -> None:
        watches = self._watches.get(entry_id, {})
        watches.pop(watch, None)
        if not watches:
            self._watches.pop(entry_id, None)
            self._known.pop(entry_id, None)
            self._told.discard(entry_id)

    def note(self, entry: Entry) -> None:
        """A watcher has read ``entry``: whoever looks for changes need not tell it this one. The
        oldest reading counts, in whichever order they come: what only another watcher has read is
        still to be told. Once it was published, an old reading hides nothing."""
        if entry.id not in self._watches:
            return
        known = self._known.get(entry.id)
        if known is None or (entry.id not in self._told and _is_older(entry, known)):
            self._known[entry.id] = version_of(entry)

    def known(self, entry_id: str) -> "Version | None":
        """The version that its watchers have seen; None where nobody said."""
        return self._known.get(entry_id)

    def publish(self, entry: Entry) -> None:
        """An older version than was told before is no news: readings overtake each other."""
        watches, known = self._watches.get(entry.id), self._known.get(entry.id)
        if watches is None or (known and _is_older(entry, known)):
            return
        self._told.add(entry.id)
        self._known[entry.id] = version_of(entry)
        for watch in tuple(watches):
            watch.publish(entry)

    @property
    def watched(self) -> tuple[str, ...]:
        return tuple(self._watches)


class Ledger(Protocol):
    """The port. Every method raises LedgerUnavailable when the store can't answer for sure.

    Methods that write return after the write is durable as configured, and publish the entry to
    ``watchers`` then. They run to their end although the caller is cancelled.
    """

    watchers: Watchers

    def now(self) -> float:
        """Ledger time: seconds since the epoch, never running backwards while the store is open
        and not following jumps of the wall clock."""
        ...

    @property
    def hold(self) -> Hold:
        """The hold under which ``claim`` and ``lease_due`` take entries."""
        ...

    @property
    def trouble(self) -> str | None:
        """Why orders must be refused just now, for ``/readyz``; None when all is well."""
        ...

    @property
    def distrusted(self) -> str | None:
        """Why absence proves nothing here (a store that forgot), and what to do; None where it
        does. Until then a key that is not there is claimed in doubt, and looked up first."""
        ...

    @property
    def unreadable(self) -> Mapping[str, str]:
        """The orders that this process met lately and could not read (``EntryUnreadable``), by id,
        and why."""
        ...

    async def open(self) -> None:
        """Open, check and migrate the store and take the first hold; raises LedgerRefused."""
        ...

    async def close(self) -> None:
        """Give the hold back, so that others take over at once, and close."""
        ...

    async def renew_hold(self) -> None:
        """Renew the hold; where it has lapsed, take a new one (the entries of the old are lost)."""
        ...

    async def claim(self, request: ClaimRequest) -> Claim:
        """Take the key: one atomic, durable step (``claiming.decide``, ``life.claim``,
        ``life.claim_again``), which for an attached key also searches and writes the attach index.
        The same ``claim_id`` again is the same claim."""
        ...

    async def peek(self, request: ClaimRequest) -> Claimed | None:
        """What ``claim`` would say, without taking the key; None where it would be ``Fresh``."""
        ...

    async def write(
        self, lease: Lease, before: Entry, after: Entry, *, due_in_s: float | None = None
    ) -> None:
        """Replace ``before`` by ``after`` where id, status and token still stand, else LeaseLost.

        ``due_in_s`` None keeps the lease; a number gives the entry back, due after that time.
        An entry that no longer ``waits`` is given back in any case.
        """
        ...

    async def release(self, lease: Lease, *, due_in_s: float) -> None:
        """Give an entry back unchanged, due after ``due_in_s``. A lost lease is no error."""
        ...

    async def amend(self, entry_id: str, change: Change, *, evidence: bool = False) -> Entry | None:
        """Apply ``change`` atomically without a lease: for late answers and operators.

        ``evidence``: it is what an attempt came to, and no person's word. Where the ledger forgot,
        that proves nothing of attempts that are gone (``doubting.amending``).

        ``change`` must raise the token where it changes anything. An entry that ``waits``
        afterwards is given back (no holder, due at once), since whoever held it has lost its
        lease. Returns the new entry; None: no such entry, or no change. Exceptions of ``change``
        reach the caller, and nothing is written.
        """
        ...

    async def disclaim(self, request: ClaimRequest) -> bool:
        """Settle a claim of our own, made but not acknowledged and never sent, as ``failed``
        (``life.end_attempt`` with NotSent(CLAIM_UNACKNOWLEDGED)), found by its claim_id.
        True: the ledger now shows no such claim under way."""
        ...

    async def lease_due(self, limit: int) -> list[Leased]:
        """Take up to ``limit`` pending entries that nobody holds and that are due, or whose
        holder's hold has lapsed; each through ``life.take_over``, in one atomic step. One that
        can't be read is passed over, and holds up no other."""
        ...

    async def find(self, entry_id: str) -> Entry | None: ...

    async def find_by_key(self, scope: str, key: str) -> Entry | None: ...

    async def page(
        self, statuses: tuple[Status, ...] = (), limit: int = 50, after: str | None = None
    ) -> Page:
        """Entries by age, oldest first, with stable paging: ``after`` is the ``next`` of the
        page before. Requests and answers are left out; what can't be read is named apart."""
        ...

    async def counts(self) -> Counts: ...

    async def retire(self, limit: int) -> tuple[int, int]:
        """Remove up to ``limit`` answers past ``retention_s`` and as many entries past
        ``retention_s + tombstone_s`` since they settled; how many of each, with those that another
        process was faster with. Counts as removed."""
        ...
