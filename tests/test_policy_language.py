"""The policy language: what is said becomes values, what is wrong is named with its line; so says the schema."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import pytest
from mutants import RICH, VALIDATOR, accepted_by_schema, as_json, examine, located
from spoil import spoilt

from channeld.core.budgets import Purse
from channeld.core.errors import ConfigError
from channeld.core.policy import Cap, FreezeIf
from channeld.core.rules import Band, OneOf, Within
from channeld.core.vocabulary import VOCABULARY, Concern, Mode
from channeld.settings import json_schema, load_policy

ROOT = Path(__file__).parent.parent
POLICIES = [ROOT / "config/policy.toml", *ROOT.glob("config/*/policy.toml"), ROOT / "tests/data/policy_rich.toml"]


def write(folder: Path, text: str) -> Path:
    """Write a policy file."""
    path = folder / "policy.toml"
    path.write_text(text)
    return path


def test_what_is_said_becomes_values() -> None:
    """With units: drops, seconds, millionths."""
    policy = load_policy(ROOT / "tests/data/policy_rich.toml")
    base, spike, gold, out = policy.chain(Concern.FUND)
    assert dict(base.set) == {"horizon": 172_800, "quantile": 900_000, "cooldown": 600, "min_step": 1_000_000}
    assert base.act is None
    assert dict(spike.match) == {"network_fee_drops": Within(201, None), "runway": Within(7201, None)}
    assert gold.match["tier"] == OneOf(frozenset({"gold", "named"}))
    assert gold.set["headroom"] == Band(10_000_000, 40_000_000)
    assert gold.set["runway"] == Band(43_200, 345_600, 2_592_000)
    assert (out.match["runway"], out.act) == (Within(None, 21_599), "fund_to_target")
    assert policy.chain(Concern.SETTLE)[1].match["fee_ratio"] == Within(None, 25_000)
    assert policy.chain(Concern.CLOSE)[0].match["return_probability"] == Within(None, 99_999)


def test_the_rest_of_the_language_becomes_values() -> None:
    """Guards, budgets, tiers, pools, overrides and modes."""
    policy = load_policy(ROOT / "tests/data/policy_rich.toml")
    assert policy.guards.max_closes_per_hour == Cap(None, 5000)
    assert policy.guards.freeze_if == (
        FreezeIf("ledger_lag", 20),
        FreezeIf("reconcile_difference", 0),
        FreezeIf("network_fee_drops", 4999),
    )
    assert [(b.name, b.purse, b.limit, b.window) for b in policy.budgets] == [
        ("capital-eu", Purse.CAPITAL, 2 * 10**12, None),
        ("fees", Purse.FEES, 40_000_000, 86_400),
        ("new-channels", Purse.RESERVE, 500_000_000, 604_800),
    ]
    assert policy.tiers["gold"].has("vip-3")
    assert not policy.tiers["gold"].has("u-171")
    pool = policy.pools["eu-video"]
    assert (pool.regions, pool.channel.spare, pool.terms & {Concern.FUND, Concern.SETTLE}) == (("eu",), 1, set())
    assert policy.pools["standard"].terms == frozenset(Concern)
    assert [o.until for o in policy.overrides] == [849_398_400, 849_398_400]
    channel_id = policy.overrides[0].scope.channel_id
    assert channel_id is not None
    assert channel_id.startswith("AB00")
    assert (policy.mode(Concern.SETTLE), policy.mode(Concern.ADMIT), policy.mode(Concern.FUND)) == (
        Mode.SUGGEST,
        Mode.OBSERVE,
        Mode.APPLY,
    )


def test_of_two_modes_the_more_cautious_is_in_force(tmp_path: Path) -> None:
    """`policy.mode` bounds every concern; a concern's own mode can only be more careful."""
    policy = load_policy(write(tmp_path, spoilt(RICH, 'mode = "apply"', 'mode = "suggest"')))
    assert (policy.mode(Concern.FUND), policy.mode(Concern.ADMIT)) == (Mode.SUGGEST, Mode.OBSERVE)


BAD = [
    ('act = "hold"', 'act = "held"', "open.rule[0].act: not one of the words known here ('open' or 'hold')"),
    ("wanted = {", "wonted = {", "open.rule[0].match.wonted: unknown key (did you mean wanted?)"),
    ("wanted = { lt", "wanted = { le", "open.rule[0].match.wanted.le: unknown key (did you mean lte?)"),
    ('lt = "0.01 XRP"', 'lt = "6h"', "open.rule[0].match.wanted.lt: not an amount of money"),
    ('gt = "2h"', 'gt = "2 XRP"', "fund.rule[1].match.runway.gt: not a length of time"),
    ("gt = 200", 'gt = "200"', "fund.rule[1].match.network_fee_drops.gt: must be a whole number"),
    ("lt = 0.001", "lt = 0.0000001", "settle.rule[0].match.fee_ratio.lt: finer than a millionth"),
    ("lt = 0.001", 'lt = "little"', "settle.rule[0].match.fee_ratio.lt: not a ratio"),
    ('lt = "0.01 XRP"', 'lt = "0"', "open.rule[0].match.wanted: can never hold"),
    ('gt = "7d", lte = "30d"', 'gt = "30d", lte = "7d"', "close.rule[1].match.idle: can never hold"),
    ('gt = "7d", lte', 'gt = "7d", gte', "close.rule[1].match.idle.gte: beside gt"),
    (
        '{ in = ["eu"] }',
        '{ in = ["moon"] }',
        "fund.rule[2].match.region: there is no region moon (known here: asia, eu",
    ),
    ('["gold", "named"]', '["golden"]', "fund.rule[2].match.tier: there is no tier golden (did you mean gold?)"),
    ('["gold", "named"]', "[]", "fund.rule[2].match.tier.in: is empty"),
    ('["gold", "named"]', '["gold", "gold"]', "fund.rule[2].match.tier.in: names something twice"),
    ("quantile = 0.90", "quantile = 1", "fund.rule[0].set.quantile: out of bounds (0.5 to 0.999999)"),
    ("cooldown = ", "notice = ", "fund.rule[0].set.notice: unknown key"),
    (
        'low = "10 XRP", target = "40 XRP"',
        'low = "40 XRP", target = "10 XRP"',
        "headroom.target: not above headroom.low",
    ),
    ('low = "10 XRP", target = "40 XRP"', 'target = "40 XRP"', "fund.rule[2].set.headroom.low: is missing"),
    (
        'target = "40 XRP" }',
        'target = "400 XRP" }',
        "headroom.target: above channel.max, so never reached (at most channel.",
    ),
    ('high = "30d"', 'high = "1d"', "fund.rule[2].set.runway.high: below runway.target"),
    ('high = "14d"', 'high = "1h"', "pools.eu-video.runway.high: below runway.target"),
    ('horizon = "48h"', 'horizon = "6h"', "fund.rule[0].set.horizon: not above runway.low"),
    ("max_per_payee = 4", "max_per_payee = 1", "pools.eu-video.channel.spare: not below max_per_payee"),
    ('name = "old"', 'name = "worth-it"', "settle.rule[1].name: names two rules of this chain"),
    ('name = "old"\n', "", "settle.rule[1].name: is missing"),
    ('match = { deadline_in = { lt = "6h" } }\nact = "redeem"', "", "redeem.rule[0]: does nothing"),
    ('match = { deadline_in = { lt = "6h" } }\n', "set = {}\n", "redeem.rule[0].set: is empty"),
    ('lt = "0.1 XRP" } }', 'lt = "0.1 XRP" } }\nwhy = "x"', "close.rule[1].why: unknown key"),
    ('"reconcile_difference != 0"', '"ledger_lag is large"', "guards.freeze_if[1]: not a condition known here"),
    ('"ledger_lag > 20s"', '"ledger_lag > 20"', "guards.freeze_if[0]: not a length of time"),
    ('"0.5%"', '"0%"', "guards.max_closes_per_hour: out of bounds (1e-06 to 1)"),
    ('"0.5%"', "0", "guards.max_closes_per_hour: out of bounds (1 to 1000000)"),
    ('urgent_fee_cap = "0.1 XRP"', 'urgent_fee_cap = "0.001 XRP"', "guards.urgent_fee_cap: below fee_cap"),
    (
        'urgent_fee_cap = "0.1 XRP"',
        'urgent_fee_cap = "0.1 XRP"\ndeadline_purse = "0.09 XRP"',
        "guards.deadline_purse: not enough for one payout (100000 drops",
    ),
    ('window = "1d"', 'window = "0s"', "budgets.fees.window: out of bounds"),
    ('window = "1d"\n', "", "budgets.fees.window: is missing"),
    ('kind = "reserve"\n', "", "budgets.new-channels.kind: is missing"),
    ('pools = ["eu-video"]', 'pools = ["eu-vidio"]', "budgets.capital-eu.pools[0]: there is no pool eu-vidio"),
    ('users = ["u-17", "vip-*"]', 'users = ["u-17", "u-17"]', "tiers.gold.users: names something twice"),
    ("trust_request = true", 'users = ["u-17"]', "tiers.named.users[0]: is in tier gold, too"),
    ("trust_request = true", "default = true", "tiers.casual.default: tier named is the default, too"),
    ("dedicated = true", "dedicated = 1", "tiers.gold.dedicated: must be true or false"),
    ('channel_id = "ab', 'channel_id = "xy', "override[0].scope.channel_id: not a channel id"),
    ('scope = { pool = "standard", server = "news-eu" }', "scope = {}", "override[1].scope: is empty"),
    ('scope = { pool = "standard"', 'scope = { pool = "nowhere"', "override[1].scope.pool: there is no pool nowhere"),
    ('concern = ["close"]', "concern = []", "override[0].concern: is empty"),
    (
        'scope = { pool = "standard", server = "news-eu" }\nconcern = ["fund", "open"]',
        'scope = { tier = "gold" }\nconcern = ["redeem"]',
        "override[1].scope.tier: can never hold",
    ),
    ("2026-12-01T00:00:00Z", '"2026-12-01"', "override[0].until: not a moment"),
    ("2026-12-01T00:00:00Z", "2026-12-01T00:00:00", "override[0].until: not a moment"),
    ("2026-12-01T00:00:00Z", "1999-12-01T00:00:00Z", "override[0].until: out of bounds"),
    ('why = "ticket 4711"\n', "", "override[0].why: is missing"),
    (
        '[settle]\nmode = "suggest"',
        '[settle]\nmode = "off"',
        "settle.mode: not one of the words known here ('observe', ",
    ),
    ("[[close.rule]]", "[close.rule]", "close.rule: must be an array ([[close.rule]])"),
    ('longest = "1d"', 'longest = "3d"', "guards.early_ends.longest: above early_ends.window"),
    ('longest = "1d"', 'longest = "1m"', "guards.early_ends.longest: below early_ends.first"),
    ("free = 2", "free = 33", "guards.early_ends.free: out of bounds (0 to 32)"),
    ("hold = 100", "hold = 20", "pools.standard.anomaly.hold: not above anomaly.refuse"),
    ("slow_down = 5", "slow_down = 0.5", "pools.standard.anomaly.slow_down: out of bounds"),
    (
        'slow_down = 5, refuse = "2000%", hold = 100, ',
        "",
        "pools.standard.anomaly: does nothing (one or more of slow_down, refuse and hold)",
    ),
]


@pytest.mark.parametrize(("old", "new", "expected"), BAD)
def test_what_is_wrong_is_named_with_file_line_key_and_hint(tmp_path: Path, old: str, new: str, expected: str) -> None:
    """And nothing else is complained of."""
    text = spoilt(RICH, old, new) if new != "[close.rule]" else RICH.replace(old, new, 1).partition("[[close.rule]]")[0]
    path = write(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        load_policy(path)
    (problem,) = caught.value.problems
    assert expected in problem
    assert located(problem, path)
    number = int(problem.removeprefix(f"{path}:").split(":")[0])
    line = text.splitlines()[number - 1]
    assert any(word in line for word in re.findall(r"\w+", problem.split(": ")[1])), (problem, line)


ALWAYS = '[[settle.rule]]\nname = "{}"\nact = "hold"\n\n'


def test_a_rule_behind_one_that_always_decides_is_unreachable(tmp_path: Path) -> None:
    """Every one of them is named."""
    text = spoilt(
        RICH, '[[settle.rule]]\nname = "worth-it"', ALWAYS.format("stop") + '[[settle.rule]]\nname = "worth-it"'
    )
    with pytest.raises(ConfigError) as caught:
        load_policy(write(tmp_path, text))
    assert [p.split(": ", 1)[1] for p in caught.value.problems] == [
        f"settle.rule[{n}]: unreachable: rule stop decides whenever this one would hold "
        "(put it before that one, or take it out)"
        for n in (1, 2)
    ]


def test_a_rule_that_asks_less_than_one_behind_an_act_shadows_it(tmp_path: Path) -> None:
    """By intervals and words, fact by fact."""
    narrow = '[[redeem.rule]]\nname = "x"\nmatch = { deadline_in = { lt = "5h" }, unredeemed = { gt = "1 XRP" } }\n'
    for match, reached in (("", False), ('match = { deadline_in = { lt = "7h" } }\n', True)):
        text = RICH + "\n" + (narrow if not match else f'[[redeem.rule]]\nname = "x"\n{match}') + 'act = "hold"\n'
        if reached:
            load_policy(write(tmp_path, text))
        else:
            with pytest.raises(ConfigError, match=r"redeem\.rule\[1\]: unreachable: rule in-time"):
                load_policy(write(tmp_path, text))


def test_a_pool_without_terms_needs_a_rule_that_decides(tmp_path: Path) -> None:
    """Otherwise they were forgotten."""
    text = re.sub(r"\[\[settle\.rule\]\](.|\n)*?(?=\[\[redeem)", "", RICH)
    with pytest.raises(ConfigError) as caught:
        load_policy(write(tmp_path, text))
    assert [p.split(": ", 1)[1] for p in caught.value.problems] == [
        "pools.eu-video.settle: is missing (terms for it, or a [[settle.rule]] with an act)"
    ]


def test_all_that_is_wrong_is_said_at_once(tmp_path: Path) -> None:
    """Half a dozen faults, half a dozen problems, in one go."""
    text = RICH
    for old, new, _ in (BAD[1], BAD[4], BAD[15], BAD[28], BAD[33], BAD[43], BAD[49]):
        text = text.replace(old, new, 1)
    with pytest.raises(ConfigError) as caught:
        load_policy(write(tmp_path, text))
    assert len(caught.value.problems) == 7


def test_a_region_that_is_none_beside_a_rule_that_names_another(tmp_path: Path) -> None:
    """What could not be read is no name to compare with; both are told."""
    rule = '[[admit.rule]]\nname = "far"\nmatch = { region = { in = ["mars"] } }\nact = "refuse"\n'
    text = re.sub(r"regions *= *\[", "regions = [7, ", RICH, count=1) + rule
    assert text.count("[7, ") == 1
    with pytest.raises(ConfigError) as caught:
        load_policy(write(tmp_path, text))
    assert any("regions[0]" in problem for problem in caught.value.problems)
    assert any("there is no region mars" in problem for problem in caught.value.problems)


def test_the_hash_is_of_what_is_said(tmp_path: Path) -> None:
    """Spelling does not change it; the order of rules, a bound, a mode and an override do."""
    original = load_policy(write(tmp_path, RICH)).hash
    for old, new in (
        ('gt = "2h"', 'gt = "120m"'),
        ("lt = 0.001", 'lt = "0.1%"'),
        ("[tiers.gold]", "# x\n[tiers.gold]"),
    ):
        assert load_policy(write(tmp_path, spoilt(RICH, old, new))).hash == original
    for old, new in (('gt = "2h"', 'gte = "2h"'), ('"suggest"', '"apply"'), ("ticket 4711", "ticket 4712")):
        assert load_policy(write(tmp_path, spoilt(RICH, old, new))).hash != original


def test_mutated_files_are_accepted_or_refused_with_a_located_message(tmp_path: Path) -> None:
    """None crashes, and what is accepted is sound; `scripts/soak policies` tries ten thousand."""
    ends = [examine(seed, tmp_path) for seed in range(400)]
    assert ends.count("accepted") > 40
    assert ends.count("refused") > 300


# --- the schema ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", POLICIES, ids=lambda p: str(p.relative_to(ROOT)))
def test_the_schema_takes_what_the_reader_takes(path: Path) -> None:
    """Every policy there is."""
    load_policy(path)
    assert accepted_by_schema(path)


SCHEMA_CANNOT_SEE = re.compile(
    "can never hold|not enough|unreachable|there is no|not above|above |below |names two|is in tier|the default, too|"
    "finer than|beside |not a moment|does nothing|budgets.*is missing|(window|until): out of bounds|1e-06|"
    "freeze_if.*not a length"
)
"""Faults between values, and the size of an amount or a time, which are strings to a schema."""


@pytest.mark.parametrize(("old", "new", "expected"), BAD)
def test_the_schema_refuses_what_a_schema_can_see(old: str, new: str, expected: str) -> None:
    """Unknown keys, wrong types and units, missing keys, words, empty lists."""
    if SCHEMA_CANNOT_SEE.search(expected):
        return
    text = spoilt(RICH, old, new) if new != "[close.rule]" else RICH.replace(old, new, 1).partition("[[close.rule]]")[0]
    assert not VALIDATOR.is_valid(as_json(tomllib.loads(text)))


def test_the_shipped_schema_is_that_of_the_reader() -> None:
    """`config/policy.schema.json` is written by `channeld policy schema`; editors find it by the first line."""
    assert json.loads((ROOT / "config/policy.schema.json").read_text()) == json_schema()
    VALIDATOR.check_schema(json_schema())
    for path in POLICIES[:-1]:
        named = path.read_text().splitlines()[0].removeprefix("#:schema ")
        assert (path.parent / named).resolve() == ROOT / "config/policy.schema.json"


def test_every_key_is_described() -> None:
    """An editor shows what a fact or a setting means."""
    for concern, words in VOCABULARY.items():
        rule = json_schema()["properties"][concern.value]["properties"]["rule"]["items"]["properties"]
        for part, known in (("match", words.facts), ("set", words.settings)):
            shown = rule[part]["properties"]
            assert {key: shown[key]["description"] for key in shown} == {key: kind.doc for key, kind in known.items()}


def words_table() -> str:
    """The README's table of the language, made from its words."""
    rows = ["| concern | facts a rule may ask | settings a rule may set | acts |", "|---|---|---|---|"]
    for concern, words in VOCABULARY.items():
        cells = (
            concern.value,
            *(" ".join(f"`{w}`" for w in part) for part in (words.facts, words.settings, words.acts)),
        )
        rows.append(f"| {' | '.join(cells)} |")
    rows += ["", "| fact | unit | |", "|---|---|---|"]
    facts = {fact: kind for words in VOCABULARY.values() for fact, kind in words.facts.items()}
    rows += [f"| `{fact}` | {kind.unit.value} | {kind.doc} |" for fact, kind in sorted(facts.items())]
    rows += ["", "| setting | unit | |", "|---|---|---|"]
    settings = {key: kind for words in VOCABULARY.values() for key, kind in words.settings.items()}
    rows += [f"| `{key}` | {kind.unit.value} | {kind.doc} |" for key, kind in sorted(settings.items())]
    return "\n".join(rows)


def test_the_readme_has_the_words_of_the_language() -> None:
    """What stands between the two marks is what `PYTHONPATH=tests python tests/test_policy_language.py` prints."""
    text = (ROOT / "README.md").read_text()
    assert text.partition("<!-- words -->\n")[2].partition("\n<!-- /words -->")[0] == words_table()


if __name__ == "__main__":
    print(words_table())
