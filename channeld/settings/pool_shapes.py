"""The keys of pools and of what pays us."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any, Final

from channeld.core.policy import RECEIVE
from channeld.core.units import DAY_S, HOUR_S
from channeld.core.vocabulary import PPM, Unit
from channeld.settings.lines import Path as Key
from channeld.settings.problems import Problems
from channeld.settings.rule_shapes import band
from channeld.settings.scalars import Count, Flag, Money, NameOf, Ratio, Time
from channeld.settings.shapes import Entry, Listed, Table


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
        "worth": Entry(Money(1), "pay out once this much is owed", required=True),
        "max_age": Entry(Time(1), "or once the oldest unpaid claim is this old", required=True),
    }
)
CLOSE: Final = Table(
    {
        "idle": Entry(Time(1), "close what nobody used for this long", required=True),
        "min_age": Entry(Time(), "and that is at least this old", 0),
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
        "slow_down": Entry(Ratio(PPM), "from more than this many times what is usual: max_per_s"),
        "refuse": Entry(Ratio(PPM), "from more than this many times: nothing before retry_after"),
        "hold": Entry(Ratio(PPM), "from more than this many times: nothing until a person thaws it"),
        "least": Entry(Money(), "up to this much, nothing is unusual", 1_000_000),
        "max_per_s": Entry(Count(1, 1_000_000), "slowed down: this many requests a second", 1),
        "retry_after": Entry(Time(1, DAY_S), "when a refused one may come again", 600),
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
        "life_margin": Entry(Time(), "no claim nearer than this to the end of a channel's safe life", HOUR_S),
        "channel": Entry(CHANNEL, "how large a channel is, and how many there are", required=True),
        "runway": Entry(band(Unit.DURATION, high=True), "in time of forecast demand", required=True),
        "fund": Entry(band(Unit.DROPS, high=False, least=1), "in amounts, whatever the forecast"),
        "settle": Entry(SETTLE, "when what was signed is paid out"),
        "close": Entry(CLOSE, "when an unused channel is closed"),
        "anomaly": Entry(ANOMALY, "what is done when a server, user or payee spends many times what is usual for it"),
    },
    check=_check_pool,
)


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
        "worth": Entry(Money(1), "collect once this much is held", RECEIVE.worth),
        "max_age": Entry(Time(1), "or once the oldest of it is this old", RECEIVE.max_age),
        "before_end": Entry(Time(), "and always this long before a fixed end", RECEIVE.before_end),
        "close_with_last": Entry(
            Flag(), "what is collected from a channel that its source is closing closes it at once", False
        ),
    },
    check=_check_receive,
)
