"""How much a channel gets by `horizon` and `quantile` and without them, and rules on what is not known yet."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from one_payee import IDLE, acts, closes, terms, view, world
from worlds import NOW, Case, cases

from channeld.core.decide import decide
from channeld.core.demand import Rate
from channeld.core.inputs import facts_of
from channeld.core.intents import FundChannel
from channeld.core.policy import CloseTerms, Policy
from channeld.core.rules import OneOf, Rule, Value, Within
from channeld.core.sizing import LEAD_S
from channeld.core.units import HOUR_S, Drops, RippleTime, Seconds
from channeld.core.vocabulary import PPM, Concern
from channeld.core.world import Hold, Reason, World

MOST = 10**9


def roomy(**laid: Value) -> Policy:
    """A policy whose channels have room for everything, in which a rule lays so much."""
    policy = terms(0)
    pool = replace(policy.pools["p"], channel=replace(policy.pools["p"].channel, max=Drops(MOST)))
    return replace(policy, pools={"p": pool}, rules={Concern.FUND: (Rule("base", set=laid),)} if laid else {})


def shown(rate: Rate) -> World:
    """One channel with hardly any headroom, and this forecast."""
    made = world(view(1, left=1), balance=10 * MOST, caps=(10 * MOST, 100))
    return replace(made, groups=(replace(made.groups[0], rate=rate),))


def target(policy: Policy, rate: Rate) -> int:
    """Up to which headroom the channel is funded; 1 where it is not."""
    funded = [action for action in acts(decide(shown(rate), policy)) if isinstance(action, FundChannel)]
    return funded[0].target_amount - 99 if funded else 1


def rate_of(per_s: int, spread: int = 0) -> Rate:
    return Rate(per_s * 10**6, RippleTime(NOW), (), (), spread)


@given(st.integers(1, 100), st.integers(0, 10**4), st.lists(st.integers(20, 10**5), min_size=2, max_size=2), st.data())
def test_more_is_put_in_for_longer_for_surer_and_for_more_demand(
    per_s: int, spread: int, horizons: list[int], data: st.DataObject
) -> None:
    near, far = sorted(horizons)
    low, high = sorted(data.draw(st.lists(st.integers(PPM // 2, PPM - 1), min_size=2, max_size=2)))
    rate, more = rate_of(per_s, spread), rate_of(per_s + 1, spread + 5)
    least = target(roomy(horizon=near, quantile=low), rate)
    assert least == max(20, rate.likely(near, low))
    assert least <= target(roomy(horizon=far, quantile=low), rate)
    assert least <= target(roomy(horizon=near, quantile=high), rate)
    assert least <= target(roomy(horizon=near, quantile=low), more)


def test_without_them_it_is_the_forecast_for_the_runways_target() -> None:
    rate = rate_of(7, 10**4)
    assert target(roomy(), rate) == rate.need(20) == 140
    assert target(roomy(quantile=PPM // 2), rate) == 140
    assert target(roomy(horizon=20), rate) == 140


@given(cases())
def test_half_and_the_runways_target_are_what_holds_without_rules(case: Case) -> None:
    """For each pool in turn: its own target said by a rule changes nothing."""
    plain = [p.intent.action for p in decide(case.world, case.policy).planned]
    for name, pool in case.policy.pools.items():
        laid = {"horizon": pool.fund.runway_target, "quantile": PPM // 2}
        rules = {c: (Rule("same", {"pool": OneOf(frozenset({name}))}, laid),) for c in (Concern.FUND, Concern.OPEN)}
        ruled = decide(case.world, replace(case.policy, rules=rules))
        assert [p.intent.action for p in ruled.planned] == plain


def test_high_and_the_channels_size_bound_it_still() -> None:
    rate = rate_of(10, 10**5)
    policy = roomy(horizon=10**5, quantile=900_000)
    assert target(policy, rate) > 10**6
    pool = replace(policy.pools["p"], fund=replace(policy.pools["p"].fund, runway_high=Seconds(30)))
    assert target(replace(policy, pools={"p": pool}), rate) == 300
    pool = replace(policy.pools["p"], channel=replace(policy.pools["p"].channel, max=Drops(500)))
    assert target(replace(policy, pools={"p": pool}), rate) == 500 - 99, "with what is owed"


def test_without_a_low_mark_it_is_funded_when_it_may_not_last_until_more_is_there() -> None:
    policy = roomy()
    pool = policy.pools["p"]
    fund = replace(pool.fund, low=Drops(0), runway_low=Seconds(0), runway_target=Seconds(86_400))
    policy = replace(policy, pools={"p": replace(pool, fund=fund)})
    sure, unsure = rate_of(2), rate_of(2, 1000)
    for rate, low in ((sure, LEAD_S * 2), (unsure, unsure.likely(LEAD_S, 990_000))):
        for left, due in ((low - 1, True), (low, False)):
            made = world(view(1, amount=10**6, left=left), balance=10 * MOST, caps=(10 * MOST, 100))
            made = replace(made, groups=(replace(made.groups[0], rate=rate),))
            assert bool(acts(decide(made, policy))) is due
    assert unsure.likely(LEAD_S, 990_000) > LEAD_S * 2


# --- what is not known ------------------------------------------------------------------------------------------------


def idle_rule(policy: Policy) -> Policy:
    """Only a rule closes, and only what is not likely to be used again."""
    pool = replace(policy.pools["p"], terms=frozenset(Concern) - {Concern.CLOSE})
    rule = Rule("idle", {"idle": Within(IDLE, None), "return_probability": Within(None, 99_999)}, act="close")
    return replace(policy, pools={"p": pool}, rules={Concern.CLOSE: (rule,)})


@pytest.mark.parametrize(
    ("ago", "returns", "closed", "reason"),
    [
        (IDLE + 1, None, False, Reason.LOW_CONFIDENCE),
        (IDLE + 1, 500_000, False, Reason.NO_RULE),
        (IDLE + 1, 50_000, True, None),
        (IDLE - 10, None, False, Reason.NO_RULE),
    ],
)
def test_a_rule_on_what_is_not_known_does_not_hold_and_says_so(
    ago: int, returns: int | None, closed: bool, reason: Reason | None
) -> None:
    made = world(view(1, ago=ago))
    rate = replace(made.groups[0].rate, returns=returns)
    decision = decide(replace(made, groups=(replace(made.groups[0], rate=rate),)), idle_rule(terms(0)))
    assert bool(closes(decision)) is closed
    holds: dict[str, Hold] = {hold.subject: hold for hold in decision.holds}
    assert [h.reason for s, h in holds.items() if s == f"{1:064X}"] == ([reason] if reason else [])


def test_a_rule_may_ask_how_far_forecasts_were_off() -> None:
    policy = terms(0)
    wild = Rule("wild", {"demand_error": Within(PPM, None)}, act="hold")
    policy = replace(policy, rules={Concern.FUND: (wild,)})
    for error, funds in ((None, True), (PPM - 1, True), (PPM, False)):
        made = world(view(1, left=1), balance=10**6)
        made = replace(made, groups=(replace(made.groups[0], rate=replace(rate_of(1), error=error)),))
        assert bool(acts(decide(made, policy))) is funds


def test_what_is_learnt_is_shown_with_the_facts() -> None:
    rate = replace(rate_of(3), error=250_000, returns=700_000)
    made = shown(rate)
    facts = facts_of(made, terms(0), made.groups[0], made.groups[0].channels[0], (Concern.FUND,))
    assert (facts["demand_error"], facts["return_probability"]) == (250_000, 700_000)
    facts = facts_of(shown(rate_of(3)), terms(0), shown(rate_of(3)).groups[0], None, (Concern.OPEN,))
    assert (facts.get("demand_error"), facts.get("return_probability")) == (None, None)


def test_where_hours_differ_a_channel_is_looked_at_again_within_one() -> None:
    """Nothing happens to it, and yet the next hours may need more than these."""
    night = tuple(1 if hour < 84 else 200 for hour in range(168))
    for shape, again in ((night, NOW + HOUR_S), ((), None)):
        made = world(view(1, amount=10**9, left=10**8, ago=1), balance=10**6)
        made = replace(made, groups=(replace(made.groups[0], rate=replace(rate_of(3), shape=shape)),))
        policy = terms(0)
        pool = replace(policy.pools["p"], close=CloseTerms(Seconds(10**8), Seconds(0)))
        pool = replace(pool, settle=replace(pool.settle, worth=Drops(10**12), max_age=Seconds(10**9)))
        (hold,) = (h for h in decide(made, replace(policy, pools={"p": pool})).holds if h.subject == f"{1:064X}")
        assert hold.reason is Reason.WITHIN_BAND
        assert hold.until is not None
        assert (hold.until == again) is bool(shape)
