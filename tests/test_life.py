"""When the daemon begins to take requests."""

from __future__ import annotations

import asyncio
from typing import Any

from waiting import until

from channeld.app.life import open_for_requests


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
