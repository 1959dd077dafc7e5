"""`policy.toml`: a sound file becomes a policy, a bad one is refused whole, with every fault located."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from configs import CONFIG, PAYEE, changed, write_config
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from spoil import JUNK, WAYS, loads_or_is_told, mutated, spoilt

from channeld.core.errors import ConfigError
from channeld.core.policy import Policy
from channeld.core.units import parse_money
from channeld.settings import check_policy, load, load_policy
from channeld.settings.guard_shapes import GUARDS
from channeld.settings.policy_shape import BUDGET, TIER
from channeld.settings.pool_shapes import POOL

SHIPPED = Path(__file__).parent.parent / "config"
POLICY = (SHIPPED / "policy.toml").read_text()


def write(folder: Path, text: str) -> Path:
    """Write a policy file."""
    path = folder / "policy.toml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    return path


def problems(folder: Path, text: str) -> list[str]:
    """What loading this text complains of."""
    with pytest.raises(ConfigError) as caught:
        load_policy(write(folder, text))
    return caught.value.problems


@pytest.mark.parametrize("variant", [".", "testnet", "mainnet"])
def test_the_shipped_policies_are_sound(variant: str) -> None:
    """They define a pool `standard` on wallet `hot`."""
    policy = load_policy(SHIPPED / variant / "policy.toml")
    assert policy.pools["standard"].wallet == "hot"


@pytest.mark.parametrize("variant", [".", "testnet", "mainnet"])
def test_the_shipped_caps_of_a_content_server_leave_room_for_what_its_pool_wants(variant: str) -> None:
    """A channel may grow to its largest, all that may be opened can be, one busy payee leaves room for another."""
    pool = load_policy(SHIPPED / variant / "policy.toml").pools["standard"]
    server = tomllib.loads((SHIPPED / variant / "channeld.toml").read_text())["servers"]["news-eu"]
    locked, a_day = (parse_money(server[key], key) for key in ("max_locked", "max_drops_per_day"))
    assert locked >= 2 * pool.channel.max
    assert locked >= server["max_open_channels"] * pool.channel.min
    assert a_day >= pool.channel.max


@pytest.mark.parametrize("variant", [".", "testnet", "mainnet"])
def test_what_the_shipped_policies_show_commented_out_is_sound(variant: str, tmp_path: Path) -> None:
    """All of it at once, the last of two where a key is shown twice; it names every key of guards, pools and tiers."""
    shown: list[str] = []
    for line in (SHIPPED / variant / "policy.toml").read_text().splitlines():
        if key := re.match(r"# ([a-z_]+) *= ", line):
            shown = [other for other in shown if key[1] != "channel" or not other.startswith("channel ")]
        shown.append(re.sub(r"^# (\[|[a-z_]+ *= )", r"\1", line))
    text = "\n".join(shown) + "\n"
    load_policy(write(tmp_path, text))
    for table in (GUARDS, POOL, TIER, BUDGET):
        assert [key for key in table.keys if not re.search(rf"\b{key}\b", text)] == []


def test_values_arrive_with_their_units() -> None:
    """Drops and seconds."""
    policy = load_policy(SHIPPED / "policy.toml")
    pool = policy.pools["standard"]
    assert (pool.settle_delay, pool.cancel_after, pool.life_margin) == (86_400, None, 3600)
    assert (pool.channel.min, pool.channel.max, pool.channel.max_per_payee) == (2_000_000, 100_000_000, 1)
    assert (pool.fund.runway_low, pool.fund.runway_target) == (6 * 3600, 48 * 3600)
    assert (policy.guards.treasury_floor, policy.guards.fee_cap, policy.guards.ledger_lag) == (10_000_000, 5000, 20)


def test_the_hash_is_of_what_is_said_not_how(tmp_path: Path) -> None:
    """Comments, spelling and defaults do not change it; a value does."""
    original = load_policy(SHIPPED / "policy.toml").hash
    same = "# more\n" + spoilt(POLICY, 'settle_delay = "24h"', 'settle_delay = "1440m"')
    assert load_policy(write(tmp_path, same)).hash == original
    assert load_policy(write(tmp_path, spoilt(POLICY, 'treasury_floor       = "10 XRP"', ""))).hash == original
    assert load_policy(write(tmp_path, spoilt(POLICY, 'settle_delay = "24h"', 'settle_delay = "25h"'))).hash != original


BAD = [
    ("[policy]", "[police]", "police: unknown key (did you mean policy?)"),
    ("schema = 1", "", "policy.schema: is missing"),
    ("schema = 1", "schema = 2", "policy.schema: a schema unknown here"),
    ("schema = 1", "schema = true", "policy.schema: a schema unknown here"),
    (
        "schema = 1",
        'schema = 1\nmode = "off"',
        "policy.mode: not one of the words known here ('observe', 'suggest' or 'apply')",
    ),
    ("[guards]", "[guard]", "guard: unknown key (did you mean guards?)"),
    ("fee_cap ", "feecap ", "guards.feecap: unknown key (did you mean fee_cap?)"),
    ('"0.005 XRP"', '"9"', "guards.fee_cap: too little (at least 10 drops)"),
    ('"0.005 XRP"', "0.005", "guards.fee_cap: not an amount of money"),
    ("max_opens_per_ledger = 20", "max_opens_per_ledger = 0", "guards.max_opens_per_ledger: out of bounds"),
    ("max_opens_per_ledger = 20", "max_opens_per_ledger = 2.5", "guards.max_opens_per_ledger: must be a whole number"),
    ('"20s"', '"0s"', "guards.ledger_lag: out of bounds"),
    ('"20s"', '"20 XRP"', "guards.ledger_lag: not a length of time"),
    ("[pools.standard]", '[pools."a b"]', "pools.a b: not a name"),
    ("[pools.standard]", "[pools]", "pools.wallet: must be a table"),
    ("[pools.standard]", "[[pools.standard]]", "pools.standard: must be a table"),
    ('wallet       = "hot"', "", "pools.standard.wallet: is missing"),
    ("settle_delay ", "settel_delay ", "pools.standard.settel_delay: unknown key (did you mean settle_delay?)"),
    ('min = "2 XRP"', 'min = "0"', "pools.standard.channel.min: too little"),
    ('min = "2 XRP"', 'min = "101 XRP"', "pools.standard.channel.max: below channel.min"),
    ("max_per_payee = 1", "max_per_payee = 33", "pools.standard.channel.max_per_payee: out of bounds (1 to 32)"),
    ('low = "6h"', 'low = "48h"', "pools.standard.runway.target: not above runway.low"),
    ('low = "1 XRP"', 'low = "2 XRP"', "pools.standard.fund.target: not above fund.low"),
    ('target = "2 XRP"', 'target = "200 XRP"', "pools.standard.fund.target: above channel.max"),
    ("# cancel_after = ", 'cancel_after = "25h" # ', "pools.standard.cancel_after: too short"),
    ('worth = "5 XRP"', 'worth = "0 XRP"', "pools.standard.settle.worth: too little"),
    ('max_age = "24h" }', 'max_age = "24h", x = 1 }', "pools.standard.settle.x: unknown key"),
    ('idle = "30d"', 'idle = "30 days"', "pools.standard.close.idle: not a length of time"),
    ("close   = {", "close = 5 # {", "pools.standard.close: must be a table"),
    ("[guards]", "[guards", "not TOML"),
]


@pytest.mark.parametrize(("old", "new", "expected"), BAD)
def test_bad_input_is_refused_by_name_and_line(tmp_path: Path, old: str, new: str, expected: str) -> None:
    """File, line, key, problem, hint."""
    found = problems(tmp_path, spoilt(POLICY, old, new))
    assert any(expected in problem for problem in found), found
    assert all(problem.startswith(str(tmp_path / "policy.toml")) for problem in found)


@pytest.mark.parametrize(("ends", "sound"), [("90010s", False), ("90020s", False), ("90021s", True)])
def test_a_fixed_end_leaves_room_for_a_claim_beside_the_lag_of_ledgers(tmp_path: Path, ends: str, sound: bool) -> None:
    """24 h of settle delay, 1 h of margin and 20 s of lag: a second more, and one claim can be issued."""
    text = spoilt(POLICY, "# cancel_after = ", f'cancel_after = "{ends}" # ')
    if sound:
        assert load_policy(write(tmp_path, text)).pools["standard"].cancel_after == 90_021
        return
    (found,) = problems(tmp_path, text)
    line = 1 + text[: text.index(f'"{ends}"')].count("\n")
    assert f"policy.toml:{line}: pools.standard.cancel_after: too short for any claim" in found
    assert "guards.ledger_lag together" in found


def test_all_problems_at_once(tmp_path: Path) -> None:
    """With the line of each."""
    text = 'extra = 1\n[policy]\nschema = 1\n[guards]\nfee_cap = 3\n[pools.a]\nwallet = "hot"\nsettle_delay = "x"\n'
    found = problems(tmp_path, text)
    starts = [problem.removeprefix(str(tmp_path / "policy.toml")) for problem in found]
    for start in (":1: extra: unknown key", ":5: guards.fee_cap: ", ":8: pools.a.settle_delay: "):
        assert any(s.startswith(start) for s in starts), (start, starts)
    assert sum("is missing" in s for s in starts) == 5


@pytest.mark.parametrize("text", ["", "x", "\0", "[[pools]]", "pools = []", "policy = 1\nguards = 2\npools = 3"])
def test_small_rubbish_is_refused(tmp_path: Path, text: str) -> None:
    """Never a crash."""
    assert problems(tmp_path, text)


def test_settings_and_policy_must_fit(tmp_path: Path) -> None:
    """Pools name paying wallets, payees name pools, and nobody opens a channel to himself."""
    policy = load_policy(SHIPPED / "policy.toml")
    assert check_policy(load(write_config(tmp_path), {}), policy) == []
    other = CONFIG.replace("[wallets.hot]", "[wallets.hut]")
    assert any("did you mean hut" in p for p in check_policy(load(write_config(tmp_path, other), {}), policy))
    other = changed('pool = "standard"', 'pool = "standart"')
    assert any("did you mean standard" in p for p in check_policy(load(write_config(tmp_path, other), {}), policy))
    other = changed(f'"{PAYEE}"', '"rHb9CJAWyB4rj91VRWn96DkukG4bwdtyTh:3"')
    assert any("wallet hot itself" in p for p in check_policy(load(write_config(tmp_path, other), {}), policy))


_LINES = [line for line in POLICY.splitlines() if line and not line.startswith("#")]


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(line=st.integers(0, len(_LINES) - 1), junk=JUNK, how=WAYS)
def test_a_mutated_policy_never_crashes(tmp_path: Path, line: int, junk: str, how: str) -> None:
    """It loads, or it is a `ConfigError` whose every problem names the file."""
    loads_or_is_told(tmp_path / "policy.toml", mutated(_LINES, line, junk, how), load_policy, Policy)
