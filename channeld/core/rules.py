"""Chains of rules, and what they come to: matchers, layered settings, and the first act that applies.

A chain is read from its first rule to its last. A rule whose matchers all hold lays its settings over those so far; if
it has an act, that act is the answer and reading stops. A chain without an answer leaves it to the pool's own terms,
which are the built-in last rules of every chain (see `core.decide`).

`evaluate` is total: it gives exactly one answer for all facts. Of a fact that is not known no matcher holds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from channeld.core.vocabulary import HOLD, Clock, Fact

RECHECK_S: Final = 60
"""A fact that drifts unannounced is looked at again after so long, where an answer hangs on it."""

Known = int | str | None
"""The value of a fact: a number, a text, or None where it is not known."""


@dataclass(frozen=True, slots=True)
class Within:
    """Holds for numbers from `low` to `high`, both inclusive; None means no bound. Facts are 0 or more."""

    low: int | None = None
    high: int | None = None

    def holds(self, value: Known) -> bool:
        """Whether it holds; never for a text or for what is not known."""
        if not isinstance(value, int):
            return False
        return (self.low is None or value >= self.low) and (self.high is None or value <= self.high)

    @property
    def empty(self) -> bool:
        """Whether no number of 0 or more passes."""
        return self.high is not None and self.high < max(0, self.low or 0)

    @property
    def everything(self) -> bool:
        """Whether every number of 0 or more passes."""
        return self.high is None and (self.low or 0) <= 0

    def covers(self, other: Matcher) -> bool:
        """Whether all that passes `other` passes here, too."""
        if not isinstance(other, Within):
            return False
        low = (self.low or 0) <= (other.low or 0)
        return low and (self.high is None or (other.high is not None and other.high <= self.high))


@dataclass(frozen=True, slots=True)
class OneOf:
    """Holds for these words."""

    words: frozenset[str]

    def holds(self, value: Known) -> bool:
        """Whether it holds; never for a number or for what is not known."""
        return isinstance(value, str) and value in self.words

    @property
    def empty(self) -> bool:
        """Whether nothing passes."""
        return not self.words

    @property
    def everything(self) -> bool:
        """Never: there is always another word."""
        return False

    def covers(self, other: Matcher) -> bool:
        """Whether all that passes `other` passes here, too."""
        return isinstance(other, OneOf) and other.words <= self.words


Matcher = Within | OneOf


@dataclass(frozen=True, slots=True)
class Band:
    """A low mark, what to fill up to (above `low`), and what never to exceed (`target` or more; None: no such mark)."""

    low: int
    target: int
    high: int | None = None


Value = int | Band
"""The value of a setting."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule. Without an `act` it only lays its settings; `match` empty means always. Names differ in a chain."""

    name: str
    match: Mapping[str, Matcher] = field(default_factory=lambda: MappingProxyType({}))
    set: Mapping[str, Value] = field(default_factory=lambda: MappingProxyType({}))
    act: str | None = None

    def holds(self, facts: Mapping[str, Known]) -> bool:
        """Whether all its matchers hold."""
        return all(matcher.holds(facts.get(fact)) for fact, matcher in self.match.items())

    def failing(self, facts: Mapping[str, Known]) -> list[str]:
        """The facts whose matchers do not hold."""
        return [fact for fact, matcher in self.match.items() if not matcher.holds(facts.get(fact))]

    def shadows(self, later: Rule, facts: Mapping[str, Fact]) -> bool:
        """Whether this rule decides whenever `later` would hold, so that `later` is never reached.

        Decided from the intervals and words of each fact by itself, which is exact for two rules: their matchers are
        joined by "and", and no fact depends on another.
        """
        if self.act is None:
            return False
        for fact, matcher in self.match.items():
            known = facts[fact].always and matcher.everything
            if not known and (fact not in later.match or not matcher.covers(later.match[fact])):
                return False
        return True


@dataclass(frozen=True, slots=True)
class Answer:
    """What a chain came to. `act` is None where no rule decided; `path` names the rules that held, in their order.

    Where `act` is given, the last of `path` decided.
    """

    act: str | None
    settings: Mapping[str, Value]
    path: tuple[str, ...]


def evaluate(chain: Sequence[Rule], facts: Mapping[str, Known], settings: Mapping[str, Value]) -> Answer:
    """Read a chain for one subject. `settings` are those of its pool, over which the rules lay theirs."""
    laid, path = settings, []
    for rule in chain:
        if not rule.holds(facts):
            continue
        path.append(rule.name)
        if rule.set:
            laid = {**laid, **rule.set}
        if rule.act is not None:
            return Answer(rule.act, laid, tuple(path))
    return Answer(None, laid, tuple(path))


def doubts(chain: Sequence[Rule], facts: Mapping[str, Known], learnt: frozenset[str]) -> bool:
    """Whether a rule that would have acted was passed over only because something `learnt` is not known yet."""
    unknown = {fact for fact in learnt if facts.get(fact, 0) is None}
    for rule in chain if unknown else ():
        if rule.act is None or rule.act == HOLD:
            continue
        if not (failing := rule.failing(facts)):
            return False
        if unknown.issuperset(failing):
            return True
    return False


def changes_in(
    chain: Sequence[Rule], facts: Mapping[str, Known], kinds: Mapping[str, Fact], otherwise: str
) -> int | None:
    """Seconds (1 or more) after which the chain may answer otherwise though nothing happened; None: it will not.

    A fact that counts seconds crosses a bound at a known moment. One that drifts may do so at any time: it is looked at
    again after `RECHECK_S`, but only where the answer hangs on it. `otherwise` is what the pool's own terms say now.
    """
    moments: list[int] = []
    for rule in chain:
        moments += _by_the_clock(rule, facts, kinds)
        if rule.act is not None and rule.holds(facts):
            break
    if _hangs_on_drift(chain, facts, kinds, otherwise):
        moments.append(RECHECK_S)
    return min(moments, default=None)


def _by_the_clock(rule: Rule, facts: Mapping[str, Known], kinds: Mapping[str, Fact]) -> list[int]:
    """When a rule begins to hold, or ceases to, by time alone; drifting facts are taken to hold."""
    begins, ends = [0], []
    for fact, matcher in rule.match.items():
        clock, value = kinds[fact].clock, facts.get(fact)
        if clock is Clock.DRIFTS:
            continue
        if clock is Clock.STILL or not isinstance(value, int) or not isinstance(matcher, Within):
            if not matcher.holds(value):
                return []
            continue
        begin, end = _span(matcher, value, clock)
        if end is not None and end <= 0:
            return []
        begins.append(begin)
        ends += [end] if end is not None else []
    return [max(begins)] if max(begins) > 0 else ends


def _span(matcher: Within, value: int, clock: Clock) -> tuple[int, int | None]:
    """In how many seconds a value that moves a second each second comes into a matcher, and when it is out again."""
    low, high = matcher.low or 0, matcher.high
    if clock is Clock.GROWS:
        return low - value, None if high is None else high + 1 - value
    return 0 if high is None else value - high, value - low + 1 if low else None


def _hangs_on_drift(chain: Sequence[Rule], facts: Mapping[str, Known], kinds: Mapping[str, Fact], other: str) -> bool:
    """Whether the answer would be another, were the drifting facts other than they are."""
    answers: set[str] = set()
    for rule in chain:
        drifting = [fact for fact in rule.match if kinds[fact].clock is Clock.DRIFTS]
        if any(fact not in drifting for fact in rule.failing(facts)):
            continue
        if rule.act is None:
            answers |= {other, "settings"} if drifting else set()
            continue
        answers.add(rule.act)
        if not drifting:
            return len(answers) > 1
    return len(answers | {other}) > 1
