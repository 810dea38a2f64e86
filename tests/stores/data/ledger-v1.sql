-- Written by the code of schema 1; see tests/stores/old_ledger.py.
PRAGMA page_size=4096;
BEGIN TRANSACTION;
DROP TABLE IF EXISTS answers;
CREATE TABLE answers (
    seq  INTEGER PRIMARY KEY,
    head TEXT NOT NULL,
    body BLOB -- NULL: too large to keep, or past its retention
) STRICT;
INSERT INTO answers VALUES(5,'[201,"Phrase",[["Content-Type","application/json"],["X-Order","42"]],"23d5479ba1b41412f1ca61194390157f97254b967a2edac8f0f72e50cdca59eb","attempt"]',X'7B226964223A2034327D');
INSERT INTO answers VALUES(6,'[422,"Phrase",[["Content-Type","application/json"],["X-Order","42"]],"23d5479ba1b41412f1ca61194390157f97254b967a2edac8f0f72e50cdca59eb","attempt"]',X'7B226964223A2034327D');
INSERT INTO answers VALUES(7,'[403,"Phrase",[["Content-Type","application/json"],["X-Order","42"]],"23d5479ba1b41412f1ca61194390157f97254b967a2edac8f0f72e50cdca59eb","attempt"]',X'7B226964223A2034327D');
INSERT INTO answers VALUES(8,'[201,"Phrase",[["Content-Type","application/json"],["X-Order","42"]],"23d5479ba1b41412f1ca61194390157f97254b967a2edac8f0f72e50cdca59eb","attempt"]',X'7B226964223A2034327D');
DROP TABLE IF EXISTS holders;
CREATE TABLE holders (
    holder     TEXT PRIMARY KEY,
    boot_id    TEXT NOT NULL,
    pid        INTEGER NOT NULL, -- for people
    expires_at REAL NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO holders VALUES('c421822d14b0002e','boot-1',17301,1800000010.0);
DROP TABLE IF EXISTS orders;
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
INSERT INTO orders VALUES(1,'order-17301-1','scope','received','given','r1:aa','received',1,'claim-17301-1',NULL,1800000000.0,1800000000.0,1800000000.0,1800000000.0,NULL,NULL,NULL,0,'{"route":"place-order","upstream":"backend","capabilities":["lookup"],"lookup":{"method":"GET","target":"/orders?idempotency_key={key}","echo":null,"headers_file":null},"outcomes":{"confirmed_when":[],"rejected_when":[],"not_admitted_when":[],"not_processed_when":[],"in_doubt_when":[],"answer_id":null},"answer_within_s":10.0,"attempt_timeout_s":5.0,"settle_s":30.0,"place_within_s":900.0,"doubt_within_s":3600.0,"attach_window_s":60.0,"dedup_for_s":0.0,"retention_s":1000.0,"tombstone_s":5000.0,"answer_bytes_max":1048576,"invalidates":["/orders"]}','{"upstream_key":"upstream-17301-1","canonical_fingerprint":"c1:aa","first_dispatched_at":1800000000.0,"doubt_since":null,"not_before":0.0,"quiet_attempt":0,"attempts":[{"number":1,"began_at":1800000000.0,"after_quiet":true,"resend":false,"result":"not_sent","reason":"connect_refused","answer_status":null,"written_bytes":0,"made_nothing":false}],"events":[{"at":1800000000.0,"source":null,"target":"dispatched","reason":"claimed","who":"replica-1","attempt":1,"detail":null,"nonce":null},{"at":1800000000.0,"source":"dispatched","target":"received","reason":"not_sent","who":"replica-1","attempt":1,"detail":"connect_refused","nonce":null}]}');
INSERT INTO orders VALUES(2,'order-17301-2','scope','dispatched','given','r1:aa','dispatched',1,'claim-17301-2','c421822d14b0002e',NULL,1800000000.0,1800000000.0,1800000000.0,NULL,NULL,NULL,0,'{"route":"place-order","upstream":"backend","capabilities":["lookup"],"lookup":{"method":"GET","target":"/orders?idempotency_key={key}","echo":null,"headers_file":null},"outcomes":{"confirmed_when":[],"rejected_when":[],"not_admitted_when":[],"not_processed_when":[],"in_doubt_when":[],"answer_id":null},"answer_within_s":10.0,"attempt_timeout_s":5.0,"settle_s":30.0,"place_within_s":900.0,"doubt_within_s":3600.0,"attach_window_s":60.0,"dedup_for_s":0.0,"retention_s":1000.0,"tombstone_s":5000.0,"answer_bytes_max":1048576,"invalidates":["/orders"]}','{"upstream_key":"upstream-17301-2","canonical_fingerprint":"c1:aa","first_dispatched_at":1800000000.0,"doubt_since":null,"not_before":0.0,"quiet_attempt":0,"attempts":[{"number":1,"began_at":1800000000.0,"after_quiet":true,"resend":false,"result":null,"reason":null,"answer_status":null,"written_bytes":0,"made_nothing":false}],"events":[{"at":1800000000.0,"source":null,"target":"dispatched","reason":"claimed","who":"replica-1","attempt":1,"detail":null,"nonce":null}]}');
INSERT INTO orders VALUES(3,'order-17301-3','scope','in-doubt','given','r1:aa','in_doubt',1,'claim-17301-3',NULL,1800000005.0,1800000000.0,1800000000.0,1800000000.0,NULL,NULL,NULL,0,'{"route":"place-order","upstream":"backend","capabilities":["lookup"],"lookup":{"method":"GET","target":"/orders?idempotency_key={key}","echo":null,"headers_file":null},"outcomes":{"confirmed_when":[],"rejected_when":[],"not_admitted_when":[],"not_processed_when":[],"in_doubt_when":[],"answer_id":null},"answer_within_s":10.0,"attempt_timeout_s":5.0,"settle_s":30.0,"place_within_s":900.0,"doubt_within_s":3600.0,"attach_window_s":60.0,"dedup_for_s":0.0,"retention_s":1000.0,"tombstone_s":5000.0,"answer_bytes_max":1048576,"invalidates":["/orders"]}','{"upstream_key":"upstream-17301-3","canonical_fingerprint":"c1:aa","first_dispatched_at":1800000000.0,"doubt_since":1800000000.0,"not_before":0.0,"quiet_attempt":0,"attempts":[{"number":1,"began_at":1800000000.0,"after_quiet":true,"resend":false,"result":"lost","reason":"timeout","answer_status":null,"written_bytes":100,"made_nothing":false}],"events":[{"at":1800000000.0,"source":null,"target":"dispatched","reason":"claimed","who":"replica-1","attempt":1,"detail":null,"nonce":null},{"at":1800000000.0,"source":"dispatched","target":"in_doubt","reason":"no_answer","who":"replica-1","attempt":1,"detail":"timeout","nonce":null}]}');
INSERT INTO orders VALUES(4,'order-17301-4','scope','dead-letter','given','r1:aa','dead_letter',1,'claim-17301-4',NULL,NULL,1800000000.0,1800000000.0,1800000000.0,NULL,NULL,NULL,0,'{"route":"place-order","upstream":"backend","capabilities":["lookup"],"lookup":{"method":"GET","target":"/orders?idempotency_key={key}","echo":null,"headers_file":null},"outcomes":{"confirmed_when":[],"rejected_when":[],"not_admitted_when":[],"not_processed_when":[],"in_doubt_when":[],"answer_id":null},"answer_within_s":10.0,"attempt_timeout_s":5.0,"settle_s":30.0,"place_within_s":900.0,"doubt_within_s":3600.0,"attach_window_s":60.0,"dedup_for_s":0.0,"retention_s":1000.0,"tombstone_s":5000.0,"answer_bytes_max":1048576,"invalidates":["/orders"]}','{"upstream_key":"upstream-17301-4","canonical_fingerprint":"c1:aa","first_dispatched_at":1800000000.0,"doubt_since":1800000000.0,"not_before":0.0,"quiet_attempt":0,"attempts":[{"number":1,"began_at":1800000000.0,"after_quiet":true,"resend":false,"result":"lost","reason":"timeout","answer_status":null,"written_bytes":100,"made_nothing":false}],"events":[{"at":1800000000.0,"source":null,"target":"dispatched","reason":"claimed","who":"replica-1","attempt":1,"detail":null,"nonce":null},{"at":1800000000.0,"source":"dispatched","target":"in_doubt","reason":"no_answer","who":"replica-1","attempt":1,"detail":"timeout","nonce":null},{"at":1800000000.0,"source":"in_doubt","target":"dead_letter","reason":"doubt_deadline","who":"replica-1","attempt":null,"detail":null,"nonce":null}]}');
INSERT INTO orders VALUES(5,'order-17301-5','scope','confirmed','given','r1:aa','confirmed',1,'claim-17301-5',NULL,NULL,1800000000.0,1800000000.0,1800000000.0,1800000000.0,1800001000.0,1800006000.0,0,'{"route":"place-order","upstream":"backend","capabilities":["lookup"],"lookup":{"method":"GET","target":"/orders?idempotency_key={key}","echo":null,"headers_file":null},"outcomes":{"confirmed_when":[],"rejected_when":[],"not_admitted_when":[],"not_processed_when":[],"in_doubt_when":[],"answer_id":null},"answer_within_s":10.0,"attempt_timeout_s":5.0,"settle_s":30.0,"place_within_s":900.0,"doubt_within_s":3600.0,"attach_window_s":60.0,"dedup_for_s":0.0,"retention_s":1000.0,"tombstone_s":5000.0,"answer_bytes_max":1048576,"invalidates":["/orders"]}','{"upstream_key":"upstream-17301-5","canonical_fingerprint":"c1:aa","first_dispatched_at":1800000000.0,"doubt_since":null,"not_before":0.0,"quiet_attempt":0,"attempts":[{"number":1,"began_at":1800000000.0,"after_quiet":true,"resend":false,"result":"answered","reason":null,"answer_status":201,"written_bytes":0,"made_nothing":false}],"events":[{"at":1800000000.0,"source":null,"target":"dispatched","reason":"claimed","who":"replica-1","attempt":1,"detail":null,"nonce":null},{"at":1800000000.0,"source":"dispatched","target":"confirmed","reason":"confirmed_by_answer","who":"replica-1","attempt":1,"detail":"201","nonce":null}]}');
INSERT INTO orders VALUES(6,'order-17301-6','scope','rejected','given','r1:aa','rejected',1,'claim-17301-6',NULL,NULL,1800000000.0,1800000000.0,1800000000.0,1800000000.0,1800001000.0,1800006000.0,0,'{"route":"place-order","upstream":"backend","capabilities":["lookup"],"lookup":{"method":"GET","target":"/orders?idempotency_key={key}","echo":null,"headers_file":null},"outcomes":{"confirmed_when":[],"rejected_when":[],"not_admitted_when":[],"not_processed_when":[],"in_doubt_when":[],"answer_id":null},"answer_within_s":10.0,"attempt_timeout_s":5.0,"settle_s":30.0,"place_within_s":900.0,"doubt_within_s":3600.0,"attach_window_s":60.0,"dedup_for_s":0.0,"retention_s":1000.0,"tombstone_s":5000.0,"answer_bytes_max":1048576,"invalidates":["/orders"]}','{"upstream_key":"upstream-17301-6","canonical_fingerprint":"c1:aa","first_dispatched_at":1800000000.0,"doubt_since":null,"not_before":0.0,"quiet_attempt":0,"attempts":[{"number":1,"began_at":1800000000.0,"after_quiet":true,"resend":false,"result":"answered","reason":null,"answer_status":422,"written_bytes":0,"made_nothing":true}],"events":[{"at":1800000000.0,"source":null,"target":"dispatched","reason":"claimed","who":"replica-1","attempt":1,"detail":null,"nonce":null},{"at":1800000000.0,"source":"dispatched","target":"rejected","reason":"refused_by_answer","who":"replica-1","attempt":1,"detail":"422","nonce":null}]}');
INSERT INTO orders VALUES(7,'order-17301-7','scope','failed','given','r1:aa','failed',1,'claim-17301-7',NULL,NULL,1800000000.0,1800000000.0,1800000000.0,1800000000.0,1800001000.0,1800006000.0,0,'{"route":"place-order","upstream":"backend","capabilities":["lookup"],"lookup":{"method":"GET","target":"/orders?idempotency_key={key}","echo":null,"headers_file":null},"outcomes":{"confirmed_when":[],"rejected_when":[],"not_admitted_when":[],"not_processed_when":[],"in_doubt_when":[],"answer_id":null},"answer_within_s":10.0,"attempt_timeout_s":5.0,"settle_s":30.0,"place_within_s":900.0,"doubt_within_s":3600.0,"attach_window_s":60.0,"dedup_for_s":0.0,"retention_s":1000.0,"tombstone_s":5000.0,"answer_bytes_max":1048576,"invalidates":["/orders"]}','{"upstream_key":"upstream-17301-7","canonical_fingerprint":"c1:aa","first_dispatched_at":1800000000.0,"doubt_since":null,"not_before":0.0,"quiet_attempt":0,"attempts":[{"number":1,"began_at":1800000000.0,"after_quiet":true,"resend":false,"result":"answered","reason":null,"answer_status":403,"written_bytes":0,"made_nothing":true}],"events":[{"at":1800000000.0,"source":null,"target":"dispatched","reason":"claimed","who":"replica-1","attempt":1,"detail":null,"nonce":null},{"at":1800000000.0,"source":"dispatched","target":"failed","reason":"not_admitted","who":"replica-1","attempt":1,"detail":"403","nonce":null}]}');
INSERT INTO orders VALUES(8,'order-17301-9','scope','made-8','attached','r1:attached','confirmed',1,'claim-17301-9',NULL,NULL,1800000000.0,1800000000.0,1800000000.0,1800000000.0,1800001000.0,1800006000.0,0,'{"route":"place-order","upstream":"backend","capabilities":["lookup"],"lookup":{"method":"GET","target":"/orders?idempotency_key={key}","echo":null,"headers_file":null},"outcomes":{"confirmed_when":[],"rejected_when":[],"not_admitted_when":[],"not_processed_when":[],"in_doubt_when":[],"answer_id":null},"answer_within_s":10.0,"attempt_timeout_s":5.0,"settle_s":30.0,"place_within_s":900.0,"doubt_within_s":3600.0,"attach_window_s":60.0,"dedup_for_s":0.0,"retention_s":1000.0,"tombstone_s":5000.0,"answer_bytes_max":1048576,"invalidates":["/orders"]}','{"upstream_key":"upstream-17301-9","canonical_fingerprint":"c1:aa","first_dispatched_at":1800000000.0,"doubt_since":null,"not_before":0.0,"quiet_attempt":0,"attempts":[{"number":1,"began_at":1800000000.0,"after_quiet":true,"resend":false,"result":"answered","reason":null,"answer_status":201,"written_bytes":0,"made_nothing":false}],"events":[{"at":1800000000.0,"source":null,"target":"dispatched","reason":"claimed","who":"replica-1","attempt":1,"detail":null,"nonce":null},{"at":1800000000.0,"source":"dispatched","target":"confirmed","reason":"confirmed_by_answer","who":"replica-1","attempt":1,"detail":"201","nonce":null}]}');
CREATE INDEX answers_until ON orders (answer_until) WHERE answer_until IS NOT NULL;
CREATE INDEX attached ON orders (scope, fingerprint, claimed_at) WHERE key_kind = 'attached';
CREATE INDEX due ON orders (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX entries_until ON orders (entry_until)
    WHERE answer_until IS NULL AND entry_until IS NOT NULL;
CREATE INDEX held ON orders (holder) WHERE holder IS NOT NULL;
CREATE INDEX open ON orders (status, claimed_at)
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
DROP TABLE IF EXISTS requests;
CREATE TABLE requests (
    seq  INTEGER PRIMARY KEY,
    head TEXT NOT NULL,
    body BLOB NOT NULL
) STRICT;
INSERT INTO requests VALUES(1,'["POST","/orders",[["Host","backend"]]]',X'7B22736B75223A20317D');
INSERT INTO requests VALUES(2,'["POST","/orders",[["Host","backend"]]]',X'7B22736B75223A20317D');
INSERT INTO requests VALUES(3,'["POST","/orders",[["Host","backend"]]]',X'7B22736B75223A20317D');
INSERT INTO requests VALUES(4,'["POST","/orders",[["Host","backend"]]]',X'7B22736B75223A20317D');
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
pragma user_version=1;
pragma application_id=219026087;
COMMIT TRANSACTION;
