"""What content servers are still to be told, numbered for each of them without a gap.

An event is written in the transaction of what caused it and takes the next number of its server. It goes when the
broker has it. A server that cannot be told for very long loses the oldest: it sees the gap, and reads anew.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable, Sequence
from typing import Final, NamedTuple

from channeld.adapters.sqlite.file import Begin
from channeld.core.news import Event, News

MOST_WAITING: Final = 10_000
"""Events of one server that may wait."""
_COLUMNS: Final = (
    "event, channel_id, destination, destination_tag, amount, balance, expiration, ledger, hash, paid, owed"
)
_INSERT: Final = f"INSERT INTO event (server, seq, {_COLUMNS}) VALUES (?, ?, {', '.join('?' * 11)})"
_TAKE_NUMBER: Final = (
    "INSERT INTO event_last (server, seq) VALUES (?, 1) ON CONFLICT DO UPDATE SET seq = seq + 1 RETURNING seq"
)


class Waiting(NamedTuple):
    """An event that waits. `number` orders those of all servers, `seq` those of its server."""

    number: int
    server: str
    seq: int
    event: Event


def keep(db: sqlite3.Connection, told: Iterable[tuple[str, Event]]) -> None:
    """Inside a transaction: give every event the next number of its server, and let it wait."""
    last: dict[str, int] = {}
    for server, event in told:
        (last[server],) = db.execute(_TAKE_NUMBER, (server,)).fetchone()
        db.execute(_INSERT, (server, last[server], event.news.value, *event[1:]))
    for server, seq in last.items():
        db.execute("DELETE FROM event WHERE server = ? AND seq <= ?", (server, seq - MOST_WAITING))


class Events:
    """`begin` opens a transaction that is on disk when it ends, and raises `StoreError` where that fails."""

    def __init__(self, begin: Begin) -> None:
        self._begin = begin

    def waiting(self, after: int, limit: int) -> list[Waiting]:
        """Up to `limit` events above number `after`, in order."""
        query = f"SELECT number, server, seq, {_COLUMNS} FROM event WHERE number > ? ORDER BY number LIMIT ?"
        with self._begin() as db:
            rows = db.execute(query, (after, limit)).fetchall()
        return [Waiting(n, server, seq, Event(News(news), *facts)) for n, server, seq, news, *facts in rows]

    def done(self, numbers: Sequence[int]) -> None:
        """The broker has these."""
        with self._begin() as db:
            db.executemany("DELETE FROM event WHERE number = ?", [(number,) for number in numbers])

    def only(self, servers: Collection[str]) -> None:
        """Drop what waits for any other server: it may be told nothing any more. Its count goes on."""
        with self._begin() as db:
            known = [server for (server,) in db.execute("SELECT DISTINCT server FROM event")]
            gone = [(server,) for server in known if server not in servers]
            db.executemany("DELETE FROM event WHERE server = ?", gone)
