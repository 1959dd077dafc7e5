"""Read `policy.toml` into a `Policy`: all of it is checked, and everything wrong with it is said at once.

The file's shape is made to grow: a pool's terms for funding, settling and closing are tables of their own, which rule
chains will layer over. Every amount is money (`"25 XRP"`), every time a length (`"24h"`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Final, Literal, TypeVar

from pydantic import AfterValidator, BeforeValidator, ValidationError

from channeld.core.errors import BadValue
from channeld.core.policy import URGENT_FEE_CAP, ChannelShape, CloseTerms, FundTerms, Guards, Policy, Pool, SettleTerms
from channeld.core.units import Drops, Seconds, parse_duration, parse_money
from channeld.settings.fields import Name, name
from channeld.settings.lines import Path as Key
from channeld.settings.problems import Problems, did_you_mean
from channeld.settings.sections import Table
from channeld.settings.sources import read_toml

MAX_POOLS: Final = 64
"""Pools are a label of metrics: their number bounds how many series there are."""
_TEN_YEARS_S: Final = 10 * 366 * 86_400
_HOUR_S: Final = 3600
_TOP_LEVEL: Final = ("policy", "guards", "pools")
_T = TypeVar("_T", bound=Table)


def _money(least: int) -> BeforeValidator:
    def read(value: object) -> Drops:
        drops = parse_money(value, "money")
        if drops < least:
            raise BadValue("money", "too little", f"at least {least} drops")
        return drops

    return BeforeValidator(read)


def _time(least: int, most: int = _TEN_YEARS_S) -> BeforeValidator:
    def read(value: object) -> Seconds:
        seconds = parse_duration(value, "duration")
        if not least <= seconds <= most:
            raise BadValue("duration", "out of bounds", f"{least} to {most} seconds")
        return seconds

    return BeforeValidator(read)


def _count(most: int, least: int = 1) -> AfterValidator:
    def read(value: int) -> int:
        if not least <= value <= most:
            raise BadValue("number", "out of bounds", f"{least} to {most}")
        return value

    return AfterValidator(read)


class PolicyTable(Table):
    """`[policy]`. Only `apply` is built yet: a mode that acts less than it says would be worse than none."""

    mode: Literal["apply"] = "apply"


class GuardsTable(Table):
    """`[guards]`."""

    treasury_floor: Annotated[Drops, _money(0)] = Drops(10_000_000)
    max_opens_per_ledger: Annotated[int, _count(1000)] = 20
    ledger_lag: Annotated[Seconds, _time(1, _HOUR_S)] = Seconds(20)
    fee_cap: Annotated[Drops, _money(10)] = Drops(5_000)
    demand_half_life: Annotated[Seconds, _time(1)] = Seconds(_HOUR_S)
    urgent_fee_cap: Annotated[Drops, _money(10)] = URGENT_FEE_CAP
    ticket_stock: Annotated[int, _count(250, least=0)] = 0


class ChannelTable(Table):
    """`channel` of a pool."""

    min: Annotated[Drops, _money(1)]
    max: Annotated[Drops, _money(1)]
    max_per_payee: Annotated[int, _count(32)] = 1


class RunwayTable(Table):
    """`runway` of a pool: how much forecast demand a channel is filled for."""

    low: Annotated[Seconds, _time(0)]
    target: Annotated[Seconds, _time(1)]


class FundTable(Table):
    """`fund` of a pool."""

    low: Annotated[Drops, _money(1)]
    target: Annotated[Drops, _money(1)]


class SettleTable(Table):
    """`settle` of a pool."""

    worth: Annotated[Drops, _money(1)]
    max_age: Annotated[Seconds, _time(1)]


class CloseTable(Table):
    """`close` of a pool."""

    idle: Annotated[Seconds, _time(1)]
    min_age: Annotated[Seconds, _time(0)] = Seconds(0)


class PoolTable(Table):
    """`[pools.NAME]`."""

    wallet: Name
    settle_delay: Annotated[Seconds, _time(1)]
    cancel_after: Annotated[Seconds, _time(1)] | None = None
    life_margin: Annotated[Seconds, _time(0)] = Seconds(_HOUR_S)
    channel: ChannelTable
    runway: RunwayTable
    fund: FundTable
    settle: SettleTable
    close: CloseTable


def load_policy(path: Path) -> Policy:
    """Read and check a policy file; raises `ConfigError` with every problem as `file:line: key: what (remedy)`."""
    path = path.absolute()
    data, lines = read_toml(path)
    problems = Problems(path, lines)
    policy = read_policy(data, problems)
    problems.raise_if_any()
    return policy


def read_policy(data: Mapping[str, Any], problems: Problems) -> Policy:
    """The policy in a file's data. What is wrong is noted in `problems`; the answer is only good if nothing was."""
    for key in data:
        if key not in _TOP_LEVEL:
            problems.add((key,), "unknown key", did_you_mean(key, _TOP_LEVEL))
    _table(("policy",), _without_schema(data.get("policy", {}), problems), PolicyTable, problems)
    guards = _table(("guards",), data.get("guards", {}), GuardsTable, problems) or GuardsTable()
    if "urgent_fee_cap" not in guards.model_fields_set:
        guards.urgent_fee_cap = Drops(max(guards.urgent_fee_cap, guards.fee_cap))
    elif guards.urgent_fee_cap < guards.fee_cap:
        problems.add(("guards", "urgent_fee_cap"), "below fee_cap", "fee_cap or more: what is urgent may cost more")
    pools = _pools(data.get("pools", {}), problems)
    values = Guards(**guards.model_dump())
    return Policy(schema=1, pools=MappingProxyType(pools), guards=values, hash=policy_hash(1, pools, values))


def policy_hash(schema: int, pools: Mapping[str, Pool], guards: Guards) -> str:
    """SHA-256 (hex) of what a policy says, whatever its comments, order and spelling of amounts."""
    canonical = {
        "schema": schema,
        "guards": asdict(guards),
        "pools": {pool.name: asdict(pool) for pool in pools.values()},
    }
    text = json.dumps(canonical, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def _without_schema(head: object, problems: Problems) -> object:
    """Check `schema` here, for a pydantic model cannot have a field of that name; the rest goes to the model."""
    if not isinstance(head, dict):
        return head
    schema = head.get("schema")
    if type(schema) is not int or schema != 1:
        problems.add(("policy", "schema"), "is missing" if schema is None else "a schema unknown here", "schema = 1")
    return {key: value for key, value in head.items() if key != "schema"}


def _table(key: Key, data: object, model: type[_T], problems: Problems) -> _T | None:
    try:
        return model.model_validate(data)
    except ValidationError as error:
        problems.add_validation(key, error, model)
        return None


def _pools(tables: object, problems: Problems) -> dict[str, Pool]:
    if not isinstance(tables, dict) or not tables:
        problems.add(("pools",), "no pool", "a table [pools.standard]")
        return {}
    if len(tables) > MAX_POOLS:
        problems.add(("pools",), "too many pools", f"at most {MAX_POOLS}")
    pools = {}
    for pool, data in tables.items():
        key = ("pools", pool)
        try:
            name(pool)
        except BadValue as error:
            problems.add_bad_value(key, error)
        if (table := _table(key, data, PoolTable, problems)) is not None:
            _check_pool(key, table, problems)
            pools[pool] = _pool(pool, table)
    return pools


def _check_pool(key: Key, table: PoolTable, problems: Problems) -> None:
    """What one value says against another: bands the right way up, and a life long enough to issue in."""
    if table.channel.max < table.channel.min:
        problems.add((*key, "channel", "max"), "below channel.min", "min to max, in this order")
    if table.fund.target <= table.fund.low:
        problems.add((*key, "fund", "target"), "not above fund.low", "low below target")
    if table.fund.target > table.channel.max:
        problems.add((*key, "fund", "target"), "above channel.max, so never reached", "at most channel.max")
    if table.runway.target <= table.runway.low:
        problems.add((*key, "runway", "target"), "not above runway.low", "low below target")
    if table.cancel_after is not None and table.cancel_after <= table.settle_delay + table.life_margin:
        remedy = "longer than settle_delay and life_margin together, else no claim could ever be issued"
        problems.add((*key, "cancel_after"), "too short", remedy)


def _pool(pool: str, table: PoolTable) -> Pool:
    return Pool(
        name=pool,
        wallet=table.wallet,
        settle_delay=table.settle_delay,
        cancel_after=table.cancel_after,
        life_margin=table.life_margin,
        channel=ChannelShape(**table.channel.model_dump()),
        fund=FundTerms(
            low=table.fund.low,
            target=table.fund.target,
            runway_low=table.runway.low,
            runway_target=table.runway.target,
        ),
        settle=SettleTerms(**table.settle.model_dump()),
        close=CloseTerms(**table.close.model_dump()),
    )
