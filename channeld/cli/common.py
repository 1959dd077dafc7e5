"""What commands share: how they find the config, and how they show an answer to a person or to a program."""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from channeld.core.errors import Unreachable
from channeld.core.text import shown

if TYPE_CHECKING:
    from channeld.core.policy import Policy
    from channeld.settings import Settings

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        help="The config file; else CHANNELD_CONFIG, ./channeld.toml, /etc/channeld/channeld.toml.",
    ),
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="Print JSON, as is done anyway when stdout is not a terminal.")
]
WhyOption = Annotated[str, typer.Option("--why", help="The reason, for the audit.")]
WhoOption = Annotated[str | None, typer.Option("--who", help="Your name, for the audit; else the login's.")]
_LEAST_WIDE: Final = 12
"""Characters of a column that may be folded, where others may not."""


def load_settings(config: Path | None, *, secrets: bool) -> Settings:
    """Load the config as `channeld.settings.load` does, from this process's environment."""
    from channeld.settings import load

    return load(config, os.environ, secrets=secrets)


def existing_store(settings: Settings, *, instead_of: str = "") -> Path:
    """Where the store is; raises `Unreachable` where there is none yet. `instead_of` says what was tried before."""
    if not settings.store.path.is_file():
        raise Unreachable(f"{instead_of}there is no store yet: {settings.store.path}")
    return settings.store.path


def load_all(config: Path | None) -> tuple[Settings, Policy]:
    """Load config and policy, and check that they fit; raises `ConfigError` with the problems of both."""
    from channeld.settings import load_both

    return load_both(config, os.environ)


def wants_json(asked: bool) -> bool:
    """Whether an answer is for a program: asked for, or stdout is not a terminal."""
    return asked or not sys.stdout.isatty()


def print_json(answer: object) -> None:
    """Print an answer as one line of JSON."""
    import json

    print(json.dumps(answer, ensure_ascii=True, default=str))


def print_answer(title: str, answer: Mapping[str, Any], *, json: bool) -> None:
    """Print an answer as JSON where a program wants it, else as facts."""
    if wants_json(json):
        print_json(answer)
    else:
        print_facts(title, answer)


def print_table(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[object]], *, whole: Collection[str] = ()
) -> None:
    """Print rows as a table; on a terminal that can, with lines and colour.

    What a terminal would obey is escaped. Nothing is cut: what is too wide goes on below; not so in the columns named
    in `whole`, which rather leave the terminal's edge behind. A table with such columns has no lines, so that more of
    it fits.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    dense: dict[str, Any] = {"box": None, "pad_edge": False, "collapse_padding": True} if whole else {}
    table = Table(title=title, title_justify="left", **dense)
    cells = [["" if cell is None else shown(str(cell)) for cell in row] for row in rows]
    console, least = Console(), 0
    for place, column in enumerate(columns):
        widest = max(len(text) for text in (column, *(row[place] for row in cells)))
        least += 1 + (widest if column in whole else min(widest, _LEAST_WIDE))
        table.add_column(column, overflow="fold", no_wrap=column in whole)
    for row in cells:
        table.add_row(*map(Text, row))
    if whole and least > console.width:
        console = Console(width=least, height=console.height)
    console.print(table)


def print_facts(title: str, facts: Mapping[str, Any]) -> None:
    """Print named facts below each other; nested ones with dotted names."""
    print_table(title, ("what", "value"), list(_flat(facts)))


def _flat(facts: Mapping[str, Any], prefix: str = "") -> list[tuple[str, object]]:
    rows: list[tuple[str, object]] = []
    for name, value in facts.items():
        if isinstance(value, Mapping):
            rows += _flat(value, f"{prefix}{name}.")
        elif isinstance(value, list):
            rows.append((f"{prefix}{name}", ", ".join(map(str, value))))
        else:
            rows.append((f"{prefix}{name}", value))
    return rows
