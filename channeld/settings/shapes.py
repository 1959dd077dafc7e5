"""The shape of a TOML file as one value: what it may hold, how it is read, and its JSON Schema.

A shape reads a value that TOML gave and says of the same value what a JSON Schema can say, so that reader and schema
cannot drift apart. Reading never raises: what is wrong is noted in `Problems`, the answer is then `BAD`, and reading
goes on, so that everything wrong with a file shows at once. No message quotes a value.
"""

from __future__ import annotations

import abc
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, Final, cast

from channeld.core.errors import BadValue
from channeld.core.units import MAX_DROPS, parse_duration, parse_money, to_ripple
from channeld.core.vocabulary import PPM, TEN_YEARS_S
from channeld.settings.fields import name
from channeld.settings.lines import Path as Key
from channeld.settings.problems import Problems, did_you_mean

BAD: Final = object()
"""What reading gives for a value that was refused."""
MONEY_PATTERN: Final = r"^((0|[1-9][0-9]{0,11})(\.[0-9]{1,6})? ?XRP|0|[1-9][0-9]{0,17})$"
DURATION_PATTERN: Final = r"^(0|[1-9][0-9]{0,9}) ?(s|m|h|d|w)$"
PERCENT_PATTERN: Final = r"^[0-9]{1,7}(\.[0-9]{1,4})?%$"
NAME_PATTERN: Final = "^[A-Za-z0-9_-]{1,64}$"
_PERCENT: Final = re.compile(r"[0-9]{1,7}(?:\.[0-9]{1,4})?(?=%\Z)", re.ASCII)

Schema = dict[str, Any]
Check = Callable[[Key, Mapping[str, Any], Problems], None]


class Shape(abc.ABC):
    """What a value may be."""

    @abc.abstractmethod
    def read(self, value: object, at: Key, problems: Problems) -> Any:
        """The value in the engine's own terms, or `BAD` with the problems noted."""

    @abc.abstractmethod
    def schema(self) -> Schema:
        """What a JSON Schema can say of it."""


class Scalar(Shape):
    """A shape whose `parse` raises `BadValue` for what it refuses."""

    def read(self, value: object, at: Key, problems: Problems) -> Any:
        try:
            return self.parse(value)
        except BadValue as error:
            problems.add_bad_value(at, error)
            return BAD

    @abc.abstractmethod
    def parse(self, value: object) -> Any:
        """The value, or `BadValue`."""


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


@dataclass(frozen=True)
class Either(Shape):
    """A string is read by one shape, anything else by the other."""

    string: Shape
    other: Shape

    def read(self, value: object, at: Key, problems: Problems) -> Any:
        return (self.string if isinstance(value, str) else self.other).read(value, at, problems)

    def schema(self) -> Schema:
        return {"anyOf": [self.other.schema(), self.string.schema()]}


@dataclass(frozen=True)
class Entry:
    """A key of a table. A required one has no default; one that is left out and has none is not in the answer."""

    shape: Shape
    doc: str = ""
    default: Any = BAD
    required: bool = False


@dataclass(frozen=True)
class Table(Shape):
    """A table with these keys and no others. `least` is how many it has at least; `check` compares what was read."""

    keys: Mapping[str, Entry]
    check: Check | None = None
    least: int = 0
    remedy: str = ""

    def read(self, value: object, at: Key, problems: Problems) -> Any:
        if not isinstance(value, dict):
            problems.add(at, "must be a table", self.remedy)
            return BAD
        for key in value:
            if key not in self.keys:
                problems.add((*at, key), "unknown key", did_you_mean(key, self.keys))
        if len(value) < self.least:
            problems.add(at, "is empty", self.remedy or f"known here: {', '.join(self.keys)}")
        read = {}
        for key, entry in self.keys.items():
            got = entry.default
            if key in value:
                got = entry.shape.read(value[key], (*at, key), problems)
            elif entry.required:
                problems.add((*at, key), "is missing", entry.doc)
            if got is not BAD:
                read[key] = got
        if self.check is not None:
            self.check(at, read, problems)
        return read

    def schema(self) -> Schema:
        properties = {key: _described(entry) for key, entry in self.keys.items()}
        schema: Schema = {"type": "object", "additionalProperties": False, "properties": properties}
        if required := [key for key, entry in self.keys.items() if entry.required]:
            schema["required"] = required
        return {**schema, "minProperties": self.least} if self.least else schema


def _described(entry: Entry) -> Schema:
    return {**({"description": entry.doc} if entry.doc else {}), **entry.shape.schema()}


@dataclass(frozen=True)
class Named(Shape):
    """A table of things by name, at most `most` of them and at least `least`."""

    shape: Shape
    most: int
    least: int = 0
    what: str = "thing"
    remedy: str = ""

    def read(self, value: object, at: Key, problems: Problems) -> Any:
        if not isinstance(value, dict):
            problems.add(at, "must be a table", self.remedy)
            return BAD
        if len(value) < self.least:
            problems.add(at, f"no {self.what}", self.remedy)
        if len(value) > self.most:
            problems.add(at, f"too many {self.what}s", f"at most {self.most}")
            return BAD
        read = {}
        for key, inner in value.items():
            try:
                name(key)
            except BadValue as error:
                problems.add_bad_value((*at, key), error)
            if (got := self.shape.read(inner, (*at, key), problems)) is not BAD:
                read[key] = got
        return read

    def schema(self) -> Schema:
        return {
            "type": "object",
            "propertyNames": {"pattern": NAME_PATTERN},
            "additionalProperties": self.shape.schema(),
            "minProperties": self.least,
            "maxProperties": self.most,
        }


@dataclass(frozen=True)
class Listed(Shape):
    """An array of `least` to `most` of one shape. What is refused keeps its place as `BAD`, for others name places."""

    shape: Shape
    most: int
    least: int = 0
    unique: bool = field(default=False)

    def read(self, value: object, at: Key, problems: Problems) -> Any:
        if not isinstance(value, list):
            header = f"[[{'.'.join(map(str, at))}]]"
            problems.add(at, "must be an array", "in [ ]" if isinstance(self.shape, Scalar) else header)
            return BAD
        if not self.least <= len(value) <= self.most:
            problems.add(at, "is empty" if not value else "is too long", f"{self.least} to {self.most} of them")
            return BAD
        read = [self.shape.read(inner, (*at, place), problems) for place, inner in enumerate(value)]
        if self.unique and len(good := [r for r in read if r is not BAD]) != len(set(good)):
            problems.add(at, "names something twice", "each once")
        return cast(Any, read)

    def schema(self) -> Schema:
        schema: Schema = {"type": "array", "items": self.shape.schema(), "minItems": self.least, "maxItems": self.most}
        return {**schema, "uniqueItems": True} if self.unique else schema
