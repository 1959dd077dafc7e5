"""Folding keeps up with the desk, however much it accepts."""

from __future__ import annotations

import pytest

from channeld.app.housekeeping import LARGEST_SLICE, SLICE, fold_slice, forget_slice


@pytest.mark.parametrize("accepted", [128, 500, 1127])
def test_whatever_a_group_accepts_the_backlog_stays_bounded(accepted: int) -> None:
    """A step of folding for every group; 1127 is the largest one while behind: a fair group and one batch more."""
    backlog, most = 0, 0
    for _ in range(20_000):
        backlog += accepted
        backlog -= min(backlog, fold_slice(backlog))
        most = max(most, backlog)
    assert most < 150_000


def test_forgetting_keeps_up_with_folding_and_calms_down() -> None:
    """Steps of both alternate: what is old enough is dropped as fast as the desk can ever fill the tables."""
    due, size, steps = 100_000, SLICE, 0
    while due:
        gone = min(due, size)
        due, size, steps = due - gone, forget_slice(size, gone), steps + 1
    assert steps < 100_000 / LARGEST_SLICE + 10
    assert size == SLICE


def test_with_little_to_do_a_step_stays_small() -> None:
    assert fold_slice(0) == fold_slice(16_000) == 128
