"""`channeld policy ...`: look at a policy file."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from channeld.cli.common import ConfigOption, JsonOption, load_settings, print_answer, print_json, wants_json
from channeld.cli.moments import MOMENT_REMEDY, read_moment
from channeld.core.errors import ConfigError, Unreachable
from channeld.core.text import shown

if TYPE_CHECKING:
    from channeld.core.policy import Policy
    from channeld.settings import Settings

PolicyOption = Annotated[
    Path | None, typer.Option("--policy", metavar="FILE", help="A candidate, to be compared with the policy in force.")
]


def register(app: typer.Typer) -> None:
    """Add the family."""
    family = typer.Typer(
        help="Check a policy, see what it would do and would have done.", no_args_is_help=True, rich_markup_mode=None
    )
    family.callback()(_family)
    family.command("check")(check)
    family.command("plan")(plan)
    family.command("replay")(replay)
    family.command("schema")(schema)
    app.add_typer(family, name="policy")


def _family() -> None:
    """Check a policy, see what it would do and would have done."""


def check(file: Annotated[Path, typer.Argument(help="The policy file.")], json: JsonOption = False) -> None:
    """Validate all of a policy file; exit 2 with every problem if there is any.

    What it says of channeld.toml, such as wallets, is checked by `run`, `reload` and `policy plan --policy`.
    """
    from channeld.settings import load_policy

    policy = load_policy(file)
    answer = {
        "ok": True,
        "file": str(file),
        "hash": policy.hash,
        "pools": sorted(policy.pools),
        "rules": {concern.value: [rule.name for rule in chain] for concern, chain in policy.rules.items()},
    }
    print_answer("policy", answer, json=json)


def plan(
    candidate: PolicyOption = None,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Show what would be done now and why, why not the rest, and what it takes; nothing is changed.

    With a candidate, also what that would do otherwise. Exit 3 where no daemon runs.
    """
    from channeld.cli.daemon_http import call

    settings = load_settings(config, secrets=False)
    body = None
    if candidate is not None:
        load_candidate(settings, candidate)
        body = {"policy": candidate.read_text()}
    answer = call(settings, "GET" if body is None else "POST", "plan", body)
    if answer is None:
        raise Unreachable(f"no daemon answers at {settings.http.host}:{settings.http.port}: only it knows what is due")
    if wants_json(json):
        print_json(answer)
    else:
        from channeld.cli.plans import plan_lines

        typer.echo("\n".join(map(shown, plan_lines(answer))))


def replay(
    candidate: Annotated[
        Path | None, typer.Argument(metavar="[FILE]", help="A policy file; else the one in use.")
    ] = None,
    since: Annotated[str | None, typer.Option("--since", metavar="T", help=f"From then on: {MOMENT_REMEDY}.")] = None,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Decide the recorded history again by a policy: what it would have answered otherwise, and about whom.

    Each moment is decided by itself, on the inputs as they were recorded. Exit 3 where there is no history.
    """
    from channeld.app.replay import replay as decide_again

    settings = load_settings(config, secrets=False)
    policy = load_candidate(settings, candidate or settings.policy_path)
    answer = decide_again(settings, policy, None if since is None else read_moment(since, time.time()))
    if wants_json(json):
        print_json(answer)
    else:
        from channeld.cli.plans import replay_lines

        typer.echo("\n".join(map(shown, replay_lines(answer))))


def load_candidate(settings: Settings, file: Path) -> Policy:
    """A policy file that fits the config; raises `ConfigError` with all that is wrong."""
    from channeld.settings import check_policy, load_policy

    policy = load_policy(file)
    if problems := check_policy(settings, policy, file):
        raise ConfigError(problems)
    return policy


def schema() -> None:
    """Print the JSON Schema of policy files, for editors that complete and check them."""
    from json import dumps

    from channeld.settings import json_schema

    typer.echo(dumps(json_schema(), indent=2))
