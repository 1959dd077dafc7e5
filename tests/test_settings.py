"""`channeld.toml`: what it says becomes values; everything wrong with it is said at once, and no secret ever shows."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from configs import CONFIG, ED_SEED, GENESIS, PAYEE, SECP_SEED, SECRETS, changed, write_config
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from spoil import JUNK, WAYS, loads_or_is_told, mutated, spoilt
from xrpl.core.addresscodec import classic_address_to_xaddress

from channeld.adapters.keystore import PublicHalf, sealed
from channeld.app.broker_settings import broker_settings
from channeld.core.errors import ConfigError
from channeld.settings import Settings, find_config, load, load_both
from channeld.settings.lines import find_lines, line_of
from channeld.settings.sections import FIXED_SECTIONS


def problems(path: Path, env: dict[str, str] | None = None) -> list[str]:
    """What loading this file complains of."""
    with pytest.raises(ConfigError) as caught:
        load(path, env or {})
    return caught.value.problems


def test_a_sound_file_becomes_values(tmp_path: Path) -> None:
    """Every key arrives in its place, with units, and paths start at the file."""
    got = load(write_config(tmp_path), {})
    assert got.policy_path == tmp_path / "policy.toml"
    assert (got.daemon.name, got.daemon.data_dir, got.daemon.remember_ids_s) == (
        "channeld-1",
        tmp_path / "data",
        86_400,
    )
    assert got.ledger.endpoints == ("wss://one.example", "wss://two.example:51233/key")
    assert (got.ledger.network_id, got.ledger.quorum) == (1, 1)
    assert got.store.path == tmp_path / "data/channeld.db"
    assert (got.mqtt.host, got.mqtt.port, got.mqtt.tls, got.mqtt.username) == ("127.0.0.1", 1883, False, "channeld")
    assert got.mqtt.password is not None
    assert got.mqtt.password.get_secret_value() == b"pass-word-of-mqtt"
    assert got.mqtt.session_expiry_s == 43_200
    assert (got.http.host, got.http.port) == ("127.0.0.1", 9464)
    wallet = got.wallets["hot"]
    assert wallet.seed is not None
    assert (wallet.role, wallet.address, wallet.seed.reveal()) == ("pay", GENESIS, ED_SEED)
    server = got.servers["news-eu"]
    assert [str(entry.payee) for entry in server.payees] == [PAYEE]
    assert (server.max_drops_per_day, server.max_locked_drops, server.max_open_channels) == (10**9, 2 * 10**8, 50)


def test_the_client_id_comes_of_name_and_login_and_nobody_else_can_guess_it(tmp_path: Path) -> None:
    """A broker hands our session to whoever says it."""

    def client_id(old: str = "", new: str = "") -> str:
        return broker_settings(load(write_config(tmp_path, changed(old, new) if old else CONFIG), {})).client_id

    ours = client_id()
    assert ours.startswith("channeld-channeld-1-")
    assert "pass-word-of-mqtt" not in ours
    assert ours == client_id(PAYEE, f"{PAYEE}:1"), "a restart or another setting keeps the session"
    (tmp_path / "secrets" / "other").write_text("another-pass-word\n")
    assert (
        len({ours, client_id('name = "channeld-1"', 'name = "two"'), client_id("secrets/mqtt", "secrets/other")}) == 3
    )
    login = 'username = "channeld"\npassword_file = "secrets/mqtt"\n'
    assert client_id(login, "") == "channeld-channeld-1", "anonymous: namesakes still meet"


def test_what_may_be_left_out_has_the_contract_values(tmp_path: Path) -> None:
    """Only `[ledger]`, `[mqtt]`, one wallet and one server must be there."""
    wallet = CONFIG[CONFIG.index("[wallets.hot]") : CONFIG.index("[servers")].replace(
        "retired_claim_seed_files = []", ""
    )
    text = '[ledger]\nendpoints=["ws://h:1"]\nnetwork_id=0\n[mqtt]\nurl="mqtt://h"\n'
    got = load(write_config(tmp_path, f'{text}{wallet}[servers.s]\npayees=["{PAYEE}"]\n'), {})
    assert (got.daemon.name, got.daemon.data_dir, got.daemon.remember_ids_s) == (
        "channeld-1",
        tmp_path / "data",
        86_400,
    )
    assert got.store.path == tmp_path / "data/channeld.db"
    assert (got.mqtt.port, got.mqtt.username, got.mqtt.password) == (1883, None, None)
    assert (got.mqtt.topic_prefix, got.http.port, got.http.admin_token) == ("channeld/v1", 9464, None)
    server = got.servers["s"]
    assert (server.pool, server.max_drops_per_day, server.max_locked_drops) == ("standard", 10**9, 2 * 10**8)


BAD = [
    ('name = "channeld-1"', 'nam = "x"', "daemon.nam: unknown key (did you mean name?)"),
    ('name = "channeld-1"', 'name = "a/b"', "daemon.name: not a name"),
    ('name = "channeld-1"', "name = 5", "daemon.name: must be a string"),
    ("[daemon]", "[deamon]", "deamon: unknown key (did you mean daemon?)"),
    ("[daemon]", "[[daemon]]", "daemon: must be a table"),
    ('policy = "policy.toml"', "policy = 1", "policy: must be a string"),
    ('"24h"', '"23h"', "daemon.remember_ids: out of bounds (at least 24h"),
    ('"24h"', '"1 day"', "daemon.remember_ids: not a length of time"),
    ('"24h"', "86400", "daemon.remember_ids: not a length of time"),
    ('"wss://one.example"', '"https://one.example"', "ledger.endpoints[0]: not a URL of a kind known here"),
    ('"wss://one.example"', '"wss://u:p@one.example"', "ledger.endpoints[0]: a login in a URL"),
    ('"wss://one.example"', '"wss://two.example:51233/key"', "an endpoint is listed twice"),
    ('"wss://one.example"', '"wss://one.example:99999"', "ledger.endpoints[0]: not a URL"),
    ('"wss://one.example"', "7", "ledger.endpoints[0]: must be a string"),
    ("[store]", '[store]\nkeep_closed = "24h"', "store.keep_closed: out of bounds (more than 24h"),
    ("[store]", '[store]\nkeep_closed = "47h"', "store.keep_closed: too short beside daemon.remember_ids"),
    ("network_id = 1", "", "ledger.network_id: is missing"),
    ("network_id = 1", 'network_id = "1"', "ledger.network_id: must be a whole number"),
    ("network_id = 1", "network_id = true", "ledger.network_id: must be a whole number"),
    ("network_id = 1", "network_id = 1.0", "ledger.network_id: must be a whole number"),
    ("network_id = 1", "network_id = 4294967296", "ledger.network_id: out of bounds"),
    ("quorum = 1", "quorum = 0", "ledger.quorum: out of bounds"),
    ("quorum = 1", "quorum = 3", "ledger.quorum: out of bounds (1 to the number of endpoints)"),
    ("sqlite:///data/channeld.db", "postgresql://u:p@h/db", "store.url: a login in a URL"),
    ("sqlite:///data/channeld.db", "postgresql://u@h/db", "store.url: PostgreSQL is not built yet"),
    ("sqlite:///data/channeld.db", "sqlite://x.db", "store.url: not a store known here"),
    ("sqlite:///data/channeld.db", "sqlite:///:memory:", "store.url: names no file"),
    ("mqtt://127.0.0.1:1883", "tcp://127.0.0.1", "mqtt.url: not a URL of a kind known here"),
    ("mqtt://127.0.0.1:1883", "mqtt://me:secret@h", "mqtt.url: a login in a URL (secrets come from files"),
    ("mqtt://127.0.0.1:1883", "mqtt://h:0", "mqtt.url: port 0, on which nobody can be reached (a port of 1 to 65535"),
    (
        "wss://one.example",
        "wss://one.example:0/",
        "ledger.endpoints[0]: port 0, on which nobody can be reached (a port",
    ),
    ("mqtt://127.0.0.1:1883", "mqtt://h/topic", "mqtt.url: more than a broker's address"),
    ('username = "channeld"', 'password = "x"', "mqtt.password: unknown key (did you mean password_file?)"),
    ('username = "channeld"', "", "mqtt.username: is missing"),
    ('username = "channeld"', 'username = "c"\nca_file = "ca.pem"', "mqtt.ca_file: without TLS"),
    ('username = "channeld"', 'username = "c"\ncert_file = "c.pem"', "mqtt.key_file: is missing"),
    ('username = "channeld"', 'username = "c"\nsession_expiry = "13h"', "mqtt.session_expiry: longer than half"),
    ('"channeld/v1"', '"channeld/+"', "mqtt.topic_prefix: not a topic prefix"),
    ('"channeld/v1"', '"/channeld"', "mqtt.topic_prefix: not a topic prefix"),
    ('"channeld/v1"', '"$SYS/x"', "mqtt.topic_prefix: not a topic prefix"),
    ('"channeld/v1"', '""', "mqtt.topic_prefix: not a topic prefix"),
    ('"127.0.0.1:9464"', '"127.0.0.1"', "http.listen: not host:port"),
    ('"127.0.0.1:9464"', '"127.0.0.1:99999"', "http.listen: not host:port"),
    ('"127.0.0.1:9464"', '"::1:80"', "http.listen: not a host to listen on"),
    ("secrets/admin", "secrets/nothing", "http.admin_token_file: "),
    ('role = "pay"', 'role = "both"', "wallets.hot.role: not one of the words known here ('pay' or 'receive')"),
    (GENESIS, GENESIS[:-1] + "i", "wallets.hot.address: the address has a wrong checksum"),
    ('key_type = "ed25519"', 'key_type = "rsa"', "wallets.hot.key_type: not one of the words known here"),
    ('key_type = "ed25519"', 'key_type = "secp256k1"', "wallets.hot.seed_file: an sEd... seed is for ed25519 only"),
    ("secrets/hot.seed", "secrets/none.seed", "wallets.hot.seed_file: "),
    ("secrets/hot.seed", "secrets", "wallets.hot.seed_file: "),
    ("secrets/hot.seed", "secrets/mqtt", "wallets.hot.seed_file: does not hold a family seed"),
    ('claim_seed_file = "secrets/claims.seed"', "", "wallets.hot.claim_seed_file: is missing"),
    ('claim_key_type = "ed25519"', "", "wallets.hot.claim_key_type: is missing"),
    ("[wallets.hot]", '[wallets."a b"]', "wallets.a b: not a name"),
    ("[servers.news-eu]", '[servers."x/y"]', "servers.x/y: not a name"),
    (f'payees = ["{PAYEE}"]', "", "servers.news-eu.payees: is missing"),
    (f'"{PAYEE}"', f'"{PAYEE}:01"', "servers.news-eu.payees[0]: not a destination tag"),
    (f'"{PAYEE}"', f'"{PAYEE}:\uff11"', "servers.news-eu.payees[0]: not a payee"),
    (f'"{PAYEE}"', f'"{PAYEE}:4294967296"', "servers.news-eu.payees[0]: not a destination tag"),
    (f'"{PAYEE}"', f'"{PAYEE}", "{PAYEE}"', "servers.news-eu.payees[1]: listed twice"),
    (f'"{PAYEE}"', f'"{classic_address_to_xaddress(PAYEE, 7, False)}"', "an X-address of the main network"),
    ("receive_accounts = []", f'receive_accounts = ["{PAYEE}"]', f"{PAYEE} is no wallet's address"),
    ('"1000 XRP"', '"0"', "servers.news-eu.max_drops_per_day: a cap of nothing"),
    ('"1000 XRP"', "1000", "servers.news-eu.max_drops_per_day: not an amount of money"),
    ('"1000 XRP"', '"-1 XRP"', "servers.news-eu.max_drops_per_day: not an amount of money"),
    ("max_open_channels = 50", "max_open_channels = 0", "servers.news-eu.max_open_channels: out of bounds"),
    ("max_open_channels = 50", 'max_open_channels = "50"', "must be a whole number"),
    ("[http]", "[http", "not TOML"),
    ("quorum = 1", "quorum = " + "9" * 5000, "not TOML: a number too large"),
    ("quorum = 1", "quorum = " + "[" * 5000, "nested too deeply"),
]


@pytest.mark.parametrize(("old", "new", "expected"), BAD)
def test_bad_input_is_refused_by_name(tmp_path: Path, old: str, new: str, expected: str) -> None:
    """Each fault is named with the file, the key and what would be right."""
    path = write_config(tmp_path, changed(old, new))
    found = problems(path)
    assert any(expected in problem for problem in found), found
    assert all(problem.startswith(str(path)) for problem in found)
    assert not any(secret in "\n".join(found) for secret in SECRETS.values())


def test_all_problems_are_said_at_once_with_their_lines(tmp_path: Path) -> None:
    """Faults in several tables do not hide each other."""
    text = CONFIG.replace("quorum = 1", "quorum = 9").replace('role = "pay"', 'role = "x"').replace("= 50", "= 0")
    text = text.replace("1883", "x").replace(f'"{PAYEE}"', '"rX"').replace('"24h"', '"1h"')
    path = write_config(tmp_path, "surplus = 1\n" + text)
    found = problems(path, {"CHANNELD_NO__SUCH": "1"})
    for key in ("surplus", "daemon.remember_ids", "ledger.quorum", "mqtt.url", "wallets.hot.role", "NO__SUCH"):
        assert any(key in problem for problem in found), (key, found)
    for key in ("servers.news-eu.max_open_channels", "servers.news-eu.payees[0]"):
        assert any(key in problem for problem in found), (key, found)
    assert any(problem.startswith(f"{path}:6: daemon.remember_ids") for problem in found), found


def test_a_bad_key_does_not_hide_a_bad_seed_nor_missing_payees(tmp_path: Path) -> None:
    """Within one table, too."""
    text = CONFIG.replace('role = "pay"', 'role = "x"').replace(f'payees = ["{PAYEE}"]', "surplus = 1")
    path = write_config(tmp_path, text)
    (tmp_path / "secrets/hot.seed").chmod(0o644)
    found = problems(path)
    assert any("hot.seed is open to others" in problem for problem in found), found
    assert any("servers.news-eu.payees: is missing" in problem for problem in found), found


def test_wallets_and_servers_must_be_there(tmp_path: Path) -> None:
    """At least one of each."""
    found = problems(write_config(tmp_path, CONFIG[: CONFIG.index("[wallets")]))
    assert any("no wallet" in problem for problem in found)
    assert any("no content server" in problem for problem in found)


def test_an_account_belongs_to_one_wallet(tmp_path: Path) -> None:
    """Two writers of one account would use its sequence numbers twice."""
    wallet = CONFIG[CONFIG.index("[wallets.hot]") : CONFIG.index("[servers")]
    found = problems(write_config(tmp_path, CONFIG + wallet.replace("hot]", "cold]")))
    assert any("wallets.cold.address: is wallet hot's, too" in problem for problem in found), found


def test_encrypted_seeds_open_with_their_passphrase_files(tmp_path: Path) -> None:
    """A retired claim seed may be older than the encryption."""
    text = CONFIG.replace(
        'claim_key_type = "ed25519"', 'claim_key_type = "ed25519"\nclaim_passphrase_file = "secrets/p"'
    )
    text = text.replace("retired_claim_seed_files = []", 'retired_claim_seed_files = ["secrets/hot.seed"]')
    path = write_config(tmp_path, text)
    secrets = tmp_path / "secrets"
    (secrets / "p").write_text("correct horse\n")
    (secrets / "p").chmod(0o600)
    assert any("claim_seed_file" in p and "is not encrypted" in p for p in problems(path))
    public = PublicHalf("ed25519", "ED", "r")
    (secrets / "claims.seed").write_text(sealed.seal(ED_SEED, b"correct horse", public, cost_log2=4))
    wallet = load(path, {}).wallets["hot"]
    assert wallet.claim_seed is not None
    assert wallet.claim_seed.reveal() == ED_SEED
    assert len(wallet.retired_claim_seeds) == 1
    (secrets / "p").write_text("incorrect horse")
    assert any("wrong passphrase" in p for p in problems(path))


LOCATED = """\
[a]  # 1
"b.c" = 1
d.e = [
  "[x]",
  1, # ]
]
f = '''
[g]
h = 1
'''
[[r.s]]
t = { u = 1, v = [2] }
[r.s.w]
x = 1
[[r.s]]
t = 2
"""


@pytest.mark.parametrize(
    ("key", "line"),
    [
        (("a",), 1),
        (("a", "b.c"), 2),
        (("a", "d", "e", 1), 3),
        (("a", "f"), 7),
        (("g",), None),
        (("r", "s", 0, "t", "u"), 12),
        (("r", "s", 0, "w", "x"), 14),
        (("r", "s", 1, "t"), 16),
        (("r", "s", 1, "missing"), 15),
        (("z",), None),
    ],
)
def test_keys_are_found_on_their_lines(key: tuple[str | int, ...], line: int | None) -> None:
    """Through comments, long strings, arrays and arrays of tables; else the nearest thing around."""
    assert line_of(find_lines(LOCATED), key) == line


@given(st.text())
def test_no_text_breaks_the_line_finder(text: str) -> None:
    """It only ever helps."""
    assert all(1 <= line <= text.count("\n") + 1 for line in find_lines(text).values())


def test_the_environment_overrides_scalars(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`CHANNELD_<SECTION>__<KEY>`; its relative paths start at the working folder, numbers are numbers."""
    path = write_config(tmp_path)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    env = {
        "CHANNELD_DAEMON__DATA_DIR": "here",
        "CHANNELD_LEDGER__NETWORK_ID": "0",
        "CHANNELD_STORE__URL": "sqlite:///x/y.db",
        "CHANNELD_MQTT__PASSWORD": "from-environment",
        "CHANNELD_CONFIG": "ignored.toml",
        "PATH": "/bin",
    }
    got = load(path, env)
    assert got.daemon.data_dir == elsewhere / "here"
    assert got.ledger.network_id == 0
    assert got.store.path == elsewhere / "x/y.db"
    assert got.mqtt.password is not None
    assert got.mqtt.password.get_secret_value() == b"from-environment"


@pytest.mark.parametrize(
    "variable",
    [
        "CHANNELD_FOO",
        "CHANNELD_DAEMON__NAM",
        "CHANNELD_LEDGER__ENDPOINTS",
        "CHANNELD_WALLETS__HOT",
        "CHANNELD_POLICY",
        "CHANNELD_",
        "CHANNELD_daemon__name",
        "CHANNELD_DAEMON__NAME__X",
        "CHANNELD_DAEMON_NAME",
    ],
)
def test_an_unknown_variable_is_an_error(tmp_path: Path, variable: str) -> None:
    """It is a setting that somebody believes to be in force."""
    assert any(variable in problem for problem in problems(write_config(tmp_path), {variable: "x"}))


SCALARS = {
    "daemon.name": "x",
    "daemon.data_dir": "here",
    "daemon.remember_ids": "48h",
    "daemon.max_ids": "1000000000",
    "daemon.max_requests_per_s": "7",
    "daemon.max_in_flight": "8",
    "ledger.network_id": "4294967295",
    "ledger.quorum": "2",
    "store.url": "sqlite:///here/x.db",
    "store.history_age": "2d",
    "store.history_entries": "2000",
    "store.keep_closed": "60d",
    "mqtt.url": "mqtts://h",
    "mqtt.username": "me",
    "mqtt.password_file": "secrets/mqtt",
    "mqtt.topic_prefix": "a/b",
    "mqtt.ca_file": "secrets/mqtt",
    "mqtt.cert_file": "secrets/mqtt",
    "mqtt.key_file": "secrets/mqtt",
    "mqtt.session_expiry": "1h",
    "http.listen": "[::1]:80",
    "http.admin_token_file": "secrets/admin",
}


def test_every_scalar_key_can_be_set_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All that the fixed sections have, arrays and what is only reserved apart, as the same value in the file."""
    known = {f"{name}.{key}" for name, table in FIXED_SECTIONS.items() for key in table.model_fields}
    assert known - {"ledger.endpoints", "store.password_file"} == SCALARS.keys()
    monkeypatch.chdir(tmp_path)
    env = {f"CHANNELD_{key.replace('.', '__').upper()}": text for key, text in SCALARS.items()}
    got = load(write_config(tmp_path), env, secrets=False)
    text = CONFIG
    for key, value in SCALARS.items():
        section, _, name = key.partition(".")
        text = re.sub(rf"(?m)^{name} = .*\n", "", text) if name != "url" else text
        text = text.replace(f"[{section}]", f"[{section}]\n{name} = " + (value if value.isdigit() else f'"{value}"'))
    for url in ("sqlite:///data/channeld.db", "mqtt://127.0.0.1:1883"):
        text = spoilt(text, f'url = "{url}"\n', "")
    assert got == load(write_config(tmp_path, text), {}, secrets=False)
    assert (got.daemon.max_ids, got.daemon.limit.max_in_flight, got.store.history_entries) == (10**9, 8, 2000)


@pytest.mark.parametrize(
    ("variable", "hint"),
    [
        ("CHANNELD_POLICY", "policy stands in the file only"),
        ("CHANNELD_WALLETS__HOT__ROLE", "wallets stands in the file only"),
        ("CHANNELD_LEDGER__ENDPOINTS", "arrays stand in the file only"),
        ("CHANNELD_DAEMON_NAME", "did you mean CHANNELD_DAEMON__NAME?"),
        ("CHANNELD_MQTT__USER", "did you mean CHANNELD_MQTT__USERNAME?"),
        ("CHANNELD_mqtt__url", "did you mean CHANNELD_MQTT__URL?"),
        ("CHANNELD_LOG_LEVEL", "scalar keys of daemon, ledger, store, mqtt and http only"),
    ],
)
def test_an_unknown_variable_has_a_hint_that_helps(tmp_path: Path, variable: str, hint: str) -> None:
    """What all of them have in common makes nothing alike."""
    found = problems(write_config(tmp_path), {variable: "x"})
    assert any(f"environment {variable}: no such setting ({hint})" in problem for problem in found), found


def test_a_bad_variable_is_named_as_such(tmp_path: Path) -> None:
    """The message sends its reader to the environment, not to the file."""
    found = problems(write_config(tmp_path), {"CHANNELD_LEDGER__QUORUM": "two"})
    assert any("environment CHANNELD_LEDGER__QUORUM: ledger.quorum: must be a whole number" in p for p in found)


def test_secrets_show_nowhere(tmp_path: Path) -> None:
    """Neither repr nor str nor an error holds any of them."""
    got = load(write_config(tmp_path), {})
    for secret in SECRETS.values():
        assert secret not in repr(got)
        assert secret not in str(got.mqtt.password)
        assert secret not in f"{got.wallets['hot'].seed}"
    misplaced = changed("secrets/hot.seed", SECP_SEED)
    found = "\n".join(problems(write_config(tmp_path, changed("key_type = ", f'"{ED_SEED}" = 1\nkey_type = '))))
    assert ED_SEED not in found
    assert "(a secret?): unknown key" in found
    assert "wallets.hot.seed_file" in "\n".join(problems(write_config(tmp_path, misplaced)))


def test_without_secrets_no_secret_file_is_opened(tmp_path: Path) -> None:
    """`channeld status` works for people who may not see the keys."""
    path = write_config(tmp_path)
    for name in SECRETS:
        (tmp_path / "secrets" / name).unlink()
    got = load(path, {}, secrets=False)
    assert got.wallets["hot"].seed is None
    assert got.mqtt.password is None


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644])
def test_a_seed_open_to_others_is_refused(tmp_path: Path, mode: int) -> None:
    """With the command that puts it right."""
    path = write_config(tmp_path)
    (tmp_path / "secrets/hot.seed").chmod(mode)
    seed = tmp_path / "secrets/hot.seed"
    assert any(f"{seed} is open to others than its owner (chmod 600 {seed})" in p for p in problems(path))


def test_systemd_credentials_stand_in_for_missing_files(tmp_path: Path) -> None:
    """A relative secret that is not beside the config is looked up by its last name; systemd guards its mode."""
    path = write_config(tmp_path)
    folder = tmp_path / "credentials"
    folder.mkdir()
    for name in ("hot.seed", "mqtt"):
        (tmp_path / "secrets" / name).rename(folder / name)
        (folder / name).chmod(0o440)
    got = load(path, {"CREDENTIALS_DIRECTORY": str(folder)})
    assert got.wallets["hot"].seed is not None
    assert got.mqtt.password is not None
    assert len(problems(path)) == 2


def test_payees_and_servers_from_csv(tmp_path: Path) -> None:
    """Many payees and many servers come from files; each row's faults are named by their line."""
    (tmp_path / "payees.csv").write_text(f"payee,pool,tier,region\n{PAYEE}:1,gold,,eu\n{PAYEE}:2\n")
    (tmp_path / "servers.csv").write_text(
        f"server,payees,payees_file,max_locked\na,{PAYEE} {GENESIS}:5,,1 XRP\nb,,payees.csv,\n"
    )
    text = CONFIG[: CONFIG.index("[servers")] + '[servers]\nservers_file = "servers.csv"\n'
    got = load(write_config(tmp_path, text), {})
    assert [str(e.payee) for e in got.servers["a"].payees] == [PAYEE, f"{GENESIS}:5"]
    assert got.servers["a"].max_locked_drops == 10**6
    rows = [(str(e.payee), e.pool, e.tier, e.region) for e in got.servers["b"].payees]
    assert rows == [(f"{PAYEE}:1", "gold", None, "eu"), (f"{PAYEE}:2", "standard", None, None)]
    (tmp_path / "payees.csv").write_text(f"payee,pool\n{PAYEE}:1,gold,extra\nrX,\n{PAYEE},a b\n{PAYEE}:9,\n")
    found = problems(write_config(tmp_path, text))
    assert [p.split(": ")[0].rpartition("/")[2] for p in found] == ["payees.csv:2", "payees.csv:3", "payees.csv:4"]


@pytest.mark.parametrize(
    "text", ["", "payee,colour\n", "pool\nx\n", "payee,payee\n", 'payee\n"', "payee\n\xff", "payee\n\0\n"]
)
def test_bad_csv_is_refused(tmp_path: Path, text: str) -> None:
    """Whatever stands in it, it is a config error."""
    (tmp_path / "payees.csv").write_bytes(text.encode("latin-1"))
    config = changed(f'payees = ["{PAYEE}"]', 'payees_file = "payees.csv"')
    assert any("payees_file" in p for p in problems(write_config(tmp_path, config)))


def test_the_right_x_address_is_a_payee(tmp_path: Path) -> None:
    """One of a test network, for network 1."""
    text = changed(f'"{PAYEE}"', f'"{classic_address_to_xaddress(PAYEE, 0, True)}"')
    got = load(write_config(tmp_path, text), {})
    assert str(got.servers["news-eu"].payees[0].payee) == f"{PAYEE}:0"


def test_where_the_config_is_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The option, else the variable, else the working folder."""
    monkeypatch.chdir(tmp_path)
    assert find_config(Path("a"), {"CHANNELD_CONFIG": "b"}) == tmp_path / "a"
    assert find_config(None, {"CHANNELD_CONFIG": "b"}) == tmp_path / "b"
    (tmp_path / "channeld.toml").touch()
    assert find_config(None, {}) == tmp_path / "channeld.toml"
    assert "cannot be read" in problems(tmp_path / "missing")[0]
    assert "cannot be read" in problems(tmp_path)[0]


_LINES = CONFIG.splitlines()


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(line=st.integers(0, len(_LINES) - 1), junk=JUNK, how=WAYS)
def test_a_mutated_file_never_crashes(tmp_path: Path, line: int, junk: str, how: str) -> None:
    """It loads, or it is a `ConfigError` whose every problem names the file."""
    loads_or_is_told(
        write_config(tmp_path, ""), mutated(_LINES, line, junk, how), lambda path: load(path, {}), Settings
    )


def test_a_private_file_is_read_whoever_we_are(tmp_path: Path) -> None:
    """An unreadable secret is a problem, not a crash."""
    path = write_config(tmp_path)
    (tmp_path / "secrets/mqtt").unlink()
    os.mkfifo(tmp_path / "secrets/mqtt")
    assert any("is not a plain file" in p for p in problems(path))


def test_the_problems_of_both_files_are_said_at_once(tmp_path: Path) -> None:
    """A fault in the one does not hide those in the other, wherever that is."""
    path = write_config(tmp_path, changed('"policy.toml"', '"other.toml"').replace("quorum = 1", "quorum = 7"))
    (tmp_path / "other.toml").write_text("[policy]\nschema = 7\n")
    with pytest.raises(ConfigError) as caught:
        load_both(path, {})
    assert any(p.startswith(f"{path}:9: ledger.quorum: ") for p in caught.value.problems), caught.value.problems
    assert any(p.startswith(f"{tmp_path / 'other.toml'}:2: policy.schema: ") for p in caught.value.problems)
