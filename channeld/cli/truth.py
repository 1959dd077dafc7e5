"""What operators do about the truth: compare, stop and go on, keep a copy, put it back, begin anew.

All but `restore` and `rebuild` act on the running daemon over HTTP, with the admin token of its config.
"""

from __future__ import annotations

import getpass
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from channeld.cli.common import (
    ConfigOption,
    JsonOption,
    load_all,
    load_settings,
    print_answer,
    print_json,
    print_table,
    wants_json,
)
from channeld.cli.moments import show_moment
from channeld.core.errors import BadValue, ConfigError, Refused, Unreachable
from channeld.core.text import HALF_A_CHARACTER

if TYPE_CHECKING:
    from channeld.settings import Settings

_TIMEOUT_S: Final = 120.0
_LARGEST_BYTES: Final = 64 * 2**20

WhyOption = Annotated[str, typer.Option("--why", help="The reason, for the audit.")]
WhoOption = Annotated[str | None, typer.Option("--who", help="Your name, for the audit; else the login's.")]
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
        ("backup", backup),
        ("restore", restore),
        ("rebuild", rebuild),
    ):
        app.command(name)(command)


def reconcile(config: ConfigOption = None, json: JsonOption = False) -> None:
    """Compare the ledger, read whole, with what is believed; exit 1 if anything differs."""
    import asyncio

    settings = load_settings(config, secrets=False)
    answer = call(settings, "GET", "reconcile")
    if answer is None:
        from channeld.app.reconciliation import of_store

        if not settings.store.path.is_file():
            raise Unreachable("no daemon answers, and there is no store")
        answer = asyncio.run(of_store(settings))
    _show("reconcile", answer, json)
    raise typer.Exit(0 if answer["ok"] else 1)


def freeze(
    why: WhyOption,
    who: WhoOption = None,
    wallet: WalletOption = "",
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Stop issuing, opening, funding and closing; what was signed is still paid out."""
    _show("freeze", act(config, "freeze", {**by(who, why), "wallet": wallet}), json)


def thaw(
    why: WhyOption,
    who: WhoOption = None,
    wallet: WalletOption = "",
    cause: Annotated[str, typer.Option(help="Which freeze to lift, where there are several.")] = "",
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Lift a freeze; `channeld status` says what is frozen, why, and what lifting it means."""
    _show("thaw", act(config, "thaw", {**by(who, why), "wallet": wallet, "cause": cause}), json)


def reload(why: WhyOption, who: WhoOption = None, config: ConfigOption = None, json: JsonOption = False) -> None:
    """Let the daemon read policy, servers and payees again; exit 2 with the problems if the old ones stay."""
    answer = act(config, "reload", by(who, why))
    if answer.get("result") == "refused":
        raise ConfigError([str(problem) for problem in answer.get("problems", [])])
    _show("reload", answer, json)


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
    _show("close", act(config, "close", {**by(who, why), "channels": channels}), json)


def audit(config: ConfigOption = None, json: JsonOption = False) -> None:
    """Who did what, when and why; from the running daemon or its store."""
    settings = load_settings(config, secrets=False)
    answer = call(settings, "GET", "audit")
    if answer is None:
        from channeld.app import read_store

        if not settings.store.path.is_file():
            raise Unreachable("no daemon answers, and there is no store")
        answer = read_store(settings, "audit")
    if wants_json(json):
        print_json(answer)
    else:
        rows = [[show_moment(e["at"]), e["who"], e["what"], e["why"]] for e in answer["audit"]]
        print_table(f"{len(rows)} entries", ("when (UTC)", "who", "what", "why"), rows)


def backup(
    file: Annotated[Path, typer.Argument(help="Where the copy goes; it must not exist.")],
    why: WhyOption = "backup",
    who: WhoOption = None,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Make a consistent copy of the store, while the daemon runs or not."""
    settings = load_settings(config, secrets=True)
    said, file = by(who, why), _spelt(file)
    answer = call(settings, "POST", "backup", {**said, "file": str(file.absolute())})
    if answer is None:
        from channeld.app import recovery

        if not settings.store.path.is_file():
            raise Unreachable("no daemon answers, and there is no store")
        answer = recovery.backup(settings, file.absolute(), **said)
    _show("backup", answer, json)


def restore(
    file: Annotated[Path, typer.Argument(help="A copy that `backup` made.")],
    why: WhyOption,
    who: WhoOption = None,
    newest: Annotated[
        bool, typer.Option("--newest", help="Nothing was signed since the copy was made: its channels go on.")
    ] = False,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Put a copy of the store back, while no daemon runs; the store that is there is set aside.

    What is put back does not sign before `thaw`, after which its channels settle and close only.
    """
    from channeld.app import recovery

    settings = load_settings(config, secrets=False)
    _show("restore", recovery.restore(settings, _spelt(file), **by(who, why), newest=newest), json)


def rebuild(why: WhyOption, who: WhoOption = None, config: ConfigOption = None, json: JsonOption = False) -> None:
    """Make a new store from the ledger: channels that are found settle and close only. Refused where there is one."""
    import asyncio

    from channeld.app import keyring, recovery

    settings, policy = load_all(config)
    keys = keyring.load(settings)
    answer = asyncio.run(recovery.rebuild(settings, policy, keys, **by(who, why)))
    _show("rebuilt", answer, json)


# --- asking the daemon -----------------------------------------------------------------------------------------------


def act(config: Path | None, action: str, body: Mapping[str, Any]) -> dict[str, Any]:
    """Let the running daemon do something. Raises `Unreachable` where none runs, `Refused` where it will not."""
    settings = load_settings(config, secrets=True)
    answer = call(settings, "POST", action, body)
    if answer is None:
        where = f"{settings.http.host}:{settings.http.port}"
        raise Unreachable(f"no daemon answers at {where} (one that waits to begin anew says why in /readyz)")
    return answer


def call(settings: Settings, method: str, what: str, body: Mapping[str, Any] | None = None) -> dict[str, Any] | None:
    """One request to the daemon; None where none runs, or it waits to begin anew. Raises what a refusal stands for."""
    import http.client
    import json

    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.http.host, settings.http.host)  # noqa: S104 (asked, not bound)
    connection = http.client.HTTPConnection(host, settings.http.port, timeout=_TIMEOUT_S)
    headers = {"Content-Type": "application/json"}
    if settings.http.admin_token is not None:
        headers["Authorization"] = "Bearer " + settings.http.admin_token.get_secret_value().decode("latin-1")
    try:
        connection.request(method, f"/api/v1/{what}", json.dumps(body) if body is not None else None, headers)
        response = connection.getresponse()
        answer = json.loads(response.read(_LARGEST_BYTES))
    except ConnectionRefusedError:
        return None
    except (OSError, http.client.HTTPException, ValueError, RecursionError) as error:
        raise Unreachable(f"the daemon at {host}:{settings.http.port} does not answer as it should: {error}") from error
    finally:
        connection.close()
    if not isinstance(answer, dict):
        raise Unreachable("what answers is no channeld")
    if response.status == http.HTTPStatus.OK:
        return answer
    if answer.get("error") == "paused":
        return None
    return _refused(response.status, str(answer.get("reason") or answer.get("error")))


def _refused(status: int, reason: str) -> dict[str, Any]:
    if status == 400:
        raise BadValue("request", reason)
    if status == 403:
        raise ConfigError([reason])
    raise (Unreachable if status >= 500 else Refused)(reason)


def by(who: str | None, why: str) -> dict[str, str]:
    """Who and why for the audit. What nobody can read of them is replaced: a stop must not be lost to it."""
    try:
        said = {"who": who or getpass.getuser(), "why": why}
    except (KeyError, OSError):
        raise BadValue("--who", "this login has no name", "say who you are") from None
    return {name: HALF_A_CHARACTER.sub("\ufffd", text) for name, text in said.items()}


def _spelt(file: Path) -> Path:
    """A file that the audit can name."""
    if HALF_A_CHARACTER.search(str(file)):
        raise BadValue("FILE", "its name is no UTF-8", "another name")
    return file


def _show(title: str, answer: Mapping[str, Any], json: bool) -> None:
    print_answer(title, answer, json=json)
