"""The configuration as plain immutable values: what the rest of the daemon sees of `channeld.toml`.

Everything here has been checked; units stand in the names; no secret shows in a `repr`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import SecretBytes

from channeld.adapters.keystore import Seed
from channeld.core.limits import Limit
from channeld.core.units import Address, Drops, Payee, Seconds
from channeld.settings.lines import Path as Key
from channeld.settings.stamps import Stamp

KeyType = Literal["ed25519", "secp256k1"]
Role = Literal["pay", "receive"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DaemonSettings:
    """This daemon: its name in the topics, where it keeps its files, how long an answered id is remembered (24 h or
    more) and how many at most, and what all content servers together may ask of it.
    """

    name: str
    data_dir: Path
    remember_ids_s: Seconds
    max_ids: int
    limit: Limit


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerSettings:
    """The nodes, and the network they must be of. `quorum` lies in 1..len(endpoints)."""

    endpoints: tuple[str, ...]
    network_id: int
    quorum: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreSettings:
    """The SQLite file. It need not exist yet, nor its folder. The history of decisions, in a file beside it, keeps at
    most `history_entries` answers (1000 or more), none older than `history_age_s`. A channel that is gone stays in it
    whole for `keep_closed_s`, which is longer than request ids are remembered, and then goes to its archive.
    """

    path: Path
    history_age_s: Seconds
    history_entries: int
    keep_closed_s: Seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class MqttSettings:
    """The broker. The files are for TLS only; `cert_file` and `key_file` come together or not at all.

    `session_expiry_s` is at most half of `daemon.remember_ids_s`, so that nothing redelivered outlives its id.
    """

    host: str
    port: int
    tls: bool
    ca_file: Path | None
    cert_file: Path | None
    key_file: Path | None
    username: str | None
    password: SecretBytes | None
    topic_prefix: str
    session_expiry_s: Seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpSettings:
    """The one HTTP listener. Port 0 takes any free port. Without `admin_token` no state can be changed over HTTP."""

    host: str
    port: int
    admin_token: SecretBytes | None


@dataclass(frozen=True, slots=True, kw_only=True)
class WalletSettings:
    """An account of ours and its keys.

    `seed` signs transactions, `claim_seed` signs claims only and is the `public_key` of the channels it opens; both are
    None where the settings were loaded without secrets. Whether `seed` belongs to `address` must be checked by whoever
    derives the key: it may also be the account's regular key, which only the ledger knows. A retired claim seed says no
    key type: an `sEd...` is ed25519, of an `s...` derive both, for a rotation may have changed the type.
    """

    name: str
    role: Role
    address: Address
    key_type: KeyType
    seed_file: Path
    seed: Seed | None
    claim_key_type: KeyType | None
    claim_seed_file: Path | None
    claim_seed: Seed | None
    retired_claim_seeds: tuple[Seed, ...]


@dataclass(frozen=True, slots=True)
class PayeeEntry:
    """A payee that a server may charge for, the pool its channels are in, and the labels the operator gave it."""

    payee: Payee
    pool: str
    tier: str | None = None
    region: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    """One content server: whom it may charge for, what it may hand in, and how much a stolen login can cost.

    `payees` is in the file's order, without duplicates. `max_drops_per_day` and `max_locked_drops` are 1 or more, as is
    `max_open_channels`. `receive_accounts` are accounts of our own wallets.
    """

    id: str
    pool: str
    payees: tuple[PayeeEntry, ...]
    receive_accounts: tuple[Address, ...]
    max_drops_per_day: Drops
    max_locked_drops: Drops
    max_open_channels: int
    limit: Limit


class Place(NamedTuple):
    """Where something stands: its key, and the file and line of that, the line None where nobody can tell."""

    key: Key
    file: Path
    line: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All of `channeld.toml`. `path` is the file it came from, `policy_path` the policy file it names.

    `files` are all that it came from, secrets apart, and the policy file; each with its stamp from before it was read.
    `fixed` are the keys that only a restart takes over, with their values as they were read. `named` says where a
    server first names a pool or a tier: by its id, the word "pool" or "tier", and the name.
    """

    path: Path
    policy_path: Path
    daemon: DaemonSettings
    ledger: LedgerSettings
    store: StoreSettings
    mqtt: MqttSettings
    http: HttpSettings
    wallets: Mapping[str, WalletSettings]
    servers: Mapping[str, ServerSettings]
    files: Mapping[Path, Stamp] = field(default_factory=dict, repr=False, compare=False)
    fixed: Mapping[Key, object] = field(default_factory=dict, repr=False, compare=False)
    named: Mapping[tuple[str, str, str], Place] = field(default_factory=dict, repr=False, compare=False)
