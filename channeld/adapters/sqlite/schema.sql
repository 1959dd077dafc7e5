-- The store of one daemon. Amounts are drops, times are ripple seconds unless the name says unix.
-- A store belongs to one network; channel ids carry none.

CREATE TABLE meta (
    key   TEXT PRIMARY KEY,
    value TEXT NOT NULL
) WITHOUT ROWID;

-- One row a channel: remembered requests refer to it after it is gone, and while they do it stays. No number is ever given
-- again. `authorized` never falls.
-- `cut_short_at` is when its payee ended it early: who keeps doing that waits for the next.
CREATE TABLE channel (
    row              INTEGER PRIMARY KEY AUTOINCREMENT,
    channel_id       TEXT NOT NULL UNIQUE,
    source           TEXT NOT NULL,
    destination      TEXT NOT NULL,
    destination_tag  INTEGER,
    public_key       TEXT NOT NULL,
    amount           INTEGER NOT NULL,
    balance          INTEGER NOT NULL,
    settle_delay     INTEGER NOT NULL,
    expiration       INTEGER,
    cancel_after     INTEGER,
    ledger_index     INTEGER NOT NULL,
    authorized       INTEGER NOT NULL,
    issuing          INTEGER NOT NULL,
    pool             TEXT NOT NULL,
    server           TEXT NOT NULL,
    opened_at        INTEGER NOT NULL,
    last_claim_at    INTEGER NOT NULL,
    unredeemed_since INTEGER,
    closed_at        INTEGER,
    adopted          INTEGER NOT NULL DEFAULT 0,
    user             TEXT NOT NULL DEFAULT '',
    tier             TEXT NOT NULL DEFAULT '',
    cut_short_at     INTEGER
);
CREATE INDEX channel_cut_short ON channel (cut_short_at) WHERE cut_short_at IS NOT NULL;
CREATE INDEX channel_open ON channel (closed_at) WHERE closed_at IS NULL;
CREATE INDEX channel_payee ON channel (destination, opened_at);

-- Channels that a ledger deleted, ours and those that paid us, in the order in which they went (`gone_at`: close time),
-- until they are archived. `last_use` is the number of the last request there was then, of which none later can refer to
-- the channel; of one that paid us the Unix time at which the last claim had been taken in.
CREATE TABLE tombstone (
    number     INTEGER PRIMARY KEY,
    channel_id TEXT NOT NULL,
    incoming   INTEGER NOT NULL,
    gone_at    INTEGER NOT NULL,
    closed_by  TEXT NOT NULL,
    last_use   INTEGER NOT NULL,
    UNIQUE (channel_id, incoming)
);

-- Channels long gone, for ever: what there was, how far it was signed (or held), which transactions opened and closed it
-- (empty: not known), and sums of what was deleted with its row: fees and number of our transactions, what was paid.
CREATE TABLE archive (
    channel_id      TEXT NOT NULL,
    incoming        INTEGER NOT NULL,
    row             INTEGER,
    source          TEXT NOT NULL,
    destination     TEXT NOT NULL,
    destination_tag INTEGER,
    public_key      TEXT NOT NULL,
    amount          INTEGER NOT NULL,
    balance         INTEGER NOT NULL,
    settle_delay    INTEGER NOT NULL,
    expiration      INTEGER,
    cancel_after    INTEGER,
    ledger_index    INTEGER NOT NULL,
    signed          INTEGER NOT NULL,
    pool            TEXT NOT NULL,
    server          TEXT NOT NULL,
    user            TEXT NOT NULL,
    tier            TEXT NOT NULL,
    adopted         INTEGER NOT NULL,
    opened_at       INTEGER,
    last_claim_at   INTEGER,
    cut_short_at    INTEGER,
    closed_at       INTEGER NOT NULL,
    opened_by       TEXT NOT NULL,
    closed_by       TEXT NOT NULL,
    gone_at         INTEGER NOT NULL,
    fees            INTEGER NOT NULL,
    transactions    INTEGER NOT NULL,
    paid            INTEGER NOT NULL,
    payments        INTEGER NOT NULL,
    PRIMARY KEY (channel_id, incoming)
) WITHOUT ROWID;
CREATE INDEX archive_payee ON archive (destination, gone_at);
CREATE INDEX archive_cut_short ON archive (cut_short_at) WHERE cut_short_at IS NOT NULL;

-- Groups of accepted requests as the hot path wrote them (MessagePack), until they are folded into what follows and
-- into `channel`. One row a group, so that a commit costs the same however large the store is.
CREATE TABLE request_group (
    number INTEGER PRIMARY KEY,
    body   BLOB NOT NULL
);

-- What was accepted, in blocks of requests that are numbered from `first` on and were accepted in one second. Filled by
-- folding, dropped from the old end. Of each request: key = hash of (server, topic, id), contents = hash of the rest, 16
-- bytes each; facts = row of the channel, covers from, covers to, and the amount of the claim that answered it, 64 bits
-- each, little-endian. The signature is made again when asked for.
CREATE TABLE request_block (
    first    INTEGER PRIMARY KEY,
    at_unix  INTEGER NOT NULL,
    keys     BLOB NOT NULL,
    contents BLOB NOT NULL,
    facts    BLOB NOT NULL
);

-- Where a request stands: 32 bits of its key times the store's `index_secret`, then the low 31 bits of its number.
CREATE TABLE request_index (
    entry INTEGER PRIMARY KEY
);

-- One row once anything was folded: sums of requests up to this number are in their tables (accepted, spent, usage),
-- although their groups may be there still.
CREATE TABLE summed (
    one     INTEGER PRIMARY KEY,
    request INTEGER NOT NULL
);

-- How many of the remembered requests a content server has, by the hour (Unix time / 3600) they were accepted in.
CREATE TABLE accepted (
    server   TEXT NOT NULL,
    hour     INTEGER NOT NULL,
    requests INTEGER NOT NULL,
    PRIMARY KEY (server, hour)
) WITHOUT ROWID;

-- What a content server spent, by hour (Unix time / 3600): its cap of the day, and what is usual for it, survive a
-- restart. Where the policy asks for it also what a user, payee or tier did, in rows that begin with / and live for a day.
CREATE TABLE spent (
    server TEXT NOT NULL,
    hour   INTEGER NOT NULL,
    drops  INTEGER NOT NULL,
    PRIMARY KEY (server, hour)
) WITHOUT ROWID;

-- What the engine decided to do. Written before anything happens. `pool` is whose budgets it counts against, `path` has
-- the rules that held, apart by spaces.
CREATE TABLE intent (
    number       INTEGER PRIMARY KEY AUTOINCREMENT,
    kind         TEXT NOT NULL,
    wallet       TEXT NOT NULL,
    channel_id   TEXT,
    payee        TEXT,
    payee_tag    INTEGER,
    pool         TEXT,
    server       TEXT,
    target       INTEGER,
    settle_delay INTEGER,
    life         INTEGER,
    reason       TEXT NOT NULL,
    policy_hash  TEXT NOT NULL,
    path         TEXT NOT NULL DEFAULT '',
    decided_at   INTEGER NOT NULL,
    status       TEXT NOT NULL,
    note         TEXT NOT NULL DEFAULT '',
    user         TEXT NOT NULL DEFAULT '',
    tier         TEXT NOT NULL DEFAULT ''
);
CREATE INDEX intent_channel ON intent (channel_id);
CREATE INDEX intent_payee ON intent (payee) WHERE payee IS NOT NULL;
CREATE INDEX intent_open ON intent (status) WHERE status IN ('planned', 'signed');

-- What was signed for it: on disk before it is first submitted. `ended` is NULL while it may still be validated.
CREATE TABLE tx (
    hash         TEXT PRIMARY KEY,
    intent       INTEGER REFERENCES intent (number),
    wallet       TEXT NOT NULL,
    account      TEXT NOT NULL,
    number       INTEGER NOT NULL,
    fee          INTEGER NOT NULL,
    first_ledger INTEGER NOT NULL,
    last_ledger  INTEGER NOT NULL,
    blob         TEXT NOT NULL,
    channel_id   TEXT,
    ticket       INTEGER NOT NULL DEFAULT 0,
    makes        INTEGER NOT NULL DEFAULT 0,
    ended        TEXT,
    ledger       INTEGER
) WITHOUT ROWID;
CREATE UNIQUE INDEX tx_live ON tx (account, number) WHERE ended IS NULL;
CREATE INDEX tx_intent ON tx (intent);

-- What each transaction of ours really took, and when (close time of the ledger): what budgets and the guard on closes
-- count over time.
CREATE TABLE outlay (
    hash          TEXT PRIMARY KEY,
    at            INTEGER NOT NULL,
    pool          TEXT NOT NULL,
    fee           INTEGER NOT NULL,
    locked        INTEGER NOT NULL,
    opened        INTEGER NOT NULL,
    freely_closed INTEGER NOT NULL,
    wallet        TEXT NOT NULL,
    deadline      INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX outlay_at ON outlay (at);

-- What was taken longer ago than any budget in force looks back, by hour (close time / 3600), pool and wallet, deadline
-- work apart: a policy may bring a longer one.
CREATE TABLE outlay_sum (
    hour          INTEGER NOT NULL,
    pool          TEXT NOT NULL,
    fee           INTEGER NOT NULL,
    locked        INTEGER NOT NULL,
    opened        INTEGER NOT NULL,
    freely_closed INTEGER NOT NULL,
    wallet        TEXT NOT NULL,
    deadline      INTEGER NOT NULL,
    PRIMARY KEY (hour, pool, wallet, deadline)
) WITHOUT ROWID;

-- Tickets that we made and that are still there: numbers set aside, each for one transaction at any time.
CREATE TABLE ticket (
    account TEXT NOT NULL,
    number  INTEGER NOT NULL,
    PRIMARY KEY (account, number)
) WITHOUT ROWID;

-- What failed lately: a channel id, or pool/payee, how often in a row, and the close time before which it is left alone;
-- `code` is the ledger's for the last failure, empty where it gave none.
CREATE TABLE setback (
    subject  TEXT PRIMARY KEY,
    failures INTEGER NOT NULL,
    retry_at INTEGER,
    refused  INTEGER NOT NULL,
    code     TEXT NOT NULL
) WITHOUT ROWID;

-- When something was last decided to be opened, funded or settled (close time of the ledger), by channel id or pool/payee:
-- what a cooldown of the policy counts from.
CREATE TABLE acted (
    subject TEXT NOT NULL,
    kind    TEXT NOT NULL,
    at      INTEGER NOT NULL,
    PRIMARY KEY (subject, kind)
) WITHOUT ROWID;

-- What is kept of the demand of each payee (pool/payee, and the user where he has own channels): when it last asked, and
-- the numbers of its forecast as `core.trace` packs them. The rhythm of each pool, as JSON.
CREATE TABLE demand (
    place TEXT PRIMARY KEY,
    at    INTEGER NOT NULL,
    trace BLOB NOT NULL
) WITHOUT ROWID;
CREATE TABLE rhythm (
    pool TEXT PRIMARY KEY,
    body TEXT NOT NULL
) WITHOUT ROWID;

-- Money that reached a payee, from validated metadata only.
CREATE TABLE payment (
    hash       TEXT NOT NULL,
    channel_id TEXT NOT NULL,
    ledger     INTEGER NOT NULL,
    paid       INTEGER NOT NULL,
    by_account TEXT NOT NULL,
    PRIMARY KEY (hash, channel_id)
) WITHOUT ROWID;

-- What came to our accounts from outside: anybody may pay us. `hash` is empty where no transaction was seen.
CREATE TABLE income (
    hash       TEXT NOT NULL,
    account    TEXT NOT NULL,
    ledger     INTEGER NOT NULL,
    drops      INTEGER NOT NULL,
    by_account TEXT NOT NULL
);

-- Payouts that did not happen and cannot happen any more: one a channel at most.
CREATE TABLE loss (
    channel_id TEXT PRIMARY KEY,
    ledger     INTEGER NOT NULL,
    kind       TEXT NOT NULL,
    drops      INTEGER NOT NULL,
    hash       TEXT NOT NULL
) WITHOUT ROWID;

-- What the balance of an account must be as of the last processed ledger; no row where history is missing.
CREATE TABLE book (
    account TEXT PRIMARY KEY,
    balance INTEGER NOT NULL
) WITHOUT ROWID;

-- What stopped issuing and was not lifted yet. `scope` is a wallet's name, or empty for everything.
CREATE TABLE freeze (
    scope   TEXT NOT NULL,
    cause   TEXT NOT NULL,
    found   TEXT NOT NULL,
    who     TEXT NOT NULL,
    at_unix INTEGER NOT NULL,
    PRIMARY KEY (scope, cause)
) WITHOUT ROWID;

-- Who did what by hand, and why; and every freeze.
CREATE TABLE audit (
    seq     INTEGER PRIMARY KEY,
    at_unix INTEGER NOT NULL,
    who     TEXT NOT NULL,
    what    TEXT NOT NULL,
    why     TEXT NOT NULL
);

-- Channels in which an account of ours is the payee; `held` is the best claim that a payer signed for us on it,
-- which only rises. `lost` is 1 once what is held and not paid can never be collected any more.
CREATE TABLE incoming (
    channel_id      TEXT PRIMARY KEY,
    source          TEXT NOT NULL,
    destination     TEXT NOT NULL,
    destination_tag INTEGER,
    public_key      TEXT NOT NULL,
    amount          INTEGER NOT NULL,
    balance         INTEGER NOT NULL,
    settle_delay    INTEGER NOT NULL,
    expiration      INTEGER,
    cancel_after    INTEGER,
    ledger_index    INTEGER NOT NULL,
    held            INTEGER NOT NULL DEFAULT 0,
    signature       TEXT NOT NULL DEFAULT '',
    server          TEXT NOT NULL DEFAULT '',
    held_since      INTEGER,
    lost            INTEGER NOT NULL DEFAULT 0,
    closed_at       INTEGER
) WITHOUT ROWID;
CREATE INDEX incoming_live ON incoming (closed_at) WHERE closed_at IS NULL;

-- Claims that were taken in: key = hash of (server, topic, id), contents = hash of the claim. Dropped from the old end.
CREATE TABLE taken_in (
    key        BLOB PRIMARY KEY,
    contents   BLOB NOT NULL,
    channel_id TEXT NOT NULL,
    server     TEXT NOT NULL,
    drops      INTEGER NOT NULL,
    amount     INTEGER NOT NULL,
    at_unix    INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX taken_in_age ON taken_in (at_unix);

-- Money that channels paid us, from validated metadata only.
CREATE TABLE redeemed (
    hash       TEXT NOT NULL,
    channel_id TEXT NOT NULL,
    ledger     INTEGER NOT NULL,
    paid       INTEGER NOT NULL,
    by_account TEXT NOT NULL,
    PRIMARY KEY (hash, channel_id)
) WITHOUT ROWID;

-- What content servers are still to be told: written with what caused it, gone once the broker has it.
CREATE TABLE event (
    number          INTEGER PRIMARY KEY AUTOINCREMENT,
    server          TEXT NOT NULL,
    seq             INTEGER NOT NULL,
    event           TEXT NOT NULL,
    channel_id      TEXT NOT NULL,
    destination     TEXT NOT NULL,
    destination_tag INTEGER,
    amount          INTEGER NOT NULL,
    balance         INTEGER NOT NULL,
    expiration      INTEGER,
    ledger          INTEGER NOT NULL,
    hash            TEXT,
    paid            INTEGER,
    owed            INTEGER
);
CREATE UNIQUE INDEX event_seq ON event (server, seq);

-- The number of the last event of every content server, for ever: a server that comes back goes on from there.
CREATE TABLE event_last (
    server TEXT PRIMARY KEY,
    seq    INTEGER NOT NULL
) WITHOUT ROWID;

-- What content servers asked for, by hour (Unix time / 3600): for their totals and for operators. What was accepted is
-- added when it is folded, what was rejected from time to time. `payee` is empty where none could be read.
CREATE TABLE usage (
    server   TEXT NOT NULL,
    hour     INTEGER NOT NULL,
    payee    TEXT NOT NULL,
    code     TEXT NOT NULL,
    requests INTEGER NOT NULL,
    drops    INTEGER NOT NULL,
    PRIMARY KEY (server, hour, payee, code)
) WITHOUT ROWID;

-- Channels that a rule wants closed with notice: since when, and when their content servers were told.
CREATE TABLE notice (
    channel_id TEXT PRIMARY KEY,
    due_since  INTEGER,
    noticed_at INTEGER
) WITHOUT ROWID;

-- Spans in which no claim could be had from us, by close times of ledgers.
CREATE TABLE absence (
    began INTEGER PRIMARY KEY,
    ended INTEGER NOT NULL
);
