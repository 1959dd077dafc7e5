"""The pause between two lives: the process works and says over HTTP why it is not ready, and when it tries again."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from channeld import __version__
from channeld.adapters.http import Pages
from channeld.adapters.telemetry import Page
from channeld.app import gauges

if TYPE_CHECKING:
    from channeld.adapters.http import HttpServer


def paused(why: str, policy_hash: str, more: Callable[[], str] = lambda: "") -> Pages:
    """The pages of no daemon: `why` there is none, and what `more` adds at that moment."""
    page = Page(version=__version__, policy_hash=policy_hash)
    page.gauges(gauges.paused)
    return Pages(scrape=page.scrape, problems=lambda: [why + more()], paused=True)


async def rest(http: HttpServer, stop: asyncio.Event, why: str, pause_s: float, policy_hash: str) -> None:
    """For `pause_s` seconds, or until `stop` is set. `why` the last life ended is told as the reason."""
    loop = asyncio.get_running_loop()
    ends = loop.time() + pause_s
    http.pages = paused(why, policy_hash, lambda: f"; the next attempt in {max(0, math.ceil(ends - loop.time()))} s")
    with suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), pause_s)
