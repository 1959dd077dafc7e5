"""The shape of a TOML file as one value: what it may hold, how it is read, and its JSON Schema.

A shape reads a value that TOML gave and says of the same value what a JSON Schema can say, so that reader and schema
cannot drift apart. Reading never raises: what is wrong is noted in `Problems`, the answer is then `BAD`, and reading
goes on, so that everything wrong with a file shows at once. No message quotes a value.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, cast

from channeld.core.errors import BadValue
from channeld.settings.fields import name
from channeld.settings.lines import Path as Key
from channeld.settings.problems import Problems, did_you_mean

BAD: Final = object()
"""What reading gives for a value that was refused."""
NAME_PATTERN: Final = "^[A-Za-z0-9_-]{1,64}$"

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
