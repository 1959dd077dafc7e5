"""Collect what is wrong with a file, all of it, as sentences that name file, line, key and remedy.

No message ever quotes a value: a secret may have been put in the wrong place. A seed is taken out of what is
named after all, keys and paths.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from channeld.adapters.keystore import without_seeds
from channeld.core.errors import BadValue, ConfigError
from channeld.settings.lines import Path as Key
from channeld.settings.lines import line_of

_WORDS: Final = {
    "string_type": "must be a string",
    "int_type": "must be a whole number",
    "list_type": "must be an array",
    "tuple_type": "must be an array",
    "dict_type": "must be a table",
    "model_type": "must be a table",
    "bool_type": "must be true or false",
    "float_type": "must be a number",
    "missing": "is missing",
    "literal_error": "not one of the words known here",
    "string_too_long": "is too long",
    "recursion_loop": "is nested too deeply",
}


@dataclass(slots=True)
class Problems:
    """The problems of one configuration so far; `lines` and `origins` say where a key of `file` came from."""

    file: Path
    lines: Mapping[Key, int] = field(default_factory=dict)
    origins: Mapping[Key, str] = field(default_factory=dict)
    found: list[str] = field(default_factory=list)
    keys: set[Key] = field(default_factory=set)

    def add(
        self, key: Key, problem: str, remedy: str = "", *, file: Path | None = None, line: int | None = None
    ) -> None:
        """Note a problem with `key`; `file` and `line` say where, if not in this file's own place of the key."""
        where = f"{file}:{line}" if file and line else str(file) if file else self._place(key)
        text = f"{where}: {spell(key)}: {problem}" if key else f"{where}: {problem}"
        self.found.append(without_seeds(text + (f" ({remedy})" if remedy else "")))
        self.keys.update(key[:length] for length in range(1, len(key) + 1))

    def has_below(self, key: Key) -> bool:
        """Whether anything was found at `key` or below it."""
        return key in self.keys

    def add_bad_value(self, key: Key, error: BadValue, *, file: Path | None = None, line: int | None = None) -> None:
        """Note what a parser said about `key`."""
        self.add(key, error.problem, error.remedy, file=file, line=line)

    def add_validation(self, key: Key, error: ValidationError, model: type[BaseModel]) -> None:
        """Note all that pydantic found in the table `key`, which `model` describes."""
        for detail in error.errors(include_url=False, include_input=False):
            self._add_detail(key, detail, model)

    def raise_if_any(self) -> None:
        """End with `ConfigError` if anything was found."""
        if self.found:
            raise ConfigError(list(dict.fromkeys(self.found)))

    def _add_detail(self, key: Key, detail: ErrorDetails, model: type[BaseModel]) -> None:
        path = key + tuple(part for part in detail["loc"])
        cause = detail.get("ctx", {}).get("error")
        if isinstance(cause, BadValue):
            self.add_bad_value(path, cause)
        elif detail["type"] == "extra_forbidden":
            self.add(path, "unknown key", did_you_mean(str(path[-1]), model.model_fields))
        else:
            expected = detail.get("ctx", {}).get("expected", "")
            self.add(path, _WORDS.get(detail["type"], "cannot be read"), str(expected))

    def _place(self, key: Key) -> str:
        for length in range(len(key), 0, -1):
            if variable := self.origins.get(key[:length]):
                return f"{self.file}: environment {variable}"
        line = line_of(self.lines, key)
        return f"{self.file}:{line}" if line else str(self.file)


def spell(key: Iterable[str | int]) -> str:
    """Write a key's path for a person: `open.rule[2].match`."""
    text = ""
    for part in key:
        text += f"[{part}]" if isinstance(part, int) else f".{printable(part)}" if text else printable(part)
    return text


def printable(text: str) -> str:
    """A name from outside, safe for a terminal and not longer than 64 characters."""
    return "".join(c if c.isprintable() else "?" for c in without_seeds(text)[:64])


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A remedy for an unknown word: the nearest known one, or all of them where there are few."""
    names = sorted(known)
    if near := difflib.get_close_matches(word, names, n=1, cutoff=0.6):
        return f"did you mean {near[0]}?"
    return f"known here: {', '.join(names)}" if names else ""
