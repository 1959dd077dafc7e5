"""The claims file: every request before it is sent, every slice that was bought, and the best claim of each channel.

One SQLite file, synchronous=FULL: what a call returned is on disk. Several processes may use it at once, for nothing is
held in memory and every decision is made within the transaction that writes it. Calls that wait together share one
transaction. A file belongs to one server of one daemon's prefix.

Slices are kept merged, so the file grows with what goes on at the same time, not with what was ever bought; answers are
kept for eight days, far longer than any daemon remembers an id.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

from channeld.client.checks import Asked
from channeld.client.errors import (
    ChangedAnswer,
    ClientError,
    DiskFull,
    FileBusy,
    FileError,
    IdReused,
    NotAClaimsFile,
    SliceSeen,
)
from channeld.core.units import Address, ChannelId, Drops, Payee
from channeld.wire.answers import Accepted, Claim, accepted_json, read_accepted

_APPLICATION: Final = 0x63_6C_6D_73  # "clms"
_VERSION: Final = 1
_SCHEMA: Final = """
CREATE TABLE belongs (server TEXT NOT NULL);
CREATE TABLE request (
  id TEXT PRIMARY KEY, account TEXT NOT NULL, tag INTEGER, drops INTEGER NOT NULL, not_after INTEGER NOT NULL,
  contents TEXT NOT NULL, state TEXT NOT NULL, created INTEGER NOT NULL, answer TEXT
) WITHOUT ROWID;
CREATE INDEX request_unanswered ON request (created) WHERE state = 'sent';
CREATE INDEX request_age ON request (created);
CREATE TABLE slice (
  channel_id TEXT NOT NULL, start INTEGER NOT NULL, stop INTEGER NOT NULL, PRIMARY KEY (channel_id, start)
) WITHOUT ROWID;
CREATE TABLE best (
  channel_id TEXT PRIMARY KEY, amount INTEGER NOT NULL, signature TEXT NOT NULL, public_key TEXT NOT NULL,
  source_account TEXT NOT NULL, account TEXT NOT NULL, tag INTEGER, kept INTEGER NOT NULL
) WITHOUT ROWID;
"""
_KEPT_S: Final = 8 * 86_400
_BUSY_MS: Final = 10_000
_GROUP: Final = 500

T = TypeVar("T")
_Work = Callable[[sqlite3.Connection], Any]


class Held(NamedTuple):
    """The best claim of a channel: what to redeem. `source_account` pays, `payee` collects."""

    claim: Claim
    source_account: Address
    payee: Payee


class Journal:
    """The file, from `open` to `close`. Every method is durable when it returns; each raises `FileError`s."""

    def __init__(self, path: Path, server: str) -> None:
        self._path, self._server = path, server
        self._thread = ThreadPoolExecutor(1, "claims-file")
        self._db: sqlite3.Connection | None = None
        self._waiting: list[tuple[_Work, asyncio.Future[Any]]] = []
        self._worker: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Open the file, and make it if there is none. Raises `NotAClaimsFile` for a file of something else."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._open)

    def _open(self) -> None:
        try:
            self._db = open_file(self._path, self._server)
        except sqlite3.Error as error:
            raise _failure(error, self._path) from None

    async def close(self) -> None:
        """Finish what is under way and let go of the file."""
        while self._worker is not None:
            await asyncio.wait([self._worker])
        db, self._db = self._db, None
        if db is not None:
            await asyncio.get_running_loop().run_in_executor(self._thread, db.close)
        self._thread.shutdown(wait=False)

    async def remember(self, asked: Asked) -> Accepted | None:
        """Write a request down before it is sent; the answer, if this very request was accepted already.

        Raises `IdReused` where the id stands for another request.
        """
        return await self._run(lambda db: _remember(db, asked))

    async def recall(self, request_id: str) -> tuple[Asked, str] | None:
        """A request by its id, and its state: sent, accepted, rejected, refused or void."""
        return await self._run(lambda db: _recall(db, request_id))

    async def unanswered(self) -> list[Asked]:
        """Requests that were sent, as far as is known, and not answered; oldest first."""
        return await self._run(_unanswered)

    async def keep(self, asked: Asked, said: Accepted) -> None:
        """Book a verified answer: its slice, and its claim if that is the channel's best.

        Raises `SliceSeen` or `ChangedAnswer`; then nothing is booked. An answer that is booked already is passed over.
        """
        await self._run(lambda db: _keep(db, asked, said))

    async def keep_claim(self, said: Accepted) -> None:
        """Keep a claim that can be collected but was not accepted as payment."""
        await self._run(lambda db: _keep_best(db, said))

    async def mark(self, request_id: str, state: str) -> None:
        """Note that a request is rejected, refused or void. An accepted one stays accepted."""
        await self._run(lambda db: _mark(db, request_id, state))

    async def best(self) -> list[Held]:
        """The best claim of every channel, the one kept last first."""
        return await self._run(read_best)

    async def _run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        if self._db is None:
            raise FileError(f"{self._path} is not open")
        loop = asyncio.get_running_loop()
        done: asyncio.Future[T] = loop.create_future()
        self._waiting.append((work, done))
        if self._worker is None:
            self._worker = loop.create_task(self._drain())
        return await done

    async def _drain(self) -> None:
        """Carry out what waits, in groups, until nothing waits any more."""
        loop = asyncio.get_running_loop()
        while self._waiting:
            group, self._waiting = self._waiting[:_GROUP], self._waiting[_GROUP:]
            results = await loop.run_in_executor(self._thread, self._transact, [work for work, _ in group])
            for (_, done), result in zip(group, results, strict=True):
                if done.done():
                    continue
                if isinstance(result, BaseException):
                    done.set_exception(result)
                else:
                    done.set_result(result)
        self._worker = None

    def _transact(self, group: Sequence[_Work]) -> list[Any]:
        """One transaction. Work that refuses (a `ClientError`) has written nothing; a failing file fails all of it."""
        db = self._db
        assert db is not None
        results: list[Any] = []
        try:
            db.execute("BEGIN IMMEDIATE")
            for work in group:
                try:
                    results.append(work(db))
                except ClientError as error:
                    results.append(error)
            db.execute("COMMIT")
        except sqlite3.Error as error:
            with contextlib.suppress(sqlite3.Error):
                db.execute("ROLLBACK")
            return [_failure(error, self._path) for _ in group]
        except Exception as error:  # a defect must not leave callers waiting
            with contextlib.suppress(sqlite3.Error):
                db.execute("ROLLBACK")
            return [error for _ in group]
        return results


def open_file(path: Path, server: str | None) -> sqlite3.Connection:
    """Open a claims file, made if there is none and `server` says whose it is. Raises sqlite3 and `FileError`s."""
    if server is not None:
        _make(path)
    elif not path.exists():
        raise NotAClaimsFile(f"{path}: there is no such file")
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=_BUSY_MS / 1000)
    try:
        _prepare(db, path, server)
    except BaseException:
        db.close()
        raise
    return db


def _make(path: Path) -> None:
    """Make an empty file that only its owner can read, unless there is one."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        return
    except OSError as error:
        raise FileError(f"{path}: {os.strerror(error.errno or 0).lower()}") from None


def _prepare(db: sqlite3.Connection, path: Path, server: str | None) -> None:
    db.execute("PRAGMA synchronous = FULL")
    (application,) = db.execute("PRAGMA application_id").fetchone()
    (tables,) = db.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if application != _APPLICATION and (tables or server is None):
        raise NotAClaimsFile(f"{path} is a database of something else")
    if server is None:
        return
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("BEGIN IMMEDIATE")
    if not db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
        for statement in _SCHEMA.split(";"):
            db.execute(statement)
        db.execute("INSERT INTO belongs VALUES (?)", (server,))
        db.execute(f"PRAGMA application_id = {_APPLICATION}")
        db.execute(f"PRAGMA user_version = {_VERSION}")
    (owner,) = db.execute("SELECT server FROM belongs").fetchone()
    (version,) = db.execute("PRAGMA user_version").fetchone()
    now = int(time.time())
    db.execute("DELETE FROM request WHERE created < ? AND state <> 'sent'", (now - _KEPT_S,))
    db.execute("COMMIT")
    if owner != server:
        raise NotAClaimsFile(f"{path} belongs to {owner}, not to {server}")
    if version != _VERSION:
        raise NotAClaimsFile(f"{path} was written by a newer version of this client ({version})")


def _failure(error: sqlite3.Error, path: Path) -> FileError:
    """A `FileError` for what SQLite reports."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    kinds = {
        sqlite3.SQLITE_FULL: DiskFull,
        sqlite3.SQLITE_BUSY: FileBusy,
        sqlite3.SQLITE_NOTADB: NotAClaimsFile,
        sqlite3.SQLITE_CORRUPT: NotAClaimsFile,
    }
    return kinds.get(code, FileError)(f"{path}: {error}")


# --- work within a transaction: each decides before it writes --------------------------------------------------------


def _remember(db: sqlite3.Connection, asked: Asked) -> Accepted | None:
    row = db.execute("SELECT contents, state, answer FROM request WHERE id = ?", (asked.id,)).fetchone()
    if row is None:
        values = (*_columns(asked), "sent", int(time.time()))
        db.execute(
            "INSERT INTO request (id, account, tag, drops, not_after, contents, state, created)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            values,
        )
        return None
    contents, state, answer = row
    if contents != asked.contents:
        raise IdReused(f"id {asked.id!r} stands for another request: {contents}", id=asked.id)
    if state == "accepted":
        return read_accepted(answer)
    db.execute("UPDATE request SET state = 'sent' WHERE id = ?", (asked.id,))
    return None


def _columns(asked: Asked) -> tuple[Any, ...]:
    return asked.id, asked.payee.account, asked.payee.tag, asked.drops, asked.not_after, asked.contents


_ASKED: Final = "SELECT id, account, tag, drops, not_after, contents, state FROM request "


def _asked(row: Sequence[Any]) -> Asked:
    return Asked(row[0], Payee(Address(row[1]), row[2]), row[3], row[4], row[5])


def _recall(db: sqlite3.Connection, request_id: str) -> tuple[Asked, str] | None:
    row = db.execute(_ASKED + "WHERE id = ?", (request_id,)).fetchone()
    return None if row is None else (_asked(row), row[6])


def _unanswered(db: sqlite3.Connection) -> list[Asked]:
    return [_asked(row) for row in db.execute(_ASKED + "WHERE state = 'sent' ORDER BY created, id")]


def _mark(db: sqlite3.Connection, request_id: str, state: str) -> None:
    db.execute("UPDATE request SET state = ? WHERE id = ? AND state <> 'accepted'", (state, request_id))


def _keep(db: sqlite3.Connection, asked: Asked, said: Accepted) -> None:
    state, answer = db.execute("SELECT state, answer FROM request WHERE id = ?", (asked.id,)).fetchone()
    if state == "accepted":
        before = read_accepted(answer)
        if _bought(before) != _bought(said):
            text = f"id {asked.id!r} was answered with {_bought(before)} before, and now with {_bought(said)}"
            raise ChangedAnswer(text, id=asked.id, accepted=said)
        return
    _take_slice(db, said)
    _keep_best(db, said)
    db.execute("UPDATE request SET state = 'accepted', answer = ? WHERE id = ?", (accepted_json(said), asked.id))


def _bought(said: Accepted) -> tuple[str, int, int, int]:
    return said.claim.channel_id, said.claim.amount, said.covers_from, said.covers_to


def _take_slice(db: sqlite3.Connection, said: Accepted) -> None:
    """Book a slice that no other overlaps, joined with its neighbours; raises `SliceSeen`."""
    channel, start, stop = said.claim.channel_id, said.covers_from, said.covers_to
    before = db.execute(
        "SELECT start, stop FROM slice WHERE channel_id = ? AND start <= ? ORDER BY start DESC LIMIT 1",
        (channel, start),
    ).fetchone()
    after = db.execute(
        "SELECT start, stop FROM slice WHERE channel_id = ? AND start > ? ORDER BY start LIMIT 1", (channel, start)
    ).fetchone()
    for other in (before, after):
        if other is not None and other[0] < stop and start < other[1]:
            text = f"the slice {start}..{stop} of {channel} overlaps {other[0]}..{other[1]}, which is sold"
            raise SliceSeen(text, id=said.id, accepted=said)
    if before is not None and before[1] == start:
        start = before[0]
    if after is not None and after[0] == stop:
        stop = after[1]
        db.execute("DELETE FROM slice WHERE channel_id = ? AND start = ?", (channel, after[0]))
    db.execute("INSERT OR REPLACE INTO slice VALUES (?, ?, ?)", (channel, start, stop))


def _keep_best(db: sqlite3.Connection, said: Accepted) -> None:
    claim = said.claim
    row = db.execute("SELECT amount FROM best WHERE channel_id = ?", (claim.channel_id,)).fetchone()
    if row is None or row[0] < claim.amount:
        db.execute(
            "INSERT OR REPLACE INTO best VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                claim.channel_id,
                claim.amount,
                claim.signature,
                claim.public_key,
                said.source_account,
                said.payee.account,
                said.payee.tag,
                time.time_ns(),
            ),
        )


def read_best(db: sqlite3.Connection) -> list[Held]:
    """The best claim of every channel, the one kept last first."""
    rows = db.execute(
        "SELECT channel_id, amount, signature, public_key, source_account, account, tag FROM best ORDER BY kept DESC"
    )
    return [
        Held(
            Claim(ChannelId(channel), Drops(amount), signature, key),
            Address(source),
            Payee(Address(account), tag),
        )
        for channel, amount, signature, key, source, account, tag in rows
    ]


def slices(db: sqlite3.Connection) -> Iterable[tuple[str, int, int]]:
    """What was bought, joined: channel, from, to."""
    return db.execute("SELECT channel_id, start, stop FROM slice ORDER BY channel_id, start").fetchall()
