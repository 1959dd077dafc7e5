"""Who is taken, who waits and who is told to come back: limits of each server, and fairness between them. Pure.

Every server has a line of its own. How long a line may get depends on how much room is left in all: a line may hold at
most as much as is free. So one server that floods gets half of the room, two get a third each; nobody has to be told
apart as a flooder. An equal share of the room is every server's own: batches go whole beyond a bound, and what others
sent too much of is not held against one that asks little. Lines are served in turn, a quantum each, and who took more
than its quantum (a batch does) waits until the others had as much.

The overall rate is shared in the same spirit. Every line has a bucket of its own for its equal share of it, and what
finds room there passes whatever others did. What goes beyond is taken from the overall bucket, which all that passes is
counted in, and which stops lending half a second ahead: the other half is kept for shares that come late. So the sum
keeps to the overall rate, one second ahead at most, and what some do not use others can.

Costs are requests: an item of a batch counts as one, and every started KiB beyond the first as one more, which bounds
the bytes that wait.

Sources: Choudhury and Hahne, dynamic queue length thresholds (1998), with alpha = 1; Shreedhar and Varghese, deficit
round robin (1995), in its surplus form.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Final, Generic, NamedTuple, TypeVar

from channeld.core.limits import LONGEST_RETRY_NS, SECOND_NS, Bucket, Limit
from channeld.core.requests import Code, Refusal

T = TypeVar("T")

QUANTUM: Final = 16
"""Requests that a line may take in its turn."""
MOST_MESSAGES: Final = 2048
"""Messages that may wait, whatever they cost. A broker has to find what is acknowledged among all that is not, and
Mosquitto looks through them one by one: with 4 000 that takes it longer than anything else."""
SHORTEST_RETRY_MS: Final = 50
STRANGERS: Final = Limit(max_requests_per_s=1000, max_in_flight=100)
"""For all servers together that are not configured: they share one line, so that invented names cost no memory."""
_SHARED_AHEAD_NS: Final = SECOND_NS // 2
"""How far ahead of the overall rate one may get beyond its share; all shares together may add as much again."""
_FIRST_GUESS_NS: Final = 100_000
_MS: Final = 1_000_000


class Group(NamedTuple):
    """How many requests to decide together: as many as take `ns`, but `least` and no more than `most`.

    Items of a batch cost less than lone requests, and with more of them in a transaction less still.
    """

    least: int
    most: int
    ns: int


class Line(Generic[T]):
    """What one server has waiting, and its `share` of the overall rate. `credit` is what it may still take in this
    turn; below 0 it took more than that.
    """

    __slots__ = ("bucket", "cost", "credit", "epoch", "most", "name", "promised", "rate", "share", "waiting")

    def __init__(self, name: str, limit: Limit) -> None:
        self.name = name
        self.waiting: deque[tuple[T, int]] = deque()
        self.cost = self.credit = self.epoch = self.promised = 0
        self.share: Bucket | None = None
        self.adopt(limit)

    def adopt(self, limit: Limit) -> None:
        """Take over a changed limit; what waits stays."""
        self.bucket, self.most, self.rate = Bucket(limit.max_requests_per_s), limit.max_in_flight, limit


class Admission(Generic[T]):
    """Takes requests in and gives them out in a fair order. `overall` binds all together, `servers` each.

    `most_messages` bounds the items that wait, whatever they cost, in the same way as `overall.max_in_flight` does.
    Times are nanoseconds of a clock that never goes back. Memory: twice `overall.max_in_flight` requests and one batch
    for each server at most.
    """

    def __init__(self, overall: Limit, servers: Mapping[str, Limit], most_messages: int = MOST_MESSAGES) -> None:
        self._strangers: Line[T] = Line("", STRANGERS)
        self._lines: dict[str, Line[T]] = {}
        self._rate = (0, 0)
        self._turns: deque[Line[T]] = deque()
        self._epoch = 0
        self._each_ns = self._own_ns = _FIRST_GUESS_NS
        self._fixed_ns = 0
        self.waiting = 0
        """Requests that wait, in all."""
        self._messages, self._most_messages = 0, most_messages
        self.reload(overall, servers)

    def reload(self, overall: Limit, servers: Mapping[str, Limit]) -> None:
        """Take over changed limits. A server that is gone keeps what it has waiting until that is decided."""
        self._most = overall.max_in_flight
        lines = self._lines
        self._lines = {name: lines.get(name) or Line(name, limit) for name, limit in servers.items()}
        self._share = max(1, self._most // (len(servers) + 1))  # the strangers' line is one more
        self._messages_share = max(1, self._most_messages // (len(servers) + 1))
        for name, limit in servers.items():
            if self._lines[name].rate != limit:
                self._lines[name].adopt(limit)
        self._share_rate(overall.max_requests_per_s)

    def _share_rate(self, per_s: int) -> None:
        """Give every line its share of the overall rate. What was spent counts on, unless rate or shares change."""
        lines = [*self._lines.values(), self._strangers]
        changed = self._rate != (per_s, len(lines))
        if changed:
            self._rate = (per_s, len(lines))
            self._bucket = Bucket(per_s, ahead_ns=_SHARED_AHEAD_NS)
        for line in lines:
            if changed or line.share is None:
                line.share = Bucket(per_s, among=len(lines), ahead_ns=_SHARED_AHEAD_NS)

    def admit(self, server: str, item: T, cost: int, now: int) -> Refusal | None:
        """Let an item wait for its turn, or say why not and when to come again."""
        line = self._lines.get(server) or self._strangers
        if line.cost >= line.most or line.cost >= max(self._share, self._most - self.waiting):
            return self._busy(line, cost, now)
        if len(line.waiting) >= max(self._messages_share, self._most_messages - self._messages):
            return self._busy(line, cost, now)
        if not line.bucket.take(now, cost):
            reason = (
                f"more than {line.rate.max_requests_per_s} requests a second, max_requests_per_s of this server;"
                " this was not looked at: an id that was accepted before stays accepted"
            )
            return _refusal(Code.LIMIT_EXCEEDED, reason, line.bucket.promise(now, cost))
        share = line.share
        assert share is not None
        if share.take(now, cost):
            self._bucket.spend(now, cost)
        elif not self._bucket.take(now, cost):
            line.bucket.give_back(cost)
            wait = min(self._bucket.promise(now, cost), share.promise(now, cost))
            return _refusal(Code.BUSY, "more requests a second than channeld takes in all", wait)
        if not line.waiting:
            self._turns.append(line)
        line.waiting.append((item, cost))
        line.cost += cost
        self.waiting += cost
        self._messages += 1
        return None

    def _busy(self, line: Line[T], cost: int, now: int) -> Refusal:
        """Come again when what waits before you is decided, if the lines go on sharing as they do now."""
        each = self._each_ns * max(1, len(self._turns))
        earliest = max(line.promised, now + line.cost * each)
        line.promised = min(earliest + cost * each, now + LONGEST_RETRY_NS)
        which = "from this server" if line.cost else "in all"
        reason = f"more requests in flight than channeld takes {which}"
        return Refusal(Code.BUSY, reason, SHORTEST_RETRY_MS + (line.promised - now) // _MS)

    def size(self, group: Group) -> int:
        """Requests of a group, as long as deciding takes of late."""
        return min(group.most, max(group.least, group.ns // self._each_ns))

    @property
    def worth_a_commit(self) -> int:
        """Requests that take as long to decide as what a group costs however few it holds, as of late."""
        return self._fixed_ns // self._own_ns

    def waiting_within(self, most: int, each: int) -> int:
        """Requests that wait, of no line more than `each`, and `most` in all."""
        group = 0
        for line in self._turns:
            if (group := group + min(line.cost, each)) >= most:
                return most
        return group

    def take(self, most: int) -> list[T]:
        """The next items in fair order, of `most` requests or a batch more; fewer only where no more wait."""
        taken: list[T] = []
        left, turns = most, self._turns
        while left > 0 and turns:
            line = turns[0]
            if line.epoch != self._epoch:
                line.epoch, line.credit = self._epoch, 0
            if line.credit <= 0:
                line.credit += QUANTUM
            left -= self._serve(line, left, taken)
            if line.credit <= 0 or not line.waiting:
                turns.popleft()
                if line.waiting:
                    turns.append(line)
        if not turns:
            self._epoch += 1  # nobody waits: nobody owes anybody a turn
        return taken

    def _serve(self, line: Line[T], left: int, taken: list[T]) -> int:
        """Take from one line what its turn and `left` allow; the cost of it."""
        used, most, waiting = 0, min(left, line.credit), line.waiting
        while waiting and used < most:
            item, cost = waiting.popleft()
            self._messages -= 1
            taken.append(item)
            used += cost
        line.credit -= used
        line.cost -= used
        self.waiting -= used
        return used

    def decided(self, count: int, spent_ns: int, fixed_ns: int = 0) -> None:
        """Learn how long deciding takes: what `retry_after_ms` of `busy` rests on, and how large groups are. `fixed_ns`
        of it was spent on what a group costs however few it holds.
        """
        if count:
            self._each_ns = max(1, (self._each_ns * 15 + spent_ns // count) >> 4)
            self._own_ns = max(1, (self._own_ns * 15 + (spent_ns - fixed_ns) // count) >> 4)
            self._fixed_ns = (self._fixed_ns * 15 + fixed_ns) >> 4


def _refusal(code: Code, reason: str, wait_ns: int) -> Refusal:
    return Refusal(code, reason, max(SHORTEST_RETRY_MS, -(-wait_ns // _MS)))
