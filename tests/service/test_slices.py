"""Deciding in slices: what is live first, claims in between, and every bound as if all were decided at once."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from engine import Engine, Ledger, policy
from hypothesis import given, settings
from hypothesis import strategies as st
from service.sums import added_up
from worlds import PAYEES

from channeld.core.budgets import Budget, Purse
from channeld.core.intents import OpenChannel
from channeld.core.policy import Policy
from channeld.core.requests import Granted
from channeld.core.units import Drops, Payee, RippleTime, Seconds
from channeld.sandbox.stage import PATIENCE_S
from channeld.service import agenda as agendas
from channeld.service import planner as planners
from channeld.service.agenda import Agenda
from channeld.service.holdings import Grant, Group


@pytest.fixture
def directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def payees(count: int) -> list[Payee]:
    return [Payee(PAYEES[0].account, number) for number in range(count)]


def engine_for(directory: Path, count: int, terms: Policy, cap: tuple[int, int], balance: int) -> Engine:
    """An engine in which one server may charge for so many payees, none of whom has a channel yet."""
    engine = Engine(directory / "store.db", terms=terms, ledger=Ledger(balance=balance))
    engine.grants = {"a": Grant(dict.fromkeys(payees(count), "p"), 10**17, *cap)}
    engine.kill()
    engine.build()
    engine.connect()
    return engine


def wanting(engine: Engine, drops: int) -> None:
    """All payees asked in vain for a channel, in the same ledger."""
    for payee in engine.grants["a"].payees:
        group = engine.mirror.group("p", payee)
        group.wanted, group.wanted_by = drops, "a"
        engine.planner.urge(group)


async def stepwise(engine: Engine, between: list[int]) -> None:
    """Decide what changed, and note at every pause how many opens are in flight."""
    deciding = engine.planner.decide_changed()
    while True:
        try:
            assert deciding.send(None) is None  # type: ignore[func-returns-value]
        except StopIteration:
            return
        added_up(engine.mirror)
        between.append(engine.mirror.commitments.opens)


@settings(max_examples=20)
@given(
    count=st.integers(1, 24),
    size=st.integers(1, 7),
    opens=st.integers(1, 12),
    locked=st.integers(20, 600),
    channels=st.integers(1, 12),
    capital=st.integers(20, 600),
    spendable=st.integers(0, 30),
)
def test_every_bound_binds_across_slices(
    count: int, size: int, opens: int, locked: int, channels: int, capital: int, spendable: int
) -> None:
    """Opens a ledger, the caps of a server, a budget and the treasury: decided in slices, no more is opened than they
    allow, and just as many as when all is decided at once.
    """
    budget = Budget("capital", Purse.CAPITAL, Drops(capital), None)
    terms = replace(policy(opens=opens), budgets=(budget,))
    made = []
    for slice_size in (size, 1000):
        with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
            patch.setattr(planners, "SLICE", slice_size)
            balance = 1000 + 200 * count + spendable * 120
            engine = engine_for(Path(name), count, terms, (locked, channels), balance)
            wanting(engine, 5)
            between: list[int] = []
            asyncio.run(stepwise(engine, between))
            assert len(between) == (count - 1) // slice_size
            intents = [entry.action for entry in engine.mirror.journal.values()]
            assert all(isinstance(action, OpenChannel) for action in intents)
            put_in = sum(action.amount for action in intents if isinstance(action, OpenChannel))
            assert len(intents) <= min(opens, channels)
            assert put_in <= min(locked, capital)
            assert engine.planner.waiting == 0
            answered = [g for g in engine.mirror.groups.values() if g.answer is not None or g.opening]
            assert len(answered) == count, "everyone got an answer"
            engine.kill()
        made.append((len(intents), put_in))
    assert made[0] == made[1]


def test_claims_are_answered_between_two_slices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They see, and change, what the next slice decides on; the ledger that is decided on stays the same."""
    monkeypatch.setattr(planners, "SLICE", 2)
    engine = Engine(tmp_path / "store.db")
    engine.connect()
    channel_id = engine.opened()
    engine.grants |= {"c": Grant(dict.fromkeys(payees(9), "p"), 10**17, 10**6, 50)}
    for payee in payees(9):
        engine.planner.urge(engine.mirror.group("p", payee))
    index, accepted = engine.mirror.processed, 0
    deciding = engine.planner.decide_changed()
    for number in range(4):
        assert deciding.send(None) is None  # type: ignore[func-returns-value]
        (answer,) = engine.answer(engine.ask(f"between {number}", 1))
        accepted += isinstance(answer, Granted)
        assert engine.mirror.processed == index
    with pytest.raises(StopIteration):
        deciding.send(None)
    assert accepted == 4
    assert engine.mirror.channels[channel_id].record.authorized == 4
    assert engine.planner.waiting == 0


def test_what_claims_wait_for_is_decided_at_once_and_the_backlog_is_not(tmp_path: Path) -> None:
    """Thousands that wait for their turn hold up neither a refused request nor a ledger."""
    engine = engine_for(tmp_path, 1000, policy(opens=3), (10**9, 10**6), 10**6)
    for payee in payees(1000):
        engine.mirror.group("p", payee)
    engine.planner.touch_all()
    assert engine.planner.waiting == 1000
    decided: list[int] = []
    decide = engine.planner._decide
    engine.planner._decide = lambda due: (decided.append(len(due)), decide(due))[1]  # type: ignore[func-returns-value, method-assign]
    engine.answer(engine.ask("1", 5, server="a", payee=payees(1000)[700]))
    assert decided == [1]
    assert len(engine.mirror.journal) == 1
    engine.tick()
    assert engine.planner.waiting >= 990, "a ledger decides what it changed"
    assert max(decided) <= planners.SLICE


def test_the_backlog_is_worked_off_in_slices(tmp_path: Path) -> None:
    """By itself, with pauses in which others have their turn; nothing of it is lost and nothing decided twice."""
    engine = engine_for(tmp_path, 600, policy(opens=3), (10**9, 10**6), 10**6)
    for payee in payees(600):
        engine.mirror.group("p", payee)
    engine.decide_all()
    sizes: list[int] = []
    decide = engine.planner._decide
    engine.planner._decide = lambda due: (sizes.append(len(due)), decide(due))[1]  # type: ignore[func-returns-value, method-assign]

    async def story() -> int:
        working, turns = asyncio.create_task(engine.planner.run()), 0
        engine.planner.touch_all()
        async with asyncio.timeout(PATIENCE_S):
            while engine.planner.waiting:
                await asyncio.sleep(0)
                turns += 1
        working.cancel()
        return turns

    turns = asyncio.run(story())
    assert sum(sizes) == 600
    assert max(sizes) == planners.SLICE
    assert turns >= len(sizes)


# --- the agenda ------------------------------------------------------------------------------------------------------


def groups(count: int) -> list[Group]:
    return [Group("p", payee) for payee in payees(count)]


def test_live_work_comes_before_the_backlog() -> None:
    """First what claims wait for, then what changed, then the rest in the order in which it came."""
    many = groups(agendas.AT_ONCE + 10)
    agenda = Agenda([])
    agenda.add(many)
    agenda.change(many[7])
    agenda.want(many[9])
    assert agenda.next(10, backlog=False) == [many[9], many[7]]
    assert agenda.next(4, backlog=True) == [many[9], many[7], many[0], many[1]]
    agenda.done([many[9], many[7], many[0]])
    assert agenda.next(2, backlog=True) == [many[1], many[2]]
    assert agenda.waiting == len(many) - 3


def test_a_group_in_several_lines_is_decided_once() -> None:
    (one,) = groups(1)
    agenda = Agenda([one])
    agenda.want(one)
    agenda.change(one)
    assert agenda.next(9, backlog=True) == [one]
    agenda.done([one])
    assert agenda.waiting == 0
    assert not agenda.knows(one)


def test_what_falls_due_in_thousands_does_not_hold_up_the_ledger() -> None:
    """A few are decided with the ledger; very many wait behind what it changed."""
    few, many = groups(5), groups(agendas.AT_ONCE + 1)
    agenda = Agenda([])
    for group in few:
        agenda.schedule(RippleTime(100), group)
    for group in many:
        agenda.schedule(RippleTime(200), group)
        agenda.schedule(RippleTime(300), group)  # later than what is known: changes nothing
    agenda.ledger(RippleTime(99))
    assert agenda.waiting == 0
    agenda.ledger(RippleTime(100))
    assert agenda.next(99, backlog=False) == few
    agenda.done(few)
    agenda.change(few[3])
    agenda.ledger(RippleTime(Seconds(200)))
    assert agenda.next(99, backlog=False) == [few[3]]
    assert agenda.waiting == len(many) + 1
