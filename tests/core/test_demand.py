"""The forecast: its properties, and what it is worth against a plain moving average in simulated weeks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from random import Random
from statistics import NormalDist, fmean

from hypothesis import given
from hypothesis import strategies as st

from channeld.core.demand import MILLION, SPAN_S, Rate, score
from channeld.core.rhythm import UNIT, WEEK_H, WEEK_S, Curve, Hour, Rhythm, passed
from channeld.core.trace import MOST_KEPT_S, SILENCES, Surroundings, Trace, halved
from channeld.core.units import DAY_S, HOUR_S, RippleTime

HALF = 3600
shapes = st.one_of(st.just(()), st.lists(st.integers(1, 2400), min_size=WEEK_H, max_size=WEEK_H).map(tuple))
tilts = st.one_of(st.just(()), st.lists(st.integers(1, 800), min_size=12, max_size=12).map(tuple))
moments = st.integers(0, 5 * WEEK_S)
spans = st.one_of(st.integers(0, 2 * HOUR_S), st.integers(0, 3 * WEEK_S))
rates = st.builds(
    Rate,
    st.one_of(st.just(0), st.integers(1, 10**15)),
    moments.map(RippleTime),
    shapes,
    tilts,
    st.integers(0, 10**15),
)
quantiles = st.integers(500_000, 999_999)
histories = st.lists(
    st.tuples(
        st.one_of(st.integers(1, 60), st.integers(1, 2 * DAY_S), st.integers(1, MOST_KEPT_S)), st.integers(1, 10**12)
    ),
    min_size=1,
    max_size=30,
)
"""When something was asked for, each by its distance from the last; and how much."""


def told(history: Sequence[tuple[int, int]], shape: tuple[int, ...] = (), times: int = 1) -> Trace:
    """The trace of a payee that asked for so much, so many times as much as the history says."""
    now = RippleTime(10**6)
    trace = Trace.begin(now)
    for wait, drops in history:
        trace, _ = trace.observe(drops * times, now, HALF, shape)
        now = RippleTime(now + wait)
    return trace


# --- curves ----------------------------------------------------------------------------------------------------------


@given(shapes, tilts, moments, spans, spans)
def test_a_curve_adds_up(shape: tuple[int, ...], tilt: tuple[int, ...], start: int, one: int, two: int) -> None:
    course = Curve(shape, tilt)
    middle = start + one
    assert course.between(start, middle) + course.between(middle, middle + two) == course.between(start, middle + two)
    if not (shape or tilt):
        assert course.between(start, middle) == one * UNIT


@given(shapes, tilts, moments)
def test_each_second_of_a_curve_is_its_hour_times_its_part_of_the_day(
    shape: tuple[int, ...], tilt: tuple[int, ...], moment: int
) -> None:
    percent = shape[moment // HOUR_S % WEEK_H] if shape else 100
    of_part = tilt[moment // HOUR_S % 24 // 2] if tilt else 100
    assert Curve(shape, tilt).between(moment, moment + 1) == percent * of_part
    assert passed(shape, tilt, moment, moment + 1) == percent * of_part


@given(shapes, tilts, moments, st.integers(0, 10**12))
def test_a_curve_is_followed_as_far_as_the_sum_allows_and_no_further(
    shape: tuple[int, ...], tilt: tuple[int, ...], start: int, total: int
) -> None:
    course = Curve(shape, tilt)
    seconds = course.reach(start, total)
    assert course.between(start, start + seconds) <= total < course.between(start, start + seconds + 1)


# --- forecasts -------------------------------------------------------------------------------------------------------


@given(rates, spans, spans, quantiles, quantiles)
def test_what_is_enough_grows_with_horizon_quantile_demand_and_spread(
    rate: Rate, one: int, two: int, q: int, p: int
) -> None:
    near, far, low, high = min(one, two), max(one, two), min(p, q), max(p, q)
    assert rate.need(0) == 0
    assert rate.need(near) <= rate.need(far)
    assert rate.need(near) <= rate.likely(near, low) <= rate.likely(far, low) <= rate.likely(far, high)
    more = replace(rate, micro_drops_per_s=rate.micro_drops_per_s * 2 + 1, spread=rate.spread + 1)
    assert rate.likely(far, high) <= more.likely(far, high)
    assert rate.likely(far, MILLION // 2) == rate.need(far)


@given(rates, st.integers(0, 10**15))
def test_what_lasts_is_what_is_needed_read_backwards(rate: Rate, drops: int) -> None:
    seconds = rate.lasts(drops, 2**40)
    assert rate.need(seconds) <= drops
    assert seconds == 2**40 or rate.need(seconds + 1) >= drops
    assert rate.lasts(drops, 5) <= 5


@given(quantiles, quantiles)
def test_scores_are_those_of_the_normal_distribution(one: int, two: int) -> None:
    assert score(min(one, two)) <= score(max(one, two))
    exact = NormalDist().inv_cdf(one / MILLION)
    assert -2e-6 <= score(one) / MILLION - exact <= (0.012 if one <= 990_000 else 0.14)


@given(st.integers(0, 10**9), st.integers(1, 10**7))
def test_halving_is_as_good_as_exact(span: int, half_life: int) -> None:
    exact = 2.0 ** (-span / half_life)
    assert -1e-11 <= halved(span, half_life) / 2**40 - exact <= 2e-5 * exact + 1e-11


# --- traces ----------------------------------------------------------------------------------------------------------


@given(st.integers(0, 10**13), st.integers(1, 10**17), st.integers(1, 10**6), st.integers(1, 10**6))
def test_a_level_moves_towards_what_was_seen_and_never_beyond(before: int, drops: int, elapsed: int, half: int) -> None:
    at = RippleTime(10**6)
    after, _ = Trace(at, at, before, span=at // SPAN_S).observe(drops, RippleTime(at + elapsed), half, ())
    seen = min(2**63 - 1, drops * MILLION // elapsed)
    assert min(before, seen) - 1 <= after.level <= max(before, seen) + 1


@given(st.integers(1, 10**13), st.integers(1, 10**6), moments)
def test_half_a_life_without_a_request_halves_the_level(before: int, half: int, at: int) -> None:
    assert Trace(at, at, before).level_at(at + half, half, ()) == before // 2


@given(histories, shapes)
def test_a_trace_is_kept_whole(history: list[tuple[int, int]], shape: tuple[int, ...]) -> None:
    trace = told(history, shape)
    assert Trace.unpack(trace.pack()) == trace
    assert len(trace.pack()) == 199


@given(histories, shapes, spans)
def test_more_demand_is_never_forecast_as_less(
    history: list[tuple[int, int]], shape: tuple[int, ...], ahead: int
) -> None:
    one, many = (told(history, shape, times) for times in (1, 3))
    now, pool = RippleTime(one.at + ahead), Surroundings(shape)
    low, high = one.rate(now, HALF, pool), many.rate(now, HALF, pool)
    for horizon in (60, HOUR_S, 2 * DAY_S):
        assert low.likely(horizon, 900_000) <= high.likely(horizon, 900_000)


@given(histories, spans, spans)
def test_looking_at_a_forecast_changes_nothing(history: list[tuple[int, int]], one: int, two: int) -> None:
    trace, pool = told(history), Surroundings()
    late = trace.rate(RippleTime(trace.at + one + two), HALF, pool)
    trace.rate(RippleTime(trace.at + one), HALF, pool)
    assert trace.rate(RippleTime(trace.at + one + two), HALF, pool) == late
    assert late.micro_drops_per_s <= trace.rate(RippleTime(trace.at + one), HALF, pool).micro_drops_per_s


def test_the_error_is_what_came_against_what_was_forecast_and_unknown_at_first() -> None:
    """Demand that never changes is forecast without error, once it was seen for a while."""
    trace, known = Trace.begin(RippleTime(10**6)), []
    for n in range(4 * 16 * 6):
        trace, _ = trace.observe(1000, RippleTime(10**6 + n * 900), HALF, ())
        known.append(trace.error)
    assert known[0] is None
    assert known[30] is None
    assert known[-1] is not None
    assert known[-1] < 60_000, "of the first spans, in which it had to find the level"
    doubled = trace
    for n in range(24 * 4):
        doubled, _ = doubled.observe(5000 if n // 24 % 2 else 1, RippleTime(trace.at + (n + 1) * 900), HALF, ())
    assert doubled.error is not None
    assert doubled.error > 300_000


# --- coming back -----------------------------------------------------------------------------------------------------


@given(
    st.binary(min_size=SILENCES, max_size=SILENCES),
    st.lists(st.integers(0, 100), min_size=SILENCES, max_size=SILENCES),
    st.lists(st.integers(0, 100), min_size=SILENCES, max_size=SILENCES),
    st.integers(0, SILENCES - 1),
)
def test_whoever_came_back_before_is_likelier_to(
    gaps: bytes, ended: list[int], lasting: list[int], length: int
) -> None:
    silent = HOUR_S << length
    trace, pool = Trace(0, 0, gaps=gaps), Surroundings(ended=ended, lasting=lasting)
    before = trace.returns(silent, pool)
    if sum(ended[length:]) + lasting[length] < 8 and sum(gaps[length:]) < 2:
        assert before is None
        return
    assert before is not None
    assert 0 <= before <= MILLION
    again = gaps[:length] + bytes([min(255, gaps[length] + 1)]) + gaps[length + 1 :]
    assert (trace._replace(gaps=again).returns(silent, pool) or 0) >= before
    gone = [payees + 1 for payees in lasting]
    assert (trace.returns(silent, pool._replace(lasting=gone)) or 0) <= before
    assert trace.returns(HOUR_S - 1, pool) == MILLION


def test_a_silence_is_counted_by_its_length_and_not_for_the_time_nobody_could_ask() -> None:
    trace, seen = told([(1, 5)]).observe(5, RippleTime(10**6 + 5 * HOUR_S), HALF, ())
    assert (seen.silence, list(trace.gaps[:4])) == (2, [0, 0, 1, 0])
    trace, seen = told([(1, 5)]).observe(5, RippleTime(10**6 + 5 * HOUR_S), HALF, (), away_s=4 * HOUR_S)
    assert (seen.silence, list(trace.gaps[:4])) == (0, [1, 0, 0, 0])
    trace, seen = told([(1, 5)]).observe(5, RippleTime(10**6 + 5 * HOUR_S), HALF, (), away_s=5 * HOUR_S - 5)
    assert seen.silence is None


# --- shapes ----------------------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.integers(0, 4 * WEEK_H), st.integers(0, 10**12), st.integers(0, 1000)), max_size=60))
def test_a_shape_is_even_at_first_and_every_hour_has_something(hours: list[tuple[int, int, int]]) -> None:
    rhythm = Rhythm()
    assert rhythm.shape() == ()
    for at, drops, payees in sorted(hours):
        rhythm = rhythm.learn(RippleTime(at * HOUR_S), Hour(drops, payees))
    shape = rhythm.shape()
    assert len(shape) in (0, WEEK_H)
    assert all(percent >= 1 for percent in shape)


def test_few_claims_say_little_of_the_week_and_many_say_much() -> None:
    """One day of a pool that sleeps at night, with one payee and with a thousand."""

    def noon_and_midnight(payees: int) -> tuple[int, int]:
        rhythm = Rhythm()
        for hour in range(24):
            day = 8 <= hour < 20
            rhythm = rhythm.learn(RippleTime(hour * HOUR_S), Hour(1000 * payees * day, payees * day))
        shape = rhythm.shape()
        return shape[12], shape[0]

    few, many = noon_and_midnight(1), noon_and_midnight(1000)
    assert 100 <= few[0] <= 115
    assert 85 <= few[1] <= 100
    assert many[0] > 190
    assert many[1] < 5


def test_the_part_of_an_hour_that_was_seen_stands_for_all_of_it_if_it_is_half() -> None:
    whole = Rhythm().learn(RippleTime(0), Hour(1000, 10, HOUR_S))
    assert Rhythm().learn(RippleTime(0), Hour(500, 10, HOUR_S // 2)) == whole
    assert Rhythm().learn(RippleTime(0), Hour(499, 10, HOUR_S // 2 - 1)).shape() == ()


# --- simulated weeks -------------------------------------------------------------------------------------------------

STEP_S = 600
Pattern = Callable[[int], float]


def by_day(moment: int) -> float:
    """Readers who sleep: much from 8 to 20 o'clock, a little at night, less at weekends."""
    hour, day = moment % DAY_S // HOUR_S, moment // DAY_S % 7
    return (1.9 if 8 <= hour < 20 else 0.1) * (0.5 if day < 2 else 1.2)


def by_night(moment: int) -> float:
    return by_day(moment + DAY_S // 2)


class Simulated:
    """A pool of payees that ask by patterns, observed every ten minutes, with one clock for all."""

    def __init__(self, seed: int, patterns: Sequence[Pattern]) -> None:
        self.random, self.patterns = Random(seed), patterns
        self.now, self.rhythm, self.hour = RippleTime(100 * WEEK_S), Rhythm(), Hour()
        self.pool = Surroundings()
        self.traces: list[Trace | None] = [None] * len(patterns)
        self.plain = [0.0] * len(patterns)
        self.sums = [[0.0] for _ in patterns]

    def asked(self, pattern: Pattern) -> int:
        """Some requests of some thousand drops, or none."""
        return sum(self.random.randint(500, 1500) for _ in range(3) if self.random.random() < pattern(self.now) * 0.25)

    def step(self) -> None:
        self.now = RippleTime(self.now + STEP_S)
        drops, first = 0, 0
        for n, pattern in enumerate(self.patterns):
            asked = self.asked(pattern)
            weight = 1 - 2 ** (-STEP_S / HALF)
            self.plain[n] += (asked / STEP_S - self.plain[n]) * weight
            self.sums[n].append(self.sums[n][-1] + asked)
            if asked:
                trace, seen = (self.traces[n] or Trace.begin(self.now)).observe(asked, self.now, HALF, self.pool.shape)
                self.traces[n], drops, first = trace, drops + asked, first + seen.first_in_hour
        self.hour = replace(self.hour, drops=self.hour.drops + drops, payees=self.hour.payees + first)
        if self.now % HOUR_S == 0:
            self.rhythm = self.rhythm.learn(RippleTime(self.now - 1), self.hour)
            self.hour, self.pool = Hour(), Surroundings(self.rhythm.shape())

    def run(self, seconds: int) -> None:
        for _ in range(seconds // STEP_S):
            self.step()


def errors(
    seed: int, patterns: Sequence[Pattern], who: int, learn_s: int, over_s: int, horizon_s: int = DAY_S
) -> tuple[float, float, float, list[bool]]:
    """Mean absolute errors for one payee, of ours, of ours without its own tilt, and of a plain average; and whether
    what is enough with nine in ten was.
    """
    simulated = Simulated(seed, patterns)
    simulated.run(learn_s)
    made = []
    for _ in range(over_s // (3 * HOUR_S)):
        simulated.run(3 * HOUR_S)
        trace = simulated.traces[who]
        assert trace is not None
        rate = trace.rate(simulated.now, HALF, simulated.pool)
        pooled = replace(rate, tilt=())
        plain = simulated.plain[who] * horizon_s
        at = len(simulated.sums[who]) - 1
        made.append((at, rate.need(horizon_s), pooled.need(horizon_s), plain, rate.likely(horizon_s, 900_000)))
    simulated.run(horizon_s)
    sums, steps = simulated.sums[who], horizon_s // STEP_S
    came = [sums[at + steps] - sums[at] for at, *_ in made]
    off = [fmean(abs(m[k] - c) for m, c in zip(made, came, strict=True)) for k in (1, 2, 3)]
    return off[0], off[1], off[2], [c <= m[4] for m, c in zip(made, came, strict=True)]


def test_a_payee_that_sleeps_at_night_is_forecast_far_better_than_by_a_plain_average() -> None:
    ours, _, plain, enough = errors(1, [by_day] * 6, 0, 2 * WEEK_S, WEEK_S)
    assert ours < 0.5 * plain, (ours, plain)
    assert fmean(enough) > 0.85


def test_a_payee_that_lives_by_night_is_told_from_its_pool() -> None:
    """Over six hours ahead, for over a day the hours come to the same."""
    ours, pooled, plain, enough = errors(2, [by_night, *[by_day] * 5], 0, 2 * WEEK_S, WEEK_S, SPAN_S)
    assert ours < 0.6 * plain, (ours, plain)
    assert ours < 0.6 * pooled, (ours, pooled)
    assert fmean(enough) > 0.8


def test_the_first_day_of_a_payee_leans_on_its_pool() -> None:
    """It begins at noon; all forecasts of its first day are made by the shape of the pool alone."""
    begins = 100 * WEEK_S + 2 * WEEK_S + 12 * HOUR_S

    def late(moment: int) -> float:
        return by_day(moment) if moment >= begins else 0.0

    ours, pooled, plain, _ = errors(3, [late, *[by_day] * 6], 0, 2 * WEEK_S + 15 * HOUR_S, 18 * HOUR_S)
    assert ours == pooled
    assert ours < 0.6 * plain, (ours, plain)


def test_equal_histories_give_equal_forecasts() -> None:
    one, two = Simulated(4, [by_day, by_night]), Simulated(4, [by_day, by_night])
    one.run(3 * DAY_S)
    two.run(3 * DAY_S)
    assert one.traces == two.traces
    assert one.rhythm == two.rhythm
