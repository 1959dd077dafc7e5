"""What would be done now, why not the rest, and what it would take: everything decided as one, and nothing of it done.

The views of all groups are taken in slices between which the daemon goes on, and decided in a thread: claims are issued
meanwhile, so two slices may be a moment apart.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from channeld.app.links import spoken
from channeld.app.present import answers_of
from channeld.core.account import Account
from channeld.core.budgets import Purse
from channeld.core.collecting import Collecting, Wait, collect_all
from channeld.core.decide import decide
from channeld.core.docket import held_by_freeze
from channeld.core.errors import Refused
from channeld.core.history import Answered, collected
from channeld.core.intents import Action, FundChannel, Intent, Kind, OpenChannel
from channeld.core.policy import Policy
from channeld.core.reasons import why
from channeld.core.units import ChannelId, Drops, RippleTime, to_unix
from channeld.core.world import Decision, GroupView, Planned, World
from channeld.service.outlook import foreseen, incoming_of, world_of
from channeld.service.spending import Spending

if TYPE_CHECKING:
    from channeld.app.daemon import Daemon
    from channeld.service.mirror import Mirror

_SLICE: Final = 500
_NAMED: Final = 5
"""Subjects named of each reason; the rest is counted."""
MOST: Final = 1000
"""Actions and differences listed; the rest is counted."""
_Where = tuple[str, str]
Collected = tuple[Collecting, Intent | Wait]


@dataclass(frozen=True, slots=True)
class _Plan:
    """A policy, the world that was decided on, and what came of it; what is collected is of no pool.

    `locks` are the drops that each intent locks, `receiving` is how many channels pay us.
    """

    policy: Policy
    world: World
    planned: Sequence[Planned]
    answers: Sequence[tuple[_Where, Answered]]
    locks: Sequence[int]
    receiving: int

    def takes(self) -> list[tuple[Planned, Mapping[Purse, int]]]:
        """What each intent takes at worst: fee, capital and reserve, in drops."""
        account = Account(self.world, self.policy)
        found = []
        for planned, drops in zip(self.planned, self.locks, strict=True):
            kind, urgent = planned.intent.action.kind, planned.intent.deadline
            fee = account.fee(kind, ends=urgent or kind is Kind.REDEEM)
            found.append((planned, account.costs(kind, drops, fee)))
        return found


async def plan(daemon: Daemon, candidate: Policy | None) -> dict[str, Any]:
    """The plan of the policy in force; with a candidate, also the candidate's, and where they differ."""
    header = daemon.mirror.header
    if header is None:
        raise Refused("no validated ledger was processed yet: there is nothing to decide on")
    views = await _views(daemon, header.close_time)
    policies = (daemon.mirror.policy, *([candidate] if candidate else []))
    worlds = [_world(daemon, policy, views) for policy in policies]  # both of one moment
    plans = [await _decided(daemon, policy, world) for policy, world in zip(policies, worlds, strict=True)]

    def tell() -> dict[str, Any]:
        told = _told(plans[0])
        return told if candidate is None else {**told, "candidate": _told(plans[1]), **_differences(*plans)}

    return {
        "ledger": header.index,
        "close_time_unix": to_unix(header.close_time),
        "groups": len(views),
        "channels": sum(len(view.channels) for view in views),
        "receiving": plans[0].receiving,
        **await asyncio.to_thread(tell),
    }


async def _views(daemon: Daemon, now: RippleTime) -> tuple[GroupView, ...]:
    """All groups as they would be shown, some hundred in a turn of the loop."""
    mirror, views = daemon.mirror, list[GroupView]()
    groups = list(mirror.groups.values())
    for start in range(0, len(groups), _SLICE):
        half_life = mirror.policy.guards.demand_half_life
        views += [foreseen(mirror, group, now, half_life) for group in groups[start : start + _SLICE]]
        await asyncio.sleep(0)
    return tuple(views)


def _world(daemon: Daemon, policy: Policy, views: tuple[GroupView, ...]) -> World:
    """The world as a policy would be asked about these groups."""
    mirror, (shown, spending) = daemon.mirror, _under(daemon, policy)
    nobody, servers = world_of(shown, spending, (), daemon.monotonic()), mirror.server_views(mirror.grants)
    return replace(nobody, groups=views, servers=servers, locked=mirror.locked.everything())


async def _decided(daemon: Daemon, policy: Policy, world: World) -> _Plan:
    """What a policy would do in this world, and with what pays us."""
    mirror, decision = daemon.mirror, await asyncio.to_thread(decide, world, policy)
    incoming = await asyncio.to_thread(collect_all, await _seen(daemon, policy), policy, world.close_time)
    sifted = mirror.sift(decision.planned)
    return await asyncio.to_thread(_made, policy, world, decision, sifted, incoming)


def _under(daemon: Daemon, policy: Policy) -> tuple[Mirror, Spending]:
    """The mirror as it would be under a policy, and what its budgets have used: all is shared, nothing is changed."""
    shown = copy(daemon.mirror)
    shown.policy = policy
    in_force = policy is daemon.mirror.policy
    return shown, daemon.planner.spending if in_force else Spending(shown, daemon.store.outlays)


async def _seen(daemon: Daemon, policy: Policy) -> list[Collecting]:
    """Every channel that pays us as it would be decided about under a policy."""
    (shown, spending), found = _under(daemon, policy), list[Collecting]()
    channels = list(daemon.mirror.vault.channels.values())
    for start in range(0, len(channels), _SLICE):
        part = channels[start : start + _SLICE]
        found += incoming_of(shown, spending, part, daemon.collector.in_flight, daemon.monotonic())
        await asyncio.sleep(0)
    return found


def _made(
    policy: Policy,
    world: World,
    decision: Decision,
    sifted: tuple[list[Planned], list[Planned]],
    incoming: Sequence[Collected],
) -> _Plan:
    """The plan that a decision is, once what the wallets' freezes keep back is left alone; and what is collected."""
    free, kept = sifted
    shown = Decision(tuple(free), (*decision.holds, *map(held_by_freeze, kept)), (*decision.suggested, *kept))
    held = {v.channel.channel_id: v.channel.amount for group in world.groups for v in group.channels}
    free += [Planned(_of(seen), intent) for seen, intent in incoming if isinstance(intent, Intent)]
    answers = answers_of(shown)
    answers += [(_of(seen), collected(seen.held.channel.channel_id, answer)) for seen, answer in incoming]
    return _Plan(policy, world, free, answers, [_locks(p.intent.action, held) for p in free], len(incoming))


def _of(seen: Collecting) -> _Where:
    """What names a channel that pays us: no pool, and the account of ours."""
    return ("", str(seen.held.channel.payee))


def _locks(action: Action, held: Mapping[ChannelId, Drops]) -> int:
    """Drops that an action puts into channels."""
    if isinstance(action, OpenChannel):
        return action.amount
    return action.target_amount - held[action.channel_id] if isinstance(action, FundChannel) else 0


# --- telling ---------------------------------------------------------------------------------------------------------


def _told(made: _Plan) -> dict[str, Any]:
    done = [(where, said) for where, said in made.answers if not said.reason]
    would = [(where, said) for where, said in made.answers if said.reason and said.kind is not None]
    return {
        "policy_hash": made.policy.hash,
        "counts": _counts(done),
        "do": [_listed(where, said) for where, said in done[:MOST]],
        "would": [_listed(where, said) for where, said in would[:MOST]],
        "left_alone": _left_alone(made.answers),
        "costs": _costs(made),
        "wallets": _wallets(made),
        "budgets": _budgets(made),
    }


def _listed(where: _Where, said: Answered) -> dict[str, Any]:
    return {"pool": where[0] or None, "payee": where[1], "subject": said.subject, **spoken(said)}


def _counts(done: Sequence[tuple[_Where, Answered]]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for _, said in done:
        assert said.kind is not None
        counts[said.kind.value] = counts.get(said.kind.value, 0) + 1
    return counts


def _left_alone(answers: Sequence[tuple[_Where, Answered]]) -> dict[str, Any]:
    """Why not the rest: by reason how many, and some of them."""
    subjects: dict[str, list[str]] = {}
    for _, said in answers:
        if said.reason:
            subjects.setdefault(said.reason, []).append(said.subject)
    return {
        reason: {"count": len(found), "why": why(reason, done=False), "subjects": found[:_NAMED]}
        for reason, found in sorted(subjects.items(), key=lambda item: -len(item[1]))
    }


def _costs(made: _Plan) -> dict[str, Any]:
    """What all of it takes: the worst case that is set aside, and the fees as the network asks them now."""
    sums = dict.fromkeys(Purse, 0)
    for _, takes in made.takes():
        for purse, drops in takes.items():
            sums[purse] += drops
    asked = made.world.network_fee
    return {
        "fees_at_worst": str(sums[Purse.FEES]),
        "fees_now": None if asked is None else str(asked * len(made.planned)),
        "capital": str(sums[Purse.CAPITAL]),
        "reserve": str(sums[Purse.RESERVE]),
    }


def _wallets(made: _Plan) -> dict[str, Any]:
    """Each wallet before and after, as if all were done at its worst case."""
    world, guards, told = made.world, made.policy.guards, {}
    for name, wallet in sorted(world.wallets.items()):
        mine = [(p, takes) for p, takes in made.takes() if p.intent.action.wallet == name]
        opens = sum(p.intent.action.kind is Kind.OPEN for p, _ in mine)
        locks = sum(takes[Purse.CAPITAL] for _, takes in mine)
        drops = locks + sum(takes[Purse.FEES] for _, takes in mine)
        drawn = sum(takes[Purse.FEES] for p, takes in mine if p.intent.deadline)
        owned = wallet.account.owner_count + wallet.committed_objects
        after = wallet.spendable(world.fees, guards, drops=drops, objects=opens, drawn=drawn)
        locked = _locked(made, name)
        told[name] = {
            "spendable": _step(wallet.spendable(world.fees, guards), after),
            "reserve": _step(world.fees.reserve(owned), world.fees.reserve(owned + opens)),
            "in_channels": _step(locked, locked + locks),
            "deadline_purse": _step(wallet.purse, wallet.purse - drawn),
        }
    return told


def _locked(made: _Plan, wallet: str) -> int:
    """Drops that a wallet's channels hold and that were not paid out."""
    pools = {name for name, pool in made.policy.pools.items() if pool.wallet == wallet}
    return sum(v.channel.remaining for group in made.world.groups if group.pool in pools for v in group.channels)


def _budgets(made: _Plan) -> dict[str, Any]:
    """Each budget before and after, everything in flight and all of this at its worst."""
    told = {}
    for budget in made.policy.budgets:
        mine = [(p, t) for p, t in made.takes() if budget.bounds(budget.purse, p.group[0])]
        takes = sum(t[budget.purse] for p, t in mine if budget.purse is not Purse.FEES or not p.intent.deadline)
        left = budget.limit - made.world.used.get(budget.name, 0)
        told[budget.name] = {
            "purse": budget.purse.value,
            "limit": str(budget.limit),
            "window_s": budget.window,
            "takes": str(takes),
            "left": _step(left, left - takes),
        }
    return told


def _step(before: int, after: int) -> dict[str, str]:
    return {"before": str(before), "after": str(after)}


# --- two policies ----------------------------------------------------------------------------------------------------


def _differences(ours: _Plan, theirs: _Plan) -> dict[str, Any]:
    """What is answered otherwise: the same subject under both."""
    before = {(where, said.subject): said for where, said in ours.answers}
    after = {(where, said.subject): said for where, said in theirs.answers}
    differing = [key for key in sorted(before.keys() | after.keys()) if not same(before.get(key), after.get(key))]
    listed = [
        {
            "pool": where[0] or None,
            "payee": where[1],
            "subject": subject,
            "in_force": spoken(old) if (old := before.get((where, subject))) else None,
            "candidate": spoken(new) if (new := after.get((where, subject))) else None,
        }
        for where, subject in differing[:MOST]
    ]
    return {"differing": len(differing), "differences": listed}


def same(one: Answered | None, other: Answered | None) -> bool:
    """Whether two answers come to the same: what is done and how far, or why nothing is."""
    if one is None or other is None:
        return one is other
    return (one.kind, one.because, one.reason, one.target) == (other.kind, other.because, other.reason, other.target)
