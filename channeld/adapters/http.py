"""The one HTTP listener: metrics, health, and what the command line and the console read. It changes nothing."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from aiohttp import web

from channeld.core.errors import Unreachable

Read = Callable[[], Mapping[str, Any]]


class HttpServer:
    """Serves until stopped. `scrape` gets the Accept header; `problems` lists why the daemon is not ready.

    Everything under `/api/v1/` is a reading of the daemon's state, given by name in `reads`.
    """

    def __init__(
        self,
        *,
        scrape: Callable[[str], tuple[bytes, str]],
        problems: Callable[[], list[str]],
        reads: Mapping[str, Read],
    ) -> None:
        self._scrape, self._problems, self._reads = scrape, problems, reads
        app = web.Application()
        app.router.add_get("/", self._index)
        app.router.add_get("/metrics", self._metrics)
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/api/v1/{name}", self._read)
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
        return web.json_response({"ready": not problems, "reasons": problems}, status=503 if problems else 200)

    async def _read(self, request: web.Request) -> web.Response:
        read = self._reads.get(request.match_info["name"])
        if read is None:
            return web.json_response({"error": "not_found", "known": sorted(self._reads)}, status=404)
        return web.Response(text=json.dumps(read()), content_type="application/json")
