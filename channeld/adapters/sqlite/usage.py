"""What content servers asked for, hour by hour: kept for accounting, apart from what decides and a little behind."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from channeld.adapters.sqlite.file import Begin
from channeld.core.errors import StoreError

Accepted = tuple[str, int, int, int, int]
"""Server, hour, the channel's row, requests, drops."""
Key = tuple[str, int, str, str]
"""Server, hour, payee (empty: none was readable), code."""
KEPT_HOURS: Final = 400 * 24

_ON_CONFLICT: Final = (
    "ON CONFLICT DO UPDATE SET requests = requests + excluded.requests, drops = drops + excluded.drops"
)
ADD_ACCEPTED: Final = (
    "INSERT INTO usage (server, hour, payee, code, requests, drops)"
    " SELECT ?1, ?2, destination || coalesce(':' || destination_tag, ''), 'accepted', ?4, ?5 FROM channel"
    f" WHERE row = ?3 {_ON_CONFLICT}"
)
_ADD_REJECTED: Final = (
    "INSERT INTO usage (server, hour, payee, code, requests, drops) VALUES (?, ?, ?, ?, ?, 0) " + _ON_CONFLICT
)
_TOTALS: Final = (
    "SELECT payee, code, sum(requests), sum(drops) FROM usage WHERE server = ?1 AND hour >= ?2 AND hour < ?3"
    " AND (?4 IS NULL OR payee > ?4) GROUP BY payee, code ORDER BY payee, code LIMIT ?5"
)
_FORGET: Final = (
    "DELETE FROM usage WHERE (server, hour, payee, code) IN"
    " (SELECT server, hour, payee, code FROM usage WHERE server = ? AND hour < ? LIMIT ?)"
)
_ALL: Final = (
    "SELECT server, payee, code, sum(requests), sum(drops) FROM usage WHERE hour >= ? AND hour < ?"
    " GROUP BY server, payee, code ORDER BY server, payee, code"
)


class Usage:
    """`begin` opens a transaction that is on disk when it ends, and raises `StoreError` where that fails."""

    def __init__(self, begin: Begin) -> None:
        self._begin = begin

    def rejected(self, counts: Mapping[Key, int]) -> None:
        """Add what was rejected."""
        with self._begin() as db:
            db.executemany(_ADD_REJECTED, [(*key, count) for key, count in counts.items()])

    def forget(self, servers: Iterable[str], hour: int, limit: int) -> bool:
        """Drop up to `limit` rows of what these servers asked for more than `KEPT_HOURS` before `hour`; whether more
        are left. There is one for each payee an hour.
        """
        with self._begin() as db:
            for server in servers:
                limit -= db.execute(_FORGET, (server, hour - KEPT_HOURS, limit)).rowcount
                if limit <= 0:
                    return True
        return False


def read_totals(
    path: Path, server: str, hours: tuple[int, int], after: str | None, limit: int
) -> list[tuple[str, str, int, int]]:
    """Payee, code, requests and drops of one server in hours from..to, beyond payee `after`. Call it in a thread."""
    return _read(path, _TOTALS, (server, *hours, after, limit))


def read_usage(path: Path, hours: tuple[int, int]) -> list[tuple[str, str, str, int, int]]:
    """Server, payee, code, requests and drops in hours from..to."""
    return _read(path, _ALL, hours)


def _read(path: Path, query: str, values: tuple[object, ...]) -> list[Any]:
    try:
        db = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
        try:
            return db.execute(query, values).fetchall()
        finally:
            db.close()
    except sqlite3.Error as error:
        raise StoreError(f"cannot read the store {path}: {error}") from error
