"""One run of the demo: the servers ask, the daemon settles and stops, the witnesses are heard."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from rich.console import Console, RenderableType
from rich.live import Live

from channeld.sandbox.demo.accounting import audit
from channeld.sandbox.demo.books import open_books
from channeld.sandbox.demo.cast import Role, cast
from channeld.sandbox.demo.chronicle import question
from channeld.sandbox.demo.display import picture
from channeld.sandbox.demo.post import Post
from channeld.sandbox.demo.server import ContentServer
from channeld.sandbox.demo.summary import summarize
from channeld.sandbox.demo.tally import Tally
from channeld.sandbox.demo.theatre import PREFIX, Theatre, theatre
from channeld.sandbox.demo.verifier import Verifier
from channeld.sandbox.demo.watcher import Watcher

_LEAVES_AFTER: Final = 1 / 3
"""The part of the time after which a server stops asking."""
_SETTLES_WITHIN_S: Final = 8.0
"""How long the daemon may take, after the last request, until all is paid out. It does not matter if it takes longer:
what is owed then is owed, and the accounts have to fit all the same."""
_LOOK_S: Final = 0.2


@dataclass(slots=True)
class Play:
    """What one run was asked to be, and how far it is."""

    seconds: float
    rate: float
    roles: list[Role]
    console: Console
    tally: Tally = field(default_factory=Tally)
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    watcher: Watcher | None = None
    phase: str = "starting"
    began: float | None = None
    asked_s: float = 0.0

    async def run(self, directory: Path) -> tuple[dict[str, Any], dict[str, list[str]]]:
        """Play it in `directory`; the summary, and what does not add up by invariant."""
        stage = theatre(directory, self.roles, seconds=self.seconds, rate=self.rate)
        with self._display():
            async with _stoppable(self.stop), stage as running:
                self.watcher = Watcher(running.ledger, running.stage.wallet.address, running.first_ledger)
                await self._perform(running, self.watcher)
                self.phase = "stopping"
                status = await running.stage.daemon.stop()
                if status != 0:
                    self.tally.failures.append(f"the daemon ended with {status}: {running.stage.daemon.tail()}")
                self.phase = "accounting"
                return await self._account(running)

    async def _account(self, stage: Theatre) -> tuple[dict[str, Any], dict[str, list[str]]]:
        store = await asyncio.to_thread(open_books, stage.stage.store)
        ledger = await question(stage.ledger, stage.stage.wallet.address, stage.start)
        findings = audit(self.tally, store, ledger)
        summary = summarize(
            seconds=self.asked_s,
            servers=len(self.roles),
            first_ledger=stage.first_ledger,
            tally=self.tally,
            ledger=ledger,
            findings=findings,
        )
        return summary, findings

    async def _perform(self, stage: Theatre, watcher: Watcher) -> None:
        """Let the servers ask until time is up, then let the daemon pay out what it owes."""
        begin, over = asyncio.Event(), asyncio.Event()
        verifier = Verifier(stage.ledger, stage.stage.wallet.address, stage.stage.claim_key.public_key)
        share = self.rate / len(self.roles)
        servers = [
            ContentServer(role, Post(PREFIX, role.name, stage.mqtt_port), share, verifier, self.tally)
            for role in self.roles
        ]
        async with asyncio.TaskGroup() as group:
            watching = group.create_task(watcher.run())
            working = [group.create_task(server.run(begin, over)) for server in servers]
            await self._ask(stage, servers, working, begin)
            over.set()
            self.phase = "waiting for answers"
            await asyncio.wait(working)
            self.phase = "settling"
            watching.cancel()
            await self._settled(watcher)

    async def _ask(
        self,
        stage: Theatre,
        servers: list[ContentServer],
        working: list[asyncio.Task[None]],
        begin: asyncio.Event,
    ) -> None:
        """Begin once all are connected, and return when time is up, or earlier if we are told to stop.

        It is over early, too, where a server or a process has ended. Where not all could connect nothing begins. What
        went wrong is in the tally.
        """
        await asyncio.gather(*(server.connected.wait() for server in servers))
        if self.tally.failures:
            return
        loop = asyncio.get_running_loop()
        self.began, self.phase = loop.time(), "asking"
        begin.set()
        leaving = loop.call_later(self.seconds * _LEAVES_AFTER, self._leave, servers)
        told = asyncio.create_task(self.stop.wait())
        while (left := self.began + self.seconds - loop.time()) > 0 and stage.complete:
            ended, _ = await asyncio.wait((told, *working), timeout=min(left, 1.0), return_when=asyncio.FIRST_COMPLETED)
            if ended:
                break
        told.cancel()
        leaving.cancel()
        self.asked_s = loop.time() - self.began

    def _leave(self, servers: list[ContentServer]) -> None:
        """Some payees are asked for no more, so that their channels come to their end; others take over the pace."""
        staying = [server for server in servers if server.leave()]
        for server in staying:
            server.rate = self.rate / len(staying)

    async def _settled(self, watcher: Watcher) -> None:
        """Return once every claim held is paid out, or after a while, or when we are told to stop."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_SETTLES_WITHIN_S):
                while not self.stop.is_set() and watcher.owed(self.tally.highest):
                    await asyncio.sleep(_LOOK_S)
                    await watcher.look()

    def _display(self) -> contextlib.AbstractContextManager[object]:
        """A live picture on a terminal, nothing elsewhere."""
        if not self.console.is_terminal:
            return contextlib.nullcontext()
        loop = asyncio.get_running_loop()

        def frame() -> RenderableType:
            elapsed = 0.0 if self.began is None else min(self.seconds, loop.time() - self.began)
            return picture(self.phase, elapsed, self.seconds, self.tally, self.watcher)

        return Live(get_renderable=frame, console=self.console, refresh_per_second=5, transient=True)


@contextlib.asynccontextmanager
async def _stoppable(stop: asyncio.Event) -> AsyncIterator[None]:
    """Ctrl-C and SIGTERM ask to stop early; once more, and what runs is cancelled (and still ends its processes)."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()

    def told() -> None:
        if stop.is_set() and task is not None:
            task.cancel()
        stop.set()

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    for number in numbers:
        loop.add_signal_handler(number, told)
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


def play(seconds: float, servers: int, rate: float, console: Console) -> Play:
    """A run for so many seconds, content servers, and requests a second in all; `console` shows the progress."""
    return Play(seconds, rate, cast(servers), console)
