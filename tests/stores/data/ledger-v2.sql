-- Written by the code of schema 2; see tests/stores/old_ledger.py.
PRAGMA page_size=4096;
BEGIN TRANSACTION;
DROP TABLE IF EXISTS answers;
CREATE TABLE answers (
    seq  INTEGER PRIMARY KEY,
    head TEXT NOT NULL,
    body BLOB -- NULL: too large to keep, or past its retention
) STRICT;
INSERT INTO answers VALUES(5,'201
Phrase
23d5479ba1b41412f1ca61194390157f97254b967a2edac8f0f72e50cdca59eb
attempt
Content-Type
application/json
X-Order
42',X'7B226964223A2034327D');
INSERT INTO answers VALUES(6,'422
Phrase
23d5479ba1b41412f1ca61194390157f97254b967a2edac8f0f72e50cdca59eb
attempt
Content-Type
application/json
X-Order
42',X'7B226964223A2034327D');
INSERT INTO answers VALUES(7,'403
Phrase
23d5479ba1b41412f1ca61194390157f97254b967a2edac8f0f72e50cdca59eb
attempt
Content-Type
application/json
X-Order
42',X'7B226964223A2034327D');
INSERT INTO answers VALUES(8,'201
Phrase
23d5479ba1b41412f1ca61194390157f97254b967a2edac8f0f72e50cdca59eb
attempt
Content-Type
application/json
X-Order
42',X'7B226964223A2034327D');
DROP TABLE IF EXISTS holders;
CREATE TABLE holders (
    holder     TEXT PRIMARY KEY,
    boot_id    TEXT NOT NULL,
    pid        INTEGER NOT NULL, -- for people
    expires_at REAL NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO holders VALUES('2dbf956861125c4d','boot-1',2131,1800000010.0);
DROP TABLE IF EXISTS orders;
CREATE TABLE "orders" (
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
INSERT INTO orders VALUES(1,X'387E3192D0F5FAD57A40BBBAF323329E','order-2131-1','scope','received','given','r1:aa','received',1,'claim-2131-1',NULL,1800000000.0,1800000000.0,1800000000.0,1800000000.0,NULL,NULL,NULL,0,1,'["upstream-2131-1","c1:aa",1800000000.0,null,0.0,0,[[1,1800000000.0,true,false,"not_sent","connect_refused",null,0,false]],[[1800000000.0,null,"dispatched","claimed","replica-1",1,null,null],[1800000000.0,"dispatched","received","not_sent","replica-1",1,"connect_refused",null]]]');
INSERT INTO orders VALUES(2,X'BB8059F5F58D013B8917A7BD666CCA00','order-2131-2','scope','dispatched','given','r1:aa','dispatched',1,'claim-2131-2','2dbf956861125c4d',NULL,1800000000.0,1800000000.0,1800000000.0,NULL,NULL,NULL,0,1,'["upstream-2131-2","c1:aa",1800000000.0,null,0.0,0,[[1,1800000000.0,true,false,null,null,null,0,false]],[[1800000000.0,null,"dispatched","claimed","replica-1",1,null,null]]]');
INSERT INTO orders VALUES(3,X'F1027D42DA4D196ECBE519054734E64F','order-2131-3','scope','in-doubt','given','r1:aa','in_doubt',1,'claim-2131-3',NULL,1800000005.0,1800000000.0,1800000000.0,1800000000.0,NULL,NULL,NULL,0,1,'["upstream-2131-3","c1:aa",1800000000.0,1800000000.0,0.0,0,[[1,1800000000.0,true,false,"lost","timeout",null,100,false]],[[1800000000.0,null,"dispatched","claimed","replica-1",1,null,null],[1800000000.0,"dispatched","in_doubt","no_answer","replica-1",1,"timeout",null]]]');
INSERT INTO orders VALUES(4,X'4F095ADFE21C26BEDEDF99090D5CB80E','order-2131-4','scope','dead-letter','given','r1:aa','dead_letter',1,'claim-2131-4',NULL,NULL,1800000000.0,1800000000.0,1800000000.0,NULL,NULL,NULL,0,1,'["upstream-2131-4","c1:aa",1800000000.0,1800000000.0,0.0,0,[[1,1800000000.0,true,false,"lost","timeout",null,100,false]],[[1800000000.0,null,"dispatched","claimed","replica-1",1,null,null],[1800000000.0,"dispatched","in_doubt","no_answer","replica-1",1,"timeout",null],[1800000000.0,"in_doubt","dead_letter","doubt_deadline","replica-1",null,null,null]]]');
INSERT INTO orders VALUES(5,X'C0115D88F108C2155362564A2A22611F','order-2131-5','scope','confirmed','given','r1:aa','confirmed',1,'claim-2131-5',NULL,NULL,1800000000.0,1800000000.0,1800000000.0,1800000000.0,1800001000.0,1800006000.0,0,1,'["upstream-2131-5","c1:aa",1800000000.0,null,0.0,0,[[1,1800000000.0,true,false,"answered",null,201,0,false]],[[1800000000.0,null,"dispatched","claimed","replica-1",1,null,null],[1800000000.0,"dispatched","confirmed","confirmed_by_answer","replica-1",1,"201",null]]]');
INSERT INTO orders VALUES(6,X'61C5A054A148087AFB31AD0AE59970F2','order-2131-6','scope','rejected','given','r1:aa','rejected',1,'claim-2131-6',NULL,NULL,1800000000.0,1800000000.0,1800000000.0,1800000000.0,1800001000.0,1800006000.0,0,1,'["upstream-2131-6","c1:aa",1800000000.0,null,0.0,0,[[1,1800000000.0,true,false,"answered",null,422,0,true]],[[1800000000.0,null,"dispatched","claimed","replica-1",1,null,null],[1800000000.0,"dispatched","rejected","refused_by_answer","replica-1",1,"422",null]]]');
INSERT INTO orders VALUES(7,X'346CD2F80A05BBDA6C89134F8929F42D','order-2131-7','scope','failed','given','r1:aa','failed',1,'claim-2131-7',NULL,NULL,1800000000.0,1800000000.0,1800000000.0,1800000000.0,1800001000.0,1800006000.0,0,1,'["upstream-2131-7","c1:aa",1800000000.0,null,0.0,0,[[1,1800000000.0,true,false,"answered",null,403,0,true]],[[1800000000.0,null,"dispatched","claimed","replica-1",1,null,null],[1800000000.0,"dispatched","failed","not_admitted","replica-1",1,"403",null]]]');
INSERT INTO orders VALUES(8,X'D9C4D0BA847F90F8F39C8A4A1869003F','order-2131-9','scope','made-8','attached','r1:attached','confirmed',1,'claim-2131-9',NULL,NULL,1800000000.0,1800000000.0,1800000000.0,1800000000.0,1800001000.0,1800006000.0,0,1,'["upstream-2131-9","c1:aa",1800000000.0,null,0.0,0,[[1,1800000000.0,true,false,"answered",null,201,0,false]],[[1800000000.0,null,"dispatched","claimed","replica-1",1,null,null],[1800000000.0,"dispatched","confirmed","confirmed_by_answer","replica-1",1,"201",null]]]');
CREATE INDEX answers_until ON orders (answer_until) WHERE answer_until IS NOT NULL;
CREATE INDEX attached ON orders (scope, fingerprint, claimed_at) WHERE key_kind = 'attached';
CREATE INDEX entries_until ON orders (entry_until)
    WHERE answer_until IS NULL AND entry_until IS NOT NULL;
CREATE INDEX open ON orders (holder, due_at, status, claimed_at)
    WHERE status IN ('received', 'dispatched', 'in_doubt', 'dead_letter');
CREATE INDEX unconfirmed ON orders (status) WHERE status IN ('dead_letter', 'rejected', 'failed');
DROP TABLE IF EXISTS origin;
CREATE TABLE origin (
    one           INTEGER PRIMARY KEY CHECK (one = 1),
    machine_id    TEXT NOT NULL,
    boot_id       TEXT NOT NULL,
    time_offset_s REAL NOT NULL
) STRICT;
INSERT INTO origin VALUES(1,'machine-1','boot-1',1799999500.0);
DROP TABLE IF EXISTS promises;
CREATE TABLE promises (
    number INTEGER PRIMARY KEY,
    text   TEXT NOT NULL UNIQUE -- never removed: one a route and configuration
) STRICT;
INSERT INTO promises VALUES(1,'{"route":"place-order","upstream":"backend","capabilities":["lookup"],"lookup":{"method":"GET","target":"/orders?idempotency_key={key}","echo":null,"headers_file":null},"outcomes":{"confirmed_when":[],"rejected_when":[],"not_admitted_when":[],"not_processed_when":[],"in_doubt_when":[],"answer_id":null},"answer_within_s":10.0,"attempt_timeout_s":5.0,"settle_s":30.0,"place_within_s":900.0,"doubt_within_s":3600.0,"attach_window_s":60.0,"dedup_for_s":0.0,"retention_s":1000.0,"tombstone_s":5000.0,"answer_bytes_max":1048576,"invalidates":["/orders"]}');
DROP TABLE IF EXISTS requests;
CREATE TABLE requests (
    seq  INTEGER PRIMARY KEY,
    head TEXT NOT NULL,
    body BLOB NOT NULL
) STRICT;
INSERT INTO requests VALUES(1,'POST
/orders
Host
backend',X'7B22736B75223A20317D');
INSERT INTO requests VALUES(2,'POST
/orders
Host
backend',X'7B22736B75223A20317D');
INSERT INTO requests VALUES(3,'POST
/orders
Host
backend',X'7B22736B75223A20317D');
INSERT INTO requests VALUES(4,'POST
/orders
Host
backend',X'7B22736B75223A20317D');
DROP TABLE IF EXISTS tally;
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
INSERT INTO tally VALUES(1,8,0,1,1,1,1,2,1,1,0,1800000000.0);
pragma user_version=2;
pragma application_id=219026087;
COMMIT TRANSACTION;
