"""Read `channeld.toml` and everything it names into one `Settings`, or say all that is wrong with it.

Each table is read by itself, so that a fault in one does not hide those in the others; checks across tables run for
those that could be read.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, NamedTuple, TypeVar

from pydantic import ValidationError

from channeld.core.errors import BadValue, ConfigError
from channeld.settings import build
from channeld.settings.fields import Context, name, resolve
from channeld.settings.lines import Path as Key
from channeld.settings.problems import Problems
from channeld.settings.secrets import SecretReader
from channeld.settings.sections import (
    DaemonTable,
    HttpTable,
    LedgerTable,
    MqttTable,
    StoreTable,
    Table,
    WalletTable,
)
from channeld.settings.servers import ServerReader, read_servers
from channeld.settings.sources import FromEnvironment, find_config, merge, read_environment, read_toml
from channeld.settings.stamps import Stamp, stamp
from channeld.settings.values import HttpSettings, MqttSettings, Settings, WalletSettings

CREDENTIALS_VARIABLE: Final = "CREDENTIALS_DIRECTORY"
RELOADED: Final = frozenset({("daemon", "max_requests_per_s"), ("daemon", "max_in_flight")})
"""What a running daemon takes over of the fixed sections; of the others it takes `policy` and all about servers."""
_T = TypeVar("_T", bound=Table)


class Reading(NamedTuple):
    """What a config file says, as far as it could be read: `settings` only where there are no problems."""

    settings: Settings | None
    policy_path: Path | None
    problems: list[str]


def load(path: Path | None, env: Mapping[str, str], *, secrets: bool = True) -> Settings:
    """Load the config file (see `find_config` for which) with the environment `env` over it.

    With `secrets` False no secret file is opened and every secret is None: for commands that only read, by people who
    may not see the keys. Raises `ConfigError` with every problem found; nothing is half loaded. Opening encrypted key
    files takes some 0.3 s each.
    """
    reading = read(path, env, secrets=secrets, files={})
    if reading.settings is None:
        raise ConfigError(reading.problems)
    return reading.settings


def read(path: Path | None, env: Mapping[str, str], *, secrets: bool, files: MutableMapping[Path, Stamp]) -> Reading:
    """The same for whoever goes on to the policy file, whatever is wrong with this one.

    Every file that is looked at, secrets apart, is put into `files` before that, also where it is then refused.
    """
    try:
        file = find_config(path, env)
        files[file] = stamp(file)
        data, lines = read_toml(file)
    except ConfigError as error:
        return Reading(None, None, error.problems)
    problems = Problems(file, lines)
    environment = read_environment(env, problems)
    problems.origins = environment.origins
    credentials = Path(env[CREDENTIALS_VARIABLE]) if env.get(CREDENTIALS_VARIABLE) else None
    context = Context(file.parent, credentials)
    reader = SecretReader(problems, context, enabled=secrets)
    loader = _Loader(file, problems, context, environment, reader, files)
    settings = loader.settings(merge(data, environment, problems))
    found = list(dict.fromkeys(problems.found)) or ([] if settings else [f"{file}: not usable"])
    return Reading(None if found else settings, loader.policy_path, found)


@dataclass(slots=True)
class _Loader:
    """The work of one `load`."""

    file: Path
    problems: Problems
    context: Context
    environment: FromEnvironment
    secrets: SecretReader
    files: MutableMapping[Path, Stamp]
    fixed: dict[Key, object] = field(default_factory=dict)
    policy_path: Path | None = None

    def settings(self, merged: Mapping[str, Any]) -> Settings | None:
        """All of it, or None where something required could not be read; the problems are noted."""
        daemon_table = self._table("daemon", merged, DaemonTable)
        ledger_table = self._table("ledger", merged, LedgerTable)
        store_table = self._table("store", merged, StoreTable)
        mqtt = self._mqtt(merged, daemon_table)
        http = self._http(merged)
        wallets = self._wallets(merged.get("wallets", {}))
        network_id = ledger_table.network_id if ledger_table else None
        server_reader = ServerReader(self.problems, self.context, network_id, self.files)
        servers = read_servers(merged.get("servers", {}), merged.get("servers_file"), server_reader, self.problems)
        if not merged.get("servers") and not merged.get("servers_file"):
            self.problems.add(("servers",), "no content server", "add a table [servers.NAME] or a servers_file")
        self._check_accounts(wallets, servers)
        if mqtt is not None and mqtt.username is not None and mqtt.username in servers:
            remedy = "another id, or another mqtt.username: a login has the rights of one of them"
            self.problems.add(("servers", mqtt.username), "is the daemon's own login", remedy)
        policy_path = self.policy_path = self._find_policy(merged.get("policy", "policy.toml"))
        ledger = build.ledger(ledger_table, self.problems) if ledger_table else None
        daemon = build.daemon(daemon_table, self.context) if daemon_table else None
        store = build.store(store_table, daemon, self.context, self.problems) if store_table else None
        if not (daemon and ledger and store and mqtt and http and policy_path):
            return None
        return Settings(
            path=self.file,
            policy_path=policy_path,
            daemon=daemon,
            ledger=ledger,
            store=store,
            mqtt=mqtt,
            http=http,
            wallets=MappingProxyType(wallets),
            servers=MappingProxyType(dict(servers)),
            files=MappingProxyType(dict(self.files)),
            fixed=MappingProxyType(self.fixed),
            named=MappingProxyType(server_reader.named),
        )

    def _table(self, section: str, merged: Mapping[str, Any], model: type[_T]) -> _T | None:
        try:
            table = model.model_validate(merged.get(section, {}), context=self.context)
        except ValidationError as error:
            self.problems.add_validation((section,), error, model)
            return None
        self._fix((section,), table)
        return table

    def _fix(self, key: Key, table: Table) -> None:
        """Note what only a restart takes over: all but what servers may ask in all."""
        for own in type(table).model_fields:
            if (*key, own) not in RELOADED:
                self.fixed[*key, own] = getattr(table, own)

    def _find_policy(self, text: str) -> Path | None:
        try:
            path = resolve(text, self.context.base)
        except BadValue as error:
            self.problems.add_bad_value(("policy",), error)
            return None
        self.files[path] = stamp(path)
        return path

    def _mqtt(self, merged: Mapping[str, Any], daemon: DaemonTable | None) -> MqttSettings | None:
        table = self._table("mqtt", merged, MqttTable)
        if table is None:
            return None
        from_environment = self.environment.secrets.get(("mqtt", "password"))
        password = self.secrets.password(("mqtt", "password_file"), table.password_file, from_environment)
        if table.username is None and (table.password_file or from_environment is not None):
            self.problems.add(("mqtt", "username"), "is missing", "a password belongs to a user name")
        return build.mqtt(table, password, daemon, self.problems)

    def _http(self, merged: Mapping[str, Any]) -> HttpSettings | None:
        table = self._table("http", merged, HttpTable)
        if table is None:
            return None
        from_environment = self.environment.secrets.get(("http", "admin_token"))
        token = self.secrets.password(("http", "admin_token_file"), table.admin_token_file, from_environment)
        host, port = table.listen
        return HttpSettings(host=host, port=port, admin_token=token)

    def _wallets(self, tables: Mapping[str, object]) -> dict[str, WalletSettings]:
        wallets = {}
        for wallet, data in tables.items():
            key = ("wallets", wallet)
            try:
                name(wallet)
                table = WalletTable.model_validate(data, context=self.context)
            except BadValue as error:
                self.problems.add_bad_value(key, error)
            except ValidationError as error:
                self.problems.add_validation(key, error, WalletTable)
                self.secrets.look_at_seeds(key, data, error)
            else:
                self._fix(key, table)
                build.check_wallet(key, table, self.problems)
                wallets[wallet] = build.wallet(wallet, table, self.secrets.seeds(key, table))
        if not tables:
            self.problems.add(("wallets",), "no wallet", "add a table [wallets.hot]")
        return wallets

    def _check_accounts(self, wallets: Mapping[str, WalletSettings], servers: build.Servers) -> None:
        """An account stands in one wallet only, and servers hand in claims for accounts of ours only."""
        owners: dict[str, str] = {}
        for wallet in wallets.values():
            if (other := owners.setdefault(wallet.address, wallet.name)) != wallet.name:
                self.problems.add(
                    ("wallets", wallet.name, "address"), f"is wallet {other}'s, too", "one wallet an account"
                )
        for server in servers.values():
            if foreign := [a for a in server.receive_accounts if a not in owners]:
                key = ("servers", server.id, "receive_accounts")
                self.problems.add(key, f"{foreign[0]} is no wallet's address", "only accounts of our own wallets")
