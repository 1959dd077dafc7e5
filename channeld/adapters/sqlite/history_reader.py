"""Reading the history, beside its writer or without it. A history that is not there is an empty one.

Every function raises `StoreError` for a file that cannot be read.
"""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Final

import msgspec

from channeld.core.collecting import Collecting
from channeld.core.errors import StoreError
from channeld.core.history import Answered, RefusedAsk, Told
from channeld.core.intents import Kind
from channeld.core.requests import Because, Code
from channeld.core.units import MAX_UINT32, RippleTime
from channeld.core.world import World

_COLUMNS: Final = (
    "a.number, m.ledger, m.close_time, m.place, m.payee, m.policy_hash, a.subject, a.kind, a.because, a.reason, a.path,"
    " a.target, a.until, a.intent, a.inputs FROM answer a JOIN moment m ON m.number = a.moment"
)
_END: Final = RippleTime(MAX_UINT32)
_world = msgspec.json.Decoder(World).decode
_because = msgspec.json.Decoder(Because).decode
_collecting = msgspec.json.Decoder(Collecting).decode


@dataclass(frozen=True, slots=True)
class Recorded:
    """A moment of the history with all that was decided from: None where a later channeld cannot read it any more."""

    number: int
    close_time: RippleTime
    place: str
    policy_hash: str
    situation: World | Collecting | None
    answers: tuple[Told, ...]


@contextmanager
def _reading(path: Path) -> Iterator[sqlite3.Connection]:
    try:
        name = f"file:{path}?mode=ro" if path.is_file() else ":memory:"
        with closing(sqlite3.connect(name, uri=True)) as db:
            if name == ":memory:":
                db.executescript((resources.files(__package__) / "history.sql").read_text())
            db.execute("BEGIN")
            yield db
    except (sqlite3.Error, zlib.error) as error:
        raise StoreError(f"cannot read the history {path}: {error}") from error


def read_answers(path: Path, subject: str, *, until: int = _END, limit: int = 100) -> list[Told]:
    """The last answers about a subject up to a close time, oldest first."""
    query = f"SELECT {_COLUMNS} WHERE a.subject = ? AND m.close_time <= ? ORDER BY a.number DESC LIMIT ?"
    return _told(path, query, (subject, until, limit))[::-1]


def read_payee(path: Path, payee: str, *, until: int = _END, limit: int = 100) -> list[Told]:
    """The last answers about a payee itself, in whatever pool, up to a close time, oldest first."""
    query = (
        f"SELECT {_COLUMNS} WHERE m.payee = ? AND a.subject = m.place AND m.close_time <= ?"
        " ORDER BY a.number DESC LIMIT ?"
    )
    return _told(path, query, (payee, until, limit))[::-1]


def read_intent(path: Path, subject: str, intent: int) -> Told | None:
    """The answer about a subject that is an intent of this number, the newest."""
    query = f"SELECT {_COLUMNS} WHERE a.subject = ? AND a.intent = ? ORDER BY a.number DESC LIMIT 1"
    return next(iter(_told(path, query, (subject, intent))), None)


def read_since(path: Path, payee: str, since: int, *, limit: int = 20) -> list[Told]:
    """The first answers about a payee or its channels as of a close time or later, oldest first."""
    query = f"SELECT {_COLUMNS} WHERE m.payee = ? AND m.close_time >= ? ORDER BY a.number LIMIT ?"
    return _told(path, query, (payee, since, limit))


def read_refused(path: Path, key: bytes) -> list[RefusedAsk]:
    """Every time a request was refused, as far as that was kept, oldest first."""
    columns = "at_unix, key, server, payee, drops, code, reason, because"
    with _reading(path) as db:
        found = db.execute(f"SELECT {columns} FROM refused WHERE key = ? ORDER BY number", (key,)).fetchall()
    return [_refused(row) for row in found]


def _refused(row: tuple[Any, ...]) -> RefusedAsk:
    at, key, server, payee, drops, code, reason, because = row
    told = None if because is None else _because(because)
    return RefusedAsk(at, key, server, payee, drops, Code(code), reason, told)


def find_subjects(path: Path, prefix: str, limit: int = 3) -> list[str]:
    """Subjects whose name begins so, up to `limit`."""
    with _reading(path) as db:
        query = "SELECT DISTINCT subject FROM answer WHERE subject >= ? AND subject < ? ORDER BY subject LIMIT ?"
        return [subject for (subject,) in db.execute(query, (prefix, prefix + "\uffff", limit))]


def read_span(path: Path) -> dict[str, int | None]:
    """How far back it goes (ripple time, None: it is empty), and how many answers it holds."""
    with _reading(path) as db:
        ((since,),) = db.execute("SELECT min(close_time) FROM (SELECT close_time FROM moment ORDER BY number LIMIT 1)")
        ((answers,),) = db.execute("SELECT coalesce(max(number) - min(number) + 1, 0) FROM answer")
    return {"since": since, "answers": answers}


def ledger_at(path: Path, until: int) -> int:
    """The last ledger on record that had closed at a close time; 0 where the history does not go back so far."""
    with _reading(path) as db:
        ((low, high),) = db.execute("SELECT coalesce(min(number), 1), coalesce(max(number), 0) FROM moment")
        found = 0
        while low <= high:  # numbers have no gap, and close times rise with them
            middle = (low + high) // 2
            ((ledger, at),) = db.execute("SELECT ledger, close_time FROM moment WHERE number = ?", (middle,))
            if at <= until:
                low, found = middle + 1, ledger
            else:
                high = middle - 1
    return int(found)


def read_moments(path: Path, *, since: int = 0, after: int = 0, limit: int = 500) -> list[Recorded]:
    """Moments above number `after`, as of close time `since`, in their order."""
    query = (
        "SELECT number, close_time, place, policy_hash, kind, situation FROM moment"
        " WHERE number > ? AND close_time >= ? ORDER BY number LIMIT ?"
    )
    with _reading(path) as db:
        found = db.execute(query, (after, since, limit)).fetchall()
        if not found:
            return []
        span = (found[0][0], found[-1][0])
        rows = db.execute(f"SELECT a.moment, {_COLUMNS} WHERE m.number BETWEEN ? AND ? ORDER BY a.number", span)
        answers: dict[int, list[Told]] = {}
        for moment, *row in rows:
            answers.setdefault(moment, []).append(_one(tuple(row)))
        return [
            Recorded(number, at, place, policy, _situation(kind, body), tuple(answers.get(number, ())))
            for number, at, place, policy, kind, body in found
        ]


def _situation(kind: str, body: bytes) -> World | Collecting | None:
    try:
        return (_world if kind == "pays" else _collecting)(zlib.decompress(body))
    except msgspec.DecodeError:
        return None


def _told(path: Path, query: str, parameters: tuple[object, ...]) -> list[Told]:
    with _reading(path) as db:
        return [_one(row) for row in db.execute(query, parameters)]


def _one(row: tuple[Any, ...]) -> Told:
    number, ledger, at, place, payee, policy, subject, kind, because, reason, path, target, until, intent, inputs = row
    said = Answered(subject, Kind(kind) if kind else None, because, reason, tuple(path.split()), target, until, intent)
    return Told(number, ledger, at, place, payee, policy, said, msgspec.json.decode(inputs))
