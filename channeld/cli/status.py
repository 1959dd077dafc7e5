"""`channeld status` and `channeld channels`: ask the running daemon, else read its store."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import typer

from channeld.cli.common import (
    ConfigOption,
    JsonOption,
    existing_store,
    load_settings,
    print_answer,
    print_json,
    print_table,
    wants_json,
)
from channeld.cli.daemon_http import Paused, ask
from channeld.cli.operate import adopt
from channeld.core.errors import StoreError, Unreachable

if TYPE_CHECKING:
    from channeld.settings import Settings

TIMEOUT_S: Final = 5.0
_SHORT: Final = 16
_COLUMNS: Final = ("channel", "way", "state", "payee", "amount", "authorized", "balance")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("status")(status)
    family = typer.Typer(help="List the daemon's channels, or take over one.", rich_markup_mode=None)
    family.callback(invoke_without_command=True)(channels)
    family.command("adopt")(adopt)
    app.add_typer(family, name="channels")


def status(config: ConfigOption = None, json: JsonOption = False) -> None:
    """Show how the daemon is doing, and why it pauses if it does; exit 3 if neither it nor its store can be read."""
    settings = load_settings(config, secrets=False)
    try:
        answer = _ask(settings, "status")
    except Paused as pause:
        answer = _in_pause(settings, str(pause))
    print_answer("channeld", answer, json=json)


def _in_pause(settings: Settings, why: str) -> dict[str, Any]:
    """What the store says, if it can be read, of a daemon that is there and waits to begin anew."""
    try:
        known = _from_store(settings, "status", tried="the daemon waits to begin anew")
    except (Unreachable, StoreError) as error:
        store = {"path": str(settings.store.path), "problem": str(error)}
        known = {"source": "daemon", "name": settings.daemon.name, "ready": False, "store": store}
    return {"source": known["source"], "paused": True, **known, "reasons": [why]}


def channels(context: typer.Context, config: ConfigOption = None, json: JsonOption = False) -> None:
    """List the daemon's channels, and those that pay us; exit 3 if neither it nor its store can be read.

    On a terminal ids are shown by their first 16 digits, which is what `explain`, `close` and `adopt` take as well;
    `authorized` is what was signed, of a channel that pays us the best claim held. --json has all of it.
    """
    if context.invoked_subcommand is not None:
        return
    settings = load_settings(config, secrets=False)
    try:
        answer = _ask(settings, "channels")
    except Paused as pause:
        answer = _from_store(settings, "channels", tried=f"the daemon waits to begin anew ({pause})")
    if wants_json(json):
        print_json(answer)
        return
    rows = [_row(channel) for channel in answer.get("channels", [])]
    print_table(f"{len(rows)} channels, in drops", _COLUMNS, rows, whole=set(_COLUMNS) - {"payee"})


def _row(channel: Mapping[str, Any]) -> list[object]:
    """A channel for a person, by `_COLUMNS`."""
    account, tag = channel.get("destination_account"), channel.get("destination_tag")
    return [
        str(channel.get("channel_id"))[:_SHORT],
        channel.get("direction"),
        channel.get("state"),
        account if tag is None else f"{account}:{tag}",
        channel.get("amount"),
        channel.get("authorized", channel.get("held")),
        channel.get("balance"),
    ]


def _ask(settings: Settings, what: str) -> dict[str, Any]:
    """The running daemon's answer, else what its store says; raises `Unreachable` where there is neither, and `Paused`
    in a pause, whatever the store is.
    """
    answer = _from_daemon(settings, what)
    return answer if answer is not None else _from_store(settings, what)


def _from_daemon(settings: Settings, what: str) -> dict[str, Any] | None:
    """Ask over HTTP; None where nothing answers there, or something that is no channeld. Raises `Paused` in a pause."""
    try:
        status, answer = ask(settings, "GET", what, timeout_s=TIMEOUT_S)
    except (ConnectionRefusedError, Unreachable):
        return None
    return {"source": "daemon", **answer} if status == 200 else None


def _from_store(settings: Settings, what: str, *, tried: str = "") -> dict[str, Any]:
    """Read the store of a daemon that does not run, or pauses; `tried` is what came of asking it."""
    from channeld.app import read_store

    tried = tried or f"no daemon answers at {settings.http.host}:{settings.http.port}"
    existing_store(settings, instead_of=f"{tried}, and ")
    return {"source": "store", **read_store(settings, what)}
