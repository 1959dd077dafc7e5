"""Reading, beside the writer, what was decided about channels and payees and what became of it on the ledger.

Every function raises `StoreError` for a store that cannot be read.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from channeld.adapters.sqlite import archive, books, claims, rows
from channeld.adapters.sqlite.groups import signed_in
from channeld.core.errors import StoreError
from channeld.core.freezes import Audit, Freeze
from channeld.core.intents import Status
from channeld.core.records import Archived, ChannelRecord, Incoming, JournalEntry
from channeld.core.units import Payee

_TX: Final = (
    "SELECT t.hash, t.number, t.fee, t.ended, t.ledger,"
    " coalesce((SELECT sum(paid) FROM payment p WHERE p.hash = t.hash),"
    " (SELECT sum(paid) FROM redeemed r WHERE r.hash = t.hash),"
    " (SELECT sum(paid) FROM redeemed r WHERE t.ended = 'tesSUCCESS'"
    " AND 'redeem' = (SELECT kind FROM intent i WHERE i.number = t.intent)"
    " AND (r.channel_id, r.ledger, r.by_account) = (t.channel_id, t.ledger, t.account)), 0)"
    " FROM tx t WHERE t.intent = ? ORDER BY t.first_ledger, t.hash"
)
"""A collection that somebody else altered was validated under another hash: a channel has one intent at a time, so what
our account collected from it in that ledger is what it brought."""


@dataclass(frozen=True, slots=True)
class Sent:
    """A transaction that was signed for an intent. `result` is None while it may still be validated, `ledger` where it
    never was; `paid` is what metadata says reached the payee, in drops.
    """

    hash: str
    number: int
    fee: int
    result: str | None
    ledger: int | None
    paid: int


@dataclass(frozen=True, slots=True)
class Carried:
    """An intent of the journal, and what was signed for it."""

    entry: JournalEntry
    sent: tuple[Sent, ...]

    @property
    def open(self) -> bool:
        """Whether it has not ended."""
        return self.entry.status in (Status.PLANNED, Status.SIGNED)


class JournalReader:
    """Reads one store as of one moment; see `reading`."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    # --- channels ----------------------------------------------------------------------------------------------------

    def ids(self, prefix: str, limit: int = 3) -> list[str]:
        """Ids of channels, ours and those that pay us, live, gone or archived, that begin so; up to `limit` of each."""
        end = prefix + "G"  # after every hex digit
        query = "SELECT channel_id FROM {} WHERE channel_id >= ? AND channel_id < ? ORDER BY channel_id LIMIT ?"
        found = [
            channel_id
            for table in ("channel", "incoming", "archive")
            for (channel_id,) in self._db.execute(query.format(table), (prefix, end, limit))
        ]
        return sorted(set(found))

    def channel(self, channel_id: str) -> ChannelRecord | None:
        """A channel of ours, signed as far as the newest group on disk says."""
        query = f"SELECT {rows.CHANNEL_COLUMNS} FROM channel WHERE channel_id = ?"
        return next(iter(self._records(query, (channel_id,))), None)

    def channels_of(self, payee: Payee, limit: int = 100) -> list[ChannelRecord]:
        """Channels of ours that pay a payee, the newest first."""
        query = (
            f"SELECT {rows.CHANNEL_COLUMNS} FROM channel WHERE destination = ? AND destination_tag IS ?"
            " ORDER BY row DESC LIMIT ?"
        )
        return self._records(query, (payee.account, payee.tag, limit))

    def archived(self, channel_id: str, *, incoming: bool) -> Archived | None:
        """A channel that went long ago, as one of ours or as one that paid us; None if it is not in the archive."""
        return archive.read(self._db, channel_id, incoming=incoming)

    def archived_of(self, payee: Payee, limit: int = 100) -> list[Archived]:
        """Channels of ours in the archive that paid a payee, the newest first."""
        return archive.read_payee(self._db, payee.account, payee.tag, limit)

    def _records(self, query: str, parameters: Sequence[object]) -> list[ChannelRecord]:
        records = [rows.channel_record(row) for row in self._db.execute(query, parameters)]
        if records:
            highest = signed_in(body for (body,) in self._db.execute("SELECT body FROM request_group ORDER BY number"))
            for record in records:
                record.authorized = max(record.authorized, highest.get(record.row, 0))
        return records

    def incoming(self, channel_id: str) -> Incoming | None:
        """A channel that pays us."""
        return claims.read(self._db, channel_id)

    # --- intents -----------------------------------------------------------------------------------------------------

    def of_channel(self, channel_id: str) -> list[Carried]:
        """What was decided to be done about a channel, the opening included, oldest first."""
        return self._carried("channel_id = ?", (channel_id,))

    def of_payee(self, payee: Payee) -> list[Carried]:
        """What was decided to be opened for a payee, oldest first."""
        return self._carried("payee = ? AND payee_tag IS ?", (payee.account, payee.tag))

    def intent(self, number: int) -> Carried | None:
        """An intent by its number."""
        return next(iter(self._carried("number = ?", (number,))), None)

    def _carried(self, where: str, parameters: Sequence[object]) -> list[Carried]:
        query = f"SELECT {rows.INTENT_COLUMNS} FROM intent WHERE {where} ORDER BY number"
        entries = [rows.journal_entry(row) for row in self._db.execute(query, parameters).fetchall()]
        return [Carried(entry, self._sent(entry.number)) for entry in entries]

    def _sent(self, number: int) -> tuple[Sent, ...]:
        return tuple(Sent(*row) for row in self._db.execute(_TX, (number,)))

    def audits(self, limit: int) -> list[Audit]:
        """Who did what, and why, the newest first."""
        query = "SELECT at_unix, who, what, why FROM audit ORDER BY seq DESC LIMIT ?"
        return [Audit(*row) for row in self._db.execute(query, (limit,))]

    def freezes(self) -> list[Freeze]:
        """What is frozen and was not lifted, the oldest first."""
        return books.load_freezes(self._db)

    # --- requests ----------------------------------------------------------------------------------------------------

    def taken_in(self, key: bytes) -> dict[str, Any] | None:
        """What a claim that was handed in was accepted as, by its request's key."""
        query = "SELECT channel_id, drops, amount, at_unix FROM taken_in WHERE key = ?"
        found = self._db.execute(query, (key,)).fetchone()
        return None if found is None else dict(zip(("channel_id", "drops", "amount", "at_unix"), found, strict=True))


@contextmanager
def reading(path: Path) -> Iterator[JournalReader]:
    """The store at `path` as it is now, without ever waiting for its writer."""
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
            db.execute("BEGIN")
            yield JournalReader(db)
    except sqlite3.Error as error:
        raise StoreError(f"cannot read the store {path}: {error}") from error
