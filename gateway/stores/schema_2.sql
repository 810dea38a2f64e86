-- The ledger, from version 1 to version 2: fewer pages written for an order. A promise is kept once
-- for all orders that were promised the same, keys are found by a digest of 16 bytes (a function of
-- codec.py, lent to this migration), and one index serves all that is open.

CREATE TABLE promises (
    number INTEGER PRIMARY KEY,
    text   TEXT NOT NULL UNIQUE -- never removed: one a route and configuration
) STRICT;
INSERT INTO promises (text) SELECT DISTINCT promise FROM orders;

CREATE TABLE orders_2 (
    seq          INTEGER PRIMARY KEY, -- the order of making: what pages are in
    key_digest   BLOB NOT NULL UNIQUE, -- of scope and key
    id           TEXT NOT NULL UNIQUE,
    scope        TEXT NOT NULL,
    key          TEXT NOT NULL,
    key_kind     TEXT NOT NULL,
    fingerprint  TEXT NOT NULL,
    status       TEXT NOT NULL,
    token        INTEGER NOT NULL,
    claim_id     TEXT NOT NULL,
    holder       TEXT, -- waiting and taken under this hold
    due_at       REAL, -- waiting, taken by nobody, to be taken from then on
    created_at   REAL NOT NULL,
    claimed_at   REAL NOT NULL,
    updated_at   REAL NOT NULL,
    settled_at   REAL,
    answer_until REAL, -- there is a body to remove then
    entry_until  REAL,
    disputed     INTEGER NOT NULL,
    promise      INTEGER NOT NULL REFERENCES promises (number),
    doc          TEXT NOT NULL
) STRICT;
INSERT INTO orders_2
    SELECT seq, key_digest(scope, key), id, scope, key, key_kind, fingerprint, status, token,
        claim_id, holder, due_at, created_at, claimed_at, updated_at, settled_at, answer_until,
        entry_until, disputed, (SELECT number FROM promises WHERE text = orders.promise), doc
    FROM orders ORDER BY seq;
DROP TABLE orders;
ALTER TABLE orders_2 RENAME TO orders;

CREATE INDEX attached ON orders (scope, fingerprint, claimed_at) WHERE key_kind = 'attached';

-- Partial, all of them: what is confirmed is in none but the last two, which are read by time.
-- Who has it (NULL: nobody), from when on it is due (NULL: nobody is to do anything).
CREATE INDEX open ON orders (holder, due_at, status, claimed_at)
    WHERE status IN ('received', 'dispatched', 'in_doubt', 'dead_letter');
CREATE INDEX unconfirmed ON orders (status) WHERE status IN ('dead_letter', 'rejected', 'failed');
CREATE INDEX answers_until ON orders (answer_until) WHERE answer_until IS NOT NULL;
CREATE INDEX entries_until ON orders (entry_until)
    WHERE answer_until IS NULL AND entry_until IS NOT NULL;
