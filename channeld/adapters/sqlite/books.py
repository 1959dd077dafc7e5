"""What the store keeps about itself and about money beside the channels: books, freezes, audit, and its own version.

Shares the one connection and the one way to write of the store; every method is one transaction.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable
from typing import Final

from channeld.adapters.sqlite.file import Begin
from channeld.core.budgets import Outlay
from channeld.core.errors import Refused
from channeld.core.freezes import RETIRES, Audit, Cause, Freeze
from channeld.core.records import Booked
from channeld.core.units import Address, ChannelId, RippleTime
from channeld.core.vocabulary import TEN_YEARS_S
from channeld.core.witness import Identity

_FREEZE: Final = "INSERT OR IGNORE INTO freeze (scope, cause, found, who, at_unix) VALUES (?, ?, ?, ?, ?)"
_AUDIT: Final = "INSERT INTO audit (at_unix, who, what, why) VALUES (?, ?, ?, ?)"
_RETIRE: Final = "UPDATE channel SET issuing = 0, adopted = 1 WHERE closed_at IS NULL AND pool <> ''"
_RETIRE_INTENTS: Final = (
    "INSERT OR REPLACE INTO meta SELECT 'retired_intents', CAST(coalesce(max(number), 0) AS TEXT) FROM intent"
)
_ADOPT: Final = (
    "UPDATE channel SET pool = ?, server = '', authorized = max(authorized, ?), issuing = 0, adopted = 1"
    " WHERE channel_id = ? AND closed_at IS NULL AND pool = ''"
)
_OUTLAY: Final = "hash, at, pool, fee, locked, opened, freely_closed, wallet, deadline"
_OUTLAYS: Final = (
    f"SELECT {_OUTLAY} FROM outlay WHERE at > ?1"
    " UNION ALL SELECT '', (hour + 1) * 3600, pool, fee, locked, opened, freely_closed, wallet, deadline"
    " FROM outlay_sum WHERE hour >= ?1 / 3600 ORDER BY at, hash"
)
_SUM_OUTLAY: Final = (
    "INSERT INTO outlay_sum (hour, pool, fee, locked, opened, freely_closed, wallet, deadline)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO"
    " UPDATE SET fee = fee + excluded.fee, locked = locked + excluded.locked, opened = opened + excluded.opened,"
    " freely_closed = freely_closed + excluded.freely_closed"
)


class Books:
    """`begin` opens a transaction that is on disk when it ends, and raises `StoreError` where that fails.

    `retired` is called when no channel known so far may be signed on any more.
    """

    def __init__(self, begin: Begin, retired: Callable[[], None]) -> None:
        self._begin, self._retired = begin, retired

    # --- freezes and audit -------------------------------------------------------------------------------------------

    def freeze(self, freeze: Freeze) -> None:
        """Keep a freeze. The first of a cause stands."""
        with self._begin() as db:
            _freeze(db, freeze)

    def freezes(self) -> list[Freeze]:
        """All that were not lifted."""
        with self._begin() as db:
            return load_freezes(db)

    def thaw(self, scope: str, cause: Cause, audit: Audit) -> None:
        """Lift a freeze. Where it put in doubt how far channels are signed, every channel is retired with it, and every
        one that an intent known by now opens: this store may have been copied while its Create was under way.

        Raises `Refused` if there is no such freeze.
        """
        with self._begin() as db:
            gone = db.execute("DELETE FROM freeze WHERE scope = ? AND cause = ?", (scope, cause.value)).rowcount
            if not gone:
                raise Refused(f"nothing is frozen by {cause.value}" + (f" on {scope}" if scope else ""))
            if cause in RETIRES:
                db.execute(_RETIRE)
                db.execute(_RETIRE_INTENTS)
            keep_audit(db, audit)
        if cause in RETIRES:
            self._retired()

    def retired(self) -> int:
        """The number of the last intent that was retired, with all before it: no claim is issued on what they open."""
        with self._begin() as db:
            return read_retired(db)

    def audit(self, audit: Audit) -> None:
        """Keep who did what, and why."""
        with self._begin() as db:
            keep_audit(db, audit)

    def audits(self, limit: int) -> list[Audit]:
        """The last entries, newest first."""
        with self._begin() as db:
            query = "SELECT at_unix, who, what, why FROM audit ORDER BY seq DESC LIMIT ?"
            return [Audit(*row) for row in db.execute(query, (limit,))]

    def last_policy(self) -> str | None:
        """What the last entry says about a policy that came into force (`policy HASH in force`); None if none does."""
        with self._begin() as db:
            query = "SELECT what FROM audit WHERE what LIKE 'policy % in force' ORDER BY seq DESC LIMIT 1"
            found = db.execute(query).fetchone()
        return None if found is None else str(found[0])

    # --- what was used up over time -----------------------------------------------------------------------------------

    def outlays(self, after: RippleTime) -> list[Outlay]:
        """What transactions of ours took in ledgers that closed after a moment, the oldest first.

        What was summed is one of each pool and hour, as of the hour's end: it counts for up to an hour too long.
        """
        with self._begin() as db:
            return [Outlay(*row) for row in db.execute(_OUTLAYS, (after,))]

    def sum_outlays(self, before: RippleTime, limit: int) -> int:
        """Sum by pool and hour up to `limit` of what was taken before a moment, the oldest first; how many that were.

        Sums that are older than any window can look back go.
        """
        with self._begin() as db:
            oldest = f"SELECT {_OUTLAY} FROM outlay WHERE at < ? ORDER BY at LIMIT ?"
            taken = db.execute(oldest, (before, limit)).fetchall()
            db.executemany(_SUM_OUTLAY, [(at // 3600, *amounts) for _, at, *amounts in taken])
            db.executemany("DELETE FROM outlay WHERE hash = ?", [(tx_hash,) for tx_hash, *_ in taken])
            db.execute("DELETE FROM outlay_sum WHERE hour < ?", ((before - TEN_YEARS_S) // 3600,))
        return len(taken)

    # --- which store this is -----------------------------------------------------------------------------------------

    def identity(self) -> Identity:
        """The store's id, its data version, and where it was last used."""
        with self._begin() as db:
            return read_identity(db)

    def raise_version(self, at_least: int = 0, home: str | None = None) -> Identity:
        """Raise the data version by one, and above `at_least`; `home` is where the store is used from now on."""
        with self._begin() as db:
            now = read_identity(db)
            version = max(now.data_version, at_least) + 1
            _set(db, "data_version", str(version))
            if home is not None:
                _set(db, "home", home)
            return read_identity(db)

    def move(self, home: str) -> None:
        """Say where the store is used from now on, without raising its version."""
        with self._begin() as db:
            _set(db, "home", home)

    # --- channels ----------------------------------------------------------------------------------------------------

    def adopt(self, channels: Iterable[tuple[ChannelId, int]], pool: str, audit: Audit) -> None:
        """Take over quarantined channels, each with the amount that is proven to be signed, to settle and close only.

        All or none; raises `Refused` for one that is not in quarantine.
        """
        with self._begin() as db:
            for channel_id, authorized in channels:
                if db.execute(_ADOPT, (pool, authorized, channel_id)).rowcount != 1:
                    raise Refused(f"{channel_id} is not in quarantine")
            keep_audit(db, audit)


def book(db: sqlite3.Connection, booked: Booked) -> None:
    """Inside a transaction: what a span of ledgers means for money."""
    db.executemany(
        "INSERT INTO income (hash, account, ledger, drops, by_account) VALUES (?, ?, ?, ?, ?)",
        [(i.hash, i.account, i.ledger, i.drops, i.by) for i in booked.incomes],
    )
    db.executemany(
        "INSERT OR IGNORE INTO loss (channel_id, ledger, kind, drops, hash) VALUES (?, ?, ?, ?, ?)",
        [(loss.channel_id, loss.ledger, loss.kind.value, loss.drops, loss.hash) for loss in booked.losses],
    )
    db.executemany(
        f"INSERT OR IGNORE INTO outlay ({_OUTLAY}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (o.hash, o.at, o.pool, o.fee, o.locked, o.opened, o.freely_closed, o.wallet, o.deadline)
            for o in booked.outlays
        ],
    )
    for account, balance in booked.balances.items():
        if balance is None:
            db.execute("DELETE FROM book WHERE account = ?", (account,))
        else:
            db.execute("INSERT OR REPLACE INTO book (account, balance) VALUES (?, ?)", (account, balance))
    for freeze in booked.freezes:
        _freeze(db, freeze)


def load_freezes(db: sqlite3.Connection) -> list[Freeze]:
    """Every freeze that was not lifted, the oldest first."""
    rows = db.execute("SELECT scope, cause, found, who, at_unix FROM freeze ORDER BY at_unix, scope, cause")
    return [Freeze(scope, Cause(cause), found, who, at) for scope, cause, found, who, at in rows]


def load_balances(db: sqlite3.Connection) -> dict[Address, int]:
    """What the balances of our accounts must be as of the last processed ledger."""
    return {Address(account): balance for account, balance in db.execute("SELECT account, balance FROM book")}


def _freeze(db: sqlite3.Connection, freeze: Freeze) -> None:
    values = (freeze.scope, freeze.cause.value, freeze.found, freeze.who, freeze.at)
    if db.execute(_FREEZE, values).rowcount:
        what = f"freeze {freeze.scope or 'everything'} {freeze.cause.value}"
        keep_audit(db, Audit(freeze.at, freeze.who, what, freeze.found))


def keep_audit(db: sqlite3.Connection, audit: Audit) -> None:
    """Inside a transaction: who did what, and why."""
    db.execute(_AUDIT, (audit.at, audit.who, audit.what, audit.why))


def read_identity(db: sqlite3.Connection) -> Identity:
    """What a store says of itself."""
    meta: dict[str, str] = dict(db.execute("SELECT key, value FROM meta").fetchall())
    return Identity(meta.get("store_id", ""), int(meta.get("data_version", 0)), meta.get("home", ""))


def read_retired(db: sqlite3.Connection) -> int:
    """The number of the last intent that was retired; 0: none was."""
    found = db.execute("SELECT value FROM meta WHERE key = 'retired_intents'").fetchone()
    return 0 if found is None else int(found[0])


def _set(db: sqlite3.Connection, key: str, value: str) -> None:
    db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))
