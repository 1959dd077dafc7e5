"""What was decided is journaled, or waits with a reason; what is owed before a channel's end never waits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from engine import Engine, drive, policy

from channeld.core.budgets import Budget, Purse
from channeld.core.freezes import Cause
from channeld.core.policy import FreezeIf, Override, Policy, Scope, SettleTerms
from channeld.core.units import Drops, RippleTime, Seconds
from channeld.core.vocabulary import Concern, Mode
from channeld.service.guard import Guard

CONCERNS = frozenset({Concern.FUND, Concern.SETTLE, Concern.CLOSE})


@pytest.mark.parametrize("frozen", [True, False])
def test_what_is_owed_is_paid_before_a_fixed_end_whether_the_wallet_is_frozen_or_not(
    tmp_path: Path, frozen: bool
) -> None:
    """Nothing but the end makes it due: the terms never pay it out. Frozen, the channel is paid and not closed."""
    terms = policy(cancel_after=200)
    never = replace(terms.pools["p"], settle=SettleTerms(Drops(10**9), Seconds(10**9)))
    engine = Engine(tmp_path / "s.db", terms=replace(terms, pools={"p": never}))
    engine.connect()
    channel_id = engine.opened()
    engine.answer(engine.ask(1, 5))
    if frozen:
        engine.mirror.frozen_wallets["hot"] = {"operator": "a person said so"}  # type: ignore[dict-item, index]
    end = engine.ledger.channels[channel_id].cancel_after
    assert end is not None
    while engine.ledger.time < end - 10:
        engine.tick()
    kinds = [kind for (kind,) in engine.on_disk("SELECT kind FROM intent ORDER BY number")]
    assert sum(paid for (paid,) in engine.on_disk("SELECT paid FROM payment")) == 5
    assert ("request_close" in kinds) is not frozen
    assert kinds.count("settle") == frozen


def paid(engine: Engine) -> int:
    return sum(drops for (drops,) in engine.on_disk("SELECT paid FROM payment"))


def ended(engine: Engine, kind: str) -> list[str]:
    return [status for k, status in engine.on_disk("SELECT kind, status FROM intent ORDER BY number") if k == kind]


def unsigned(engine: Engine, kind: str) -> None:
    """Ledgers pass, with a node that takes nothing, until an intent of this kind is journaled."""
    while not ended(engine, kind):
        engine.ledger.close()
        engine.pass_time(4)
        drive(engine.follower._process(engine.session, engine.ledger.header()))  # type: ignore[arg-type]
    assert ended(engine, kind) == ["planned"]


@pytest.mark.parametrize("dies", [False, True])
@pytest.mark.parametrize(("kind", "drops"), [("fund", 16), ("request_close", 5)])
def test_what_a_freeze_keeps_from_being_signed_does_not_hide_that_a_payout_is_owed(
    tmp_path: Path, kind: str, drops: int, dies: bool
) -> None:
    """It is ended, the payout goes alone, and once it is thawed what was to be done is decided anew."""
    terms = policy()
    late = replace(terms.pools["p"], settle=SettleTerms(Drops(10**9), Seconds(120)))
    engine = Engine(tmp_path / "s.db", terms=replace(terms, pools={"p": late}))
    engine.connect()
    engine.opened()
    engine.desk.answer([engine.ask(1, drops)])
    unsigned(engine, kind)
    Guard(engine.mirror, engine.store.books, lambda: engine.unix).freeze("hot", "a person", "to look at it")
    if dies:
        engine.restart()
    for _ in range(40):
        engine.tick()
    assert paid(engine) == drops, "however long the freeze lasts"
    assert ended(engine, kind) == ["moot"], "and nothing else happens meanwhile"
    Guard(engine.mirror, engine.store.books, lambda: engine.unix).thaw("hot", Cause.OPERATOR, "a person", "seen")
    engine.planner.touch_all()
    for _ in range(40):
        engine.tick()
    assert ended(engine, "request_close") == ["moot", "done"] if kind == "request_close" else ["done"]


def test_a_freeze_does_not_hide_a_payout_behind_what_it_holds_back(tmp_path: Path) -> None:
    """Nothing is journaled when it freezes: a fund that falls due later is left alone, and what is owed is paid."""
    engine = Engine(tmp_path / "s.db")
    engine.connect()
    engine.opened()
    Guard(engine.mirror, engine.store.books, lambda: engine.unix).freeze("hot", "a person", "to look at it")
    state = next(iter(engine.mirror.channels.values()))
    state.record.authorized, state.record.unredeemed_since = 16, engine.mirror.header.close_time  # type: ignore[union-attr]
    engine.planner.touch_all()
    for _ in range(12):
        engine.tick()
    assert paid(engine) == 16
    assert ended(engine, "fund") == []


def a_spent_budget(terms: Policy) -> Policy:
    """It is enough to open the channel, and for nothing after that."""
    return replace(terms, budgets=(Budget("fees", Purse.FEES, terms.guards.fee_cap, Seconds(10**6)),))


def an_override(terms: Policy) -> Policy:
    return replace(terms, overrides=(Override(Scope(pool="p"), CONCERNS, RippleTime(2**31), "a test"),))


def a_freeze(terms: Policy) -> Policy:
    """From the moment that the books are off by a drop."""
    return replace(terms, guards=replace(terms.guards, freeze_if=(FreezeIf("reconcile_difference", 0),)))


STOPS = {
    "observe": lambda terms: replace(terms, modes=dict.fromkeys(CONCERNS, Mode.OBSERVE)),
    "suggest": lambda terms: replace(terms, modes=dict.fromkeys(CONCERNS, Mode.SUGGEST)),
    "a spent budget": a_spent_budget,
    "an override": an_override,
    "freeze_if": a_freeze,
}


@pytest.mark.parametrize("stop", STOPS)
@pytest.mark.parametrize("death", [False, True])
def test_what_is_owed_is_paid_before_a_fixed_end_whatever_holds_back_all_else(
    tmp_path: Path, stop: str, death: bool
) -> None:
    """Until then nothing is paid, though it is worth it; and no death makes anything happen twice, or not at all."""
    terms = policy(cancel_after=200)
    worth = replace(terms.pools["p"], settle=SettleTerms(Drops(1), Seconds(1)))
    engine = Engine(tmp_path / "s.db", terms=STOPS[stop](replace(terms, pools={"p": worth})))
    engine.connect()
    channel_id = engine.opened()
    engine.mirror.wallets["hot"].difference = 1
    engine.answer(engine.ask(1, 5))
    end = engine.ledger.channels[channel_id].cancel_after
    assert end is not None
    while engine.ledger.time < end - 40:
        engine.tick()
    assert engine.on_disk("SELECT paid FROM payment") == []
    while engine.ledger.time < end - 4:
        if death:
            engine.restart()
            engine.mirror.wallets["hot"].difference = 1
        engine.tick()
    assert engine.on_disk("SELECT paid FROM payment") == [(5,)]
