"""How demand goes through the week: the shape of a pool, learnt hour by hour, and the curve a forecast is read from.

A shape says for each of the 168 hours of the week how much is asked for in it against the mean hour, in percent. It is
learnt by counting: each hour of the week keeps the drops of past weeks, older ones for less. What little was seen says
little, so each hour leans on the same hour of all days, and that on an even day: with K active hours (hours in which
some payee asked, counted once for each) as if they had been seen there,

    day(d)  = (drops in hours d + K e)          / (drops expected in them + K e)
    hour(h) = (drops in hour h  + K e day(h))   / (drops expected in it   + K e)        e: mean drops of an active hour

which is the mean of a Gamma prior of weight K after Poisson counts. All numbers are integers, so that equal histories
give equal forecasts everywhere.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from operator import mul
from typing import Final

from channeld.core.units import HOUR_S, RippleTime

WEEK_H: Final = 168
WEEK_S: Final = WEEK_H * HOUR_S
PARTS: Final = 12
"""Parts of the day, of two hours each, in which a payee may differ from its pool."""
PART_H: Final = 24 // PARTS
PART_S: Final = PART_H * HOUR_S
PERCENT: Final = 100
UNIT: Final = PERCENT * PERCENT
"""A curve counts in ten thousandths of a mean second."""
PRIOR_HOURS: Final = 8
"""K: so many active hours weigh as much as what an hour leans on."""
_SEEN: Final = 16
_KEPT: Final = (3, 4)
"""Of what was seen in an hour of the week, this much is left a week later."""
_EVEN: Final = (PERCENT,) * PARTS
_FLAT: Final = (PERCENT,) * WEEK_H

Shape = tuple[int, ...]
"""168 percentages of 1 or more, from the hour that the ripple epoch began with; empty: even."""
Tilt = tuple[int, ...]
"""12 percentages of 1 or more, by parts of the day (UTC): a payee against its pool's shape; empty: none."""


class Curve:
    """What a shape and a tilt sum up to over time, from the ripple epoch on, in `UNIT`s of a mean second."""

    __slots__ = ("_hours", "_parts", "_shape", "_tilt", "_week")

    def __init__(self, shape: Shape, tilt: Tilt) -> None:
        self._shape, self._tilt = shape or _FLAT, tilt or _EVEN
        self._hours, parts = _summed(self._shape)
        self._parts: tuple[int, ...] = (0, *accumulate(map(mul, parts, self._tilt * 7)))
        self._week = self._parts[-1]

    def between(self, start: int, end: int) -> int:
        """The sum from one moment to another, not before it."""
        return self._upto(end) - self._upto(start)

    def _upto(self, moment: int) -> int:
        week, second = divmod(moment, WEEK_S)
        hour, part = second // HOUR_S, second // PART_S
        inside = self._hours[hour] - self._hours[part * PART_H] + self._shape[hour] * (second % HOUR_S)
        return week * self._week + self._parts[part] + inside * self._tilt[part % PARTS]

    def reach(self, start: int, total: int) -> int:
        """The longest time from `start`, in seconds, whose sum is not above `total`."""
        week, rest = divmod(self._upto(start) + total, self._week)
        part = bisect_right(self._parts, rest) - 1
        first = part * PART_H
        inside = (rest - self._parts[part]) // self._tilt[part % PARTS] + self._hours[first]
        hour = bisect_right(self._hours, inside, first, first + PART_H) - 1
        second = hour * HOUR_S + (inside - self._hours[hour]) // self._shape[hour]
        return week * WEEK_S + second - start


@lru_cache(maxsize=2048)
def curve(shape: Shape, tilt: Tilt) -> Curve:
    """The curve of a shape and a tilt. Of 4 KB each, those asked for last are kept."""
    return Curve(shape, tilt)


def passed(shape: Shape, tilt: Tilt, start: int, end: int) -> int:
    """The sum along a curve from one moment to another, not before it; within an hour without the curve."""
    hour = start // HOUR_S
    if end // HOUR_S != hour:
        return curve(shape, tilt).between(start, end)
    percent = shape[hour % WEEK_H] if shape else PERCENT
    return (end - start) * percent * (tilt[hour % 24 // PART_H] if tilt else PERCENT)


@lru_cache(maxsize=128)
def _summed(shape: Shape) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """A shape summed up hour by hour, and its sums over the parts of each day of the week."""
    hours = (0, *accumulate(percent * HOUR_S for percent in shape))
    return hours, tuple(hours[at + PART_H] - hours[at] for at in range(0, WEEK_H, PART_H))


@lru_cache(maxsize=128)
def part_shares(shape: Shape) -> tuple[int, ...]:
    """How much of a shape's sum lies in each part of the day, in millionths."""
    shape = shape or _FLAT
    sums = [sum(shape[at + h] for at in range(p * PART_H, WEEK_H, 24) for h in range(PART_H)) for p in range(PARTS)]
    return tuple(max(1, n * 1_000_000 // sum(shape)) for n in sums)


@dataclass(frozen=True, slots=True)
class Hour:
    """What was seen in a pool in one hour: drops asked for, by how many payees, and in how many seconds of it.

    `off` and `came` are sums over the forecasts that were compared in it (drops); `ended` counts silences that ended,
    by their length (`core.trace`).
    """

    drops: int = 0
    payees: int = 0
    seconds: int = HOUR_S
    off: int = 0
    came: int = 0
    ended: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Rhythm:
    """What is known of a pool: for each hour of the week drops, active hours of payees, and how often it was seen (in
    sixteenths), all fading; how far forecasts were off against what came, and ended silences by length.
    """

    drops: tuple[int, ...] = (0,) * WEEK_H
    active: tuple[int, ...] = (0,) * WEEK_H
    seen: tuple[int, ...] = (0,) * WEEK_H
    off: int = 0
    came: int = 0
    ended: tuple[int, ...] = ()

    def learn(self, at: RippleTime, hour: Hour) -> Rhythm:
        """After the hour that `at` is in. Less than half of it says nothing of its place in the week."""
        place = at // HOUR_S % WEEK_H
        drops, active, seen = self.drops, self.active, self.seen
        if hour.seconds * 2 >= HOUR_S:
            drops = _faded(drops, place, hour.drops * HOUR_S // hour.seconds)
            active = _faded(active, place, hour.payees)
            seen = _faded(seen, place, _SEEN)
        off, came = self.off - (self.off >> 7) + hour.off, self.came - (self.came >> 7) + hour.came
        return Rhythm(drops, active, seen, off, came, _added(self.ended, hour.ended))

    def shape(self) -> Shape:
        """The shape of its week: see above."""
        total, count, seen = sum(self.drops), sum(self.active), sum(self.seen)
        if not (total and count):
            return ()
        weight = PRIOR_HOURS * total * seen

        def leaning(drops: int, often: int, on: int) -> int:
            return (drops * count * seen * UNIT + weight * on) // (total * often * count + weight)

        days = [leaning(sum(self.drops[d::24]), sum(self.seen[d::24]), UNIT) for d in range(24)]
        hours = [leaning(self.drops[h], self.seen[h], days[h % 24]) for h in range(WEEK_H)]
        return tuple(max(1, hour // PERCENT) for hour in hours)

    @property
    def error(self) -> int | None:
        """How far forecasts for its payees were off against what came, in millionths; None: nothing came yet."""
        return self.off * 1_000_000 // self.came if self.came else None


def _faded(hours: tuple[int, ...], place: int, more: int) -> tuple[int, ...]:
    keep, of = _KEPT
    return (*hours[:place], hours[place] * keep // of + more, *hours[place + 1 :])


def _added(one: Sequence[int], other: Sequence[int]) -> tuple[int, ...]:
    if not (one and other):
        return tuple(one or other)
    return tuple(a + b for a, b in zip(one, other, strict=True))
