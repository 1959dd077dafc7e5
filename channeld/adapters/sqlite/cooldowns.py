"""When each channel was last funded and paid out, and a channel last opened for each payee; all inside transactions."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

from channeld.core.intents import Intent, Kind
from channeld.core.outcome import subject_of
from channeld.core.units import ChannelId, RippleTime
from channeld.core.vocabulary import YEAR_S

COOLING = frozenset({Kind.OPEN, Kind.FUND, Kind.SETTLE})
"""What a policy may space."""


def keep(db: sqlite3.Connection, intents: Iterable[Intent], now: RippleTime) -> None:
    """These were decided now."""
    done = [(subject_of(i.action), i.action.kind.value, now) for i in intents if i.action.kind in COOLING]
    db.executemany("INSERT OR REPLACE INTO acted VALUES (?, ?, ?)", done)


def forget(db: sqlite3.Connection, channels: Iterable[ChannelId]) -> None:
    """These are closed."""
    db.executemany("DELETE FROM acted WHERE subject = ?", [(channel,) for channel in channels])


def load(db: sqlite3.Connection) -> dict[tuple[str, Kind], RippleTime]:
    """All that a cooldown may still ask for; what is older than the longest one is dropped."""
    db.execute("DELETE FROM acted WHERE at < (SELECT max(at) FROM acted) - ?", (YEAR_S,))
    return {(subject, Kind(kind)): RippleTime(at) for subject, kind, at in db.execute("SELECT * FROM acted")}
