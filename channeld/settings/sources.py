"""Where the configuration comes from: one TOML file, and above it the environment.

`CHANNELD_<SECTION>__<KEY>` overrides a scalar key of a fixed section; `CHANNELD_MQTT__PASSWORD` and
`CHANNELD_HTTP__ADMIN_TOKEN` give the two secrets that are otherwise files. Any other `CHANNELD_*` is an error, for it
is a setting that somebody believes to be in force. A relative path in the environment is relative to the working
folder.
"""

from __future__ import annotations

import contextlib
import difflib
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Final, Union, cast, get_args, get_origin

from pydantic import ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

from channeld.adapters.keystore import without_seeds
from channeld.core.errors import ConfigError, system_reason
from channeld.settings.lines import Path as Key
from channeld.settings.lines import find_lines
from channeld.settings.problems import Problems, printable
from channeld.settings.sections import FIXED_SECTIONS, ConfigFile

CONFIG_VARIABLE: Final = "CHANNELD_CONFIG"
MAX_TOML_BYTES: Final = 16 * 2**20
SECRET_VARIABLES: Final[Mapping[str, Key]] = {
    "CHANNELD_MQTT__PASSWORD": ("mqtt", "password"),
    "CHANNELD_HTTP__ADMIN_TOKEN": ("http", "admin_token"),
}
_PREFIX: Final = "CHANNELD_"
_SQLITE_RELATIVE: Final = re.compile(r"sqlite:///(?!/)(.+)", re.ASCII)


@dataclass(slots=True)
class FromEnvironment:
    """What the environment sets: values by section, the variable that each came from, and the secrets apart."""

    values: dict[str, dict[str, Any]] = field(default_factory=dict)
    origins: dict[Key, str] = field(default_factory=dict)
    secrets: dict[Key, bytes] = field(default_factory=dict)


def find_config(path: Path | None, env: Mapping[str, str]) -> Path:
    """The config file: the one given, else `CHANNELD_CONFIG`, `./channeld.toml`, `/etc/channeld/channeld.toml`."""
    if path is not None:
        return path.absolute()
    if named := env.get(CONFIG_VARIABLE):
        return Path(named).absolute()
    for candidate in (Path("channeld.toml"), Path("/etc/channeld/channeld.toml")):
        if candidate.exists():
            return candidate.absolute()
    raise ConfigError(
        ["no config file: ./channeld.toml and /etc/channeld/channeld.toml do not exist (use --config FILE)"]
    )


def read_toml(path: Path) -> tuple[dict[str, Any], Mapping[Key, int]]:
    """A TOML file's data and where its keys stand. Raises `ConfigError` for a file that cannot be read or parsed."""
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_TOML_BYTES + 1)
    except (OSError, ValueError) as error:
        raise ConfigError([without_seeds(f"{path}: cannot be read: {system_reason(error)}")]) from None
    return parse_toml(raw, path)


def parse_toml(raw: bytes, path: Path) -> tuple[dict[str, Any], Mapping[Key, int]]:
    """The same of what was read elsewhere; `path` is what problems call it."""
    if len(raw) > MAX_TOML_BYTES:
        raise ConfigError([f"{path}: larger than {MAX_TOML_BYTES >> 20} MiB (use payees_file and servers_file)"])
    try:
        text = raw.decode("utf-8")
        return tomllib.loads(text), find_lines(text)
    except UnicodeDecodeError:
        raise ConfigError([f"{path}: not UTF-8 text"]) from None
    except RecursionError:
        raise ConfigError([f"{path}: nested too deeply"]) from None
    except ValueError as error:
        raise ConfigError([without_seeds(f"{path}: not TOML: {_syntax(error)}")]) from None


def locator(file: Path, env: Mapping[str, str] | None = None) -> Problems:
    """An empty list of problems of a file that was read before, under `env`, to add some that only show later."""
    problems = Problems(file)
    with contextlib.suppress(ConfigError):
        problems.lines = read_toml(file)[1]
    problems.origins = read_environment(env or {}, Problems(file)).origins
    return problems


def read_environment(env: Mapping[str, str], problems: Problems) -> FromEnvironment:
    """Sort out every `CHANNELD_*` variable; unknown ones become problems."""
    result = FromEnvironment()
    for variable in sorted(env):
        if not variable.startswith(_PREFIX) or variable == CONFIG_VARIABLE:
            continue
        if variable in SECRET_VARIABLES:
            result.secrets[SECRET_VARIABLES[variable]] = os.fsencode(env[variable])
            continue
        section, _, key = variable.removeprefix(_PREFIX).lower().partition("__")
        kinds = _kinds(section, key)
        if not kinds or list in kinds or variable != variable.upper():
            problems.add((), f"environment {printable(variable)}: no such setting", _hint(variable))
            continue
        result.values.setdefault(section, {})[key] = _convert(kinds, key, env[variable])
        result.origins[section, key] = variable
    return result


def merge(data: dict[str, Any], environment: FromEnvironment, problems: Problems) -> dict[str, Any]:
    """The environment laid over the file, by pydantic-settings; of a wrong top level, what can still be looked at."""

    class Merged(ConfigFile):
        """The top level, bound to this file and this environment."""

        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,
            file_secret_settings: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            return init_settings, _Fixed(settings_cls, data)

    try:
        return Merged(**cast(dict[str, Any], environment.values)).model_dump()
    except ValidationError as error:
        problems.add_validation((), error, ConfigFile)
        return _salvage(data, environment)


class _Fixed(PydanticBaseSettingsSource):
    """A source of data already read: the file is read once, by `read_toml`, so that its lines are known."""

    def __init__(self, settings_cls: type[BaseSettings], data: dict[str, Any]) -> None:
        super().__init__(settings_cls)
        self._data = data

    def get_field_value(self, field: Any, field_name: str) -> tuple[Any, str, bool]:
        return self._data.get(field_name), field_name, False

    def __call__(self) -> dict[str, Any]:
        return self._data


def _salvage(data: Mapping[str, Any], environment: FromEnvironment) -> dict[str, Any]:
    """The tables and strings of a file with a bad top level, so that its other faults show, too."""
    merged: dict[str, Any] = {k: dict(v) for k, v in data.items() if isinstance(v, dict)}
    merged |= {k: data[k] for k in ("policy", "servers_file") if isinstance(data.get(k), str)}
    for section, values in environment.values.items():
        merged.setdefault(section, {}).update(values)
    return merged


def _kinds(section: str, key: str) -> frozenset[Any]:
    """The types that a key of a fixed section may have, such as a path or none; empty where there is no such key."""
    table = FIXED_SECTIONS.get(section)
    return _flat(table.model_fields[key].annotation) if table is not None and key in table.model_fields else frozenset()


def _flat(kind: Any) -> frozenset[Any]:
    origin = get_origin(kind)
    if origin is Annotated:
        return _flat(get_args(kind)[0])
    if origin in {Union, UnionType}:
        return frozenset().union(*map(_flat, get_args(kind)))
    return frozenset({origin or kind})


def _convert(kinds: frozenset[Any], key: str, text: str) -> str | int:
    """A variable's text as the TOML value it stands for: numbers become numbers, paths become absolute."""
    if int in kinds and re.fullmatch(r"-?[0-9]{1,18}", text, re.ASCII):
        return int(text)
    if Path in kinds and text:
        return str(Path(text).absolute())
    if key == "url" and (match := _SQLITE_RELATIVE.fullmatch(text)):
        return f"sqlite:///{Path(match[1]).absolute()}"
    return text


def _hint(variable: str) -> str:
    """What was meant; compared without the prefix, which makes all of them look alike."""
    own = variable.removeprefix(_PREFIX)
    section, _, key = own.lower().partition("__")
    if list in _kinds(section, key):
        return "arrays stand in the file only"
    if section in ConfigFile.model_fields.keys() - FIXED_SECTIONS.keys():
        return f"{section} stands in the file only"
    known = [f"{s}__{k}".upper() for s, table in FIXED_SECTIONS.items() for k in table.model_fields]
    known = sorted({*known, *(name.removeprefix(_PREFIX) for name in (*SECRET_VARIABLES, CONFIG_VARIABLE))})
    within = section.upper() + "__" if section in FIXED_SECTIONS else ""
    words = [name.removeprefix(within) for name in known if name.startswith(within)]
    near = difflib.get_close_matches(own.upper().removeprefix(within), words, n=1, cutoff=0.6 if within else 0.75)
    return (
        f"did you mean {_PREFIX}{within}{near[0]}?"
        if near
        else "scalar keys of daemon, ledger, store, mqtt and http only"
    )


def _syntax(error: ValueError) -> str:
    """What the TOML reader says; a number beyond all bounds is no syntax error to it."""
    return str(error) if isinstance(error, tomllib.TOMLDecodeError) else "a number too large"
