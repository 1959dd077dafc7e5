"""What is kept of a payee's demand: a few numbers, changed only when something is asked for, in 232 bytes of memory.

**Level.** A moving average of drops per second: what was seen loses half of its weight with each half-life, and what
came over a span weighs 1 - 2^(-span / half-life). Time is counted along the payee's curve (`core.rhythm`), so that a
quiet night neither lowers the level nor makes one claim in it a sign of much. Looking at it changes nothing: what has
not come since is held against the level once it has been as long as the last wait, or a half-life.

**Tilt.** The share s of each two hours of the day in what was asked for, a day counting 7/8 of the next, against the
share w that the pool's shape gives them; with n active hours of its own and K = 24 that lean on the pool:
tilt = (n s + K w) / ((n + K) w). In its first day a payee has the pool's shape.

**Error.** At the beginning of each 6 hours the forecast for them is kept, and compared with what came. The relative
error is the mean absolute error over the mean of what came, both over some 16 such spans; unknown before four. The
spread is 1.25 times the mean absolute error, with the pool's relative error (1 at first) in the place of four more.

**Return.** Silences of an hour or more are counted by powers of two. Of a payee's own silences that lasted as long as
the present one r ended, all of them; in its pool R did, and L go on. With the pool as four silences of its own the
probability that this one ends is (r + 4 R / (R + L)) / (r + 4); not known where R + L < 8 and r < 2.

Sources: R. G. Brown, Smoothing, Forecasting and Prediction of Discrete Time Series (the standard deviation of normal
errors is 1.25 times their mean absolute value).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from channeld.core.demand import MILLION, SPAN_S, Rate
from channeld.core.rhythm import PART_S, PARTS, PERCENT, UNIT, Shape, Tilt, part_shares, passed
from channeld.core.units import DAY_S, HOUR_S, RippleTime

SILENCES: Final = 14
"""Silences are counted from 1 hour (the first) to 8 192 hours and more (the last), doubling."""
MOST_KEPT_S: Final = HOUR_S << (SILENCES - 1)
"""A payee that asked for nothing for so long, 341 days, may be forgotten."""
_MOST: Final = 2**63 - 1
_MOST_SPANS: Final = 16
_KNOWN_SPANS: Final = 4
_PRIOR_SPANS: Final = 4
_PRIOR_ACTIVE: Final = 24
_ACTIVE: Final = 16
_PRIOR_SILENCES: Final = 4
_KNOWN_OWN: Final = 2
_KNOWN_POOL: Final = 8
_MOST_DAYS: Final = 100
_UNTILTED: Final = (0,) * PARTS
_MOST_ERROR: Final = 1000 * MILLION
_ROW: Final = struct.Struct(f"<IIQQIQQBQQI{PARTS}Q{PARTS}H{SILENCES}s")

_STEPS: Final = 64
_FINE: Final = 40
_HALVING: Final = tuple(round(2 ** (_FINE - n / _STEPS)) for n in range(_STEPS + 1))
"""2^(-n/64), in 2^-40."""
_LIVED: Final = tuple(8 * ((1 << _FINE) - ((7**n << _FINE) >> 3 * n)) for n in range(_MOST_DAYS + 1))
"""What n days count in all, each 7/8 of the next, in 2^-40."""


class Compared(NamedTuple):
    """A forecast and what came of it, both in drops over `SPAN_S`."""

    forecast: int
    came: int

    @property
    def off(self) -> int:
        return abs(self.came - self.forecast)


class Seen(NamedTuple):
    """What an observation tells of the pool: its first in this hour, the silence it ended (None: none that counts), and
    forecasts that can be compared now.
    """

    first_in_hour: bool
    silence: int | None
    compared: tuple[Compared, ...]


class Surroundings(NamedTuple):
    """What is known of the pool: its shape, its relative error (millionths, None: unknown), and by length how many
    silences ended (R) and how many go on (L); of the first only those that ended at that length, of the second all that
    have lasted so long.
    """

    shape: Shape = ()
    error: int | None = None
    ended: Sequence[int] = ()
    lasting: Sequence[int] = ()


class Trace(NamedTuple):
    """One payee. `at` is when it last asked, `since` when first; `level` is in micro-drops per second of a mean hour,
    and `wait` how long before `at` it had asked, along its curve.

    In the span numbered `span`, `forecast` drops were expected and `came` were asked for; of `spans` earlier ones the
    mean error is `off` and the mean demand `asked`. `active` is in sixteenths of an hour, `parts` are drops by part of
    the day and `tilt` what followed from them when an active hour began, `gaps` how many silences of each length ended.
    """

    at: int
    since: int
    level: int = 0
    wait: int = 0
    span: int = 0
    forecast: int = 0
    came: int = 0
    spans: int = 0
    off: int = 0
    asked: int = 0
    active: int = 0
    parts: tuple[int, ...] = (0,) * PARTS
    tilt: Tilt = ()
    gaps: bytes = bytes(SILENCES)

    @classmethod
    def begin(cls, now: RippleTime) -> Trace:
        """That of a payee that asks for the first time: the next thing is to `observe` that."""
        return cls(now - 1, now - 1, span=(now - 1) // SPAN_S)

    # --- seeing -------------------------------------------------------------------------------------------------------

    def observe(
        self, drops: int, now: RippleTime, half_life_s: int, shape: Shape, away_s: int = 0
    ) -> tuple[Trace, Seen]:
        """The trace after `drops` (1 or more) were asked for since `at`, and what that tells of the pool.

        `now` is taken to be after `at`. For `away_s` of the time since nobody could ask: that was no silence.
        """
        now = RippleTime(max(now, self.at + 1))
        before, compared = self._spanned(now, half_life_s, shape)
        wait = max(1, passed(shape, self.tilt, self.at, now))
        silence = _length(now - self.at - away_s)
        first = now // HOUR_S != self.at // HOUR_S or not self.active
        active, parts = self._aged(now)
        part = now % DAY_S // PART_S
        after = before._replace(
            at=now,
            level=min(_MOST, self._level(drops, wait, half_life_s)),
            wait=min(_MOST, wait),
            came=min(_MOST, before.came + drops),
            active=active + _ACTIVE * first,
            parts=(*parts[:part], min(_MOST, parts[part] + drops), *parts[part + 1 :]),
            gaps=self.gaps if silence is None else _counted(self.gaps, silence),
        )
        return after._replace(tilt=after._tilted(shape)) if first else after, Seen(first, silence, compared)

    def _level(self, drops: int, wait: int, half_life_s: int) -> int:
        """The level after a wait, along the curve, with which so much was asked for."""
        kept = halved(wait, half_life_s * UNIT)
        return (self.level * kept + drops * MILLION * UNIT * ((1 << _FINE) - kept) // wait) >> _FINE

    def level_at(self, moment: int, half_life_s: int, shape: Shape) -> int:
        """The level at a moment up to which nothing more was asked for."""
        half_life = half_life_s * UNIT
        waited = passed(shape, self.tilt, self.at, max(moment, self.at)) - min(self.wait, half_life)
        return self.level * halved(waited, half_life) >> _FINE if waited > 0 else self.level

    def _aged(self, now: int) -> tuple[int, tuple[int, ...]]:
        """Active hours, and drops by part of the day: a part fades when it begins again."""
        days, began = min(_MOST_DAYS, now // DAY_S - self.at // DAY_S), now // PART_S - self.at // PART_S
        if not began:
            return self.active, self.parts
        rounds, more = divmod(min(began, _MOST_DAYS * PARTS), PARTS)
        fresh = {(self.at // PART_S + n) % PARTS for n in range(1, more + 1)}
        parts = (_faded(drops, rounds + (part in fresh)) for part, drops in enumerate(self.parts))
        return _faded(self.active, days), tuple(parts)

    def _spanned(self, now: int, half_life_s: int, shape: Shape) -> tuple[Trace, tuple[Compared, ...]]:
        """In the span that `now` is in, with what was learnt from those that ended before it."""
        span = now // SPAN_S
        if span == self.span:
            return self, ()
        compared = tuple(self._ended(span, half_life_s, shape))
        spans, off, asked = self.spans, self.off, self.asked
        for each in compared:
            spans = min(_MOST_SPANS, spans + 1)
            off += (each.off - off) // spans
            asked += (each.came - asked) // spans
        forecast = self._forecast(span, half_life_s, shape)
        return self._replace(span=span, forecast=forecast, came=0, spans=spans, off=off, asked=asked), compared

    def _ended(self, span: int, half_life_s: int, shape: Shape) -> Iterator[Compared]:
        """The spans that ended: not the one in which it was first seen, and of a long silence the last ones."""
        if self.span != self.since // SPAN_S:
            yield Compared(self.forecast, self.came)
        for silent in range(max(self.span + 1, span - _MOST_SPANS), span):
            yield Compared(self._forecast(silent, half_life_s, shape), 0)

    def _forecast(self, span: int, half_life_s: int, shape: Shape) -> int:
        start = span * SPAN_S
        level = self.level_at(start, half_life_s, shape)
        return min(_MOST, level * passed(shape, self.tilt, start, start + SPAN_S) // (MILLION * UNIT))

    # --- telling ------------------------------------------------------------------------------------------------------

    def rate(self, now: RippleTime, half_life_s: int, pool: Surroundings, away_s: int = 0) -> Rate:
        """The forecast as of `now`."""
        level = self.level_at(now, half_life_s, pool.shape)
        spread = self._spread(level * SPAN_S // MILLION, pool.error)
        returns = self.returns(now - self.at - away_s, pool)
        return Rate(level, max(now, RippleTime(self.at)), pool.shape, self.tilt, spread, self.error, returns)

    def _tilted(self, shape: Shape) -> Tilt:
        """How its day differs from its pool's; empty in its first day."""
        if self.at - self.since < DAY_S:
            return ()
        usual = [(drops << _FINE) // times for drops, times in zip(self.parts, self._times(), strict=True)]
        if not (total := sum(usual)):
            return ()
        weight, own = _PRIOR_ACTIVE * _ACTIVE, self.active * MILLION
        return tuple(
            min(65_535, max(1, PERCENT * (own * drops // total + weight * share) // ((self.active + weight) * share)))
            for drops, share in zip(usual, part_shares(shape), strict=True)
        )

    def _times(self) -> list[int]:
        """How often each part of the day was lived through, faded like what was asked for in it, in 2^-40; not 0."""
        first, last = self.since // PART_S, self.at // PART_S
        times = [_LIVED[min(_MOST_DAYS, (last - p) // PARTS - (first - 1 - p) // PARTS)] for p in range(PARTS)]
        going_on, began = last % PARTS, (self.at % PART_S + 1 << _FINE) // PART_S
        times[going_on] += began - (1 << _FINE)
        return times

    @property
    def error(self) -> int | None:
        """How far forecasts were off against what came, in millionths; None: not known yet."""
        if self.spans < _KNOWN_SPANS or not self.asked:
            return None
        return min(_MOST_ERROR, self.off * MILLION // self.asked)

    def _spread(self, mean: int, error: int | None) -> int:
        """The standard deviation of what comes in a span, where `mean` is the forecast for a mean one."""
        prior = mean * (MILLION if error is None else error) // MILLION
        return 5 * (self.spans * self.off + _PRIOR_SPANS * prior) // (4 * (self.spans + _PRIOR_SPANS))

    def returns(self, silent_s: int, pool: Surroundings) -> int | None:
        """How likely it is to come back, silent for so long, in millionths; None: too little is known."""
        length = _length(silent_s)
        if length is None:
            return MILLION  # it is here
        own, ended = sum(self.gaps[length:]), sum(pool.ended[length:])
        known = ended + (pool.lasting[length] if pool.lasting else 0)
        if known < _KNOWN_POOL and own < _KNOWN_OWN:
            return None
        weight = _PRIOR_SILENCES if known else 0
        share = ended * MILLION // known if known else 0
        return (own * MILLION + weight * share) // (own + weight)

    # --- keeping ------------------------------------------------------------------------------------------------------

    def pack(self) -> bytes:
        """All of it, as it is kept."""
        return _ROW.pack(*self[:-3], *self.parts, *(self.tilt or _UNTILTED), self.gaps)

    @classmethod
    def unpack(cls, kept: bytes) -> Trace:
        """What was kept. Raises `ValueError` where it is none."""
        try:
            row = _ROW.unpack(kept)
        except struct.error as why:
            raise ValueError("not a trace") from why
        tilt = row[-PARTS - 1 : -1]
        return cls._make((*row[: -2 * PARTS - 1], row[-2 * PARTS - 1 : -PARTS - 1], tilt if tilt[0] else (), row[-1]))


def halved(span: int, half_life: int) -> int:
    """2^(-span / half_life) in 2^-40, by chords between 64ths of a half-life: at most 0.00002 too much."""
    whole, rest = divmod(span, half_life)
    if whole >= _FINE:
        return 0
    step, inside = divmod(rest * _STEPS, half_life)
    high, low = _HALVING[step : step + 2]
    return (high - (high - low) * inside // half_life) >> whole


def _faded(count: int, days: int) -> int:
    return count * int(7**days) >> 3 * days


def _length(silent_s: int) -> int | None:
    """Which of the counted lengths a silence has reached; None: it is too short to count."""
    return min(SILENCES, (silent_s // HOUR_S).bit_length()) - 1 if silent_s >= HOUR_S else None


def _counted(gaps: bytes, length: int) -> bytes:
    return gaps[:length] + bytes([min(255, gaps[length] + 1)]) + gaps[length + 1 :]
