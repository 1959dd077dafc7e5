"""Deciding by a policy: rules before the pool's terms, and above both what only deadline work passes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from random import Random
from typing import Any

from hypothesis import event, given, settings
from hypothesis import strategies as st
from worlds import NOW, PAYEES, Case, case_of, channel

from channeld.core.budgets import Budget, Purse
from channeld.core.channel import Phase
from channeld.core.decide import decide
from channeld.core.demand import Rate
from channeld.core.intents import (
    Action,
    FinalizeClose,
    FundChannel,
    Intent,
    Kind,
    OpenChannel,
    RequestClose,
    SettleChannel,
)
from channeld.core.ledger import AccountState
from channeld.core.policy import Cap, FreezeIf, Guards, Override, Policy, Pool, Scope
from channeld.core.rules import Band, Matcher, OneOf, Rule, Value, Within
from channeld.core.units import Drops, RippleTime, Seconds
from channeld.core.vocabulary import HOLD, VOCABULARY, Clock, Concern, Mode, Unit
from channeld.core.world import ChannelView, Decision, GroupView, Pulse, Reason, WalletView, World

DECIDED = (Concern.OPEN, Concern.FUND, Concern.SETTLE, Concern.CLOSE)
MANY = settings(max_examples=8 * settings().max_examples)
SEEDS = st.integers(0, 2**63 - 1)


# --- policies and worlds in which much binds --------------------------------------------------------------------------


def a_matcher(r: Random, concern: Concern, fact: str) -> Matcher:
    """A matcher over the small numbers of these worlds."""
    if VOCABULARY[concern].facts[fact].unit is Unit.TEXT:
        return OneOf(frozenset(r.sample(("one", "two", "hot", "cold", "a", "b", "eu"), 4)))
    return Within(*r.choice(((None, r.randint(0, 40)), (r.randint(0, 40), None), (r.randint(0, 9), r.randint(9, 60)))))


def a_rule(r: Random, concern: Concern, number: int) -> Rule:
    """A rule of a concern that often holds."""
    words = VOCABULARY[concern]
    facts = r.sample(sorted(words.facts), r.choice((0, 1, 1, 2)))
    laid: dict[str, Value] = {}
    for setting in r.sample(sorted(words.settings), r.choice((0, 0, 1, 2))):
        low = r.randint(0, 9)
        laid[setting] = Band(low, low + r.randint(1, 9)) if words.settings[setting].band else r.randint(1, 20)
    act = r.choice((None, *words.acts))
    return Rule(f"r{number}", {fact: a_matcher(r, concern, fact) for fact in facts}, laid, act)


def ruled(seed: int) -> Case:
    """A small world with rules, modes, overrides, freezes, budgets and caps on closes, some of each."""
    r, case = Random(seed), case_of(seed)
    rules = {c: tuple(a_rule(r, c, i) for i in range(r.randint(0, 3))) for c in DECIDED if r.random() < 0.6}
    modes = {c: r.choice(list(Mode)) for c in DECIDED if r.random() < 0.2}
    pools = {name: with_less(r, pool) for name, pool in case.policy.pools.items()}
    names = sorted(pools)
    budgets = tuple(
        Budget(f"b{i}", purse, Drops(r.randint(0, 60)), None, frozenset(r.sample(names, 1) if r.random() < 0.3 else ()))
        for i, purse in enumerate(r.sample(list(Purse), r.choice((0, 0, 1, 2))))
    )
    guards = replace(case.policy.guards, urgent_fee_cap=Drops(20), deadline_purse=Drops(r.choice((0, 40, 100))))
    if r.random() < 0.3:
        guards = replace(guards, max_closes_per_hour=r.choice((Cap(1), Cap(2), Cap(None, 500_000))))
    if r.random() < 0.1:
        guards = replace(guards, freeze_if=(FreezeIf("reconcile_difference", 0), FreezeIf("network_fee_drops", 15)))
    overrides = tuple(an_override(r, case.world, names) for _ in range(r.choice((0, 0, 0, 1, 2))))
    policy = Policy(1, pools, guards, "F" * 64, rules, modes, {}, budgets, overrides)
    world = replace(
        case.world,
        network_fee=r.choice((None, Drops(10), Drops(20))),
        wallets={name: with_purse(r, wallet, guards.deadline_purse) for name, wallet in case.world.wallets.items()},
        difference=r.choice((0, 0, 0, 5)),
        halted=frozenset(r.sample(("hot", "cold"), r.choice((0, 0, 0, 1)))),
        pulses={name: Pulse(r.randint(0, 6), r.randint(0, 2)) for name in names if r.random() < 0.9},
        used={budget.name: r.randint(0, 40) for budget in budgets},
    )
    return Case(seed, world, policy)


def with_less(r: Random, pool: Pool) -> Pool:
    """The pool, now and then without terms for a concern, with a region, and with a high mark."""
    gone = r.sample((Concern.FUND, Concern.SETTLE, Concern.CLOSE), r.choice((0, 0, 0, 1, 3)))
    high = r.choice((None, None, Seconds(pool.fund.runway_target + r.randint(0, 9))))
    fund = replace(pool.fund, runway_high=high)
    return replace(pool, terms=frozenset(Concern) - set(gone), regions=r.choice(((), ("eu",))), fund=fund)


def with_purse(r: Random, wallet: WalletView, limit: int) -> WalletView:
    """The wallet with what is left of its purse; now and then with next to nothing beside that."""
    purse = r.choice((limit, r.randint(-20, limit)))
    if limit and r.random() < 0.4:
        has = wallet.committed_drops + 40 * (wallet.account.owner_count + wallet.committed_objects) + limit
        wallet = replace(wallet, account=replace(wallet.account, balance=Drops(has + r.randint(-10, 60))))
    return replace(wallet, purse=purse)


def an_override(r: Random, world: World, pools: Sequence[str]) -> Override:
    """A hand-brake on something that is there, from before now to after."""
    group = r.choice(world.groups)
    scopes = [Scope(payee=str(group.payee)), Scope(pool=r.choice(pools)), Scope(server=r.choice("ab"))]
    scopes += [Scope(channel_id=view.channel.channel_id) for view in group.channels[:1]]
    until = RippleTime(NOW + r.choice((-1, 0, 1, 50)))
    return Override(r.choice(scopes), frozenset(r.sample(DECIDED, r.randint(1, 4))), until, "why")


RULED = SEEDS.map(ruled)


def actions(case: Case, decision: Decision) -> list[tuple[GroupView, ChannelView | None, Intent]]:
    """Every planned intent with its group and, unless it opens one, its channel."""
    groups = {g.key: g for g in case.world.groups}
    found = []
    for planned in decision.planned:
        group, action = groups[planned.group], planned.intent.action
        ids = None if isinstance(action, OpenChannel) else action.channel_id
        view = next((v for v in group.channels if v.channel.channel_id == ids), None)
        found.append((group, view, planned.intent))
    return found


def happening(case: Case, decision: Decision) -> list[tuple[GroupView, ChannelView | None, Intent]]:
    """Those of them that no frozen wallet keeps from being journaled."""
    goes_on = {Kind.SETTLE, Kind.FINALIZE_CLOSE}
    found = actions(case, decision)
    return [t for t in found if t[2].action.wallet not in case.world.halted or t[2].action.kind in goes_on]


def deadline_work(case: Case, group: GroupView, view: ChannelView | None, action: Action) -> bool:
    """Whether an intent pays what is owed on a channel that ends."""
    if view is None or not view.channel.unredeemed(view.authorized):
        return False
    last = view.channel.last_claim_time(case.policy.pools[group.pool].life_margin)
    ends = view.channel.expiration is not None or (last is not None and last <= NOW)
    return ends and isinstance(action, SettleChannel | RequestClose)


# --- every channel, every order, once ---------------------------------------------------------------------------------


@MANY
@given(RULED)
def test_every_channel_and_every_payee_gets_exactly_one_answer(case: Case) -> None:
    decision = decide(case.world, case.policy)
    expected = Counter((g.key, v.channel.channel_id) for g in case.world.groups for v in g.channels)
    expected += Counter((g.key, str(g.payee)) for g in case.world.groups)
    answers = Counter((h.group, h.subject) for h in decision.holds)
    for group, view, intent in actions(case, decision):
        answers[group.key, view.channel.channel_id if view else str(group.payee)] += 1
        event(f"{intent.action.kind.value}: {intent.reason}")
    for hold in decision.holds:
        event(hold.reason.value)
        assert hold.until is None or hold.until > NOW
    assert answers == expected


@MANY
@given(RULED, st.integers())
def test_the_order_in_which_things_are_listed_does_not_matter(case: Case, order: int) -> None:
    r, world, policy = Random(order), case.world, case.policy
    groups = [replace(g, channels=tuple(r.sample(g.channels, len(g.channels)))) for g in world.groups]
    shuffled = replace(world, groups=tuple(r.sample(groups, len(groups))))
    budgets = tuple(r.sample(policy.budgets, len(policy.budgets)))
    assert decide(shuffled, replace(policy, budgets=budgets)) == decide(world, policy)


@MANY
@given(RULED)
def test_its_own_intents_shown_back_as_pending_add_nothing(case: Case) -> None:
    """With their worst cases in every account, budgets and closes included."""
    world = shown_back(case, decide(case.world, case.policy))
    again = replace(case, world=world)
    assert happening(again, decide(world, case.policy)) == []


@MANY
@given(RULED, st.integers(1, 100))
def test_nothing_falls_due_before_the_moment_that_was_named(case: Case, seconds: int) -> None:
    """Whoever looks again only then, or when something happens, misses nothing."""
    world = shown_back(case, decide(case.world, case.policy))
    decision = decide(world, case.policy)
    holds, frozen = decision.holds, {planned.group for planned in decision.planned}
    for group in world.groups:
        if group.opening or any(view.pending for view in group.channels) or group.key in frozen:
            continue  # what is in flight ends, and then it is looked at; what is frozen is, with every ledger
        if group.wanted and any(h.group == group.key and h.reason is Reason.NO_DEMAND for h in holds):
            continue  # what its channels carry was told to come again, and is decided when it does
        moments = [h.until for h in holds if h.group == group.key and h.until is not None]
        later = min([NOW + seconds, *(moment - 1 for moment in moments)])
        alone = replace(world, groups=(group,), close_time=RippleTime(later))
        event("later" if later > NOW else "next")
        assert happening(replace(case, world=alone), decide(alone, case.policy)) == [], (group.key, moments)


def shown_back(case: Case, decision: Decision) -> World:
    """The world after a decision was journaled and before any ledger showed an effect."""
    world, policy = case.world, case.policy
    mine = happening(case, decision)
    pending = {v.channel.channel_id: i.action for _, v, i in mine if v is not None}
    opened = {g.key for g, v, _ in mine if v is None}
    groups = []
    for g in world.groups:
        views = []
        for v in g.channels:
            action = pending.get(v.channel.channel_id)
            closing = isinstance(action, RequestClose)
            views.append(v if action is None else replace(v, pending=action.kind, issuing=v.issuing and not closing))
        groups.append(replace(g, channels=tuple(views), opening=g.opening + (g.key in opened)))
    wallets, servers = dict(world.wallets), dict(world.servers)
    for _, v, i in mine:
        drops, opens, wallet = locks(v, i.action), isinstance(i.action, OpenChannel), wallets[i.action.wallet]
        ticket = min(opens, wallet.free_tickets)
        wallets[i.action.wallet] = replace(
            wallet,
            committed_drops=wallet.committed_drops + drops + worst(policy, v, i),
            purse=wallet.purse - worst(policy, v, i) * i.deadline,
            committed_objects=wallet.committed_objects + opens - ticket,
            free_tickets=wallet.free_tickets - ticket,
        )
        name = charged(v, i.action)
        if (server := servers.get(name)) is not None:
            servers[name] = replace(server, locked=server.locked + drops, channels=server.channels + opens)
    opens_now = (world.opens_in_flight + len(opened), world.opens_decided + len(opened))
    used = {b.name: world.used.get(b.name, 0) + taken(case, b, mine) for b in policy.budgets}
    pulses = {
        name: replace(pulse, closed=pulse.closed + sum(g.pool == name and freely_closed(i) for g, _, i in mine))
        for name, pulse in world.pulses.items()
    }
    return replace(
        world, groups=tuple(groups), wallets=wallets, servers=servers, opens_in_flight=opens_now[0],
        opens_decided=opens_now[1], used=used, pulses=pulses,
    )  # fmt: skip


def worst(policy: Policy, view: ChannelView | None, intent: Intent) -> int:
    """What the transaction of an intent costs at worst."""
    ends = view is not None and view.channel.deadline is not None
    urgent = ends and intent.action.kind in {Kind.SETTLE, Kind.REQUEST_CLOSE}
    return policy.guards.urgent_fee_cap if urgent else policy.guards.fee_cap


def locks(view: ChannelView | None, action: Action) -> int:
    """Drops that an intent newly locks."""
    if isinstance(action, OpenChannel):
        return action.amount
    return action.target_amount - view.channel.amount if view and isinstance(action, FundChannel) else 0


def charged(view: ChannelView | None, action: Action) -> str:
    """The content server whose caps an intent counts against."""
    return action.server if isinstance(action, OpenChannel) else view.server if view else ""


def freely_closed(intent: Intent) -> bool:
    """Whether it closes a channel that nothing forced."""
    return isinstance(intent.action, RequestClose) and intent.reason in {"idle", "rule"}


def taken(case: Case, budget: Budget, mine: list[tuple[GroupView, ChannelView | None, Intent]]) -> int:
    """What these intents take from a budget at worst; fees of deadline work are no matter of budgets."""
    total = 0
    for group, view, intent in mine:
        action = intent.action
        takes = {
            Purse.FEES: 0 if deadline_work(case, group, view, action) else worst(case.policy, view, intent),
            Purse.CAPITAL: locks(view, action),
            Purse.RESERVE: case.world.fees.reserve_increment if action.kind is Kind.OPEN else 0,
        }
        total += takes[budget.purse] if not budget.pools or group.pool in budget.pools else 0
    return total


# --- bounds -----------------------------------------------------------------------------------------------------------


@MANY
@given(RULED)
def test_no_budget_is_passed(case: Case) -> None:
    """What is in flight counts with its worst case: so do all intents of one decision together."""
    decision = decide(case.world, case.policy)
    mine = happening(case, decision)
    for budget in case.policy.budgets:
        spent = taken(case, budget, mine)
        used = case.world.used.get(budget.name, 0)
        event("spent to the last" if spent and used + spent >= budget.limit - 1 else "more left")
        assert not spent or used + spent <= budget.limit


@MANY
@given(RULED)
def test_wallets_keep_reserve_and_floor_and_servers_their_caps_whatever_the_rules_say(case: Case) -> None:
    mine = happening(case, decide(case.world, case.policy))
    for name, wallet in case.world.wallets.items():
        locking = [(v, i.action) for _, v, i in mine if i.action.wallet == name and locks(v, i.action)]
        if not locking:
            continue
        opens = sum(isinstance(a, OpenChannel) for _, a in locking)
        objects = wallet.account.owner_count + wallet.committed_objects + max(0, opens - wallet.free_tickets)
        spent = sum(locks(v, a) for v, a in locking) + case.policy.guards.fee_cap * len(locking)
        left = wallet.account.balance - wallet.committed_drops - spent
        assert left >= case.world.fees.reserve(objects) + case.policy.guards.treasury_floor
    for name, server in case.world.servers.items():
        drops = [locks(v, i.action) for g, v, i in mine if charged(v, i.action) == name]
        assert not sum(drops) or server.locked + sum(drops) <= server.max_locked


@MANY
@given(RULED)
def test_what_is_left_of_the_purse_for_deadlines_nothing_else_touches(case: Case) -> None:
    """Beside the ledger's reserve; but for what brings the wallet more than it can cost. Below it nothing is done."""
    world, policy = case.world, case.policy
    mine = happening(case, decide(world, policy))
    for name, wallet in world.wallets.items():
        spent = opens = 0
        purse = wallet.purse
        for group, view, intent in mine:  # in the order in which they were decided
            if intent.action.wallet != name:
                continue
            fee = worst(policy, view, intent)
            spent += locks(view, intent.action) + fee
            opens += isinstance(intent.action, OpenChannel)
            if deadline_work(case, group, view, intent.action):
                purse -= fee
            elif policy.guards.deadline_purse and gain(case, view, intent) < fee:
                objects = wallet.account.owner_count + wallet.committed_objects + max(0, opens - wallet.free_tickets)
                left = wallet.account.balance - wallet.committed_drops - spent - world.fees.reserve(objects)
                event("down to the purse" if left - max(0, purse) < 15 else "more left")
                assert left >= max(0, purse)


def gain(case: Case, view: ChannelView | None, intent: Intent) -> int:
    """What comes back to the wallet once the channel is gone."""
    if view is None or intent.action.kind not in {Kind.REQUEST_CLOSE, Kind.FINALIZE_CLOSE}:
        return 0
    owed = view.channel.unredeemed(view.authorized)
    return view.channel.remaining - owed + case.world.fees.reserve_increment


@MANY
@given(RULED)
def test_what_is_deadline_work_says_so(case: Case) -> None:
    """By its reason, which the journal keeps: so its fee is taken from the purse for it over any restart."""
    for group, view, intent in actions(case, decide(case.world, case.policy)):
        assert intent.deadline == deadline_work(case, group, view, intent.action), intent


@MANY
@given(RULED)
def test_no_more_channels_are_closed_in_an_hour_than_the_guard_allows(case: Case) -> None:
    cap = case.policy.guards.max_closes_per_hour
    mine = happening(case, decide(case.world, case.policy))
    for name in case.policy.pools:
        closes = sum(g.pool == name and freely_closed(i) for g, _, i in mine)
        if closes and cap is not None:
            pulse = case.world.pulses[name]
            assert pulse.closed + closes <= cap.of(pulse.channels)


@MANY
@given(RULED)
def test_whatever_the_rules_say_only_what_can_issue_is_funded_and_never_beyond_its_pools_size(case: Case) -> None:
    for group, view, intent in actions(case, decide(case.world, case.policy)):
        pool, action = case.policy.pools[group.pool], intent.action
        if isinstance(action, FundChannel) and view is not None:
            last = view.channel.last_claim_time(pool.life_margin)
            assert view.issuing
            assert last is None or last > NOW
            assert view.channel.amount < action.target_amount <= view.channel.balance + pool.channel.max
        if isinstance(action, OpenChannel):
            assert (group.wanted if intent.reason == "wanted" else 1) <= action.amount <= pool.channel.max


# --- what stands above the rules --------------------------------------------------------------------------------------


@MANY
@given(RULED)
def test_only_deadline_work_passes_a_mode_an_override_a_freeze_or_a_budget(case: Case) -> None:
    """What is planned although something stands above it pays what is owed on a channel that ends."""
    world, policy = case.world, case.policy
    concerns = {Kind.OPEN: Concern.OPEN, Kind.FUND: Concern.FUND, Kind.SETTLE: Concern.SETTLE}
    frozen = policy.guards.freeze_if and (world.difference > 0 or (world.network_fee or 0) > 15)
    for group, view, intent in actions(case, decide(world, policy)):
        concern = concerns.get(intent.action.kind, Concern.CLOSE)
        overridden = any(
            concern in o.concerns and o.until > NOW and fits(o.scope, group, view) for o in policy.overrides
        )
        if frozen or overridden or policy.mode(concern) is not Mode.APPLY:
            event("deadline work passes")
            assert deadline_work(case, group, view, intent.action), intent


def fits(scope: Scope, group: GroupView, view: ChannelView | None) -> bool:
    """Whether an override is for a subject, written another way."""
    server = view.server if view else group.server
    channel_id = view.channel.channel_id if view else None
    given = {"channel_id": channel_id, "payee": str(group.payee), "server": server, "pool": group.pool, "tier": None}
    return all(getattr(scope, key) in {None, value} for key, value in given.items())


@MANY
@given(RULED)
def test_what_a_payee_would_lose_is_paid_in_every_mode_and_freeze(case: Case) -> None:
    """Channels that end and owe are left alone only in flight, cooling down, or once they have ended."""
    decision = decide(case.world, case.policy)
    acting = {i.action.channel_id for _, _, i in actions(case, decision) if not isinstance(i.action, OpenChannel)}
    for group in case.world.groups:
        pool = case.policy.pools.get(group.pool)
        if pool is None or pool.wallet not in case.world.wallets:
            continue
        for view in group.channels:
            settle = SettleChannel("", view.channel.channel_id, Drops(0))
            live = view.channel.phase(RippleTime(NOW)) is not Phase.EXPIRED
            free = view.pending is None and (view.retry_at is None or view.retry_at <= NOW)
            if live and free and deadline_work(case, group, view, settle):
                event("owed at an end")
                assert view.channel.channel_id in acting


@MANY
@given(RULED)
def test_what_is_suggested_is_held_and_nothing_is_suggested_that_is_done(case: Case) -> None:
    decision = decide(case.world, case.policy)
    held = {(h.group, h.subject) for h in decision.holds}
    for planned in decision.suggested:
        action = planned.intent.action
        subject = str(action.payee) if isinstance(action, OpenChannel) else action.channel_id
        event("suggested")
        assert (planned.group, subject) in held or isinstance(action, RequestClose | FundChannel | SettleChannel)
        assert planned not in decision.planned


# --- one at a time ----------------------------------------------------------------------------------------------------

SHORT = (Seconds(0), Seconds(1))


def one(view: ChannelView, policy: Policy, **changes: object) -> Decision:
    """Decide one channel of pool `p`."""
    shown: dict[str, Any] = {"lag_s": 0.0, "groups": (group_of(view),), **changes}
    return decide(replace(case_of(1).world, **shown), policy)


def group_of(*views: ChannelView, wanted: int = 0) -> GroupView:
    """A group of pool `p`."""
    return GroupView("p", PAYEES[0], "a", views, 0, wanted, Rate(0, RippleTime(NOW)))


def policy_of(*rules: Rule, concern: Concern = Concern.FUND, **changes: object) -> Policy:
    """A pool `p` that pays, closes and funds in its own good time, and one chain."""
    base = case_of(1).policy
    pool = next(iter(base.pools.values()))
    pool = replace(
        pool, name="p", wallet=next(iter(case_of(1).world.wallets)), settle_delay=Seconds(10), life_margin=Seconds(0),
        channel=replace(pool.channel, min=Drops(1), max=Drops(1000), max_per_payee=4),
        fund=replace(pool.fund, low=Drops(0), target=Drops(1), runway_low=SHORT[0], runway_target=SHORT[1]),
        settle=replace(pool.settle, worth=Drops(10**6), max_age=Seconds(10**6)),
        close=replace(pool.close, idle=Seconds(10**6), min_age=Seconds(0)),
    )  # fmt: skip
    guards = Guards(Drops(0), 4, Seconds(20), Drops(10), Seconds(60), Drops(20))
    policy = Policy(1, {"p": pool}, guards, "F" * 64, {concern: rules} if rules else {})
    return replace(policy, **changes)  # type: ignore[arg-type]


def view_of(
    *, authorized: int = 50, age: int = 600, expiration: int | None = None, cancel: int | None = None
) -> ChannelView:
    """A channel with 50 of 100 signed."""
    at = RippleTime(NOW - age)
    return ChannelView(
        channel(expiration=expiration, cancel_after=cancel), authorized, True, "a", at, at, at, None, None, None
    )


def test_a_rule_that_acts_needs_no_terms_and_one_that_holds_keeps_them_from_being_asked() -> None:
    settle = policy_of(Rule("now", {"unredeemed": Within(50, None)}, {}, "settle"), concern=Concern.SETTLE)
    (planned,) = one(view_of(), settle).planned
    assert (planned.intent.action.kind, planned.intent.reason, planned.intent.path) == (
        Kind.SETTLE,
        "rule",
        ("settle/now",),
    )
    assert one(view_of(authorized=49), settle).planned == ()
    eager = replace(settle.pools["p"], settle=replace(settle.pools["p"].settle, worth=Drops(1)))
    stop = policy_of(Rule("stop", {}, {}, HOLD), concern=Concern.SETTLE, pools={"p": eager})
    held = one(view_of(), stop).holds[0]
    assert (held.reason, held.path) == (Reason.RULE, ("settle/stop",))
    (paid,) = one(view_of(), replace(stop, rules={})).planned
    assert paid.intent.reason == "worth_it"


def test_settings_of_rules_are_laid_over_the_terms_that_then_decide() -> None:
    laid = policy_of(Rule("gold", {"pool": OneOf(frozenset("p"))}, {"headroom": Band(60, 80)}))
    world = replace(case_of(1).world.wallets[laid.pools["p"].wallet], committed_drops=0)
    rich = replace(world, account=replace(world.account, balance=Drops(10**6)))
    servers = {"a": replace(case_of(1).world.servers["a"], max_locked=10**6, max_channels=10)}
    (planned,) = one(view_of(), laid, wallets={laid.pools["p"].wallet: rich}, servers=servers).planned
    assert isinstance(planned.intent.action, FundChannel)
    assert (planned.intent.action.target_amount, planned.intent.reason) == (130, "running_out")
    assert planned.intent.path == ("fund/gold",)
    small = policy_of(Rule("gold", {}, {"headroom": Band(60, 80), "min_step": 31}))
    held = one(view_of(), small, wallets={laid.pools["p"].wallet: rich}, servers=servers).holds[0]
    assert (held.reason, held.path) == (Reason.BELOW_MIN_STEP, ("fund/gold",))


def test_what_no_rule_decides_of_a_pool_without_terms_is_held_for_want_of_one() -> None:
    policy = policy_of()
    pool = replace(
        policy.pools["p"],
        terms=frozenset(Concern) - {Concern.CLOSE},
        close=replace(policy.pools["p"].close, idle=Seconds(1)),
    )
    assert one(view_of(), replace(policy, pools={"p": pool})).holds[0].reason is Reason.NO_RULE
    (planned,) = one(view_of(), replace(policy, pools={"p": replace(pool, terms=frozenset(Concern))})).planned
    assert planned.intent.action.kind is Kind.REQUEST_CLOSE


def test_an_override_ends_by_itself_and_says_when() -> None:
    idle = policy_of(Rule("idle", {"idle": Within(600, None)}, {}, "close"), concern=Concern.CLOSE)
    brake = Override(Scope(pool="p"), frozenset({Concern.CLOSE}), RippleTime(NOW + 1), "why")
    held = one(view_of(), replace(idle, overrides=(brake,))).holds[0]
    assert (held.reason, held.until) == (Reason.OVERRIDE, NOW + 1)
    for gone in (replace(brake, until=RippleTime(NOW)), replace(brake, scope=Scope(pool="q"))):
        (planned,) = one(view_of(), replace(idle, overrides=(gone,))).planned
        assert isinstance(planned.intent.action, RequestClose)


def test_a_rule_that_waits_for_a_time_is_looked_at_again_then() -> None:
    idle = policy_of(Rule("idle", {"idle": Within(700, None)}, {}, "close"), concern=Concern.CLOSE)
    assert one(view_of(), idle).holds[0].until == NOW + 100
    (planned,) = one(view_of(age=700), idle).planned
    assert planned.intent.path == ("close/idle",)


def test_what_waits_for_a_cheaper_network_is_looked_at_again_though_nothing_happens() -> None:
    """What the rule holds back, the pool's terms would do as soon as it does not apply."""
    dear = policy_of(Rule("dear", {"network_fee_drops": Within(11, None)}, {}, HOLD), concern=Concern.SETTLE)
    eager = replace(dear.pools["p"], settle=replace(dear.pools["p"].settle, worth=Drops(1)))
    policy = replace(dear, pools={"p": eager})
    assert one(view_of(), policy, network_fee=Drops(11)).holds[0].until == NOW + 60
    (paid,) = one(view_of(), policy, network_fee=Drops(10)).planned
    assert paid.intent.action.kind is Kind.SETTLE


def test_deadline_work_draws_on_the_purse_and_takes_nothing_from_the_rest_until_that_is_empty() -> None:
    """Three channels owe: two of them end. What is left beside the purse pays for the third, or does not."""
    policy = policy_of(Rule("now", {}, {}, "settle"), concern=Concern.SETTLE)
    ending, patient = view_of(expiration=NOW + 9), view_of()
    views = [
        replace(view, channel=replace(view.channel, channel_id=channel(n).channel_id))
        for n, view in enumerate((ending, ending, patient))
    ]
    reserve = case_of(1).world.fees.reserve(0)
    for purse, beside, paid in ((40, 9, 2), (40, 10, 3), (39, 10, 2), (39, 11, 3), (0, 49, 2), (0, 50, 3)):
        guards = replace(policy.guards, deadline_purse=Drops(100))
        account = AccountState(PAYEES[0].account, Drops(reserve + purse + beside), 1, 0)
        shown: dict[str, Any] = {"wallets": {policy.pools["p"].wallet: WalletView(account, 0, 0, 0, purse)}}
        decision = one(views[0], replace(policy, guards=guards), groups=(group_of(*views),), **shown)
        assert len(decision.planned) == paid, (purse, beside)
        assert [h.reason for h in decision.holds][: 3 - paid] == [Reason.GUARD_TREASURY] * (3 - paid)


def every_stop() -> list[tuple[str, Policy, dict[str, object]]]:
    """Each thing that holds the engine back, by itself."""
    base = policy_of()
    stops: list[tuple[str, Policy, dict[str, object]]] = [
        (mode.value, replace(base, modes=dict.fromkeys(Concern, mode)), {}) for mode in (Mode.OBSERVE, Mode.SUGGEST)
    ]
    brake = Override(Scope(pool="p"), frozenset(Concern), RippleTime(NOW + 99), "why")
    stops.append(("override", replace(base, overrides=(brake,)), {}))
    for fact, shown in (("reconcile_difference", {"difference": 1}), ("network_fee_drops", {"network_fee": Drops(1)})):
        guards = replace(base.guards, freeze_if=(FreezeIf(fact, 0),))
        stops.append((fact, replace(base, guards=guards), dict(shown)))
    stops.append(("ledger lag", base, {"lag_s": 21.0}))
    stops.append(("wallet frozen", base, {"halted": frozenset({base.pools["p"].wallet})}))
    spent = Budget("fees", Purse.FEES, Drops(0), Seconds(1))
    stops.append(("budget spent", replace(base, budgets=(spent,)), {"used": {"fees": 0}}))
    empty = {name: replace(wallet, purse=-1) for name, wallet in case_of(1).world.wallets.items()}
    stops.append(("purse", replace(base, guards=replace(base.guards, deadline_purse=Drops(20))), {"wallets": empty}))
    stop = {c: (Rule("stop", {}, {}, HOLD),) for c in DECIDED}
    stops.append(("rules", replace(base, rules=stop), {}))
    return stops


def test_what_is_owed_on_a_closing_channel_is_paid_in_every_mode_and_under_every_freeze() -> None:
    for what, policy, shown in every_stop():
        (planned,) = one(view_of(expiration=NOW + 1), policy, **shown).planned
        assert (planned.intent.action.kind, planned.intent.reason) == (Kind.SETTLE, "owed_before_close"), what


def test_what_is_owed_is_paid_before_cancel_after_in_every_mode_and_under_every_freeze() -> None:
    """As part of a close where that is allowed, else by itself."""
    for what, policy, shown in every_stop():
        (planned,) = one(view_of(cancel=NOW + 10), policy, **shown).planned
        closes = what in {"budget spent", "purse", "rules"}
        assert planned.intent.action.kind is (Kind.REQUEST_CLOSE if closes else Kind.SETTLE), what
        assert one(view_of(cancel=NOW + 11), policy, **shown).planned == (), what


def test_nothing_else_passes() -> None:
    """A channel that has expired, and an idle one."""
    for what, policy, shown in every_stop()[:6]:
        eager = replace(policy.pools["p"], close=replace(policy.pools["p"].close, idle=Seconds(1)))
        decision = one(view_of(), replace(policy, pools={"p": eager}), **shown)
        assert decision.planned == (), what
        assert len(decision.suggested) == (what == "suggest")
        gone = one(view_of(authorized=0, expiration=NOW - 1), policy, **shown)
        assert gone.planned == (), what
        assert [p.intent.action for p in gone.suggested] == [
            FinalizeClose(policy.pools["p"].wallet, view_of().channel.channel_id)
        ] * (what == "suggest")


def test_a_frozen_wallet_takes_nothing_from_what_others_may_do() -> None:
    """Its payees wait, however many they are; channels per ledger and budgets are left to the wallet that is not."""
    first = policy_of()
    second = replace(first.pools["p"], name="q", wallet="cold")
    guards = replace(first.guards, max_opens_per_ledger=1)
    budget = Budget("reserve", Purse.RESERVE, case_of(1).world.fees.reserve_increment)
    policy = replace(first, pools={**first.pools, "q": second}, guards=guards, budgets=(budget,))
    rich = WalletView(AccountState(PAYEES[0].account, Drops(10**6), 1, 0), 0, 0)
    groups = [replace(group_of(wanted=5), pool=pool, payee=payee) for pool in "pq" for payee in PAYEES]
    servers = {"a": replace(case_of(1).world.servers["a"], locked=0, channels=0, max_locked=10**6, max_channels=99)}
    world = replace(
        case_of(1).world, lag_s=0.0, groups=tuple(groups), wallets={"hot": rich, "cold": rich}, servers=servers,
        opens_in_flight=0, opens_decided=0, halted=frozenset({"hot"}), used={"reserve": 0},
    )  # fmt: skip
    assert first.pools["p"].wallet == "hot"
    pools = Counter(planned.group[0] for planned in decide(world, policy).planned)
    assert pools["q"] == 1, "beside what would be done, were the other not frozen"


def test_every_drifting_fact_may_be_unknown_but_what_the_wallet_has() -> None:
    """So that a rule never acts on a price that nobody told."""
    for words in VOCABULARY.values():
        drifting = {name for name, fact in words.facts.items() if fact.clock is Clock.DRIFTS and fact.always}
        assert drifting <= {"spendable"}
