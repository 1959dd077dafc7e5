"""What was spent and what is usual: bounds hold in every window, and a flood does not teach that it is usual."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channeld.core import allowance as rooms
from channeld.core.allowance import (
    DAY_HOURS,
    LEAST_HOURS,
    USUAL_HOURS,
    Allowance,
    payee_subject,
    tier_subject,
    user_subject,
)
from channeld.core.units import HOUR_S
from channeld.core.vocabulary import PPM

START = 480_000
steps = st.lists(
    st.tuples(st.sampled_from([0, 1, 600, 3599, 3600, 7200, 86_400]), st.integers(1, 12), st.booleans()), max_size=60
)
"""Seconds that pass, drops asked for, and whether everything is read again from what is kept."""


@given(steps=steps, bound=st.integers(1, 30), hours=st.sampled_from([1, DAY_HOURS]))
def test_who_keeps_below_a_bound_keeps_below_it_in_every_window_of_real_time(
    steps: list[tuple[int, int, bool]], bound: int, hours: int
) -> None:
    """Restarts included: what is read again from the sums says the same."""
    sums: dict[tuple[str, int], int] = {}
    allowance, now = Allowance(sums), START * HOUR_S
    spent: list[tuple[int, int]] = []
    for pause, drops, again in steps:
        now += pause
        if again:
            allowance = Allowance(sums)
        hour = now // HOUR_S
        if allowance.spent("a", hour, hours) + drops <= bound:
            sums["a", hour] = sums.get(("a", hour), 0) + drops
            spent.append((now, drops))
    for end, _ in spent:
        assert sum(drops for at, drops in spent if end - hours * HOUR_S < at <= end) <= bound


@given(st.lists(st.integers(0, 1000), max_size=USUAL_HOURS + 30), st.integers(1, 1000))
def test_what_is_usual_lies_between_what_was_and_is_the_same_after_a_restart(history: list[int], drops: int) -> None:
    sums = {("a", START - len(history) + n): d for n, d in enumerate(history)}
    allowance = Allowance(sums)
    usual = allowance.usual("a", START)
    assert usual == Allowance(dict(sums)).usual("a", START)
    recent = history[-USUAL_HOURS:]
    first = next((n for n, d in enumerate(recent) if d), len(recent))
    if len(recent) - first < LEAST_HOURS:
        assert usual is None
        assert allowance.anomaly("a", (), START, drops) is None
    else:
        assert usual is not None
        assert 1 <= usual <= max(1, *recent)
        assert allowance.anomaly("a", (), START, drops) == drops * PPM // usual


def test_hours_of_a_flood_do_not_make_it_usual() -> None:
    """A week of 100 drops an hour, then ten hours of a thousand times as much."""
    sums = {("a", START - n): 100 for n in range(11, USUAL_HOURS + 1)}
    assert Allowance(sums).usual("a", START) == 100
    sums |= {("a", START - n): 1000 for n in range(1, 11)}
    usual = Allowance(sums).usual("a", START)
    assert usual is not None
    assert usual < 200
    sums |= {("a", START - n): 1000 for n in range(11, 30)}
    assert Allowance(sums).usual("a", START) == 1000, "what goes on for more than a tenth of a week is usual"


def test_who_is_not_known_is_compared_with_the_median_of_those_who_are() -> None:
    known = {(name, START - n): each for name, each in (("a", 10), ("b", 50), ("c", 90)) for n in range(1, 40)}
    allowance = Allowance(known)
    assert allowance.anomaly("new", ("a", "b", "c", "new"), START, 500) == 10 * PPM
    assert Allowance({}).anomaly("new", ("new",), START, 500) is None


@given(hour=st.integers(START, START + 500))
def test_an_hour_that_goes_on_counts_what_was_added_since_it_was_asked(hour: int) -> None:
    sums = {("a", h): 1 for h in range(START - 5, START + 500)}
    allowance = Allowance(sums)
    before = allowance.spent("a", hour, 1)
    sums["a", hour] = sums.get(("a", hour), 0) + 7
    assert allowance.spent("a", hour, 1) == before + 7


@given(st.lists(st.tuples(st.integers(0, 6), st.sampled_from([1, DAY_HOURS]), st.booleans()), max_size=60))
def test_asking_about_ever_more_subjects_costs_no_memory_and_changes_no_answer(
    asked: list[tuple[int, int, bool]],
) -> None:
    sums: dict[tuple[str, int], int] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rooms, "MOST_PAST", 3)
        allowance, hour = Allowance(sums), START
        for who, hours, later in asked:
            subject = user_subject("a", str(who))
            sums[subject, hour] = sums.get((subject, hour), 0) + 1
            hour += later
            window = range(hour - hours, hour + 1)
            assert allowance.spent(subject, hour, hours) == sum(sums.get((subject, at), 0) for at in window)
            assert len(allowance._past) <= 3


def test_subjects_are_apart_from_each_other_and_from_every_content_server() -> None:
    subjects = [user_subject("a", "u"), user_subject("b", "u"), tier_subject("a", "u"), payee_subject("u"), "a"]
    assert len(set(subjects)) == 5
    assert all(subject.startswith("/") for subject in subjects[:-1])
    assert "secret" not in user_subject("a", "secret")
