"""`channeld usage` and `channeld requests`: what content servers asked for, read from the store beside the daemon."""

from __future__ import annotations

import time
from typing import Annotated

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
from channeld.cli.moments import show_moment
from channeld.core.errors import BadValue, Refused

_COLUMNS = ("server", "payee", "code", "requests", "drops")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("usage")(usage)
    app.command("requests")(requests)


def usage(
    hours: Annotated[int, typer.Option(min=1, max=9600, help="How far back, or a little more: by whole hours.")] = 24,
    server: Annotated[str, typer.Option(help="One content server; else all.")] = "",
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Sum up requests and drops by content server, payee and code; behind the daemon by up to a minute."""
    from channeld.adapters.sqlite.usage import read_usage

    settings = load_settings(config, secrets=False)
    store = existing_store(settings)
    hour = int(time.time()) // 3600
    first, end = hour - hours, hour + 1
    rows = [row for row in read_usage(store, (first, end)) if server in ("", row[0])]
    if wants_json(json):
        entries = [dict(zip(_COLUMNS, (*row[:4], str(row[4])), strict=True)) for row in rows]
        print_json({"from": first * 3600, "to": end * 3600, "usage": entries})
    else:
        print_table(f"since {show_moment(first * 3600)}", _COLUMNS, rows, whole=("requests", "drops"))


def requests(
    server: Annotated[str, typer.Argument(metavar="SERVER", help="The content server that asked.")],
    request_id: Annotated[str, typer.Argument(metavar="ID", help="The id of its request, or of a claim handed in.")],
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Show what a request was accepted as; exit 1 if it is not remembered as accepted."""
    from channeld.adapters.sqlite.journal_reader import reading
    from channeld.adapters.sqlite.reader import read_request
    from channeld.app.explain_request import handed_in
    from channeld.wire.requests import request_key

    if not (request_id.isascii() and request_id.isprintable()) or not 1 <= len(request_id) <= 128:
        raise BadValue("ID", "not an id", "1 to 128 printable ASCII characters")
    settings = load_settings(config, secrets=False)
    store = existing_store(settings)
    found = read_request(store, request_key(server, "claim", request_id))
    with reading(store) as journal:
        received = handed_in(journal, server, request_id)
    if found is None and received is None:
        raise Refused(f"{server} has no request {request_id!r} that is remembered as accepted")
    beside = {} if found is None or received is None else {"received": received}
    answer = {"server": server, "id": request_id, **(found or received or {}), **beside}
    print_answer("request", answer, json=json)
