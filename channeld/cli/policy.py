"""`channeld policy ...`: look at a policy file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from channeld.cli.common import JsonOption, print_answer


def register(app: typer.Typer) -> None:
    """Add the family."""
    family = typer.Typer(help="Look at a policy file.", no_args_is_help=True, rich_markup_mode=None)
    family.callback()(_family)
    family.command("check")(check)
    family.command("schema")(schema)
    app.add_typer(family, name="policy")


def _family() -> None:
    """Look at a policy file."""


def check(file: Annotated[Path, typer.Argument(help="The policy file.")], json: JsonOption = False) -> None:
    """Validate all of a policy file; exit 2 with every problem if there is any."""
    from channeld.settings import load_policy, unbuilt
    from channeld.settings.problems import spell

    policy = load_policy(file)
    answer = {
        "ok": True,
        "file": str(file),
        "hash": policy.hash,
        "pools": sorted(policy.pools),
        "rules": {concern.value: [rule.name for rule in chain] for concern, chain in policy.rules.items()},
        "not_acted_on_yet": sorted({spell(key) for key, _, _ in unbuilt(policy)}),
    }
    print_answer("policy", answer, json=json)


def schema() -> None:
    """Print the JSON Schema of policy files, for editors that complete and check them."""
    from json import dumps

    from channeld.settings import json_schema

    typer.echo(dumps(json_schema(), indent=2))
