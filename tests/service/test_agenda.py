"""The clock brings up what is due, exactly then and whatever else waits; and what can wait takes its turn."""

from __future__ import annotations

import asyncio
import itertools
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from engine import MARGIN, Engine, Silent, policy
from hypothesis import event, given, settings
from hypothesis import strategies as st
from service.heralds import Heralded
from worlds import PAYEES, SOURCE, channel

from channeld.core.intents import Claim, Kind
from channeld.core.records import ChannelRecord, Incoming
from channeld.core.requests import Granted
from channeld.core.units import ChannelId, Drops, LedgerIndex, Payee, RippleTime, Seconds
from channeld.service import agenda as agendas
from channeld.service import collector as collectors
from channeld.service import herald as heralds
from channeld.service import pace
from channeld.service.agenda import Agenda
from channeld.service.collector import Collector
from channeld.service.holdings import NO_TIME, Grant, Group
from channeld.service.wheel import Wheel

MOVES = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.integers(0, 60), st.sampled_from("abcdef")),
        st.tuples(st.just("drop"), st.just(0), st.sampled_from("abcdef")),
        st.tuples(st.just("due"), st.integers(0, 12), st.just("")),
    ),
    max_size=60,
)


@given(MOVES)
def test_a_wheel_says_what_is_due_once_and_in_order(moves: list[tuple[str, int, str]]) -> None:
    wheel, model, now = Wheel[str](), dict[str, int](), 0
    for move, number, thing in moves:
        if move == "put":
            wheel.put(RippleTime(number), thing)
            model[thing] = min(number, model.get(thing, number))
        elif move == "drop":
            wheel.drop(thing)
            model.pop(thing, None)
        else:
            now += number
            due = wheel.due(RippleTime(now))
            assert sorted(due) == sorted(t for t, at in model.items() if at <= now)
            assert [model[t] for t in due] == sorted(model[t] for t in due)
            model = {t: at for t, at in model.items() if at > now}
        assert wheel.first() == min(model.values(), default=None)
        assert len(wheel) == len(model)
        assert {t for t in "abcdef" if t in wheel} == model.keys()
        held = [t for slot in wheel._slots.values() for t in slot]
        assert sorted(held) == sorted(model), "of what was dropped nothing is kept"


# --- deadlines -------------------------------------------------------------------------------------------------------


@settings(max_examples=8)
@given(
    st.lists(st.sampled_from([4, 4, 9, 23]), min_size=2, max_size=4),
    st.lists(st.sampled_from([1, 4, 5]), min_size=30, max_size=30),
)
def test_what_has_a_deadline_is_decided_with_the_ledger_that_reaches_it(apart: list[int], steps: list[int]) -> None:
    """Nobody touches it, nothing else is ever decided by the clock, and every channel is decided at each of its turning
    points with the very first ledger that is there. So it is paid, closed and gone in time.
    """
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        patch.setattr(agendas, "AT_ONCE", 0)
        engine = Engine(Path(name) / "s.db", terms=policy(cancel_after=150, max_per_payee=1))
        payees = [Payee(PAYEES[0].account, n) for n in range(len(apart))]
        engine.grants = {"a": Grant(dict.fromkeys(payees, "p"), 10**17, 10**6, 50)}
        engine.restart()
        decided: dict[int, set[Payee]] = defaultdict(set)
        spy(engine, decided)
        for number, seconds in enumerate(apart):
            ask = engine.ask(number, 5, payee=payees[number])
            while not isinstance(engine.answer(ask)[0], Granted):
                engine.tick()
            engine.tick(seconds)
        for seconds in steps:
            reached(engine, decided, seconds)
        while engine.ledger.channels:
            reached(engine, decided, 5)
        assert engine.ledger.channels == {}
        assert set(engine.ledger.closed.values()) == {5}, "what was promised was paid"
        engine.kill()


def spy(engine: Engine, decided: dict[int, set[Payee]]) -> None:
    decide = engine.planner._decide

    def watched(due: Sequence[Group]) -> None:
        decided[engine.ledger.time].update(group.payee for group in due)
        decide(due)

    engine.planner._decide = watched  # type: ignore[method-assign]


def reached(engine: Engine, decided: dict[int, set[Payee]], seconds: int) -> None:
    """A ledger closes: whoever has a turning point in it is decided, even where the ledger itself did nothing."""
    before, live = engine.ledger.time, [state.record.channel for state in engine.mirror.channels.values()]
    engine.tick(seconds)
    now = engine.ledger.time
    due = {c.payee for c in live for at in c.turning_points(Seconds(MARGIN)) if before < at <= now}
    assert due <= decided[now]
    event("a deadline was reached" if due else "none was")


def test_a_deadline_comes_before_thousands_that_are_due_as_well() -> None:
    many = [Group("p", Payee(PAYEES[0].account, n)) for n in range(agendas.AT_ONCE + 5)]
    agenda = Agenda[Group]()
    for group in many:
        agenda.schedule(RippleTime(100), group)
    agenda.deadline(RippleTime(100), many[-1])
    agenda.deadline(RippleTime(100), many[-2])
    agenda.deadline(RippleTime(101), many[-2])
    agenda.deadline(RippleTime(100), many[-3])
    agenda.deadline(None, many[-3])
    agenda.ledger(RippleTime(100))
    assert agenda.next(99, backlog=False) == [many[-1]]
    assert agenda.waiting == len(many) + 1
    agenda.done([many[-1]])
    assert agenda.rounds_only
    agenda.change(many[3])
    assert not agenda.rounds_only
    agenda.ledger(RippleTime(101))
    assert agenda.next(99, backlog=False) == [many[3], many[-2]]
    agenda.drop(many[-2])
    assert agenda.next(99, backlog=False) == [many[3]]


@pytest.mark.parametrize("deadline", [False, True])
def test_what_the_clock_brings_up_in_thousands_takes_a_tenth_of_the_time(
    monkeypatch: pytest.MonkeyPatch, deadline: bool
) -> None:
    """What a policy or a start brings up takes half of it; meanwhile they have their part of every slice."""
    agenda, now, rests = Agenda[int](), 0.0, list[float]()
    for number in range(agendas.AT_ONCE + 1):
        agenda.schedule(RippleTime(5), number)
    agenda.ledger(RippleTime(5))
    if deadline:
        agenda.add_all(range(1000, 1000 + 10 * agendas.AT_ONCE))

    def step() -> bool:
        nonlocal now
        now += 0.01
        agenda.done(agenda.next(32, backlog=True))
        return agenda.waiting > 0

    async def sleep(seconds: float) -> None:
        rests.append(round(seconds, 6))

    monkeypatch.setattr(pace.asyncio, "sleep", sleep)

    async def story() -> None:
        wake = asyncio.Event()
        wake.set()
        working = asyncio.ensure_future(pace.work_off(agenda, wake, step, lambda: now))
        while agenda.waiting or not working.done():
            if not agenda.waiting:
                working.cancel()
            await asyncio.wait([working], timeout=0.001)

    asyncio.run(story())
    rounds = agendas.AT_ONCE + 1
    assert rests == ([0.01] * -(-(rounds + 10 * agendas.AT_ONCE) // 32) if deadline else [0.09] * -(-rounds // 32))


@given(
    st.integers(1, 80),
    st.sampled_from([2, 5, 8, 32]),
    st.sets(st.sampled_from(["urgent", "changed", "backlog"]), min_size=1),
)
def test_however_much_waits_before_it_every_round_is_served(over: int, most: int, lines: set[str]) -> None:
    """In order, and within as many slices as it takes at a few in each, though the other lines never end."""
    agenda, others = Agenda[int](), itertools.count(10**6)
    rounds = range(agendas.AT_ONCE + over)
    for number in rounds:
        agenda.schedule(RippleTime(5), number)
    agenda.ledger(RippleTime(5))
    served: list[int] = []
    for _ in range(-(-len(rounds) // max(1, most // agendas.FEW))):
        if "urgent" in lines:
            agenda.want(next(others))
        if "backlog" in lines:
            agenda.add(list(itertools.islice(others, agendas.AT_ONCE + 1)))
        for other in itertools.islice(others, most if "changed" in lines else 0):
            agenda.change(other)
        taken = agenda.next(most, backlog=True)
        assert len(taken) <= most
        assert any(thing not in rounds for thing in taken), "the others go on as well"
        served += [thing for thing in taken if thing in rounds]
        agenda.done(taken)
    assert served == list(rounds)


def test_a_payout_that_failed_goes_again_when_it_has_cooled_down_whatever_else_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though nothing else is ever decided by the clock, and whoever asks for a slice."""
    engine = Engine(tmp_path / "s.db", terms=policy(cancel_after=400, max_per_payee=1))
    engine.connect()
    state = engine.mirror.channels[ChannelId(engine.opened())]
    engine.answer(engine.ask(1, 5))

    def refuse(blob: str) -> None:
        engine.session.code = "temBAD_AMOUNT" if isinstance(engine.ledger.blobs[blob][0], Claim) else None

    engine.session.on_submit = refuse
    while state.pending is not Kind.SETTLE:
        engine.tick()
    monkeypatch.setattr(agendas, "AT_ONCE", 0)
    while state.setback is None:
        engine.tick()
    engine.session.on_submit, engine.session.code = lambda _: None, None
    again = state.setback.retry_at
    assert again is not None
    while engine.ledger.time < again:
        assert state.pending is None
        engine.tick()
    assert state.pending in (Kind.SETTLE, Kind.REQUEST_CLOSE), "it pays with the first ledger that may"
    engine.tick()
    assert state.record.channel.balance == 5
    engine.kill()


# --- a new policy ----------------------------------------------------------------------------------------------------


def everything(engine: Engine, count: int) -> list[ChannelId]:
    """So many channels that pay us, on each of which something is held; the source of every tenth closes it."""
    ids = []
    for number in range(count):
        end = RippleTime(engine.ledger.time + 500) if number % 10 == 0 else None
        pays = replace(channel(number + 1, amount=50), destination_account=SOURCE, expiration=end)
        engine.mirror.vault.put(Incoming(pays, Drops(7), "00", "a", RippleTime(engine.ledger.time)))
        ids.append(pays.channel_id)
    return ids


def test_what_pays_us_is_decided_in_slices_and_what_is_closing_first(tmp_path: Path) -> None:
    engine = Engine(tmp_path / "s.db")
    engine.connect()
    silent: Any = Silent()
    spending, purse = engine.planner.spending, engine.planner.purse
    collector = Collector(
        engine.mirror, engine.store, silent, spending=spending, purse=purse, monotonic=lambda: engine.clock
    )
    seen: list[list[ChannelId]] = [[]]
    collector.on_decided = lambda _wallet, found, _said: seen[-1].append(found.held.channel.channel_id)
    ids = everything(engine, 1000)
    closing = {i for i in ids if engine.mirror.vault.channels[i].channel.expiration is not None}
    for again in (False, True):
        if again:
            collector.touch_all()
        collector.decide()
        while collector.waiting:
            seen.append([])
            collector.decide_slice(backlog=True)
        assert max(map(len, seen)) <= collectors.SLICE
        told = [i for turn in seen for i in turn]
        assert set(told) == set(ids)
        if not again:
            assert set(told[: len(closing)]) == closing
        seen[:] = [[]]
    engine.kill()


@pytest.fixture
def shown(tmp_path: Path) -> Iterator[Heralded]:
    """A herald that has shown a thousand channels, two thirds of them of the second payee."""
    engine = Heralded(tmp_path / "s.db")
    for number in range(1, 1001):
        payee = PAYEES[number % 3 != 0]
        made = replace(channel(number, amount=9), destination_account=payee.account, destination_tag=payee.tag)
        engine.mirror.add(ChannelRecord(number, made, 0, True, "p", "a", NO_TIME, NO_TIME, None, None))
    engine.mirror.header = replace(engine.ledger.header(), index=LedgerIndex(5))
    engine.meet()
    engine.settle()
    assert all(state.told for state in engine.mirror.channels.values())
    yield engine
    engine.kill()


def test_a_reload_is_looked_through_in_slices_and_publishes_nothing_that_is_right(
    shown: Heralded, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[int] = [0]
    render = shown.board.render

    def counted(record: ChannelRecord) -> bytes:
        looked[-1] += 1
        return render(record)

    monkeypatch.setattr(shown.board, "render", counted)
    before = shown.board.shown
    shown.herald.reload(frozenset())
    assert all(state.told for state in shown.mirror.channels.values()), "nobody has to wait for it"
    while shown.later:
        looked.append(0)
        shown.later.pop(0)()
    assert sum(looked) == 1000
    assert max(looked) <= heralds._LOOKED_AT
    assert shown.board.shown == before
    assert shown.herald.waiting == 0


def test_what_a_server_gains_waits_for_it_and_nothing_else_does(shown: Heralded) -> None:
    """And what it loses is cleared. Where they are few, nobody waits at all: they are handed over in the same turn."""
    few = shown.mirror.groups["p", PAYEES[1], ""].channels
    kept, few[:] = few[:-3], few[-3:]
    shown.herald.reload(frozenset(PAYEES[1:2]))
    assert all(state.told for state in few)
    few[:] = kept + few
    shown.settle()
    shown.grant({"a": (PAYEES[0],), "b": PAYEES[:2]})
    gained = [s for s in shown.mirror.channels.values() if s.record.channel.payee == PAYEES[1]]
    others = [s for s in shown.mirror.channels.values() if s.record.channel.payee == PAYEES[0]]
    assert any(not state.told for state in gained)
    assert all(state.told for state in others)
    shown.settle()
    assert all(state.told for state in (*gained, *others))
    assert shown.board.retained == shown.expected()
