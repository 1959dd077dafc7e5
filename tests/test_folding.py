"""Folding keeps up with the desk, however much it accepts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from engine import Engine

from channeld.adapters.sqlite import BATCH
from channeld.app.housekeeping import FORGOTTEN_SLICE, SLICE, Housekeeping, fold_slice, forget_slice
from channeld.core.records import Accepted
from channeld.core.units import Seconds, to_unix
from channeld.service.archivist import Archivist
from channeld.service.clock import Clock

TURN_S = 0.01


@pytest.mark.parametrize("accepted", [128, 500, 1127])
def test_whatever_a_group_accepts_the_backlog_stays_bounded(accepted: int) -> None:
    """A step of folding for every group; 1127 is the largest one while behind: a fair group and one batch more."""
    backlog, most = 0, 0
    for _ in range(20_000):
        backlog += accepted
        backlog -= min(backlog, fold_slice(backlog) * 4 // 9)
        most = max(most, backlog)
    assert most < 80_000


def accepting(engine: Engine, at_unix: int = 1_700_000_000) -> Callable[[int], None]:
    """Lets the store accept so many requests more, all of them at one time."""
    last = engine.store.ids

    def accept(count: int) -> None:
        nonlocal last
        starts, ends = list(range(last, last + count)), list(range(last + 1, last + count + 1))
        keys = [(number * 0x9E3779B97F4A7C15 % 2**64).to_bytes(16, "big") for number in starts]
        requests = Accepted(keys, keys, [1] * count, starts, ends, ends, ["a"] * count)
        engine.store.accept(at_unix, requests, [], [])
        last += count

    return accept


def keeping(engine: Engine, monotonic: Callable[[], float]) -> Housekeeping:
    """Ids are remembered for a day."""
    return Housekeeping(
        engine.store,
        Clock(engine.mirror, lambda: 1e12, monotonic),
        Seconds(86_400),
        monotonic,
        archivist=Archivist(engine.mirror, engine.store.archive, Seconds(86_400)),
        spending=engine.planner.spending,
    )


def test_no_rest_is_taken_while_a_batch_waits(tmp_path: Path) -> None:
    """A second of 50 000 accepted, in groups of 500: what waits in memory stays what a few batches are."""
    engine, now, most = Engine(tmp_path / "s.db"), 0.0, 0
    housekeeping = keeping(engine, lambda: now)
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


def test_folding_and_forgetting_take_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each holds the loop for as long as claims can wait; both go on until they are done."""
    engine, did = Engine(tmp_path / "s.db"), list[str]()
    engine.connect()
    now = int(to_unix(engine.ledger.header().close_time))
    accepting(engine, now - 200_000)(6000)
    while engine.store.fold(5000):
        pass
    accepting(engine, now)(BATCH)
    fold, forget = engine.store.fold, engine.store.forget
    monkeypatch.setattr(engine.store, "fold", lambda limit: did.append("fold") or fold(limit))
    monkeypatch.setattr(engine.store, "forget", lambda *what: did.append("forget") or forget(*what))
    housekeeping = keeping(engine, lambda: engine.clock)
    housekeeping._slice = SLICE * 2  # it is known that there is much to forget
    for steps in range(1, 500):
        housekeeping.step()
        assert len(did) == steps
        if engine.store.ids == BATCH and not engine.store.folding:
            break
    assert (engine.store.ids, engine.store.backlog) == (BATCH, 0)
    assert did[:6] == ["fold", "forget"] * 3


def test_what_is_old_is_forgotten_although_folding_never_rests(tmp_path: Path) -> None:
    """A long overload: there is always a batch to be folded."""
    engine = Engine(tmp_path / "s.db")
    engine.connect()
    now = int(to_unix(engine.ledger.header().close_time))
    accepting(engine, now - 200_000)(3000)
    while engine.store.fold(5000):
        pass
    accept, housekeeping = accepting(engine, now), keeping(engine, lambda: engine.clock)
    for _ in range(24):
        accept(BATCH // 8)
    for _ in range(100):
        accept(600)
        engine.clock += 0.05
        housekeeping.step()
        assert engine.store.folding or engine.store.backlog >= BATCH
    assert engine.store.ids_since == now


def test_forgetting_keeps_up_with_folding_and_calms_down() -> None:
    """Steps of both alternate: what is old enough is dropped as fast as the desk can ever fill the tables."""
    due, size, steps = 100_000, SLICE, 0
    while due:
        gone = min(due, size)
        due, size, steps = due - gone, forget_slice(size, gone), steps + 1
    assert steps < 100_000 / FORGOTTEN_SLICE + 10
    assert size == SLICE


def test_with_little_to_do_a_step_stays_small() -> None:
    """At half of what the desk can bear some 8 000 come while a batch is folded."""
    assert fold_slice(0) == fold_slice(BATCH) == fold_slice(BATCH + 12_000) == SLICE


def test_a_request_takes_part_in_no_more_steps_than_the_slices_are_made_for(tmp_path: Path) -> None:
    """A batch of two channels, in groups of 128."""
    engine, steps = Engine(tmp_path / "s.db"), 0
    accept = accepting(engine)
    for _ in range(BATCH // 128):
        accept(128)
    while engine.store.fold(1024):
        steps += 1
    assert steps <= BATCH / 1024 * 9 / 4 + 4, "and what the last slice of each kind leaves"
