"""How commands reach the running daemon: over its HTTP listener, with the admin token of its config."""

from __future__ import annotations

import getpass
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from channeld.cli.common import load_settings
from channeld.core.errors import BadValue, ConfigError, Refused, Unreachable
from channeld.core.text import HALF_A_CHARACTER

if TYPE_CHECKING:
    from channeld.settings import Settings

_TIMEOUT_S: Final = 120.0
_LARGEST_BYTES: Final = 256 * 2**20


class Paused(Exception):
    """The daemon's process is there, and waits to begin anew: why, and when it tries."""


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
    try:
        status, answer = ask(settings, method, what, body)
    except (ConnectionRefusedError, Paused):
        return None
    return answer if status == 200 else _refused(status, str(answer.get("reason") or answer.get("error")))


def _refused(status: int, reason: str) -> dict[str, Any]:
    if status == 400:
        raise BadValue("request", reason)
    if status == 403:
        raise ConfigError([reason])
    raise (Unreachable if status >= 500 else Refused)(reason)


def ask(
    settings: Settings,
    method: str,
    what: str,
    body: Mapping[str, Any] | None = None,
    *,
    timeout_s: float = _TIMEOUT_S,
) -> tuple[int, dict[str, Any]]:
    """Status and answer of one request.

    Raises `ConnectionRefusedError` where nobody listens, `Unreachable` for whatever answers otherwise than a daemon
    does, or not in time, and `Paused`.
    """
    import http.client
    import json

    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.http.host, settings.http.host)  # noqa: S104 (asked, not bound)
    connection = http.client.HTTPConnection(host, settings.http.port, timeout=timeout_s)
    headers = {"Content-Type": "application/json"}
    if settings.http.admin_token is not None:
        headers["Authorization"] = "Bearer " + settings.http.admin_token.get_secret_value().decode("latin-1")
    try:
        connection.request(method, f"/api/v1/{what}", json.dumps(body) if body is not None else None, headers)
        response = connection.getresponse()
        answer = json.loads(response.read(_LARGEST_BYTES))
    except ConnectionRefusedError:
        raise
    except (OSError, http.client.HTTPException, ValueError, RecursionError) as error:
        raise Unreachable(f"the daemon at {host}:{settings.http.port} does not answer as it should: {error}") from error
    finally:
        connection.close()
    if not isinstance(answer, dict):
        raise Unreachable("what answers is no channeld")
    if response.status != http.HTTPStatus.OK and answer.get("error") == "paused":
        raise Paused(answer.get("reason"))
    return response.status, answer


def by(who: str | None, why: str) -> dict[str, str]:
    """Who and why for the audit. What nobody can read of them is replaced: a stop must not be lost to it."""
    try:
        said = {"who": who or getpass.getuser(), "why": why}
    except (KeyError, OSError):
        raise BadValue("--who", "this login has no name", "say who you are") from None
    return {name: HALF_A_CHARACTER.sub("\ufffd", text) for name, text in said.items()}
