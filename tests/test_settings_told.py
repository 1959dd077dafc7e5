"""What is wrong is told with file, line, key and remedy: across the two files, and of what the files name."""

from __future__ import annotations

from pathlib import Path

import pytest
from configs import CONFIG, PAYEE, changed, write_config
from spoil import spoilt

from channeld.app.run import alone
from channeld.core.errors import ConfigError
from channeld.settings import check_policy, load, load_both, load_policy

POLICY = (Path(__file__).parent.parent / "config/policy.toml").read_text()
IN_CSV = changed(f'payees = ["{PAYEE}"]', 'payees_file = "payees.csv"')


def told(folder: Path, text: str = CONFIG, policy: str = POLICY) -> list[str]:
    """What is wrong with these two files, without the folder that they are in."""
    path = write_config(folder, text)
    (folder / "policy.toml").write_text(policy)
    with pytest.raises(ConfigError) as caught:
        load_both(path, {})
    return [problem.replace(f"{folder}/", "") for problem in caught.value.problems]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (
            'pool = "standard"',
            'pool = "standart"',
            "channeld.toml:30: servers.news-eu.pool: pool standart is not in policy.toml (did you mean standard?)",
        ),
        (
            'pool = "standard"',
            'pool = "standard"\ntier = "x"',
            "channeld.toml:31: servers.news-eu.tier: tier x is not in policy.toml (it has no tier: add [tiers.x])",
        ),
        (
            "[wallets.hot]",
            "[wallets.hut]",
            "policy.toml:25: pools.standard.wallet: no paying wallet of this name in channeld.toml (did you mean hut?)",
        ),
    ],
)
def test_what_does_not_fit_is_told_where_it_stands(tmp_path: Path, old: str, new: str, expected: str) -> None:
    """By the key that names it, once."""
    two = changed(old, new).replace(f'"{PAYEE}"', f'"{PAYEE}:1", "{PAYEE}:2"')
    assert told(tmp_path, two) == [expected]


def test_so_it_is_where_it_stands_in_a_csv_file(tmp_path: Path) -> None:
    """By the row that names it first, of payees or of servers."""
    (tmp_path / "payees.csv").write_text(
        f"payee,pool,tier\n{PAYEE}:1,,\n{PAYEE}:2,gold,\n{PAYEE}:3,gold,\n{PAYEE},,x\n"
    )
    found = told(tmp_path, IN_CSV)
    assert [problem.partition(" (")[0] for problem in found] == [
        "payees.csv:3: servers.news-eu.payees_file.pool: pool gold is not in policy.toml",
        "payees.csv:5: servers.news-eu.payees_file.tier: tier x is not in policy.toml",
    ]
    (tmp_path / "servers.csv").write_text(f"server,payees,pool\na,{PAYEE},\nb,{PAYEE}:1,gold\n")
    found = told(tmp_path, CONFIG[: CONFIG.index("[servers")] + '[servers]\nservers_file = "servers.csv"\n')
    assert found == ["servers.csv:3: servers.b.pool: pool gold is not in policy.toml (known here: standard)"]


def test_a_rule_that_names_no_wallet_is_told_by_its_line(tmp_path: Path) -> None:
    """As all that the policy refers to."""
    rule = '[[redeem.rule]]\nname = "a"\nact = "hold"\nmatch = { wallet = { in = ["till"] }, idle = { gt = "1h" } }\n'
    line = POLICY.count("\n") + 4
    found = told(tmp_path, policy=POLICY + rule.replace(", idle = { gt", ", unredeemed_age = { gt"))
    assert found == [
        f"policy.toml:{line}: redeem.rule[0].match.wallet: no wallet till in channeld.toml (known here: hot)"
    ]


def test_a_candidate_is_told_by_its_own_name(tmp_path: Path) -> None:
    """And not by that of the policy in force."""
    settings = load(write_config(tmp_path), {})
    candidate = tmp_path / "candidate.toml"
    candidate.write_text("\n" + spoilt(POLICY, '"hot"', '"hut"').replace("standard", "other"))
    found = check_policy(settings, load_policy(candidate), candidate)
    assert found[0].startswith(f"{candidate}:26: pools.other.wallet: ")
    assert "pool standard is not in candidate.toml" in found[1]


@pytest.mark.parametrize(
    ("content", "expected"),
    [(None, "no such file or directory (name a CSV file)"), (b"payee\n\xff", "is not UTF-8 text (save it as UTF-8)")],
)
def test_a_csv_file_that_cannot_be_read_is_told_why(tmp_path: Path, content: bytes | None, expected: str) -> None:
    """Missing is not the same as strange."""
    if content is not None:
        (tmp_path / "payees.csv").write_bytes(content)
    assert [f"channeld.toml:29: servers.news-eu.payees_file: payees.csv{': ' * (not content)}"] == [
        problem.removesuffix(expected).rstrip() + " " * (not content) for problem in told(tmp_path, IN_CSV)
    ]


def test_a_missing_claim_seed_is_told_once(tmp_path: Path) -> None:
    """A wallet that pays needs one, whatever else of it is there."""
    found = told(tmp_path, changed('claim_seed_file = "secrets/claims.seed"\n', ""))
    assert found == [
        "channeld.toml:20: wallets.hot.claim_seed_file: is missing (a wallet that pays signs claims with it)"
    ]


@pytest.mark.parametrize(("old", "key"), [('"data"', "daemon.data_dir"), ("/data/channeld.db", "store.url")])
def test_a_folder_that_cannot_be_written_is_told_by_its_key(tmp_path: Path, old: str, key: str) -> None:
    """Each of the two locks stands in one."""
    (tmp_path / "file").touch()
    settings = load(write_config(tmp_path, changed(old, old.replace("data", "file/data"))), {})
    with pytest.raises(ConfigError) as caught, alone(settings):
        pass
    line = 4 if key == "daemon.data_dir" else 11
    assert caught.value.problems == [
        f"{tmp_path}/channeld.toml:{line}: {key}: {tmp_path}/file/data: not a directory"
        " (a folder that the daemon's user can write to)"
    ]


def test_what_fails_while_the_locks_are_held_is_not_the_locks_fault(tmp_path: Path) -> None:
    """And a second holder is told of the first."""
    settings = load(write_config(tmp_path), {})
    with pytest.raises(FileNotFoundError), alone(settings):
        with pytest.raises(ConfigError, match="another channeld"), alone(settings):
            pass
        raise FileNotFoundError
    with alone(settings):
        pass


@pytest.mark.parametrize(
    ("store", "expected"),
    [
        ('url = "postgresql://u@h/db"', ["store.url: PostgreSQL is not built yet"]),
        ('url = "postgresql://u@h/db"\npassword_file = "secrets/db"', ["store.url: PostgreSQL is not built yet"]),
        ('url = "postgres://u:p@h/db"', ["store.url: PostgreSQL is not built yet", "store.url: a login in a URL"]),
        ('password_file = "secrets/db"', ["store.password_file: not of use yet"]),
    ],
)
def test_postgresql_is_reserved(tmp_path: Path, store: str, expected: list[str]) -> None:
    """What there is instead is said, and nothing that sends its reader elsewhere."""
    found = told(tmp_path, changed('url = "sqlite:///data/channeld.db"', store))
    assert [problem.partition(": ")[2].partition(" (")[0] for problem in found] == expected
    assert ("sqlite:///" in found[0]) == ("url" in expected[0])


def test_no_content_server_has_the_daemons_login(tmp_path: Path) -> None:
    """The broker's access list gives a login the rights of one of them."""
    found = told(tmp_path, changed("[servers.news-eu]", "[servers.channeld]"))
    assert len(found) == 1
    assert found[0].startswith("channeld.toml:28: servers.channeld: is the daemon's own login (")
    assert load(write_config(tmp_path, changed("[servers.news-eu]", "[servers.channeld-2]")), {}).servers
