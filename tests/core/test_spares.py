"""Spares are opened beside what is in use, within every bound, and stay for as long as they may be needed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from random import Random

from hypothesis import event, given, settings
from hypothesis import strategies as st
from one_payee import IDLE, acts, closes, opens, terms, view, world
from worlds import NOW, PAYEES

from channeld.core.decide import decide
from channeld.core.intents import FundChannel
from channeld.core.rules import OneOf, Rule
from channeld.core.spares import SUCCESSOR_LEAD_S, precedence
from channeld.core.units import Drops, Seconds
from channeld.core.vocabulary import Concern
from channeld.core.world import ChannelView, Reason

MANY = settings(max_examples=6 * settings().max_examples)
SEEDS = st.integers(0, 2**63 - 1)
LIFE = 10_000
EARLY = SUCCESSOR_LEAD_S + 20
"""So long before its last claim by the ledger's clock a channel makes way; the desk stops a lag of 20 s earlier."""


# --- how many ---------------------------------------------------------------------------------------------------------


def some_views(r: Random, ends: Sequence[int | None] = (None, None, 1, EARLY, EARLY + 1, 5000)) -> list[ChannelView]:
    """Up to five channels: in use, unused, past their idle time, near the end of their lives."""
    return [
        view(
            number + 1,
            ago=r.choice([0, 1, IDLE - 1, IDLE, IDLE + 1, 3 * IDLE]),
            used=r.random() < 0.6,
            ends=r.choice(ends),
        )
        for number in range(r.randint(0, 5))
    ]


@MANY
@given(SEEDS)
def test_as_many_spares_as_the_policy_says_are_opened_beside_what_is_in_use_and_no_more(seed: int) -> None:
    r = Random(seed)
    spare, views = r.randint(0, 3), some_views(r)
    decision = decide(world(*views, opening=int(r.random() < 0.2)), terms(spare, life=LIFE))
    closing = closes(decision)
    staying = [v for v in views if v.channel.channel_id not in closing]
    used = any(v.authorized for v in staying)
    lasts = [v for v in staying if (last := v.channel.last_claim_time(Seconds(5))) is None or last - NOW > EARLY]
    missing = spare and used and len(lasts) < 1 + spare
    event(f"missing {bool(missing)}")
    if opens(decision):
        assert missing
    elif missing:
        hold = next(h for h in decision.holds if h.subject == str(PAYEES[0]))
        assert hold.reason is Reason.IN_FLIGHT, "one after the other"


@MANY
@given(SEEDS)
def test_spares_are_reached_one_by_one_and_only_within_what_caps_and_treasury_leave(seed: int) -> None:
    r = Random(seed)
    spare, most = r.randint(1, 4), r.randint(1, 6)
    caps, balance, floor = (r.choice([60, 150, 10**6]), r.randint(1, 6)), r.choice([60, 120, 10**6]), r.choice([0, 30])
    policy, views, seen = terms(spare, most=most, floor=floor), [view(1, amount=30)], list[Reason]()
    for _ in range(8):
        shown = world(*views, balance=balance, caps=caps)
        decision = decide(shown, policy)
        new = opens(decision)
        assert len(new) <= 1
        if not new:
            seen = [h.reason for h in decision.holds if h.subject == str(PAYEES[0])]
            assert all(h.until for h in decision.holds if h.reason not in (Reason.NO_DEMAND, Reason.WITHIN_BAND))
            break
        assert new[0].server == "a", "it counts against the server whose channel it stands by for"
        balance -= new[0].amount + 10
        views.append(view(len(views) + 1, used=False, ago=0, amount=new[0].amount))
    event(str(seen))
    assert seen
    assert balance >= floor
    assert sum(v.channel.amount for v in views[1:]) <= caps[0]
    if seen == [Reason.NO_DEMAND]:
        assert len(views) == 1 + spare
    else:
        bounds = {Reason.CHANNELS_PER_PAYEE, Reason.CAP_CHANNELS, Reason.CAP_LOCKED, Reason.GUARD_TREASURY}
        assert len(views) < 1 + spare
        assert set(seen) <= bounds


def test_a_rule_may_say_how_many_and_a_spare_holds_what_lasts_until_it_is_funded() -> None:
    policy = terms(0)
    rule = Rule("for-p", {"pool": OneOf(frozenset({"p"}))}, {"spare": 1})
    policy = replace(policy, rules={Concern.OPEN: (rule,)})
    (opened,) = opens(decide(world(view(1), per_s=3), policy))
    assert opened.amount == 30, "runway.low of demand"
    spare = view(2, used=False, amount=opened.amount)
    assert FundChannel("hot", spare.channel.channel_id, Drops(80)) in acts(
        decide(world(view(1), spare, per_s=8), policy)
    )


def test_what_is_in_flight_is_not_decided_again_and_nothing_is_opened_where_nobody_draws() -> None:
    policy = terms(2)
    assert opens(decide(world(view(1), opening=1), policy)) == []
    assert opens(decide(world(view(1, used=False)), policy)) == []
    assert opens(decide(world(), policy)) == []
    assert opens(decide(world(view(1, ago=IDLE + 1)), policy)) == [], "it is closed as unused, and nothing stands by"


def test_its_successor_is_opened_before_a_channel_ends() -> None:
    """With one payee's channel allowed beside the spare: what ends makes way."""
    policy = terms(1, most=2, life=LIFE)
    old = [view(1, ends=EARLY + 1), view(2, used=False, ends=EARLY + 50)]
    decision = decide(world(*old), policy)
    (hold,) = (h for h in decision.holds if h.subject == str(PAYEES[0]))
    assert (hold.reason, hold.until) == (Reason.NO_DEMAND, NOW + 1)
    old = [view(1, ends=EARLY), view(2, used=False, ends=EARLY)]
    assert len(opens(decide(world(*old), policy))) == 1
    fresh = [view(3, used=False, ends=LIFE - 15), view(4, used=False, ends=LIFE - 15)]
    assert len(opens(decide(world(*old, fresh[0]), policy))) == 1
    assert opens(decide(world(*old, *fresh), policy)) == []


# --- how long ---------------------------------------------------------------------------------------------------------


@MANY
@given(SEEDS)
def test_no_spare_is_closed_as_unused_beside_what_is_in_use_and_the_others_close_one_by_one(seed: int) -> None:
    r = Random(seed)
    spare, views = r.randint(1, 3), some_views(r, [None])
    policy = terms(spare)
    decision = decide(world(*views), policy)
    unused = closes(decision)
    staying = [v for v in views if v.channel.channel_id not in unused]
    if any(v.authorized and v.last_claim_at > NOW - IDLE for v in views):
        event("in use")
        assert len(staying) >= min(len(views), 1 + spare)
    else:
        assert len(unused) <= 1
        others = [w for w in staying if w.last_claim_at <= NOW - IDLE]
        assert all(v.channel.channel_id not in unused or precedence(v) < precedence(w) for v in views for w in others)
        later = [v if v.channel.channel_id not in unused else replace(v, issuing=False) for v in views]
        assert not unused or closes(decide(world(*later), policy)) == unused, "the rest waits until it is gone"
    held = {h.subject: h.reason for h in decision.holds}
    for v in views:
        if v.last_claim_at <= NOW - IDLE and v not in [w for w in views if w.channel.channel_id in unused]:
            assert held[v.channel.channel_id] is Reason.SPARE


def test_the_spare_of_a_closed_channel_is_the_one_in_use_as_soon_as_it_is_signed() -> None:
    """And only then is another opened: until somebody draws again, nothing stands by."""
    policy = terms(1)
    assert opens(decide(world(view(2, used=False)), policy)) == []
    (opened,) = opens(decide(world(view(2)), policy))
    assert opened.payee == PAYEES[0]
