"""One life of the daemon: what runs in it, and how it ends, from wired to letting go of the store.

A life ends when it is told to stop, or when the store fails: then the next one starts from what is on disk, as after a
crash, for that is the only way to know what a failed commit left.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import structlog

from channeld.app import garbage
from channeld.app.chores import chores
from channeld.app.pause import paused

if TYPE_CHECKING:
    from channeld.adapters.broker import Exchange
    from channeld.adapters.http import HttpServer
    from channeld.app.daemon import Daemon

log = structlog.get_logger()

_FLUSH_S: Final = 5.0
_FIRST_LEDGER_S: Final = 3.0


async def live(daemon: Daemon, http: HttpServer, stop: asyncio.Event) -> None:
    """Until `stop` is set, then drain.

    Raises `StoreError` when the store failed, `ConfigError` at first contact.
    """
    http.pages = daemon.pages
    daemon.begun()
    tasks = _begun(daemon)
    stopping = asyncio.create_task(stop.wait())
    garbage.settle()
    try:
        watched: list[asyncio.Future[Any]] = [*tasks, stopping, daemon.failed]
        await asyncio.wait(watched, return_when=asyncio.FIRST_COMPLETED)
        await _drain(daemon, clean=stopping.done())
        for ended in watched:
            if ended.done():
                ended.result()
    finally:
        daemon.gateway.close()  # where the store failed nothing may be decided, however long the rest takes to end
        for task in (*tasks, stopping):
            task.cancel()
        await asyncio.gather(*tasks, stopping, return_exceptions=True)
        garbage.unsettle()
        await _let_go(daemon, http)


def _begun(of: Daemon) -> list[asyncio.Task[None]]:
    """Everything that runs for as long as the life lasts."""
    work = (
        ("follower", of.follower.run()),
        ("planner", of.planner.run()),
        ("collector", of.collector.run()),
        ("executor", of.executor.run()),
        ("strangers", of.strangers.run()),
        ("broker", open_for_requests(of.broker, of.ledger_seen, _FIRST_LEDGER_S)),
        ("housekeeping", of.housekeeping.run()),
        *chores(of),
        ("annals", of.annals.run()),
    )
    return [asyncio.create_task(each, name=name) for name, each in work]


async def open_for_requests(broker: Exchange, ledger_seen: asyncio.Event, patience_s: float) -> None:
    """Run the broker's side, once a ledger was seen or `patience_s` are over.

    Before, all that waits for us would be refused, for nothing is issued without a ledger; the broker keeps it.
    """
    with suppress(TimeoutError):
        await asyncio.wait_for(ledger_seen.wait(), patience_s)
    await broker.run()


async def _drain(of: Daemon, *, clean: bool) -> None:
    """Answer what was taken and say goodbye; after a failure only say goodbye."""
    if clean:
        of.gateway.presence.offline()
        await of.broker.stop(_FLUSH_S)
    log.info("stopping", answered_all=of.gateway.waiting == 0)


async def _let_go(of: Daemon, http: HttpServer) -> None:
    """Nothing runs any more: close what is open, the store last."""
    of.failed.cancel()
    of.queries.close()
    of.herald.close()
    of.annals.close()
    of.signing.close()
    await http.turn(paused("daemon: it ends what it began", of.files.policy.hash))
    of.store.close()
