"""When the daemon begins to take requests."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from waiting import until

from channeld.app import life
from channeld.app.life import open_for_requests
from channeld.core.errors import StoreError


class Opened:
    """A broker's side that notes that it runs."""

    def __init__(self) -> None:
        self.runs = False

    async def run(self) -> None:
        self.runs = True


async def test_nothing_is_taken_from_the_broker_before_a_ledger_was_seen() -> None:
    broker: Any = Opened()
    seen = asyncio.Event()
    opening = asyncio.create_task(open_for_requests(broker, seen, 3600))
    for _ in range(10):
        await asyncio.sleep(0)
    assert not broker.runs
    seen.set()
    await until(lambda: broker.runs, "requests are taken")
    await opening


async def test_without_a_ledger_requests_are_refused_after_a_while_rather_than_kept_waiting() -> None:
    broker: Any = Opened()
    await open_for_requests(broker, asyncio.Event(), 0.01)
    assert broker.runs


async def test_nothing_is_decided_once_the_store_failed_however_long_the_rest_takes_to_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Such as a thread that is in the middle of something."""
    did: list[str] = []

    async def failing() -> None:
        raise StoreError("the disk is gone")

    async def slow() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            for _ in range(10):
                await asyncio.sleep(0)
            did.append("the rest has ended")

    async def nothing(*_: object) -> None:
        """Done."""

    monkeypatch.setattr(life, "_begun", lambda of: [asyncio.create_task(slow()), asyncio.create_task(failing())])
    monkeypatch.setattr(life, "_let_go", nothing)
    gateway = SimpleNamespace(close=lambda: did.append("nothing is decided"), waiting=0)
    http: Any = SimpleNamespace()
    failed = asyncio.get_running_loop().create_future()
    daemon: Any = SimpleNamespace(pages=None, gateway=gateway, failed=failed, begun=lambda: None)
    with pytest.raises(StoreError):
        await life.live(daemon, http, asyncio.Event())
    assert did == ["nothing is decided", "the rest has ended"]
