"""`channeld run`: the daemon itself."""

from __future__ import annotations

import typer

from channeld.cli.common import ConfigOption, load_all


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("run")(run)


def run(config: ConfigOption = None) -> None:
    """Run the daemon in the foreground: SIGTERM drains and stops it, SIGHUP reloads policy, servers and payees."""
    settings, policy = load_all(config)
    from channeld.app import run as run_daemon

    raise typer.Exit(run_daemon(settings, policy))
