"""Closing with notice across crashes: told once, given its time, and never for a silence that was our own."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from engine import Engine, policy
from hypothesis import given
from hypothesis import strategies as st

from channeld.core.policy import Policy
from channeld.core.rules import Rule, Within
from channeld.core.units import RippleTime
from channeld.core.vocabulary import Concern
from channeld.service.attendance import MOST_ABSENCES, Attendance

IDLE, PATIENCE, NOTICE = 40, 20, 60


def terms() -> Policy:
    laid = {"notice": NOTICE, "patience": PATIENCE}
    rule = Rule("idle", {"idle": Within(IDLE, None)}, laid, "notify_then_close")
    return replace(policy(), rules={Concern.CLOSE: (rule,)})


def story(engine: Engine, *, restart_every: int = 0, away_at: int | None = None) -> tuple[int, int, int]:
    """Let time pass until the channel is gone from issuing: when it was last used, told, and closed."""
    engine.connect()
    channel_id = engine.opened()
    engine.answer(engine.ask("used", 5))
    used, told = engine.ledger.time, 0
    for turn in range(200):
        engine.tick(4)
        if restart_every and turn % restart_every == 0:
            engine.restart()
        if turn == away_at:
            engine.kill()
            for _ in range(50):
                engine.ledger.close(10)
            engine.build()
            engine.connect()
        events = engine.on_disk("SELECT count(*) FROM event WHERE event = 'closing_notice' AND server = 'a'")
        if events == [(1,)] and not told:
            told = engine.ledger.time
            assert engine.mirror.channels[channel_id].record.issuing  # type: ignore[index]
        assert events in ([(0,)], [(1,)]), "told once"
        if engine.on_disk("SELECT 1 FROM intent WHERE kind = 'request_close'"):
            return used, told, engine.ledger.time
    raise AssertionError("never closed")


@pytest.mark.parametrize("restart_every", [0, 1, 3])
def test_patience_and_notice_pass_before_the_close_whatever_crashes(tmp_path: Path, restart_every: int) -> None:
    engine = Engine(tmp_path / "s.db", terms=terms())
    used, told, closed = story(engine, restart_every=restart_every)
    assert IDLE + PATIENCE <= told - used <= IDLE + PATIENCE + 12
    assert NOTICE <= closed - told <= NOTICE + 8
    assert engine.on_disk("SELECT reason FROM intent WHERE kind = 'request_close'") == [("notified",)]
    for _ in range(12):
        engine.tick(4)
    assert engine.ledger.channels == {}
    assert engine.on_disk("SELECT * FROM notice") == []


@pytest.mark.parametrize("away_at", [3, 13, 22])
def test_time_in_which_the_process_was_dead_counts_for_nothing(tmp_path: Path, away_at: int) -> None:
    """It is gone for 500 seconds: while the channel is idle, while patience runs, and while the notice does."""
    engine = Engine(tmp_path / "s.db", terms=terms())
    used, told, closed = story(engine, away_at=away_at)
    assert abs((closed - used) - (500 + IDLE + PATIENCE + NOTICE)) <= 20
    assert closed - told >= NOTICE
    ((began, ended),) = engine.on_disk("SELECT began, ended FROM absence")
    assert 500 <= ended - began <= 512


def test_a_claim_in_between_starts_it_anew(tmp_path: Path) -> None:
    engine = Engine(tmp_path / "s.db", terms=terms())
    engine.connect()
    engine.opened()
    engine.answer(engine.ask("used", 5))
    while not engine.on_disk("SELECT 1 FROM notice WHERE noticed_at IS NOT NULL"):
        engine.tick(4)
    engine.answer(engine.ask("again", 5))
    engine.tick(4)
    assert engine.on_disk("SELECT * FROM notice") == []
    for _ in range((IDLE + PATIENCE + NOTICE) // 4 - 2):
        engine.tick(4)
        assert not engine.on_disk("SELECT 1 FROM intent WHERE kind = 'request_close'")


def test_a_daemon_that_serves_nobody_is_away(tmp_path: Path) -> None:
    """Whatever the reason is that no claim can be had: each counts from the last ledger at which one could."""
    engine = Engine(tmp_path / "s.db", terms=terms())
    engine.mirror.attendance.serving = lambda: engine.desk.stopped() is None
    engine.connect()
    engine.opened()
    engine.answer(engine.ask("used", 5))
    engine.tick(4)
    before = engine.ledger.time
    engine.mirror.frozen["operator"] = "a person said so"
    for _ in range(40):
        engine.tick(4)
    (state,) = engine.mirror.channels.values()
    now = RippleTime(engine.ledger.time)
    assert abs(state.view(engine.mirror.attendance, now).away - (now - before)) <= 8
    assert not engine.on_disk("SELECT 1 FROM notice")
    del engine.mirror.frozen["operator"]
    engine.tick(4)
    engine.tick(4)
    (absence,) = engine.on_disk("SELECT began, ended FROM absence")
    assert absence[0] == before


@given(st.lists(st.tuples(st.integers(1, 40), st.booleans()), max_size=60), st.integers(0, 400))
def test_away_is_the_sum_of_the_gaps_between_ledgers_at_which_we_served(
    ledgers: list[tuple[int, bool]], since: int
) -> None:
    """Of every second: was there a ledger, from the last at which we served up to the next, at which we did not?"""
    there, now, moments = Attendance(), 100, [(101, True)]
    for spacing, serving in ledgers:
        moments.append((moments[-1][0] + spacing, serving))
    for now, serving in moments:
        there.serving = partial(bool, serving)
        there.took(there.at(RippleTime(now)))
    away = 0
    for second in range(max(since, 101), now):
        before = max(n for n, (at, serving) in enumerate(moments) if at <= second and serving)
        after = next((n for n, (at, serving) in enumerate(moments) if at > second and serving), len(moments))
        away += after > before + 1
    assert there.away(RippleTime(since), RippleTime(now)) == away


def test_absences_do_not_grow_without_end_and_none_is_lost_for_who_was_there_before() -> None:
    there = Attendance([(RippleTime(n * 10), RippleTime(n * 10 + 1)) for n in range(MOST_ABSENCES)], RippleTime(20_000))
    there.took(there.at(RippleTime(20_100)))
    assert len(there._absences) == MOST_ABSENCES
    assert there.away(RippleTime(0), RippleTime(20_100)) == MOST_ABSENCES + 100
