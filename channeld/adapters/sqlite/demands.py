"""What is kept of payees' demand and of the rhythm of pools; all inside transactions."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import astuple
from typing import Final

from channeld.core.records import Learnt
from channeld.core.rhythm import Rhythm
from channeld.core.trace import MOST_KEPT_S, Trace

MOST_KEPT: Final = 1_000_000
"""Payees and users whose demand is remembered; of more, those that asked last."""


def keep(db: sqlite3.Connection, learnt: Learnt) -> None:
    """Each replaces what was known of its payee or pool."""
    db.executemany("INSERT OR REPLACE INTO demand VALUES (?, ?, ?)", learnt.traces)
    for pool, rhythm in learnt.rhythms:
        db.execute("INSERT OR REPLACE INTO rhythm VALUES (?, ?)", (pool, json.dumps(astuple(rhythm))))


def load(db: sqlite3.Connection) -> tuple[dict[str, bytes], dict[str, Rhythm]]:
    """Traces by pool/payee and rhythms by pool; what is too old, or too much, is forgotten."""
    db.execute("DELETE FROM demand WHERE at < (SELECT max(at) FROM demand) - ?", (MOST_KEPT_S,))
    (count,) = db.execute("SELECT count(*) FROM demand").fetchone()
    if count > MOST_KEPT:
        oldest = "SELECT place FROM demand ORDER BY at, place LIMIT ?"
        db.execute(f"DELETE FROM demand WHERE place IN ({oldest})", (count - MOST_KEPT,))
    traces = {place: kept for place, kept in db.execute("SELECT place, trace FROM demand") if _readable(kept)}
    return traces, {pool: _rhythm(body) for pool, body in db.execute("SELECT pool, body FROM rhythm")}


def _readable(kept: bytes) -> bool:
    """Whether it is a trace as this channeld keeps it."""
    try:
        Trace.unpack(kept)
    except ValueError:
        return False
    return True


def _rhythm(body: str) -> Rhythm:
    drops, active, seen, off, came, ended = json.loads(body)
    return Rhythm(tuple(drops), tuple(active), tuple(seen), off, came, tuple(ended))
