"""Where what is owed takes the room for more, a payout makes it: whoever asks meanwhile is told so, and is funded."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from engine import Engine, policy, said
from worlds import PAYEES

from channeld.core.policy import FundTerms, Policy, SettleTerms
from channeld.core.requests import Code, Refusal
from channeld.core.rules import Rule
from channeld.core.units import Drops, RippleTime, Seconds
from channeld.core.vocabulary import Concern, Mode

ON_THEIR_WAY = "more funds are on their way"


def terms(*, worth: int = 10**9, max_per_payee: int = 1) -> Policy:
    """Room for 60 drops in a channel, and by default nothing but the want of room makes a payout due."""
    pool = policy(max_per_payee=max_per_payee).pools["p"]
    pool = replace(
        pool,
        fund=FundTerms(Drops(1), Drops(2), Seconds(4), Seconds(8)),
        settle=SettleTerms(Drops(worth), Seconds(10**6)),
    )
    return replace(policy(), pools={"p": pool})


def steps(engine: Engine) -> list[tuple[str, str]]:
    """Every step after the first open, with why it was decided."""
    return engine.on_disk("SELECT kind, reason FROM intent ORDER BY number")[1:]


def full(engine: Engine) -> None:
    """All that a channel may hold was claimed at once, and nothing is paid out."""
    engine.connect()
    engine.opened(drops=60)
    assert said(engine.desk.answer([engine.ask("first", 60)])[0]) is None


def refused(engine: Engine, number: str, drops: int) -> Refusal:
    found = engine.answer(engine.ask(number, drops))[0]
    assert isinstance(found, Refusal)
    assert found.code is Code.NO_HEADROOM
    return found


def a_little_at_a_time(engine: Engine, ledgers: int, **more: Any) -> list[int]:
    """One drop a ledger, each of them sold; after which of them the first channel was paid out to make room."""
    paid: list[int] = []
    for number in range(1, ledgers + 1):
        assert said(engine.answer(engine.ask(f"little {number}", 1, **more))[0]) is None
        engine.tick()
        if steps(engine).count(("settle", "make_room")) > len(paid):
            paid.append(number)
    return paid


def short(refusal: Refusal, engine: Engine) -> bool:
    """Whether it says to come again within a few ledgers."""
    ledger_ms = engine.mirror.interval_s * 1000
    wait = refusal.retry_after_ms
    return wait is not None and ledger_ms < wait <= 5 * ledger_ms


def test_who_asks_in_the_very_turn_that_a_payout_is_decided_is_told_so_too(tmp_path: Path) -> None:
    engine = Engine(tmp_path / "s.db", terms=terms())
    engine.connect()
    engine.opened(drops=60)
    first, then = engine.answer(engine.ask("first", 60), engine.ask("next", 40))
    assert said(first) is None
    assert isinstance(then, Refusal)
    assert then.reason == ON_THEIR_WAY
    assert short(then, engine)
    assert steps(engine) == [("settle", "make_room")]
    engine.tick()
    engine.tick()
    assert said(engine.answer(engine.ask("next", 40))[0]) is None


@pytest.mark.parametrize("max_per_payee", [1, 2])
@pytest.mark.parametrize("dies", [False, True])
def test_who_asks_while_a_payout_makes_room_is_told_that_funds_come_and_gets_them(
    tmp_path: Path, max_per_payee: int, dies: bool
) -> None:
    """However often it asks, and though the process dies meanwhile and the same is asked again."""
    engine = Engine(tmp_path / "s.db", terms=terms(max_per_payee=max_per_payee))
    full(engine)
    for _ in range(2):
        answer = refused(engine, "next", 40)
        assert answer.reason == ON_THEIR_WAY
        assert short(answer, engine)
    assert steps(engine) == [("settle", "make_room")]
    if dies:
        engine.restart()
        assert refused(engine, "next", 40).reason == ON_THEIR_WAY
    engine.tick()
    assert steps(engine) == [("settle", "make_room"), ("fund", "wanted")]
    answer = refused(engine, "next", 40)
    assert answer.reason == ON_THEIR_WAY
    engine.tick()
    assert said(engine.answer(engine.ask("next", 40))[0]) is None
    assert len(engine.ledger.created) == 1


def test_a_payout_that_was_due_by_itself_makes_room_as_well(tmp_path: Path) -> None:
    """It is under way when more is asked for, and what it takes out counts against the server's cap no more."""
    engine = Engine(tmp_path / "s.db", terms=terms(worth=50), caps=dict.fromkeys("ab", (10**18, 60, 10)))
    engine.connect()
    engine.opened(drops=60)
    engine.answer(engine.ask("first", 55))
    engine.tick()
    assert steps(engine) == [("settle", "worth_it")]
    answer = refused(engine, "next", 40)
    assert answer.reason == ON_THEIR_WAY
    assert short(answer, engine)
    engine.tick()
    engine.tick()
    assert said(engine.answer(engine.ask("next", 40))[0]) is None
    assert steps(engine)[:2] == [("settle", "worth_it"), ("fund", "wanted")]


def a_cap(engine: Engine) -> None:
    """The server may lock no more than it has, and then less."""
    engine.grants["a"] = replace(engine.grants["a"], max_locked=30)


def a_mode(engine: Engine) -> None:
    """Funding is only observed."""
    engine.mirror.policy = replace(engine.mirror.policy, modes={Concern.FUND: Mode.OBSERVE})


def a_rule(engine: Engine) -> None:
    """Funding waits for a rule."""
    engine.mirror.policy = replace(engine.mirror.policy, rules={Concern.FUND: (Rule("never", act="hold"),)})


def a_cooldown(engine: Engine) -> None:
    """It was funded just now, and that is not to be done often."""
    slowly = Rule("slowly", set={"cooldown": 600})
    engine.mirror.policy = replace(engine.mirror.policy, rules={Concern.FUND: (slowly,)})
    (state,) = engine.mirror.channels.values()
    state.funded_at = RippleTime(engine.ledger.time)


def an_empty_wallet(engine: Engine) -> None:
    engine.mirror.policy = replace(
        engine.mirror.policy, guards=replace(engine.mirror.policy.guards, treasury_floor=Drops(10**7))
    )


@pytest.mark.parametrize("stop", [a_cap, a_mode, a_rule, a_cooldown, an_empty_wallet])
def test_nobody_is_told_that_funds_come_where_a_payout_is_followed_by_none(tmp_path: Path, stop: Any) -> None:
    """A payout is under way, but what stands above the terms keeps the channel from being funded behind it."""
    engine = Engine(tmp_path / "s.db", terms=terms(worth=15))
    engine.connect()
    engine.opened(drops=60)
    engine.answer(engine.ask("first", 20))
    engine.tick()
    assert steps(engine) == [("settle", "worth_it")]
    stop(engine)
    assert refused(engine, "next", 60).reason != ON_THEIR_WAY
    engine.tick()
    engine.tick()
    assert steps(engine) == [("settle", "worth_it")]


def test_nobody_is_told_that_funds_come_where_the_server_of_the_channel_is_not_there_any_more(tmp_path: Path) -> None:
    engine = Engine(tmp_path / "s.db", terms=terms(worth=15))
    engine.connect()
    engine.opened(drops=60)
    engine.answer(engine.ask("first", 20))
    engine.tick()
    assert steps(engine) == [("settle", "worth_it")]
    del engine.grants["a"]
    found = engine.answer(engine.ask("next", 60, server="b"))[0]
    assert isinstance(found, Refusal)
    assert found.reason != ON_THEIR_WAY


def by_the_server(engine: Engine) -> None:
    engine.grants["a"] = replace(engine.grants["a"], max_locked=60)


def by_the_payee(engine: Engine) -> None:
    pool = replace(engine.mirror.policy.pools["p"], max_locked_per_payee=Drops(60))
    engine.mirror.policy = replace(engine.mirror.policy, pools={"p": pool})


def by_the_pool(engine: Engine) -> None:
    pool = engine.mirror.policy.pools["p"]
    pool = replace(pool, channel=replace(pool.channel, max=Drops(60)))
    engine.mirror.policy = replace(engine.mirror.policy, pools={"p": pool})


def roomy(**more: Any) -> Policy:
    """A channel is kept between 50 and 100 drops, and may hold far more."""
    found = terms()
    pool = found.pools["p"]
    fund = replace(pool.fund, low=Drops(50), target=Drops(100))
    pool = replace(pool, fund=fund, channel=replace(pool.channel, max=Drops(10**6)), **more)
    return replace(found, pools={"p": pool})


@pytest.mark.parametrize("capped", [by_the_server, by_the_payee, by_the_pool])
def test_small_claims_on_a_channel_at_a_cap_are_paid_out_once_that_lets_it_be_funded(
    tmp_path: Path, capped: Any
) -> None:
    """And not with every ledger: a payout that makes too little room costs its fee for nothing."""
    engine = Engine(tmp_path / "s.db", terms=roomy(), caps=dict.fromkeys("ab", (10**18, 60, 10)))
    engine.connect()
    engine.opened(drops=60)
    engine.grants["a"] = replace(engine.grants["a"], max_locked=10**6)
    capped(engine)
    assert a_little_at_a_time(engine, 55) == [50]
    assert steps(engine) == [("settle", "make_room"), ("fund", "running_out")]


def test_no_room_is_made_for_a_server_that_is_not_there_any_more(tmp_path: Path) -> None:
    """Whatever is paid out of its channel, nothing more is locked for it; others may still draw from it."""
    engine = Engine(tmp_path / "s.db", terms=roomy(), caps=dict.fromkeys("ab", (10**18, 60, 10)))
    engine.connect()
    engine.opened(drops=60)
    del engine.grants["a"]
    assert a_little_at_a_time(engine, 60, server="b") == []
    assert steps(engine) == []


def test_what_a_rule_asks_of_a_step_must_be_reached_by_the_room_that_is_made(tmp_path: Path) -> None:
    engine = Engine(tmp_path / "s.db", terms=roomy(), caps=dict.fromkeys("ab", (10**18, 60, 10)))
    large = Rule("large", set={"min_step": 55})
    engine.mirror.policy = replace(engine.mirror.policy, rules={Concern.FUND: (large,)})
    engine.connect()
    engine.opened(drops=60)
    assert a_little_at_a_time(engine, 58) == [55]
    assert steps(engine) == [("settle", "make_room"), ("fund", "running_out")]


def two_open(path: Path, cap: int) -> Engine:
    """Two payees have a channel of 60 drops each. Then the server may lock no more than this."""
    engine = Engine(path / "s.db", terms=terms(), caps=dict.fromkeys("ab", (10**18, 120, 10)))
    engine.connect()
    engine.opened(drops=60)
    engine.answer(engine.ask("other", 60, payee=PAYEES[1]))
    for _ in range(3):
        engine.tick()
    engine.grants["a"] = replace(engine.grants["a"], max_locked=cap)
    return engine


def test_where_the_room_takes_more_than_one_payout_each_channel_that_is_used_up_makes_its_part(tmp_path: Path) -> None:
    """None of them makes enough alone, and all of them do."""
    engine = two_open(tmp_path, 60)
    assert [said(a) for a in engine.answer(engine.ask("first", 60), engine.ask("other", 60, payee=PAYEES[1]))] == [
        None
    ] * 2
    asks = [engine.ask("next", 40), engine.ask("other next", 40, payee=PAYEES[1])]
    engine.answer(*asks)
    assert steps(engine)[1:] == [("settle", "make_room")] * 2
    answers = list[Any]()
    for _ in range(4):
        engine.tick()
        answers += engine.answer(*asks)
    assert None in map(said, answers)


def test_crumbs_make_no_part_of_room_that_takes_more_than_one_payout(tmp_path: Path) -> None:
    engine = two_open(tmp_path, 60)
    for number in range(5):
        assert said(engine.answer(engine.ask(number, 1))[0]) is None
        assert said(engine.answer(engine.ask("next", 60))[0]) is not None
        engine.tick()
    assert steps(engine)[1:] == []
