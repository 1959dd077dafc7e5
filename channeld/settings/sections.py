"""The tables of `channeld.toml` as strict models: which keys there are, of which type, and what they are by default.

These only read; `load` turns them into the values of `channeld.settings.values`. A TOML string is never taken for a
number, nor the other way round, and a key that is not here is an error.
"""

from __future__ import annotations

from typing import Any, Final

from pydantic import BaseModel, ConfigDict
from pydantic_settings import BaseSettings, SettingsConfigDict

from channeld.core.units import DAY_S, Drops, Seconds
from channeld.settings.fields import (
    AccountAddress,
    Count,
    Endpoint,
    FilePath,
    HistoryAge,
    HistoryEntries,
    Ids,
    KeepClosed,
    Listen,
    Money,
    Name,
    RememberFor,
    SecretPath,
    SessionTime,
    TopicPrefix,
    Uint32,
    UserName,
    Waiting,
)
from channeld.settings.values import KeyType, Role


class Table(BaseModel):
    """One table: strict types, no unknown keys, and no input quoted in errors."""

    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True, arbitrary_types_allowed=True)


class DaemonTable(Table):
    """`[daemon]`."""

    name: Name = "channeld-1"
    data_dir: FilePath | None = None
    remember_ids: RememberFor = DAY_S
    max_ids: Ids = 20_000_000
    max_requests_per_s: Count = 100_000
    max_in_flight: Waiting = 8000


class LedgerTable(Table):
    """`[ledger]`, required: there is no sensible default for whom to believe."""

    endpoints: list[Endpoint]
    network_id: Uint32
    quorum: int = 1


class StoreTable(Table):
    """`[store]`. `password_file` is reserved for PostgreSQL."""

    url: str | None = None
    password_file: SecretPath | None = None
    history_age: HistoryAge = Seconds(30 * DAY_S)
    history_entries: HistoryEntries = 500_000
    keep_closed: KeepClosed | None = None


class MqttTable(Table):
    """`[mqtt]`, required."""

    url: str
    username: UserName | None = None
    password_file: SecretPath | None = None
    topic_prefix: TopicPrefix = "channeld/v1"
    ca_file: FilePath | None = None
    cert_file: FilePath | None = None
    key_file: SecretPath | None = None
    session_expiry: SessionTime | None = None


class HttpTable(Table):
    """`[http]`."""

    listen: Listen = ("127.0.0.1", 9464)
    admin_token_file: SecretPath | None = None


class WalletTable(Table):
    """`[wallets.NAME]`."""

    role: Role
    address: AccountAddress
    key_type: KeyType
    seed_file: SecretPath
    passphrase_file: SecretPath | None = None
    claim_key_type: KeyType | None = None
    claim_seed_file: SecretPath | None = None
    claim_passphrase_file: SecretPath | None = None
    retired_claim_seed_files: list[SecretPath] = []


class ServerTable(Table):
    """`[servers.ID]`."""

    payees: list[str] | None = None
    payees_file: FilePath | None = None
    pool: Name = "standard"
    tier: Name | None = None
    region: Name | None = None
    receive_accounts: list[AccountAddress] = []
    max_drops_per_day: Money = Drops(1_000_000_000)
    max_locked: Money = Drops(200_000_000)
    max_open_channels: Count = 50
    max_requests_per_s: Count = 20_000
    max_in_flight: Waiting = 4000


FIXED_SECTIONS: Final[dict[str, type[Table]]] = {
    "daemon": DaemonTable,
    "ledger": LedgerTable,
    "store": StoreTable,
    "mqtt": MqttTable,
    "http": HttpTable,
}
"""The tables whose scalar keys the environment may override."""


class ConfigFile(BaseSettings):
    """The top level of `channeld.toml`. The tables are read one by one, so that all that is wrong shows at once."""

    model_config = SettingsConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)

    policy: str = "policy.toml"
    servers_file: str | None = None
    daemon: dict[str, Any] = {}
    ledger: dict[str, Any] = {}
    store: dict[str, Any] = {}
    mqtt: dict[str, Any] = {}
    http: dict[str, Any] = {}
    wallets: dict[str, Any] = {}
    servers: dict[str, Any] = {}
