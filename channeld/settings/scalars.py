"""Shapes of single values: money, time, counts, ratios, words, names, moments."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from channeld.core.errors import BadValue
from channeld.core.units import MAX_DROPS, parse_duration, parse_money, to_ripple
from channeld.core.vocabulary import PPM, TEN_YEARS_S
from channeld.settings.fields import name
from channeld.settings.shapes import NAME_PATTERN, Scalar, Schema

MONEY_PATTERN: Final = r"^((0|[1-9][0-9]{0,11})(\.[0-9]{1,6})? ?XRP|0|[1-9][0-9]{0,17})$"
DURATION_PATTERN: Final = r"^(0|[1-9][0-9]{0,9}) ?(s|m|h|d|w)$"
PERCENT_PATTERN: Final = r"^[0-9]{1,7}(\.[0-9]{1,4})?%$"
_PERCENT: Final = re.compile(r"[0-9]{1,7}(?:\.[0-9]{1,4})?(?=%\Z)", re.ASCII)


@dataclass(frozen=True)
class Money(Scalar):
    """`"25 XRP"` or a string of drops."""

    least: int = 0

    def parse(self, value: object) -> int:
        drops = parse_money(value, "money")
        if drops < self.least:
            raise BadValue("money", "too little", f"at least {self.least} drops")
        return drops

    def schema(self) -> Schema:
        return {"type": "string", "pattern": MONEY_PATTERN}


@dataclass(frozen=True)
class Time(Scalar):
    """`"90s"`, `"10m"`, `"24h"`, `"7d"` or `"2w"`."""

    least: int = 0
    most: int = TEN_YEARS_S

    def parse(self, value: object) -> int:
        seconds = parse_duration(value, "duration")
        if not self.least <= seconds <= self.most:
            raise BadValue("duration", "out of bounds", f"{self.least} to {self.most} seconds")
        return seconds

    def schema(self) -> Schema:
        return {"type": "string", "pattern": DURATION_PATTERN}


@dataclass(frozen=True)
class Count(Scalar):
    """A whole number."""

    least: int = 0
    most: int = MAX_DROPS

    def parse(self, value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise BadValue("number", "must be a whole number", f"{self.least} to {self.most}")
        if not self.least <= value <= self.most:
            raise BadValue("number", "out of bounds", f"{self.least} to {self.most}")
        return value

    def schema(self) -> Schema:
        return {"type": "integer", "minimum": self.least, "maximum": self.most}


@dataclass(frozen=True)
class Ratio(Scalar):
    """A share such as `0.001`, or `"0.1%"`; read as millionths."""

    least: int = 0
    most: int = 1_000_000 * PPM

    def parse(self, value: object) -> int:
        ppm = _millionths(value)
        if not self.least <= ppm <= self.most:
            raise BadValue("ratio", "out of bounds", f"{self.least / PPM:g} to {self.most / PPM:g}")
        return ppm

    def schema(self) -> Schema:
        number = {"type": "number", "minimum": self.least / PPM, "maximum": self.most / PPM}
        return {"anyOf": [number, {"type": "string", "pattern": PERCENT_PATTERN}]}


def _millionths(value: object) -> int:
    remedy = 'a number such as 0.001, or a percentage such as "0.1%", to a millionth'
    if isinstance(value, str) and (match := _PERCENT.match(value)):
        exact = Decimal(match[0]) / 100
    elif isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 10**9:
        exact = Decimal(str(value))
    else:
        raise BadValue("ratio", "not a ratio", remedy)
    if exact * PPM != int(exact * PPM):
        raise BadValue("ratio", "finer than a millionth", remedy)
    return int(exact * PPM)


@dataclass(frozen=True)
class Word(Scalar):
    """One of a few words."""

    words: tuple[str, ...]

    def parse(self, value: object) -> str:
        if not isinstance(value, str):
            raise BadValue("word", "must be a string", spell_words(self.words))
        if value not in self.words:
            raise BadValue("word", "not one of the words known here", spell_words(self.words))
        return value

    def schema(self) -> Schema:
        return {"enum": list(self.words)}


def spell_words(words: tuple[str, ...]) -> str:
    """The words for a person: `'observe', 'suggest' or 'apply'`."""
    quoted = [f"'{word}'" for word in words]
    return f"{', '.join(quoted[:-1])} or {quoted[-1]}" if len(quoted) > 1 else quoted[0]


@dataclass(frozen=True)
class Text(Scalar):
    """1 to `most` printable characters; with a `pattern`, such as it says, and `parser` makes the value of it."""

    most: int
    pattern: str | None = None
    what: str = "not a printable text"
    remedy: str = ""
    parser: Callable[[str], Any] = str

    def parse(self, value: object) -> Any:
        if not isinstance(value, str):
            raise BadValue("text", "must be a string", self.remedy)
        if not 1 <= len(value) <= self.most or not value.isprintable():
            raise BadValue("text", self.what, self.remedy or f"1 to {self.most} printable characters")
        if self.pattern is not None and not re.search(self.pattern, value, re.ASCII):
            raise BadValue("text", self.what, self.remedy)
        return self.parser(value)

    def schema(self) -> Schema:
        schema: Schema = {"type": "string", "minLength": 1, "maxLength": self.most}
        return schema if self.pattern is None else {**schema, "pattern": self.pattern}


@dataclass(frozen=True)
class NameOf(Scalar):
    """A name that may stand in a topic, a metric label and a file name."""

    def parse(self, value: object) -> str:
        if not isinstance(value, str):
            raise BadValue("name", "must be a string", "1 to 64 of A-Z a-z 0-9 _ -")
        return name(value)

    def schema(self) -> Schema:
        return {"type": "string", "pattern": NAME_PATTERN}


@dataclass(frozen=True)
class Flag(Scalar):
    """`true` or `false`."""

    def parse(self, value: object) -> bool:
        if not isinstance(value, bool):
            raise BadValue("flag", "must be true or false")
        return value

    def schema(self) -> Schema:
        return {"type": "boolean"}


@dataclass(frozen=True)
class Moment(Scalar):
    """A TOML date and time with its offset, `2026-12-01T00:00:00Z`; read as ripple time."""

    def parse(self, value: object) -> int:
        remedy = "without quotes and with its zone, such as 2026-12-01T00:00:00Z"
        if not isinstance(value, datetime) or value.tzinfo is None:
            raise BadValue("moment", "not a moment", remedy)
        try:
            moment = to_ripple(value.timestamp())
        except (OverflowError, ValueError):
            moment = to_ripple(0)
        if not 0 < moment < 2**32:
            raise BadValue("moment", "out of bounds", "2000 to 2136")
        return moment

    def schema(self) -> Schema:
        return {"type": "string", "format": "date-time"}
