"""Between two lives the process still answers: it works, it is not ready, and why. Nobody who comes is turned away."""

from __future__ import annotations

import asyncio
import re
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest
from lives import Site
from waiting import soon

from channeld import __version__
from channeld.adapters.http import HttpServer, Pages
from channeld.app.pause import paused
from channeld.cli.daemon_http import act, call
from channeld.core.errors import ConfigError, StoreError, Unreachable
from channeld.sandbox.stage import Server, Stage, free_port

run: Any = sys.modules["channeld.app.run"]  # its name in the package is that of the function
LONG_S = 3600.0


async def get(port: int, path: str, method: str = "GET", **more: Any) -> tuple[int, Any, str]:
    """Status, what was said, and its type, over a connection of its own."""
    url = f"http://127.0.0.1:{port}{path}"
    async with aiohttp.ClientSession() as session, session.request(method, url, **more) as answer:
        said = await (answer.json() if answer.content_type == "application/json" else answer.text())
        return answer.status, said, answer.headers["Content-Type"]


class Failing(Site):
    """Whose daemon fails as it is told, life after life."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        keys: Any = None
        self.lives = run._Lives(self.files.settings, self.files.policy, keys)
        self.begun = 0

    def full(self, *_: object) -> Any:
        """A daemon that cannot begin."""
        self.begun += 1
        raise StoreError("the store failed: database or disk is full")

    async def get(self, path: str, **more: Any) -> tuple[int, Any, str]:
        """Of its listener."""
        return await get(self.port, path, **more)

    async def ready(self) -> Any:
        """What `/readyz` says, none where nobody listens yet."""
        try:
            return (await self.get("/readyz"))[1]
        except aiohttp.ClientConnectorError:
            return None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """While it runs; then it is told to stop, and does."""
        task = asyncio.create_task(self.lives.run())
        try:
            await soon(self.ready, "it listens")
            yield
        finally:
            self.lives._stop.set()
            await task


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Failing]:
    site = Failing(tmp_path)
    monkeypatch.setattr(run, "Daemon", site.full)
    monkeypatch.setattr(run, "_PAUSE_S", LONG_S)
    monkeypatch.setattr(run, "_LONGEST_PAUSE_S", LONG_S)
    yield site


async def test_in_a_pause_the_process_works_and_says_why_it_is_not_ready(site: Failing) -> None:
    """In the forms of a life. That it stops here at all shows that no pause is waited for when it is told to."""
    async with site.running():
        assert (await site.get("/healthz"))[:2] == (200, {"status": "ok"})
        status, said, _ = await site.get("/readyz")
        assert (status, said["ready"], said["warnings"]) == (503, False, [])
        (reason,) = said["reasons"]
        assert re.fullmatch(
            r"store: the store failed: database or disk is full; the next attempt in (3600|35\d\d) s", reason
        )
        for path, method in (("/", "GET"), ("/api/v1/status", "GET"), ("/api/v1/thaw", "POST")):
            status, said, _ = await site.get(path, method=method)
            assert (status, said["error"]) == (503, "paused"), path
            assert "database or disk is full" in said["reason"]
    assert site.begun == 1


async def test_in_a_pause_metrics_say_that_it_is_not_ready_and_what_is_running(site: Failing) -> None:
    """And nothing that nobody counts there."""
    async with site.running():
        status, text, kind = await site.get("/metrics")
        assert (status, kind.partition(";")[0]) == (200, "text/plain")
        series = [line for line in text.splitlines() if not line.startswith("#")]
        build = f'channeld_build_info{{policy_hash="{site.files.policy.hash[:12]}",version="{__version__}"}} 1.0'
        assert series == [build, "channeld_ready 0.0"]
        _, text, kind = await site.get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
        assert kind.startswith("application/openmetrics-text")
        assert text.endswith("# EOF\n")


async def test_for_the_command_line_no_daemon_runs_in_a_pause(site: Failing, monkeypatch: pytest.MonkeyPatch) -> None:
    """So it reads the store where it can."""
    settings = site.files.settings
    monkeypatch.setattr("channeld.cli.daemon_http.load_settings", lambda *_, **__: settings)
    async with site.running():
        assert await asyncio.to_thread(call, settings, "GET", "audit") is None
        with pytest.raises(Unreachable, match="says why in /readyz"):
            await asyncio.to_thread(act, None, "reload", {})


async def test_a_defect_is_a_reason_too(site: Failing, monkeypatch: pytest.MonkeyPatch) -> None:
    """What went wrong is for the log."""
    monkeypatch.setattr(run, "Daemon", lambda *_: 1 // 0)
    async with site.running():
        (reason,) = (await site.ready())["reasons"]
        assert reason.startswith("daemon: a defect ended it, see the log; the next attempt in ")


async def test_nobody_is_turned_away_while_lives_and_pauses_take_turns(
    site: Failing, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lives that end at once, lives that listen for a moment, and pauses: every request is answered by one of them."""
    monkeypatch.setattr(run, "_PAUSE_S", 0.001)
    monkeypatch.setattr(run, "_LONGEST_PAUSE_S", 0.002)
    monkeypatch.setattr(run, "_SCREEN_WAIT_S", LONG_S)

    def daemon(*_: object) -> Any:
        if (site.begun + 1) % 2:
            site.full()
        site.begun += 1
        pages = Pages(scrape=lambda _: (b"", "text/plain"), problems=list)
        return SimpleNamespace(pages=pages, follower=SimpleNamespace(endpoint=None))

    async def live(of: Any, http: HttpServer, stop: asyncio.Event) -> None:
        http.pages = of.pages
        lived, asked = site.begun, len(said)
        await soon(lambda: len(said) > asked or stop.is_set())
        await http.turn(paused("daemon: it ends", "0"))
        raise StoreError(f"life {lived} is over")

    said: list[bool] = []
    monkeypatch.setattr(run, "Daemon", daemon)
    monkeypatch.setattr(run, "live", live)
    async with site.running():
        while not (site.begun > 10 and {True, False} <= set(said)):
            answers = await asyncio.gather(*(site.get("/readyz") for _ in range(3)))
            said += [answer[1]["ready"] for answer in answers]


async def test_an_address_that_cannot_be_had_ends_it_before_the_store_is_touched(site: Failing) -> None:
    """No pause mends that."""
    with socket.create_server(("127.0.0.1", site.port)), pytest.raises(ConfigError, match="choose another port"):
        await site.lives.run()
    assert site.begun == 0


async def test_what_is_under_way_when_a_life_ends_is_answered_by_it() -> None:
    """Whoever comes meanwhile is answered as in a pause."""
    going, go_on = asyncio.Event(), asyncio.Event()

    async def slow(_: object) -> dict[str, str]:
        going.set()
        await go_on.wait()
        return {"life": "the first"}

    http = HttpServer(Pages(scrape=lambda _: (b"", "text/plain"), problems=list, looks={"slow": slow}))
    await http.start("127.0.0.1", 0)
    try:
        under_way = asyncio.create_task(get(http.port, "/api/v1/slow"))
        await going.wait()
        turning = asyncio.create_task(http.turn(paused("daemon: it ends", "0")))
        await soon(lambda: http.pages.paused)
        assert (await get(http.port, "/readyz"))[:2] == (
            503,
            {"ready": False, "reasons": ["daemon: it ends"], "warnings": []},
        )
        assert not turning.done()
        go_on.set()
        assert (await under_way)[:2] == (200, {"life": "the first"})
        await turning
    finally:
        await http.stop()


@pytest.mark.slow
async def test_a_process_whose_store_cannot_be_opened_answers_until_it_can(tmp_path: Path) -> None:
    """From outside, and to its end by a signal in the middle of a pause, with status 0."""
    ledger, broker = free_port(), free_port()
    stage = Stage(tmp_path / "daemon", [f"ws://127.0.0.1:{ledger}"], broker, [Server("a", [])])
    stage.store.mkdir(parents=True)

    async def reasons() -> str:
        assert stage.daemon.running, stage.daemon.tail()
        code, said = await asyncio.to_thread(stage.get, "/readyz")
        assert code in (503, 0)
        return said if code else ""

    try:
        stage.daemon.start()
        assert "store: cannot open the store" in await soon(reasons)
        assert await stage.daemon.stop() == 0

        stage.daemon.start()
        await soon(reasons)
        stage.store.rmdir()
        health: list[int] = []

        async def lives() -> bool:
            health.append((await asyncio.to_thread(stage.get, "/healthz"))[0])
            return "broker: " in await reasons()

        await soon(lives, "the next life has a store")
        assert set(health) == {200}
        assert await stage.daemon.stop() == 0
    finally:
        stage.daemon.kill()
