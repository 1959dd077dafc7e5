"""Turn the tables, once read, into settings, and check what one key says against another."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final, TypeAlias

from pydantic import SecretBytes

from channeld.adapters.keystore import NO_FILE, Seed, missing
from channeld.core.errors import BadValue
from channeld.core.limits import Limit
from channeld.core.policy import Policy
from channeld.core.rules import OneOf
from channeld.core.units import DAY_S, Seconds
from channeld.core.vocabulary import Concern
from channeld.settings.fields import Context, resolve, split_url
from channeld.settings.lines import Path as Key
from channeld.settings.problems import Problems, did_you_mean
from channeld.settings.sections import DaemonTable, LedgerTable, MqttTable, StoreTable, WalletTable
from channeld.settings.sources import locator
from channeld.settings.values import (
    DaemonSettings,
    LedgerSettings,
    MqttSettings,
    Place,
    ServerSettings,
    Settings,
    StoreSettings,
    WalletSettings,
)

Servers: TypeAlias = Mapping[str, ServerSettings]

DEFAULT_SESSION_S: Final = Seconds(43_200)
_KEEP_CLOSED_S: Final = Seconds(30 * DAY_S)
_MQTT_PORTS: Final = {"mqtt": 1883, "mqtts": 8883}
_MQTT_REMEDY: Final = "mqtt://host:port or mqtts://host:port"
_STORE_REMEDY: Final = "sqlite:///relative/path or sqlite:////absolute/path"


def daemon(table: DaemonTable, context: Context) -> DaemonSettings:
    """The daemon's settings; without `data_dir` it is `data` beside the config file."""
    return DaemonSettings(
        name=table.name,
        data_dir=table.data_dir or context.base / "data",
        remember_ids_s=table.remember_ids,
        max_ids=table.max_ids,
        limit=Limit(table.max_requests_per_s, table.max_in_flight),
    )


def ledger(table: LedgerTable, problems: Problems) -> LedgerSettings:
    """The ledger's settings: at least one endpoint, none twice, and a quorum that can be reached."""
    if not table.endpoints:
        problems.add(("ledger", "endpoints"), "no endpoint", "at least one wss:// address")
    if len(set(table.endpoints)) != len(table.endpoints):
        problems.add(("ledger", "endpoints"), "an endpoint is listed twice", "one node cannot agree with itself")
    if not 1 <= table.quorum <= max(1, len(table.endpoints)):
        problems.add(("ledger", "quorum"), "out of bounds", "1 to the number of endpoints")
    return LedgerSettings(endpoints=tuple(table.endpoints), network_id=table.network_id, quorum=table.quorum)


def store(table: StoreTable, daemon: DaemonSettings | None, context: Context, problems: Problems) -> StoreSettings:
    """The store's file; without `url` it is `channeld.db` in the data folder."""
    path = (daemon.data_dir if daemon else context.base / "data") / "channeld.db"
    try:
        path = _store_path(table.url, context.base) if table.url is not None else path
        if table.password_file is not None:
            problems.add(("store", "password_file"), "not of use yet", "it is for PostgreSQL, which is not built yet")
    except BadValue as error:
        problems.add_bad_value(("store", "url"), error)
        if table.url is not None and re.match(r"postgres(ql)?://[^/]*:[^/]*@", table.url):
            problems.add(("store", "url"), "a login in a URL", "secrets come from files: take it out")
    keep = _keep_closed(table, daemon.remember_ids_s if daemon else DAY_S, problems)
    entries = table.history_entries
    return StoreSettings(path=path, history_age_s=table.history_age, history_entries=entries, keep_closed_s=keep)


def _keep_closed(table: StoreTable, remember_ids: Seconds, problems: Problems) -> Seconds:
    """How long a channel that is gone is kept whole: the claim of a remembered request is signed from it again."""
    least = Seconds(remember_ids + DAY_S)
    if table.keep_closed is not None and table.keep_closed < least:
        problems.add(("store", "keep_closed"), "too short beside daemon.remember_ids", f"at least {least}s, a day more")
    return table.keep_closed or Seconds(max(_KEEP_CLOSED_S, least))


def _store_path(url: str, base: Path) -> Path:
    scheme, _, rest = url.partition("://")
    if scheme in {"postgresql", "postgres"}:
        raise BadValue("url", "PostgreSQL is not built yet", f"use {_STORE_REMEDY}")
    if scheme != "sqlite" or not rest.startswith("/") or any(c in rest for c in "?#") or not rest.isprintable():
        raise BadValue("url", "not a store known here", _STORE_REMEDY)
    path = rest[1:]
    if not path.strip("/") or path.startswith(":") or path.endswith("/"):
        raise BadValue("url", "names no file", _STORE_REMEDY)
    return resolve(path, base)


def mqtt(
    table: MqttTable, password: SecretBytes | None, daemon: DaemonTable | None, problems: Problems
) -> MqttSettings | None:
    """The broker's settings, or None where its address cannot be read."""
    _check_tls(table, problems)
    try:
        url = split_url(table.url, frozenset(_MQTT_PORTS), _MQTT_REMEDY)
        if url.path.strip("/") or url.query or url.fragment:
            raise BadValue("url", "more than a broker's address", _MQTT_REMEDY)
    except BadValue as error:
        problems.add_bad_value(("mqtt", "url"), error)
        return None
    return MqttSettings(
        host=url.hostname or "",
        port=_MQTT_PORTS[url.scheme] if url.port is None else url.port,
        tls=url.scheme == "mqtts",
        ca_file=table.ca_file,
        cert_file=table.cert_file,
        key_file=table.key_file,
        username=table.username,
        password=password,
        topic_prefix=table.topic_prefix,
        session_expiry_s=_session(table, daemon, problems),
    )


def _check_tls(table: MqttTable, problems: Problems) -> None:
    """TLS files go with mqtts:// only, exist, and a certificate has its key."""
    files = {"ca_file": table.ca_file, "cert_file": table.cert_file, "key_file": table.key_file}
    for key, path in files.items():
        if path is not None and not table.url.startswith("mqtts://"):
            problems.add(("mqtt", key), "without TLS", "an mqtts:// url")
        elif path is not None and not os.path.isfile(path):  # noqa: PTH113 (must not raise)
            problem = f"{path} is not a plain file" if os.path.lexists(path) else missing(path)
            problems.add(("mqtt", key), problem, f"PEM: {NO_FILE}")
    if (table.cert_file is None) != (table.key_file is None):
        other = "key_file" if table.key_file is None else "cert_file"
        problems.add(("mqtt", other), "is missing", "cert_file and key_file come together")


def _session(table: MqttTable, daemon: DaemonTable | None, problems: Problems) -> Seconds:
    """How long the broker keeps our session: what was redelivered at its very end must still find its id remembered."""
    if daemon is None:
        return table.session_expiry or DEFAULT_SESSION_S
    half = Seconds(daemon.remember_ids // 2)
    if table.session_expiry is not None and table.session_expiry > half:
        problems.add(("mqtt", "session_expiry"), "longer than half of daemon.remember_ids", f"at most {half}s")
    return table.session_expiry or Seconds(min(DEFAULT_SESSION_S, half))


def wallet(name: str, table: WalletTable, seeds: tuple[Seed | None, Seed | None, tuple[Seed, ...]]) -> WalletSettings:
    """A wallet and its seeds."""
    seed, claim_seed, retired = seeds
    return WalletSettings(
        name=name,
        role=table.role,
        address=table.address,
        key_type=table.key_type,
        seed_file=table.seed_file,
        seed=seed,
        claim_key_type=table.claim_key_type,
        claim_seed_file=table.claim_seed_file,
        claim_seed=claim_seed,
        retired_claim_seeds=retired,
    )


def check_wallet(key: Key, table: WalletTable, problems: Problems) -> None:
    """A paying wallet has a claim key; a claim key has a type; a passphrase has something to open."""
    if table.claim_seed_file is not None and table.claim_key_type is None:
        problems.add((*key, "claim_key_type"), "is missing", '"ed25519" or "secp256k1": the same seed gives two keys')
    if table.role == "pay" and table.claim_seed_file is None:
        problems.add((*key, "claim_seed_file"), "is missing", "a wallet that pays signs claims with it")
    elif table.claim_seed_file is None and (table.claim_key_type or table.claim_passphrase_file):
        problems.add((*key, "claim_seed_file"), "is missing", "claim_key_type and claim_passphrase_file go with it")


def check_policy(settings: Settings, policy: Policy, file: Path | None = None) -> list[str]:
    """What settings and policy say of each other that cannot be: an empty list where they fit.

    A pool's wallet must exist and pay, and one that a rule for `redeem` names must exist; a payee's pool must exist,
    and the payee not be the account that would pay. `file` is what the policy was read from, if not the settings' own.
    """
    file = file or settings.policy_path
    return list(dict.fromkeys([*_policy_faults(settings, policy, file), *_server_faults(settings, policy, file)]))


def _policy_faults(settings: Settings, policy: Policy, file: Path) -> list[str]:
    paying = [wallet.name for wallet in settings.wallets.values() if wallet.role == "pay"]
    wrong: list[tuple[Key, str, str]] = []
    for pool in policy.pools.values():
        if pool.wallet not in paying:
            remedy = did_you_mean(pool.wallet, paying) or f'add [wallets.{pool.wallet}] with role = "pay" to it'
            problem = f"no paying wallet of this name in {settings.path.name}"
            wrong.append((("pools", pool.name, "wallet"), problem, remedy))
    for place, rule in enumerate(policy.chain(Concern.REDEEM)):
        named = rule.match.get("wallet")
        for name in sorted(named.words - settings.wallets.keys()) if isinstance(named, OneOf) else ():
            key = (Concern.REDEEM.value, "rule", place, "match", "wallet")
            wrong.append((key, f"no wallet {name} in {settings.path.name}", did_you_mean(name, settings.wallets)))
    problems = locator(file) if wrong else Problems(file)
    for fault in wrong:
        problems.add(*fault)
    return problems.found


def _server_faults(settings: Settings, policy: Policy, file: Path) -> list[str]:
    """What servers name must be in the policy, which is told once a server and name, and where it stands."""
    problems = Problems(settings.path)
    paying = {wallet.name: wallet.address for wallet in settings.wallets.values() if wallet.role == "pay"}
    known: dict[str, Mapping[str, object]] = {"pool": policy.pools, "tier": policy.tiers}
    for server in settings.servers.values():
        used = {("pool", entry.pool): None for entry in server.payees}
        used |= {("tier", entry.tier): None for entry in server.payees if entry.tier is not None}
        for kind, name in used:
            if name not in known[kind]:
                remedy = did_you_mean(name, known[kind]) or f"it has no {kind}: add [{kind}s.{name}]"
                default = Place(("servers", server.id, kind), settings.path, None)
                key, where, line = settings.named.get((server.id, kind, name), default)
                problems.add(key, f"{kind} {name} is not in {file.name}", remedy, file=where, line=line)
        for entry in server.payees:
            of = policy.pools.get(entry.pool)
            if of is not None and paying.get(of.wallet) == entry.payee.account:
                problem = f"{entry.payee} is wallet {of.wallet} itself, which would pay it"
                remedy = "an account cannot open a channel to itself"
                problems.add(("servers", server.id, "payees"), problem, remedy, file=settings.path)
    return problems.found
