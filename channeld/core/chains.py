"""What the policy says about one subject: the facts it is asked by, the rules that hold, and what stands above them.

Above every rule stand, in this order, a person's overrides, the policy's freezes and the mode. None of them holds back
what has a deadline; whoever decides asks `Bench.above` only for what has none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from channeld.core.policy import Policy, Pool, Scope
from channeld.core.rules import RECHECK_S, Band, Known, Value, changes_in, doubts, evaluate
from channeld.core.units import DAY_S, RippleTime
from channeld.core.vocabulary import FOREVER_S, HOLD, LEARNT, PPM, VOCABULARY, Concern, Mode
from channeld.core.world import ChannelView, GroupView, Reason, World

NOTICE_S: Final = DAY_S
"""How long before a close content servers are told, where no rule says."""
_FREEZES: Final = {
    "ledger_lag": Reason.FROZEN_LAG,
    "reconcile_difference": Reason.FROZEN_RECONCILE,
    "network_fee_drops": Reason.FEE_CLIMATE,
}


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the rules say of one subject in one concern. `act` is None where none decided: the pool's terms do.

    `path` names the rules that held as `concern/rule`.
    """

    concern: Concern
    act: str | None
    settings: Mapping[str, Value]
    path: tuple[str, ...]
    facts: Mapping[str, Known]

    def number(self, setting: str) -> int:
        """A setting that is a number; 0 where nobody set it."""
        value = self.settings.get(setting, 0)
        assert isinstance(value, int)
        return value

    def band(self, setting: str) -> Band:
        """A setting that is a band."""
        value = self.settings[setting]
        assert isinstance(value, Band)
        return value


@dataclass(frozen=True, slots=True)
class Stop:
    """Something that stands above the rules: why, and until when, None where nobody knows."""

    reason: Reason
    until: RippleTime | None = None


class Climate(Protocol):
    """What freezes look at: how old the last validated ledger is, what the network asks, how far the books are off."""

    @property
    def lag_s(self) -> float: ...
    @property
    def network_fee(self) -> int | None: ...
    @property
    def difference(self) -> int: ...


class Bench:
    """The policy, applied to the subjects of one group."""

    def __init__(self, world: World, policy: Policy, pool: Pool, group: GroupView) -> None:
        self._world, self._policy, self._pool, self._group = world, policy, pool, group
        self._base = base_settings(pool, own=bool(group.user))
        self._freeze = frozen_by(world, policy)
        self._known: dict[str, dict[str, Known]] = {}

    def verdict(self, concern: Concern, view: ChannelView | None, *, spendable: int) -> Verdict:
        """What the rules say of a channel, or (None) of the payee."""
        return ruled(self._policy, concern, self._base[concern], lambda: self.facts(view, spendable))

    def again(self, verdict: Verdict, otherwise: str = HOLD) -> int | None:
        """The close time at which the rules may say something else of the same facts, None: never."""
        return changes_at(self._policy, verdict, self._world.close_time, otherwise)

    def doubts(self, verdict: Verdict) -> bool:
        """Whether no rule acts only because too little was learnt yet."""
        return doubts(self._policy.chain(verdict.concern), verdict.facts, LEARNT)

    def above(self, concern: Concern, view: ChannelView | None) -> Stop | None:
        """What holds a concern back for a subject, whatever the rules say; None: nothing does."""
        group, server = self._group, view.server if view else self._group.server
        channel_id = view.channel.channel_id if view else None

        def meant(scope: Scope) -> bool:
            payee = str(group.payee)
            return scope.fits(channel_id=channel_id, payee=payee, server=server, pool=group.pool, tier=group.tier)

        return above(self._policy, concern, self._world.close_time, self._freeze, meant)

    # --- facts --------------------------------------------------------------------------------------------------------

    def facts(self, view: ChannelView | None, spendable: int) -> dict[str, Known]:
        """What rules may ask about a channel, or (None) the payee; None where it is not known."""
        key = view.channel.channel_id if view else ""
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = self._payee_facts(view) | (self._channel_facts(view) if view else {})
        return {**known, "spendable": max(0, spendable)}

    def _payee_facts(self, view: ChannelView | None) -> dict[str, Known]:
        group, pool, fee = self._group, self._pool, self._world.network_fee
        return {
            "wanted": group.wanted,
            "channels": len(group.channels),
            "demand": group.rate.need(DAY_S),
            "demand_error": group.rate.error,
            "network_fee_drops": fee,
            "pool": pool.name,
            "region": pool.regions[0] if len(pool.regions) == 1 else None,
            "tier": group.tier,
            "server": view.server if view else group.server,
            "wallet": pool.wallet,
        }

    def _channel_facts(self, view: ChannelView) -> dict[str, Known]:
        now, channel, fee = self._world.close_time, view.channel, self._world.network_fee
        owed, headroom, rate = channel.unredeemed(view.authorized), channel.headroom(view.authorized), self._group.rate
        since = view.unredeemed_since if owed else None
        return {
            "headroom": headroom,
            "runway": rate.lasts(headroom, FOREVER_S),
            "unredeemed": owed,
            "unredeemed_age": 0 if since is None else max(0, now - since),
            "fee_ratio": None if fee is None or not owed else fee * PPM // owed,
            "remaining": channel.remaining,
            "idle": view.idle(now),
            "own_downtime": view.away,
            "age": max(0, now - view.opened_at),
            "return_probability": rate.returns,
        }


def ruled(
    policy: Policy, concern: Concern, settings: Mapping[str, Value], facts: Callable[[], Mapping[str, Known]]
) -> Verdict:
    """What the rules of a concern say of a subject, laid over these settings; its `facts` are asked for if need be."""
    chain = policy.chain(concern)
    if not chain:
        return Verdict(concern, None, settings, (), {})
    known = facts()
    answer = evaluate(chain, known, settings)
    path = tuple(f"{concern.value}/{rule}" for rule in answer.path)
    return Verdict(concern, answer.act, answer.settings, path, known)


def changes_at(policy: Policy, verdict: Verdict, now: RippleTime, otherwise: str) -> int | None:
    """The close time at which the rules may say something else of the same facts, None: never."""
    chain = policy.chain(verdict.concern)
    seconds = changes_in(chain, verdict.facts, VOCABULARY[verdict.concern].facts, otherwise) if chain else None
    return None if seconds is None else now + seconds


def above(
    policy: Policy, concern: Concern, now: RippleTime, freeze: Reason | None, meant: Callable[[Scope], bool]
) -> Stop | None:
    """What holds a concern back for a subject, whatever the rules say: overrides `meant` for it, `freeze`, the mode."""
    for override in policy.overrides:
        if concern in override.concerns and override.until > now and meant(override.scope):
            return Stop(Reason.OVERRIDE, override.until)
    if freeze is not None:
        return Stop(freeze, RippleTime(now + RECHECK_S))
    mode = policy.mode(concern)
    if mode is Mode.APPLY:
        return None
    return Stop(Reason.OBSERVED if mode is Mode.OBSERVE else Reason.SUGGESTED)


def frozen_by(world: Climate, policy: Policy) -> Reason | None:
    """Which guard or `freeze_if` of the policy holds, or None. What is not known freezes nothing."""
    if world.lag_s > policy.guards.ledger_lag:
        return Reason.FROZEN_LAG
    shown = {
        "ledger_lag": world.lag_s,
        "reconcile_difference": world.difference,
        "network_fee_drops": world.network_fee,
    }
    for condition in policy.guards.freeze_if:
        value = shown[condition.fact]
        if value is not None and value > condition.limit:
            return _FREEZES[condition.fact]
    return None


def base_settings(pool: Pool, *, own: bool = False) -> Mapping[Concern, Mapping[str, Value]]:
    """The settings that a pool's own terms give, over which rules lay theirs.

    A user with channels of his `own` has a spare in any case.
    """
    spare = max(pool.channel.spare, int(own))
    fund, runway = pool.fund, Band(pool.fund.runway_low, pool.fund.runway_target, pool.fund.runway_high)
    return {
        Concern.OPEN: {
            "amount": pool.channel.min,
            "max_per_payee": max(pool.channel.max_per_payee, 1 + spare),
            "runway": runway,
            "spare": spare,
        },
        Concern.FUND: {"headroom": Band(fund.low, fund.target), "runway": runway},
        Concern.SETTLE: {"worth": pool.settle.worth, "max_age": pool.settle.max_age},
        Concern.CLOSE: {
            "idle": pool.close.idle,
            "min_age": pool.close.min_age,
            "notice": NOTICE_S,
            "patience": 0,
        },
    }
