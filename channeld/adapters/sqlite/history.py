"""The history of answers: one file beside the store, written from a thread, bounded by count and age.

Not synced by itself: what a killed process had written is there, what a machine that lost its power had may not be, and
either way the file is whole, and holds answers in their order without a gap but at its ends. Where the file cannot be
read at all it is set aside, for no part of the engine depends on it.
"""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from types import MappingProxyType
from typing import Final

import msgspec
import structlog

from channeld.core.errors import StoreError
from channeld.core.history import Gist, Moment, RefusedAsk
from channeld.core.inputs import inputs_of
from channeld.core.units import RippleTime, to_ripple

log = structlog.get_logger()

SCHEMA: Final = 2
_NO_DATABASE: Final = (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT)
"""What SQLite says of a file that is none of its own, or is broken: it is no use to wait."""
_PAYS, _COLLECTS = "pays", "collects"
_PRESSED: Final = 1
"""The level of zlib: half the size for a few microseconds."""
_ANSWER: Final = (
    "INSERT INTO answer (number, moment, subject, kind, because, reason, path, target, until, intent, inputs)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_MOMENT: Final = (
    "INSERT INTO moment (number, ledger, close_time, place, payee, policy_hash, kind, situation)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
)
_REFUSED: Final = (
    "INSERT INTO refused (at_unix, key, server, payee, drops, code, reason, because) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
)
_LAST: Final = (
    "SELECT a.subject, a.kind, a.reason, a.path, m.close_time FROM answer a JOIN moment m ON m.number = a.moment"
    " WHERE a.number IN (SELECT max(number) FROM answer GROUP BY subject)"
)


def _plain(value: object) -> object:
    """Read-only mappings are encoded as what they show."""
    if isinstance(value, MappingProxyType):
        return dict(value)
    raise TypeError(f"cannot encode {type(value).__name__}")


_encode = msgspec.json.Encoder(enc_hook=_plain).encode


def history_path(store: Path) -> Path:
    """Where the history of a store is."""
    return store.with_name(f"{store.stem}.history.db")


class History:
    """The one writer. Every method is one transaction and raises `StoreError`; call them one at a time, in any thread.

    A file of another network, or one that cannot be read, is set aside and a new one begun.
    """

    def __init__(self, path: Path, *, network_id: int) -> None:
        self.path = path
        try:
            self._db = self._open(network_id)
            self._numbers()
        except (sqlite3.Error, OSError) as error:
            raise StoreError(f"the history cannot be opened: {error}") from error

    def _open(self, network_id: int) -> sqlite3.Connection:
        try:
            db = self._begin(network_id)
        except sqlite3.DatabaseError as error:
            if getattr(error, "sqlite_errorcode", None) not in _NO_DATABASE:
                raise
            self._set_aside(str(error))
            return self._begin(network_id)
        if (foreign := self._foreign(db, network_id)) is None:
            return db
        db.close()
        self._set_aside(foreign)
        return self._begin(network_id)

    @staticmethod
    def _foreign(db: sqlite3.Connection, network_id: int) -> str | None:
        """Why a sound file cannot be gone on with, or None."""
        (version,) = db.execute("PRAGMA user_version").fetchone()
        if version != SCHEMA:
            return f"it has schema {version}"
        ((kept,),) = db.execute("SELECT value FROM meta WHERE key = 'network_id'")
        return None if kept == str(network_id) else f"it is of network {kept}"

    def _begin(self, network_id: int) -> sqlite3.Connection:
        db = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
        try:
            self.path.chmod(0o600)
            for pragma in ("journal_mode = WAL", "synchronous = NORMAL", "busy_timeout = 5000"):
                db.execute(f"PRAGMA {pragma}")
            (version,) = db.execute("PRAGMA user_version").fetchone()
            if version == 0:
                script = (resources.files(__package__) / "history.sql").read_text()
                end = (
                    f"INSERT INTO meta VALUES ('network_id', '{network_id:d}'); PRAGMA user_version = {SCHEMA}; COMMIT;"
                )
                db.executescript(f"BEGIN IMMEDIATE; {script} {end}")
        except BaseException:
            db.close()
            raise
        return db

    def _set_aside(self, why: str) -> None:
        """Keep the file under another name, with what SQLite has beside it."""
        taken = 1
        while (aside := self.path.with_name(f"{self.path.name}.{taken}")).exists():
            taken += 1
        for end in ("", "-wal", "-shm"):
            part = self.path.with_name(self.path.name + end)
            if part.exists():
                part.rename(aside.with_name(aside.name + end))
        log.warning("history_set_aside", file=str(aside), reason=why)

    def _numbers(self) -> None:
        """The next numbers, as the file has them."""
        (answers,) = self._db.execute("SELECT coalesce(max(number), 0) + 1 FROM answer").fetchone()
        (moments,) = self._db.execute("SELECT coalesce(max(number), 0) + 1 FROM moment").fetchone()
        self._next_answer, self._next_moment = int(answers), int(moments)

    def close(self) -> None:
        self._db.close()

    def last(self) -> dict[str, tuple[Gist, RippleTime]]:
        """What was answered last about each subject, and on which close time."""
        try:
            found = self._db.execute(_LAST)
            return {s: ((kind, reason, tuple(path.split())), at) for s, kind, reason, path, at in found}
        except sqlite3.Error as error:
            raise StoreError(f"the history cannot be read: {error}") from error

    # --- writing -----------------------------------------------------------------------------------------------------

    def write(self, news: Sequence[Moment | RefusedAsk]) -> None:
        """Write these down, in this order, all or nothing."""
        moments = [item for item in news if isinstance(item, Moment)]
        answers, number = [], self._next_answer
        for place, moment in enumerate(moments, self._next_moment):
            for said in moment.answers:
                kind = said.kind.value if said.kind else ""
                facts = _encode(inputs_of(moment, said)).decode()
                told = (kind, said.because, said.reason, " ".join(said.path), said.target, said.until, said.intent)
                answers.append((number, place, said.subject, *told, facts))
                number += 1
        refused = [_refused_row(item) for item in news if isinstance(item, RefusedAsk)]
        rows = [_moment_row(place, moment) for place, moment in enumerate(moments, self._next_moment)]
        self._transact([(_MOMENT, rows), (_ANSWER, answers), (_REFUSED, refused)])
        self._next_answer, self._next_moment = number, self._next_moment + len(moments)

    def _transact(self, statements: Sequence[tuple[str, Sequence[tuple[object, ...]]]]) -> None:
        try:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                for statement, rows in statements:
                    self._db.executemany(statement, rows)
                self._db.execute("COMMIT")
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
        except sqlite3.Error as error:
            raise StoreError(f"the history failed: {error}") from error

    def expire(self, before_unix: float, most: int, limit: int) -> tuple[int, list[str]]:
        """Drop up to `limit` of the oldest moments that are older than `before_unix` or whose answers are more than
        `most`, and as many refusals: how many rows went, and the subjects of which nothing is left.
        """
        db, edge = self._db, to_ripple(before_unix)
        try:
            (first,) = db.execute("SELECT coalesce(min(number), 0) FROM answer").fetchone()
            beyond = self._next_answer - first - most
            found = db.execute("SELECT number, close_time FROM moment ORDER BY number LIMIT ?", (limit,)).fetchall()
            old = [number for number, close_time in found if close_time < edge]
            if beyond > 0 and first:
                (upto,) = db.execute("SELECT moment FROM answer WHERE number = ?", (first + beyond - 1,)).fetchone()
                old += [number for number, close_time in found if close_time >= edge and number <= upto]
            gone = self._drop(max(old)) if old else []
            refused = self._drop_refused(int(before_unix), most, limit)
        except sqlite3.Error as error:
            raise StoreError(f"the history failed: {error}") from error
        return len(old) + refused, gone

    def _drop(self, upto: int) -> list[str]:
        """Drop the moments up to this one, with their answers."""
        subjects = {s for (s,) in self._db.execute("SELECT subject FROM answer WHERE moment <= ?", (upto,))}
        delete = [
            ("DELETE FROM answer WHERE moment <= ?", [(upto,)]),
            ("DELETE FROM moment WHERE number <= ?", [(upto,)]),
        ]
        self._transact(delete)
        left = "SELECT EXISTS (SELECT 1 FROM answer WHERE subject = ?)"
        return [s for s in sorted(subjects) if not self._db.execute(left, (s,)).fetchone()[0]]

    def _drop_refused(self, before: int, most: int, limit: int) -> int:
        oldest = "SELECT number FROM refused ORDER BY number LIMIT ?"
        beyond = "(SELECT coalesce(max(number), 0) FROM refused) - ?"
        delete = f"DELETE FROM refused WHERE number IN ({oldest}) AND (at_unix < ? OR number <= {beyond})"
        before_changes = self._db.total_changes
        self._transact([(delete, [(limit, before, most)])])
        return self._db.total_changes - before_changes


def _refused_row(refused: RefusedAsk) -> tuple[object, ...]:
    because = None if refused.because is None else _encode(refused.because).decode()
    said = (refused.code.value, refused.reason, because)
    return (refused.at, refused.key, refused.server, refused.payee, refused.drops, *said)


def _moment_row(number: int, moment: Moment) -> tuple[object, ...]:
    kind = _PAYS if moment.collecting is None else _COLLECTS
    body = zlib.compress(_encode(moment.situation), _PRESSED)
    place = "/".join(moment.where)
    return (number, moment.ledger, moment.close_time, place, moment.payee, moment.policy.hash, kind, body)
