"""What is written into the claims file and read from it, within a transaction: each decides before it writes."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple

from channeld.client.checks import Asked
from channeld.client.errors import ChangedAnswer, IdReused, SliceSeen
from channeld.core.units import Address, ChannelId, Drops, Payee
from channeld.wire.answers import Accepted, Claim, accepted_json, read_accepted


class Held(NamedTuple):
    """The best claim of a channel: what to redeem. `source_account` pays, `payee` collects."""

    claim: Claim
    source_account: Address
    payee: Payee


def remember(db: sqlite3.Connection, asked: Asked) -> Accepted | None:
    """A request, before it is sent; its answer, if it was accepted already. Raises `IdReused`."""
    row = db.execute("SELECT contents, state, answer FROM request WHERE id = ?", (asked.id,)).fetchone()
    if row is None:
        values = (*_columns(asked), "sent", int(time.time()))
        db.execute(
            "INSERT INTO request (id, account, tag, drops, not_after, contents, state, created)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            values,
        )
        return None
    contents, state, answer = row
    if contents != asked.contents:
        raise IdReused(f"id {asked.id!r} stands for another request: {contents}", id=asked.id)
    if state == "accepted":
        return read_accepted(answer)
    db.execute("UPDATE request SET state = 'sent' WHERE id = ?", (asked.id,))
    return None


def _columns(asked: Asked) -> tuple[Any, ...]:
    return asked.id, asked.payee.account, asked.payee.tag, asked.drops, asked.not_after, asked.contents


_ASKED: Final = "SELECT id, account, tag, drops, not_after, contents, state FROM request "


def _asked(row: Sequence[Any]) -> Asked:
    return Asked(row[0], Payee(Address(row[1]), row[2]), row[3], row[4], row[5])


def recall(db: sqlite3.Connection, request_id: str) -> tuple[Asked, str] | None:
    """A request by its id, and its state."""
    row = db.execute(_ASKED + "WHERE id = ?", (request_id,)).fetchone()
    return None if row is None else (_asked(row), row[6])


def unanswered(db: sqlite3.Connection) -> list[Asked]:
    """Requests without an answer, oldest first."""
    return [_asked(row) for row in db.execute(_ASKED + "WHERE state = 'sent' ORDER BY created, id")]


def mark(db: sqlite3.Connection, request_id: str, state: str) -> None:
    """Note what became of a request that was not accepted."""
    db.execute("UPDATE request SET state = ? WHERE id = ? AND state <> 'accepted'", (state, request_id))


def keep(db: sqlite3.Connection, asked: Asked, said: Accepted) -> None:
    """Book a verified answer. Raises `ChangedAnswer` or `SliceSeen`."""
    state, answer = db.execute("SELECT state, answer FROM request WHERE id = ?", (asked.id,)).fetchone()
    if state == "accepted":
        before = read_accepted(answer)
        if _bought(before) != _bought(said):
            text = f"id {asked.id!r} was answered with {_bought(before)} before, and now with {_bought(said)}"
            raise ChangedAnswer(text, id=asked.id, accepted=said)
        return
    take_slice(db, said)
    keep_best(db, said)
    db.execute("UPDATE request SET state = 'accepted', answer = ? WHERE id = ?", (accepted_json(said), asked.id))


def _bought(said: Accepted) -> tuple[str, int, int, int]:
    return said.claim.channel_id, said.claim.amount, said.covers_from, said.covers_to


def take_slice(db: sqlite3.Connection, said: Accepted) -> None:
    """Book a slice that no other overlaps, joined with its neighbours; raises `SliceSeen`."""
    channel, start, stop = said.claim.channel_id, said.covers_from, said.covers_to
    before = db.execute(
        "SELECT start, stop FROM slice WHERE channel_id = ? AND start <= ? ORDER BY start DESC LIMIT 1",
        (channel, start),
    ).fetchone()
    after = db.execute(
        "SELECT start, stop FROM slice WHERE channel_id = ? AND start > ? ORDER BY start LIMIT 1", (channel, start)
    ).fetchone()
    for other in (before, after):
        if other is not None and other[0] < stop and start < other[1]:
            text = f"the slice {start}..{stop} of {channel} overlaps {other[0]}..{other[1]}, which is sold"
            raise SliceSeen(text, id=said.id, accepted=said)
    if before is not None and before[1] == start:
        start = before[0]
    if after is not None and after[0] == stop:
        stop = after[1]
        db.execute("DELETE FROM slice WHERE channel_id = ? AND start = ?", (channel, after[0]))
    db.execute("INSERT OR REPLACE INTO slice VALUES (?, ?, ?)", (channel, start, stop))


def keep_best(db: sqlite3.Connection, said: Accepted) -> None:
    """Keep a claim, if it is the best of its channel."""
    claim = said.claim
    row = db.execute("SELECT amount FROM best WHERE channel_id = ?", (claim.channel_id,)).fetchone()
    if row is None or row[0] < claim.amount:
        db.execute(
            "INSERT OR REPLACE INTO best VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                claim.channel_id,
                claim.amount,
                claim.signature,
                claim.public_key,
                said.source_account,
                said.payee.account,
                said.payee.tag,
                time.time_ns(),
            ),
        )


def read_best(db: sqlite3.Connection) -> list[Held]:
    """The best claim of every channel, the one kept last first."""
    rows = db.execute(
        "SELECT channel_id, amount, signature, public_key, source_account, account, tag FROM best ORDER BY kept DESC"
    )
    return [
        Held(
            Claim(ChannelId(channel), Drops(amount), signature, key),
            Address(source),
            Payee(Address(account), tag),
        )
        for channel, amount, signature, key, source, account, tag in rows
    ]


def slices(db: sqlite3.Connection) -> Iterable[tuple[str, int, int]]:
    """What was bought, joined: channel, from, to."""
    return db.execute("SELECT channel_id, start, stop FROM slice ORDER BY channel_id, start").fetchall()
