"""What a decision was based on, as a person reads it: named facts of one subject, and the terms they were held against.

Numbers are drops, seconds, counts and millionths, as in `core.vocabulary`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from channeld.core.chains import Bench
from channeld.core.collecting import Collecting, facts, verdict_of
from channeld.core.early_ends import counted
from channeld.core.history import Answered, Moment
from channeld.core.intents import Kind
from channeld.core.policy import Policy
from channeld.core.rules import Value
from channeld.core.units import RippleTime
from channeld.core.vocabulary import FOREVER_S, Concern
from channeld.core.world import ChannelView, GroupView, World

Inputs = dict[str, object]
CONCERNS: Final = {
    Kind.OPEN: Concern.OPEN,
    Kind.FUND: Concern.FUND,
    Kind.SETTLE: Concern.SETTLE,
    Kind.REQUEST_CLOSE: Concern.CLOSE,
    Kind.FINALIZE_CLOSE: Concern.CLOSE,
    Kind.REDEEM: Concern.REDEEM,
}
"""Which chain of rules each kind of intent comes from."""
_OF_CHANNEL: Final = (Concern.CLOSE, Concern.FUND, Concern.SETTLE)


def inputs_of(moment: Moment, said: Answered) -> Inputs:
    """The facts that an answer was given on, and the `terms`. What is not known, or does not apply, is left out."""
    if moment.collecting is not None:
        return _known(_collecting(moment.collecting, moment.close_time, moment.policy))
    assert moment.world is not None
    assert moment.group is not None
    views = moment.group.channels
    view = next((v for v in views if v.channel.channel_id == said.subject), None)
    concerns = (CONCERNS[said.kind],) if said.kind else (_OF_CHANNEL if view else (Concern.OPEN,))
    return _known(facts_of(moment.world, moment.policy, moment.group, view, concerns))


def facts_of(
    world: World, policy: Policy, group: GroupView, view: ChannelView | None, concerns: tuple[Concern, ...]
) -> Inputs:
    """The facts of a channel, or (None) of its payee, and the terms of these concerns."""
    pool = policy.pools.get(group.pool)
    more: Inputs = {"opening": group.opening or None, "retry_at": view.retry_at if view else group.retry_at}
    if view is None:
        more["early_ends"] = counted(group.early_ends, policy.guards.early_ends, world.close_time) or None
    if pool is None or pool.wallet not in world.wallets:
        return {"wanted": group.wanted, "channels": len(group.channels), **more, **_channel(view, world.close_time)}
    spendable = world.wallets[pool.wallet].spendable(world.fees, policy.guards)
    bench = Bench(world, policy, pool, group)
    facts: Inputs = {**bench.facts(view, spendable), "spendable": spendable}
    if facts.get("runway") == FOREVER_S:
        del facts["runway"]
    rules = {c: bench.verdict(c, view, spendable=spendable).settings for c in concerns}
    return {**facts, **more, **_channel(view, world.close_time), "terms": _terms(rules)}


def _terms(rules: Mapping[Concern, Mapping[str, Value]]) -> Inputs:
    """Settings as the rules have laid them, by concern and name; a band as [low, target, high]."""
    found: Inputs = {}
    for concern, settings in rules.items():
        for name, value in settings.items():
            shown = value if isinstance(value, int) else [value.low, value.target, value.high]
            found[f"{concern.value}.{name}"] = shown
    return found


def _channel(view: ChannelView | None, now: RippleTime) -> Inputs:
    if view is None:
        return {}
    channel = view.channel
    return {
        "amount": channel.amount,
        "balance": channel.balance,
        "authorized": view.authorized,
        "issuing": view.issuing,
        "in_flight": view.pending.value if view.pending else None,
        "ends_in": None if channel.deadline is None else channel.deadline - now,
    }


def _collecting(seen: Collecting, now: RippleTime, policy: Policy) -> Inputs:
    held = seen.held
    channel = held.channel
    terms = _terms({Concern.REDEEM: verdict_of(seen, policy, now).settings})
    return {
        **facts(seen, now),
        "amount": channel.amount,
        "balance": channel.balance,
        "held": held.held,
        "unredeemed": held.unredeemed,
        "collectable": held.collectable,
        "unredeemed_age": None if held.held_since is None else max(0, now - held.held_since),
        "ends_in": None if channel.deadline is None else channel.deadline - now,
        "in_flight": seen.in_flight or None,
        "retry_at": seen.retry_at,
        "server": held.server or None,
        "wallet": seen.wallet or None,
        "terms": {**terms, "redeem.before_end": policy.receive.before_end},
    }


def _known(facts: Inputs) -> Inputs:
    return {name: value for name, value in facts.items() if value is not None}
