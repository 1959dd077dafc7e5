"""The one HTTP listener: metrics, health, what the command line and the console read, and what operators do.

Whatever changes state is a POST with the admin token; without a configured token nothing can be changed.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from aiohttp import web

from channeld.core.errors import BadValue, ChanneldError, Refused, Unreachable

Read = Callable[[], Mapping[str, Any]]
Action = Callable[[Mapping[str, Any]], Awaitable[Mapping[str, Any]]]
_LARGEST_BODY: Final = 256 * 1024
_NOBODY_MAY: Final = (
    "no [http] admin_token_file is configured, so nothing can be changed: name a file with a token in channeld.toml,"
    " and restart"
)


class HttpServer:
    """Serves until stopped. `scrape` gets the Accept header; `problems` lists why the daemon is not ready, and
    `warnings` what people should know all the same.

    A GET under `/api/v1/` is a reading of the daemon's state, given by name in `reads`, or in `looks`, which get the
    query and may take time. A POST with `Authorization: Bearer` and the `token` is one of the `actions`, which tell by
    `BadValue` and `Refused` why not. A POST to one of the `trials` changes nothing and needs no token.

    `documents` are served below `/api/` as they are: YAML in UTF-8.
    """

    def __init__(
        self,
        *,
        scrape: Callable[[str], tuple[bytes, str]],
        problems: Callable[[], list[str]],
        warnings: Callable[[], list[str]],
        reads: Mapping[str, Read],
        actions: Mapping[str, Action] | None = None,
        looks: Mapping[str, Action] | None = None,
        trials: Mapping[str, Action] | None = None,
        token: bytes | None = None,
        documents: Mapping[str, bytes] | None = None,
    ) -> None:
        self._scrape, self._problems, self._warnings, self._reads = scrape, problems, warnings, reads
        self._actions, self._looks, self._token = actions or {}, looks or {}, token
        self._trials = trials or {}
        self._documents = documents or {}
        app = web.Application(client_max_size=_LARGEST_BODY)
        app.router.add_get("/", self._index)
        app.router.add_get("/metrics", self._metrics)
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/api/v1/{name}", self._read)
        app.router.add_get("/api/{name}", self._document)
        app.router.add_post("/api/v1/{name}", self._act)
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False)
        self.port = 0

    async def start(self, host: str, port: int) -> None:
        """Listen; port 0 takes any free one. Raises `Unreachable` where the address cannot be had."""
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, host, port).start()
        except OSError as error:
            raise Unreachable(f"[http] listen {host}:{port}: {error.strerror or error}: choose another port") from error
        self.port = int(self._runner.addresses[0][1])

    async def stop(self) -> None:
        """Stop listening and let requests under way finish."""
        await self._runner.cleanup()

    async def _index(self, _: web.Request) -> web.Response:
        lines = ["channeld", "", "/metrics  /healthz  /readyz", *(f"/api/v1/{name}" for name in sorted(self._reads))]
        return web.Response(text="\n".join(lines) + "\n")

    async def _metrics(self, request: web.Request) -> web.Response:
        body, content_type = self._scrape(request.headers.get("Accept", ""))
        return web.Response(body=body, headers={"Content-Type": content_type})

    async def _healthz(self, _: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def _readyz(self, _: web.Request) -> web.Response:
        problems = self._problems()
        said = {"ready": not problems, "reasons": problems, "warnings": self._warnings()}
        return web.json_response(said, status=503 if problems else 200)

    async def _document(self, request: web.Request) -> web.Response:
        body = self._documents.get(request.match_info["name"])
        if body is None:
            return web.json_response({"error": "not_found", "known": sorted(self._documents)}, status=404)
        return web.Response(body=body, content_type="application/yaml", charset="utf-8")

    async def _read(self, request: web.Request) -> web.Response:
        read = self._reads.get(request.match_info["name"])
        if read is None and (look := self._looks.get(request.match_info["name"])) is not None:
            return await _answered(look(dict(request.query)))
        if read is None:
            return web.json_response({"error": "not_found", "known": sorted(self._reads)}, status=404)
        return web.Response(text=json.dumps(read()), content_type="application/json")

    async def _act(self, request: web.Request) -> web.Response:
        action = self._trials.get(request.match_info["name"])
        if action is None and (refusal := self._unauthorized(request)) is not None:
            return refusal
        action = action or self._actions.get(request.match_info["name"])
        if action is None:
            return _problem(404, "not_found", f"known: {', '.join(sorted(self._actions))}")
        try:
            body = json.loads(await request.read() or b"{}")
        except (ValueError, RecursionError):
            body = None
        if not isinstance(body, dict):
            return _problem(400, "bad_request", "the body is not a JSON object")
        return await _answered(action(body))

    def _unauthorized(self, request: web.Request) -> web.Response | None:
        """Why a request may change nothing, or None. Compared in constant time."""
        if self._token is None:
            return _problem(403, "forbidden", _NOBODY_MAY)
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), self._token):
            return None
        headers = {"WWW-Authenticate": "Bearer"}
        return _problem(401, "unauthorized", "the admin token is missing or wrong", headers)


async def _answered(work: Awaitable[Mapping[str, Any]]) -> web.Response:
    """What an action gave, or why it would not or could not."""
    try:
        return web.json_response(dict(await work))
    except BadValue as error:
        return _problem(400, "bad_request", str(error))
    except Refused as error:
        return _problem(409, "refused", str(error))
    except ChanneldError as error:
        return _problem(503, "unavailable", str(error))


def _problem(status: int, error: str, reason: str, headers: Mapping[str, str] | None = None) -> web.Response:
    return web.json_response({"error": error, "reason": reason}, status=status, headers=headers)
