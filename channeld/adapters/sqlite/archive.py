"""Channels that are gone: tombstones first, an entry of the archive later.

A channel that a ledger deleted keeps its row: remembered requests refer to it, and their claims are signed from it
again. With it comes a tombstone, which says when it went and what the last request was that can refer to it. Once it is
old enough and nothing refers to it any more, one transaction writes its entry in the archive and deletes its row, its
intents, their transactions and its payments. Numbers of rows and intents are never given again.

An id that is in the archive, or under a tombstone, is gone for ever: whatever a node says, `gone` says so.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from itertools import takewhile
from typing import Final, NamedTuple

from channeld.adapters.sqlite import rows
from channeld.adapters.sqlite.file import Begin
from channeld.core.channel import Channel
from channeld.core.records import Archived, ChannelRecord, Incoming, LedgerUpdate
from channeld.core.units import ChannelId, RippleTime

_TOMBSTONE: Final = (
    "INSERT OR IGNORE INTO tombstone (channel_id, incoming, gone_at, closed_by, last_use) VALUES (?, ?, ?, ?, ?)"
)
_OLD: Final = (
    "SELECT number, channel_id, incoming, gone_at, closed_by, last_use FROM tombstone WHERE number > ?"
    " ORDER BY number LIMIT ?"
)
_LAST_TAKEN_IN: Final = "SELECT coalesce(max(at_unix), 0) FROM taken_in"
_FIRST_TAKEN_IN: Final = "SELECT min(at_unix) FROM taken_in"
_GONE: Final = (
    "SELECT EXISTS (SELECT 1 FROM {table} WHERE channel_id = ?1 AND closed_at IS NOT NULL)"
    " OR EXISTS (SELECT 1 FROM archive WHERE channel_id = ?1 AND incoming = {incoming})"
)
_BUSY: Final = (
    "SELECT EXISTS (SELECT 1 FROM intent WHERE channel_id = ?1 AND status IN ('planned', 'signed'))"
    " OR EXISTS (SELECT 1 FROM intent i JOIN tx t ON t.intent = i.number WHERE i.channel_id = ?1 AND t.ended IS NULL)"
    " OR EXISTS (SELECT 1 FROM notice WHERE channel_id = ?1)"
)
"""Something is still being done about a channel."""
_OWING: Final = {
    0: "SELECT authorized > balance AND NOT EXISTS (SELECT 1 FROM loss l WHERE l.channel_id = c.channel_id)"
    " FROM channel c WHERE channel_id = ? AND closed_at IS NOT NULL",
    1: "SELECT held > balance AND NOT lost FROM incoming WHERE channel_id = ? AND closed_at IS NOT NULL",
}
"""Something was signed, is not paid, and is not booked as lost; no row where the channel is not known to be gone."""
_KEPT: Final = (
    f"{rows.FACTS}, signed, pool, server, user, tier, adopted, opened_at, last_claim_at, cut_short_at, closed_at"
)
_SOURCE: Final = {
    0: f"SELECT row, {_KEPT.replace('signed', 'authorized')} FROM channel WHERE channel_id = ?",
    1: f"SELECT NULL, {rows.FACTS}, held, '', server, '', '', 0, NULL, NULL, NULL, closed_at"
    " FROM incoming WHERE channel_id = ?",
}
_MINE: Final = {0: "kind <> 'redeem'", 1: "kind = 'redeem'"}
"""Which intents are about a channel as one of ours, and as one that pays us: it can be both."""
_SUMS: Final = (
    "SELECT coalesce(max(CASE WHEN i.kind = 'open' AND t.ledger IS NOT NULL THEN t.hash END), ''),"
    " coalesce(sum(CASE WHEN t.ledger IS NOT NULL THEN t.fee END), 0), count(t.hash)"
    " FROM intent i JOIN tx t ON t.intent = i.number WHERE i.channel_id = ? AND i.{mine}"
)
_PAID: Final = "SELECT coalesce(sum(paid), 0), count(*) FROM {table} WHERE channel_id = ?"
_PAYMENTS: Final = {0: "payment", 1: "redeemed"}
_TABLE: Final = {0: "channel", 1: "incoming"}
_ADDED: Final = "opened_by, fees, transactions, paid, payments, gone_at, closed_by"
_COLUMNS: Final = f"incoming, row, {_KEPT}, {_ADDED}"
_READ: Final = f"SELECT {_COLUMNS} FROM archive"


class Slice(NamedTuple):
    """How many tombstones were looked at, the number of the last of them, and which channels are archived now."""

    looked_at: int
    last: int
    archived: list[ChannelId]


class Archive:
    """`begin` opens a transaction that is on disk when it ends; `oldest` is the number of the oldest request that is
    remembered, or the next one's.
    """

    def __init__(self, begin: Begin, oldest: Callable[[], int]) -> None:
        self._begin, self._oldest = begin, oldest

    def move(self, before: RippleTime, after: int, limit: int) -> Slice:
        """Look at up to `limit` tombstones numbered above `after` of channels that went before a moment, and archive
        those to which nothing refers. One transaction. Raises `StoreError`.
        """
        moved = []
        with self._begin() as db:
            listed = db.execute(_OLD, (after, limit)).fetchall()
            found = list(takewhile(lambda row: row[3] < before, listed))  # they went in this order
            (taken_in,) = db.execute(_FIRST_TAKEN_IN).fetchone()
            for number, channel_id, incoming, gone_at, closed_by, last_use in found:
                used = (taken_in is not None and taken_in <= last_use) if incoming else self._oldest() <= last_use
                if not used and _free(db, channel_id, incoming):
                    _move(db, channel_id, incoming, (gone_at, closed_by))
                    db.execute("DELETE FROM tombstone WHERE number = ?", (number,))
                    moved.append(ChannelId(channel_id))
        return Slice(len(found), found[-1][0] if found else after, moved)


def gone(db: sqlite3.Connection, channel_id: ChannelId, *, incoming: bool) -> bool:
    """Whether a ledger deleted this channel, of ours or one that pays us, however long ago."""
    query = _GONE.format(table=_TABLE[incoming], incoming=int(incoming))
    return bool(db.execute(query, (channel_id,)).fetchone()[0])


def bury(db: sqlite3.Connection, update: LedgerUpdate, last_request: int) -> None:
    """Inside the transaction of a ledger: what it deleted gets its tombstone. No later request refers to it."""
    ours = [r for r in (*update.channels, *update.new_channels) if r.closed_at is not None]
    theirs = [held for held in update.incoming.channels if held.closed_at is not None]
    if theirs:
        (taken_in,) = db.execute(_LAST_TAKEN_IN).fetchone()
        db.executemany(
            _TOMBSTONE, [(h.channel.channel_id, 1, update.close_time, h.closed_by, taken_in) for h in theirs]
        )
    db.executemany(_TOMBSTONE, [(r.channel.channel_id, 0, update.close_time, r.closed_by, last_request) for r in ours])


def last_use(db: sqlite3.Connection) -> int:
    """The highest number of a request that a tombstone names: no request may get it, or a lower one, again."""
    return int(db.execute("SELECT coalesce(max(last_use), 0) FROM tombstone WHERE NOT incoming").fetchone()[0])


def _free(db: sqlite3.Connection, channel_id: str, incoming: int) -> bool:
    """Whether nothing is done about a channel any more, and nothing is owed on it."""
    owing = db.execute(_OWING[incoming], (channel_id,)).fetchone()
    return owing is not None and not owing[0] and not db.execute(_BUSY, (channel_id,)).fetchone()[0]


def _move(db: sqlite3.Connection, channel_id: str, incoming: int, went: tuple[int, str]) -> None:
    """Its entry, in the place of everything that the live tables have of it."""
    kept = db.execute(_SOURCE[incoming], (channel_id,)).fetchone()
    sums = db.execute(_SUMS.format(mine=_MINE[incoming]), (channel_id,)).fetchone()
    paid = db.execute(_PAID.format(table=_PAYMENTS[incoming]), (channel_id,)).fetchone()
    db.execute(
        f"INSERT INTO archive ({_COLUMNS}) VALUES ({rows.marks(_COLUMNS)})", (incoming, *kept, *sums, *paid, *went)
    )
    mine = f"SELECT number FROM intent WHERE channel_id = ? AND {_MINE[incoming]}"
    for delete in (
        f"DELETE FROM tx WHERE intent IN ({mine})",
        f"DELETE FROM intent WHERE number IN ({mine})",
        f"DELETE FROM {_PAYMENTS[incoming]} WHERE channel_id = ?",
        f"DELETE FROM {_TABLE[incoming]} WHERE channel_id = ?",
    ):
        db.execute(delete, (channel_id,))


# --- reading ---------------------------------------------------------------------------------------------------------


def read(db: sqlite3.Connection, channel_id: str, *, incoming: bool) -> Archived | None:
    """An entry of the archive."""
    found = db.execute(f"{_READ} WHERE channel_id = ? AND incoming = ?", (channel_id, incoming)).fetchone()
    return None if found is None else _entry(found)


def read_payee(db: sqlite3.Connection, account: str, tag: int | None, limit: int) -> list[Archived]:
    """Those of our channels that paid a payee, the newest first."""
    query = f"{_READ} WHERE destination = ? AND destination_tag IS ? AND NOT incoming ORDER BY gone_at DESC LIMIT ?"
    return [_entry(row) for row in db.execute(query, (account, tag, limit))]


def _entry(row: rows.Row) -> Archived:
    """The value of a row in the order of `_COLUMNS`."""
    incoming, number, *facts = row[:13]
    signed, pool, server, user, tier, adopted, opened_at, last_claim_at, cut_short_at, closed_at = row[13:23]
    opened_by, fees, transactions, paid, payments, gone_at, closed_by = row[23:]
    channel = Channel(*facts)
    record: ChannelRecord | Incoming
    if incoming:
        lost = signed > channel.balance
        record = Incoming(channel, held=signed, server=server, lost=lost, closed_at=closed_at, closed_by=closed_by)
    else:
        record = ChannelRecord(
            row=number,
            channel=channel,
            authorized=signed,
            issuing=False,
            pool=pool,
            server=server,
            opened_at=RippleTime(opened_at or 0),
            last_claim_at=RippleTime(last_claim_at),
            unredeemed_since=None,
            closed_at=closed_at,
            adopted=bool(adopted),
            user=user,
            tier=tier,
            cut_short_at=cut_short_at,
            closed_by=closed_by,
        )
    return Archived(
        record=record,
        opened_by=opened_by,
        gone_at=RippleTime(gone_at),
        fees=fees,
        transactions=transactions,
        paid=paid,
        payments=payments,
    )
