"""Read the operator's files again while a daemon runs, and say what of them it cannot take over.

Secrets are not opened: a daemon reads them once, at its start.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from channeld.core.errors import ConfigError
from channeld.core.policy import Policy
from channeld.settings.both import read_both
from channeld.settings.build import check_policy
from channeld.settings.lines import Path as Key
from channeld.settings.sources import locator
from channeld.settings.stamps import Stamp
from channeld.settings.values import Settings

_RESTART: Final = "only a restart takes it over; put it back, or restart"
_ABSENT: Final = object()


def read_again(
    running: Settings, env: Mapping[str, str], files: MutableMapping[Path, Stamp]
) -> tuple[Settings, Policy]:
    """What the files say now: the settings of the running daemon with what it can take over, and the policy.

    Raises `ConfigError` with all that is wrong, among it keys of which only a restart takes over a change. `files` gets
    every file that was looked at, with its stamp from before.
    """
    settings, policy, problems = read_both(running.path, env, secrets=False, files=files, otherwise=running.policy_path)
    if settings is not None:
        problems = [*problems, *_fixed(running, settings)]
    if settings is not None and policy is not None:
        problems = [*problems, *check_policy(settings, policy)]
    if problems or settings is None or policy is None:
        raise ConfigError(list(dict.fromkeys(problems)))
    daemon = replace(running.daemon, limit=settings.daemon.limit)
    return (
        replace(
            running,
            daemon=daemon,
            policy_path=settings.policy_path,
            servers=settings.servers,
            files=settings.files,
            named=settings.named,
        ),
        policy,
    )


def _fixed(running: Settings, settings: Settings) -> list[str]:
    """Keys that only a restart takes over, and that are not as they were."""
    before, now = running.fixed, settings.fixed
    changed = {
        _wallet(key, before, now)
        for key in before.keys() | now.keys()
        if before.get(key, _ABSENT) != now.get(key, _ABSENT)
    }
    if not changed:
        return []
    problems = locator(settings.path)
    for key, what in sorted(changed, key=str):
        problems.add(key, what, _RESTART)
    return problems.found


def _wallet(key: Key, before: Mapping[Key, object], now: Mapping[Key, object]) -> tuple[Key, str]:
    """The key that changed and how; a wallet that comes or goes is one change."""
    if key not in before:
        return key[:2], "is new"
    if key not in now:
        return key[:2], "is gone"
    return key, "has changed"
