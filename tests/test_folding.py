"""Folding keeps up with the desk, however much it accepts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from engine import Engine

from channeld.adapters.sqlite import BATCH
from channeld.app.housekeeping import LARGEST_SLICE, SLICE, Housekeeping, fold_slice, forget_slice
from channeld.core.records import Accepted
from channeld.core.units import Seconds
from channeld.service.archivist import Archivist
from channeld.service.clock import Clock

TURN_S = 0.01


@pytest.mark.parametrize("accepted", [128, 500, 1127])
def test_whatever_a_group_accepts_the_backlog_stays_bounded(accepted: int) -> None:
    """A step of folding for every group; 1127 is the largest one while behind: a fair group and one batch more."""
    backlog, most = 0, 0
    for _ in range(20_000):
        backlog += accepted
        backlog -= min(backlog, fold_slice(backlog))
        most = max(most, backlog)
    assert most < 80_000


def accepting(engine: Engine) -> Callable[[int], None]:
    """Lets the store accept so many requests more."""
    last = 0

    def accept(count: int) -> None:
        nonlocal last
        starts, ends = list(range(last, last + count)), list(range(last + 1, last + count + 1))
        keys = [(number * 0x9E3779B97F4A7C15 % 2**64).to_bytes(16, "big") for number in starts]
        requests = Accepted(keys, keys, [1] * count, starts, ends, ends, ["a"] * count)
        engine.store.accept(1_700_000_000, requests, [], [])
        last += count

    return accept


def test_no_rest_is_taken_while_a_batch_waits(tmp_path: Path) -> None:
    """A second of 50 000 accepted, in groups of 500: what waits in memory stays what a few batches are."""
    engine, now, most = Engine(tmp_path / "s.db"), 0.0, 0
    housekeeping = Housekeeping(
        engine.store,
        Clock(engine.mirror, lambda: 5.0, lambda: now),
        Seconds(86_400),
        lambda: now,
        archivist=Archivist(engine.mirror, engine.store.archive, Seconds(86_400)),
        spending=engine.planner.spending,
    )
    accept, due = accepting(engine), 0.0
    for _ in range(100):
        now += TURN_S
        accept(500)
        while due <= now:
            due = max(due, now - TURN_S) + housekeeping.step()
        most = max(most, engine.store.backlog)
    assert most < BATCH * 3
    while engine.store.folding or engine.store.backlog >= BATCH:
        housekeeping.step()
    assert housekeeping.step() > TURN_S


def test_forgetting_keeps_up_with_folding_and_calms_down() -> None:
    """Steps of both alternate: what is old enough is dropped as fast as the desk can ever fill the tables."""
    due, size, steps = 100_000, SLICE, 0
    while due:
        gone = min(due, size)
        due, size, steps = due - gone, forget_slice(size, gone), steps + 1
    assert steps < 100_000 / LARGEST_SLICE + 10
    assert size == SLICE


def test_with_little_to_do_a_step_stays_small() -> None:
    assert fold_slice(0) == fold_slice(16_000) == SLICE
