"""What the policy language says and the engine does not do yet: a daemon refuses it, and so never does less."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from channeld.core.policy import Policy
from channeld.core.rules import Rule
from channeld.core.vocabulary import Concern
from channeld.settings.lines import Path as Key

FACTS: Final = frozenset({"return_probability", "demand_error"})
"""Facts that are never known yet: a rule that asks for one would never hold."""
SETTINGS: Final = frozenset({"horizon", "quantile"})
_REMEDY: Final = "take it out until the engine does"
_NOT_YET: Final = "is not acted on yet"

Found = Iterator[tuple[Key, str, str]]


def unbuilt(policy: Policy) -> Found:
    """Key, problem and remedy of each part that a daemon would not act on."""
    for concern in Concern:
        for rule in policy.chain(concern):
            for words in _of_rule(rule):
                yield (concern.value, "rule"), f"rule {rule.name}: {words} {_NOT_YET}", _REMEDY


def _of_rule(rule: Rule) -> Iterator[str]:
    yield from (f"match.{fact}" for fact in rule.match if fact in FACTS)
    yield from (f"set.{setting}" for setting in rule.set if setting in SETTINGS)
