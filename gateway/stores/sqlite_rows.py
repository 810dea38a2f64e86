"""The rows of a ledger file: over one apsw connection, inside one transaction."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import apsw
import orjson

from gateway.ledger import (
    Counts,
    EntryUnreadable,
    Lease,
    LedgerUnavailable,
    Page,
    Version,
)
from gateway.orders.entry import Entry
from gateway.orders.promise import Promise
from gateway.orders.states import PENDING, Status
from gateway.stores import codec, steps
from gateway.stores import sqlite_statements as sql
from gateway.stores.doubting import Said
from gateway.stores.sqlite_reading import read_bare, read_whole
from gateway.stores.sqlite_statements import COUNTED, ROWS_MAX, Many
from gateway.stores.steps import Custody, Kept
from gateway.stores.unreadable import Unreadables


class SqliteRows:
    """``Rows`` in the transaction that ``begin`` and ``flush`` enclose.

    ``changed`` has each entry as it was written, to be published once the commit is durable.
    ``writes`` grows with each statement that may have changed the file.
    """

    def __init__(
        self, db: apsw.Connection, boot_id: str, unreadables: Unreadables | None = None
    ) -> None:
        self._db = db
        self._boot_id = boot_id
        self._unreadables = unreadables or Unreadables()
        self.now = 0.0
        self.writes = 0
        self.changed: list[Entry] = []
        self._deltas: Counter[str] = Counter()
        self._alive: set[str] = set()
        self._promises: dict[int, tuple[Promise, int]] = {}
        self._new_promises = False

    def begin(self, now: float) -> None:
        self.now = now
        self.writes = 0
        self.changed = []
        self._deltas.clear()
        self._alive.clear()
        self._new_promises = False

    def flush(self) -> None:
        """Bring the tally up to date: the last write of a transaction that wrote at all."""
        if self.writes:
            counts = [self._deltas[name] for name in COUNTED]
            self._db.execute(sql.COUNT, (*counts, self.now))

    # --- reading -----------------------------------------------------------------------------

    def by_id(self, entry_id: str) -> Kept | None:
        return self._one(sql.BY_ID, (entry_id,))

    def by_key(self, scope: str, key: str) -> Kept | None:
        return self._one(sql.BY_KEY, (codec.key_digest(scope, key), scope, key))

    def newest_attached(self, scope: str, fingerprint: str) -> Kept | None:
        return self._one(sql.NEWEST_ATTACHED, (scope, fingerprint))

    def _one(self, query: str, bindings: tuple[str | int | bytes, ...]) -> Kept | None:
        return read_whole(self._db, self._unreadables, query, bindings)

    def readable(self, entry_ids: Sequence[str]) -> list[Entry]:
        """Those of them that there are, and that can be read."""
        kept = [self._unless_unreadable(sql.BY_ID, each) for each in entry_ids]
        return [each.entry for each in kept if each is not None]

    def _unless_unreadable(self, query: str, binding: str | int) -> Kept | None:
        try:
            return self._one(query, (binding,))
        except EntryUnreadable:  # told
            return None

    def versions(self, entry_ids: Sequence[str]) -> list[tuple[str, Version]]:
        """The versions of those that there are, without reading the entries."""
        found = self._db.execute(sql.VERSIONS, (orjson.dumps(entry_ids).decode(),))
        return [(entry_id, (token, status, at)) for entry_id, token, status, at in found]

    def data_version(self) -> int:
        """A number that changes when another process (or connection) has committed."""
        return int(self._db.pragma("data_version"))

    def page(self, statuses: tuple[Status, ...], limit: int, after: str | None) -> Page:
        start = steps.page_start(after)
        found: list[tuple[Any, ...]] = []
        for status in set(statuses):
            query = sql.PAGE_OF_CONFIRMED
            if status is not Status.CONFIRMED:
                query = sql.PAGE_OF_PENDING if status in PENDING else sql.PAGE_OF_UNCONFIRMED
            found += self._db.execute(query, (status.value, start, limit + 1))
        if not statuses:
            found = list(self._db.execute(sql.PAGE, (start, limit + 1)))
        seqs = sorted(seq for (seq,) in found)
        shown = seqs[:limit]
        entries, others = read_bare(self._db, self._unreadables, shown)
        return Page(entries, str(shown[-1]) if len(seqs) > limit and shown else None, others)

    def whole(self, after: int, limit: int) -> list[tuple[int, Entry]]:
        """Entries with their requests and answers, by number, in the order of their making."""
        seqs: list[tuple[Any, ...]] = self._db.execute(sql.SEQS, (after, limit)).fetchall()
        kept = [(seq, self._one(sql.BY_SEQ, (seq,))) for (seq,) in seqs]
        return [(seq, each.entry) for seq, each in kept if each is not None]

    def counts(self) -> Counts:
        (row,) = self._db.execute(sql.TALLY)
        oldest: dict[str, float] = dict(self._db.execute(sql.OLDEST))
        tally: dict[str, Any] = dict(zip(COUNTED, row, strict=True))
        return Counts(
            made=tally["made"],
            removed=tally["removed"],
            by_status={status: tally[status.value] for status in Status},
            disputed=tally["disputed"],
            oldest_pending_at=min(
                (at for status, at in oldest.items() if Status(status) in PENDING), default=None
            ),
            oldest_dead_letter_at=oldest.get(Status.DEAD_LETTER.value),
        )

    # --- writing -----------------------------------------------------------------------------

    def _write(self, statement: str, bindings: Sequence[Any]) -> None:
        self.writes += 1
        self._db.execute(statement, bindings)

    def insert(self, entry: Entry, holder: str) -> None:
        self.insert_all([entry], [codec.key_digest(entry.scope, entry.key)], holder)

    def insert_all(self, entries: Sequence[Entry], digests: Sequence[bytes], holder: str) -> None:
        """New entries, in their order, each found by the digest of its key."""
        ((newest,),) = self._db.execute(sql.NEWEST)
        orders: list[Any] = []
        requests: list[Any] = []
        for seq, (entry, digest) in enumerate(
            zip(entries, digests, strict=True), (newest or 0) + 1
        ):
            orders += (
                seq,
                digest,
                entry.id,
                entry.scope,
                entry.key,
                entry.key_kind,
                entry.fingerprint,
                entry.status,
                entry.token,
                entry.claim_id,
                holder,
                entry.created_at,
                entry.claimed_at,
                entry.updated_at,
                int(entry.disputed),
                self._promise_number(entry.promise),
                codec.document(entry),
            )
            if entry.request is not None:
                requests += (seq, codec.request_head(entry.request), entry.request.body)
            self._deltas[entry.status] += 1
        self._write_many(sql.INSERTS, orders)
        self._write_many(sql.PUT_REQUESTS, requests)
        self._deltas["made"] += len(entries)
        self.changed += entries

    def _promise_number(self, promise: Promise) -> int:
        """Known for good once it was seen committed. By identity: a route has one promise."""
        known = self._promises.get(id(promise))
        if known is not None:
            return known[1]
        text = codec.promise_text(promise)
        found = self._db.execute(sql.PROMISE, (text,)).fetchone()
        if found is None:
            self._new_promises = True
            self._write(sql.KEEP_PROMISE, (text,))
            return self._db.last_insert_rowid()
        number = int(found[0])
        if not self._new_promises and len(self._promises) < codec.PROMISES_MAX:
            self._promises[id(promise)] = (promise, number)
        return number

    def known_keys(self, digests: Sequence[bytes]) -> set[bytes]:
        """Which of these keys have an entry."""
        found: set[bytes] = set()
        for start in range(0, len(digests), ROWS_MAX):
            some = digests[start : start + ROWS_MAX]
            rows = self._db.execute(sql.KNOWN_KEYS.of(len(some)), some)
            found.update(digest for (digest,) in rows)
        return found

    def settle_all(self, moves: Sequence[tuple[Entry, Entry]]) -> bool:
        """``replace`` for many orders that end: nobody has them any more. False where a guard
        did not hold; the caller rolls back."""
        changed: list[Any] = []
        answers: list[Any] = []
        for before, after in moves:
            guard = (before.id, before.status.value, before.token)
            changed += (*guard, *_changed(after))
            if after.answer is not None:
                answers += (before.id, codec.answer_head(after.answer), after.answer.body)
            self._count_move(before, after)
        self._write_many(sql.DROP_REQUESTS, [before.id for before, _ in moves])
        if self._write_many(sql.SETTLES, changed) != len(moves):
            return False
        self._write_many(sql.PUT_ANSWERS, answers)
        self.changed += [after for _, after in moves]
        return True

    def _write_many(self, statement: Many, bindings: list[Any]) -> int:
        """How many rows were changed."""
        count, at_most = 0, ROWS_MAX * statement.width
        for start in range(0, len(bindings), at_most):
            some = bindings[start : start + at_most]
            self._write(statement.of(len(some) // statement.width), some)
            count += self._db.changes()
        return count

    def replace(self, before: Entry, after: Entry, custody: Custody | None) -> bool:
        changed = _changed(after)
        seq = self._update(before, after, changed, custody)
        if seq is None:
            return False
        self.writes += 1
        self._replace_bodies(seq, before, after)
        self._count_move(before, after)
        self.changed.append(after)
        return True

    def _count_move(self, before: Entry, after: Entry) -> None:
        self._deltas[before.status.value] -= 1
        self._deltas[after.status.value] += 1
        self._deltas["disputed"] += after.disputed - before.disputed

    def _update(
        self, before: Entry, after: Entry, changed: tuple[Any, ...], custody: Custody | None
    ) -> int | None:
        """The row's number; None where the guard failed. No column is named without need: each
        that an index has costs two changes of that index."""
        guard = (before.id, before.status.value, before.token)
        if custody is None:
            row = self._db.execute(sql.UPDATE, changed + guard).fetchone()
        elif after.claim_id == before.claim_id:
            kept_by = (custody.holder, custody.due_at)
            row = self._db.execute(sql.UPDATE_CUSTODY, changed + kept_by + guard).fetchone()
        else:
            number = self._promise_number(after.promise)
            claimed = (custody.holder, custody.due_at, after.claim_id, after.claimed_at, number)
            row = self._db.execute(sql.UPDATE_CLAIM, changed + claimed + guard).fetchone()
        return None if row is None else int(row[0])

    def _replace_bodies(self, seq: int, before: Entry, after: Entry) -> None:
        if after.settled and not before.settled:
            self._write(sql.DROP_REQUEST, (seq,))
        elif after.request is not before.request:
            self._put_request(seq, after)
        if after.answer is before.answer:
            return
        if after.answer is None:
            self._write(sql.DROP_ANSWER, (seq,))
        else:
            head = codec.answer_head(after.answer)
            self._write(sql.PUT_ANSWER, (seq, head, after.answer.body))

    def _put_request(self, seq: int, entry: Entry) -> None:
        if entry.request is not None:
            head = codec.request_head(entry.request)
            self._write(sql.PUT_REQUEST, (seq, head, entry.request.body))

    def give_back(self, lease: Lease, due_in_s: float) -> None:
        """Where the entry is still held under this lease."""
        due_at = self.now + due_in_s
        self._write(sql.GIVE_BACK, (due_at, lease.entry_id, lease.token, lease.hold.holder))

    # --- holds -------------------------------------------------------------------------------

    def alive(self, holder: str) -> bool:
        if holder in self._alive:
            return True
        row = self._db.execute(sql.ALIVE, (holder, self._boot_id, self.now)).fetchone()
        if row is not None:
            self._alive.add(holder)
        return row is not None

    def take_hold(self, holder: str, pid: int, lease_s: float) -> None:
        """LedgerUnavailable where the file was moved elsewhere under us (``sqlite_origin``)."""
        if self._db.execute(sql.OURS, (self._boot_id,)).fetchone() is None:
            raise LedgerUnavailable("this ledger was moved or taken over: stop here", written=False)
        self._write(sql.SWEEP_HOLDERS, (self.now, self._boot_id))
        self._write(sql.TAKE_HOLD, (holder, self._boot_id, pid, self.now + lease_s))

    def renew_hold(self, holder: str, lease_s: float) -> bool:
        """False where it has lapsed."""
        if not self.alive(holder):
            return False
        self._write(sql.SWEEP_HOLDERS, (self.now, self._boot_id))
        self._write(sql.RENEW_HOLD, (self.now + lease_s, holder))
        return True

    def end_hold(self, holder: str) -> None:
        """Others may take over what was held, from now on."""
        self._alive.discard(holder)
        self._write(sql.RENEW_HOLD, (0.0, holder))
        self._write(sql.SWEEP_HOLDERS, (self.now, self._boot_id))

    def forgot(self) -> Said | None:
        """Since when and why absence proves nothing; None where it does."""
        ((_, said),) = self._db.execute(sql.TRUST)
        return Said.of(said)

    def due(self, limit: int) -> list[Entry]:
        """Those that can't be read are passed over: they hold up nobody."""
        passed = self._unreadables.passed_over()
        room = limit + len(passed)
        seqs: list[int] = []
        lapsed = self._db.execute(sql.LAPSED, (self.now, self._boot_id)).fetchall()
        for (holder,) in lapsed:
            seqs += [seq for (seq,) in self._db.execute(sql.ORPHANS, (holder, room))]
        seqs.sort()
        if len(seqs) < room:
            seqs += [seq for (seq,) in self._db.execute(sql.DUE, (self.now, room - len(seqs)))]
        wanted = [seq for seq in seqs if seq not in passed][:limit]
        kept = [self._unless_unreadable(sql.BY_SEQ, seq) for seq in wanted]
        return [each.entry for each in kept if each is not None]

    # --- retention ---------------------------------------------------------------------------

    def retire(self, limit: int, wall: float) -> tuple[int, int]:
        """What is past its time by ledger time *and* by the wall clock: a boot in a wrong year sets
        ledger time ahead, and a key that is forgotten too early is an order made twice."""
        until = min(self.now, wall)
        answers = self._db.execute(sql.ANSWERS_PAST, (until, limit)).fetchall()
        for (seq,) in answers:
            self._write("UPDATE answers SET body = NULL WHERE seq = ?", (seq,))
            self._write("UPDATE orders SET answer_until = NULL WHERE seq = ?", (seq,))
        entries: list[tuple[Any, ...]] = self._db.execute(
            sql.ENTRIES_PAST, (until, limit)
        ).fetchall()
        for seq, status, disputed in entries:
            for table in ("orders", "requests", "answers"):
                self._write(f"DELETE FROM {table} WHERE seq = ?", (seq,))  # noqa: S608
            self._deltas[status] -= 1
            self._deltas["disputed"] -= disputed
            self._deltas["removed"] += 1
        return len(answers), len(entries)


def _changed(after: Entry) -> tuple[Any, ...]:
    return (
        after.status.value,
        after.token,
        after.updated_at,
        after.settled_at,
        steps.answer_until(after),
        steps.entry_until(after),
        int(after.disputed),
        codec.document(after),
    )
