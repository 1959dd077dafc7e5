"""`channeld sandbox ...`: the embedded ledger and broker alone, for anyone's tools."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Annotated, Any

import typer

HostOption = Annotated[str, typer.Option(help="The address to listen on.")]
PortOption = Annotated[int, typer.Option(min=0, max=65_535, help="The port to listen on; 0 takes any free one.")]
FileOption = Path | None


def register(app: typer.Typer) -> None:
    """Add the family."""
    family = typer.Typer(
        help="The embedded XRP Ledger or MQTT broker alone.", no_args_is_help=True, rich_markup_mode=None
    )
    family.command("ledger")(ledger)
    family.command("broker")(broker)
    app.add_typer(family, name="sandbox")


def ledger(
    port: PortOption,
    host: HostOption = "127.0.0.1",
    close_interval: Annotated[float, typer.Option(min=0.01, max=3600, help="Seconds between ledgers.")] = 1.0,
    manual: Annotated[bool, typer.Option("--manual", help="Close ledgers by `ledger_accept` only.")] = False,
    state: Annotated[FileOption, typer.Option(help="Load the state from this file, and save it on stopping.")] = None,
    network_id: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="The network id it gives.")] = 0,
    amendment: Annotated[list[str] | None, typer.Option(metavar="NAME=on|off", help="Switch an amendment.")] = None,
    ledger_capacity: Annotated[
        int | None, typer.Option(min=1, help="Transactions that fit into a ledger; more wait or pay more.")
    ] = None,
) -> None:
    """Run an XRP Ledger for payment channels, with the standard genesis account (`masterpassphrase`)."""
    from channeld.sandbox import ledger as room

    _run(
        room.serve(
            host,
            port,
            close_interval_s=close_interval,
            state_file=state,
            network_id=network_id,
            amendments=_switches(amendment or []),
            capacity=ledger_capacity,
            manual=manual,
            ready=lambda host, port: _say(f"ledger: ws://{host}:{port}"),
        )
    )


def broker(
    port: PortOption,
    host: HostOption = "127.0.0.1",
    password_file: Annotated[
        FileOption, typer.Option(help="Logins, a line each, `user:password`; without it anyone may connect.")
    ] = None,
    acl_file: Annotated[FileOption, typer.Option(help="Who may use which topics, as Mosquitto writes it.")] = None,
) -> None:
    """Run an MQTT 5 broker; an older client is told so in its CONNACK."""
    from channeld.sandbox import broker as room

    _run(
        room.serve(
            host,
            port,
            password_file=password_file,
            acl_file=acl_file,
            ready=lambda host, port: _say(f"broker: mqtt://{host}:{port}"),
        )
    )


def _switches(texts: list[str]) -> dict[str, bool]:
    """Read `NAME=on|off` options."""
    switches = {}
    for text in texts:
        name, _, value = text.partition("=")
        if not name or value not in {"on", "off"}:
            raise typer.BadParameter("NAME=on or NAME=off", param_hint="--amendment")
        switches[name] = value == "on"
    return switches


def _run(server: Coroutine[Any, Any, object]) -> None:
    """Run a server until it is told to stop."""
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(server)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
