"""What is done every few seconds, whatever else goes on: put our status right, bear witness, keep the store's log
short, count, clean up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, Final

from channeld.app import garbage

if TYPE_CHECKING:
    from channeld.app.daemon import Daemon

_PRESENCE_EVERY_S: Final = 1.0
_WITNESS_EVERY_S: Final = 1.0
_CHECKPOINT_EVERY_S: Final = 2.0
_COUNT_EVERY_S: Final = 5.0
_LOOP_EVERY_S: Final = 0.5
_FORGOTTEN: Final = 256
"""Rows of usage dropped in one turn of the loop: some 2 ms."""
_PAUSE_S: Final = 0.01
_CROWD: Final = 512
"""Requests and replies under way that are a reason to let garbage lie."""


def chores(of: Daemon) -> tuple[tuple[str, Coroutine[Any, Any, None]], ...]:
    """All of them, each with a name for its task. None ends by itself; `StoreError` ends one."""
    return (
        ("presence", _presence(of)),
        ("witness", _bear_witness(of)),
        ("checkpoints", _checkpoints(of)),
        ("accounting", _accounting(of)),
        ("loop", _loop_lag(of)),
        ("garbage", _garbage(of)),
    )


async def _presence(of: Daemon) -> None:
    """Put our status on the broker right where something overwrote it."""
    while True:
        await asyncio.sleep(_PRESENCE_EVERY_S)
        of.gateway.presence.put_right()


async def _bear_witness(of: Daemon) -> None:
    """Raise the data version when it is time."""
    while True:
        await asyncio.sleep(_WITNESS_EVERY_S)
        of.watch.tick()


async def _accounting(of: Daemon) -> None:
    """Keep what was rejected, by the hour; once an hour forget what is very old."""
    hour = 0
    while True:
        await asyncio.sleep(_COUNT_EVERY_S)
        if counts := of.tallies.take():
            of.store.usage.rejected(counts)
        if hour != of.tallies.hour:
            hour = of.tallies.hour
            more = True
            while more:
                more = of.store.usage.forget(of.mirror.grants, hour, _FORGOTTEN)
                await asyncio.sleep(_PAUSE_S)


async def _loop_lag(of: Daemon) -> None:
    """Count by how much the loop comes back too late: nothing else is done in that time."""
    while True:
        began = of.monotonic()
        await asyncio.sleep(_LOOP_EVERY_S)
        of.telemetry.late(max(0.0, of.monotonic() - began - _LOOP_EVERY_S))


async def _garbage(of: Daemon) -> None:
    """Collect garbage, and not while much is under way if that can wait."""
    collector, asked = garbage.Garbage(), of.broker.asked
    while True:
        await asyncio.sleep(garbage.EVERY_S)
        before, asked = asked, of.broker.asked
        under_way = of.gateway.waiting + of.broker.queued_out + of.broker.in_flight_out
        collector.moment(asked=asked != before, crowded=under_way > _CROWD)


async def _checkpoints(of: Daemon) -> None:
    """Keep the store's log short, off the loop: a checkpoint takes milliseconds."""
    while True:
        await asyncio.sleep(_CHECKPOINT_EVERY_S)
        await asyncio.to_thread(of.store.checkpoint)
        of.store.restart_log()
