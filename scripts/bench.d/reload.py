"""How long a reload of the policy holds up the loop, with so many channels of ours and as many that pay us.

Everything is decided again, for content servers what they may see is looked through, and claims have to be answered all
the while: what counts is the longest turn of the loop, from the reload until all of it is done. Times are the process's
own CPU, so that they mean something on a busy machine.

The table and, as the last line, one JSON object go to stdout.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import structlog
from rig.holdings import calm, filled, stored

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))

from engine import Engine, Silent
from worlds import SOURCE

from channeld.app import garbage
from channeld.core.records import ChannelRecord, Incoming
from channeld.core.units import ChannelId, Drops, RippleTime, Seconds
from channeld.service.collector import Collector
from channeld.service.herald import Herald
from channeld.wire.events import channel_payload, channel_source


class Board:
    """A broker that takes everything, and says so in the next turn."""

    connected = True

    def render(self, record: ChannelRecord) -> bytes:
        """What the daemon's board renders."""
        return channel_payload(record)

    source = staticmethod(channel_source)

    def show(self, server: str, channel_id: ChannelId, payload: bytes, told: Callable[[bool], None]) -> bool:
        """Taken."""
        asyncio.get_running_loop().call_soon(told, True)
        return True

    tell: Any = None


def paying_us(engine: Engine) -> None:
    """As many channels that pay us, on each of which something is held that is not worth a transaction yet."""
    wallet = engine.mirror.by_address[SOURCE]
    wallet.receives = True
    for channel_id, state in list(engine.mirror.channels.items()):
        channel = replace(state.record.channel, destination_account=SOURCE, settle_delay=Seconds(86_400))
        now = RippleTime(engine.ledger.time)
        engine.mirror.vault.put(Incoming(channel, Drops(7), "00", "a", now))
        assert channel_id in engine.mirror.vault.channels


class Desk:
    """An engine at rest: everything decided and shown."""

    def __init__(self, engine: Engine) -> None:
        engine.build()
        silent: Any = Silent()
        loop = asyncio.get_running_loop()
        board: Any = Board()
        self.engine, self.herald = engine, Herald(engine.mirror, engine.store.events, board, loop.call_soon)
        spending, purse = engine.planner.spending, engine.planner.purse
        self.collector = Collector(
            engine.mirror, engine.store, silent, spending=spending, purse=purse, monotonic=time.monotonic
        )
        engine.planner._monotonic = time.monotonic

    def busy(self) -> bool:
        """Whether something of it is still to be done."""
        return bool(self.engine.planner.waiting or self.herald.waiting or self.collector.waiting)

    async def rest(self) -> None:
        """Until all is done."""
        for _ in iter(self.busy, False):
            await asyncio.sleep(0)

    def reload(self) -> None:
        """What the daemon does in one turn when its files were read."""
        self.engine.planner.touch_all()
        self.collector.touch_all()
        self.herald.reload(frozenset())
        self.collector.decide()


async def watched(work: Callable[[], Any], rest: Callable[[], Any]) -> tuple[float, float]:
    """The longest turn (ms) and the CPU (s) from a piece of work until all that follows from it is done."""
    longest, last, over = 0.0, time.process_time(), False

    async def look() -> None:
        nonlocal longest, last
        while not over:
            await asyncio.sleep(0)
            now = time.process_time()
            longest, last = max(longest, now - last), now

    looking = asyncio.create_task(look())
    await asyncio.sleep(0)
    longest, began = 0.0, time.process_time()
    work()
    await rest()
    await asyncio.sleep(0)
    over = True
    await looking
    return longest * 1e3, time.process_time() - began


async def measure(engine: Engine, times: int) -> dict[str, float]:
    """The median of the longest turns of some reloads."""
    desk = Desk(engine)
    await engine.follower._catch_up(engine.session, engine.ledger.header())  # type: ignore[arg-type]
    paying_us(engine)
    working = [asyncio.create_task(work.run()) for work in (engine.planner, desk.collector)]
    desk.herald.connected(session_present=False)
    desk.herald.marked()
    desk.collector.decide()
    desk.herald.ledger()
    await desk.rest()
    garbage.settle()  # as the daemon does
    found = [await watched(desk.reload, desk.rest) for _ in range(times)]
    for task in working:
        task.cancel()
    garbage.unsettle()
    turns, cpu = sorted(turn for turn, _ in found), sorted(cpu for _, cpu in found)
    return {"longest_turn_ms": round(turns[times // 2], 1), "cpu_s": round(cpu[times // 2], 2)}


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="scripts/bench reload", description=__doc__)
    parser.add_argument("--channels", default="1000,100000", metavar="N,...")
    parser.add_argument("--times", type=int, default=3)
    arguments = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    found: dict[str, dict[str, float]] = {}
    print("| channels each way | longest turn ms | CPU s |\n| --- | --- | --- |")
    for channels in map(int, arguments.channels.split(",")):
        with tempfile.TemporaryDirectory() as name:
            engine = stored(Path(name), filled(channels, 10**9), calm())
            found[str(channels)] = asyncio.run(measure(engine, arguments.times))
            engine.kill()
        print(f"| {channels} | {' | '.join(str(value) for value in found[str(channels)].values())} |", flush=True)
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
