"""Closing with notice: patience, then notice, then the close; whatever speaks against it starts it anew."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import event, given
from hypothesis import strategies as st
from one_payee import IDLE, closes, terms, view, world
from worlds import NOW

from channeld.core.closing import UNUSED_GRACE_S
from channeld.core.decide import decide
from channeld.core.intents import NOTIFIED
from channeld.core.policy import Cap, Policy
from channeld.core.rules import Rule, Within
from channeld.core.units import RippleTime
from channeld.core.vocabulary import Concern, Mode
from channeld.core.world import ChannelView, Decision, Pulse, Reason

NOTICE, PATIENCE = 300, 100


def noticing(**laid: int) -> Policy:
    match = {"idle": Within(IDLE, None)}
    rule = Rule("idle", match, {"notice": NOTICE, "patience": PATIENCE, **laid}, "notify_then_close")
    return replace(terms(0), rules={Concern.CLOSE: (rule,)})


def answer(decision: Decision, subject: ChannelView) -> Reason | None:
    return next((h.reason for h in decision.holds if h.subject == subject.channel.channel_id), None)


def step(decision: Decision, shown: ChannelView) -> ChannelView:
    """The channel with what was noted of it."""
    for notice in decision.notices:
        if notice.withdrawn:
            shown = replace(shown, due_since=None, noticed_at=None)
        else:
            due, told = notice.due_since or shown.due_since, notice.noticed_at or shown.noticed_at
            shown = replace(shown, due_since=due, noticed_at=told)
    return shown


def life(shown: ChannelView, policy: Policy, seconds: range) -> dict[str, list[int]]:
    """When what was noted or done, if nothing else happens."""
    found: dict[str, list[int]] = {"due": [], "told": [], "closed": [], "withdrawn": []}
    for at in seconds:
        decision = decide(replace(world(shown), close_time=RippleTime(NOW + at)), policy)
        for notice in decision.notices:
            found["withdrawn"] += [at] if notice.withdrawn else []
            found["due"] += [at] if notice.due_since else []
            found["told"] += [at] if notice.noticed_at else []
        shown = step(decision, shown)
        if closes(decision):
            found["closed"].append(at)
            (planned,) = decision.planned
            assert (planned.intent.reason, planned.intent.freely_closes) == (NOTIFIED, True)
            break
        for hold in decision.holds:
            assert hold.until is None or hold.until > NOW + at
    return found


@given(st.integers(0, 2 * IDLE), st.integers(0, 300), st.integers(1, 300), st.integers(1, 40), st.integers(0, 500))
def test_a_close_comes_a_notice_after_it_was_told_and_patience_after_it_was_due(
    ago: int, patience: int, notice: int, spacing: int, away: int
) -> None:
    shown = replace(view(1, ago=ago), away=min(away, ago))
    begins = max(0, IDLE - (ago - shown.away))
    found = life(shown, noticing(notice=notice, patience=patience), range(0, 2 * IDLE + 2000, spacing))
    event(f"due later: {begins > 0}")
    (due,), (told,), (closed,) = found["due"], found["told"], found["closed"]
    assert begins <= due < begins + spacing
    assert due + patience <= told < due + patience + spacing
    assert told + notice <= closed < told + notice + spacing
    assert found["withdrawn"] == []


@pytest.mark.parametrize("why", ["used", "wanted", "rule gone", "spare"])
def test_what_speaks_against_it_withdraws_it(why: str) -> None:
    shown = replace(view(1, ago=2 * IDLE), due_since=RippleTime(NOW - 150), noticed_at=RippleTime(NOW - 50))
    policy, others = noticing(), ()
    assert answer(decide(world(shown), policy), shown) is Reason.NOTICE_PENDING
    if why == "used":
        shown = replace(shown, last_claim_at=RippleTime(NOW - 1))
    elif why == "rule gone":
        policy = terms(0)
        policy = replace(policy, pools={"p": replace(policy.pools["p"], terms=frozenset())})
    elif why == "spare":
        policy = replace(noticing(), pools=terms(1).pools)
        others = (view(2, ago=1),)
    decision = decide(world(shown, *others, wanted=95 if why == "wanted" else 0), policy)
    (notice,) = decision.notices
    assert notice.withdrawn
    assert closes(decision) == set()
    assert step(decision, shown).noticed_at is None


def test_what_stands_above_the_rules_lets_nothing_be_told() -> None:
    shown = view(1, ago=2 * IDLE)
    for mode in (Mode.OBSERVE, Mode.SUGGEST):
        decision = decide(world(shown), replace(noticing(), modes={Concern.CLOSE: mode}))
        assert decision.notices == ()
        assert len(decision.suggested) == (mode is Mode.SUGGEST)
    halted = decide(replace(world(shown), halted=frozenset({"hot"})), noticing())
    assert halted.notices == ()


def test_the_cap_on_closes_counts_them_and_a_channel_never_used_is_given_its_time() -> None:
    ripe = replace(view(1, ago=2 * IDLE), due_since=RippleTime(NOW - 900), noticed_at=RippleTime(NOW - 800))
    guards = replace(noticing().guards, max_closes_per_hour=Cap(1))
    capped = replace(noticing(), guards=guards)
    full = replace(world(ripe), pulses={"p": Pulse(5, 1)})
    assert answer(decide(full, capped), ripe) is Reason.GUARD_RATE
    assert closes(decide(replace(full, pulses={"p": Pulse(5, 0)}), capped))
    fresh = view(1, ago=UNUSED_GRACE_S - 1, used=False)
    anyhow = replace(noticing(), rules={Concern.CLOSE: (Rule("all", {}, {"notice": 1}, "notify_then_close"),)})
    assert decide(world(fresh), anyhow).notices == ()


def test_time_in_which_we_were_not_there_does_not_make_a_channel_unused_by_the_pools_terms_either() -> None:
    gone = replace(view(1, ago=IDLE + 10), away=20)
    assert closes(decide(world(gone), terms(0))) == set()
    assert closes(decide(world(replace(gone, away=10)), terms(0)))
