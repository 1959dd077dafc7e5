"""What is learnt of demand, across restarts: equal before and after, bounded, and written with ledgers only."""

from __future__ import annotations

from pathlib import Path

from engine import Engine
from worlds import PAYEES

from channeld.adapters.sqlite import demands as kept
from channeld.core.trace import MOST_KEPT_S, Trace
from channeld.core.units import HOUR_S, RippleTime, Seconds
from channeld.service import demands
from channeld.service.attendance import Attendance
from channeld.service.demands import Demands
from channeld.service.holdings import Group

HALF = Seconds(60)


def asking(engine: Engine, turns: int, *, first: int = 0, seconds: int = 4) -> None:
    for turn in range(first, first + turns):
        engine.answer(engine.ask(turn, 1 + turn % 3))
        engine.tick(seconds)


def traces(engine: Engine) -> dict[str, bytes]:
    return {f"{g.pool}/{g.subject}": g.trace for g in engine.mirror.groups.values() if g.trace}


def test_a_forecast_is_the_same_after_a_kill(tmp_path: Path) -> None:
    """All but what was asked for since the ledger before the last, which memory alone had."""
    engine = Engine(tmp_path / "s.db")
    engine.connect()
    engine.opened()
    asking(engine, 20)
    engine.tick()
    engine.tick()
    before, (group,) = traces(engine), engine.mirror.groups.values()
    now = RippleTime(engine.ledger.time)
    rate = engine.mirror.demands.rate(group, now, HALF)
    assert rate.micro_drops_per_s > 0
    engine.restart()
    assert traces(engine) == before
    (group,) = engine.mirror.groups.values()
    assert engine.mirror.demands.rate(group, now, HALF) == rate


def test_what_was_asked_for_is_written_with_the_ledger_after(tmp_path: Path) -> None:
    engine = Engine(tmp_path / "s.db")
    engine.connect()
    engine.opened()
    asking(engine, 5)
    engine.answer(engine.ask("last", 2))
    engine.kill()
    ((before,),) = engine.on_disk("SELECT trace FROM demand")
    engine.build()
    engine.connect()
    assert traces(engine) == {f"p/{PAYEES[0]}": before}


def test_looking_at_groups_writes_nothing(tmp_path: Path) -> None:
    engine = Engine(tmp_path / "s.db")
    engine.connect()
    engine.opened()
    asking(engine, 3)
    engine.tick()
    engine.tick()
    assert engine.mirror.demands.unwritten().traces == []
    for _ in range(5):
        engine.planner.touch_all()
        engine.tick()
    assert engine.mirror.demands.unwritten().traces == []


def test_a_pool_learns_an_hour_when_it_is_over_and_keeps_it(tmp_path: Path) -> None:
    engine = Engine(tmp_path / "s.db")
    engine.connect()
    engine.opened()
    asking(engine, 30, seconds=HOUR_S // 4)
    engine.tick()
    ((body,),) = engine.on_disk("SELECT body FROM rhythm WHERE pool = 'p'")
    engine.restart()
    engine.tick()
    assert engine.on_disk("SELECT body FROM rhythm WHERE pool = 'p'") == [(body,)]
    around = engine.mirror.demands._pool("p").around
    assert len(around.shape) == 168
    assert sum(around.lasting) == 0, "it asked in this hour or the last"
    engine.ledger.close(9 * HOUR_S)
    engine.see()
    assert engine.mirror.demands._pool("p").around.lasting[:4] == (1, 1, 1, 1)


def test_nothing_depends_on_the_order_in_which_payees_are_observed() -> None:
    found = []
    for order in ((0, 1, 2, 3), (3, 1, 0, 2)):
        learnt = Demands({}, {}, Attendance())
        groups = [Group("p", payee) for payee in PAYEES]
        for hour in range(200):
            now = RippleTime(10**6 + hour * 1000)
            for n in order:
                groups[n].asked = (hour * (n + 1)) % 5 * 100
                learnt.observe(groups[n], now, 3600)
            learnt.ledger(now)
        found.append(([g.trace for g in groups], learnt.unwritten().rhythms, learnt._pool("p").around))
    assert found[0] == found[1]


def test_a_ledger_writes_a_bounded_number_of_traces_the_oldest_first() -> None:
    learnt, most = Demands({}, {}, Attendance()), demands.MOST_WRITTEN
    groups = [Group("p", PAYEES[0], f"u{n}") for n in range(most + 10)]
    for group in groups:
        group.asked = 5
        learnt.observe(group, RippleTime(10**6), HALF)
    first = learnt.unwritten()
    assert [trace for _, _, trace in first.traces] == [g.trace for g in groups[:most]]
    learnt.written()
    assert len(learnt.unwritten().traces) == 10
    learnt.written()
    assert learnt.unwritten().traces == []


def test_a_group_that_is_let_go_of_keeps_its_demand() -> None:
    learnt, group = Demands({}, {}, Attendance()), Group("p", PAYEES[0], "u")
    group.asked = 5
    learnt.observe(group, RippleTime(10**6), HALF)
    learnt.release(group)
    again = Group("p", PAYEES[0], "u")
    learnt.adopt(again)
    assert again.trace == group.trace


def test_the_store_forgets_who_asked_longest_ago(tmp_path: Path) -> None:
    engine = Engine(tmp_path / "s.db")
    now = 2 * MOST_KEPT_S
    with engine.store._db as db:
        for n, at in enumerate((now, now - 5, now - MOST_KEPT_S, now - MOST_KEPT_S - 1)):
            db.execute("INSERT INTO demand VALUES (?, ?, ?)", (f"p/{n}", at, Trace(at, at).pack()))
        db.execute("INSERT INTO demand VALUES ('p/odd', ?, ?)", (now, b"of another channeld"))
    most, kept.MOST_KEPT = kept.MOST_KEPT, 3
    try:
        assert sorted(engine.store.load().traces) == ["p/0", "p/1"]
    finally:
        kept.MOST_KEPT = most  # type: ignore[misc]
