"""What would be answered about a subject now: decided anew from what the daemon knows, and not acted on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from channeld.app.links import told_link
from channeld.core.collecting import collect
from channeld.core.decide import decide
from channeld.core.history import Answered, Moment, Told, answered, collected, left_alone, subject_of_hold
from channeld.core.inputs import inputs_of
from channeld.core.outcome import subject_of
from channeld.core.records import Incoming
from channeld.core.units import ChannelId
from channeld.core.world import Decision
from channeld.service.holdings import Group
from channeld.service.outlook import foreseen, world_of

if TYPE_CHECKING:
    from channeld.app.daemon import Daemon


def present(daemon: Daemon, answer: Mapping[str, Any]) -> dict[str, Any] | None:
    """The link that would be added to the chain of a channel or payee now; None for any other, or before a ledger."""
    mirror = daemon.mirror
    if mirror.header is None:
        return None
    if answer["subject"] == "channel":
        if (held := mirror.vault.channels.get(ChannelId(answer["channel_id"]))) is not None:
            return told_link(_collecting_now(daemon, held), None)
        state = mirror.channels.get(ChannelId(answer["channel_id"]))
        group, subject = (state.group, answer["channel_id"]) if state else (None, "")
    elif answer["subject"] == "payee":
        mine = [g for g in mirror.groups.values() if str(g.payee) == answer["payee"]]
        group = min(mine, key=lambda g: g.user, default=None)  # the shared one where there is one
        subject = f"{group.pool}/{group.subject}" if group else ""
    else:
        return None
    if group is None:
        return None
    told = told_now(daemon, [group], subject)
    return None if told is None else told_link(told, None)


def _collecting_now(daemon: Daemon, held: Incoming) -> Told:
    """The answer about a channel that pays us as of now."""
    mirror, (seen,) = daemon.mirror, daemon.collector.seen([held])
    assert mirror.header is not None
    policy, ledger, now = mirror.policy, mirror.header.index, mirror.header.close_time
    said, payee = collected(held.channel.channel_id, collect(seen, policy, now)), str(held.channel.payee)
    inputs = inputs_of(Moment(ledger, now, policy, (seen.wallet,), payee, (said,), collecting=seen), said)
    return Told(0, ledger, now, seen.wallet, payee, policy.hash, said, inputs)


def told_now(daemon: Daemon, groups: list[Group], subject: str) -> Told | None:
    """The answer about one subject of these groups as of now."""
    mirror, policy = daemon.mirror, daemon.mirror.policy
    assert mirror.header is not None
    now, half_life = mirror.header.close_time, policy.guards.demand_half_life
    views = tuple(foreseen(mirror, group, now, half_life) for group in groups)
    world = replace(world_of(mirror, daemon.planner.spending, groups, daemon.monotonic()), groups=views)
    for where, said in answers_of(decide(world, policy)):
        if said.subject == subject:
            view = next(v for v in views if v.key == where)
            ledger, payee = mirror.header.index, str(view.payee)
            inputs = inputs_of(Moment(ledger, now, policy, where, payee, (said,), world, view), said)
            return Told(0, ledger, now, "/".join(where), payee, policy.hash, said, inputs)
    return None


def answers_of(decision: Decision) -> list[tuple[tuple[str, str], Answered]]:
    """Every answer of a decision with its group, wishes in the place of the holds that keep them back."""
    wishes = {subject_of(wish.intent.action): wish.intent for wish in decision.suggested}
    found = [(p.group, answered(p.intent, subject_of(p.intent.action), number=None)) for p in decision.planned]
    return found + [(hold.group, left_alone(hold, wishes.get(subject_of_hold(hold)))) for hold in decision.holds]
