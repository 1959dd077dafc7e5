"""Deciding is total, answers everything once, spends within every bound, and never acts against a payee."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from random import Random
from typing import TypeVar

from hypothesis import event, given, settings
from hypothesis import strategies as st
from worlds import NOW, Case, case_of, cases, channel

from channeld.core.channel import Phase
from channeld.core.decide import OPENS_BACKLOG, UNUSED_GRACE_S, decide
from channeld.core.demand import Rate
from channeld.core.intents import FinalizeClose, FundChannel, Kind, OpenChannel, RequestClose, SettleChannel, Status
from channeld.core.outcome import LONGEST_RETRY_S, Outcome, cooled, failed_at, setback_after
from channeld.core.policy import ChannelShape, CloseTerms, FundTerms, Pool, SettleTerms
from channeld.core.records import Setback
from channeld.core.spares import SUCCESSOR_LEAD_S
from channeld.core.units import Drops, RippleTime, Seconds
from channeld.core.world import ChannelView, Decision, GroupView, Reason, World

MANY = settings(max_examples=12 * settings().max_examples // 2)
T = TypeVar("T")
Acted = list[tuple[GroupView, ChannelView, Pool, object]]


def acted(case: Case, decision: Decision) -> Acted:
    """Every planned intent on an existing channel, with the channel, its group and its pool."""
    groups = {g.key: g for g in case.world.groups}
    found: Acted = []
    for planned in decision.planned:
        action = planned.intent.action
        if not isinstance(action, OpenChannel):
            group = groups[planned.group]
            (view,) = (v for v in group.channels if v.channel.channel_id == action.channel_id)
            found.append((group, view, case.policy.pools[group.pool], action))
    return found


def steps(case: Case, decision: Decision) -> list[tuple[str, str, int, bool]]:
    """What newly locks money: wallet, server, drops and whether it opens a channel."""
    found = [
        (a.wallet, v.server, a.target_amount - v.channel.amount, False)
        for _, v, _, a in acted(case, decision)
        if isinstance(a, FundChannel)
    ]
    opens = [p.intent.action for p in decision.planned if isinstance(p.intent.action, OpenChannel)]
    return found + [(a.wallet, a.server, a.amount, True) for a in opens]


@MANY
@given(cases())
def test_every_channel_and_every_payee_gets_exactly_one_answer(case: Case) -> None:
    decision = decide(case.world, case.policy)
    expected = Counter((g.key, v.channel.channel_id) for g in case.world.groups for v in g.channels)
    expected += Counter((g.key, str(g.payee)) for g in case.world.groups)
    answers: Counter[tuple[tuple[str, str], str]] = Counter((h.group, h.subject) for h in decision.holds)
    for planned in decision.planned:
        action = planned.intent.action
        subject = str(action.payee) if isinstance(action, OpenChannel) else action.channel_id
        answers[planned.group, subject] += 1
        event(action.kind.value)
    for hold in decision.holds:
        event(hold.reason.value)
    assert answers == expected


@MANY
@given(cases(), st.integers())
def test_the_order_in_which_the_world_is_listed_does_not_matter(case: Case, order: int) -> None:
    random = Random(order)
    groups = [replace(g, channels=tuple(shuffled(g.channels, random))) for g in case.world.groups]
    world = replace(
        case.world,
        groups=tuple(shuffled(groups, random)),
        wallets=dict(shuffled(case.world.wallets.items(), random)),
        servers=dict(shuffled(case.world.servers.items(), random)),
    )
    assert decide(world, case.policy) == decide(case.world, case.policy)


def shuffled(items: Iterable[T], random: Random) -> list[T]:
    listed = list(items)
    random.shuffle(listed)
    return listed


@MANY
@given(cases())
def test_its_own_intents_shown_back_as_pending_add_nothing(case: Case) -> None:
    again = decide(shown_back(case, decide(case.world, case.policy)), case.policy)
    assert again.planned == ()


def shown_back(case: Case, decision: Decision) -> World:
    """The world after a decision was journaled and before any ledger showed an effect."""
    world, guards = case.world, case.policy.guards
    pending = {v.channel.channel_id: a for _, v, _, a in acted(case, decision)}
    opened = {p.group for p in decision.planned if isinstance(p.intent.action, OpenChannel)}
    groups = []
    for g in world.groups:
        views = tuple(
            v
            if (a := pending.get(v.channel.channel_id)) is None
            else replace(v, pending=a.kind, issuing=v.issuing and not isinstance(a, RequestClose))  # type: ignore[attr-defined]
            for v in g.channels
        )
        groups.append(replace(g, channels=views, opening=g.opening + (g.key in opened)))
    locks = steps(case, decision)
    wallets = dict(world.wallets)
    for p in decision.planned:
        w, pays = p.intent.action.wallet, p.intent.action.kind in {Kind.SETTLE, Kind.REQUEST_CLOSE}
        cap = guards.urgent_fee_cap if pays else guards.fee_cap
        wallets[w] = replace(wallets[w], committed_drops=wallets[w].committed_drops + cap)
    servers = dict(world.servers)
    for wallet, server, drops, opens in locks:
        w = wallets[wallet]
        by_ticket = min(opens, w.free_tickets)
        wallets[wallet] = replace(
            w,
            committed_drops=w.committed_drops + drops,
            committed_objects=w.committed_objects + opens - by_ticket,
            free_tickets=w.free_tickets - by_ticket,
        )
        s = servers[server]
        servers[server] = replace(s, locked=s.locked + drops, channels=s.channels + opens)
    opens = (world.opens_in_flight + len(opened), world.opens_decided + len(opened))
    return World(world.close_time, world.lag_s, world.fees, tuple(groups), wallets, servers, *opens)


# --- money -----------------------------------------------------------------------------------------------------------


@MANY
@given(cases())
def test_what_is_newly_locked_leaves_every_wallet_its_reserve_and_its_floor(case: Case) -> None:
    locks, guards = steps(case, decide(case.world, case.policy)), case.policy.guards
    for name, view in case.world.wallets.items():
        mine = [(drops, opens) for wallet, _, drops, opens in locks if wallet == name]
        if not mine:
            continue
        owned = max(0, sum(opens for _, opens in mine) - view.free_tickets)
        objects = view.account.owner_count + view.committed_objects + owned
        spent = sum(drops for drops, _ in mine) + guards.fee_cap * len(mine)
        left = view.account.balance - view.committed_drops - spent
        event("left a drop or none" if left - case.world.fees.reserve(objects) - guards.treasury_floor < 2 else "more")
        assert left >= case.world.fees.reserve(objects) + guards.treasury_floor


@MANY
@given(cases())
def test_what_is_newly_locked_for_a_server_stays_within_its_caps(case: Case) -> None:
    locks = steps(case, decide(case.world, case.policy))
    for _, server, drops, _ in locks:
        assert drops >= 1
        assert server in case.world.servers
    for name, view in case.world.servers.items():
        mine = [(drops, opens) for _, server, drops, opens in locks if server == name]
        if mine:
            assert view.locked + sum(drops for drops, _ in mine) <= view.max_locked
        if opened := sum(opens for _, opens in mine):
            assert view.channels + opened <= view.max_channels


@MANY
@given(cases())
def test_no_more_channels_are_opened_than_a_ledger_and_a_payee_may_have(case: Case) -> None:
    decision = decide(case.world, case.policy)
    opens = [p for p in decision.planned if isinstance(p.intent.action, OpenChannel)]
    if opens:
        most = case.policy.guards.max_opens_per_ledger
        assert case.world.opens_decided + len(opens) <= most
        assert case.world.opens_in_flight + len(opens) <= most * OPENS_BACKLOG
    groups = {g.key: g for g in case.world.groups}
    for planned in opens:
        group, pool = groups[planned.group], case.policy.pools[planned.group[0]]
        action = planned.intent.action
        assert isinstance(action, OpenChannel)
        assert len(lasting(group, pool)) < pool.channel.max_per_payee
        assert group.opening == 0
        assert pool.channel.min <= action.amount <= pool.channel.max
        assert (action.payee, action.pool) == (group.payee, group.pool)
        if planned.intent.reason == "wanted":
            assert 0 < group.wanted <= action.amount
            assert action.server == group.server
        else:
            assert action.server in {v.server for v in group.channels}
        assert (action.settle_delay, action.life) == (pool.settle_delay, pool.cancel_after)


def lasting(group: GroupView, pool: Pool) -> list[ChannelView]:
    """Channels on which claims can be issued for a while yet."""
    found, life = [], (pool.cancel_after or 0) - pool.settle_delay - pool.life_margin - 20
    for view in group.channels:
        last = view.channel.last_claim_time(pool.life_margin)
        near = last is not None and last - NOW <= (20 + min(SUCCESSOR_LEAD_S, life // 4) if life > 0 else 0)
        if view.issuing and view.channel.phase(RippleTime(NOW)) is Phase.OPEN and not near:
            found.append(view)
    return found


@MANY
@given(cases())
def test_only_a_channel_that_can_still_issue_is_funded_and_never_beyond_its_size(case: Case) -> None:
    for _, view, pool, action in acted(case, decide(case.world, case.policy)):
        if isinstance(action, FundChannel):
            assert view.channel.phase(RippleTime(NOW)) is Phase.OPEN
            assert view.channel.expiration is None
            assert view.issuing
            assert view.channel.amount < action.target_amount <= view.channel.balance + pool.channel.max
            last = view.channel.last_claim_time(pool.life_margin)
            assert last is None or last > NOW


@MANY
@given(cases())
def test_a_settlement_pays_exactly_what_is_owed(case: Case) -> None:
    for _, view, _, action in acted(case, decide(case.world, case.policy)):
        if isinstance(action, SettleChannel):
            assert view.channel.balance < action.target_balance
            assert action.target_balance == min(view.authorized, view.channel.amount)
            assert view.channel.phase(RippleTime(NOW)) is not Phase.EXPIRED


@MANY
@given(cases())
def test_a_channel_is_closed_only_for_a_reason_and_finalized_only_strictly_past_its_deadline(case: Case) -> None:
    for group, view, pool, action in acted(case, decide(case.world, case.policy)):
        deadline = view.channel.deadline
        if isinstance(action, FinalizeClose):
            assert deadline is not None
            assert deadline < NOW
        if isinstance(action, RequestClose):
            assert view.channel.phase(RippleTime(NOW)) is Phase.OPEN
            last = view.channel.last_claim_time(pool.life_margin)
            over = last is not None and last <= NOW
            used = max(view.last_claim_at, view.opened_at)
            patience = max(pool.close.idle, 0 if view.authorized else UNUSED_GRACE_S)
            idle = NOW - used >= patience and NOW - view.opened_at >= pool.close.min_age and group.wanted == 0
            assert not view.issuing or over or idle


@MANY
@given(cases())
def test_what_is_in_flight_or_cools_down_is_not_touched_and_a_lagging_ledger_stops_all_that_can_wait(
    case: Case,
) -> None:
    decision = decide(case.world, case.policy)
    lags = case.world.lag_s > case.policy.guards.ledger_lag
    assert not lags or all(view.channel.deadline for _, view, _, _ in acted(case, decision))
    for _, view, _, _ in acted(case, decision):
        assert view.pending is None
        payable = view.channel.unredeemed(view.authorized) and view.channel.phase(RippleTime(NOW)) is not Phase.EXPIRED
        assert view.retry_at is None or view.retry_at <= NOW or (payable and view.channel.deadline is not None)


@MANY
@given(cases(), st.booleans())
def test_what_an_end_would_forfeit_is_paid_as_deadline_work_where_nothing_is_in_flight(
    case: Case, frozen: bool
) -> None:
    """So what gives way to it is not decided again, and what comes in its place gives way to nothing."""
    groups = []
    for group in case.world.groups:
        views = tuple(replace(v, pending=None, retry_at=None, failed_at=None) for v in group.channels)
        groups.append(replace(group, channels=views))
    halted = frozenset(case.world.wallets if frozen else ())
    decision = decide(replace(case.world, groups=tuple(groups), halted=halted), case.policy)
    planned = {getattr(p.intent.action, "channel_id", ""): p.intent for p in decision.planned}
    for group in groups:
        pool = case.policy.pools.get(group.pool)
        for view in group.channels if pool and pool.wallet in case.world.wallets else ():
            if view.channel.forfeits(view.authorized, pool.life_margin, RippleTime(NOW)):
                intent = planned[view.channel.channel_id]
                event(f"{intent.action.kind.value} {intent.reason}")
                assert intent.deadline
                assert intent.action.kind in (Kind.SETTLE, Kind.REQUEST_CLOSE)


@MANY
@given(cases())
def test_what_is_owed_on_a_live_channel_is_paid_when_it_is_worth_it_or_too_old(case: Case) -> None:
    """Unless the channel is funded or closed first, or cools down: nothing owed is just forgotten."""
    decision = decide(case.world, case.policy)
    left = {h.subject: h for h in decision.holds}
    for group in case.world.groups:
        pool = case.policy.pools.get(group.pool)
        for view in group.channels:
            hold = left.get(view.channel.channel_id)
            if pool is None or hold is None or hold.reason is not Reason.WITHIN_BAND:
                continue
            owed = view.channel.unredeemed(view.authorized)
            assert owed < pool.settle.worth
            if owed and view.unredeemed_since is not None:
                assert view.unredeemed_since + pool.settle.max_age > NOW


@MANY
@given(cases())
def test_a_hold_that_names_a_moment_names_one_to_come(case: Case) -> None:
    for hold in decide(case.world, case.policy).holds:
        assert hold.until is None or hold.until > NOW


# --- an end that comes nearer while a failure cools down -------------------------------------------------------------

FAILED = 10_000
"""The close time at which the first payout failed."""


def attempts(failures: int, asked: int, left: int, spacing: int, *, by_cancel: bool) -> list[int]:
    """When a payout is tried once a channel's end is set, if every try fails a ledger after it was decided.

    It had failed so often before; its end is set `asked` seconds after the first failure, and is `left` seconds away
    then. It is decided when a decision said to look again, and when its end is set.
    """
    end, terms = FAILED + asked + left, replace(case_of(1).policy, pools={"p": pool_of(settle_delay=1)})
    setback = cooled(Setback("", failures - 1, None, refused=False), "", RippleTime(FAILED))
    now, tried = FAILED, list[int]()
    while now < end:
        known = by_cancel or now >= FAILED + asked
        ending = channel(settle_delay=1, **{"cancel_after" if by_cancel else "expiration": end if known else None})
        view = ChannelView(ending, 50, False, "a", *(NOW,) * 3, None, setback.retry_at, failed_at(setback))
        world = replace(case_of(1).world, close_time=RippleTime(now), lag_s=0.0, groups=(group_of("p", view),))
        decision = decide(world, terms)
        for planned in decision.planned:
            action = planned.intent.action
            assert isinstance(action, SettleChannel | RequestClose)
            tried.append(now)
            failed = Outcome(Status.FAILED, Drops(0), "tecPATH_DRY")
            setback = setback_after(setback, action, failed, RippleTime(now + spacing))
        moments = [until for hold in decision.holds if (until := hold.until) is not None] or [now + spacing]
        look = min(moments) if known else min(*moments, FAILED + asked)
        now += spacing * max(1, -(-(look - now) // spacing))
    return [moment for moment in tried if moment >= FAILED + asked]


@MANY
@given(
    st.integers(1, 14),
    st.one_of(st.just(0), st.integers(0, 2 * LONGEST_RETRY_S)),
    st.one_of(st.integers(20, 120), st.integers(20, 2 * LONGEST_RETRY_S)),
    st.integers(3, 10),
    st.booleans(),
)
def test_an_owed_payout_is_tried_again_before_the_channel_ends_however_often_it_failed(
    failures: int, asked: int, left: int, spacing: int, by_cancel: bool
) -> None:
    """In time for a ledger that still pays, again and again until the end, and not with every ledger."""
    end, tried = FAILED + asked + left, attempts(failures, asked, left, spacing, by_cancel=by_cancel)
    event(f"{len(tried)} attempts")
    assert tried, "the end came while it cooled down"
    assert end - tried[-1] <= 4 * spacing
    assert len(tried) <= 2 * (left.bit_length() + 1) + LONGEST_RETRY_S.bit_length()


def test_once_the_channel_has_ended_failures_cool_down_in_full() -> None:
    """There is nothing left to be late for: what remains is deleted when it may be, with ever longer pauses."""
    ended = channel(expiration=NOW - 1)
    view = ChannelView(ended, 50, False, "a", NOW, NOW, NOW, None, RippleTime(NOW + 3000), RippleTime(NOW - 600))
    world = replace(case_of(1).world, lag_s=0.0, groups=(group_of("p", view),))
    decision = decide(world, replace(case_of(1).policy, pools={"p": pool_of()}))
    assert decision.planned == ()
    assert next((h.reason, h.until) for h in decision.holds) == (Reason.COOLDOWN, NOW + 3000)


# --- a channel that nobody came for yet ------------------------------------------------------------------------------


@given(st.integers(1, 2 * UNUSED_GRACE_S), st.integers(0, 3 * UNUSED_GRACE_S), st.booleans())
def test_a_channel_that_was_never_used_waits_for_its_server_whatever_idle_says(idle: int, age: int, used: bool) -> None:
    opened = RippleTime(NOW - age)
    view = ChannelView(channel(), 50 if used else 0, True, "a", opened, opened, None, None, None, None)
    world = replace(case_of(1).world, lag_s=0.0, groups=(group_of("p", view),))
    terms = replace(pool_of(), close=CloseTerms(Seconds(idle), Seconds(0)), fund=FundTerms(*map(Drops, (0, 1)), *SHORT))
    decision = decide(world, replace(case_of(1).policy, pools={"p": terms}))
    closes = [p for p in decision.planned if isinstance(p.intent.action, RequestClose)]
    assert bool(closes) == (age >= (idle if used else max(idle, UNUSED_GRACE_S)))
    assert all(h.until is None or h.until > NOW for h in decision.holds)


SHORT = (Seconds(0), Seconds(1))


def pool_of(*, settle_delay: int = 10) -> Pool:
    """A pool that pays and closes in its own good time."""
    return Pool(
        "p", "hot", Seconds(settle_delay), None, Seconds(0), ChannelShape(Drops(1), Drops(100), 1),
        FundTerms(Drops(0), Drops(1), *SHORT), SettleTerms(Drops(10**6), Seconds(10**6)),
        CloseTerms(Seconds(10**6), Seconds(0)),
    )  # fmt: skip


def group_of(pool: str, *views: ChannelView) -> GroupView:
    return GroupView(pool, views[0].channel.payee, "a", views, 0, 0, Rate(0, RippleTime(NOW)))
