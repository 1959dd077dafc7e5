"""Drops, ripple time, seconds and ids: the types, and the only parsers that make them from text.

Every parser is strict: it takes ASCII only, no sign, no blank, no separator, and raises `BadValue` naming the field.
Money is an integer number of drops everywhere (1 XRP = 1 000 000 drops); no float touches it.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Final, NamedTuple, NewType

from channeld.core.errors import BadValue

Drops = NewType("Drops", int)
"""An amount of XRP in drops, 0..10^17."""
RippleTime = NewType("RippleTime", int)
"""Seconds since 2000-01-01T00:00:00Z, as close times and expirations are counted; 0..2^32-1."""
Seconds = NewType("Seconds", int)
"""A length of time, 0 or more."""
LedgerIndex = NewType("LedgerIndex", int)
"""The number of a ledger, 1..2^32-1."""
ChannelId = NewType("ChannelId", str)
"""A payment channel's ledger index: 64 upper-case hex digits."""
Address = NewType("Address", str)
"""A classic XRP Ledger address (`r...`) whose checksum was verified."""

MAX_DROPS: Final = 10**17
"""All the XRP there is. A larger number of drops is never money. Sources: rippled SystemParameters.h."""
DROPS_PER_XRP: Final = 10**6
RIPPLE_EPOCH: Final = 946_684_800
"""Unix time of the ripple epoch."""
MAX_UINT32: Final = 2**32 - 1
HOUR_S: Final = Seconds(3600)
DAY_S: Final = Seconds(24 * HOUR_S)

_DROPS = re.compile(r"0|[1-9][0-9]{0,17}", re.ASCII)
_XRP = re.compile(r"(0|[1-9][0-9]{0,11})(\.[0-9]{1,6})? ?XRP", re.ASCII)
_DURATION = re.compile(r"(0|[1-9][0-9]{0,9}) ?(s|m|h|d|w)", re.ASCII)
_HEX64 = re.compile(r"[0-9A-Fa-f]{64}", re.ASCII)
_UNIT_SECONDS: Final = {"s": 1, "m": 60, "h": HOUR_S, "d": DAY_S, "w": 7 * DAY_S}


def parse_drops(value: object, field: str) -> Drops:
    """Read an amount as the ledger's API writes it: a string of digits, 0..10^17.

    Raises `BadValue` for anything else, a JSON number included: a number may have been through a float.
    """
    if not isinstance(value, str) or not _DROPS.fullmatch(value):
        raise BadValue(
            field, "not an amount in drops", 'a string of digits without sign or leading zero, such as "1500"'
        )
    if (drops := int(value)) > MAX_DROPS:
        raise BadValue(field, "more drops than exist", "at most 10^17")
    return Drops(drops)


def parse_money(value: object, field: str) -> Drops:
    """Read an amount as people write it in config and on the command line: `"25 XRP"`, `"0.5 XRP"` or drops."""
    if isinstance(value, str) and (match := _XRP.fullmatch(value)):
        drops = int(Decimal(match[1] + (match[2] or "")) * DROPS_PER_XRP)
        if drops <= MAX_DROPS:
            return Drops(drops)
        raise BadValue(field, "more XRP than exists", "at most 100000000000 XRP")
    if isinstance(value, str) and _DROPS.fullmatch(value):
        return parse_drops(value, field)
    raise BadValue(field, "not an amount of money", 'such as "25 XRP", "0.5 XRP" or a string of drops')


def parse_duration(value: object, field: str) -> Seconds:
    """Read a length of time such as `"90s"`, `"10m"`, `"24h"`, `"7d"` or `"2w"`."""
    if isinstance(value, str) and (match := _DURATION.fullmatch(value)):
        return Seconds(int(match[1]) * _UNIT_SECONDS[match[2]])
    raise BadValue(field, "not a length of time", 'a whole number and a unit: "90s", "10m", "24h", "7d", "2w"')


def parse_channel_id(value: object, field: str) -> ChannelId:
    """Read a channel id: 64 hex digits in either case; the canonical form is upper case."""
    if isinstance(value, str) and _HEX64.fullmatch(value):
        return ChannelId(value.upper())
    raise BadValue(field, "not a channel id", "64 hex digits")


def format_xrp(drops: int) -> str:
    """Write drops for a person: `"25 XRP"`, `"0.0015 XRP"`; a negative difference keeps its sign."""
    whole, part = divmod(abs(drops), DROPS_PER_XRP)
    digits = f"{whole}.{part:06d}".rstrip("0").rstrip(".")
    return f"{'-' if drops < 0 else ''}{digits} XRP"


def drawn_by(payee: Payee, user: str) -> str:
    """What names the channels that pay a payee: those that all share (no `user`), or those of one user alone."""
    return f"{payee}/{user}" if user else str(payee)


def to_unix(time: RippleTime) -> int:
    """Unix seconds of a ripple time."""
    return time + RIPPLE_EPOCH


def to_ripple(unix_s: float) -> RippleTime:
    """Ripple time of Unix seconds, rounded down; never below 0."""
    return RippleTime(max(0, int(unix_s) - RIPPLE_EPOCH))


class Payee(NamedTuple):
    """Whom a channel pays: an account, and a destination tag or none. Both are fixed for a channel's life.

    `tag` lies in 0..2^32-1; tag 0 and no tag are two different payees. Text becomes one in `channeld.wire.payee`.
    """

    account: Address
    tag: int | None = None

    def __str__(self) -> str:
        """The canonical spelling, `rAddress` or `rAddress:tag`."""
        return self.account if self.tag is None else f"{self.account}:{self.tag}"
