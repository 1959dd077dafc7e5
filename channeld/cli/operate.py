"""What operators do to the running daemon: compare with the ledger, stop and go on, reload, close and adopt channels.

All of it is asked of the daemon over HTTP, and what changes anything takes the admin token of its config. Where none
runs `reconcile` and `audit` read its store.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from channeld.cli.common import (
    ConfigOption,
    JsonOption,
    WhoOption,
    WhyOption,
    existing_store,
    load_settings,
    print_answer,
    print_json,
    print_table,
    wants_json,
)
from channeld.cli.daemon_http import act, by, call
from channeld.cli.moments import show_moment
from channeld.core.errors import ConfigError

WalletOption = Annotated[
    str,
    typer.Option(
        help="One wallet's name, or who is held: server:ID, user:SERVER/HASH, payee:ADDRESS; else everything."
    ),
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for name, command in (
        ("reconcile", reconcile),
        ("freeze", freeze),
        ("thaw", thaw),
        ("reload", reload),
        ("close", close),
        ("audit", audit),
    ):
        app.command(name)(command)


def reconcile(config: ConfigOption = None, json: JsonOption = False) -> None:
    """Compare the ledger, read whole, with what is believed; exit 1 if anything differs."""
    import asyncio

    settings = load_settings(config, secrets=False)
    answer = call(settings, "GET", "reconcile")
    if answer is None:
        from channeld.app.reconciliation import of_store

        existing_store(settings, instead_of="no daemon answers, and ")
        answer = asyncio.run(of_store(settings))
    print_answer("reconcile", answer, json=json)
    raise typer.Exit(0 if answer["ok"] else 1)


def freeze(
    why: WhyOption,
    who: WhoOption = None,
    wallet: WalletOption = "",
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Stop issuing, opening, funding and closing; what was signed is still paid out."""
    print_answer("freeze", act(config, "freeze", {**by(who, why), "wallet": wallet}), json=json)


def thaw(
    why: WhyOption,
    who: WhoOption = None,
    wallet: WalletOption = "",
    cause: Annotated[str, typer.Option(help="Which freeze to lift, where there are several.")] = "",
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Lift a freeze; `channeld status` says what is frozen, why, and what lifting it means."""
    print_answer("thaw", act(config, "thaw", {**by(who, why), "wallet": wallet, "cause": cause}), json=json)


def reload(why: WhyOption, who: WhoOption = None, config: ConfigOption = None, json: JsonOption = False) -> None:
    """Let the daemon read policy, servers and payees again; exit 2 with the problems if the old ones stay."""
    answer = act(config, "reload", by(who, why))
    if answer.get("result") == "refused":
        raise ConfigError([str(problem) for problem in answer.get("problems", [])])
    print_answer("reload", answer, json=json)


def close(
    channels: Annotated[
        list[str], typer.Argument(metavar="CHANNEL_ID...", help="Channels to close: their ids, or 8 digits or more.")
    ],
    why: WhyOption,
    who: WhoOption = None,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Close channels: no claim is issued on them from now on, what was signed is paid, and the payee has its delay."""
    print_answer("close", act(config, "close", {**by(who, why), "channels": channels}), json=json)


def adopt(
    channels: Annotated[
        list[str],
        typer.Argument(metavar="CHANNEL_ID...", help="Channels in quarantine: their ids, or 8 digits or more."),
    ],
    why: WhyOption,
    pool: Annotated[str, typer.Option(help="The pool to take them into; else the first of their wallet.")] = "",
    claims: Annotated[
        Path | None, typer.Option(help="A JSON file: a list of claims that were handed out on them, to be paid.")
    ] = None,
    who: WhoOption = None,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Take over quarantined channels, to settle and close only: no claim is ever issued on them.

    What is paid is what the ledger or a valid claim proves; payees have the settle delay to hand in what they hold.
    """
    from json import loads

    try:
        listed = loads(claims.read_text()) if claims else []
    except (OSError, ValueError) as error:
        raise typer.BadParameter(str(error), param_hint="--claims") from None
    body = {**by(who, why), "channels": channels, "pool": pool, "claims": listed}
    print_answer("adopt", act(config, "adopt", body), json=json)


def audit(config: ConfigOption = None, json: JsonOption = False) -> None:
    """Who did what, when and why; from the running daemon or its store."""
    settings = load_settings(config, secrets=False)
    answer = call(settings, "GET", "audit")
    if answer is None:
        from channeld.app import read_store

        existing_store(settings, instead_of="no daemon answers, and ")
        answer = read_store(settings, "audit")
    if wants_json(json):
        print_json(answer)
    else:
        rows = [[show_moment(e["at"]), e["who"], e["what"], e["why"]] for e in answer["audit"]]
        print_table(f"{len(rows)} entries", ("when (UTC)", "who", "what", "why"), rows)
