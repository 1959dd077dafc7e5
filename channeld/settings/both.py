"""Read the operator's two files together: what is wrong with one does not hide what is wrong with the other."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from pathlib import Path
from typing import NamedTuple

from channeld.core.errors import ConfigError
from channeld.core.policy import Policy
from channeld.settings.build import check_policy
from channeld.settings.load import read
from channeld.settings.policy import load_policy
from channeld.settings.stamps import Stamp
from channeld.settings.values import Settings


class Both(NamedTuple):
    """What the two files say, each None where it is not sound, and what is wrong with each of them."""

    settings: Settings | None
    policy: Policy | None
    problems: list[str]


def load_both(path: Path | None, env: Mapping[str, str]) -> tuple[Settings, Policy]:
    """The config, as `load` loads it, and its policy; raises `ConfigError` with the problems of both."""
    settings, policy, problems = read_both(path, env, secrets=True, files={})
    if settings is not None and policy is not None:
        problems = [*problems, *check_policy(settings, policy)]
    if settings is None or policy is None or problems:
        raise ConfigError(problems)
    return settings, policy


def read_both(
    path: Path | None,
    env: Mapping[str, str],
    *,
    secrets: bool,
    files: MutableMapping[Path, Stamp],
    otherwise: Path | None = None,
) -> Both:
    """The same without raising, and without holding one against the other. The policy file is `otherwise`
    where the config cannot tell.

    Every file that is looked at, secrets apart, is put into `files` before that, also where it is then refused.
    """
    settings, policy_path, problems = read(path, env, secrets=secrets, files=files)
    policy = None
    try:
        if where := policy_path or otherwise:
            policy = load_policy(where)
    except ConfigError as error:
        problems = [*problems, *error.problems]
    return Both(settings, policy, problems)
