"""Claims that payers signed for us: the best one of every channel that pays us, and the ids that brought them.

Shares the one connection and the one way to write of the store. The best claim of a channel only ever rises; the ids
are forgotten after a while, the claims never.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Sequence
from typing import Final

from channeld.adapters.sqlite import rows
from channeld.adapters.sqlite.file import Begin
from channeld.core.channel import Channel
from channeld.core.errors import StoreError
from channeld.core.records import Incoming, IncomingUpdate, TakenIn
from channeld.core.units import ChannelId

COLUMNS: Final = f"{rows.FACTS}, held, signature, server, held_since, lost, closed_at"
LIVE: Final = f"SELECT {COLUMNS} FROM incoming WHERE closed_at IS NULL ORDER BY channel_id"
_TAKEN: Final = "key, contents, channel_id, server, drops, amount"
_UPDATE: Final = ("amount", "balance", "expiration", "ledger_index", "held_since", "lost", "closed_at")
_APPLY: Final = (
    f"INSERT INTO incoming ({COLUMNS}) VALUES ({rows.marks(COLUMNS)})"
    f" ON CONFLICT (channel_id) DO UPDATE SET {', '.join(f'{c} = excluded.{c}' for c in _UPDATE)}"
)
_RAISE: Final = (
    "UPDATE incoming SET held = ?, signature = ?, server = ?, held_since = ?"
    " WHERE channel_id = ? AND held < ? AND closed_at IS NULL"
)


class Claims:
    """`begin` opens a transaction that is on disk when it ends, and raises `StoreError` where that fails."""

    def __init__(self, begin: Begin) -> None:
        self._begin = begin
        self.ids = 0
        """How many are remembered."""
        self.ids_since: int | None = None
        """When the oldest was taken in (Unix seconds)."""
        self.by_server: Counter[str] = Counter()
        """How many of the ids each content server has."""

    def recount(self, db: sqlite3.Connection) -> None:
        """Count again what is on disk."""
        self.ids, self.ids_since = db.execute("SELECT count(*), min(at_unix) FROM taken_in").fetchone()
        self.by_server = Counter(dict(db.execute("SELECT server, count(*) FROM taken_in GROUP BY server")))

    def remembered(self, keys: Sequence[bytes]) -> dict[bytes, TakenIn]:
        """Which of these claims were taken in before. At most a group's keys at a time."""
        query = f"SELECT {_TAKEN} FROM taken_in WHERE key IN ({', '.join('?' * len(keys))})"
        with self._begin() as db:
            return {row[0]: TakenIn(*row) for row in db.execute(query, list(keys))}

    def channel(self, channel_id: ChannelId) -> Incoming | None:
        """A channel that paid us, gone or not, as long as an id of a claim on it is remembered."""
        with self._begin() as db:
            return read(db, channel_id)

    def take_in(self, now: int, taken: Sequence[TakenIn], best: Sequence[Incoming]) -> None:
        """Remember claims, and the best of every channel they are on, or nothing of it. `now` is in Unix seconds.

        An id that was taken in before, and a claim that is not above the one held, are defects of the caller and refuse
        the whole group.
        """
        with self._begin() as db:
            insert = f"INSERT INTO taken_in ({_TAKEN}, at_unix) VALUES (?, ?, ?, ?, ?, ?, ?)"
            db.executemany(insert, [(*item, now) for item in taken])
            for held in best:
                claim = (held.held, held.signature, held.server, held.held_since)
                if db.execute(_RAISE, (*claim, held.channel.channel_id, held.held)).rowcount != 1:
                    raise StoreError("a claim to be kept is not above the one held, or its channel is gone")
        self.ids += len(taken)
        self.ids_since = now if self.ids_since is None else self.ids_since
        self.by_server.update(item.server for item in taken)

    def forget(self, before: int, limit: int) -> int:
        """Drop up to `limit` ids taken in before `before` (Unix seconds), oldest first; how many went."""
        oldest = "SELECT key FROM taken_in WHERE at_unix < ? ORDER BY at_unix LIMIT ?"
        with self._begin() as db:
            delete = f"DELETE FROM taken_in WHERE key IN ({oldest}) RETURNING server"
            servers = [server for (server,) in db.execute(delete, (before, limit))]
            (since,) = db.execute("SELECT min(at_unix) FROM taken_in").fetchone()
        self.ids, self.ids_since = self.ids - len(servers), since
        self.by_server.subtract(servers)
        return len(servers)


def apply(db: sqlite3.Connection, update: IncomingUpdate) -> None:
    """Inside a transaction: what a span of ledgers changes. The claim that is held is not touched."""
    db.executemany(_APPLY, [_row(incoming) for incoming in update.channels])
    db.executemany(
        "INSERT OR IGNORE INTO redeemed (hash, channel_id, ledger, paid, by_account) VALUES (?, ?, ?, ?, ?)",
        [(p.hash, p.channel_id, p.ledger, p.paid, p.by) for p in update.payments],
    )


def load(db: sqlite3.Connection) -> list[Incoming]:
    """Every channel that pays us and is not gone."""
    return [record(row) for row in db.execute(LIVE)]


def read(db: sqlite3.Connection, channel_id: str) -> Incoming | None:
    """A channel that pays us, gone or not; None if it is not in the table."""
    found = db.execute(f"SELECT {COLUMNS} FROM incoming WHERE channel_id = ?", (channel_id,)).fetchone()
    return None if found is None else record(found)


def record(row: rows.Row) -> Incoming:
    """The value of a row in the order of `COLUMNS`."""
    held, signature, server, since, lost, closed_at = row[11:]
    return Incoming(Channel(*row[:11]), held, signature, server, since, bool(lost), closed_at)


def _row(incoming: Incoming) -> rows.Row:
    claim = (incoming.held, incoming.signature, incoming.server, incoming.held_since)
    return (*rows.facts(incoming.channel), *claim, incoming.lost, incoming.closed_at)
