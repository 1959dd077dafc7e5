"""What was accepted: appended as one row a group on the hot path, folded into blocks and tables later, in slices.

A commit that had to touch a page of the index for every request, and one of every channel it debits, would grow with
the store. So a group is one row of `request_group`: its requests, how far it signed which channels, and what its
servers spent. Until it is folded, memory holds it; after a crash the rows that are left are read again. Its requests
may stand in the index before it goes, and what it says of channels and servers in their tables; what is summed there is
known by its number, so nothing counts twice. In one transaction its requests become blocks, and its row is deleted.

A mark in a group tells how far a channel was signed then. The channel's own row may be ahead of it (`apply` writes it
forward when a ledger changes the channel); the higher authorised amount is always the newer one.
"""

from __future__ import annotations

import sqlite3
from bisect import bisect_right
from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import count
from typing import Final

from channeld.adapters.sqlite import archive
from channeld.adapters.sqlite.blocks import Blocks, Kept
from channeld.adapters.sqlite.folding import Folding, Step, last_summed
from channeld.adapters.sqlite.groups import Body, Group, Spent, decode, encode
from channeld.core.allowance import SHORT_LIVED, USUAL_HOURS
from channeld.core.records import Accepted, ChannelMark, ChannelRecord, Remembered

_SPENT_HOURS_KEPT: Final = USUAL_HOURS + 2
_SHORT_HOURS_KEPT: Final = 2
"""Beyond the day for which ids are remembered at least, of what is short-lived."""
_NOT_SHORT: Final = chr(ord(SHORT_LIVED) + 1)
_LAST: Final = chr(0x10FFFF)
"""Sorts behind the name of any server, user, payee or tier."""
_SWEPT: Final = 4096
BATCH: Final = 16_384
"""Requests folded as one batch: the larger, the fewer writes of pages of the index and of rows with sums."""

_INSERT_GROUP: Final = "INSERT INTO request_group (number, body) VALUES (?, ?)"
_RAISE: Final = (
    "UPDATE channel SET authorized = ?2, last_claim_at = ?3, unredeemed_since = ?4 WHERE row = ?1 AND authorized < ?2"
)

_SPENT_BEHIND: Final = (
    "SELECT server, hour FROM spent WHERE (server, hour) > (?, ?) ORDER BY server, hour LIMIT 1 OFFSET ?"
)
_FORGET_SPENT: Final = (
    "DELETE FROM spent WHERE (server, hour) > (?, ?) AND (server, hour) <= (?, ?)"
    " AND (hour < ? OR (server >= ? AND server < ? AND hour < ?))"
)


class RequestLog:
    """The requests of one store. Every method that writes must run inside a transaction of the caller's.

    After a transaction that failed nothing here may be used before `load` has read the disk again.
    """

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._blocks = Blocks(db)
        self._clear()

    def _clear(self) -> None:
        self._pending: deque[Group] = deque()
        self._recent: dict[bytes, int] = {}
        self._marks: dict[int, ChannelMark] = {}
        self._absent: set[bytes] = set()
        self._batch: Folding | None = None
        self._next_number = self._next_seq = self._oldest_seq = 1
        self._summed = 0
        self._cleaned: int | None = None
        self._swept_to: tuple[str, int] | None = None
        self._by_hour: dict[int, Counter[str]] = {}
        self.by_server: Counter[str] = Counter()
        """How many of the requests that are remembered each content server has, forgotten ones by whole hours."""

    @property
    def backlog(self) -> int:
        """Requests that are on disk and not folded yet."""
        return len(self._recent)

    @property
    def count(self) -> int:
        """Requests remembered, folded or not; where the clock jumped, some that are forgotten already may count."""
        return self._next_seq - self._oldest_seq

    @property
    def oldest(self) -> int:
        """The number of the oldest request that is remembered; the next one's if there is none."""
        return self._oldest_seq

    @property
    def last(self) -> int:
        """The number of the last request there was."""
        return self._next_seq - 1

    @property
    def since_unix(self) -> int | None:
        """When the oldest of them was accepted; None if there is none."""
        return min((at for at in (self._blocks.oldest_unix, self.oldest_unix) if at is not None), default=None)

    def load(self) -> dict[tuple[str, int], int]:
        """Read what is not folded; drops spent by (server, hour), folded or not."""
        self._clear()
        spent = {(s, h): d for s, h, d in self._db.execute("SELECT server, hour, drops FROM spent")}
        for server, hour, requests in self._db.execute("SELECT server, hour, requests FROM accepted"):
            self._count({server: requests}, hour)
        oldest, self._summed = self._blocks.load(), last_summed(self._db)
        self._next_seq = max(self._blocks.end(), archive.last_use(self._db) + 1, self._summed + 1)
        for number, blob in self._db.execute("SELECT number, body FROM request_group ORDER BY number"):
            body = decode(blob)
            marks = [ChannelMark(*mark) for mark in body.marks]
            self.took(_group(number, body), marks)
            for server, hour, drops in body.spent if body.first > self._summed else ():
                spent[server, hour] = spent.get((server, hour), 0) + drops
        self._oldest_is(oldest)
        return spent

    def _count(self, requests: Mapping[str, int], hour: int) -> None:
        by_hour = self._by_hour.get(hour)
        if by_hour is None:
            by_hour = self._by_hour[hour] = Counter()
        for server, requested in requests.items():
            self.by_server[server] += requested
            by_hour[server] += requested

    def _oldest_is(self, folded: int | None) -> None:
        self._oldest_seq = self._next_seq - self.backlog if folded is None else folded

    def forward(self, record: ChannelRecord) -> ChannelRecord:
        """A channel's record as read from its row, brought forward by what is not folded."""
        mark = self._marks.get(record.row)
        if mark is None or mark.authorized <= record.authorized:
            return record
        moved = (mark.authorized, mark.last_claim_at, mark.unredeemed_since)
        return replace(record, authorized=moved[0], last_claim_at=moved[1], unredeemed_since=moved[2])

    # --- looking up --------------------------------------------------------------------------------------------------

    def lookup(self, keys: Sequence[bytes]) -> dict[bytes, Remembered]:
        """Which of these requests were accepted, and as what."""
        recent = self._recent
        older = [key for key in keys if key not in recent]
        found = {}
        if len(older) < len(keys):
            found = {key: self._recall(recent[key]) for key in keys if key in recent}
        kept = self._blocks.find(older) if older else {}
        self._absent = set(older).difference(kept)
        found.update(kept)
        return {key: Remembered(*request[:5]) for key, request in found.items()}

    def _recall(self, number: int) -> Kept:
        """A request that is not folded, by its number."""
        group = self._pending[bisect_right(self._pending, number, key=_first) - 1]
        return group.body.request(number - group.body.first)

    def known(self, keys: Sequence[bytes]) -> bool:
        """Whether one of these ids was accepted, or stands here twice. Cheap for what `lookup` has just not found."""
        distinct = set(keys)
        if len(distinct) != len(keys):
            return True
        unsure = distinct - self._absent
        return bool(unsure) and bool(self.lookup(list(unsure)))

    # --- writing -----------------------------------------------------------------------------------------------------

    def append(self, now: int, requests: Accepted, marks: Sequence[ChannelMark], spent: Sequence[Spent]) -> Group:
        """Write a group down. `took` must be told once it is committed."""
        body = Body(now, self._next_seq, *requests, marks, spent)
        self._db.execute(_INSERT_GROUP, (self._next_number, encode(body)))
        return _group(self._next_number, body)

    def took(self, group: Group, marks: Sequence[ChannelMark]) -> None:
        """The group is on disk, just committed or found there."""
        body = group.body
        self._pending.append(group)
        self._recent.update(zip(body.keys, count(body.first)))
        self._marks.update((m.row, m) for m in marks)
        self._absent.clear()
        self._next_number, self._next_seq = group.number + 1, max(self._next_seq, body.first + len(body.keys))
        new = max(0, self._summed + 1 - body.first)  # of those before, found at a start, the table says it
        self._count(Counter(body.servers[new:] if new else body.servers), body.at_unix // 3600)

    def settle_marks(self, rows: Iterable[int]) -> None:
        """Write these channels' own rows forward to how far they are signed."""
        marks = self._marks
        found = [marks[row] for row in rows if row in marks]
        values = [(m.row, m.authorized, m.last_claim_at, m.unredeemed_since) for m in found]
        self._db.executemany(_RAISE, values)

    @property
    def folding(self) -> bool:
        """Whether a batch was begun and is not done."""
        return self._batch is not None

    @property
    def oldest_unix(self) -> int | None:
        """When the oldest request that is not folded was accepted; None if all are."""
        return self._pending[0].body.at_unix if self._pending else None

    def fold(self, limit: int) -> Step:
        """A step of a batch, see `Folding`; the first call takes the oldest groups as one. Something must be pending.

        `folded` must be told once it is committed.
        """
        if self._batch is None:
            self._batch = Folding(self._db, self._blocks, self._next_batch(), self._summed, self.settle_marks)
        return self._batch.step(limit)

    def _next_batch(self) -> list[Group]:
        groups, requests = list[Group](), 0
        for group in self._pending:
            groups.append(group)
            requests += len(group.body.keys)
            if requests >= BATCH:
                break
        return groups

    def folded(self, step: Step) -> int:
        """A step of folding is committed; how many requests or channels it went through."""
        if self._batch is not None and self._batch.done:
            self._batch = None
        if self._blocks.oldest_unix is None and step.ended:
            self._blocks.find_oldest()
        for group in step.ended:
            assert self._pending.popleft() is group
            for key in group.body.keys:
                del self._recent[key]
        if not self._pending:
            self._marks.clear()
        return step.did

    def forget(self, before: int, limit: int) -> int:
        """Drop the oldest folded requests accepted before `before` (Unix seconds), until `limit` went, and those that
        stand in one block with them; how many went.
        """
        gone = self._blocks.forget(before, limit)
        if (hour := before // 3600) != self._cleaned:
            self._cleaned, self._swept_to = hour, ("", 0)
            self._db.execute("DELETE FROM accepted WHERE hour < ?", (hour,))
            for old in [known for known in self._by_hour if known < hour]:
                self.by_server.subtract(self._by_hour.pop(old))
        if self._swept_to is not None:
            self._swept_to = self._sweep_spent(self._swept_to, hour)
        if gone:
            self._oldest_is(self._blocks.find_oldest())
        return gone

    def _sweep_spent(self, after: tuple[str, int], hour: int) -> tuple[str, int] | None:
        """Look at some rows of `spent`, and drop those that are too old in `hour`; the last of them, None at the end.

        There may be millions: an hour of each user.
        """
        last: tuple[str, int] | None = self._db.execute(_SPENT_BEHIND, (*after, _SWEPT)).fetchone()
        old = (hour - _SPENT_HOURS_KEPT, SHORT_LIVED, _NOT_SHORT, hour - _SHORT_HOURS_KEPT)
        self._db.execute(_FORGET_SPENT, (*after, *(last or (_LAST, 0)), *old))
        return last

    def spread(self) -> None:
        """Make a table `request` that has a row for each folded request, for audits and tests."""
        self._blocks.spread()


def _group(number: int, body: Body) -> Group:
    """Keep of a group what is needed to fold it; of the marks that is whose they are, so `body` loses them."""
    marked, body.marks = tuple([mark[0] for mark in body.marks]), ()
    return Group(number, body, marked)


def _first(group: Group) -> int:
    return group.body.first
