"""`channeld sandbox ...`: the embedded ledger and broker alone, for anyone's tools, and accounts to play with."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Annotated, Any

import typer

from channeld.core.errors import BadValue, Unreachable

HostOption = Annotated[str, typer.Option(help="The address to listen on.")]
PortOption = Annotated[int, typer.Option(min=1, max=65_535, help="The port to listen on.")]


def register(app: typer.Typer) -> None:
    """Add the family."""
    text = "The embedded XRP Ledger or MQTT broker alone."
    family = typer.Typer(help=text, no_args_is_help=True, rich_markup_mode=None)
    family.command("ledger")(ledger)
    family.command("broker")(broker)
    family.command("fund")(fund)
    family.command("stage")(stage)
    app.add_typer(family, name="sandbox")


def ledger(
    port: PortOption,
    host: HostOption = "127.0.0.1",
    close_interval: Annotated[
        float | None, typer.Option(min=0.01, max=3600, help="Seconds between ledgers; 3 if not said.")
    ] = None,
    manual: Annotated[bool, typer.Option("--manual", help="Close ledgers by `ledger_accept` only.")] = False,
    state: Annotated[
        Path | None, typer.Option(help="Load the state from this file if it exists, and save it on stopping.")
    ] = None,
    network_id: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="The network id it gives.")] = 0,
    amendment: Annotated[list[str] | None, typer.Option(metavar="NAME=on|off", help="Switch an amendment.")] = None,
    also_port: Annotated[
        list[int] | None,
        typer.Option(min=1, max=65_535, help="Another port, like a second node on the same ledger; may be repeated."),
    ] = None,
    ledger_capacity: Annotated[
        int | None, typer.Option(min=1, max=10**6, help="Transactions that fit into a ledger; more wait or pay more.")
    ] = None,
) -> None:
    """Run an XRP Ledger for payment channels, with the standard genesis account (`masterpassphrase`)."""
    from channeld.sandbox import ledger as room

    switches = _switches(amendment or [])

    async def serve() -> None:
        ready = asyncio.Event()
        announced = asyncio.create_task(_announce(ready, f"ledger: ws://{host}:{port}"))
        try:
            await room.serve(
                host,
                port,
                close_interval_s=close_interval,
                state_file=state,
                network_id=network_id,
                amendments=switches,
                capacity=ledger_capacity or room.DEFAULT_CAPACITY,
                manual=manual,
                also_ports=also_port or [],
                ready=ready,
            )
        finally:
            announced.cancel()

    _run(serve())


def broker(
    port: PortOption,
    host: HostOption = "127.0.0.1",
    password_file: Annotated[
        Path | None, typer.Option(help="Logins, one `user:password` a line; without it anyone may connect.")
    ] = None,
    acl_file: Annotated[Path | None, typer.Option(help="Who may use which topics, as Mosquitto writes it.")] = None,
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


def fund(
    addresses: Annotated[list[str], typer.Argument(metavar="ADDRESS...", help="Accounts to pay, made if need be.")],
    url: Annotated[str, typer.Option(help="A sandbox ledger, or another new network.")] = "ws://127.0.0.1:6006",
    amount: Annotated[str, typer.Option(help="What each gets.")] = "1000 XRP",
) -> None:
    """Pay from the genesis account of a new network, whose key everybody knows, so that accounts exist to play with."""
    from channeld.core.units import format_xrp, parse_money
    from channeld.sandbox.ledger_client import LedgerClient
    from channeld.wire.payee import parse_address

    try:
        drops = parse_money(amount, "--amount")
        accounts = {str(parse_address(text, "ADDRESS")): int(drops) for text in addresses}
    except BadValue as error:
        raise typer.BadParameter(str(error)) from None

    async def pay() -> None:
        async with LedgerClient(url) as ledger:
            await ledger.fund(accounts)

    asyncio.run(pay())
    for address in accounts:
        _say(f"{address} got {format_xrp(drops)}")


def stage(
    server: Annotated[str, typer.Option(help="What your content server is called.")] = "news-eu",
    out: Annotated[
        Path | None, typer.Option(help="Write what a client needs to this file, too, once all is ready.")
    ] = None,
    seconds: Annotated[float, typer.Option(min=1, max=86_400, help="How long; until Ctrl-C if not said.")] = 86_400,
) -> None:
    """Run ledger, broker and daemon on this machine for a content server of your own; prints what a client needs."""
    import json
    import tempfile

    from channeld.sandbox.open_stage import open_stage

    async def play() -> None:
        with tempfile.TemporaryDirectory(prefix="channeld-stage-") as folder:
            async with open_stage(Path(folder), server) as needed:
                text = json.dumps(needed, indent=2)
                print(text, flush=True)
                if out is not None:
                    out.write_text(text + "\n")
                await asyncio.sleep(seconds)

    _run(play())


def _switches(texts: list[str]) -> dict[str, bool]:
    """Read `NAME=on|off` options."""
    switches = {}
    for text in texts:
        name, _, value = text.partition("=")
        if not name or value not in {"on", "off"}:
            raise typer.BadParameter("NAME=on or NAME=off", param_hint="--amendment")
        switches[name] = value == "on"
    return switches


async def _announce(ready: asyncio.Event, text: str) -> None:
    await ready.wait()
    _say(text)


def _run(server: Coroutine[Any, Any, None]) -> None:
    """Run a server until SIGINT or SIGTERM; raises `Unreachable` where its address cannot be had."""

    async def until_told() -> None:
        task = asyncio.ensure_future(server)
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, task.cancel)
        with contextlib.suppress(asyncio.CancelledError):
            await task

    try:
        asyncio.run(until_told())
    except OSError as error:
        raise Unreachable(f"cannot listen: {error.strerror or error}") from error


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
