"""What was accepted: appended as one row a group on the hot path, folded into blocks and tables later, in slices.

A commit that had to touch a page of the index for every request, and one of every channel it debits, would grow with
the store. So a group is one row of `request_group`: its requests, how far it signed which channels, and what its
servers spent. Until it is folded, memory holds it; after a crash the rows that are left are read again. The requests of
a group may stand in the index before it goes. Its last step is one transaction: its requests become blocks, what it
says of channels and servers goes into their tables, and its row is deleted, so nothing counts twice.

A mark in a group tells how far a channel was signed then. The channel's own row may be ahead of it (`apply` writes it
forward when a ledger changes the channel); the higher authorised amount is always the newer one.
"""

from __future__ import annotations

import sqlite3
from array import array
from bisect import bisect_right
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, count, groupby
from typing import Final

import msgspec

from channeld.adapters.sqlite import archive, usage
from channeld.adapters.sqlite.blocks import Blocks, Columns, Kept
from channeld.core.allowance import SHORT_LIVED, USUAL_HOURS
from channeld.core.records import Accepted, ChannelMark, ChannelRecord, Remembered
from channeld.core.units import RippleTime

_SPENT_HOURS_KEPT: Final = USUAL_HOURS + 2
_SHORT_HOURS_KEPT: Final = 2
"""Beyond the day for which ids are remembered at least, of what is short-lived."""
_NOT_SHORT: Final = chr(ord(SHORT_LIVED) + 1)
BATCH: Final = 16_384
"""Requests folded as one batch: the larger, the fewer writes of pages of the index, but to sort it holds the loop."""

_INSERT_GROUP: Final = "INSERT INTO request_group (number, body) VALUES (?, ?)"
_RAISE: Final = (
    "UPDATE channel SET authorized = ?2, last_claim_at = ?3, unredeemed_since = ?4 WHERE row = ?1 AND authorized < ?2"
)
_ADD_ACCEPTED: Final = (
    "INSERT INTO accepted (server, hour, requests) VALUES (?, ?, ?)"
    " ON CONFLICT DO UPDATE SET requests = requests + excluded.requests"
)
_ADD_SPENT: Final = (
    "INSERT INTO spent (server, hour, drops) VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET drops = drops + excluded.drops"
)

_Mark = tuple[int, int, RippleTime, RippleTime | None]
_Spent = tuple[str, int, int]


class _Body(msgspec.Struct, array_like=True, gc=False):
    """A group as it stands on disk (MessagePack): its requests in columns, numbered from `first` on."""

    at_unix: int
    first: int
    keys: Sequence[bytes]
    contents: Sequence[bytes]
    rows: Sequence[int]
    covers_from: Sequence[int]
    covers_to: Sequence[int]
    signed: Sequence[int]
    servers: Sequence[str]
    marks: Sequence[_Mark]
    spent: Sequence[_Spent]

    def facts(self) -> Iterator[tuple[int, int, int, int]]:
        """Of each request: row of its channel, covers from, covers to, signed."""
        return zip(self.rows, self.covers_from, self.covers_to, self.signed, strict=True)

    def request(self, at: int) -> Kept:
        """One of them, by its place."""
        numbers = (self.rows[at], self.covers_from[at], self.covers_to[at], self.signed[at])
        return Kept(self.contents[at], *numbers, self.at_unix)


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Body).decode


@dataclass(frozen=True, slots=True)
class _Pending:
    """A group that is on disk and not folded yet, which channels it signed, and what is to stand in the index of it, in
    ascending order. Nothing of it but itself is of those objects that the collector of garbage walks through.
    """

    number: int
    body: _Body
    marked: tuple[int, ...]
    entries: array[int]


@dataclass(frozen=True, slots=True)
class Folding:
    """A batch of groups on its way into blocks: `done` of its `entries`, in ascending order, are in the index.

    Once all are, the groups go, oldest first; `groups` are those that stay after this step, `ended` those that went.
    """

    groups: list[_Pending]
    entries: Sequence[int]
    done: int
    ended: Sequence[_Pending] = ()


class RequestLog:
    """The requests of one store. Every method that writes must run inside a transaction of the caller's.

    After a transaction that failed nothing here may be used before `load` has read the disk again.
    """

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._blocks = Blocks(db)
        self._clear()

    def _clear(self) -> None:
        self._pending: deque[_Pending] = deque()
        self._recent: dict[bytes, int] = {}
        self._marks: dict[int, ChannelMark] = {}
        self._absent: set[bytes] = set()
        self._batch: Folding | None = None
        self._next_number = self._next_seq = self._oldest_seq = 1
        self._cleaned: int | None = None
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
        oldest = self._blocks.load()
        self._next_seq = max(self._blocks.end(), archive.last_use(self._db) + 1)
        for number, blob in self._db.execute("SELECT number, body FROM request_group ORDER BY number"):
            body = _decode(blob)
            marks = [ChannelMark(*mark) for mark in body.marks]
            self.took(self._group(number, body), marks)
            for server, hour, drops in body.spent:
                spent[server, hour] = spent.get((server, hour), 0) + drops
        self._oldest_is(oldest)
        return spent

    def _count(self, requests: Mapping[str, int], hour: int) -> None:
        self.by_server.update(requests)
        self._by_hour.setdefault(hour, Counter()).update(requests)

    def _oldest_is(self, folded: int | None) -> None:
        self._oldest_seq = self._next_seq - self.backlog if folded is None else folded

    def _group(self, number: int, body: _Body) -> _Pending:
        """Keep of a group what is needed to fold it; of the marks that is whose they are, so `body` loses them."""
        marked, body.marks = tuple([mark[0] for mark in body.marks]), ()
        return _Pending(number, body, marked, array("q", sorted(self._blocks.entries(body.first, b"".join(body.keys)))))

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

    def append(self, now: int, requests: Accepted, marks: Sequence[ChannelMark], spent: Sequence[_Spent]) -> _Pending:
        """Write a group down. `took` must be told once it is committed."""
        body = _Body(now, self._next_seq, *requests, marks, spent)
        self._db.execute(_INSERT_GROUP, (self._next_number, _encode(body)))
        return self._group(self._next_number, body)

    def took(self, group: _Pending, marks: Sequence[ChannelMark]) -> None:
        """The group is on disk, just committed or found there."""
        body = group.body
        self._pending.append(group)
        self._recent.update(zip(body.keys, count(body.first)))
        self._marks.update((m.row, m) for m in marks)
        self._absent.clear()
        self._next_number, self._next_seq = group.number + 1, max(self._next_seq, body.first + len(body.keys))
        self._count(Counter(body.servers), body.at_unix // 3600)

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

    def fold(self, limit: int) -> Folding:
        """A step of a batch: up to `limit` requests go into the index, in its order.

        The first call takes the oldest groups as one batch; what stands together on a page of the index is written
        together. When the last request is in, the groups go, oldest first, with their marks and sums in the same
        transaction: in one step as many as name few channels between them, for each channel is written once a step.
        `folded` must be told once it is committed.
        """
        batch = self._batch or self._next_batch()
        done = min(batch.done + limit, len(batch.entries))
        if done > batch.done:
            self._blocks.enter(batch.entries[batch.done : done])
        left = _going(batch.groups, limit) if batch.done == len(batch.entries) else 0
        ended, groups = batch.groups[:left], batch.groups[left:]
        if ended:
            self._blocks.write(_columns(ended))
            self.settle_marks(set(chain.from_iterable(group.marked for group in ended)))
            self._db.executemany(_ADD_SPENT, _summed(spent for group in ended for spent in group.body.spent))
            used = _used(group.body for group in ended)
            self._db.executemany(usage.ADD_ACCEPTED, used)
            self._db.executemany(_ADD_ACCEPTED, _summed((server, hour, n) for server, hour, _, n, _ in used))
            self._db.execute("DELETE FROM request_group WHERE number <= ?", (ended[-1].number,))
        return Folding(groups, batch.entries, done, ended)

    def _next_batch(self) -> Folding:
        groups, entries = list[_Pending](), list[int]()
        for group in self._pending:
            groups.append(group)
            entries += group.entries
            if len(entries) >= BATCH:
                break
        entries.sort()  # runs in ascending order are merged
        return Folding(groups, entries, 0)

    def folded(self, batch: Folding) -> int:
        """A step of folding is committed; how many things it did: requests in the index, groups gone."""
        did = batch.done - (self._batch.done if self._batch else 0) + len(batch.ended)
        self._batch = batch if batch.groups else None
        if self._blocks.oldest_unix is None and batch.ended:
            self._blocks.find_oldest()
        for group in batch.ended:
            assert self._pending.popleft() is group
            for key in group.body.keys:
                del self._recent[key]
        if not self._pending:
            self._marks.clear()
        return did

    def forget(self, before: int, limit: int) -> int:
        """Drop the oldest folded requests accepted before `before` (Unix seconds), until `limit` went, and those that
        stand in one block with them; how many went.
        """
        gone = self._blocks.forget(before, limit)
        if (hour := before // 3600) != self._cleaned:
            self._cleaned = hour
            short = "DELETE FROM spent WHERE server >= ? AND server < ? AND hour < ?"
            self._db.execute("DELETE FROM spent WHERE hour < ?", (hour - _SPENT_HOURS_KEPT,))
            self._db.execute(short, (SHORT_LIVED, _NOT_SHORT, hour - _SHORT_HOURS_KEPT))
            self._db.execute("DELETE FROM accepted WHERE hour < ?", (hour,))
            for old in [known for known in self._by_hour if known < hour]:
                self.by_server.subtract(self._by_hour.pop(old))
        if gone:
            self._oldest_is(self._blocks.find_oldest())
        return gone

    def spread(self) -> None:
        """Make a table `request` that has a row for each folded request, for audits and tests."""
        self._blocks.spread()


def _first(group: _Pending) -> int:
    return group.body.first


def _columns(groups: Iterable[_Pending]) -> Iterator[Columns]:
    """The requests of groups, those of one second together. Groups are numbered without a gap."""
    for at_unix, together in groupby((group.body for group in groups), lambda body: body.at_unix):
        bodies = list(together)
        keys = list(chain.from_iterable(body.keys for body in bodies))
        contents = list(chain.from_iterable(body.contents for body in bodies))
        facts = list(chain.from_iterable(body.facts() for body in bodies))
        yield Columns(at_unix, bodies[0].first, keys, contents, facts)


def _going(groups: Sequence[_Pending], limit: int) -> int:
    """How many groups, oldest first, go in one step: with 4 * `limit` requests on 2 * `limit` channels, or one."""
    named, requests = set[tuple[str, int]](), 0
    for number, group in enumerate(groups):
        named.update(zip(group.body.servers, group.body.rows, strict=True))
        requests += len(group.body.keys)
        if number and (len(named) > 2 * limit or requests > 4 * limit):
            return number
    return len(groups)


def _summed(spent: Iterable[_Spent]) -> list[_Spent]:
    """Sums by server and hour: many small groups name the same few."""
    sums: dict[tuple[str, int], int] = {}
    for server, hour, amount in spent:
        sums[server, hour] = sums.get((server, hour), 0) + amount
    return [(server, hour, amount) for (server, hour), amount in sums.items()]


def _used(bodies: Iterable[_Body]) -> list[usage.Accepted]:
    """What was accepted, by server, hour and channel: requests and drops."""
    used: dict[tuple[str, int, int], tuple[int, int]] = {}
    for body in bodies:
        hour = body.at_unix // 3600
        for server, row, covers_from, covers_to in zip(
            body.servers, body.rows, body.covers_from, body.covers_to, strict=True
        ):
            requests, drops = used.get((server, hour, row), (0, 0))
            used[server, hour, row] = (requests + 1, drops + covers_to - covers_from)
    return [(*key, *sums) for key, sums in used.items()]


def signed_in(bodies: Iterable[bytes]) -> dict[int, int]:
    """How far groups that are not folded sign each channel, by the channel's row."""
    return {row: authorized for body in bodies for row, authorized, *_ in _decode(body).marks}


def accepted_in(bodies: Iterable[bytes], key: bytes) -> Kept | None:
    """A request in groups that are not folded; None if it is in none."""
    for encoded in bodies:
        if key in encoded:  # the bytes stand there as they are: few groups need to be read
            body = _decode(encoded)
            if key in body.keys:
                return body.request(body.keys.index(key))
    return None
