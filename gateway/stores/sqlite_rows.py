"""The rows of a ledger file: the SQL, over one apsw connection, inside one transaction."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import apsw
import orjson

from gateway.ledger import Counts, Lease, Page, Version
from gateway.orders.entry import Entry
from gateway.orders.states import PENDING, Status
from gateway.stores import codec, steps
from gateway.stores.steps import Custody, Kept

# A partial index serves a query only where the query has the index's condition word for word.
_OPEN = "o.status IN ('received', 'dispatched', 'in_doubt', 'dead_letter')"
_UNCONFIRMED = "o.status IN ('dead_letter', 'rejected', 'failed')"

_WHOLE = (
    f"SELECT {codec.COLUMNS}, o.holder, r.head, r.body, a.head, a.body FROM orders o"  # noqa: S608
    " LEFT JOIN requests r ON r.seq = o.seq LEFT JOIN answers a ON a.seq = o.seq WHERE "
)
BY_ID = _WHOLE + "o.id = ?"
BY_KEY = _WHOLE + "o.scope = ? AND o.key = ?"
BY_SEQ = _WHOLE + "o.seq = ?"
NEWEST_ATTACHED = (
    _WHOLE + "o.key_kind = 'attached' AND o.scope = ? AND o.fingerprint = ?"
    " ORDER BY o.claimed_at DESC, o.seq DESC LIMIT 1"
)
_BARE = f"SELECT o.seq, {codec.COLUMNS} FROM orders o WHERE "  # noqa: S608
PAGE = _BARE + "o.seq > ? ORDER BY o.seq LIMIT ?"
PAGE_OF_PENDING = _BARE + f"o.status = ? AND {_OPEN} AND o.seq > ? ORDER BY o.seq LIMIT ?"
PAGE_OF_UNCONFIRMED = (
    _BARE + f"o.status = ? AND {_UNCONFIRMED} AND o.seq > ? ORDER BY o.seq LIMIT ?"
)
PAGE_OF_CONFIRMED = _BARE + "o.status = ? AND o.seq > ? ORDER BY o.seq LIMIT ?"
OLDEST = (
    f"SELECT o.claimed_at FROM orders o WHERE o.status = ? AND {_OPEN}"  # noqa: S608
    " ORDER BY o.claimed_at LIMIT 1"
)
VERSIONS = (
    "SELECT id, token, status, updated_at FROM orders WHERE id IN (SELECT value FROM json_each(?))"
)

INSERT = (
    "INSERT INTO orders (id, scope, key, key_kind, fingerprint, status, token, claim_id, holder,"
    " created_at, claimed_at, updated_at, disputed, promise, doc)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_CHANGED = (
    "status = ?, token = ?, updated_at = ?, settled_at = ?, answer_until = ?, entry_until = ?,"
    " disputed = ?, doc = ?"
)
_GUARD = " WHERE id = ? AND status = ? AND token = ? RETURNING seq"
UPDATE = f"UPDATE orders SET {_CHANGED}{_GUARD}"  # noqa: S608
UPDATE_CUSTODY = f"UPDATE orders SET {_CHANGED}, holder = ?, due_at = ?{_GUARD}"  # noqa: S608
UPDATE_CLAIM = (
    f"UPDATE orders SET {_CHANGED}, holder = ?, due_at = ?,"  # noqa: S608
    f" claim_id = ?, claimed_at = ?{_GUARD}"
)
GIVE_BACK = "UPDATE orders SET holder = NULL, due_at = ? WHERE id = ? AND token = ? AND holder = ?"
PUT_REQUEST = "INSERT OR REPLACE INTO requests (seq, head, body) VALUES (?, ?, ?)"
DROP_REQUEST = "DELETE FROM requests WHERE seq = ?"
PUT_ANSWER = "INSERT OR REPLACE INTO answers (seq, head, body) VALUES (?, ?, ?)"
DROP_ANSWER = "DELETE FROM answers WHERE seq = ?"

COUNTED = ("made", "removed", *(status.value for status in Status), "disputed")
COUNT = (
    f"UPDATE tally SET {', '.join(f'{name} = {name} + ?' for name in COUNTED)},"  # noqa: S608
    " ledger_time = max(ledger_time, ?)"
)
TALLY = f"SELECT {', '.join(COUNTED)} FROM tally"  # noqa: S608

LAPSED = "SELECT holder FROM holders WHERE expires_at <= ? OR boot_id <> ? ORDER BY holder"
ORPHANS = "SELECT seq FROM orders WHERE holder = ? ORDER BY seq LIMIT ?"
DUE = "SELECT seq FROM orders WHERE due_at <= ? ORDER BY due_at, seq LIMIT ?"
ALIVE = "SELECT 1 FROM holders WHERE holder = ? AND boot_id = ? AND expires_at > ?"
TAKE_HOLD = "INSERT INTO holders (holder, boot_id, pid, expires_at) VALUES (?, ?, ?, ?)"
RENEW_HOLD = "UPDATE holders SET expires_at = ? WHERE holder = ?"
SWEEP_HOLDERS = (
    "DELETE FROM holders WHERE (expires_at <= ? OR boot_id <> ?)"
    " AND NOT EXISTS (SELECT 1 FROM orders WHERE orders.holder = holders.holder)"
)

ANSWERS_PAST = "SELECT seq FROM orders WHERE answer_until <= ? ORDER BY answer_until LIMIT ?"
ENTRIES_PAST = (
    "SELECT seq, status, disputed FROM orders"
    " WHERE answer_until IS NULL AND entry_until <= ? ORDER BY entry_until LIMIT ?"
)


class SqliteRows:
    """``Rows`` in the transaction that ``begin`` and ``flush`` enclose.

    ``changed`` has each entry as it was written, to be published once the commit is durable.
    ``writes`` grows with each statement that may have changed the file.
    """

    def __init__(self, db: apsw.Connection, boot_id: str) -> None:
        self._db = db
        self._boot_id = boot_id
        self.now = 0.0
        self.writes = 0
        self.changed: list[Entry] = []
        self._deltas: Counter[str] = Counter()
        self._alive: set[str] = set()

    def begin(self, now: float) -> None:
        self.now = now
        self.writes = 0
        self.changed = []
        self._deltas.clear()
        self._alive.clear()

    def flush(self) -> None:
        """Bring the tally up to date: the last write of a transaction that wrote at all."""
        if self.writes:
            counts = [self._deltas[name] for name in COUNTED]
            self._db.execute(COUNT, (*counts, self.now))

    # --- reading -----------------------------------------------------------------------------

    def by_id(self, entry_id: str) -> Kept | None:
        return self._one(BY_ID, (entry_id,))

    def by_key(self, scope: str, key: str) -> Kept | None:
        return self._one(BY_KEY, (scope, key))

    def newest_attached(self, scope: str, fingerprint: str) -> Kept | None:
        return self._one(NEWEST_ATTACHED, (scope, fingerprint))

    def _one(self, query: str, bindings: tuple[str | int, ...]) -> Kept | None:
        row = self._db.execute(query, bindings).fetchone()
        if row is None:
            return None
        *columns, holder, request_head, request_body, answer_head, answer_body = row
        entry = codec.entry(
            *columns,
            kept_request=None
            if request_head is None
            else codec.request(request_head, request_body),
            kept_answer=None if answer_head is None else codec.answer(answer_head, answer_body),
        )
        return Kept(entry, holder)

    def versions(self, entry_ids: Sequence[str]) -> list[tuple[str, Version]]:
        """The versions of those that there are, without reading the entries."""
        found = self._db.execute(VERSIONS, (orjson.dumps(entry_ids).decode(),))
        return [(entry_id, (token, status, at)) for entry_id, token, status, at in found]

    def data_version(self) -> int:
        """A number that changes when another process (or connection) has committed."""
        return int(self._db.pragma("data_version"))

    def page(self, statuses: tuple[Status, ...], limit: int, after: str | None) -> Page:
        start = steps.page_start(after)
        found: list[tuple[Any, ...]] = []
        for status in set(statuses):
            query = PAGE_OF_CONFIRMED
            if status is not Status.CONFIRMED:
                query = PAGE_OF_PENDING if status in PENDING else PAGE_OF_UNCONFIRMED
            found += self._db.execute(query, (status.value, start, limit + 1))
        if not statuses:
            found = list(self._db.execute(PAGE, (start, limit + 1)))
        found.sort(key=lambda row: row[0])
        shown = found[:limit]
        entries = tuple(codec.entry(*columns) for _, *columns in shown)
        return Page(entries, str(shown[-1][0]) if len(found) > limit and shown else None)

    def counts(self) -> Counts:
        (row,) = self._db.execute(TALLY)
        tally: dict[str, Any] = dict(zip(COUNTED, row, strict=True))
        return Counts(
            made=tally["made"],
            removed=tally["removed"],
            by_status={status: tally[status.value] for status in Status},
            disputed=tally["disputed"],
            oldest_pending_at=min(
                (at for status in PENDING if (at := self._oldest(status)) is not None),
                default=None,
            ),
            oldest_dead_letter_at=self._oldest(Status.DEAD_LETTER),
        )

    def _oldest(self, status: Status) -> float | None:
        row = self._db.execute(OLDEST, (status.value,)).fetchone()
        return None if row is None else float(row[0])

    # --- writing -----------------------------------------------------------------------------

    def _write(self, statement: str, bindings: tuple[Any, ...]) -> None:
        self.writes += 1
        self._db.execute(statement, bindings)

    def insert(self, entry: Entry, holder: str) -> None:
        bindings = (
            entry.id,
            entry.scope,
            entry.key,
            entry.key_kind,
            entry.fingerprint,
            entry.status.value,
            entry.token,
            entry.claim_id,
            holder,
            entry.created_at,
            entry.claimed_at,
            entry.updated_at,
            int(entry.disputed),
            codec.promise_text(entry.promise),
            codec.document(entry),
        )
        self._write(INSERT, bindings)
        self._put_request(self._db.last_insert_rowid(), entry)
        self._deltas["made"] += 1
        self._deltas[entry.status.value] += 1
        self.changed.append(entry)

    def replace(self, before: Entry, after: Entry, custody: Custody | None) -> bool:
        changed = (
            after.status.value,
            after.token,
            after.updated_at,
            after.settled_at,
            steps.answer_until(after),
            steps.entry_until(after),
            int(after.disputed),
            codec.document(after),
        )
        seq = self._update(before, after, changed, custody)
        if seq is None:
            return False
        self.writes += 1
        self._replace_bodies(seq, before, after)
        self._deltas[before.status.value] -= 1
        self._deltas[after.status.value] += 1
        self._deltas["disputed"] += after.disputed - before.disputed
        self.changed.append(after)
        return True

    def _update(
        self, before: Entry, after: Entry, changed: tuple[Any, ...], custody: Custody | None
    ) -> int | None:
        """The row's number; None where the guard failed. No column is named without need: each
        that an index has costs two changes of that index."""
        guard = (before.id, before.status.value, before.token)
        if custody is None:
            row = self._db.execute(UPDATE, changed + guard).fetchone()
        elif after.claim_id == before.claim_id:
            kept_by = (custody.holder, custody.due_at)
            row = self._db.execute(UPDATE_CUSTODY, changed + kept_by + guard).fetchone()
        else:
            claimed = (custody.holder, custody.due_at, after.claim_id, after.claimed_at)
            row = self._db.execute(UPDATE_CLAIM, changed + claimed + guard).fetchone()
        return None if row is None else int(row[0])

    def _replace_bodies(self, seq: int, before: Entry, after: Entry) -> None:
        if after.settled and not before.settled:
            self._write(DROP_REQUEST, (seq,))
        elif after.request is not before.request:
            self._put_request(seq, after)
        if after.answer is before.answer:
            return
        if after.answer is None:
            self._write(DROP_ANSWER, (seq,))
        else:
            head = codec.answer_head(after.answer)
            self._write(PUT_ANSWER, (seq, head, after.answer.body))

    def _put_request(self, seq: int, entry: Entry) -> None:
        if entry.request is not None:
            head = codec.request_head(entry.request)
            self._write(PUT_REQUEST, (seq, head, entry.request.body))

    def give_back(self, lease: Lease, due_in_s: float) -> None:
        """Where the entry is still held under this lease."""
        due_at = self.now + due_in_s
        self._write(GIVE_BACK, (due_at, lease.entry_id, lease.token, lease.hold.holder))

    # --- holds -------------------------------------------------------------------------------

    def alive(self, holder: str) -> bool:
        if holder in self._alive:
            return True
        row = self._db.execute(ALIVE, (holder, self._boot_id, self.now)).fetchone()
        if row is not None:
            self._alive.add(holder)
        return row is not None

    def take_hold(self, holder: str, pid: int, lease_s: float) -> None:
        self._write(SWEEP_HOLDERS, (self.now, self._boot_id))
        self._write(TAKE_HOLD, (holder, self._boot_id, pid, self.now + lease_s))

    def renew_hold(self, holder: str, lease_s: float) -> bool:
        """False where it has lapsed."""
        if not self.alive(holder):
            return False
        self._write(SWEEP_HOLDERS, (self.now, self._boot_id))
        self._write(RENEW_HOLD, (self.now + lease_s, holder))
        return True

    def end_hold(self, holder: str) -> None:
        """Others may take over what was held, from now on."""
        self._alive.discard(holder)
        self._write(RENEW_HOLD, (0.0, holder))
        self._write(SWEEP_HOLDERS, (self.now, self._boot_id))

    def due(self, limit: int) -> list[Entry]:
        seqs: list[int] = []
        lapsed = self._db.execute(LAPSED, (self.now, self._boot_id)).fetchall()
        for (holder,) in lapsed:
            seqs += [seq for (seq,) in self._db.execute(ORPHANS, (holder, limit))]
        seqs = sorted(seqs)[:limit]
        left = limit - len(seqs)
        if left > 0:
            seqs += [seq for (seq,) in self._db.execute(DUE, (self.now, left))]
        kept = [self._one(BY_SEQ, (seq,)) for seq in seqs]
        return [each.entry for each in kept if each is not None]

    # --- retention ---------------------------------------------------------------------------

    def retire(self, limit: int) -> tuple[int, int]:
        answers = self._db.execute(ANSWERS_PAST, (self.now, limit)).fetchall()
        for (seq,) in answers:
            self._write("UPDATE answers SET body = NULL WHERE seq = ?", (seq,))
            self._write("UPDATE orders SET answer_until = NULL WHERE seq = ?", (seq,))
        entries: list[tuple[Any, ...]] = self._db.execute(
            ENTRIES_PAST, (self.now, limit)
        ).fetchall()
        for seq, status, disputed in entries:
            for table in ("orders", "requests", "answers"):
                self._write(f"DELETE FROM {table} WHERE seq = ?", (seq,))  # noqa: S608
            self._deltas[status] -= 1
            self._deltas["disputed"] -= disputed
            self._deltas["removed"] += 1
        return len(answers), len(entries)
