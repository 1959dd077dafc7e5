"""Policy files gone wrong: a rich, sound file with a few things done to it, by lines, by values and by bytes.

A mutant is made from a seed by plain `random`, so that ten thousand take seconds; the seed names it again.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable
from datetime import date, time
from pathlib import Path
from random import Random
from typing import Any

import jsonschema

from channeld.core.errors import ConfigError
from channeld.core.policy import Policy, Scope
from channeld.core.rules import OneOf, Rule
from channeld.core.vocabulary import VOCABULARY, Unit, Words
from channeld.settings import json_schema, load_policy

RICH = (Path(__file__).parent / "data/policy_rich.toml").read_text()
VALUES = (
    *(
        '""',
        '"x"',
        "[]",
        "{}",
        "[[]]",
        "[{}]",
        "true",
        "false",
        "0",
        "-1",
        "1",
        "2",
        "10",
        "0.5",
        "-0.1",
        "1e400",
        "nan",
    ),
    *("inf", "9" * 40, '"0s"', '"6h"', '"48h"', '"3650d"', '"99999999d"', '"1.5h"', '"5 XRP"', '"0 XRP"', '"5XRP"'),
    *('"1000000 XRP"', '"9999999999999 XRP"', '"1"', '"5 xrp"', '"0.5%"', '"0%"', '"1e3%"', '"100001%"', "07:32:00"),
    *("1979-05-27", "1979-05-27T07:32:00", "2026-12-01T00:00:00Z", "9999-12-31T23:59:59Z", "0001-01-01T00:00:00+23:59"),
    *('"hot"', '"eu-video"', '"gold"', '"hold"', '"settle"', '"observe"', '["eu"]', '["eu", "eu"]', '["nowhere"]'),
    *("{ gt = 5 }", '{ gt = "6h", lt = "1h" }', '{ in = ["gold"] }', '{ low = "5 XRP", target = "1 XRP" }'),
    *('{ low = "48h", target = "6h" }', "'''\n'''", '"\\u0000"', '"☃"', '"' + "a" * 5000 + '"'),
    *("[" * 60 + "]" * 60, "{ a = " * 40 + "1" + " }" * 40),
)
WORDS = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
LITERAL = re.compile(r'"[^"\n]*"|\b\d[\d.]*\b|\[[^\[\]\n]*\]|\{[^{}\n]*\}')

KIND = re.compile(r'"\d[\d.]*(?: (?P<unit>XRP)|(?P<time>[smhdw]))"')


def mutant(seed: int) -> bytes:
    """A file with one to four things done to it."""
    r = Random(seed)
    text = RICH
    for _ in range(r.choice((1, 1, 1, 2, 3, 4))):
        text = r.choice(MUTATIONS)(text, r)
    raw = text.encode("utf-8", "surrogatepass")
    return _bytes(raw, r) if r.random() < 0.1 else raw


def _lines(change: Callable[[list[str], Random], None]) -> Callable[[str, Random], str]:
    def mutate(text: str, r: Random) -> str:
        lines = text.split("\n")
        change(lines, r)
        return "\n".join(lines)

    return mutate


def _delete(lines: list[str], r: Random) -> None:
    at = r.randrange(len(lines))
    del lines[at : at + r.choice((1, 1, 1, 2, 5))]
    lines.append("")


def _duplicate(lines: list[str], r: Random) -> None:
    at, size = r.randrange(len(lines)), r.choice((1, 1, 4, 8))
    put = r.choice((at + size, r.randrange(len(lines))))
    lines[put:put] = lines[at : at + size]


def _swap(lines: list[str], r: Random) -> None:
    a, b = r.randrange(len(lines)), r.randrange(len(lines))
    lines[a], lines[b] = lines[b], lines[a]


def _shuffle_rules(lines: list[str], r: Random) -> None:
    """Move a block that begins with a header somewhere else."""
    heads = [i for i, line in enumerate(lines) if line.startswith("[")]
    if len(heads) < 3:
        return
    which = r.randrange(len(heads) - 1)
    block = lines[heads[which] : heads[which + 1]]
    del lines[heads[which] : heads[which + 1]]
    put = r.choice([i for i, line in enumerate(lines) if line.startswith("[")])
    lines[put:put] = block


def _comment(lines: list[str], r: Random) -> None:
    at = r.randrange(len(lines))
    lines[at] = "# " + lines[at]


def _value(text: str, r: Random) -> str:
    """Another value in the place of one: another type, unit, size, nesting."""
    found = list(LITERAL.finditer(text))
    if not found:
        return text
    spot = r.choice(found)
    new = r.choice(VALUES) if r.random() < 0.7 else r.choice(found)[0]
    return text[: spot.start()] + new + text[spot.end() :]


def _alike(text: str, r: Random) -> str:
    """A value of the same kind in the place of one, so that much of it is still a policy."""
    spots = list(KIND.finditer(text))
    spot = r.choice(spots) if spots else None
    if spot is None or spot.lastgroup is None:
        return text
    unit = spot["unit"] or r.choice(("s", "m", "h", "d", "w"))
    number = r.choice((0, 1, 2, 5, 7, 24, 30, 100, 5000))
    new = f'"{number} XRP"' if unit == "XRP" else f'"{number}{unit}"'
    return text[: spot.start()] + new + text[spot.end() :]


def _word(text: str, r: Random) -> str:
    """Another word in the place of one: keys, names, acts, facts change places, or lose a letter."""
    found = list(WORDS.finditer(text))
    if not found:
        return text
    spot = r.choice(found)
    new = r.choice(found)[0] if r.random() < 0.7 else spot[0][:-1] + r.choice(("", "x", "é", "_"))
    return text[: spot.start()] + new + text[spot.end() :]


def _digit(text: str, r: Random) -> str:
    found = list(re.finditer(r"\d", text))
    if not found:
        return text
    spot = r.choice(found)
    return text[: spot.start()] + r.choice(("0", "9", "", "00", "-1", ".5", "e9")) + text[spot.end() :]


def _header(text: str, r: Random) -> str:
    """Single brackets for double ones, another depth, another place."""
    found = list(re.finditer(r"(?m)^\[+[^\]\n]*\]+", text))
    if not found:
        return text
    spot = r.choice(found)
    inner = spot[0].strip("[]")
    new = r.choice(
        (f"[{inner}]", f"[[{inner}]]", f"[{inner}.x]", f"[x.{inner}]", f"[{inner.split('.')[-1]}]", f"[{inner}")
    )
    return text[: spot.start()] + new + text[spot.end() :]


def _insert(text: str, r: Random) -> str:
    at = r.randrange(len(text) + 1)
    junk = r.choice(
        (
            "\x00",
            "\t",
            "\r\n",
            '"',
            "'",
            '"""',
            "[",
            "]",
            "{",
            "}",
            "=",
            ".",
            ",",
            "#",
            "\\",
            "\ufeff",
            "\ud800",
            "💣",
            "x",
        )
    )
    return text[:at] + junk + text[at:]


def _cut(text: str, r: Random) -> str:
    return text[: r.randrange(len(text) + 1)] if r.random() < 0.5 else text[r.randrange(len(text) + 1) :]


def _bytes(raw: bytes, r: Random) -> bytes:
    changed = bytearray(raw)
    for _ in range(r.choice((1, 1, 3, 20))):
        if changed:
            changed[r.randrange(len(changed))] = r.randrange(256)
    return bytes(changed)


MUTATIONS: tuple[Callable[[str, Random], str], ...] = (
    *(_lines(change) for change in (_delete, _duplicate, _swap, _shuffle_rules, _comment)),
    *(_alike, _alike, _alike, _value, _value, _value, _word, _word, _word, _digit, _digit, _header, _insert, _cut),
)


# --- what must hold of every one of them -----------------------------------------------------------------------------

VALIDATOR = jsonschema.Draft202012Validator(json_schema())


def examine(seed: int, folder: Path) -> str:
    """Load a mutant: `accepted`, or `refused`, with everything that was promised about it asserted."""
    path = folder / "policy.toml"
    path.write_bytes(mutant(seed))
    try:
        policy = load_policy(path)
    except ConfigError as error:
        assert error.problems, seed
        for problem in error.problems:
            assert located(problem, path), (seed, problem)
        return "refused"
    assert faults(policy) == [], seed
    assert accepted_by_schema(path), seed
    assert load_policy(path).hash == policy.hash, seed
    return "accepted"


def located(problem: str, path: Path) -> bool:
    """File, line and key; or the file, and where it stops being TOML; or the key that is not there."""
    where = rf"{re.escape(str(path))}(:\d+)?: (not TOML: .|not UTF-8 text|nested too deeply|\S.*: .)"
    return re.match(where, problem) is not None and problem.isprintable()


def accepted_by_schema(path: Path) -> bool:
    """Whether the JSON Schema takes the file as it stands."""
    return VALIDATOR.is_valid(as_json(tomllib.loads(path.read_text())))


def as_json(value: Any) -> Any:
    """TOML's values as an editor shows them to a schema: moments are strings."""
    if isinstance(value, dict):
        return {key: as_json(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [as_json(inner) for inner in value]
    return value.isoformat() if isinstance(value, date | time) else value


def faults(policy: Policy) -> list[str]:
    """What is wrong with a policy that came through, found without the reader's own checks."""
    found = []
    for pool in policy.pools.values():
        fund, shape = pool.fund, pool.channel
        found += [] if 0 <= fund.low < fund.target <= shape.max else [f"{pool.name}: fund"]
        found += (
            [] if 0 <= fund.runway_low < fund.runway_target <= (fund.runway_high or 2**62) else [f"{pool.name}: runway"]
        )
        found += (
            []
            if 1 <= shape.min <= shape.max and 0 <= shape.spare < shape.max_per_payee <= 32
            else [f"{pool.name}: channel"]
        )
        life = pool.settle_delay + pool.life_margin + policy.guards.ledger_lag
        found += [] if pool.cancel_after is None or pool.cancel_after > life else [f"{pool.name}: life"]
    guards = policy.guards
    found += [] if 10 <= guards.fee_cap <= guards.urgent_fee_cap and guards.max_opens_per_ledger >= 1 else ["guards"]
    found += [] if guards.deadline_purse >= guards.urgent_fee_cap and guards.deadline_window >= 1 else ["purse"]
    known = {"pool": set(policy.pools), "tier": set(policy.tiers)}
    known |= {"region": {r for p in policy.pools.values() for r in p.regions}}
    known |= {"wallet": {p.wallet for p in policy.pools.values()}}
    for concern, chain in policy.rules.items():
        words = VOCABULARY[concern]
        found += [] if len({rule.name for rule in chain}) == len(chain) else [f"{concern}: names"]
        found += [fault for i, rule in enumerate(chain) for fault in _rule_faults(rule, chain[:i], words, known)]
    for budget in policy.budgets:
        found += [] if budget.pools <= known["pool"] and (budget.window is None or budget.window > 0) else [budget.name]
    for override in policy.overrides:
        scope = override.scope
        found += [] if scope.pool is None or scope.pool in known["pool"] else ["override: pool"]
        found += [] if override.concerns and override.until > 0 and scope != Scope() else ["override"]
    return found


def _rule_faults(rule: Rule, before: tuple[Rule, ...], words: Words, known: dict[str, set[str]]) -> list[str]:
    """A rule of known words, whose matchers can hold, and that is not behind one that always decides."""
    found = [] if rule.act is not None or rule.set else [f"{rule.name}: does nothing"]
    found += [] if rule.act in {None, *words.acts} and rule.set.keys() <= words.settings.keys() else [rule.name]
    for fact, matcher in rule.match.items():
        text = words.facts[fact].unit is Unit.TEXT
        assert isinstance(matcher, OneOf) is text
        tries = list(matcher.words) if isinstance(matcher, OneOf) else [matcher.low or 0, matcher.high or 0]
        found += [] if any(matcher.holds(value) for value in tries) else [f"{rule.name}: {fact} never holds"]
        if isinstance(matcher, OneOf) and fact in known:
            found += [] if matcher.words <= known[fact] else [f"{rule.name}: {fact} names what is not there"]
    for value in rule.set.values():
        found += (
            []
            if isinstance(value, int) or value.low < value.target <= (value.high or 2**62)
            else [f"{rule.name}: band"]
        )
    return found + [f"{rule.name}: behind {b.name}" for b in before if b.act is not None and not b.match]
