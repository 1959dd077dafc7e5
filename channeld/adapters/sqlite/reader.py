"""Reading a store from another process, or beside the writer, without ever waiting for it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import aiosqlite

from channeld.adapters.sqlite import blocks, claims, rows
from channeld.adapters.sqlite.groups import accepted_in, signed_in
from channeld.adapters.sqlite.request_log import RequestLog
from channeld.core.errors import StoreError
from channeld.core.records import ChannelRecord, Incoming
from channeld.core.units import Address
from channeld.wire.events import channel_state


async def read_channels(path: Path) -> list[ChannelRecord]:
    """Every channel in the store at `path` that is not gone, signed as far as the newest group on disk says."""
    query = f"SELECT {rows.CHANNEL_COLUMNS} FROM channel WHERE closed_at IS NULL ORDER BY row"
    found, groups = await _fetch(path, query, "SELECT body FROM request_group ORDER BY number")
    highest = signed_in(body for (body,) in groups)
    records = [rows.channel_record(row) for row in found]
    for record in records:
        record.authorized = max(record.authorized, highest.get(record.row, 0))
    return records


async def read_incoming(path: Path) -> list[Incoming]:
    """Every channel in the store at `path` that pays us and is not gone, with the best claim held on it."""
    (found,) = await _fetch(path, claims.LIVE)
    return [claims.record(row) for row in found]


async def read_balances(path: Path) -> dict[Address, int]:
    """What the balances of our accounts must be as of the last processed ledger."""
    (found,) = await _fetch(path, "SELECT account, balance FROM book")
    return {Address(row[0]): int(row[1]) for row in found}


async def read_facts(path: Path) -> dict[str, Any]:
    """What a store says of itself: its id, network, last processed ledger, and how much went through it."""
    totals = (
        "SELECT count(*), coalesce(sum(balance), 0), (SELECT count(*) FROM payment)"
        " + (SELECT coalesce(sum(payments), 0) FROM archive WHERE NOT incoming), coalesce(sum(archived), 0) FROM"
        " (SELECT balance, 0 AS archived FROM channel UNION ALL SELECT balance, 1 FROM archive WHERE NOT incoming)"
    )
    meta, sums = await _fetch(path, "SELECT key, value FROM meta WHERE key <> 'index_secret'", totals)
    names = ("channels_ever", "drops_paid", "payments", "channels_archived")
    return dict(meta) | dict(zip(names, sums[0], strict=True))


def read_request(path: Path, key: bytes) -> dict[str, Any] | None:
    """What the request of this key was accepted as, folded into the tables or not; None if it was not."""
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
            db.execute("BEGIN")
            groups = (body for (body,) in db.execute("SELECT body FROM request_group ORDER BY number"))
            folded = blocks.Blocks(db)
            folded.load()
            found = folded.find([key]).get(key) or accepted_in(groups, key)
            if found is None:
                return None
            _, row, covers_from, covers_to, signed, at = found
            query = f"SELECT {rows.CHANNEL_COLUMNS} FROM channel WHERE row = ?"
            record = rows.channel_record(db.execute(query, (row,)).fetchone())
    except sqlite3.Error as error:
        raise StoreError(f"cannot read the store {path}: {error}") from error
    return {
        "accepted_at_unix": at,
        "drops": str(covers_to - covers_from),
        "covers": {"from": str(covers_from), "to": str(covers_to)},
        "amount": str(signed),
        "channel_id": record.channel.channel_id,
        "payee": str(record.channel.payee),
        "channel_state": channel_state(record),
        "paid": str(record.channel.balance),
    }


def read_whole(path: Path) -> sqlite3.Connection:
    """A private copy, in memory, of a store as it would be with everything folded into its tables, and with a table
    `request` that has a row for each request: `key`, `channel` (the row of its), `covers_from`, ...

    For audits and tests that read tables; it takes as much memory as the file is large. Raises `StoreError`.
    """
    try:
        copy = sqlite3.connect(":memory:", isolation_level=None)
        source = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
        try:
            source.backup(copy)
        finally:
            source.close()
        requests = RequestLog(copy)
        requests.load()
        while requests.backlog:
            requests.folded(requests.fold(limit=1 << 62))
        requests.spread()
    except sqlite3.Error as error:
        raise StoreError(f"cannot read the store {path}: {error}") from error
    return copy


async def _fetch(path: Path, *queries: str) -> list[list[tuple[Any, ...]]]:
    """The rows of several queries, all as of the same moment."""
    try:
        async with aiosqlite.connect(f"file:{path}?mode=ro", uri=True) as db:
            await db.execute("BEGIN")
            return [[tuple(row) for row in await db.execute_fetchall(query)] for query in queries]
    except aiosqlite.Error as error:
        raise StoreError(f"cannot read the store {path}: {error}") from error
