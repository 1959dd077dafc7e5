"""A sound configuration in a folder of its own, for tests to spoil."""

from __future__ import annotations

from pathlib import Path

from spoil import spoilt

ED_SEED = "sEdSKaCy2JT7JaM7v95H9SxkhP9wS2r"
SECP_SEED = "snoPBrXtMeMyMHUVTgbuqAfg1SUTb"
GENESIS = "rHb9CJAWyB4rj91VRWn96DkukG4bwdtyTh"
PAYEE = "rLHzPsX6oXkzU2qL12kHCH8G8cnZv1rBJh"

CONFIG = f"""\
policy = "policy.toml"
[daemon]
name = "channeld-1"
data_dir = "data"
remember_ids = "24h"
[ledger]
endpoints = ["wss://one.example", "wss://two.example:51233/key"]
network_id = 1
quorum = 1
[store]
url = "sqlite:///data/channeld.db"
[mqtt]
url = "mqtt://127.0.0.1:1883"
username = "channeld"
password_file = "secrets/mqtt"
topic_prefix = "channeld/v1"
[http]
listen = "127.0.0.1:9464"
admin_token_file = "secrets/admin"
[wallets.hot]
role = "pay"
address = "{GENESIS}"
key_type = "ed25519"
seed_file = "secrets/hot.seed"
claim_key_type = "ed25519"
claim_seed_file = "secrets/claims.seed"
retired_claim_seed_files = []
[servers.news-eu]
payees = ["{PAYEE}"]
pool = "standard"
receive_accounts = []
max_drops_per_day = "1000 XRP"
max_locked = "200 XRP"
max_open_channels = 50
"""

SECRETS = {"hot.seed": ED_SEED, "claims.seed": ED_SEED, "mqtt": "pass-word-of-mqtt", "admin": "token-of-admin"}


def write_config(folder: Path, text: str = CONFIG) -> Path:
    """Write `channeld.toml`, with its secret files, into `folder`."""
    secrets = folder / "secrets"
    secrets.mkdir(exist_ok=True)
    for name, secret in SECRETS.items():
        file = secrets / name
        file.write_text(secret + "\n")
        file.chmod(0o600)
    path = folder / "channeld.toml"
    path.write_text(text)
    return path


def changed(old: str, new: str) -> str:
    """The sound config with one piece of text replaced; the piece must be there."""
    return spoilt(CONFIG, old, new)
