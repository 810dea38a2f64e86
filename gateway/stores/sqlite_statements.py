# ruff: noqa: S608 - statements are made of constants, once
"""The SQL of the ledger file.

A statement that takes many rows is one step of SQLite, which runs without Python's lock: a step a
row would hand the lock over and back a hundred times a batch.
"""

from dataclasses import dataclass
from functools import cache

from gateway.orders.states import Status
from gateway.stores import codec

# A partial index serves a query only where the query has the index's condition word for word.
_OPEN = "o.status IN ('received', 'dispatched', 'in_doubt', 'dead_letter')"
_UNCONFIRMED = "o.status IN ('dead_letter', 'rejected', 'failed')"

_WHOLE = (
    f"SELECT {codec.COLUMNS}, o.holder, r.head, r.body, a.head, a.body FROM orders o"
    " LEFT JOIN requests r ON r.seq = o.seq LEFT JOIN answers a ON a.seq = o.seq WHERE "
)
BY_ID = _WHOLE + "o.id = ?"
BY_KEY = _WHOLE + "o.key_digest = ? AND o.scope = ? AND o.key = ?"
BY_SEQ = _WHOLE + "o.seq = ?"
NEWEST_ATTACHED = (
    _WHOLE + "o.key_kind = 'attached' AND o.scope = ? AND o.fingerprint = ?"
    " ORDER BY o.claimed_at DESC, o.seq DESC LIMIT 1"
)
BARE_BY_SEQ = f"SELECT {codec.COLUMNS} FROM orders o WHERE o.seq = ?"
_SEQS = "SELECT o.seq FROM orders o WHERE "
PAGE = _SEQS + "o.seq > ? ORDER BY o.seq LIMIT ?"
PAGE_OF_PENDING = (
    "SELECT o.seq FROM orders o INDEXED BY open WHERE"
    f" o.status = ? AND {_OPEN} AND o.seq > ? ORDER BY o.seq LIMIT ?"
)
PAGE_OF_UNCONFIRMED = (
    _SEQS + f"o.status = ? AND {_UNCONFIRMED} AND o.seq > ? ORDER BY o.seq LIMIT ?"
)
PAGE_OF_CONFIRMED = _SEQS + "o.status = ? AND o.seq > ? ORDER BY o.seq LIMIT ?"

# Of what can't be read, whatever is in it: numbers, and bytes as they are.
_NAMES = "SELECT o.seq, CAST(o.id AS BLOB) FROM orders o WHERE "
NAMES_BY_SEQ = _NAMES + "o.seq = ?"
OUTLINE = "SELECT CAST(status AS BLOB), created_at FROM orders WHERE seq = ?"


def named(whole: str) -> str:
    """The number and the id of what ``whole`` finds."""
    return _NAMES + whole.removeprefix(_WHOLE)


OLDEST = f"SELECT o.status, min(o.claimed_at) FROM orders o WHERE {_OPEN} GROUP BY o.status"
VERSIONS = (
    "SELECT id, token, status, updated_at FROM orders WHERE id IN (SELECT value FROM json_each(?))"
)

_CHANGED = (
    "status = ?, token = ?, updated_at = ?, settled_at = ?, answer_until = ?, entry_until = ?,"
    " disputed = ?, doc = ?"
)
_GUARD = " WHERE id = ? AND status = ? AND token = ? RETURNING seq"
UPDATE = f"UPDATE orders SET {_CHANGED}{_GUARD}"
UPDATE_CUSTODY = f"UPDATE orders SET {_CHANGED}, holder = ?, due_at = ?{_GUARD}"
UPDATE_CLAIM = (
    f"UPDATE orders SET {_CHANGED}, holder = ?, due_at = ?, claim_id = ?, claimed_at = ?,"
    f" promise = ?{_GUARD}"
)
GIVE_BACK = "UPDATE orders SET holder = NULL, due_at = ? WHERE id = ? AND token = ? AND holder = ?"
SEQS = "SELECT seq FROM orders WHERE seq > ? ORDER BY seq LIMIT ?"
TRUST = "SELECT epoch, forgot FROM trust"
FORGET = "UPDATE trust SET forgot = ?"
OURS = "SELECT 1 FROM origin WHERE boot_id = ?"
NEWEST = "SELECT max(seq) FROM orders"
PROMISE = "SELECT number FROM promises WHERE text = ?"
KEEP_PROMISE = "INSERT INTO promises (text) VALUES (?)"
PUT_REQUEST = "INSERT OR REPLACE INTO requests (seq, head, body) VALUES (?, ?, ?)"
DROP_REQUEST = "DELETE FROM requests WHERE seq = ?"
PUT_ANSWER = "INSERT OR REPLACE INTO answers (seq, head, body) VALUES (?, ?, ?)"
DROP_ANSWER = "DELETE FROM answers WHERE seq = ?"

COUNTED = ("made", "removed", *(status.value for status in Status), "disputed")
COUNT = (
    f"UPDATE tally SET {', '.join(f'{name} = {name} + ?' for name in COUNTED)},"
    " ledger_time = max(ledger_time, ?)"
)
TALLY = f"SELECT {', '.join(COUNTED)} FROM tally"

LAPSED = "SELECT holder FROM holders WHERE expires_at <= ? OR boot_id <> ? ORDER BY holder"
ORPHANS = f"SELECT o.seq FROM orders o WHERE {_OPEN} AND o.holder = ? ORDER BY o.seq LIMIT ?"
DUE = (
    f"SELECT o.seq FROM orders o WHERE {_OPEN} AND o.holder IS NULL AND o.due_at <= ?"
    " ORDER BY o.due_at, o.seq LIMIT ?"
)
ALIVE = "SELECT 1 FROM holders WHERE holder = ? AND boot_id = ? AND expires_at > ?"
TAKE_HOLD = "INSERT INTO holders (holder, boot_id, pid, expires_at) VALUES (?, ?, ?, ?)"
RENEW_HOLD = "UPDATE holders SET expires_at = ? WHERE holder = ?"
SWEEP_HOLDERS = (
    "DELETE FROM holders WHERE (expires_at <= ? OR boot_id <> ?)"
    f" AND NOT EXISTS (SELECT 1 FROM orders o WHERE {_OPEN} AND o.holder = holders.holder)"
)
ADOPT_ORPHANS = (
    "INSERT OR IGNORE INTO holders (holder, boot_id, pid, expires_at)"
    f" SELECT DISTINCT o.holder, '', 0, 0 FROM orders o WHERE {_OPEN} AND o.holder IS NOT NULL"
)

ANSWERS_PAST = "SELECT seq FROM orders WHERE answer_until <= ? ORDER BY answer_until LIMIT ?"
ENTRIES_PAST = (
    "SELECT seq, status, disputed FROM orders"
    " WHERE answer_until IS NULL AND entry_until <= ? ORDER BY entry_until LIMIT ?"
)


@dataclass(frozen=True, slots=True)
class Many:
    """A statement that takes any number of rows of ``width`` values, up to ``ROWS_MAX``."""

    before: str
    width: int
    after: str = ""

    def of(self, rows: int) -> str:
        return _many(self, rows)


ROWS_MAX = 32
"""Rows in one statement: each number of rows is one of its own in SQLite's cache of statements."""


@cache
def _many(statement: Many, rows: int) -> str:
    row = f"({', '.join('?' * statement.width)})"
    return f"{statement.before}{', '.join([row] * rows)}{statement.after}"


INSERTS = Many(
    "INSERT INTO orders (seq, key_digest, id, scope, key, key_kind, fingerprint, status, token,"
    " claim_id, holder, created_at, claimed_at, updated_at, disputed, promise, doc) VALUES ",
    17,
)
PUT_REQUESTS = Many("INSERT OR REPLACE INTO requests (seq, head, body) VALUES ", 3)
DROP_REQUESTS = Many(
    "DELETE FROM requests WHERE seq IN (SELECT seq FROM orders WHERE id IN (VALUES ", 1, "))"
)
SETTLES = Many(
    "UPDATE orders SET status = v.column4, token = v.column5, updated_at = v.column6,"
    " settled_at = v.column7, answer_until = v.column8, entry_until = v.column9,"
    " disputed = v.column10, doc = v.column11, holder = NULL, due_at = NULL FROM (VALUES ",
    11,
    ") v WHERE orders.id = v.column1 AND orders.status = v.column2 AND orders.token = v.column3",
)
PUT_ANSWERS = Many(
    "INSERT OR REPLACE INTO answers (seq, head, body)"
    " SELECT o.seq, v.column2, v.column3 FROM (VALUES ",
    3,
    ") v JOIN orders o ON o.id = v.column1",
)
KNOWN_KEYS = Many("SELECT key_digest FROM orders WHERE key_digest IN (VALUES ", 1, ")")
