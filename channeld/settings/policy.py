"""Read `policy.toml` into a `Policy`: all of it is checked, and everything wrong with it is said at once.

Three steps: the file is read by its shape (`policy_shape`), what it says is held against itself (`policy_checks`), and
only if nothing was found it becomes values.
"""

from __future__ import annotations

import enum
import hashlib
import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from channeld.core.budgets import Budget, Purse
from channeld.core.policy import (
    EARLY_ENDS,
    Anomaly,
    ChannelShape,
    CloseTerms,
    EarlyEnds,
    FundTerms,
    Guards,
    Override,
    Policy,
    Pool,
    ReceiveTerms,
    Scope,
    SettleTerms,
    Tier,
)
from channeld.core.units import Drops, Seconds
from channeld.core.vocabulary import TEN_YEARS_S, Concern, Mode
from channeld.settings.guard_shapes import DEADLINE_PAYOUTS, urgent_fee_cap
from channeld.settings.policy_checks import TERMS, check_all, sound_rules
from channeld.settings.policy_shape import POLICY_FILE, purse_of
from channeld.settings.problems import Problems
from channeld.settings.sources import parse_toml, read_toml

_UNUSED_TIME: Final = Seconds(TEN_YEARS_S)
"""What stands in the terms of a pool that has none for a concern; nothing is decided by it."""
_UNORDERED: Final = frozenset({"overrides", "freeze_if", "regions", "users"})
"""Lists of a policy that mean the same in any order."""


def load_policy(path: Path) -> Policy:
    """Read and check a policy file; raises `ConfigError` with every problem as `file:line: key: what (remedy)`."""
    path = path.absolute()
    data, lines = read_toml(path)
    return read_policy(data, Problems(path, lines))


def parse_policy(text: str, path: Path) -> Policy:
    """Read and check a policy file's text; `path` is what problems call it. Raises `ConfigError`."""
    data, lines = parse_toml(text.encode(), path)
    return read_policy(data, Problems(path, lines))


def read_policy(data: Mapping[str, Any], problems: Problems) -> Policy:
    """The policy in a file's data. Raises `ConfigError` with all that is wrong with it."""
    read = POLICY_FILE.read({"policy": {}, "guards": {}, "receive": {}, "pools": {}, **data}, (), problems)
    check_all(read, problems)
    problems.raise_if_any()
    policy = _policy(read, problems)
    return replace(policy, hash=policy_hash(policy))


def policy_hash(policy: Policy) -> str:
    """SHA-256 (hex) of what a policy says, whatever its comments, spelling, and order where none is meant."""
    canonical = _plain(replace(policy, hash=""))
    tables = [*canonical["pools"].values(), *canonical["tiers"].values()]
    for holder in (canonical, canonical["guards"], *tables):
        for key in _UNORDERED & holder.keys():
            holder[key] = sorted(holder[key], key=lambda item: json.dumps(item, sort_keys=True))
    text = json.dumps(canonical, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def _plain(value: Any) -> Any:
    """A value as JSON has it: sets sorted, enumerations and keys by their names."""
    if isinstance(value, enum.Enum):
        return value.value
    if is_dataclass(value):
        return {f.name: _plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Mapping):
        return {str(_plain(key)): _plain(inner) for key, inner in value.items()}
    if isinstance(value, frozenset):
        return sorted(_plain(inner) for inner in value)
    return [_plain(inner) for inner in value] if isinstance(value, tuple) else value


# --- values ----------------------------------------------------------------------------------------------------------


def _policy(read: Mapping[str, Any], problems: Problems) -> Policy:
    rules = {c: tuple(rule for _, rule in sound_rules(read, c, problems)) for c in Concern if read.get(c.value)}
    pools = {name: _pool(name, table) for name, table in read["pools"].items()}
    tiers = {name: Tier(name, **{**table, "users": tuple(table["users"])}) for name, table in read["tiers"].items()}
    return Policy(
        schema=1,
        pools=MappingProxyType(pools),
        guards=_guards(read["guards"]),
        hash="",
        rules=MappingProxyType({c: chain for c, chain in rules.items() if chain}),
        modes=MappingProxyType(_modes(read)),
        tiers=MappingProxyType(tiers),
        budgets=tuple(_budget(name, read["budgets"][name]) for name in sorted(read["budgets"])),
        overrides=tuple(_override(table) for table in read["override"]),
        receive=ReceiveTerms(**read["receive"]),
    )


def _modes(read: Mapping[str, Any]) -> dict[Concern, Mode]:
    """The mode in force for each concern: the more cautious of its own and that of all."""
    everything = Mode(read["policy"]["mode"])
    own = {c: Mode(read.get(c.value, {}).get("mode", Mode.APPLY.value)) for c in Concern}
    return {c: max(everything, mode, key=lambda m: m.caution) for c, mode in own.items()}


def _guards(table: Mapping[str, Any]) -> Guards:
    urgent = urgent_fee_cap(table)
    purse = Drops(table.get("deadline_purse", DEADLINE_PAYOUTS * urgent))
    early = EarlyEnds(**table["early_ends"]) if "early_ends" in table else EARLY_ENDS
    read = {
        "urgent_fee_cap": urgent,
        "deadline_purse": purse,
        "freeze_if": tuple(table["freeze_if"]),
        "early_ends": early,
    }
    return Guards(**{**table, **read})


def _pool(name: str, table: Mapping[str, Any]) -> Pool:
    channel, runway, fund = ChannelShape(**table["channel"]), table["runway"], table.get("fund")
    low, target = (fund["low"], fund["target"]) if fund else (Drops(0), channel.min)
    settle, close = table.get("settle"), table.get("close")
    return Pool(
        name=name,
        wallet=table["wallet"],
        settle_delay=table["settle_delay"],
        cancel_after=table.get("cancel_after"),
        life_margin=table["life_margin"],
        channel=channel,
        fund=FundTerms(low, target, runway.get("low", Seconds(0)), runway["target"], runway.get("high")),
        settle=SettleTerms(**settle) if settle else SettleTerms(channel.max, _UNUSED_TIME),
        close=CloseTerms(**close) if close else CloseTerms(_UNUSED_TIME, Seconds(0)),
        regions=tuple(table["regions"]),
        trust_request=table["trust_request"],
        max_locked_per_payee=table.get("max_locked_per_payee"),
        anomaly=_anomaly(table["anomaly"]) if "anomaly" in table else None,
        terms=frozenset(c for c in Concern if TERMS.get(c, "channel") in table),
    )


def _anomaly(table: Mapping[str, Any]) -> Anomaly:
    return Anomaly(**{"slow_down": None, "refuse": None, "hold": None, **table})


def _budget(name: str, table: Mapping[str, Any]) -> Budget:
    purse, pools = Purse(purse_of(name, table)), frozenset(table.get("pools", ()))
    return Budget(name, purse, table["limit"], table.get("window"), pools)


def _override(table: Mapping[str, Any]) -> Override:
    concerns = frozenset(Concern(word) for word in table["concern"])
    return Override(Scope(**table["scope"]), concerns, table["until"], table["why"])
