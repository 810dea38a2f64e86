"""The memory store: nothing survives the process. The reference for the others, and the store of
the simulation: several ledgers may share one ``MemoryState``, as replicas share a server."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from gateway.ledger import (
    Change,
    Claim,
    Counts,
    Hold,
    Lease,
    Leased,
    LedgerUnavailable,
    Page,
    Watchers,
)
from gateway.orders.claiming import Claimed, ClaimRequest
from gateway.orders.entry import Entry
from gateway.orders.states import PENDING, Status
from gateway.stores import steps
from gateway.stores.steps import Custody, Kept
from middleware.clock import Clock


@dataclass(slots=True)
class _Row:
    seq: int
    entry: Entry
    custody: Custody


class MemoryState:
    """The rows, the holds and the time of one store. Every call is one atomic step.

    ``readers`` are told of every change: the watchers of each ledger that is open on it.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._offset = clock.wall() - clock.monotonic()
        self._rows: dict[str, _Row] = {}
        self._ids: dict[tuple[str, str], str] = {}
        self._attached: dict[tuple[str, str], list[_Row]] = {}
        self._holders: dict[str, float] = {}
        self._pending: dict[str, _Row] = {}
        self._made = 0
        self._removed = 0
        self.readers: list[Watchers] = []

    @property
    def now(self) -> float:
        return self._clock.monotonic() + self._offset

    # --- rows --------------------------------------------------------------------------------

    def by_id(self, entry_id: str) -> Kept | None:
        row = self._rows.get(entry_id)
        return None if row is None else Kept(row.entry, row.custody.holder)

    def by_key(self, scope: str, key: str) -> Kept | None:
        return self.by_id(self._ids.get((scope, key), ""))

    def newest_attached(self, scope: str, fingerprint: str) -> Kept | None:
        rows = self._attached.get((scope, fingerprint))
        if not rows:
            return None
        newest = max(rows, key=lambda row: (row.entry.claimed_at, row.seq))
        return Kept(newest.entry, newest.custody.holder)

    def due(self, limit: int) -> list[Entry]:
        orphans, due = [], []
        for row in self._pending.values():
            holder, due_at = row.custody.holder, row.custody.due_at
            if holder is not None and not self.alive(holder):
                orphans.append(row)
            elif due_at is not None and due_at <= self.now:
                due.append(row)
        orphans.sort(key=lambda row: row.seq)
        due.sort(key=lambda row: (row.custody.due_at, row.seq))
        return [row.entry for row in (orphans + due)[:limit]]

    def insert(self, entry: Entry, holder: str) -> None:
        if entry.id in self._rows:
            raise LedgerUnavailable(f"there is an order {entry.id} already", written=False)
        self._made += 1
        self._ids[entry.scope, entry.key] = entry.id
        self._rows[entry.id] = row = _Row(self._made, entry, Custody(holder))
        if entry.attached:
            self._attached.setdefault((entry.scope, entry.fingerprint), []).append(row)
        self._written(row)

    def replace(self, before: Entry, after: Entry, custody: Custody | None) -> bool:
        row = self._rows.get(before.id)
        if row is None or (row.entry.status, row.entry.token) != (before.status, before.token):
            return False
        row.entry = after
        row.custody = row.custody if custody is None else custody
        self._written(row)
        return True

    def give_back(self, lease: Lease, due_in_s: float) -> None:
        """Where the entry is still held under this lease."""
        row = self._rows.get(lease.entry_id)
        if row and row.entry.token == lease.token and row.custody.holder == lease.hold.holder:
            row.custody = Custody(None, self.now + due_in_s)

    def _written(self, row: _Row) -> None:
        entry = row.entry
        if entry.waits:
            self._pending[entry.id] = row
        else:
            self._pending.pop(entry.id, None)
        for watchers in self.readers:
            watchers.publish(entry)

    # --- holds -------------------------------------------------------------------------------

    def alive(self, holder: str) -> bool:
        return self._holders.get(holder, 0.0) > self.now

    def take_hold(self, holder: str, lease_s: float) -> None:
        self._holders = {each: until for each, until in self._holders.items() if until > self.now}
        self._holders[holder] = self.now + lease_s

    def renew_hold(self, holder: str, lease_s: float) -> bool:
        """False where it has lapsed."""
        if not self.alive(holder):
            return False
        self._holders[holder] = self.now + lease_s
        return True

    def end_hold(self, holder: str) -> None:
        self._holders.pop(holder, None)

    # --- all of them -------------------------------------------------------------------------

    def page(self, statuses: tuple[Status, ...], limit: int, after: str | None) -> Page:
        start = steps.page_start(after)
        found = [
            row
            for row in self._rows.values()
            if row.seq > start and (not statuses or row.entry.status in statuses)
        ]
        shown = found[:limit]
        entries = tuple(replace(row.entry, request=None, answer=None) for row in shown)
        return Page(entries, str(shown[-1].seq) if len(found) > limit and shown else None)

    def counts(self) -> Counts:
        by_status = dict.fromkeys(Status, 0)
        for row in self._rows.values():
            by_status[row.entry.status] += 1
        return Counts(
            made=self._made,
            removed=self._removed,
            by_status=by_status,
            disputed=sum(row.entry.disputed for row in self._rows.values()),
            oldest_pending_at=self._oldest(PENDING),
            oldest_dead_letter_at=self._oldest(frozenset({Status.DEAD_LETTER})),
        )

    def _oldest(self, statuses: frozenset[Status]) -> float | None:
        entries = (row.entry for row in self._rows.values())
        ages = (entry.claimed_at for entry in entries if entry.status in statuses)
        return min(ages, default=None)

    def retire(self, limit: int) -> tuple[int, int]:
        answers = self._past(steps.answer_until, limit)
        for row in answers:
            assert row.entry.answer is not None  # noqa: S101 - answer_until says so
            row.entry = replace(row.entry, answer=replace(row.entry.answer, body=None))
        entries = self._past(_bare_until, limit)
        for row in entries:
            self._remove(row)
        return len(answers), len(entries)

    def _past(self, until: Callable[[Entry], float | None], limit: int) -> list[_Row]:
        now, past = self.now, []
        for row in self._rows.values():
            end = until(row.entry)
            if end is not None and end <= now:
                past.append((end, row.seq, row))
        return [row for _, _, row in sorted(past, key=lambda each: each[:2])[:limit]]

    def _remove(self, row: _Row) -> None:
        entry = row.entry
        del self._rows[entry.id], self._ids[entry.scope, entry.key]
        if entry.attached:
            rows = self._attached[entry.scope, entry.fingerprint]
            rows[:] = [each for each in rows if each is not row]
            if not rows:
                del self._attached[entry.scope, entry.fingerprint]
        self._removed += 1


def _bare_until(entry: Entry) -> float | None:
    """An entry goes after its answer, however small the batches are."""
    return steps.entry_until(entry) if steps.answer_until(entry) is None else None


class MemoryLedger:
    """One replica's ledger on a ``MemoryState``: the ``Ledger`` port without durability.

    ``who`` names the replica in timelines; ``new_holder`` makes ids that never repeat.
    """

    def __init__(
        self,
        state: MemoryState,
        *,
        clock: Clock,
        who: str,
        lease_s: float,
        new_holder: Callable[[], str],
    ) -> None:
        self.watchers = Watchers()
        self._state = state
        self._clock = clock
        self._who = who
        self._lease_s = lease_s
        self._new_holder = new_holder
        self._hold = Hold("", float("-inf"))
        self._open = False

    def now(self) -> float:
        return self._state.now

    @property
    def hold(self) -> Hold:
        return self._hold

    @property
    def trouble(self) -> str | None:
        return None if self._open else "the ledger is not open"

    @property
    def distrusted(self) -> str | None:
        return None

    @property
    def unreadable(self) -> Mapping[str, str]:
        return {}

    async def open(self) -> None:
        self._open = True
        self._state.readers.append(self.watchers)
        await self.renew_hold()

    async def close(self) -> None:
        if self._open:
            self._state.end_hold(self._hold.holder)
        self.crash()

    def crash(self) -> None:
        """What the death of this replica leaves: its hold runs on until it lapses."""
        if self._open:
            self._state.readers.remove(self.watchers)
            self._hold.lapsed = True
            self._open = False

    async def renew_hold(self) -> None:
        self._need_open()
        start = self._clock.monotonic()
        until = steps.trusted_until(start, self._lease_s)
        hold = self._hold
        if hold.valid(start) and self._state.renew_hold(hold.holder, self._lease_s):
            hold.trusted_until = until
            return
        hold.lapsed = True
        holder = self._new_holder()
        self._state.take_hold(holder, self._lease_s)
        self._hold = Hold(holder, until)

    async def claim(self, request: ClaimRequest) -> Claim:
        hold = await self._valid_hold()
        return steps.as_claim(steps.claim(self._state, request, hold.holder), hold)

    async def peek(self, request: ClaimRequest) -> Claimed | None:
        self._need_open()
        return steps.peek(self._state, request, self._hold.holder)

    async def write(
        self, lease: Lease, before: Entry, after: Entry, *, due_in_s: float | None = None
    ) -> None:
        self._need_open()
        steps.write(self._state, lease, before, after, due_in_s)

    async def release(self, lease: Lease, *, due_in_s: float) -> None:
        self._need_open()
        self._state.give_back(lease, due_in_s)

    async def amend(
        self,
        entry_id: str,
        change: Change,
        *,
        evidence: bool = False,  # noqa: ARG002 - it forgets nothing
    ) -> Entry | None:
        self._need_open()
        return steps.amend(self._state, entry_id, change)

    async def disclaim(self, request: ClaimRequest) -> bool:
        self._need_open()
        return steps.disclaim(self._state, request)

    async def lease_due(self, limit: int) -> list[Leased]:
        hold = await self._valid_hold()
        taken = steps.lease_due(self._state, hold.holder, limit, self._who)
        return [Leased(entry, Lease(entry.id, entry.token, hold)) for entry in taken]

    async def find(self, entry_id: str) -> Entry | None:
        self._need_open()
        kept = self._state.by_id(entry_id)
        return None if kept is None else kept.entry

    async def find_by_key(self, scope: str, key: str) -> Entry | None:
        self._need_open()
        kept = self._state.by_key(scope, key)
        return None if kept is None else kept.entry

    async def page(
        self, statuses: tuple[Status, ...] = (), limit: int = 50, after: str | None = None
    ) -> Page:
        self._need_open()
        return self._state.page(statuses, limit, after)

    async def counts(self) -> Counts:
        self._need_open()
        return self._state.counts()

    async def retire(self, limit: int) -> tuple[int, int]:
        self._need_open()
        return self._state.retire(limit)

    async def _valid_hold(self) -> Hold:
        """The hold, or a new one where it has lapsed: an order need not wait for the next
        renewal."""
        self._need_open()
        if not self._hold.valid(self._clock.monotonic()):
            await self.renew_hold()
        return self._hold

    def _need_open(self) -> None:
        if not self._open:
            raise LedgerUnavailable("the ledger is not open", written=False)
