"""The words of the policy language: concerns, and for each the facts it may ask, the settings it may set, its acts.

These tables are closed, and they are the only place where a word is declared: the reader of `policy.toml`, its JSON
Schema and the engine all take them from here. Numbers are integers: drops, seconds, counts, and ratios in millionths,
so that equal facts give equal decisions everywhere.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from channeld.core.units import DAY_S, MAX_DROPS

PPM: Final = 1_000_000
"""A ratio of 1, in millionths."""
TEN_YEARS_S: Final = 10 * 366 * DAY_S
YEAR_S: Final = 366 * DAY_S
FOREVER_S: Final = 2**40
"""A runway without end: what a channel that nobody draws from has. More than any length of time a file can name."""


class Concern(enum.Enum):
    """What is decided about, each by its own chain of rules."""

    OPEN = "open"
    FUND = "fund"
    SETTLE = "settle"
    REDEEM = "redeem"
    CLOSE = "close"
    ADMIT = "admit"


class Mode(enum.Enum):
    """How far the engine goes: only look, say what it would do, or do it."""

    OBSERVE = "observe"
    SUGGEST = "suggest"
    APPLY = "apply"

    @property
    def caution(self) -> int:
        """Orders modes: of two that hold, the more cautious is in force."""
        return (Mode.APPLY, Mode.SUGGEST, Mode.OBSERVE).index(self)


class Unit(enum.Enum):
    """What a value counts."""

    DROPS = "drops"
    DURATION = "duration"
    RATIO = "ratio"
    COUNT = "count"
    TEXT = "text"


class Clock(enum.Enum):
    """How a fact changes while nothing happens to its subject."""

    STILL = "still"
    """It does not: only a claim, a ledger entry or the policy moves it."""
    GROWS = "grows"
    """A second for each second."""
    SHRINKS = "shrinks"
    """Down a second for each second."""
    DRIFTS = "drifts"
    """By things that nobody announces: it has to be looked at again now and then."""


@dataclass(frozen=True, slots=True)
class Fact:
    """Something a rule may ask about. Numeric facts are 0 or more.

    `always` says that it is known at all times; of a fact that is not known no matcher holds.
    """

    unit: Unit
    doc: str
    clock: Clock = Clock.STILL
    always: bool = True


@dataclass(frozen=True, slots=True)
class Setting:
    """Something a rule may set, in `least`..`most` of its unit; a `band` is a table { low, target, high }."""

    unit: Unit
    doc: str
    least: int = 0
    most: int = 0
    band: bool = False


@dataclass(frozen=True, slots=True)
class Words:
    """The language of one concern. Of `acts`, the last is always `hold`."""

    facts: Mapping[str, Fact]
    settings: Mapping[str, Setting]
    acts: tuple[str, ...]


HOLD: Final = "hold"
LEARNT: Final = frozenset({"demand_error", "return_probability"})
"""Facts that are known once enough was seen."""

_POOL = Fact(Unit.TEXT, "the pool, by name")
_REGION = Fact(Unit.TEXT, "the region, where the pool has exactly one", always=False)
_TIER = Fact(Unit.TEXT, "the tier", always=False)
_SERVER = Fact(Unit.TEXT, "the content server that the channel was opened for, or that asked")
_WALLET = Fact(Unit.TEXT, "the wallet that pays, by name")
_WHO = {"pool": _POOL, "region": _REGION, "tier": _TIER, "server": _SERVER, "wallet": _WALLET}

_FEE = Fact(
    Unit.COUNT, "drops that the network asks for one ordinary transaction; unknown at first", Clock.DRIFTS, always=False
)
_SPENDABLE = Fact(Unit.DROPS, "what the wallet may part with beside reserve, floor and what is in flight", Clock.DRIFTS)
_HEADROOM = Fact(Unit.DROPS, "what may still be signed on the channel")
_RUNWAY = Fact(Unit.DURATION, "how long the headroom lasts as forecast; without demand, for ever")
_UNREDEEMED = Fact(Unit.DROPS, "what was signed and is not paid out")
_OWED_FOR = Fact(Unit.DURATION, "how long something has been owed; 0 where nothing is", Clock.GROWS)
_FEE_RATIO = Fact(
    Unit.RATIO, "the network's fee against what is unredeemed; unknown where nothing is", Clock.DRIFTS, always=False
)
_REMAINING = Fact(Unit.DROPS, "what the channel holds that was not paid out")
_IDLE = Fact(Unit.DURATION, "time since the last claim, or since the channel was opened", Clock.GROWS)
_AGE = Fact(Unit.DURATION, "time since the channel was opened", Clock.GROWS)
_WANTED = Fact(Unit.DROPS, "the headroom that the largest refused request needs; 0 where none was refused")
_CHANNELS = Fact(Unit.COUNT, "channels the payee has in the pool")
_DEMAND = Fact(Unit.DROPS, "the forecast for the next 24 hours")
_ERROR = Fact(Unit.RATIO, "how far forecasts over 6 hours were off, against what came; unknown at first", always=False)

_COOLDOWN = Setting(Unit.DURATION, "time between two such steps on one channel, or for one payee", 0, YEAR_S)
_RUNWAY_BAND = Setting(
    Unit.DURATION, "fund below `low` of forecast demand, up to `target`, never beyond `high`", 0, TEN_YEARS_S, band=True
)
_HORIZON = Setting(Unit.DURATION, "what is put in shall be enough for this long", 1, TEN_YEARS_S)
_QUANTILE = Setting(Unit.RATIO, "and that with this probability", PPM // 2, PPM - 1)
_WORTH = Setting(Unit.DROPS, "pay out once this much is owed", 1, MAX_DROPS)
_MAX_AGE = Setting(Unit.DURATION, "or once something has been owed for this long", 1, TEN_YEARS_S)

VOCABULARY: Final[Mapping[Concern, Words]] = MappingProxyType(
    {
        Concern.OPEN: Words(
            {
                "wanted": _WANTED,
                "channels": _CHANNELS,
                "demand": _DEMAND,
                "demand_error": _ERROR,
                "spendable": _SPENDABLE,
                "network_fee_drops": _FEE,
                **_WHO,
            },
            {
                "amount": Setting(Unit.DROPS, "put at least this much into a new channel", 1, MAX_DROPS),
                "runway": _RUNWAY_BAND,
                "max_per_payee": Setting(Unit.COUNT, "channels a payee may have in the pool", 1, 32),
                "spare": Setting(Unit.COUNT, "channels kept ready beside the one in use", 0, 8),
                "cooldown": _COOLDOWN,
                "horizon": _HORIZON,
                "quantile": _QUANTILE,
            },
            ("open", HOLD),
        ),
        Concern.FUND: Words(
            {
                "headroom": _HEADROOM,
                "runway": _RUNWAY,
                "wanted": _WANTED,
                "unredeemed": _UNREDEEMED,
                "remaining": _REMAINING,
                "idle": _IDLE,
                "age": _AGE,
                "demand": _DEMAND,
                "demand_error": _ERROR,
                "spendable": _SPENDABLE,
                "network_fee_drops": _FEE,
                **_WHO,
            },
            {
                "headroom": Setting(
                    Unit.DROPS, "fund below `low`, up to `target`, whatever the forecast", 1, MAX_DROPS, band=True
                ),
                "runway": _RUNWAY_BAND,
                "min_step": Setting(Unit.DROPS, "no funding by less, but for a refused request", 0, MAX_DROPS),
                "cooldown": _COOLDOWN,
                "horizon": _HORIZON,
                "quantile": _QUANTILE,
            },
            ("fund_to_target", HOLD),
        ),
        Concern.SETTLE: Words(
            {
                "unredeemed": _UNREDEEMED,
                "unredeemed_age": _OWED_FOR,
                "fee_ratio": _FEE_RATIO,
                "headroom": _HEADROOM,
                "remaining": _REMAINING,
                "idle": _IDLE,
                "age": _AGE,
                "network_fee_drops": _FEE,
                **_WHO,
            },
            {"worth": _WORTH, "max_age": _MAX_AGE, "cooldown": _COOLDOWN},
            ("settle", HOLD),
        ),
        Concern.REDEEM: Words(
            {
                "unredeemed": _UNREDEEMED,
                "unredeemed_age": _OWED_FOR,
                "fee_ratio": _FEE_RATIO,
                "deadline_in": Fact(
                    Unit.DURATION, "time until nothing can be collected any more", Clock.SHRINKS, always=False
                ),
                "network_fee_drops": _FEE,
                "server": Fact(Unit.TEXT, "the content server that handed the claim in"),
                "wallet": Fact(Unit.TEXT, "the account of ours that is paid, by its wallet's name"),
            },
            {"worth": _WORTH, "max_age": _MAX_AGE},
            ("redeem", HOLD),
        ),
        Concern.CLOSE: Words(
            {
                "idle": _IDLE,
                "age": _AGE,
                "unredeemed": _UNREDEEMED,
                "headroom": _HEADROOM,
                "remaining": _REMAINING,
                "runway": _RUNWAY,
                "channels": _CHANNELS,
                "return_probability": Fact(
                    Unit.RATIO,
                    "how likely its payee is to come back, by the silences of its own and of others; unknown at first",
                    Clock.DRIFTS,
                    always=False,
                ),
                "own_downtime": Fact(
                    Unit.DURATION, "how long we ourselves were not there while it was idle", Clock.DRIFTS, always=False
                ),
                "network_fee_drops": _FEE,
                **_WHO,
            },
            {
                "idle": Setting(Unit.DURATION, "close after this long without a claim", 1, TEN_YEARS_S),
                "min_age": Setting(Unit.DURATION, "and not before it is this old", 0, TEN_YEARS_S),
                "notice": Setting(Unit.DURATION, "tell the content server this long before", 1, TEN_YEARS_S),
                "patience": Setting(Unit.DURATION, "what made it due must have held for this long", 0, TEN_YEARS_S),
            },
            ("close", "notify_then_close", HOLD),
        ),
        Concern.ADMIT: Words(
            {
                "drops": Fact(Unit.DROPS, "what the request asks for"),
                "spent_hour": Fact(Unit.DROPS, "what its server spent in the last hour, with this request"),
                "spent_day": Fact(Unit.DROPS, "what its server spent in the last 24 hours, with this request"),
                "user_spent_hour": Fact(
                    Unit.DROPS, "what its user spent in the last hour, with this request", always=False
                ),
                "user_spent_day": Fact(
                    Unit.DROPS, "what its user spent in the last 24 hours, with this request", always=False
                ),
                "tier_spent_day": Fact(
                    Unit.DROPS, "what its server's users of its tier spent in the last 24 hours", always=False
                ),
                "payee_spent_hour": Fact(Unit.DROPS, "what went to its payee in the last hour, with this request"),
                "payee_spent_day": Fact(Unit.DROPS, "what went to its payee in the last 24 hours, with this request"),
                "locked": Fact(
                    Unit.DROPS,
                    "what its payee's channels hold that was not paid out, or its user's own where there are any",
                ),
                "payee_opens_day": Fact(
                    Unit.COUNT, "channels opened for its payee in the last 24 hours, those that are gone included"
                ),
                "anomaly": Fact(
                    Unit.RATIO, "what its server spends in this hour against what is usual for it", always=False
                ),
                "user_anomaly": Fact(
                    Unit.RATIO, "what its user spends today against what is usual for a day of it", always=False
                ),
                "payee_anomaly": Fact(
                    Unit.RATIO, "what goes to its payee today against what is usual for a day of it", always=False
                ),
                "pool": _POOL,
                "region": _REGION,
                "tier": _TIER,
                "server": _SERVER,
            },
            {
                "max_per_s": Setting(Unit.COUNT, "slowed down: this many requests a second", 1, 1_000_000),
                "retry_after": Setting(Unit.DURATION, "when a refused one may come again", 1, DAY_S),
            },
            ("admit", "slow_down", "refuse", HOLD),
        ),
    }
)
"""What each concern may ask, set and do."""
