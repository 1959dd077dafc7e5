"""A wall clock that jumps by hours while time goes on: ids, `not_after`, caps and retries are as if it had not."""

from __future__ import annotations

from pathlib import Path

import pytest
from engine import Engine
from hypothesis import given
from hypothesis import strategies as st
from worlds import PAYEES

from channeld.core.requests import Answer, Code, Granted, Refusal
from channeld.core.units import to_unix
from channeld.service.clock import TOLERANCE_S, Clock

HOUR, DAY = 3600, 86_400
JUMPS = [-40 * HOUR, -5 * HOUR, -60, 0, 60, 5 * HOUR, 40 * HOUR, 10**9]


class Jumpy(Engine):
    """The engine with a wall clock that is `ahead` of the ledger's time by so many seconds."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, caps={"a": (20, 10**6, 5), "b": (10**6, 10**6, 5)})
        self.ahead = 0.0
        self.truth = to_unix(self.ledger.header().close_time) - self.clock
        self.wall = Clock(self.mirror, lambda: self.true_now + self.ahead, lambda: self.clock)
        self.desk._unix = self.wall
        self.connect()
        self.opened()

    @property
    def true_now(self) -> float:
        return self.truth + self.clock

    def housekeeping(self) -> None:
        while self.store.fold(100):
            pass
        self.store.forget(self.wall.forget_before(DAY), 1000)


@pytest.fixture
def engine(tmp_path: Path) -> Jumpy:
    return Jumpy(tmp_path / "store.db")


def one(engine: Jumpy, name: str, drops: int = 1, **more: int) -> Answer:
    return engine.answer(engine.ask(name, drops, **more))[0]


@pytest.mark.parametrize("jump", JUMPS)
def test_an_id_is_remembered_for_a_day_of_real_time_whenever_the_clock_jumps(engine: Jumpy, jump: float) -> None:
    one(engine, "before")
    engine.ahead = jump
    engine.housekeeping()
    one(engine, "during")
    engine.ahead = 0
    engine.housekeeping()
    for name in ("before", "during"):
        again = one(engine, name)
        assert isinstance(again, Granted)
        assert again.replayed, name
    engine.tick(seconds=DAY - 60)
    engine.ahead = jump
    engine.housekeeping()
    assert isinstance(one(engine, "during"), Granted)
    assert engine.on_disk("SELECT count(*) FROM request") == [(2,)]
    engine.tick(seconds=2 * HOUR)
    engine.ahead = 0
    engine.housekeeping()
    assert engine.on_disk("SELECT count(*) FROM request") == [(0,)], "and not for ever"


@pytest.mark.parametrize("jump", [j for j in JUMPS if abs(j) > 60])
def test_not_after_is_kept_to_by_the_time_that_the_network_agrees_on(engine: Jumpy, jump: float) -> None:
    engine.ahead = jump
    assert isinstance(one(engine, "in time", not_after=int(engine.true_now) + 30), Granted)
    late = one(engine, "late", not_after=int(engine.true_now) - 30)
    assert isinstance(late, Refusal)
    assert late.code is Code.BAD_REQUEST


@pytest.mark.parametrize("jump", JUMPS)
def test_a_jump_opens_no_new_day_of_spending_and_changes_no_retry(engine: Jumpy, jump: float) -> None:
    one(engine, "most of it", 15)
    engine.ahead = jump
    more = one(engine, "too much", 6)
    assert isinstance(more, Refusal)
    assert more.code is Code.LIMIT_EXCEEDED
    assert 0 < (more.retry_after_ms or 0) <= (DAY + HOUR) * 1000, "when what was spent now is a day old"
    nothing_yet = engine.answer(engine.ask("no channel", 1, payee=PAYEES[1]))[0]
    assert isinstance(nothing_yet, Refusal)
    assert nothing_yet.code is Code.NO_HEADROOM
    assert 0 < (nothing_yet.retry_after_ms or 0) <= 60_000


@given(ahead=st.floats(-(10**9), 10**9))
def test_the_clock_is_never_further_from_the_ledgers_than_the_tolerance(ahead: float) -> None:
    class Header:
        close_time = 800_000_000

    class Seen:
        header, heard_at = Header(), 50.0

    real = to_unix(Header.close_time) + 10.0  # type: ignore[arg-type]
    clock = Clock(Seen(), lambda: real + ahead, lambda: 60.0)  # type: ignore[arg-type]
    assert abs(clock() - real) <= TOLERANCE_S
    assert (clock.wrong() is None) is (abs(clock.ahead_s or 0) <= TOLERANCE_S)
    assert clock.forget_before(DAY) <= real - DAY - HOUR
    assert clock.forget_before(DAY) <= max(0.0, real + ahead - DAY)


def test_before_a_ledger_was_seen_nothing_is_forgotten_and_the_clock_is_believed(tmp_path: Path) -> None:
    engine = Engine(tmp_path / "s.db")
    clock = Clock(engine.mirror, lambda: 5.0, lambda: 0.0)
    assert (clock(), clock.ahead_s, clock.wrong(), clock.forget_before(1)) == (5.0, None, None, 0)
