"""The one writer: every public method is one transaction, on disk (synchronous=FULL) when it returns.

Any failure of SQLite becomes a `StoreError`: the transaction is rolled back as far as SQLite can say, and what the
caller believed must be loaded again before it goes on, because a failed commit may have reached the disk.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Final

import structlog

from channeld.adapters.sqlite import archive, books, claims, cooldowns, demands, events, notices, rows, starts, usage
from channeld.adapters.sqlite.file import StoreFile, failing
from channeld.adapters.sqlite.request_log import RequestLog
from channeld.core.budgets import Outlay
from channeld.core.errors import StoreError
from channeld.core.freezes import Audit
from channeld.core.intents import OPEN_STATUSES, Intent, Kind, OpenChannel, RequestClose, Status, check_transition
from channeld.core.news import Event
from channeld.core.records import (
    Accepted,
    Announced,
    ChannelMark,
    ChannelRecord,
    JournalEntry,
    LedgerUpdate,
    LiveTransaction,
    Remembered,
    Setback,
    StoreSnapshot,
)
from channeld.core.units import Address, ChannelId, LedgerIndex, Payee, RippleTime

log = structlog.get_logger()

_LARGE_SLICE: Final = 5000
"""Requests folded in one transaction where all must be before it goes on: at a close, and before they are forgotten."""
_NO_TIME: Final = RippleTime(0)
_TRIED: Final = (
    "SELECT count(*) FILTER (WHERE ledger IS NULL), coalesce(sum(fee) FILTER (WHERE ledger IS NOT NULL), 0)"
    " FROM tx WHERE intent = ?"
)
_STOP_ISSUING: Final = "UPDATE channel SET issuing = 0 WHERE channel_id = ? RETURNING row"
_TAKE_AS_SIGNED: Final = (
    "UPDATE channel SET authorized = ?2, last_claim_at = ?3, unredeemed_since = ?4"
    " WHERE row = ?1 AND authorized < ?2 AND amount >= ?2 AND issuing = 0 AND adopted = 1 AND closed_at IS NULL"
)
_UPDATE_CHANNEL: Final = (
    "UPDATE channel SET amount = ?, balance = ?, expiration = ?, ledger_index = ?, issuing = issuing AND ?,"
    " unredeemed_since = ?, closed_at = ?, cut_short_at = ? WHERE row = ?"
)


class SqliteStore:
    """Opens (or creates) the store at `path` for writing; whoever opens it sees to it that nobody else does.

    Raises `ConfigError` for a store of another network or schema, `StoreError` for one that cannot be read.
    """

    def __init__(self, path: Path, *, network_id: int) -> None:
        self.path = path
        self._open: dict[int, tuple[int, int]] = {}
        self._file = StoreFile(path, network_id)
        self._db, self._transaction = self._file.db, self._file.transaction
        self.checkpoint, self.restart_log = self._file.checkpoint, self._file.restart_log
        self._requests = RequestLog(self._db)
        self.books = books.Books(self._transaction, self._retired)
        self.events = events.Events(self._transaction)
        self.claims = claims.Claims(self._transaction)
        self.usage = usage.Usage(self._transaction)
        self.starts = starts.Starts(self._transaction)
        self.archive = archive.Archive(self._transaction, lambda: self._requests.oldest)
        with ExitStack() as unfit:
            unfit.callback(self._db.close)
            self.load()
            unfit.pop_all()

    def _retired(self) -> None:
        self._open.clear()

    def close(self) -> None:
        """Fold what is left into the tables, and let go of the file. A store that fails now is whole all the same.

        After a failure nothing is folded before `load`: what failed may be on disk, and would count twice.
        """
        with suppress(StoreError):
            while self._requests.backlog and not self._file.in_doubt:
                self.fold(_LARGE_SLICE)
        if self._requests.backlog:
            log.warning("store_closed_unfolded", requests=self._requests.backlog)
        self._db.close()

    # --- reading -----------------------------------------------------------------------------------------------------

    def load(self) -> StoreSnapshot:
        """Everything that is alive: open channels, open intents, transactions that may still be validated."""
        with self._transaction(anew=True) as db:
            spent = self._requests.load()
            channels = db.execute(f"SELECT {rows.CHANNEL_COLUMNS} FROM channel WHERE closed_at IS NULL")
            records = [self._requests.forward(rows.channel_record(r)) for r in channels]
            statuses = ", ".join(f"'{s.value}'" for s in OPEN_STATUSES)
            intents = db.execute(
                f"SELECT {rows.INTENT_COLUMNS} FROM intent WHERE status IN ({statuses}) ORDER BY number"
            )
            journal = [rows.journal_entry(r) for r in intents]
            for entry in journal:
                entry.attempts, entry.spent = db.execute(_TRIED, (entry.number,)).fetchone()
            live = [
                rows.live_transaction(r)
                for r in db.execute(f"SELECT {rows.TX_COLUMNS} FROM tx WHERE ended IS NULL ORDER BY number")
            ]
            found = db.execute(f"SELECT {rows.SETBACK_COLUMNS} FROM setback")
            setbacks = {s.subject: s for s in map(rows.setback, found)}
            tickets = {(Address(account), number) for account, number in db.execute("SELECT * FROM ticket")}
            processed = self._file.meta("processed")
            store_id = self._file.meta("store_id") or ""
            balances, freezes = books.load_balances(db), books.load_freezes(db)
            incoming = claims.load(db)
            self.claims.recount(db)
            announced, absences = notices.load_announced(db), notices.load_absences(db)
            acted, (traces, rhythms) = cooldowns.load(db), demands.load(db)
            attended = self._file.meta("attended_until")
            early_ends, retired = notices.load_early_ends(db), books.read_retired(db)
        self._open = {r.row: (r.authorized, r.channel.amount) for r in records if r.issuing}
        return StoreSnapshot(
            store_id=store_id,
            processed=None if processed is None else LedgerIndex(int(processed)),
            channels=records,
            journal=journal,
            live=live,
            spent=spent,
            balances=balances,
            freezes=freezes,
            setbacks=setbacks,
            tickets=tickets,
            incoming=incoming,
            announced=announced,
            absences=absences,
            attended_until=None if attended is None else RippleTime(int(attended)),
            early_ends=early_ends,
            acted=acted,
            traces=traces,
            rhythms=rhythms,
            retired=retired,
        )

    def remembered(self, keys: Sequence[bytes]) -> dict[bytes, Remembered]:
        """Which of these requests were accepted before, and as what."""
        try:  # by hand: asked for every group
            return self._requests.lookup(keys)
        except sqlite3.Error as error:
            raise StoreError(f"the store failed: {error}") from error

    def channel(self, row: int) -> ChannelRecord | None:
        """A channel by its number, gone or not."""
        query = f"SELECT {rows.CHANNEL_COLUMNS} FROM channel WHERE row = ?"
        with failing():
            found = self._db.execute(query, (row,)).fetchone()
        return None if found is None else self._requests.forward(rows.channel_record(found))

    def knows(self, tx_hash: str) -> bool:
        """Whether a transaction was signed here, whatever became of it."""
        with failing():
            (found,) = self._db.execute("SELECT EXISTS (SELECT 1 FROM tx WHERE hash = ?)", (tx_hash,)).fetchone()
        return bool(found)

    def gone(self, channel_id: ChannelId, *, incoming: bool = False) -> bool:
        """Whether a ledger deleted this channel, of ours or one that pays us, however long ago."""
        with failing():
            return archive.gone(self._db, channel_id, incoming=incoming)

    def outlays(self, after: RippleTime) -> list[Outlay]:
        """What transactions of ours took in ledgers that closed after a moment, the oldest first."""
        return self.books.outlays(after)

    def opening(self, channel_id: ChannelId) -> JournalEntry | None:
        """The intent that was to open this channel, whatever became of it; None if there was none."""
        query = f"SELECT {rows.INTENT_COLUMNS} FROM intent WHERE channel_id = ? AND kind = ? ORDER BY number DESC"
        with failing():
            found = self._db.execute(query, (channel_id, Kind.OPEN.value)).fetchone()
        return None if found is None else rows.journal_entry(found)

    def opens(self, payee: Payee, after: RippleTime) -> int:
        """How many channels were opened for a payee after a moment, those that are gone included."""
        query = "SELECT count(*) FROM channel WHERE destination = ? AND destination_tag IS ? AND opened_at > ?"
        with failing():
            (count,) = self._db.execute(query, (payee.account, payee.tag, after)).fetchone()
        return int(count)

    # --- the hot path ------------------------------------------------------------------------------------------------

    def accept(
        self,
        now: int,
        requests: Accepted,
        marks: Sequence[ChannelMark],
        spent: Sequence[tuple[str, int, int]],
    ) -> None:
        """Remember requests and raise the amounts they debit, or nothing of it.

        A mark on a channel that stopped issuing, is gone, is authorised as high already or does not hold so much, and
        an id that was accepted before, are defects of the caller and refuse the whole group.
        """
        for mark in marks:
            authorized, amount = self._open.get(mark.row, (0, 0))
            if not authorized < mark.authorized <= amount:
                raise StoreError("a channel to be signed on is closing, gone, or signed further already")
        with self._transaction():
            if self._requests.known(requests.keys):
                raise StoreError("an id to be accepted was accepted before")
            group = self._requests.append(now, requests, marks, spent)
        self._requests.took(group, marks)
        for mark in marks:
            self._open[mark.row] = (mark.authorized, self._open[mark.row][1])

    @property
    def ids(self) -> int:
        """How many requests are remembered, claims taken in included."""
        return self._requests.count + self.claims.ids

    @property
    def ids_since(self) -> int | None:
        """When the oldest of them was accepted (Unix seconds); None if there is none."""
        ages = (self.claims.ids_since, self._requests.since_unix)
        return min((at for at in ages if at is not None), default=None)

    def ids_of(self, server: str) -> int:
        """How many of them a content server has; what was forgotten in the last hour may count still."""
        return self._requests.by_server[server] + self.claims.by_server[server]

    @property
    def backlog(self) -> int:
        """Requests that are durable but not folded into the tables yet; memory holds some 400 bytes of each."""
        return self._requests.backlog

    @property
    def folding(self) -> bool:
        """Whether a batch is on its way into the tables."""
        return self._requests.folding

    def fold(self, limit: int) -> int:
        """Bring up to `limit` requests into their table, or let go of groups; how many that were, 0 if none is left.

        Not synced by itself: if it is lost in a crash, the groups are still there and are folded again.
        """
        if not self._requests.backlog:
            return 0
        with self._file.unsynced(), self._transaction():
            batch = self._requests.fold(limit)
        return self._requests.folded(batch)

    def forget(self, before: int, limit: int) -> int:
        """Drop remembered requests accepted before `before` (Unix seconds), oldest first, until `limit` went, and those
        in one block with them; how many went. Not synced by itself: what comes back in a crash is dropped again.
        """
        while (oldest := self._requests.oldest_unix) is not None and oldest < before:
            self.fold(_LARGE_SLICE)
        with self._file.unsynced(), self._transaction():
            return self._requests.forget(before, limit)

    # --- the journal -------------------------------------------------------------------------------------------------

    def journal(
        self,
        intents: Sequence[Intent],
        decided_at: LedgerIndex,
        told: Sequence[tuple[str, Event]] = (),
        announced: Sequence[Announced] = (),
        now: RippleTime = _NO_TIME,
    ) -> list[JournalEntry]:
        """Write intents down, how far closes with notice have come, and what content servers are to be told with them.
        `now` is the close time that they were decided at: what a cooldown counts from.

        One that closes a channel stops issuing on it in the same transaction.
        """
        columns = rows.INTENT_COLUMNS.removeprefix("number, ")
        insert = f"INSERT INTO intent ({columns}) VALUES ({rows.marks(columns)})"
        entries = []
        with self._transaction() as db:
            for intent in intents:
                number = db.execute(insert, rows.intent_row(intent, decided_at)).lastrowid
                assert number is not None
                channel_id = None if isinstance(intent.action, OpenChannel) else intent.action.channel_id
                entries.append(JournalEntry(number, intent, Status.PLANNED, decided_at, channel_id))
            closing = [(i.action.channel_id,) for i in intents if isinstance(i.action, RequestClose)]
            stopped = [db.execute(_STOP_ISSUING, channel).fetchone() for channel in closing]
            events.keep(db, told)
            notices.keep(db, announced)
            cooldowns.keep(db, intents, now)
        for row in stopped:
            if row is not None:
                self._open.pop(row[0], None)
        return entries

    def stop_issuing(self, channels: Sequence[ChannelId], audit: Audit) -> None:
        """A person closes these channels: nothing is signed on them from now on."""
        with self._transaction() as db:
            stopped = [db.execute(_STOP_ISSUING, (channel,)).fetchone() for channel in channels]
            books.keep_audit(db, audit)
        for row in stopped:
            if row is not None:
                self._open.pop(row[0], None)

    def take_as_signed(self, marks: Sequence[ChannelMark], audits: Sequence[Audit]) -> None:
        """Raise what is known to be signed on channels that were adopted or retired, and keep who proved it.

        All or none. A channel that is still issued on, is gone, is signed as far already or does not hold so much is a
        defect of the caller.
        """
        with self._transaction() as db:
            self._requests.settle_marks(mark.row for mark in marks)
            for mark in marks:
                if db.execute(_TAKE_AS_SIGNED, mark).rowcount != 1:
                    raise StoreError("a channel to be taken as signed further is issued on, gone, or signed so far")
            for audit in audits:
                books.keep_audit(db, audit)

    def signed(self, transactions: Sequence[LiveTransaction]) -> None:
        """Keep signed transactions before they are first submitted; their intents, if any, become SIGNED."""
        insert = f"INSERT INTO tx ({rows.TX_COLUMNS}) VALUES ({rows.marks(rows.TX_COLUMNS)})"
        with self._transaction() as db:
            for transaction in transactions:
                db.execute(insert, rows.tx_row(transaction))
                if transaction.intent is not None:
                    self._move(transaction.intent, Status.SIGNED, "", channel_id=transaction.channel_id)

    def set_intent(self, number: int, status: Status, note: str, setback: Setback | None = None) -> None:
        """Move an intent that has no live transaction, and remember the setback that its subject suffered."""
        with self._transaction():
            self._move(number, status, note)
            if setback is not None:
                self._keep_setbacks([setback])

    def _keep_setbacks(self, setbacks: Sequence[Setback]) -> None:
        """Inside a transaction: each replaces what was known of its subject; one that is over leaves nothing."""
        self._db.executemany("DELETE FROM setback WHERE subject = ?", [(s.subject,) for s in setbacks])
        columns = rows.SETBACK_COLUMNS
        self._db.executemany(
            f"INSERT INTO setback ({columns}) VALUES ({rows.marks(columns)})",
            [rows.setback_row(s) for s in setbacks if not s.over],
        )

    def _move(self, number: int, status: Status, note: str, *, channel_id: str | None = None) -> None:
        """Inside a transaction: one step along the status table, and nothing but such a step."""
        (old,) = self._db.execute("SELECT status FROM intent WHERE number = ?", (number,)).fetchone()
        check_transition(Status(old), status)
        self._db.execute(
            "UPDATE intent SET status = ?, note = ?, channel_id = coalesce(?, channel_id) WHERE number = ?",
            (status.value, note, channel_id, number),
        )

    # --- the ledger --------------------------------------------------------------------------------------------------

    def apply(self, update: LedgerUpdate) -> None:
        """Apply a processed span of ledgers, all of it or nothing. Sets the row of new channels."""
        with self._transaction() as db:
            for record in update.new_channels:
                db.execute(
                    f"INSERT INTO channel ({rows.CHANNEL_COLUMNS}) VALUES ({rows.marks(rows.CHANNEL_COLUMNS)})",
                    (None, *rows.channel_row(record)[1:]),
                )
                (record.row,) = db.execute("SELECT last_insert_rowid()").fetchone()
            self._requests.settle_marks(record.row for record in update.channels)
            db.executemany(_UPDATE_CHANNEL, [_channel_update(record) for record in update.channels])
            db.executemany(
                "UPDATE tx SET ended = ?, ledger = ? WHERE hash = ?",
                [(e.result, e.ledger, e.hash) for e in update.endings],
            )
            for number, status, note in update.intents:
                self._move(number, status, note)
            db.executemany(
                "INSERT OR IGNORE INTO payment (hash, channel_id, ledger, paid, by_account) VALUES (?, ?, ?, ?, ?)",
                [(p.hash, p.channel_id, p.ledger, p.paid, p.by) for p in update.payments],
            )
            books.book(db, update.booked)
            events.keep(db, update.booked.events)
            claims.apply(db, update.incoming)
            archive.bury(db, update, self._requests.last)
            closed = [r.channel.channel_id for r in update.channels if r.closed_at is not None]
            notices.forget(db, closed)
            cooldowns.forget(db, closed)
            demands.keep(db, update.learnt)
            notices.attend(db, update.attended)
            self._keep_setbacks(update.setbacks)
            db.executemany("INSERT OR IGNORE INTO ticket VALUES (?, ?)", update.tickets_made)
            db.executemany("DELETE FROM ticket WHERE account = ? AND number = ?", update.tickets_gone)
            db.execute("INSERT OR REPLACE INTO meta VALUES ('processed', ?)", (str(update.processed),))
        for record in update.new_channels:
            if record.issuing:
                self._open[record.row] = (record.authorized, record.channel.amount)
        for record in update.channels:
            if record.closed_at is not None or not record.issuing:
                self._open.pop(record.row, None)
            elif record.row in self._open:
                self._open[record.row] = (self._open[record.row][0], record.channel.amount)


def _channel_update(record: ChannelRecord) -> rows.Row:
    c = record.channel
    facts = (c.amount, c.balance, c.expiration, c.ledger_index)
    return (*facts, record.issuing, record.unredeemed_since, record.closed_at, record.cut_short_at, record.row)
