-- The ledger, version 1. Times are ledger time: seconds since the epoch (see sqlite_file.py).

-- Whose file this is, and what ledger time is on this boot: its boot clock + time_offset_s.
CREATE TABLE origin (
    one           INTEGER PRIMARY KEY CHECK (one = 1),
    machine_id    TEXT NOT NULL,
    boot_id       TEXT NOT NULL,
    time_offset_s REAL NOT NULL
) STRICT;

-- Conservation: made = the sum of the statuses + removed. Changed with the rows it counts.
CREATE TABLE tally (
    one         INTEGER PRIMARY KEY CHECK (one = 1),
    made        INTEGER NOT NULL DEFAULT 0,
    removed     INTEGER NOT NULL DEFAULT 0,
    received    INTEGER NOT NULL DEFAULT 0,
    dispatched  INTEGER NOT NULL DEFAULT 0,
    in_doubt    INTEGER NOT NULL DEFAULT 0,
    dead_letter INTEGER NOT NULL DEFAULT 0,
    confirmed   INTEGER NOT NULL DEFAULT 0,
    rejected    INTEGER NOT NULL DEFAULT 0,
    failed      INTEGER NOT NULL DEFAULT 0,
    disputed    INTEGER NOT NULL DEFAULT 0,
    ledger_time REAL NOT NULL DEFAULT 0 -- of the last write: the next boot begins no earlier
) STRICT;
INSERT INTO tally (one) VALUES (1);

-- A process's right to act. A row stays while an entry names it.
CREATE TABLE holders (
    holder     TEXT PRIMARY KEY,
    boot_id    TEXT NOT NULL,
    pid        INTEGER NOT NULL, -- for people
    expires_at REAL NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE orders (
    seq          INTEGER PRIMARY KEY, -- the order of making: what pages are in
    id           TEXT NOT NULL UNIQUE,
    scope        TEXT NOT NULL,
    key          TEXT NOT NULL,
    key_kind     TEXT NOT NULL,
    fingerprint  TEXT NOT NULL,
    status       TEXT NOT NULL,
    token        INTEGER NOT NULL,
    claim_id     TEXT NOT NULL,
    holder       TEXT, -- pending and taken under this hold
    due_at       REAL, -- pending, taken by nobody, to be taken from then on
    created_at   REAL NOT NULL,
    claimed_at   REAL NOT NULL,
    updated_at   REAL NOT NULL,
    settled_at   REAL,
    answer_until REAL, -- there is a body to remove then
    entry_until  REAL,
    disputed     INTEGER NOT NULL,
    promise      TEXT NOT NULL,
    doc          TEXT NOT NULL,
    UNIQUE (scope, key)
) STRICT;

-- Bodies lie apart, so that a change of status does not write them again.
CREATE TABLE requests (
    seq  INTEGER PRIMARY KEY,
    head TEXT NOT NULL,
    body BLOB NOT NULL
) STRICT;

CREATE TABLE answers (
    seq  INTEGER PRIMARY KEY,
    head TEXT NOT NULL,
    body BLOB -- NULL: too large to keep, or past its retention
) STRICT;

CREATE INDEX attached ON orders (scope, fingerprint, claimed_at) WHERE key_kind = 'attached';

-- Partial, all of them: what is confirmed is in none but the last two, which are read by time.
CREATE INDEX held ON orders (holder) WHERE holder IS NOT NULL;
CREATE INDEX due ON orders (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX open ON orders (status, claimed_at)
    WHERE status IN ('received', 'dispatched', 'in_doubt', 'dead_letter');
CREATE INDEX unconfirmed ON orders (status) WHERE status IN ('dead_letter', 'rejected', 'failed');
CREATE INDEX answers_until ON orders (answer_until) WHERE answer_until IS NOT NULL;
CREATE INDEX entries_until ON orders (entry_until)
    WHERE answer_until IS NULL AND entry_until IS NOT NULL;
