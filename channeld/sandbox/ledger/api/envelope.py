"""The wrapping of requests and answers on the socket.

Errors are flat: no `result`, the request repeated (secrets masked). `id` and `api_version` come back only if sent.

Sources: rippled ServerHandler.cpp processSession (2.3.0).
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import Any, Final

from channeld.sandbox.ledger.api import COMMANDS
from channeld.sandbox.ledger.api.call import Call
from channeld.sandbox.ledger.api.errors import RpcError

_SECRETS: Final = ("passphrase", "secret", "seed", "seed_hex")
_ECHOED: Final = ("id", "jsonrpc", "ripplerpc", "api_version")
_VERSIONS: Final = (1, 2)
log = logging.getLogger(__name__)


def parse(text: str | bytes) -> dict[str, Any] | None:
    """A frame as a request object; None if it is no JSON object."""
    try:
        request = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return request if isinstance(request, dict) else None


def not_json(text: str | bytes) -> dict[str, Any]:
    """The answer to a frame that is no JSON object."""
    shown = text if isinstance(text, str) else text.decode("utf-8", "replace")
    return {"type": "error", "error": "jsonInvalid", "value": shown}


def command_of(request: dict[str, Any]) -> str | None:
    """The command's name; None if it is missing, no string, or given twice differently."""
    names = [request[key] for key in ("command", "method") if key in request]
    return names[0] if names and all(isinstance(name, str) and name == names[0] for name in names) else None


def answer(request: dict[str, Any], make_call: Callable[[int], Call]) -> dict[str, Any]:
    """Carry out a request and wrap what it gave."""
    version, command = request.get("api_version", 1), command_of(request)
    if isinstance(version, bool) or version not in _VERSIONS:
        return _wrap(request, {"error": "invalid_API_version", "status": "error", "request": request})
    if command is None:
        return _wrap(request, {"error": "missingCommand", "status": "error", "request": request})
    try:
        result = _run(command, make_call(version))
    except RpcError as error:
        return _wrap(request, {**error.answer, "request": _masked(request), "status": "error"})
    return _wrap(request, {"result": result, "status": "success"})


def _run(command: str, call: Call) -> dict[str, Any]:
    handler = COMMANDS.get(command)
    if handler is None:
        raise RpcError("unknownCmd")
    try:
        return handler(call)
    except RpcError:
        raise
    except Exception as error:  # a defect of ours must not take the connection down
        log.exception("command %s failed", command)
        raise RpcError("internal") from error


def _masked(request: dict[str, Any]) -> dict[str, Any]:
    return {name: "<masked>" if name in _SECRETS else value for name, value in request.items()}


def _wrap(request: dict[str, Any], body: dict[str, Any]) -> dict[str, Any]:
    echoed: dict[str, Any] = {name: request[name] for name in _ECHOED if name in request}
    return {**echoed, **body, "type": "response"}
