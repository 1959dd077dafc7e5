"""Every key that `policy.toml` may have: the one table that its reader and its JSON Schema are made from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from channeld.core.budgets import Purse
from channeld.core.errors import BadValue
from channeld.core.units import parse_channel_id
from channeld.core.vocabulary import HOLD, Concern
from channeld.settings.guard_shapes import GUARDS
from channeld.settings.lines import Path as Key
from channeld.settings.pool_shapes import POOL, RECEIVING
from channeld.settings.problems import Problems
from channeld.settings.rule_shapes import MODES, chain
from channeld.settings.scalars import Flag, Moment, Money, NameOf, Text, Time, Word
from channeld.settings.shapes import Entry, Listed, Named, Scalar, Schema, Table

MAX_POOLS: Final = 64
"""Pools, tiers and rules are labels of metrics: their number bounds how many series there are."""
MAX_TIERS: Final = 16
MAX_BUDGETS: Final = 32
MAX_OVERRIDES: Final = 256


class _Schema1(Scalar):
    """The version of the file's language."""

    def parse(self, value: object) -> int:
        if type(value) is not int or value != 1:
            raise BadValue("schema", "a schema unknown here", "schema = 1")
        return value

    def schema(self) -> Schema:
        return {"const": 1}


def _check_budget(at: Key, budget: Mapping[str, Any], problems: Problems) -> None:
    if purse_of(str(at[-1]), budget) == Purse.FEES.value and "window" not in budget and not problems.has_below(at):
        problems.add((*at, "window"), "is missing", 'fees are spent for good: over which time, such as "1d"')
    if purse_of(str(at[-1]), budget) is None and not problems.has_below((*at, "kind")):
        problems.add((*at, "kind"), "is missing", "fees, capital or reserve; or a name that begins with one of them")


def purse_of(budget: str, read: Mapping[str, Any]) -> str | None:
    """What a budget counts: its `kind`, else what its name begins with."""
    first = budget.partition("-")[0]
    kind = read.get("kind", first)
    return kind if kind in {purse.value for purse in Purse} else None


BUDGET: Final = Table(
    {
        "kind": Entry(
            Word(tuple(purse.value for purse in Purse)), "what it counts; by default what its name begins with"
        ),
        "limit": Entry(Money(), "this much at most", required=True),
        "window": Entry(Time(1), "within any span of this length; without it: out at any moment"),
        "pools": Entry(Listed(NameOf(), MAX_POOLS, 1, unique=True), "of these pools only"),
    },
    check=_check_budget,
)
TIER: Final = Table(
    {
        "users": Entry(
            Listed(Text(128, remedy="a user's name, or a pattern with * and ?"), 10_000, 1, unique=True),
            "users by name or pattern",
            (),
        ),
        "trust_request": Entry(Flag(), "a server's request may name this tier", False),
        "dedicated": Entry(Flag(), "channels of their own, with a spare kept ready", False),
        "default": Entry(Flag(), "the tier of everybody else", False),
        "max_locked": Entry(Money(1), "never more than this unpaid in all channels opened for the tier"),
        "max_locked_per_user": Entry(Money(1), "nor than this in the channels that only one user draws from"),
    }
)
SCOPE: Final = Table(
    {
        "channel_id": Entry(
            Text(64, "^[0-9A-Fa-f]{64}$", "not a channel id", "64 hex digits", lambda t: parse_channel_id(t, "id"))
        ),
        "payee": Entry(Text(128, r"^[A-Za-z0-9]{25,60}(:[0-9]{1,10})?$", "not a payee", "rAddress or rAddress:tag")),
        "server": Entry(NameOf()),
        "pool": Entry(NameOf()),
        "tier": Entry(NameOf()),
    },
    least=1,
)
OVERRIDE: Final = Table(
    {
        "scope": Entry(SCOPE, "all that is named must fit", required=True),
        "concern": Entry(
            Listed(Word(tuple(c.value for c in Concern)), len(Concern), 1, unique=True), "what holds", required=True
        ),
        "act": Entry(Word((HOLD,)), "an override only ever holds back", required=True),
        "until": Entry(Moment(), "from then on it is as if it were not there", required=True),
        "why": Entry(Text(500), "for whoever reads it next", required=True),
    }
)
POLICY_FILE: Final = Table(
    {
        "policy": Entry(
            Table(
                {
                    "schema": Entry(_Schema1(), "schema = 1", required=True),
                    "mode": Entry(Word(MODES), "how far the engine goes, whatever a concern's own mode", "apply"),
                }
            ),
            required=True,
        ),
        "guards": Entry(GUARDS, "bounds that no rule lifts"),
        "budgets": Entry(Named(BUDGET, MAX_BUDGETS, what="budget"), "what may be spent at most", {}),
        "tiers": Entry(Named(TIER, MAX_TIERS, what="tier"), "classes of readers", {}),
        "pools": Entry(
            Named(POOL, MAX_POOLS, 1, "pool", "a table [pools.standard]"), "channels that are kept alike", required=True
        ),
        "receive": Entry(RECEIVING, "channels that pay us"),
        **{c.value: Entry(chain(c), f"the chain of rules that decides about `{c.value}`") for c in Concern},
        "override": Entry(Listed(OVERRIDE, MAX_OVERRIDES), "hand-brakes that expire by themselves", ()),
    }
)
"""The whole file."""


def json_schema() -> Schema:
    """The JSON Schema of `policy.toml`, draft 2020-12. It says what a schema can; `channeld policy check` says all."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "channeld policy.toml",
        **POLICY_FILE.schema(),
    }
