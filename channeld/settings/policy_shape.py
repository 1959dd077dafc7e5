"""Every key that `policy.toml` may have: the one table that its reader and its JSON Schema are made from."""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import pairwise
from typing import Any, Final

from channeld.core.budgets import Purse
from channeld.core.errors import BadValue
from channeld.core.policy import EARLY_ENDS, LONGEST_WINDOW, RECEIVE, URGENT_FEE_CAP, Cap, FreezeIf
from channeld.core.units import Drops, parse_channel_id, parse_duration
from channeld.core.vocabulary import HOLD, PPM, VOCABULARY, Concern, Fact, Mode, Setting, Unit
from channeld.settings.lines import Path as Key
from channeld.settings.problems import Problems
from channeld.settings.scalars import PERCENT_PATTERN, Count, Flag, Moment, Money, NameOf, Ratio, Text, Time, Word
from channeld.settings.shapes import Either, Entry, Listed, Named, Scalar, Schema, Shape, Table

MAX_POOLS: Final = 64
"""Pools, tiers and rules are labels of metrics: their number bounds how many series there are."""
MAX_TIERS: Final = 16
MAX_RULES: Final = 64
MAX_BUDGETS: Final = 32
MAX_OVERRIDES: Final = 256
_HOUR_S: Final = 3600
_DAY_S: Final = 86_400
DEADLINE_PAYOUTS: Final = 10
"""Payouts with a deadline, at their dearest, that a wallet's purse is for where the file says nothing."""
_FREEZE_FACTS: Final = {
    "ledger_lag": Unit.DURATION,
    "reconcile_difference": Unit.COUNT,
    "network_fee_drops": Unit.COUNT,
}
_FREEZE: Final = re.compile(r"(ledger_lag|reconcile_difference|network_fee_drops) ?(>=|>|!=) ?([0-9]{1,9} ?[smhdw]?)")
_FREEZE_REMEDY: Final = 'such as "ledger_lag > 20s", "reconcile_difference != 0" or "network_fee_drops > 5000"'
_MODES: Final = tuple(mode.value for mode in Mode)
_COMPARISONS: Final = ("lt", "lte", "gt", "gte")


def _scalar(unit: Unit, least: int = 0, most: int | None = None) -> Shape:
    """How a value of a unit is written."""
    bounds = {} if most is None else {"most": most}
    if unit is Unit.DROPS:
        return Money(least)
    if unit is Unit.DURATION:
        return Time(least, **bounds)
    if unit is Unit.RATIO:
        return Ratio(least, **bounds)
    return Count(least, **bounds) if unit is Unit.COUNT else NameOf()


# --- bands -----------------------------------------------------------------------------------------------------------


def _check_band(at: Key, band: Mapping[str, Any], problems: Problems) -> None:
    """The right way up: low below target, high not below target."""
    low, target, high = (band.get(mark) for mark in ("low", "target", "high"))
    if low is not None and target is not None and target <= low:
        problems.add((*at, "target"), f"not above {at[-1]}.low", "low below target")
    if high is not None and target is not None and high < target:
        problems.add((*at, "high"), f"below {at[-1]}.target", "low, target, high, in this order")


def _band(unit: Unit, *, high: bool, least: int = 0) -> Table:
    """A band of amounts or, with a `high` mark, of time: then without `low` what lasts until more is there is kept."""
    keys = {
        "low": Entry(_scalar(unit, least), "fund when less than this is left", required=not high),
        "target": Entry(_scalar(unit, 1), "up to this", required=True),
    }
    if high:
        keys["high"] = Entry(_scalar(unit, 1), "and never beyond this, whatever the amounts say")
    return Table(keys, check=_check_band)


# --- chains ----------------------------------------------------------------------------------------------------------


def _matcher(fact: Fact) -> Table:
    """What a rule may ask of a fact: numbers are compared, texts are listed."""
    if fact.unit is Unit.TEXT:
        listed = Listed(NameOf(), most=256, least=1, unique=True)
        return Table({"in": Entry(listed, "one of these", required=True)}, remedy='such as { in = ["a", "b"] }')
    compared = {word: Entry(_scalar(fact.unit)) for word in _COMPARISONS}
    return Table(compared, check=_check_comparison, least=1, remedy="one or two of lt, lte, gt, gte")


def _check_comparison(at: Key, read: Mapping[str, Any], problems: Problems) -> None:
    for strict, loose in (("lt", "lte"), ("gt", "gte")):
        if strict in read and loose in read:
            problems.add((*at, loose), f"beside {strict}", f"one of {strict} and {loose}")


def _setting(setting: Setting) -> Shape:
    if setting.band:
        return _band(setting.unit, high=setting.unit is Unit.DURATION, least=setting.least)
    return _scalar(setting.unit, setting.least, setting.most)


def _chain(concern: Concern) -> Table:
    words = VOCABULARY[concern]
    facts = {fact: Entry(_matcher(kind), kind.doc) for fact, kind in words.facts.items()}
    settings = {key: Entry(_setting(kind), kind.doc) for key, kind in words.settings.items()}
    rule = Table(
        {
            "name": Entry(NameOf(), "unique in its chain; shown by explain, log and metric", required=True),
            "match": Entry(Table(facts), "holds where all of these do; without it, always"),
            "set": Entry(Table(settings, least=1), "laid over the settings so far"),
            "act": Entry(Word(words.acts), "the answer; without it, reading goes on"),
        },
        check=_check_rule,
    )
    return Table(
        {
            "mode": Entry(
                Word(_MODES), "how far the engine goes about this; the more cautious of this and policy.mode"
            ),
            "rule": Entry(Listed(rule, MAX_RULES), "the chain: the first rule with an act whose match holds decides"),
        }
    )


def _check_rule(at: Key, rule: Mapping[str, Any], problems: Problems) -> None:
    if "set" not in rule and "act" not in rule and "name" in rule and not problems.has_below(at):
        problems.add(at, "does nothing", "give it an act or a set")


# --- guards ----------------------------------------------------------------------------------------------------------


class _Freeze(Scalar):
    """One of `freeze_if`."""

    def parse(self, value: object) -> FreezeIf:
        match = _FREEZE.fullmatch(value) if isinstance(value, str) else None
        if match is None:
            raise BadValue("condition", "not a condition known here", _FREEZE_REMEDY)
        fact, comparison, text = match.groups()
        if _FREEZE_FACTS[fact] is Unit.DURATION:
            limit = int(parse_duration(text, "duration"))
        elif text.isdecimal():
            limit = int(text)
        else:
            raise BadValue("condition", "not a plain number", _FREEZE_REMEDY)
        if comparison == "!=" and (limit != 0 or fact == "ledger_lag"):
            raise BadValue("condition", "!= of something else than 0", _FREEZE_REMEDY)
        if comparison == ">=" and limit == 0:
            raise BadValue("condition", "always true", _FREEZE_REMEDY)
        return FreezeIf(fact, limit - (comparison == ">="))

    def schema(self) -> Schema:
        return {"type": "string", "pattern": f"^{_FREEZE.pattern}$"}


class _Share(Scalar):
    """A cap as a percentage."""

    def parse(self, value: object) -> Cap:
        if not isinstance(value, str) or not value.endswith("%"):
            raise BadValue("cap", "not a cap", 'a whole number, or a share such as "0.5%"')
        return Cap(None, Ratio(1, PPM).parse(value))

    def schema(self) -> Schema:
        return {"type": "string", "pattern": PERCENT_PATTERN}


class _CapCount(Count):
    """A cap as a number."""

    def parse(self, value: object) -> Any:
        return Cap(super().parse(value))


def _check_guards(at: Key, guards: Mapping[str, Any], problems: Problems) -> None:
    urgent, ordinary = guards.get("urgent_fee_cap"), guards.get("fee_cap")
    if urgent is not None and ordinary is not None and urgent < ordinary:
        problems.add((*at, "urgent_fee_cap"), "below fee_cap", "fee_cap or more: what is urgent may cost more")
    purse, least = guards.get("deadline_purse"), urgent_fee_cap(guards) if ordinary is not None else None
    if purse is not None and least is not None and purse < least:
        remedy = f"{least} drops (urgent_fee_cap) or more: so much for each payout that may be under way at once"
        problems.add((*at, "deadline_purse"), "not enough for one payout", remedy)


def urgent_fee_cap(guards: Mapping[str, Any]) -> Drops:
    """What is in force where the file says nothing: far less than any payout worth defending, or `fee_cap`."""
    return Drops(guards.get("urgent_fee_cap", max(URGENT_FEE_CAP, guards["fee_cap"])))


def _check_early_ends(at: Key, read: Mapping[str, Any], problems: Problems) -> None:
    """What is forgotten makes nobody wait, and the first wait is the shortest."""
    window, first, longest = (read.get(key) for key in ("window", "first", "longest"))
    if window is not None and longest is not None and longest > window:
        problems.add((*at, "longest"), "above early_ends.window", "at most the window: what it forgets counts no more")
    if first is not None and longest is not None and longest < first:
        problems.add((*at, "longest"), "below early_ends.first", "first to longest, in this order")


_EARLY: Final = Table(
    {
        "free": Entry(Count(0, 32), "so many within the window cost nothing", EARLY_ENDS.free),
        "window": Entry(Time(1, LONGEST_WINDOW), "how far back they count", EARLY_ENDS.window),
        "first": Entry(Time(1), "so long the next one makes the payee wait; each further one twice", EARLY_ENDS.first),
        "longest": Entry(Time(1, LONGEST_WINDOW), "and never longer than this", EARLY_ENDS.longest),
    },
    check=_check_early_ends,
)
GUARDS: Final = Table(
    {
        "treasury_floor": Entry(Money(), "drops a wallet keeps beside the ledger's reserve", 10_000_000),
        "max_opens_per_ledger": Entry(Count(1, 1000), "new channels in one ledger, all pools together", 20),
        "ledger_lag": Entry(Time(1, _HOUR_S), "so long without a validated ledger, and issuing and deciding stop", 20),
        "fee_cap": Entry(Money(10), "the most paid for one ordinary transaction", 5_000),
        "demand_half_life": Entry(Time(1), "over this time an observed rate loses half its weight", _HOUR_S),
        "urgent_fee_cap": Entry(Money(10), f"and for a payout with a deadline; {URGENT_FEE_CAP} drops"),
        "deadline_purse": Entry(
            Money(10), f"so much a wallet keeps for such payouts alone; {DEADLINE_PAYOUTS} times urgent_fee_cap"
        ),
        "deadline_window": Entry(Time(1), "and so much of it is for any span of this length", _DAY_S),
        "ticket_stock": Entry(Count(0, 250), "tickets every wallet keeps ready for new channels", 0),
        "max_closes_per_hour": Entry(
            Either(_Share(), _CapCount(1, 1_000_000)), "closes that nothing forces, pool by pool: a number or a share"
        ),
        "early_ends": Entry(_EARLY, "how long a payee that keeps closing its channels waits for the next"),
        "freeze_if": Entry(Listed(_Freeze(), 8), "any of these stops everything but deadline work", ()),
    },
    check=_check_guards,
)

# --- pools -----------------------------------------------------------------------------------------------------------


def _check_channel(at: Key, channel: Mapping[str, Any], problems: Problems) -> None:
    least, most = channel.get("min"), channel.get("max")
    if least is not None and most is not None and most < least:
        problems.add((*at, "max"), "below channel.min", "min to max, in this order")
    if 0 < channel.get("spare", 0) >= channel.get("max_per_payee", 33):
        problems.add((*at, "spare"), "not below max_per_payee", "a payee needs a channel beside its spares")


def _check_pool(at: Key, pool: Mapping[str, Any], problems: Problems) -> None:
    most, fund = pool.get("channel", {}).get("max"), pool.get("fund", {})
    if most is not None and fund.get("target", 0) > most:
        problems.add((*at, "fund", "target"), "above channel.max, so never reached", "at most channel.max")


CHANNEL: Final = Table(
    {
        "min": Entry(Money(1), "what a new channel gets, unless more is asked for", required=True),
        "max": Entry(Money(1), "never more than this unpaid in one channel", required=True),
        "max_per_payee": Entry(Count(1, 32), "channels a payee may have", 1),
        "spare": Entry(Count(0, 8), "channels kept ready beside those in use", 0),
    },
    check=_check_channel,
)
SETTLE: Final = Table(
    {
        "worth": Entry(Money(1), "pay out once so much is owed", required=True),
        "max_age": Entry(Time(1), "or once the oldest unpaid claim is so old", required=True),
    }
)
CLOSE: Final = Table(
    {
        "idle": Entry(Time(1), "close what nobody used for so long", required=True),
        "min_age": Entry(Time(), "and that is at least so old", 0),
    }
)


def _check_anomaly(at: Key, read: Mapping[str, Any], problems: Problems) -> None:
    """Answers in proportion: what is worse is answered harder."""
    steps = [(word, read[word]) for word in ("slow_down", "refuse", "hold") if word in read]
    if not steps and not problems.has_below(at):
        problems.add(at, "does nothing", "one or more of slow_down, refuse and hold")
    for (mild, low), (hard, high) in pairwise(steps):
        if high <= low:
            problems.add((*at, hard), f"not above anomaly.{mild}", "slow_down, refuse, hold, each above the one before")


ANOMALY: Final = Table(
    {
        "slow_down": Entry(Ratio(PPM), "from more than so many times what is usual: max_per_s"),
        "refuse": Entry(Ratio(PPM), "from more than so many times: nothing before retry_after"),
        "hold": Entry(Ratio(PPM), "from more than so many times: nothing until a person thaws it"),
        "least": Entry(Money(), "up to so much, nothing is unusual", 1_000_000),
        "max_per_s": Entry(Count(1, 1_000_000), "slowed down: so many requests a second", 1),
        "retry_after": Entry(Time(1, 86_400), "when a refused one may come again", 600),
    },
    check=_check_anomaly,
)
POOL: Final = Table(
    {
        "wallet": Entry(NameOf(), "the wallet that pays, as named in channeld.toml", required=True),
        "max_locked_per_payee": Entry(Money(1), "never more than this unpaid in all channels of one payee"),
        "regions": Entry(Listed(NameOf(), 64, unique=True), "where its readers are", ()),
        "trust_request": Entry(Flag(), "a server's request may choose it by naming one of its regions", False),
        "settle_delay": Entry(Time(1), "what payees have, after a close is requested, to redeem", required=True),
        "cancel_after": Entry(Time(1), "a fixed end for new channels"),
        "life_margin": Entry(Time(), "no claim nearer than this to the end of a channel's safe life", _HOUR_S),
        "channel": Entry(CHANNEL, "how large a channel is, and how many there are", required=True),
        "runway": Entry(_band(Unit.DURATION, high=True), "in time of forecast demand", required=True),
        "fund": Entry(_band(Unit.DROPS, high=False, least=1), "in amounts, whatever the forecast"),
        "settle": Entry(SETTLE, "when what was signed is paid out"),
        "close": Entry(CLOSE, "when an unused channel is closed"),
        "anomaly": Entry(ANOMALY, "what is done when a server, user or payee spends many times what is usual for it"),
    },
    check=_check_pool,
)

# --- channels that pay us --------------------------------------------------------------------------------------------


def _check_receive(at: Key, receive: Mapping[str, Any], problems: Problems) -> None:
    """No claim is taken in so late that it would have to be collected at once."""
    life, end = receive.get("min_life"), receive.get("before_end")
    if life is not None and end is not None and life <= end:
        problems.add((*at, "min_life"), "not above receive.before_end", "before_end below min_life")


RECEIVING: Final = Table(
    {
        "min_amount": Entry(Money(), "no claim on a channel that holds less in all", RECEIVE.min_amount),
        "min_settle_delay": Entry(
            Time(), "nor on one that leaves us less time after its source requests a close", RECEIVE.min_settle_delay
        ),
        "min_life": Entry(Time(1), "nor on one whose fixed end is nearer than this", RECEIVE.min_life),
        "worth": Entry(Money(1), "collect once so much is held", RECEIVE.worth),
        "max_age": Entry(Time(1), "or once the oldest of it is so old", RECEIVE.max_age),
        "before_end": Entry(Time(), "and always so long before a fixed end", RECEIVE.before_end),
        "close_with_last": Entry(
            Flag(), "what is collected from a channel that its source is closing closes it at once", False
        ),
    },
    check=_check_receive,
)

# --- the rest --------------------------------------------------------------------------------------------------------


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
        "limit": Entry(Money(), "so much at most", required=True),
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
                    "mode": Entry(Word(_MODES), "how far the engine goes, whatever a concern's own mode", "apply"),
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
        **{c.value: Entry(_chain(c), f"the chain of rules that decides about `{c.value}`") for c in Concern},
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
