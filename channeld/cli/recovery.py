"""`channeld backup`, `restore` and `rebuild`: keep a copy of the store, put it back, begin anew from the ledger.

`backup` is made by the running daemon where there is one; the others need that none runs.
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
    load_all,
    load_settings,
    print_answer,
)
from channeld.cli.daemon_http import by, call
from channeld.core.errors import BadValue
from channeld.core.text import HALF_A_CHARACTER


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("backup")(backup)
    app.command("restore")(restore)
    app.command("rebuild")(rebuild)


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

        existing_store(settings, instead_of="no daemon answers, and ")
        answer = recovery.backup(settings, file.absolute(), **said)
    print_answer("backup", answer, json=json)


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
    print_answer("restore", recovery.restore(settings, _spelt(file), **by(who, why), newest=newest), json=json)


def rebuild(why: WhyOption, who: WhoOption = None, config: ConfigOption = None, json: JsonOption = False) -> None:
    """Make a new store from the ledger: channels that are found settle and close only. Refused where there is one."""
    import asyncio

    from channeld.app import keyring, recovery

    settings, policy = load_all(config)
    keys = keyring.load(settings)
    answer = asyncio.run(recovery.rebuild(settings, policy, keys, **by(who, why)))
    print_answer("rebuilt", answer, json=json)


def _spelt(file: Path) -> Path:
    """A file that the audit can name."""
    if HALF_A_CHARACTER.search(str(file)):
        raise BadValue("FILE", "its name is no UTF-8", "another name")
    return file
