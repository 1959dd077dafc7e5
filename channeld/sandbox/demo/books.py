"""What the daemon's own store says, read from its file after the daemon has ended: the second witness."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from channeld.adapters.sqlite.reader import read_whole
from channeld.core.errors import StoreError
from channeld.sandbox.demo.chronicle import Payout


class StoreSays(NamedTuple):
    """`requests` is what each request key bought (channel, from, to), `authorized` what was signed on every channel
    there ever was, `payments` what is known to have reached payees up to ledger `processed`.
    """

    requests: Mapping[bytes, tuple[str, int, int]]
    authorized: Mapping[str, int]
    payments: Sequence[Payout]
    processed: int


def open_books(path: Path) -> StoreSays:
    """Read the store at `path`, changing nothing. Raises `StoreError` if it cannot be read."""
    try:
        with closing(read_whole(path)) as db:
            requests = db.execute(
                "SELECT key, channel_id, covers_from, covers_to FROM request JOIN channel ON row = request.channel"
            ).fetchall()
            authorized = db.execute("SELECT channel_id, authorized FROM channel").fetchall()
            payments = db.execute("SELECT channel_id, ledger, paid FROM payment").fetchall()
            processed = db.execute("SELECT value FROM meta WHERE key = 'processed'").fetchone()
    except sqlite3.Error as error:
        raise StoreError(f"cannot read the store {path}: {error}") from error
    return StoreSays(
        {bytes(key): (channel_id, start, end) for key, channel_id, start, end in requests},
        dict(authorized),
        [Payout(*payment) for payment in payments],
        int(processed[0]) if processed else 0,
    )
