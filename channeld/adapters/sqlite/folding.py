"""A batch of groups on its way into blocks and tables, in steps that the event loop can bear.

Four times through the batch, a slice at each step: its entries are gathered, and go into the index in ascending order,
so that what stands together on a page is written together; the channels it signed are written forward; its sums go into
their tables; and its groups go, oldest first, when their requests become blocks.

A crash may fall between any two steps, and the next batch begins at the first group that is still there. So whatever is
written before a group goes may be written again, or says that it is done: an entry is there or not, how far a channel
is signed only rises, and with sums goes the number of the last request that is in them.
"""

from __future__ import annotations

import sqlite3
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, groupby
from operator import sub
from typing import Final, NamedTuple

from channeld.adapters.sqlite import usage
from channeld.adapters.sqlite.blocks import ENTRY_BITS, Blocks, Columns
from channeld.adapters.sqlite.groups import Body, Group, Spent

_HEAP_BITS: Final = 8
"""Entries are gathered in so many heaps, 2 to the power of this: a heap of a large batch is sorted in microseconds."""
_ADD_ACCEPTED: Final = (
    "INSERT INTO accepted (server, hour, requests) VALUES (?, ?, ?)"
    " ON CONFLICT DO UPDATE SET requests = requests + excluded.requests"
)
_ADD_SPENT: Final = (
    "INSERT INTO spent (server, hour, drops) VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET drops = drops + excluded.drops"
)


class Step(NamedTuple):
    """What a step did: requests or channels it went through, and the groups that went with it."""

    did: int
    ended: Sequence[Group] = ()


class Folding:
    """Folds `groups`, not empty and numbered without a gap. Sums of requests up to number `summed` are in their tables.

    `settle` writes these channels' own rows forward to how far they are signed.
    """

    def __init__(
        self,
        db: sqlite3.Connection,
        blocks: Blocks,
        groups: Sequence[Group],
        summed: int,
        settle: Callable[[Iterable[int]], None],
    ) -> None:
        self._db, self._blocks, self._summed, self._settle = db, blocks, summed, settle
        self._groups = deque(groups)
        self._limit = 1
        self._heaps: list[list[int]] = [[] for _ in range(1 << _HEAP_BITS)]
        self._marked = set[int]()
        self._steps: Iterator[Step] = chain(
            self._gather(), self._enter(), self._write_forward(), self._sum(), self._let_go()
        )

    def step(self, limit: int) -> Step:
        """The next one, inside a transaction of the caller's: it writes some `limit` rows at most, and goes through as
        many requests as take no longer. What belongs to one group, or one heap, may be more. None is left when `done`.
        """
        self._limit = limit
        step = next(self._steps)
        if self.done:
            self._steps = iter(())  # what waits in there holds us, and so all of the batch
        return step

    @property
    def done(self) -> bool:
        """Whether all groups are gone."""
        return not self._groups

    def _gather(self) -> Iterator[Step]:
        """What is to stand in the index, in heaps by its highest bits; nothing is written yet."""
        shift, first, keys = ENTRY_BITS - _HEAP_BITS, self._groups[0].body.first, list[bytes]()
        for group in chain(self._groups, [None]):
            if keys and (group is None or len(keys) >= 4 * self._limit):
                for entry in self._blocks.entries(first, b"".join(keys)):
                    self._heaps[entry >> shift].append(entry)
                yield Step(len(keys))
                first, keys = first + len(keys), []
            if group is not None:
                keys += group.body.keys
                self._marked.update(group.marked)

    def _enter(self) -> Iterator[Step]:
        """Heap by heap into the index, so in ascending order."""
        part = list[int]()
        for heap in self._heaps:
            part += sorted(heap)
            heap.clear()
            if len(part) >= self._limit:
                self._blocks.enter(part)
                yield Step(len(part))
                part = []
        if part:
            self._blocks.enter(part)
            yield Step(len(part))

    def _write_forward(self) -> Iterator[Step]:
        """How far channels are signed, once for each of them whatever the groups that signed it."""
        rows, at = list(self._marked), 0
        while at < len(rows):
            part = rows[at : at + self._limit]
            self._settle(part)
            at += len(part)
            yield Step(len(part))

    def _sum(self) -> Iterator[Step]:
        """Sums of as many requests as come to few rows go into their tables together."""
        sums, did = _Sums(self._groups[0].body.hour), 0
        for body in (group.body for group in self._groups):
            limit = self._limit
            if body.hour != sums.hour:
                yield from sums.write(self._db, body.first - 1)
                sums = _Sums(body.hour)
            begin = max(0, self._summed + 1 - body.first)
            if not begin:
                sums.spend(body.spent)
            for at in range(begin, len(body.keys), limit):
                end = min(at + limit, len(body.keys))
                sums.use(body, at, end)
                did += end - at
                if sums.rows >= limit * 9 // 8:
                    yield from sums.write(self._db, body.first + end - 1)
                    sums, did = _Sums(body.hour), 0
                elif did >= 2 * limit:
                    yield Step(did)
                    did = 0
        yield from sums.write(self._db, body.first + len(body.keys) - 1)

    def _let_go(self) -> Iterator[Step]:
        """Groups become blocks, oldest first, and are deleted."""
        while self._groups:
            going, requests = list[Group](), 0
            while self._groups and requests < 2 * self._limit:
                going.append(self._groups.popleft())
                requests += len(going[-1].body.keys)
            self._blocks.write(_columns(going))
            self._db.execute("DELETE FROM request_group WHERE number <= ?", (going[-1].number,))
            yield Step(requests, going)


class _Sums:
    """Sums of requests of one hour: accepted by server and channel, and what was spent, by server."""

    def __init__(self, hour: int) -> None:
        self.hour = hour
        self._requests: dict[tuple[str, int], int] = {}
        self._drops: dict[tuple[str, int], int] = {}
        self._spent: dict[tuple[str, int], int] = {}

    @property
    def rows(self) -> int:
        """How many rows they touch at least."""
        return len(self._requests) + len(self._spent)

    def use(self, body: Body, at: int, end: int) -> None:
        """Requests of a group, by their places."""
        requests, drops = self._requests, self._drops
        whose = zip(body.servers[at:end], body.rows[at:end], strict=True)
        for key, more in zip(whose, map(sub, body.covers_to[at:end], body.covers_from[at:end]), strict=True):
            requests[key] = requests.get(key, 0) + 1
            drops[key] = drops.get(key, 0) + more

    def spend(self, spent: Iterable[Spent]) -> None:
        """What a group spent."""
        sums = self._spent
        for server, hour, drops in spent:
            sums[server, hour] = sums.get((server, hour), 0) + drops

    def write(self, db: sqlite3.Connection, last: int) -> Iterator[Step]:
        """One step, or none for no request: add them to what is in the tables. Sums of requests up to number `last` are
        there from now on.
        """
        if not self._requests:
            return
        accepted: Counter[str] = Counter()
        for (server, _), requests in self._requests.items():
            accepted[server] += requests
        used = [(server, self.hour, row, n, self._drops[server, row]) for (server, row), n in self._requests.items()]
        db.executemany(usage.ADD_ACCEPTED, used)
        db.executemany(_ADD_ACCEPTED, [(server, self.hour, requests) for server, requests in accepted.items()])
        db.executemany(_ADD_SPENT, [(*key, drops) for key, drops in self._spent.items()])
        db.execute("INSERT OR REPLACE INTO summed (one, request) VALUES (1, ?)", (last,))
        yield Step(self.rows)


def last_summed(db: sqlite3.Connection) -> int:
    """The number of the last request whose sums are in their tables; no request gets it, or a lower one, again."""
    found = db.execute("SELECT request FROM summed").fetchone()
    return 0 if found is None else int(found[0])


def _columns(groups: Iterable[Group]) -> Iterator[Columns]:
    """The requests of groups, those of one second together. Groups are numbered without a gap."""
    for at_unix, together in groupby((group.body for group in groups), lambda body: body.at_unix):
        bodies = list(together)
        keys = list(chain.from_iterable(body.keys for body in bodies))
        contents = list(chain.from_iterable(body.contents for body in bodies))
        facts = list(chain.from_iterable(body.facts() for body in bodies))
        yield Columns(at_unix, bodies[0].first, keys, contents, facts)
