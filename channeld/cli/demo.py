"""`channeld demo`: everything on this machine, for a look."""

from __future__ import annotations

from typing import Annotated

import typer

from channeld.cli.common import JsonOption


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("demo")(demo)


def demo(
    seconds: Annotated[float, typer.Option(min=1, max=86_400, help="How long servers ask for claims.")] = 30,
    servers: Annotated[int, typer.Option(min=1, max=1000, help="How many content servers ask.")] = 3,
    rate: Annotated[float, typer.Option(min=0.1, max=100_000, help="Requests a second, of all servers together.")] = 50,
    json: JsonOption = False,
) -> None:
    """Run ledger, broker, daemon and paying content servers on this machine; exit 1 if anything does not add up."""
    from channeld.sandbox.demo import run

    raise typer.Exit(run(seconds=seconds, servers=servers, rate=rate, json=json))
