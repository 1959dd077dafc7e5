"""Twice what the desk accepts, for as long as one likes: what is counted, and what the daemon's memory does meanwhile.

Three content servers send batches and a fourth single messages, at moments that do not depend on replies. What could
hold memory is read from the daemon's own metrics every second, beside its resident memory.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Final

from channeld.sandbox.stage import Server, Stage
from e2e.attack import CAPS, PREFIX, ROOMY, Link, link, open_channel, resident_kib
from e2e.world import XRP, ContentServer, World

SERVERS: Final = 4
BATCH: Final = 100
WINDOW: Final = 4
"""Batches that a server has unanswered while the maximum is measured."""
SINGLES: Final = 0.1
"""The share of all requests that comes as single messages."""
TICK_S: Final = 0.01
FEWEST: Final = 1000
"""Requests that a measured maximum rests on."""
GROWN: Final = 1.10
"""What memory may be at the end, compared with when it was warm."""
WARM: Final = 0.2
"""The part of the time in which caches fill: SQLite's alone takes 64 MiB, which is some 600 000 claims."""
LONG_S: Final = 300
"""A shorter run says nothing about memory but its bounds."""
PATIENCE_S: Final = 300.0
"""How long the first claim after the flood may take: the broker has everything that was sent before it."""
MOST: Final = {"requests_to_spread": 300_000, "mqtt_waiting_requests": 16_000, "mqtt_queued_replies": 20_000}
"""No gauge may ever show more."""
_GAUGES: Final = (*MOST, "history_waiting")


class Flood:
    """One content server: sends batches of `size`, or requests alone if that is 1."""

    def __init__(self, name: str, payee: str, size: int) -> None:
        self.name, self.size = name, size
        self.sent = self.accepted = self.rejected = self.answers = 0
        self._topic = f"{PREFIX}/servers/{name}/claim".encode()
        self._item = b'{"id":"%b.%%d","payee":"%b","drops":"1"}' % (name.encode(), payee.encode())
        self._link: Link | None = None
        self.window = 0

    async def start(self, port: int) -> None:
        self._link = await link(port, self.name, self._took)

    def _took(self, topic: bytes, payload: bytes) -> None:
        good = payload.count(b'"accepted"')
        self.accepted += good
        self.rejected += payload.count(b'"rejected"')
        self.answers += 1
        if self.window:
            self.send()

    def send(self) -> None:
        """One message."""
        assert self._link is not None
        items = [self._item % (self.sent + n) for n in range(self.size)]
        self.sent += self.size
        self._link.publish(self._topic, items[0] if self.size == 1 else b"[" + b",".join(items) + b"]", 1)

    async def at(self, per_s: float, seconds: float) -> None:
        """So many requests a second, whatever comes back."""
        loop = asyncio.get_running_loop()
        began, before = loop.time(), self.sent
        while (gone := loop.time() - began) < seconds:
            while self.sent - before < gone * per_s:
                self.send()
            await asyncio.sleep(TICK_S)

    def close(self) -> None:
        assert self._link is not None
        self._link.close()


@dataclass
class Watch:
    """Samples of the daemon, one a second."""

    stage: Stage
    rss_kib: list[int] = field(default_factory=list)
    most: dict[str, float] = field(default_factory=lambda: dict.fromkeys(_GAUGES, 0.0))

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            self.rss_kib.append(resident_kib(self.stage.daemon.pid))
            _, page = await asyncio.to_thread(self.stage.get, "/metrics")
            for name in _GAUGES:
                if found := re.search(rf"^channeld_{name} (\S+)", page, re.MULTILINE):
                    self.most[name] = max(self.most[name], float(found[1]))
            await asyncio.sleep(1)

    def warm_and_last(self) -> tuple[float, float]:
        """Median memory, in KiB, of the tenth after the warm-up and of the last one."""
        part = max(1, len(self.rss_kib) // 10)
        warm = int(len(self.rss_kib) * WARM)
        return median(self.rss_kib[warm : warm + part]), median(self.rss_kib[-part:])


async def overload(
    directory: Path, seconds: float, *, measured_s: float = 3.0, batch: int = BATCH, room: int = 4000
) -> dict[str, Any]:
    """Measure the maximum, and offer twice as much for so long. Returns what was counted.

    `room` is how many requests of one server may wait.
    """
    async with World(directory) as world:
        names = [f"o{n}" for n in range(SERVERS)]
        payees = [f"{world.payee.address}:{n}" for n in range(SERVERS)]
        caps = f"{CAPS}\nmax_requests_per_s = 1000000\nmax_in_flight = {room}"
        servers = [Server(name, [payee], caps=caps) for name, payee in zip(names, payees, strict=True)]
        stage = await world.stage(servers, policy=ROOMY, treasury=2_000_000 * XRP)
        port = world.broker.port
        await asyncio.gather(*(open_channel(port, name, payee) for name, payee in zip(names, payees, strict=True)))
        floods = [
            Flood(name, payee, 1 if name == names[-1] else batch) for name, payee in zip(names, payees, strict=True)
        ]
        for flood in floods:
            await flood.start(port)
        most = await _maximum(floods[:-1], measured_s)
        watch = Watch(stage)
        watching = asyncio.create_task(watch.run())
        await _flood(floods, most * 2, seconds)
        watching.cancel()
        counted = _counted(watch, floods, most)
        began = asyncio.get_running_loop().time()
        async with asyncio.timeout(PATIENCE_S):
            await _ask(port, names[0], payees[0])
        assert stage.daemon.running
        counted["first_after_s"] = round(asyncio.get_running_loop().time() - began, 2)
        return {"seconds": seconds, **counted, "passed": counted["bounded"] and (counted["flat"] or seconds < LONG_S)}


async def _ask(port: int, name: str, payee: str) -> None:
    """Ask for one claim more until it is had, and again where no answer comes: what was sent stands before it."""
    request = json.dumps({"id": "last", "payee": payee, "drops": "1"}).encode()
    async with ContentServer(name, port) as server:
        said = {"status": ""}
        while said["status"] != "accepted":
            with contextlib.suppress(TimeoutError):
                said = await server.send_raw(request, "last", 5)
            await asyncio.sleep(0.05)


async def _maximum(floods: Sequence[Flood], seconds: float) -> float:
    """Requests a second that are accepted at most."""
    for flood in floods:
        flood.window = WINDOW
        for _ in range(WINDOW):
            flood.send()
    await asyncio.sleep(seconds / 3)
    before, began = sum(flood.accepted for flood in floods), time.monotonic()
    done = 0
    while (
        time.monotonic() - began < seconds or done < FEWEST
    ):  # a short measurement may fall into a pause of the machine
        await asyncio.sleep(TICK_S)
        done = sum(flood.accepted for flood in floods) - before
    most = done / (time.monotonic() - began)
    for flood in floods:
        flood.window = 0
    return most


async def _flood(floods: Sequence[Flood], per_s: float, seconds: float) -> None:
    for flood in floods:
        flood.accepted = flood.rejected = 0
    shares = [SINGLES if flood.size == 1 else (1 - SINGLES) / (len(floods) - 1) for flood in floods]
    await asyncio.gather(*(f.at(per_s * share, seconds) for f, share in zip(floods, shares, strict=True)))
    for flood in floods:
        flood.close()


def _counted(watch: Watch, floods: Sequence[Flood], most: float) -> dict[str, Any]:
    warm, last = watch.warm_and_last()
    within = all(watch.most[name] <= bound for name, bound in MOST.items())
    return {
        "maximum_per_s": round(most),
        "sent": sum(flood.sent for flood in floods),
        "accepted": sum(flood.accepted for flood in floods),
        "rejected": sum(flood.rejected for flood in floods),
        "most": watch.most,
        "rss_warm_mib": round(warm / 1024, 1),
        "rss_last_mib": round(last / 1024, 1),
        "rss_most_mib": round(max(watch.rss_kib) / 1024, 1),
        "bounded": within,
        "flat": last <= warm * GROWN,
    }
