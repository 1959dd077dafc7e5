"""The keys of guards: bounds that no rule lifts, and what freezes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from channeld.core.errors import BadValue
from channeld.core.policy import EARLY_ENDS, LONGEST_WINDOW, URGENT_FEE_CAP, Cap, FreezeIf
from channeld.core.units import DAY_S, HOUR_S, Drops, parse_duration
from channeld.core.vocabulary import PPM, Unit
from channeld.settings.lines import Path as Key
from channeld.settings.problems import Problems
from channeld.settings.scalars import PERCENT_PATTERN, Count, Money, Ratio, Time
from channeld.settings.shapes import Either, Entry, Listed, Scalar, Schema, Table

DEADLINE_PAYOUTS: Final = 10
"""Payouts with a deadline, at their dearest, that a wallet's purse is for where the file says nothing."""
_FREEZE_FACTS: Final = {
    "ledger_lag": Unit.DURATION,
    "reconcile_difference": Unit.COUNT,
    "network_fee_drops": Unit.COUNT,
}
_FREEZE: Final = re.compile(r"(ledger_lag|reconcile_difference|network_fee_drops) ?(>=|>|!=) ?([0-9]{1,9} ?[smhdw]?)")
_FREEZE_REMEDY: Final = 'such as "ledger_lag > 20s", "reconcile_difference != 0" or "network_fee_drops > 5000"'


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
        remedy = f"{least} drops (urgent_fee_cap) or more: this much for each payout that may be under way at once"
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
        "free": Entry(Count(0, 32), "this many within the window cost nothing", EARLY_ENDS.free),
        "window": Entry(Time(1, LONGEST_WINDOW), "how far back they count", EARLY_ENDS.window),
        "first": Entry(Time(1), "the next makes the payee wait this long; each further one twice", EARLY_ENDS.first),
        "longest": Entry(Time(1, LONGEST_WINDOW), "and never longer than this", EARLY_ENDS.longest),
    },
    check=_check_early_ends,
)
GUARDS: Final = Table(
    {
        "treasury_floor": Entry(Money(), "drops a wallet keeps beside the ledger's reserve", 10_000_000),
        "max_opens_per_ledger": Entry(Count(1, 1000), "new channels in one ledger, all pools together", 20),
        "ledger_lag": Entry(Time(1, HOUR_S), "this long without a validated ledger, and issuing and deciding stop", 20),
        "fee_cap": Entry(Money(10), "the most paid for one ordinary transaction", 5_000),
        "demand_half_life": Entry(Time(1), "over this time an observed rate loses half its weight", HOUR_S),
        "urgent_fee_cap": Entry(Money(10), f"and for a payout with a deadline; {URGENT_FEE_CAP} drops"),
        "deadline_purse": Entry(
            Money(10), f"this much a wallet keeps for such payouts alone; {DEADLINE_PAYOUTS} times urgent_fee_cap"
        ),
        "deadline_window": Entry(Time(1), "and this much of it is for any span of this length", DAY_S),
        "ticket_stock": Entry(Count(0, 250), "tickets every wallet keeps ready for new channels", 0),
        "max_closes_per_hour": Entry(
            Either(_Share(), _CapCount(1, 1_000_000)), "closes that nothing forces, pool by pool: a number or a share"
        ),
        "early_ends": Entry(_EARLY, "how long a payee that keeps closing its channels waits for the next"),
        "freeze_if": Entry(Listed(_Freeze(), 8), "any of these stops everything but deadline work", ()),
    },
    check=_check_guards,
)
