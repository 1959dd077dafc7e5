-- What the engine answered, and on what: a file of its own beside the store, for it is written behind the engine and may
-- lag. Nothing that money depends on is here; what became of an intent stands in the store. Oldest rows are dropped.

CREATE TABLE meta (
    key   TEXT PRIMARY KEY,
    value TEXT NOT NULL
) WITHOUT ROWID;

-- One group on one ledger. `situation` is all that it was decided from (zlib, JSON): `kind` says of which type.
CREATE TABLE moment (
    number      INTEGER PRIMARY KEY,
    ledger      INTEGER NOT NULL,
    close_time  INTEGER NOT NULL,
    place       TEXT NOT NULL,
    payee       TEXT NOT NULL,
    policy_hash TEXT NOT NULL,
    kind        TEXT NOT NULL,
    situation   BLOB NOT NULL
);
CREATE INDEX moment_payee ON moment (payee);

-- What was answered then, one row for each subject with news. `inputs` are the facts as a person reads them (JSON);
-- `kind` is what is done (`intent` is its number) or would be, empty: nothing; `reason` why it is not, empty: it is.
CREATE TABLE answer (
    number  INTEGER PRIMARY KEY,
    moment  INTEGER NOT NULL,
    subject TEXT NOT NULL,
    kind    TEXT NOT NULL,
    because TEXT NOT NULL,
    reason  TEXT NOT NULL,
    path    TEXT NOT NULL,
    target  INTEGER,
    until   INTEGER,
    intent  INTEGER,
    inputs  TEXT NOT NULL
);
CREATE INDEX answer_subject ON answer (subject);
CREATE INDEX answer_moment ON answer (moment);

-- Claim requests that were refused, by the hash of server, topic and id. `because` (JSON) has the rules, facts and policy
-- that refused it; NULL where no policy did.
CREATE TABLE refused (
    number  INTEGER PRIMARY KEY,
    at_unix INTEGER NOT NULL,
    key     BLOB NOT NULL,
    server  TEXT NOT NULL,
    payee   TEXT NOT NULL,
    drops   INTEGER NOT NULL,
    code    TEXT NOT NULL,
    reason  TEXT NOT NULL,
    because TEXT
);
CREATE INDEX refused_key ON refused (key);
