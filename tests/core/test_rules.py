"""Chains of rules: total, the first act wins, settings are laid in order, and the clock is read ahead exactly.

Chains and facts are made from a seed by plain `random`, many of each for one example.
"""

from __future__ import annotations

from random import Random

from hypothesis import event, given
from hypothesis import strategies as st

from channeld.core.rules import RECHECK_S, Band, Known, Matcher, OneOf, Rule, Value, Within, changes_in, evaluate
from channeld.core.vocabulary import HOLD, VOCABULARY, Clock, Concern, Fact, Unit

FACTS = {
    "amount": Fact(Unit.DROPS, ""),
    "idle": Fact(Unit.DURATION, "", Clock.GROWS),
    "left": Fact(Unit.DURATION, "", Clock.SHRINKS, always=False),
    "price": Fact(Unit.COUNT, "", Clock.DRIFTS),
    "place": Fact(Unit.TEXT, "", always=False),
}
WORDS = ("a", "b", "c")
SEEDS = st.integers(0, 2**63 - 1)
TRIES = 40
BASE: dict[str, Value] = {"x": 0, "y": 0}
ALL_FACTS: list[dict[str, Known]] = [
    {"amount": a, "idle": i, "left": left, "price": p, "place": place}
    for a in range(6)
    for i in range(6)
    for left in (None, 0, 1, 2, 3, 4, 5)
    for p in range(6)
    for place in (None, "elsewhere", *WORDS)
]
"""Every combination that two rules of these tests could tell apart."""


def a_matcher(r: Random, fact: str) -> Matcher:
    """A matcher that fits the fact; some can never hold, some always do."""
    if fact == "place":
        return OneOf(frozenset(r.sample(WORDS, r.randint(0, 2))))
    return Within(r.choice((None, None, *range(5))), r.choice((None, None, *range(5))))


def a_rule(r: Random, name: str) -> Rule:
    """A rule that asks for up to three facts, so that many hold."""
    match = {fact: a_matcher(r, fact) for fact in r.sample(sorted(FACTS), r.choice((0, 1, 1, 2, 3)))}
    laid: dict[str, Value] = {key: r.choice((r.randint(0, 6), Band(1, 2))) for key in r.sample("xyz", r.randint(0, 2))}
    return Rule(name, match, laid, r.choice((None, "do", "else", HOLD)))


def a_chain(r: Random) -> tuple[Rule, ...]:
    """Up to six rules."""
    return tuple(a_rule(r, f"r{i}") for i in range(r.randint(0, 6)))


def some_facts(r: Random) -> dict[str, Known]:
    """Small numbers, so that they lie on bounds and beside them; two may be unknown."""
    return {
        "amount": r.randint(0, 6),
        "idle": r.randint(0, 6),
        "left": r.choice((None, *range(6))),
        "price": r.randint(0, 6),
        "place": r.choice((None, *WORDS, "elsewhere")),
    }


def like(r: Random, rule: Rule) -> Rule:
    """A rule that asks nearly the same: a bound moved, a matcher more or less."""
    match = {fact: a_matcher(r, fact) if r.random() < 0.6 else matcher for fact, matcher in rule.match.items()}
    if r.random() < 0.5:
        match |= a_rule(r, "").match
    return Rule("like", match, {}, "do")


@given(SEEDS)
def test_every_subject_gets_one_answer_and_the_first_act_whose_rule_holds_is_it(seed: int) -> None:
    r = Random(seed)
    for _ in range(TRIES):
        chain, facts = a_chain(r), some_facts(r)
        answer = evaluate(chain, facts, BASE)
        deciding = next((rule for rule in chain if rule.act is not None and not rule.failing(facts)), None)
        assert answer.act == (deciding.act if deciding else None)
        read = chain[: chain.index(deciding) + 1] if deciding else chain
        assert answer.path == tuple(rule.name for rule in read if not rule.failing(facts))
        assert evaluate(read, facts, BASE) == answer


@given(SEEDS)
def test_settings_are_laid_over_those_of_the_pool_in_the_order_of_the_rules(seed: int) -> None:
    r = Random(seed)
    for _ in range(TRIES):
        chain, facts = a_chain(r), some_facts(r)
        answer = evaluate(chain, facts, BASE)
        expected = dict(BASE)
        for rule in chain:
            if rule.name in answer.path:
                expected.update(rule.set)
        assert answer.settings == expected
        assert BASE == {"x": 0, "y": 0}


@given(SEEDS)
def test_rules_that_do_not_hold_may_stand_anywhere(seed: int) -> None:
    """The order of what is unrelated does not matter."""
    r = Random(seed)
    for _ in range(TRIES):
        chain, facts = a_chain(r), some_facts(r)
        kept = [rule for rule in chain if rule.holds(facts)]
        for other in (rule for rule in chain if not rule.holds(facts)):
            kept.insert(r.randint(0, len(kept)), other)
        assert evaluate(kept, facts, BASE) == evaluate(chain, facts, BASE)


@given(SEEDS)
def test_a_rule_that_shadows_another_decides_whenever_that_would_hold(seed: int) -> None:
    """And where it does not shadow a rule that can hold, there are facts for which only that one holds."""
    r = Random(seed)
    first = a_rule(r, "first")
    second = like(r, first)
    held = [facts for facts in ALL_FACTS if second.holds(facts)]
    reached = any(first.act is None or not first.holds(facts) for facts in held)
    shadowed = first.shadows(second, FACTS)
    event("shadowed" if shadowed else "reached" if held else "never holds")
    assert reached is not shadowed or not held


def test_bounds_are_where_they_are_said_to_be() -> None:
    """Inclusive on both sides; nothing holds of what is not known, nor of the other kind."""
    assert [n for n in range(6) if Within(2, 4).holds(n)] == [2, 3, 4]
    assert [n for n in range(6) if Within(None, 0).holds(n)] == [0]
    assert [n for n in range(6) if Within(5, None).holds(n)] == [5]
    assert not any(m.holds(None) for m in (Within(), Within(0, 9), OneOf(frozenset("a"))))
    assert not Within().holds("a")
    assert not OneOf(frozenset({"1"})).holds(1)
    assert [m.empty for m in (Within(3, 2), Within(None, -1), Within(3, 3), OneOf(frozenset()))] == [1, 1, 0, 1]
    assert [m.everything for m in (Within(), Within(0), Within(None, 2**62), OneOf(frozenset("a")))] == [1, 1, 0, 0]


# --- the clock -------------------------------------------------------------------------------------------------------


def later(facts: dict[str, Known], seconds: int) -> dict[str, Known]:
    """The facts after so long, in which nothing happened."""
    moved = dict(facts)
    for fact, way in (("idle", 1), ("left", -1)):
        value = moved[fact]
        if isinstance(value, int):
            moved[fact] = max(0, value + way * seconds)
    return moved


@given(SEEDS)
def test_the_answer_stays_until_the_moment_that_is_named(seed: int) -> None:
    """Waiting until then misses nothing; where none is named, nothing ever changes by time alone."""
    r = Random(seed)
    for _ in range(TRIES):
        chain, facts = a_chain(r), some_facts(r)
        now = evaluate(chain, facts, BASE)
        moment = changes_in(chain, facts, FACTS, "otherwise")
        assert moment is None or moment >= 1
        for seconds in range(1, 12 if moment is None else min(moment, 12)):
            assert evaluate(chain, later(facts, seconds), BASE) == now


@given(st.integers(0, 5), st.integers(0, 5), st.sampled_from(("idle", "left")))
def test_one_rule_is_looked_at_again_at_the_very_second(value: int, bound: int, fact: str) -> None:
    """A moment too early would be work for nothing; asleep for good means that nothing is left to happen."""
    for matcher in (Within(bound, None), Within(None, bound)):
        chain = (Rule("r", {fact: matcher}, {}, "do"),)
        facts: dict[str, Known] = {"amount": 0, "idle": 0, "left": 9, "price": 0, "place": None, fact: value}
        acts = [evaluate(chain, later(facts, s), BASE).act for s in range(12)]
        change = next((s for s, act in enumerate(acts) if act != acts[0]), None)
        assert changes_in(chain, facts, FACTS, HOLD) == change


@given(SEEDS)
def test_what_hangs_on_a_drifting_fact_is_looked_at_again(seed: int) -> None:
    """Where another value of it would give another act, a moment is named."""
    r = Random(seed)
    for _ in range(TRIES):
        chain, facts = a_chain(r), some_facts(r)
        moment = changes_in(chain, facts, FACTS, HOLD)
        acts = {evaluate(chain, {**facts, "price": price}, BASE).act or HOLD for price in range(7)}
        if len(acts) > 1:
            assert moment is not None
            assert moment <= RECHECK_S


def test_what_hangs_on_no_drifting_fact_is_left_in_peace() -> None:
    """A rule that waits out a price where nothing else would be done costs nothing."""
    wait = Rule("wait", {"price": Within(4, None)}, {}, HOLD)
    act = Rule("act", {"amount": Within(None, 2)}, {}, "do")
    for price in (0, 6):
        facts: dict[str, Known] = {"price": price, "amount": 5}
        assert changes_in((wait, act), facts, FACTS, HOLD) is None
        assert changes_in((wait, act), {**facts, "amount": 1}, FACTS, HOLD) == RECHECK_S
        assert changes_in((wait, act), facts, FACTS, "do") == RECHECK_S


def test_the_vocabulary_is_sound() -> None:
    """Every concern can hold, by its last act; what moves with the clock counts seconds; bounds are in order."""
    for concern in Concern:
        words = VOCABULARY[concern]
        assert words.acts[-1] == HOLD
        assert all(f.unit is Unit.DURATION for f in words.facts.values() if f.clock in {Clock.GROWS, Clock.SHRINKS})
        assert all(s.least <= s.most for s in words.settings.values())
