"""Reading a store from another process, or beside the writer, without ever waiting for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import aiosqlite

from channeld.adapters.sqlite import rows
from channeld.core.errors import StoreError
from channeld.core.records import ChannelRecord


async def read_channels(path: Path) -> list[ChannelRecord]:
    """Every channel in the store at `path` that is not gone."""
    query = f"SELECT {rows.CHANNEL_COLUMNS} FROM channel WHERE closed_at IS NULL ORDER BY row"
    return [rows.channel_record(tuple(row)) for row in await _fetch(path, query)]


async def read_facts(path: Path) -> dict[str, Any]:
    """What a store says of itself: its id, network, last processed ledger, and how much it holds."""
    facts: dict[str, Any] = dict(await _fetch(path, "SELECT key, value FROM meta"))
    sums = await _fetch(
        path,
        "SELECT count(*), coalesce(sum(authorized), 0), coalesce(sum(balance), 0), (SELECT count(*) FROM request)"
        " FROM channel",
    )
    names = ("channels_ever", "drops_authorized", "drops_paid", "requests_remembered")
    return facts | dict(zip(names, sums[0], strict=True))


async def _fetch(path: Path, query: str) -> list[tuple[Any, ...]]:
    try:
        async with aiosqlite.connect(f"file:{path}?mode=ro", uri=True) as db, db.execute(query) as cursor:
            return [tuple(row) for row in await cursor.fetchall()]
    except aiosqlite.Error as error:
        raise StoreError(f"cannot read the store {path}: {error}") from error
