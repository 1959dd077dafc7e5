"""`channeld explain`: why, and why not; asked of the running daemon, else read from its store."""

from __future__ import annotations

import time
from typing import Annotated
from urllib.parse import urlencode

import typer

from channeld.cli.common import ConfigOption, JsonOption, load_settings, print_json, wants_json
from channeld.cli.moments import MOMENT_REMEDY, read_moment
from channeld.core.errors import BadValue
from channeld.core.text import HALF_A_CHARACTER, shown


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("explain")(explain)


def explain(
    what: Annotated[
        str,
        typer.Argument(
            metavar="CHANNEL|PAYEE|REQUEST",
            help="A channel id or its beginning, a payee, or a request as SERVER/ID or its id alone.",
        ),
    ],
    at: Annotated[str | None, typer.Option("--at", metavar="T", help=f"As of then: {MOMENT_REMEDY}.")] = None,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Explain a channel, a payee or a request: inputs, rule, reason, transaction, outcome; exit 1 if it is unknown."""
    from channeld.cli.daemon_http import call

    if HALF_A_CHARACTER.search(what):
        raise BadValue("CHANNEL|PAYEE|REQUEST", "not text", "nothing is called by what is no UTF-8")
    settings = load_settings(config, secrets=False)
    moment = None if at is None else read_moment(at, time.time())
    query = {"what": what, **({} if moment is None else {"at": str(moment)})}
    answer = call(settings, "GET", f"explain?{urlencode(query)}")
    if answer is None:
        from channeld.app.explain import explain as from_store

        answer = {"source": "store", **from_store(settings, what, moment)}
    if wants_json(json):
        print_json(answer)
    else:
        from channeld.cli.chain import lines

        typer.echo("\n".join(map(shown, lines(answer))))
