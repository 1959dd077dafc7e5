"""Lives of a daemon in this process, without a ledger and a broker: it waits for both, and serves its operators.

And the pauses between two of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from configs import changed, write_config
from waiting import soon

from channeld.adapters.http import HttpServer
from channeld.app import keyring, read_store
from channeld.app.daemon import Daemon
from channeld.app.life import live
from channeld.app.pause import paused, rest
from channeld.app.reload import Files
from channeld.sandbox.stage import free_port
from channeld.settings import load, load_policy

POLICY = (Path(__file__).parent.parent / "config/policy.toml").read_text()


class Site:
    """A config whose ledger and broker are not there, and its store; `life` is one life of a daemon with it."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        text = changed("127.0.0.1:9464", f"127.0.0.1:{self.port}").replace(
            "mqtt://127.0.0.1:1883", "mqtt://127.0.0.1:1"
        )
        text = text.replace('"wss://one.example", "wss://two.example:51233/key"', '"ws://127.0.0.1:1"')
        self.config, self.policy = write_config(folder, text), folder / "policy.toml"
        self.policy.write_text(POLICY)
        (folder / "data").mkdir()
        self.files = self.read()

    def read(self) -> Files:
        """The files as a process reads them that starts now."""
        return Files(load(self.config, {}), load_policy(self.policy), {})

    @asynccontextmanager
    async def life(self) -> AsyncIterator[Daemon]:
        daemon = self.files.running = Daemon(self.files, keyring.load(self.files.settings))
        http, stop = HttpServer(paused("daemon: it begins", self.files.policy.hash)), asyncio.Event()
        await http.start("127.0.0.1", self.port)
        living = asyncio.create_task(live(daemon, http, stop))
        try:
            await soon(lambda: http.pages is daemon.pages or living.done(), "it lives")
            yield daemon
        finally:
            stop.set()
            self.files.running = None
            await living
            await http.stop()

    @asynccontextmanager
    async def pause(self, why: str, pause_s: float) -> AsyncIterator[None]:
        """The beginning of a pause after a life that ended for this reason."""
        http, stop = HttpServer(paused("daemon: it begins", self.files.policy.hash)), asyncio.Event()
        await http.start("127.0.0.1", self.port)
        first = http.pages
        resting = asyncio.create_task(rest(http, stop, why, pause_s, self.files.policy.hash))
        try:
            await soon(lambda: http.pages is not first, "it rests")
            yield
        finally:
            stop.set()
            await resting
            await http.stop()

    @property
    def told(self) -> list[tuple[str, str]]:
        """Who did what by the audit, oldest first."""
        entries = read_store(self.files.settings, "audit")["audit"]
        return [(entry["who"], entry["what"]) for entry in reversed(entries)]

    @property
    def in_force(self) -> str:
        return f"policy {self.files.policy.hash[:12]} in force"
