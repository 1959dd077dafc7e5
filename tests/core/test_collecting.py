"""Whether to collect what payers signed: rules before the terms, and deadlines before everything."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any

import pytest
from core.test_decide_policy import a_rule
from hypothesis import event, given, settings
from hypothesis import strategies as st
from worlds import NOW, PAYEES, case_of, channel

from channeld.core.budgets import Budget, Purse
from channeld.core.collecting import BEFORE_END, SOURCE_CLOSES, Collecting, Wait, collect, collect_all, verdict_of
from channeld.core.intents import Intent, RedeemChannel
from channeld.core.policy import FreezeIf, Override, Policy, ReceiveTerms, Scope
from channeld.core.records import Incoming
from channeld.core.rules import OneOf, Rule, Within
from channeld.core.units import Drops, RippleTime, Seconds
from channeld.core.vocabulary import HOLD, Concern, Mode
from channeld.core.world import Reason

MANY = settings(max_examples=8 * settings().max_examples)
NOWT = RippleTime(NOW)
BEFORE = 10
TERMS = ReceiveTerms(
    min_amount=Drops(10),
    min_settle_delay=Seconds(5),
    min_life=Seconds(20),
    worth=Drops(25),
    max_age=Seconds(30),
    before_end=Seconds(BEFORE),
)
URGENT_FEE = 20


@dataclass(frozen=True)
class Case:
    """Channels that pay us, and the policy they are decided by."""

    seen: tuple[Collecting, ...]
    policy: Policy


def a_holding(r: Random, number: int) -> Incoming:
    """A channel at any point of its life; ends are near what matters."""
    amount = r.randint(1, 60)
    balance = r.randint(0, amount) if r.random() < 0.3 else 0
    near = [NOW - 1, NOW, NOW + 1, NOW + BEFORE - 1, NOW + BEFORE, NOW + BEFORE + 1, NOW + 40]
    ends = {
        "expiration": r.choice(near) if r.random() < 0.2 else None,
        "cancel_after": r.choice(near) if r.random() < 0.4 else None,
    }
    on = channel(number, amount=amount, balance=balance, payee=r.choice(PAYEES), **ends)
    since = RippleTime(NOW - r.choice([31, 30, 29, 5, 0]))
    held = Incoming(on, r.randint(0, amount), "AB", r.choice("ab"), since)
    return replace(held, held_since=since if held.unredeemed else None, lost=r.random() < 0.05)


def a_case(seed: int) -> Case:
    """Some channels under rules, modes, overrides, freezes and budgets, some of each."""
    r, base = Random(seed), case_of(seed).policy
    rules = tuple(a_rule(r, Concern.REDEEM, n) for n in range(r.choice((0, 1, 2, 3))))
    held = [a_holding(r, n) for n in range(r.randint(1, 6))]
    overrides = tuple(an_override(r, held, sorted(base.pools)) for _ in range(r.choice((0, 0, 0, 1, 2))))
    budgets = tuple(
        Budget(f"b{n}", purse, Drops(r.randint(0, 90)), None, frozenset(base.pools if r.random() < 0.2 else ()))
        for n, purse in enumerate(r.sample((Purse.FEES, Purse.FEES, Purse.CAPITAL), r.choice((0, 0, 1, 2))))
    )
    freezes = (FreezeIf("reconcile_difference", 0), FreezeIf("network_fee_drops", 15))
    purse = r.choice((0, 40, 100))
    guards = replace(
        base.guards,
        deadline_purse=Drops(purse),
        urgent_fee_cap=Drops(URGENT_FEE),
        freeze_if=r.choice((freezes, (), (), ())),
        ledger_lag=Seconds(20),
    )
    policy = replace(
        base, rules={Concern.REDEEM: rules} if rules else {}, guards=guards, overrides=overrides, budgets=budgets,
        modes={Concern.REDEEM: r.choice(list(Mode))} if r.random() < 0.3 else {},
        receive=replace(TERMS, worth=Drops(r.choice((1, 25)))),
    )  # fmt: skip
    climate: tuple[Any, ...] = (r.choice((None, 10, 20)), r.choice(("hot", "cold", "till", "till", "till")))
    climate += (r.choice((0.0, 0.0, 0.0, 20.1)), r.choice((0, 0, 5)), {b.name: r.randint(0, 40) for b in budgets})
    climate += (
        r.choice((None, 10**6, purse + r.randint(-10, 90), purse + r.randint(-10, 90))),
        r.choice((purse, r.randint(-20, 100))),
    )
    seen = [
        Collecting(each, r.random() < 0.1, RippleTime(NOW + r.choice((0, 5))) if r.random() < 0.1 else None, *climate)
        for each in held
    ]
    return Case(tuple(replace(s, wallet="") if r.random() < 0.03 else s for s in seen), policy)


def an_override(r: Random, held: Sequence[Incoming], pools: Sequence[str]) -> Override:
    """A hand-brake on something that is there."""
    on = r.choice(held).channel
    scopes = [Scope(channel_id=on.channel_id), Scope(payee=str(on.payee)), Scope(pool=r.choice(pools)), Scope(tier="x")]
    concerns = frozenset(r.choice(([Concern.REDEEM], [Concern.REDEEM, Concern.SETTLE], [Concern.SETTLE])))
    return Override(
        r.choice([*scopes, Scope(server=r.choice("ab"))]), concerns, RippleTime(NOW + r.choice((0, 1, 9))), ""
    )


CASES = st.integers(0, 2**63 - 1).map(a_case)


def ends_soon(seen: Collecting) -> bool:
    """Whether what is held on it is lost unless it is collected now, or about to be."""
    on = seen.held.channel
    return on.expiration is not None or (on.cancel_after is not None and on.cancel_after - BEFORE <= NOW)


def stuck(seen: Collecting) -> bool:
    """Whether nothing can be collected, whoever wants it."""
    deadline = seen.held.channel.deadline
    return not seen.held.collectable or seen.in_flight or not seen.wallet or (deadline is not None and deadline < NOW)


# --- every channel, one answer ----------------------------------------------------------------------------------------


@MANY
@given(CASES)
def test_what_can_be_lost_is_collected_whatever_stands_against_it(case: Case) -> None:
    """Whatever rules, modes, overrides, freezes, budgets and cooldowns say, and whatever it is worth."""
    for seen, answer in collect_all(case.seen, case.policy, NOWT):
        if stuck(seen) or not ends_soon(seen):
            continue
        assert isinstance(answer, Intent), answer
        event(answer.reason)
        assert answer.reason == (SOURCE_CLOSES if seen.held.channel.expiration is not None else BEFORE_END)
        assert answer.path == ()


@MANY
@given(CASES)
def test_every_channel_gets_one_answer_and_it_names_what_can_be_collected(case: Case) -> None:
    answers = collect_all(case.seen, case.policy, NOWT)
    assert [seen.held for seen, _ in answers] == [seen.held for seen in case.seen]
    for seen, answer in answers:
        if isinstance(answer, Wait):
            event(answer.reason.value)
            assert answer.until is None or answer.until > NOW
            assert (answer.wish is not None) == (answer.reason is Reason.SUGGESTED)
            continue
        assert not stuck(seen)
        assert isinstance(answer.action, RedeemChannel)
        assert (answer.action.wallet, answer.action.channel_id) == (seen.wallet, seen.held.channel.channel_id)
        assert answer.action.target_balance == min(seen.held.held, seen.held.channel.amount)
        assert answer == collect(seen, case.policy, NOWT), "as recorded it is decided again"


@MANY
@given(CASES)
def test_only_deadline_work_passes_what_stands_above_the_rules(case: Case) -> None:
    policy = case.policy
    for seen, answer in collect_all(case.seen, policy, NOWT):
        frozen = seen.lag_s > 20 or (
            policy.guards.freeze_if
            and (seen.difference > 0 or (seen.network_fee is not None and seen.network_fee > 15))
        )
        overridden = any(
            Concern.REDEEM in o.concerns and o.until > NOW and meant(o.scope, seen, policy) for o in policy.overrides
        )
        cools = seen.retry_at is not None and seen.retry_at > NOW
        if frozen or overridden or cools or policy.mode(Concern.REDEEM) is not Mode.APPLY:
            event("something stands above")
            assert isinstance(answer, Wait) or ends_soon(seen)


def meant(scope: Scope, seen: Collecting, policy: Policy) -> bool:
    """Whether an override is for a channel, written another way."""
    given = {
        "channel_id": {seen.held.channel.channel_id},
        "payee": {str(seen.held.channel.payee)},
        "server": {seen.held.server},
        "pool": {name for name, pool in policy.pools.items() if pool.wallet == seen.wallet},
        "tier": set(),
    }
    return all(getattr(scope, key) is None or getattr(scope, key) in values for key, values in given.items())


@MANY
@given(CASES)
def test_where_nothing_stands_above_the_rules_decide_and_behind_them_the_terms(case: Case) -> None:
    """The first rule with an act that holds; without one, what is held is worth it or too old, as rules have set it."""
    free = replace(case.policy, overrides=(), budgets=(), modes={}, guards=replace(case.policy.guards, freeze_if=()))
    for each in case.seen:
        seen = replace(each, lag_s=0.0, retry_at=None, spendable=None)
        if stuck(seen) or ends_soon(seen):
            continue
        answer, verdict, held = collect(seen, free, NOWT), verdict_of(seen, free, NOWT), seen.held
        acts = [rule for rule in free.chain(Concern.REDEEM) if rule.act and rule.holds(verdict.facts)]
        assert held.held_since is not None
        aged = held.held_since + verdict.number("max_age") <= NOW
        by_terms = "worth_it" if held.collectable >= verdict.number("worth") else "too_old" if aged else None
        event(acts[0].act or "" if acts else "no rule acts")
        assert answer == collect(seen, free, NOWT)
        if isinstance(answer, Intent):
            assert answer.reason == ("rule" if acts else by_terms)
            assert not acts or acts[0].act == "redeem"
        else:
            assert answer.reason is (Reason.RULE if acts else Reason.WITHIN_BAND)
            assert acts[0].act == HOLD if acts else by_terms is None
        assert answer.path == verdict.path


@MANY
@given(CASES)
def test_no_budget_is_passed(case: Case) -> None:
    """What one channel takes is not there for the next."""
    answers = collect_all(case.seen, case.policy, NOWT)
    for budget in case.policy.budgets:
        used = case.seen[0].used[budget.name]
        for seen, answer in answers:
            if not isinstance(answer, Intent):
                continue
            used += URGENT_FEE if budget.bounds(Purse.FEES, "") and not ends_soon(seen) else 0
            event("spent to the last" if 0 <= budget.limit - used < URGENT_FEE else "more left")
            assert ends_soon(seen) or not budget.bounds(Purse.FEES, "") or used <= budget.limit


@MANY
@given(CASES)
def test_what_is_left_of_the_purse_for_deadlines_is_not_spent_for_less_than_it_brings(case: Case) -> None:
    """What is collected in good time either brings its fee at its worst, or leaves the purse where it is."""
    spent, drawn, fees = 0, 0, 0
    for before, (seen, answer) in zip(case.seen, collect_all(case.seen, case.policy, NOWT), strict=True):
        if not seen.wallet:
            continue
        bounds = {b.name: b.bounds(Purse.FEES, "") for b in case.policy.budgets}
        assert seen.used == {name: used + fees * bounds[name] for name, used in before.used.items()}
        assert seen.purse == before.purse - drawn
        assert seen.spendable == (None if before.spendable is None else before.spendable - spent)
        if not isinstance(answer, Intent):
            continue
        assert answer.deadline == ends_soon(seen)
        spent += URGENT_FEE
        drawn += URGENT_FEE if answer.deadline else 0
        fees += 0 if answer.deadline else URGENT_FEE
        if answer.deadline or not case.policy.guards.deadline_purse or before.spendable is None:
            continue
        left = before.spendable - spent
        event("down to the purse" if 0 <= left - max(0, before.purse - drawn) < URGENT_FEE else "more left")
        assert seen.held.collectable >= URGENT_FEE or left >= max(0, before.purse - drawn)


@MANY
@given(CASES, st.integers(1, 100))
def test_nothing_falls_due_before_the_moment_that_was_named(case: Case, seconds: int) -> None:
    """Whoever looks again only then, or when something happens, misses nothing."""
    for seen, answer in collect_all(case.seen, case.policy, NOWT):
        if isinstance(answer, Wait):
            later = NOW + seconds if answer.until is None else min(NOW + seconds, answer.until - 1)
            event("later" if later > NOW else "next")
            assert isinstance(collect(seen, case.policy, RippleTime(later)), Wait), answer


@MANY
@given(CASES)
def test_what_is_in_flight_is_not_decided_again(case: Case) -> None:
    back = [replace(seen, in_flight=isinstance(a, Intent)) for seen, a in collect_all(case.seen, case.policy, NOWT)]
    again = Counter(
        type(a).__name__ for seen, a in collect_all(back, case.policy, NOWT) if seen.in_flight and not stuck(seen)
    )
    assert again["Intent"] == 0


# --- one at a time ----------------------------------------------------------------------------------------------------


def one(*rules: Rule, **more: Any) -> Policy:
    """Terms under which 5 drops may wait, and one chain."""
    return replace(case_of(1).policy, receive=TERMS, rules={Concern.REDEEM: rules} if rules else {}, **more)


def five(**fields: Any) -> Collecting:
    """5 drops held for 10 seconds."""
    on = channel(1, **fields)
    return Collecting(Incoming(on, 5, "AB", "a", RippleTime(NOW - 10)), False, None, 10, "till")


def every_stop() -> list[tuple[str, Policy, dict[str, Any]]]:
    """Each thing that holds collecting back, by itself."""
    eager = Rule("eager", {}, {}, "redeem")
    stops: list[tuple[str, Policy, dict[str, Any]]] = [
        (mode.value, one(eager, modes={Concern.REDEEM: mode}), {}) for mode in (Mode.OBSERVE, Mode.SUGGEST)
    ]
    on = channel(1)
    for scope in (Scope(channel_id=on.channel_id), Scope(payee=str(on.payee)), Scope(server="a"), Scope(pool="p")):
        brake = Override(scope, frozenset({Concern.REDEEM}), RippleTime(NOW + 99), "why")
        pools = {"p": replace(next(iter(case_of(1).policy.pools.values())), name="p", wallet="till")}
        stops.append((f"override {scope}", one(eager, overrides=(brake,), pools=pools), {}))
    for fact, shown in (("reconcile_difference", {"difference": 1}), ("network_fee_drops", {})):
        guards = replace(case_of(1).policy.guards, freeze_if=(FreezeIf(fact, 0),))
        stops.append((fact, one(eager, guards=guards), shown))
    stops.append(("ledger lag", one(eager), {"lag_s": 21.0}))
    spent = Budget("fees", Purse.FEES, Drops(0), Seconds(1))
    stops.append(("budget", one(eager, budgets=(spent,)), {}))
    stops.append(("rule", one(Rule("stop", {}, {}, HOLD), eager), {}))
    stops.append(("cooldown", one(eager), {"retry_at": RippleTime(NOW + 1)}))
    return stops


@pytest.mark.parametrize("stop", every_stop(), ids=lambda stop: str(stop[0]))
def test_collecting_before_a_deadline_passes_each_stop_and_nothing_else_does(
    stop: tuple[str, Policy, dict[str, Any]],
) -> None:
    _, policy, shown = stop
    for ends, reason in (({"expiration": NOW}, SOURCE_CLOSES), ({"cancel_after": NOW + BEFORE}, BEFORE_END)):
        answer = collect(replace(five(**ends), **shown), policy, NOWT)
        assert isinstance(answer, Intent)
        assert answer.reason == reason
    waits = collect(replace(five(cancel_after=NOW + BEFORE + 1), **shown), policy, NOWT)
    assert isinstance(waits, Wait)
    assert waits.until == NOW + 1
    assert isinstance(collect(replace(five(), **shown), policy, NOWT), Wait)


def test_each_stop_is_named() -> None:
    reasons = [answer.reason.value for _, p, more in every_stop() if (answer := wait(replace(five(), **more), p))]
    assert reasons == [
        "observed", "suggested", *["override"] * 4, "frozen_reconcile", "fee_climate", "frozen_lag", "budget_exhausted",
        "rule", "cooldown",
    ]  # fmt: skip
    _, suggesting, _ = every_stop()[1]
    wish = wait(five(), suggesting).wish
    assert wish is not None
    assert (wish.reason, wish.path) == ("rule", ("redeem/eager",))


def wait(seen: Collecting, policy: Policy) -> Wait:
    answer = collect(seen, policy, NOWT)
    assert isinstance(answer, Wait)
    return answer


def test_settings_of_rules_are_laid_over_the_terms_that_then_decide() -> None:
    laid = one(Rule("till", {"wallet": OneOf(frozenset({"till"}))}, {"worth": 5}), Rule("old", {}, {"max_age": 9}))
    answer = collect(five(), laid, NOWT)
    assert isinstance(answer, Intent)
    assert (answer.reason, answer.path) == ("worth_it", ("redeem/till", "redeem/old"))
    other = collect(replace(five(), wallet="hot"), laid, NOWT)
    assert isinstance(other, Intent)
    assert (other.reason, other.path) == ("too_old", ("redeem/old",))
    assert wait(replace(five(), wallet="hot"), one(Rule("x", {}, {"max_age": 11}))).until == NOW + 1


def test_a_rule_that_waits_for_a_time_is_looked_at_again_then() -> None:
    ages = one(Rule("old", {"unredeemed_age": Within(15, None)}, {}, "redeem"), Rule("stop", {}, {}, HOLD))
    assert wait(five(), ages).until == NOW + 5
    nears = one(Rule("soon", {"deadline_in": Within(None, 90)}, {}, "redeem"), Rule("stop", {}, {}, HOLD))
    assert wait(five(cancel_after=NOW + 100), nears).until == NOW + 10
    assert wait(five(), nears).until is None, "what has no end comes to none"


def test_what_waits_for_a_cheaper_network_is_looked_at_again_though_nothing_happens() -> None:
    dear = one(Rule("dear", {"network_fee_drops": Within(10, None)}, {"worth": 1}, HOLD))
    assert wait(replace(five(), held=replace(five().held, held=40)), dear).until == NOW + 60
