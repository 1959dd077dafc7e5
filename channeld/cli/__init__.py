"""The command `channeld`: one file a family of commands, and here what they share a root in.

Exit status: 0 done, 1 the answer is no, 2 bad usage or bad config, 3 something needed is not reachable. Libraries that
take long to import are imported by the command that needs them, so that `channeld --help` is quick.
"""

from __future__ import annotations

import sys
from typing import Annotated, Final

import typer

from channeld import __version__
from channeld.cli import demo, explain, keys, operate, policy, recovery, run, sandbox, status, usage
from channeld.core.errors import BadValue, ChanneldError, ConfigError, StoreError, Unreachable

EXIT_NO: Final = 1
EXIT_USAGE: Final = 2
EXIT_UNREACHABLE: Final = 3

app = typer.Typer(
    name="channeld",
    help="Pools of XRP Ledger payment channels, and signed claims over MQTT.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for family in (demo, run, sandbox, policy, status, explain, usage, operate, recovery, keys):
    family.register(app)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"channeld {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Pools of XRP Ledger payment channels, and signed claims over MQTT."""


def main() -> None:
    """Run the command line and exit with the status that the outcome stands for."""
    try:
        app()
    except ConfigError as error:
        _fail(error.problems, EXIT_USAGE)
    except BadValue as error:
        _fail([str(error)], EXIT_USAGE)
    except (Unreachable, StoreError) as error:
        _fail([str(error)], EXIT_UNREACHABLE)
    except ChanneldError as error:
        _fail([str(error)], EXIT_NO)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(EXIT_NO)


def _fail(problems: list[str], status: int) -> None:
    for problem in problems:
        print(f"channeld: {problem}", file=sys.stderr)
    sys.exit(status)
