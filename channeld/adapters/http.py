"""The one HTTP listener: metrics, health, what the command line reads, and what operators do.

It is there for as long as the process is; what it shows is exchanged with every life of the daemon.

Whatever changes state is a POST with the admin token; without a configured token nothing can be changed.
"""

from __future__ import annotations

import asyncio
import hmac
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from aiohttp import web

from channeld.core.errors import BadValue, ChanneldError, Refused, Unreachable
from channeld.wire.strict import refuse_repeated

Read = Callable[[], Mapping[str, Any]]
Action = Callable[[Mapping[str, Any]], Awaitable[Mapping[str, Any]]]
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
_LARGEST_BODY: Final = 256 * 1024
_NOBODY_MAY: Final = (
    "no [http] admin_token_file is configured, so nothing can be changed: name a file with a token in channeld.toml,"
    " and restart"
)
_ALWAYS: Final = ("/metrics", "/healthz", "/readyz")
_FINISH_S: Final = 60.0
"""How long a request may take that is under way when others answer."""
_CLOSE_S: Final = 0.5
"""The same for what is still open when nobody listens any more."""


@dataclass(frozen=True, slots=True)
class Pages:
    """What is shown and taken. `scrape` gets the Accept header; `problems` lists why the daemon is not ready, and
    `warnings` what people should know all the same.

    A GET under `/api/v1/` is a reading of the daemon's state, given by name in `reads`, or in `looks`, which get the
    query and may take time. A POST with `Authorization: Bearer` and the `token` is one of the `actions`, which tell by
    `BadValue` and `Refused` why not. A POST to one of the `trials` changes nothing and needs no token.

    `documents` are served below `/api/` as they are: YAML in UTF-8.

    While `paused` there are metrics and health only; everything else is `paused`, 503, with the problems.
    """

    scrape: Callable[[str], tuple[bytes, str]]
    problems: Callable[[], list[str]]
    warnings: Callable[[], list[str]] = list
    reads: Mapping[str, Read] = field(default_factory=dict)
    actions: Mapping[str, Action] = field(default_factory=dict)
    looks: Mapping[str, Action] = field(default_factory=dict)
    trials: Mapping[str, Action] = field(default_factory=dict)
    token: bytes | None = None
    documents: Mapping[str, bytes] = field(default_factory=dict)
    paused: bool = False


class HttpServer:
    """Listens until stopped, and answers by what `pages` say at that moment."""

    def __init__(self, pages: Pages) -> None:
        self.pages, self._under_way = pages, set[asyncio.Future[None]]()
        app = web.Application(client_max_size=_LARGEST_BODY, middlewares=[self._answer])
        app.router.add_get("/", self._index)
        app.router.add_get("/metrics", self._metrics)
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/api/v1/{name}", self._read)
        app.router.add_get("/api/{name}", self._document)
        app.router.add_post("/api/v1/{name}", self._act)
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=_CLOSE_S)
        self.port = 0

    async def start(self, host: str, port: int) -> None:
        """Listen; port 0 takes any free one. Raises `Unreachable` where the address cannot be had."""
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, host, port).start()
        except OSError as error:
            raise Unreachable(f"[http] listen {host}:{port}: {error.strerror or error}: choose another port") from error
        self.port = int(self._runner.addresses[0][1])

    async def turn(self, pages: Pages) -> None:
        """Answer by these from now on, and let requests under way finish."""
        self.pages = pages
        if self._under_way:
            await asyncio.wait(set(self._under_way), timeout=_FINISH_S)

    async def stop(self) -> None:
        """Stop listening."""
        await self._runner.cleanup()

    @web.middleware
    async def _answer(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if self.pages.paused and request.path not in _ALWAYS:
            return _problem(503, "paused", "; ".join(self.pages.problems()))
        done = asyncio.get_running_loop().create_future()
        self._under_way.add(done)
        try:
            return await handler(request)
        finally:
            self._under_way.discard(done)
            done.set_result(None)

    async def _index(self, _: web.Request) -> web.Response:
        lines = [
            "channeld",
            "",
            "/metrics  /healthz  /readyz",
            *(f"/api/v1/{name}" for name in sorted(self.pages.reads)),
        ]
        return web.Response(text="\n".join(lines) + "\n")

    async def _metrics(self, request: web.Request) -> web.Response:
        body, content_type = self.pages.scrape(request.headers.get("Accept", ""))
        return web.Response(body=body, headers={"Content-Type": content_type})

    async def _healthz(self, _: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def _readyz(self, _: web.Request) -> web.Response:
        problems = self.pages.problems()
        said = {"ready": not problems, "reasons": problems, "warnings": self.pages.warnings()}
        return web.json_response(said, status=503 if problems else 200)

    async def _document(self, request: web.Request) -> web.Response:
        body = self.pages.documents.get(request.match_info["name"])
        if body is None:
            return web.json_response({"error": "not_found", "known": sorted(self.pages.documents)}, status=404)
        return web.Response(body=body, content_type="application/yaml", charset="utf-8")

    async def _read(self, request: web.Request) -> web.Response:
        read = self.pages.reads.get(request.match_info["name"])
        if read is None and (look := self.pages.looks.get(request.match_info["name"])) is not None:
            return await _answered(look(dict(request.query)))
        if read is None:
            return web.json_response({"error": "not_found", "known": sorted(self.pages.reads)}, status=404)
        return web.Response(text=json.dumps(read()), content_type="application/json")

    async def _act(self, request: web.Request) -> web.Response:
        action = self.pages.trials.get(request.match_info["name"])
        if action is None and (refusal := self._unauthorized(request)) is not None:
            return refusal
        action = action or self.pages.actions.get(request.match_info["name"])
        if action is None:
            return _problem(404, "not_found", f"known: {', '.join(sorted(self.pages.actions))}")
        try:
            raw = await request.read() or b"{}"
            body = json.loads(raw)
            refuse_repeated(raw)
        except BadValue as error:
            return _problem(400, "bad_request", str(error))
        except (ValueError, RecursionError):
            body = None
        if not isinstance(body, dict):
            return _problem(400, "bad_request", "the body is not a JSON object")
        return await _answered(action(body))

    def _unauthorized(self, request: web.Request) -> web.Response | None:
        """Why a request may change nothing, or None. Compared in constant time."""
        if self.pages.token is None:
            return _problem(403, "forbidden", _NOBODY_MAY)
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), self.pages.token):
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
