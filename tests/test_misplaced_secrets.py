"""A secret that was put where its file's name belongs, or anywhere else: it is refused, and stands in no output."""

from __future__ import annotations

from pathlib import Path

import pytest
from configs import CONFIG, PAYEE, SECRETS, changed, write_config
from spoil import spoilt

from channeld.adapters.keystore import without_seeds
from channeld.core.base58 import encode_checked
from channeld.core.errors import ConfigError
from channeld.settings import load, load_both, load_policy

POLICY = (Path(__file__).parent.parent / "config/policy.toml").read_text()
ED, SECP = (encode_checked(prefix + b"a family's seed!") for prefix in (b"\x01\xe1\x4b", b"\x21"))
MISPLACED = [ED, SECP, "hunter2-and-more", "half/hunter2-and-more", "x" * 300]


def told(path: Path, env: dict[str, str] | None = None) -> str:
    """All that is complained of: of the config, and of the policy file beside it."""
    with pytest.raises(ConfigError) as caught:
        load_both(path, env or {})
    return "\n".join(caught.value.problems)


def files() -> dict[str, tuple[str, str]]:
    """Every key that names a secret's file: a piece of the sound config, and what it is with SECRET there instead."""
    at = {
        "mqtt.password_file": '"secrets/mqtt"',
        "http.admin_token_file": '"secrets/admin"',
        "wallets.hot.seed_file": '"secrets/hot.seed"',
        "wallets.hot.claim_seed_file": '"secrets/claims.seed"',
        "wallets.hot.retired_claim_seed_files": "[]\n[servers",
    }
    found = {key: (old, '["SECRET"]\n[servers' if old.startswith("[") else '"SECRET"') for key, old in at.items()}
    for key in ("passphrase_file", "claim_passphrase_file"):
        found[f"wallets.hot.{key}"] = ('role = "pay"', f'role = "pay"\n{key} = "SECRET"')
    for key in ("ca_file", "cert_file", "key_file"):
        found[f"mqtt.{key}"] = ("mqtt://127.0.0.1:1883", f'mqtts://h"\n{key} = "SECRET')
    return found


@pytest.mark.parametrize("secret", MISPLACED)
@pytest.mark.parametrize("key", files())
def test_a_secret_in_place_of_its_file_is_not_quoted(tmp_path: Path, key: str, secret: str) -> None:
    """The key is named, and where such a path starts; not the last of it, which is the secret."""
    old, new = files()[key]
    found = told(write_config(tmp_path, changed(old, new.replace("SECRET", secret))))
    assert key in found
    assert secret.rpartition("/")[2] not in found
    assert f"below {tmp_path}: " in found
    assert "a secret itself never stands here" in found


@pytest.mark.parametrize("secret", MISPLACED)
@pytest.mark.parametrize(
    "variable", ["MQTT__PASSWORD_FILE", "HTTP__ADMIN_TOKEN_FILE", "MQTT__KEY_FILE", "MQTT__CERT_FILE", "MQTT__CA_FILE"]
)
def test_nor_is_one_from_the_environment(tmp_path: Path, variable: str, secret: str) -> None:
    """The variable is named."""
    env = {f"CHANNELD_{variable}": secret, "CHANNELD_MQTT__URL": "mqtts://h"}
    found = told(write_config(tmp_path), env)
    assert f"environment CHANNELD_{variable}: " in found
    assert secret.rpartition("/")[2] not in found


@pytest.mark.parametrize("seed", [ED, SECP])
@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('policy = "policy.toml"', 'policy = "SEED"'),
        ('policy = "policy.toml"', 'policy = "policy.toml"\nSEED = 1'),
        ('policy = "policy.toml"', 'policy = "policy.toml"\nservers_file = "SEED"'),
        ('name = "channeld-1"', 'name = "SEED"'),
        ('name = "channeld-1"', '"SEED" = 1'),
        ('name = "channeld-1"', '"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx/SEED" = 1'),
        ("[wallets.hot]", "[wallets.SEED]"),
        ('role = "pay"', 'role = "SEED"'),
        ("[servers.news-eu]", "[servers.SEED]"),
        (f'payees = ["{PAYEE}"]', 'payees = ["SEED"]'),
        (f'payees = ["{PAYEE}"]', 'payees_file = "SEED"'),
        ('pool = "standard"', 'pool = "SEED"'),
        ('pool = "standard"', 'tier = "SEED"'),
        ('pool = "standard"', 'region = "SEED"'),
        ("receive_accounts = []", 'receive_accounts = ["SEED"]'),
    ],
)
def test_a_seed_is_quoted_nowhere(tmp_path: Path, old: str, new: str, seed: str) -> None:
    """It is told by its checksum, whatever it was put in for."""
    path = write_config(tmp_path, changed(old, new.replace("SEED", seed)))
    (tmp_path / "policy.toml").write_text(POLICY)
    assert seed[:-1] not in told(path)
    assert seed[:12] not in told(path)


def test_nor_by_the_policy_nor_in_a_variables_name(tmp_path: Path) -> None:
    """Keys, names of pools and what they refer to."""
    for old, new in (('"hot"', f'"{ED}"'), ("[pools.standard]", f"[pools.{ED}]"), ("[guards]", ED)):
        text = spoilt(POLICY, old, new)
        (tmp_path / "policy.toml").write_text(text + "\n[x")
        with pytest.raises(ConfigError) as caught:
            load_policy(tmp_path / "policy.toml")
        assert ED not in str(caught.value)
        (tmp_path / "policy.toml").write_text(text)
        assert ED not in told(write_config(tmp_path))
    found = told(write_config(tmp_path), {f"CHANNELD_{SECP}": "1"})
    assert (SECP in found, "(a secret?)" in found) == (False, True)


def test_seeds_are_found_within_any_text() -> None:
    """Wherever they stand; what only looks like one is left."""
    assert without_seeds(f"/a/{ED}: x{SECP}y, {ED}") == "/a/(a secret?): x(a secret?)y, (a secret?)"
    almost = ED[:-1] + ("r" if ED[-1] != "r" else "p")
    assert without_seeds(f"/a/{almost}") == f"/a/{almost}"


def test_a_file_that_is_there_is_still_named(tmp_path: Path) -> None:
    """So that a mode can be put right."""
    path = write_config(tmp_path)
    (tmp_path / "secrets/hot.seed").chmod(0o644)
    with pytest.raises(ConfigError, match=r"chmod 600 .*/secrets/hot.seed"):
        load(path, {})


def test_every_file_of_a_secret_is_among_those(tmp_path: Path) -> None:
    """A key that is added to the tables later must be tried here."""
    from channeld.settings.sections import FIXED_SECTIONS, WalletTable

    tables = {**FIXED_SECTIONS, "wallets.hot": WalletTable}
    named = {f"{name}.{key}" for name, table in tables.items() for key in table.model_fields if "_file" in key}
    assert named - {"store.password_file"} == files().keys()
    assert all(secret not in CONFIG for secret in SECRETS.values())
