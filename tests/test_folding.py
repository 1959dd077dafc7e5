"""Folding keeps up with the desk, however much it accepts."""

from __future__ import annotations

import pytest

from channeld.app.daemon import fold_slice


@pytest.mark.parametrize("accepted", [128, 500, 1127])
def test_whatever_a_group_accepts_the_backlog_stays_bounded(accepted: int) -> None:
    """A step of folding for every group; 1127 is the largest one while behind: a fair group and one batch more."""
    backlog, most = 0, 0
    for _ in range(20_000):
        backlog += accepted
        backlog -= min(backlog, fold_slice(backlog))
        most = max(most, backlog)
    assert most < 150_000


def test_with_little_to_do_a_step_stays_small() -> None:
    assert fold_slice(0) == fold_slice(16_000) == 128
