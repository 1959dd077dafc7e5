"""What the policy language says and the engine does not do yet: a daemon refuses it, and so never does less."""

from __future__ import annotations

from collections.abc import Iterator

from channeld.core.policy import Policy
from channeld.core.vocabulary import Concern, Mode
from channeld.settings.lines import Path as Key

_REMEDY = "take it out until the engine does"


def unbuilt(policy: Policy) -> Iterator[tuple[Key, str, str]]:
    """Key, problem and remedy of each part that a daemon would not act on."""
    for concern in Concern:
        if policy.chain(concern):
            yield (concern.value, "rule"), "rules are not acted on yet", _REMEDY
        if policy.mode(concern) is not Mode.APPLY:
            yield ("policy", "mode"), "only apply is acted on yet", _REMEDY
    parts = {"tiers": policy.tiers, "budgets": policy.budgets, "override": policy.overrides}
    for key, part in parts.items():
        if part:
            yield (key,), "is not acted on yet", _REMEDY
    guards = policy.guards
    for key, value in (("max_closes_per_hour", guards.max_closes_per_hour), ("freeze_if", guards.freeze_if)):
        if value:
            yield ("guards", key), "is not acted on yet", _REMEDY
    for pool in policy.pools.values():
        if pool.channel.spare:
            yield ("pools", pool.name, "channel", "spare"), "is not acted on yet", _REMEDY
        if pool.fund.runway_high is not None:
            yield ("pools", pool.name, "runway", "high"), "is not acted on yet", _REMEDY
