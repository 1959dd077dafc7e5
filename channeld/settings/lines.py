"""Find the line on which a key of a TOML file stands, for messages that a person can click on.

The standard library's TOML reader gives values without positions. This is no second reader: it follows table headers
and the first word of each line, skips over values that span lines, and where it cannot tell it names the table or
nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

Path = tuple[str | int, ...]

_SEGMENT: Final = r"""(?:[A-Za-z0-9_-]+|"(?:[^"\\]|\\.)*"|'[^']*')"""
_DOTTED: Final = rf"{_SEGMENT}(?:\s*\.\s*{_SEGMENT})*"
_HEADER: Final = re.compile(rf"\s*(\[\[?)\s*({_DOTTED})\s*\]")
_KEY: Final = re.compile(rf"\s*({_DOTTED})\s*=(.*)")
_TOKEN: Final = re.compile(r'"""|\'\'\'|"(?:[^"\\]|\\.)*"|\'[^\']*\'|#|[\[\]{}]')


def find_lines(text: str) -> Mapping[Path, int]:
    """The line (from 1) of each table header and key, by path; the tables of an array are numbered from 0."""
    scan = _Scan()
    for number, line in enumerate(text.split("\n"), start=1):
        scan.take(number, line)
    return scan.found


def line_of(lines: Mapping[Path, int], path: Path) -> int | None:
    """The line of `path`, else of the nearest thing around it, else None."""
    for length in range(len(path), 0, -1):
        if (line := lines.get(path[:length])) is not None:
            return line
    return None


class _Scan:
    """Where the scan stands: the table it is in, and what a value that began on an earlier line still waits for."""

    def __init__(self) -> None:
        self.found: dict[Path, int] = {}
        self._table: Path = ()
        self._arrays: dict[Path, int] = {}
        self._depth = 0
        self._quotes: str | None = None

    def take(self, number: int, line: str) -> None:
        if self._depth or self._quotes:
            self._skip_value(line)
        elif header := _HEADER.match(line):
            self._open_table(number, header[1] == "[[", _split(header[2]))
        elif key := _KEY.match(line):
            self.found.setdefault(self._table + _split(key[1]), number)
            self._skip_value(key[2])

    def _open_table(self, number: int, is_array: bool, names: tuple[str, ...]) -> None:
        """Enter a table; where its name runs through an array, it belongs to that array's last table."""
        path: Path = ()
        for name in names[:-1]:
            path = (*path, name)
            self.found.setdefault(path, number)
            if path in self._arrays:
                path = (*path, self._arrays[path])
        path = (*path, names[-1])
        if is_array:
            self.found.setdefault(path, number)
            self._arrays[path] = self._arrays.get(path, -1) + 1
            path = (*path, self._arrays[path])
        self._table = path
        self.found.setdefault(path, number)

    def _skip_value(self, text: str) -> None:
        """Follow brackets and long strings through one line of a value."""
        position = 0
        while position < len(text):
            if self._quotes:
                end = text.find(self._quotes, position)
                if end < 0:
                    return
                position, self._quotes = end + 3, None
            token = _TOKEN.search(text, position)
            if token is None or token[0] == "#":
                return
            position = token.end()
            self._count(token[0])

    def _count(self, mark: str) -> None:
        if mark in {'"""', "'''"}:
            self._quotes = mark
        elif mark in "[{":
            self._depth += 1
        elif mark in "]}":
            self._depth = max(0, self._depth - 1)


def _split(dotted: str) -> tuple[str, ...]:
    """The names in a dotted key, without their quotes."""
    return tuple(name[1:-1] if name[0] in "\"'" else name for name in re.findall(_SEGMENT, dotted))
