"""What is usual for users and payees by the days on which they spend: bounded, and the same after a start."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channeld.core import familiar
from channeld.core.allowance import DAY_HOURS
from channeld.core.familiar import DAYS, LEAST_DAYS, Familiar, day_of, payee_known, user_known
from channeld.core.vocabulary import PPM

TODAY = 480_000
ME = user_known("p", "a", "me")
drops = st.integers(0, 1000)


def days(subject: str, *spent: int) -> dict[tuple[str, int], int]:
    """So much on each of the days before today, the last of them yesterday."""
    return {(subject, TODAY - DAY_HOURS * n): d for n, d in enumerate(reversed(spent), 1) if d}


@given(st.lists(drops, max_size=DAYS + 3), st.integers(1, 10_000))
def test_what_is_usual_lies_between_what_was_spent_on_the_days_with_spending(history: list[int], now: int) -> None:
    sums = days(ME, *history)
    known = Familiar(sums)
    spent = [d for d in history[-DAYS:] if d]
    usual = known.usual(ME, TODAY)
    if len(spent) < LEAST_DAYS:
        assert usual is None
        assert known.ratio(ME, TODAY, now) is None
    else:
        assert usual is not None
        assert min(spent) <= usual <= max(spent)
        assert known.ratio(ME, TODAY, now) == now * PPM // usual
    assert Familiar(dict(sorted(sums.items(), reverse=True))).usual(ME, TODAY) == usual


@given(st.lists(st.integers(1, 100), min_size=DAYS - 1, max_size=DAYS - 1), st.integers(1000, 10**9))
def test_one_day_out_of_the_ordinary_raises_what_is_usual_by_its_share_of_the_mean_at_most(
    history: list[int], theft: int
) -> None:
    """Unless days are few: of seven the worst counts as much as the mean lets it."""
    usual = Familiar(days(ME, *history, theft)).usual(ME, TODAY)
    assert usual is not None
    assert usual <= max(theft, 100)
    calm = Familiar(days(ME, *history)).usual(ME, TODAY)
    assert calm is not None
    assert calm <= 100


def test_of_whom_little_is_known_the_median_of_its_kind_in_its_pool_is_usual() -> None:
    sums: dict[tuple[str, int], int] = {}
    for n in range(1, 6):
        sums |= days(user_known("p", "a", f"u{n}"), *[10 * n] * 4)
        sums |= days(user_known("q", "a", f"u{n}"), *[1000] * 4)
        sums |= days(payee_known("p", f"r{n}"), *[500] * 4)
    known = Familiar(sums)
    assert known.usual(ME, TODAY) == 30
    assert known.usual(payee_known("p", "new"), TODAY) == 500
    assert known.usual(user_known("q", "b", "me"), TODAY) == 1000
    assert known.usual(user_known("other", "a", "me"), TODAY) is None


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 30), st.integers(0, 2)), max_size=120), st.data())
def test_the_room_is_bounded_and_nobody_takes_more_than_what_is_left(
    asked: list[tuple[str, int, int]], data: Any
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(familiar, "MOST_ROWS", most := data.draw(st.integers(0, 30)))
        patch.setattr(familiar, "SAMPLE", 2)
        sums: dict[tuple[str, int], int] = {}
        known, at = Familiar(sums), TODAY
        for server, user, later in asked:
            at += later * DAY_HOURS
            for old in [key for key in sums if key[1] < at - DAYS * DAY_HOURS]:
                if data.draw(st.booleans()):  # sooner or later
                    del sums[old]
            subject = user_known("p", server, str(user))
            if data.draw(st.integers(0, 9)) == 0:
                known = Familiar(sums)
            if known.has_room(subject, at):
                known.opened(subject, at)
                sums[subject, at] = sums.get((subject, at), 0) + 1
            lately = {key for key in sums if key[1] >= at - DAYS * DAY_HOURS}
            assert known.rows == len(lately) <= most
            assert known.usual("+u/p/x/y", at) == Familiar(dict(reversed(sums.items()))).usual("+u/p/x/y", at)
            for one in "abc":
                own = sum(1 for name, _ in lately if name.split("/")[2] == one)
                assert own <= -(-most // 2) or most == 0, "one that floods leaves half of the room"


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, DAYS + 2), st.integers(1, 9)), max_size=60))
def test_the_sample_is_the_first_of_those_known_before_today(rows: list[tuple[int, int, int]]) -> None:
    """Whoever came today, invented names among them, is not in it and displaces nobody."""
    sums = {(user_known("p", "a", f"u{who}"), TODAY - DAY_HOURS * ago): drops for who, ago, drops in rows}
    before = sorted({who for who, day in sums if TODAY - DAY_HOURS * DAYS <= day < TODAY})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(familiar, "SAMPLE", 3)
        known = Familiar(sums)
        usual = sorted(u for who in before[:3] if (u := Familiar(sums)._learned(who, TODAY)) is not None)
        assert known.usual(user_known("p", "b", "new"), TODAY) == (usual[len(usual) // 2] if usual else None)


@given(st.lists(st.integers(0, 12), max_size=60))
def test_asking_about_ever_more_users_costs_no_memory_and_changes_no_answer(asked: list[int]) -> None:
    sums: dict[tuple[str, int], int] = {}
    for n in range(6):
        sums |= days(user_known("p", "a", str(n)), *[10 * n + 1] * 4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(familiar, "MOST_USUAL", 3)
        known = Familiar(sums)
        for who in asked:
            assert known.usual(user_known("p", "a", str(who)), TODAY) == (10 * who + 1 if who < 6 else 31)
            assert len(known._usual) <= 3


class ReadOnce(dict[tuple[str, int], int]):
    """Sums that may be looked up, and gone through only while they are `open`."""

    open = True

    def __iter__(self) -> Iterator[tuple[str, int]]:
        assert self.open, "all sums are gone through where a request waits"
        return super().__iter__()


def test_all_sums_are_gone_through_once_and_never_again_as_days_pass() -> None:
    sums = ReadOnce(days(ME, *[5] * 7))
    known = Familiar(sums)
    sums.open = False
    for day in range(TODAY, TODAY + 10 * DAY_HOURS, DAY_HOURS):
        assert known.has_room(ME, day)
        known.opened(ME, day)
        sums[ME, day] = 5
        assert known.usual(ME, day) == known.usual(user_known("p", "a", "new"), day) == 5
        assert known.rows == DAYS + 1


def test_days_are_named_by_their_first_hour() -> None:
    assert {day_of(TODAY + n) for n in range(DAY_HOURS)} == {TODAY}
    assert day_of(TODAY + DAY_HOURS) == TODAY + DAY_HOURS
