"""What is kept of closes with notice, early ends, and time in which we were not there; all inside transactions."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from typing import Final

from channeld.core.policy import LONGEST_WINDOW
from channeld.core.records import Announced, Attended
from channeld.core.units import ChannelId, Payee, RippleTime

MOST_ABSENCES: Final = 1000
_EARLY: Final = (
    "WITH ends AS (SELECT destination, destination_tag, cut_short_at AS at, row FROM channel WHERE at IS NOT NULL"
    " UNION ALL SELECT destination, destination_tag, cut_short_at, row FROM archive WHERE cut_short_at IS NOT NULL)"
    " SELECT destination, destination_tag, at FROM ends WHERE at > (SELECT max(at) FROM ends) - ? ORDER BY at, row"
)


def keep(db: sqlite3.Connection, announced: Iterable[Announced]) -> None:
    """Each replaces what was known of its channel; one that says nothing leaves nothing."""
    for notice in announced:
        db.execute("DELETE FROM notice WHERE channel_id = ?", (notice.channel_id,))
        if notice.due_since is not None or notice.noticed_at is not None:
            db.execute("INSERT INTO notice VALUES (?, ?, ?)", notice)


def forget(db: sqlite3.Connection, channels: Iterable[ChannelId]) -> None:
    """These are closed."""
    db.executemany("DELETE FROM notice WHERE channel_id = ?", [(channel,) for channel in channels])


def attend(db: sqlite3.Connection, attended: Attended | None) -> None:
    """What a ledger says of our being there."""
    if attended is None:
        return
    db.execute("INSERT OR REPLACE INTO meta VALUES ('attended_until', ?)", (str(attended.until),))
    if attended.absence is None:
        return
    db.execute("INSERT OR REPLACE INTO absence VALUES (?, ?)", attended.absence)
    oldest = db.execute("SELECT began, ended FROM absence ORDER BY began LIMIT 2").fetchall()
    (count,) = db.execute("SELECT count(*) FROM absence").fetchone()
    if count > MOST_ABSENCES:
        (began, ended), (later, last) = oldest
        db.execute("DELETE FROM absence WHERE began = ?", (later,))
        db.execute("UPDATE absence SET ended = ? WHERE began = ?", (ended + last - later, began))


def load_announced(db: sqlite3.Connection) -> list[Announced]:
    """Every close with notice that has begun."""
    return [Announced(*row) for row in db.execute("SELECT channel_id, due_since, noticed_at FROM notice")]


def load_absences(db: sqlite3.Connection) -> list[tuple[RippleTime, RippleTime]]:
    """Spans in which we were not there, in order."""
    return [(began, ended) for began, ended in db.execute("SELECT began, ended FROM absence ORDER BY began")]


def load_early_ends(db: sqlite3.Connection) -> list[tuple[Payee, RippleTime]]:
    """Whose channels ended early and when, in order, as far back as any policy may ask."""
    return [(Payee(account, tag), at) for account, tag, at in db.execute(_EARLY, (LONGEST_WINDOW,))]
