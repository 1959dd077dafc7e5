"""The keys of rules and of what they compare, by the vocabulary: bands, matchers, settings, chains."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from channeld.core.vocabulary import VOCABULARY, Concern, Fact, Mode, Setting, Unit
from channeld.settings.lines import Path as Key
from channeld.settings.problems import Problems
from channeld.settings.scalars import Count, Money, NameOf, Ratio, Time, Word
from channeld.settings.shapes import Entry, Listed, Shape, Table

MAX_RULES: Final = 64
MODES: Final = tuple(mode.value for mode in Mode)
_COMPARISONS: Final = ("lt", "lte", "gt", "gte")


def scalar(unit: Unit, least: int = 0, most: int | None = None) -> Shape:
    """How a value of a unit is written."""
    bounds = {} if most is None else {"most": most}
    if unit is Unit.DROPS:
        return Money(least)
    if unit is Unit.DURATION:
        return Time(least, **bounds)
    if unit is Unit.RATIO:
        return Ratio(least, **bounds)
    return Count(least, **bounds) if unit is Unit.COUNT else NameOf()


def _check_band(at: Key, band: Mapping[str, Any], problems: Problems) -> None:
    """The right way up: low below target, high not below target."""
    low, target, high = (band.get(mark) for mark in ("low", "target", "high"))
    if low is not None and target is not None and target <= low:
        problems.add((*at, "target"), f"not above {at[-1]}.low", "low below target")
    if high is not None and target is not None and high < target:
        problems.add((*at, "high"), f"below {at[-1]}.target", "low, target, high, in this order")


def band(unit: Unit, *, high: bool, least: int = 0) -> Table:
    """A band of amounts or, with a `high` mark, of time: then without `low` what lasts until more is there is kept."""
    keys = {
        "low": Entry(scalar(unit, least), "fund when less than this is left", required=not high),
        "target": Entry(scalar(unit, 1), "up to this", required=True),
    }
    if high:
        keys["high"] = Entry(scalar(unit, 1), "and never beyond this, whatever the amounts say")
    return Table(keys, check=_check_band)


def _matcher(fact: Fact) -> Table:
    """What a rule may ask of a fact: numbers are compared, texts are listed."""
    if fact.unit is Unit.TEXT:
        listed = Listed(NameOf(), most=256, least=1, unique=True)
        return Table({"in": Entry(listed, "one of these", required=True)}, remedy='such as { in = ["a", "b"] }')
    compared = {word: Entry(scalar(fact.unit)) for word in _COMPARISONS}
    return Table(compared, check=_check_comparison, least=1, remedy="one or two of lt, lte, gt, gte")


def _check_comparison(at: Key, read: Mapping[str, Any], problems: Problems) -> None:
    for strict, loose in (("lt", "lte"), ("gt", "gte")):
        if strict in read and loose in read:
            problems.add((*at, loose), f"beside {strict}", f"one of {strict} and {loose}")


def _setting(setting: Setting) -> Shape:
    if setting.band:
        return band(setting.unit, high=setting.unit is Unit.DURATION, least=setting.least)
    return scalar(setting.unit, setting.least, setting.most)


def chain(concern: Concern) -> Table:
    words = VOCABULARY[concern]
    facts = {fact: Entry(_matcher(kind), kind.doc) for fact, kind in words.facts.items()}
    settings = {key: Entry(_setting(kind), kind.doc) for key, kind in words.settings.items()}
    rule = Table(
        {
            "name": Entry(NameOf(), "unique in its chain; shown by explain, log and metric", required=True),
            "match": Entry(Table(facts), "holds where all of these do; without it, always"),
            "set": Entry(Table(settings, least=1), "laid over the settings so far"),
            "act": Entry(Word(words.acts), "the answer; without it, reading goes on"),
        },
        check=_check_rule,
    )
    return Table(
        {
            "mode": Entry(Word(MODES), "how far the engine goes about this; the more cautious of this and policy.mode"),
            "rule": Entry(Listed(rule, MAX_RULES), "the chain: the first rule with an act whose match holds decides"),
        }
    )


def _check_rule(at: Key, rule: Mapping[str, Any], problems: Problems) -> None:
    if "set" not in rule and "act" not in rule and "name" in rule and not problems.has_below(at):
        problems.add(at, "does nothing", "give it an act or a set")
