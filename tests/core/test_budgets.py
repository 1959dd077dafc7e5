"""Sums over a window in little memory: never too small, and too large by one grain of time at most."""

from __future__ import annotations

from hypothesis import event, given
from hypothesis import strategies as st

from channeld.core.budgets import GRAINS, Window
from channeld.core.units import RippleTime, Seconds

LENGTHS = st.one_of(st.integers(1, 30), st.integers(GRAINS, 40 * GRAINS))
"""Windows with a grain of a second, and such with a coarser one."""
STEPS = st.lists(st.tuples(st.floats(0, 1), st.integers(1, 9)), max_size=60)
"""How far time moves, as a part of half a window, and what happens then."""


@given(LENGTHS, STEPS)
def test_a_window_holds_what_happened_in_it_and_little_more(length: int, steps: list[tuple[float, int]]) -> None:
    window, happened, now = Window(Seconds(length)), list[tuple[int, int]](), 1000
    grain = max(1, length // GRAINS)
    for part, amount in steps:
        now += int(part * length / 2)
        window.add(RippleTime(now), amount)
        happened.append((now, amount))
        exact = sum(a for at, a in happened if at > now - length)
        coarse = sum(a for at, a in happened if at > now - length - grain)
        assert exact <= window.total(RippleTime(now)) <= coarse
        event("something left it" if len(happened) > 1 and exact < sum(a for _, a in happened) else "all in it")
        if grain == 1:
            assert window.total(RippleTime(now)) == exact
    for last_moment in (at + length - 1 for at, _ in happened if at + length - 1 >= now):
        exact = sum(a for at, a in happened if at > last_moment - length)
        assert window.total(RippleTime(last_moment)) >= exact, "it is there to the last second"
    assert window.total(RippleTime(now + window.reach)) == 0


@given(LENGTHS, STEPS)
def test_a_window_built_again_from_the_same_history_says_the_same(length: int, steps: list[tuple[float, int]]) -> None:
    """A start reads only what a window reaches back to, and asks later than it was asked before."""
    before, now, happened = Window(Seconds(length)), 1000, list[tuple[int, int]]()
    for part, amount in steps:
        now += int(part * length / 2)
        before.add(RippleTime(now), amount)
        before.total(RippleTime(now))
        happened.append((now, amount))
    again = Window(Seconds(length))
    for at, amount in happened:
        if at > now - again.reach:
            again.add(RippleTime(at), amount)
    assert again.total(RippleTime(now)) == before.total(RippleTime(now))


def test_a_year_of_spending_every_second_is_a_thousand_sums() -> None:
    window = Window(Seconds(366 * 86_400))
    for at in range(0, 366 * 86_400, 997):
        window.add(RippleTime(at), 1)
    assert len(window._sums) <= GRAINS + 2
