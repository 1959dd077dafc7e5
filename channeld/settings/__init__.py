"""The operator's two files, read strictly: `channeld.toml` becomes `Settings`, `policy.toml` becomes a `Policy`."""

from channeld.settings.both import load_both
from channeld.settings.build import check_policy
from channeld.settings.load import load
from channeld.settings.policy import load_policy, parse_policy
from channeld.settings.policy_shape import json_schema
from channeld.settings.reload import read_again
from channeld.settings.sources import find_config, locator
from channeld.settings.stamps import Stamp, stamps
from channeld.settings.values import (
    DaemonSettings,
    HttpSettings,
    LedgerSettings,
    MqttSettings,
    PayeeEntry,
    ServerSettings,
    Settings,
    StoreSettings,
    WalletSettings,
)

__all__ = [
    "DaemonSettings",
    "HttpSettings",
    "LedgerSettings",
    "MqttSettings",
    "PayeeEntry",
    "ServerSettings",
    "Settings",
    "Stamp",
    "StoreSettings",
    "WalletSettings",
    "check_policy",
    "find_config",
    "json_schema",
    "load",
    "load_both",
    "load_policy",
    "locator",
    "parse_policy",
    "read_again",
    "stamps",
]
