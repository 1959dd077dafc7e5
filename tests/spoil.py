"""Sound files and what spoils them: one piece replaced, or one line gone wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from hypothesis import strategies as st

from channeld.core.errors import ConfigError

JUNK = st.one_of(
    st.text(max_size=20),
    st.sampled_from(
        [
            *('""', "[]", "{}", "true", "1", "-1", "1e9", "inf", "nan", "1979-05-27", '"x"', "[[]]"),
            *('"\\u0000"', "'../..'", '"0s"', '"1 XRP"'),
        ]
    ),
)
WAYS = st.sampled_from(["value", "line", "key", "drop", "twice"])


def spoilt(text: str, old: str, new: str) -> str:
    """The text with one piece replaced; the piece must be there."""
    assert old in text, old
    return text.replace(old, new, 1)


def mutated(lines: list[str], number: int, junk: str, how: str) -> str:
    """A file of these lines, one of them wrong in one of the `WAYS`."""
    line = lines[number]
    key, _, value = line.partition(" = ")
    ways = {
        "value": f"{key} = {junk}",
        "line": junk,
        "key": f"{junk} = {value}",
        "drop": "",
        "twice": f"{line}\n{line}",
    }
    return "\n".join([*lines[:number], ways[how], *lines[number + 1 :]])


def loads_or_is_told(path: Path, text: str, load: Callable[[Path], object], kind: type) -> None:
    """Fails unless the text loads as a `kind`, or is a `ConfigError` whose every problem names the file."""
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        assert isinstance(load(path), kind)
    except ConfigError as error:
        assert error.problems
        assert all(problem.startswith(str(path)) for problem in error.problems)
