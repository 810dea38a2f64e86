-- The ledger, from version 2 to version 3: by what its gateways know it again, and whether it is
-- one that forgot (sqlite_trust.py).

CREATE TABLE trust (
    one    INTEGER PRIMARY KEY CHECK (one = 1),
    epoch  TEXT NOT NULL, -- made with the file
    forgot TEXT -- since when, why and who says that absence proves nothing; NULL: it does
) STRICT;
INSERT INTO trust (one, epoch) VALUES (1, lower(hex(randomblob(16))));
