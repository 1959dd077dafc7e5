"""What payees ask for, as it is learnt: a trace of each, the rhythm of each pool, and what of both is to be stored.

A trace changes when its group is decided, once a ledger at most; a rhythm when an hour is over. Both are written with
the next ledgers, a bounded number of traces with each. What a kill forgets is what was asked for since the ledger
before the last (longer where more payees ask than can be written), and what a pool's hour in progress would teach.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate, islice
from typing import Final

from channeld.core.demand import Rate
from channeld.core.records import Learnt
from channeld.core.rhythm import Hour, Rhythm
from channeld.core.trace import SILENCES, Compared, Seen, Surroundings, Trace
from channeld.core.units import HOUR_S, RippleTime
from channeld.service.attendance import Attendance
from channeld.service.holdings import Group

MOST_WRITTEN: Final = 256
"""Traces written with one ledger: some 1 ms."""
MOST_LOOSE: Final = 1_000_000
"""Payees and users without a group whose demand is kept in memory; of more, those let go of last."""


class Demands:
    """All of it, filled from the store at start: `traces` by pool/payee, `rhythms` by pool."""

    def __init__(self, traces: Mapping[str, bytes], rhythms: Mapping[str, Rhythm], there: Attendance) -> None:
        self._loose, self._there = dict(traces), there
        self._pools = {pool: _Pool(rhythm) for pool, rhythm in rhythms.items()}
        for subject, kept in traces.items():
            self._pool(subject.partition("/")[0]).asked_last(Trace.unpack(kept).at, 1)
        self._unwritten: dict[Group, None] = {}
        self._learnt: dict[str, None] = {}

    def adopt(self, group: Group) -> None:
        """A group was made: its payee may have asked before."""
        group.trace = self._loose.pop(_subject(group), b"")

    def release(self, group: Group) -> None:
        """A group is let go of; its payee may come back."""
        if group.trace:
            self._loose[_subject(group)] = group.trace
        if len(self._loose) > MOST_LOOSE:
            del self._loose[next(iter(self._loose))]

    def _pool(self, name: str) -> _Pool:
        found = self._pools.get(name)
        if found is None:
            found = self._pools[name] = _Pool(Rhythm())
        return found

    # --- learning -----------------------------------------------------------------------------------------------------

    def observe(self, group: Group, now: RippleTime, half_life_s: int) -> Sequence[Compared]:
        """Take in what was asked for since it was last observed, once a ledger; forecasts that can be compared now."""
        known = Trace.unpack(group.trace) if group.trace else None
        if not group.asked or (known is not None and now <= known.at):
            return ()
        pool = self._pool(group.pool)
        trace, seen = self._next(known, group.asked, now, half_life_s, pool)
        if known is not None:
            pool.asked_last(known.at, -1)
        pool.asked_last(trace.at, 1)
        pool.saw(group.asked, seen)
        group.trace, group.asked = trace.pack(), 0
        self._unwritten[group] = None
        return seen.compared

    def _next(
        self, known: Trace | None, asked: int, now: RippleTime, half_life_s: int, pool: _Pool
    ) -> tuple[Trace, Seen]:
        before = known or Trace.begin(now)
        away = self._there.away(RippleTime(before.at), now)
        return before.observe(asked, now, half_life_s, pool.around.shape, away)

    def ledger(self, now: RippleTime) -> None:
        """A ledger closed: where an hour is over, each pool has learnt it."""
        for name, pool in self._pools.items():
            if pool.at(now):
                self._learnt[name] = None

    # --- telling ------------------------------------------------------------------------------------------------------

    def rate(self, group: Group, now: RippleTime, half_life_s: int) -> Rate:
        """The forecast for a group from what was observed; nobody who has not asked yet needs anything."""
        return self._rate(Trace.unpack(group.trace), group.pool, now, half_life_s) if group.trace else Rate(0, now)

    def foreseen(self, group: Group, now: RippleTime, half_life_s: int) -> Rate:
        """The forecast as it would be, were the group observed now; it is not."""
        known = Trace.unpack(group.trace) if group.trace else None
        if not group.asked or (known is not None and now <= known.at):
            return self.rate(group, now, half_life_s)
        trace, _ = self._next(known, group.asked, now, half_life_s, self._pool(group.pool))
        return self._rate(trace, group.pool, now, half_life_s)

    def _rate(self, trace: Trace, pool: str, now: RippleTime, half_life_s: int) -> Rate:
        away = self._there.away(RippleTime(trace.at), now)
        return trace.rate(now, half_life_s, self._pool(pool).around, away)

    # --- keeping ------------------------------------------------------------------------------------------------------

    def unwritten(self) -> Learnt:
        """What the store has not got yet, up to so many traces; it stays until `written` is told."""
        traces = [(_subject(g), Trace.unpack(g.trace).at, g.trace) for g in islice(self._unwritten, MOST_WRITTEN)]
        return Learnt(traces, [(name, self._pools[name].rhythm) for name in self._learnt])

    def written(self) -> None:
        """The store has what `unwritten` gave, and nothing happened in between."""
        for group in list(islice(self._unwritten, MOST_WRITTEN)):
            del self._unwritten[group]
        self._learnt.clear()


class _Pool:
    """One pool: its rhythm, what was seen in the hour that is not over, and when each payee last asked, by hours."""

    def __init__(self, rhythm: Rhythm) -> None:
        self.rhythm = rhythm
        self._last: dict[int, int] = {}
        self._from: int | None = None
        self._now = 0
        self._begin()
        self.around = Surroundings(rhythm.shape(), rhythm.error, rhythm.ended)

    def _begin(self) -> None:
        self._drops = self._payees = self._off = self._came = 0
        self._ended = [0] * SILENCES

    def asked_last(self, at: int, payees: int) -> None:
        """So many more payees asked last at a moment, or so many fewer."""
        hour = at // HOUR_S
        count = self._last[hour] = self._last.get(hour, 0) + payees
        if not count:
            del self._last[hour]

    def saw(self, drops: int, seen: Seen) -> None:
        """A payee asked."""
        self._drops, self._payees = self._drops + drops, self._payees + seen.first_in_hour
        for each in seen.compared:
            self._off, self._came = self._off + each.off, self._came + each.came
        if seen.silence is not None:
            self._ended[seen.silence] += 1

    def at(self, now: RippleTime) -> bool:
        """A ledger closed at `now`: whether an hour was learnt with it. An hour without a ledger is not learnt."""
        if self._from is None:
            self._from = now
            self._tell(now)
            return False
        hour, then = now // HOUR_S, self._from // HOUR_S
        if hour <= then:
            return False
        seconds = (then + 1) * HOUR_S - self._from
        learnt = Hour(self._drops, self._payees, seconds, self._off, self._came, tuple(self._ended))
        self.rhythm = self.rhythm.learn(RippleTime(self._from), learnt)
        self._from = hour * HOUR_S if hour == then + 1 else now
        self._begin()
        self._tell(now)
        return True

    def _tell(self, now: RippleTime) -> None:
        """What traces are read with until the next hour."""
        counts = [0] * SILENCES
        for hour, payees in self._last.items():
            if (silent := now // HOUR_S - hour) > 0:
                counts[min(SILENCES, silent.bit_length()) - 1] += payees
        lasting = tuple(accumulate(reversed(counts)))[::-1]
        self.around = Surroundings(self.rhythm.shape(), self.rhythm.error, self.rhythm.ended, lasting)


def _subject(group: Group) -> str:
    return f"{group.pool}/{group.subject}"
