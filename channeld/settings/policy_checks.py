"""What one part of a policy file says against another: references, reach of rules, names, and bands against pools.

Each check takes the file as its shape read it, with what was refused left out, so that one fault hides no other.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from channeld.core.rules import Band, Matcher, OneOf, Rule, Value, Within
from channeld.core.vocabulary import VOCABULARY, Concern
from channeld.settings.lines import Path as Key
from channeld.settings.problems import Problems, did_you_mean, printable
from channeld.settings.shapes import BAD

TERMS: Final = {Concern.FUND: "fund", Concern.SETTLE: "settle", Concern.CLOSE: "close"}
"""The concerns that a pool has terms of its own for, and their key in it."""

Placed = Sequence[tuple[int, Rule]]
"""The sound rules of a chain, each with its place in the file."""


def check_all(read: Mapping[str, Any], problems: Problems) -> None:
    """Note everything that does not fit together."""
    chains = {concern: list(sound_rules(read, concern, problems)) for concern in Concern}
    for concern, chain in chains.items():
        _check_names(read, concern, problems)
        _check_reach(concern, chain, problems)
        _check_bands(read, concern, chain, problems)
    _check_references(read, chains, problems)
    _check_terms(read, problems)
    _check_lives(read, problems)
    _check_tiers(read.get("tiers", {}), problems)


# --- rules -----------------------------------------------------------------------------------------------------------


def sound_rules(read: Mapping[str, Any], concern: Concern, problems: Problems) -> Iterator[tuple[int, Rule]]:
    """The rules of a chain in which nothing was found wrong, with their places."""
    for place, table in enumerate(_rules(read, concern)):
        if table is not BAD and not problems.has_below((concern.value, "rule", place)):
            yield place, _rule(table)


def _rules(read: Mapping[str, Any], concern: Concern) -> Sequence[Any]:
    rules: Sequence[Any] = read.get(concern.value, {}).get("rule", ())
    return rules


def _rule(table: Mapping[str, Any]) -> Rule:
    match = {fact: _matcher(asked) for fact, asked in table.get("match", {}).items()}
    laid = {key: _value(value) for key, value in table.get("set", {}).items()}
    return Rule(table["name"], match, laid, table.get("act"))


def _matcher(asked: Mapping[str, Any]) -> Matcher:
    if "in" in asked:
        return OneOf(frozenset(asked["in"]))
    low = asked["gt"] + 1 if "gt" in asked else asked.get("gte")
    high = asked["lt"] - 1 if "lt" in asked else asked.get("lte")
    return Within(low, high)


def _value(value: Any) -> Value:
    return Band(value.get("low", 0), value["target"], value.get("high")) if isinstance(value, dict) else value


def _check_names(read: Mapping[str, Any], concern: Concern, problems: Problems) -> None:
    seen: set[str] = set()
    for place, table in enumerate(_rules(read, concern)):
        if table is BAD or "name" not in table:
            continue
        if table["name"] in seen:
            problems.add((concern.value, "rule", place, "name"), "names two rules of this chain", "each its own")
        seen.add(table["name"])


def _check_reach(concern: Concern, chain: Placed, problems: Problems) -> None:
    """Every rule can hold, and no earlier one decides whenever it would."""
    facts, earlier = VOCABULARY[concern].facts, list[Rule]()
    for place, rule in chain:
        at: Key = (concern.value, "rule", place)
        if empty := [fact for fact, matcher in rule.match.items() if matcher.empty]:
            problems.add((*at, "match", empty[0]), "can never hold", "a lower bound below the upper one")
        elif shadow := next((e for e in earlier if e.shadows(rule, facts)), None):
            remedy = "put it before that one, or take it out"
            problems.add(at, f"unreachable: rule {shadow.name} decides whenever this one would hold", remedy)
        earlier.append(rule)


def _check_bands(read: Mapping[str, Any], concern: Concern, chain: Placed, problems: Problems) -> None:
    """What a rule fills up to must fit into a channel of the pools that it can hold for."""
    pools = read.get("pools", {})
    for place, rule in chain:
        named = rule.match.get("pool")
        for pool, table in pools.items():
            most = table.get("channel", {}).get("max")
            if most is None or (named is not None and not named.holds(pool)):
                continue
            at: Key = (concern.value, "rule", place, "set")
            headroom, amount = rule.set.get("headroom"), rule.set.get("amount")
            if isinstance(headroom, Band) and headroom.target > most:
                remedy = f"at most channel.max of pool {pool}"
                problems.add((*at, "headroom", "target"), "above channel.max, so never reached", remedy)
            low, horizon = table.get("runway", {}).get("low", 0), rule.set.get("horizon")
            if isinstance(horizon, int) and "runway" not in rule.set and horizon <= low:
                _short_horizon((*at, "horizon"), pool, problems)
            if isinstance(amount, int) and amount > most:
                problems.add((*at, "amount"), "above channel.max", f"at most channel.max of pool {pool}")


def _short_horizon(at: Key, pool: str, problems: Problems) -> None:
    if not problems.has_below(at):  # once, however many pools there are
        problems.add(at, "not above runway.low", f"longer than runway.low of pool {pool}, below which it is filled up")


# --- references ------------------------------------------------------------------------------------------------------


def _check_references(read: Mapping[str, Any], chains: Mapping[Concern, Placed], problems: Problems) -> None:
    """Whatever is named exists."""
    pools, tiers = read.get("pools", {}), read.get("tiers", {})
    regions = {region for pool in pools.values() for region in pool.get("regions", ()) if region is not BAD}
    wallets = {pool["wallet"] for pool in pools.values() if "wallet" in pool}
    known = {"pool": set(pools), "tier": set(tiers), "region": regions, "wallet": wallets}
    for budget, table in read.get("budgets", {}).items():
        for place, pool in enumerate(table.get("pools", ())):
            _must_exist(("budgets", budget, "pools", place), pool, "pool", known, problems)
    for place, override in enumerate(read.get("override", ())):
        for kind, name in override.get("scope", {}).items() if override is not BAD else ():
            _must_exist(("override", place, "scope", kind), name, kind, known, problems)
        if override is not BAD and "tier" in override.get("scope", {}) and override.get("concern") == ["redeem"]:
            problems.add(("override", place, "scope", "tier"), "can never hold", "a channel that pays us has no tier")
    for concern, chain in chains.items():
        for place, rule in chain:
            for fact, matcher in rule.match.items():
                if (concern, fact) == (Concern.REDEEM, "wallet"):
                    continue  # an account that only receives is of no pool: channeld.toml has it
                for name in sorted(matcher.words) if isinstance(matcher, OneOf) else ():
                    _must_exist((concern.value, "rule", place, "match", fact), name, fact, known, problems)


def _must_exist(at: Key, name: object, kind: str, known: Mapping[str, set[str]], problems: Problems) -> None:
    if kind in known and isinstance(name, str) and name not in known[kind]:
        hint = did_you_mean(name, known[kind]) or f"this file has no {kind}"
        problems.add(at, f"there is no {kind} {printable(name)}", hint)


def _check_terms(read: Mapping[str, Any], problems: Problems) -> None:
    """A pool without terms for a concern needs a rule that decides it: otherwise that was forgotten."""
    for concern, key in TERMS.items():
        if problems.has_below((key, "rule")) or any("act" in rule for rule in _rules(read, concern)):
            continue
        for pool, table in read.get("pools", {}).items():
            at: Key = ("pools", pool, key)
            if key not in table and not problems.has_below(at):
                problems.add(at, "is missing", f"terms for it, or a [[{key}.rule]] with an act")


def _check_lives(read: Mapping[str, Any], problems: Problems) -> None:
    """A new channel with a fixed end must be able to carry a claim: issuing stops `guards.ledger_lag` early."""
    lag = read.get("guards", {}).get("ledger_lag", 0)
    for pool, table in read.get("pools", {}).items():
        ends, delay = table.get("cancel_after"), table.get("settle_delay")
        if ends is not None and delay is not None and ends <= delay + table.get("life_margin", 0) + lag:
            remedy = "longer than settle_delay, life_margin and guards.ledger_lag together"
            problems.add(("pools", pool, "cancel_after"), "too short for any claim to be issued", remedy)


def _check_tiers(tiers: Mapping[str, Any], problems: Problems) -> None:
    defaults = [tier for tier, table in tiers.items() if table.get("default")]
    for tier in defaults[1:]:
        problems.add(("tiers", tier, "default"), f"tier {defaults[0]} is the default, too", "one default at most")
    owner: dict[str, str] = {}
    for tier, table in tiers.items():
        for place, user in enumerate(table.get("users", ())):
            if user is not BAD and (other := owner.setdefault(user, tier)) != tier:
                problems.add(("tiers", tier, "users", place), f"is in tier {other}, too", "each user in one tier")
