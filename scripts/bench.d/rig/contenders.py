"""What answers claim requests: channeld, and a program that does nothing but answer.

All of them are on one broker, each below a topic prefix of its own, and all stay connected; only one is asked at a
time. To compare with another stack, write its class here and name it in `CONTENDERS`.
"""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from channeld.core.errors import Unreachable
from channeld.sandbox.ledger_client import LedgerClient
from channeld.sandbox.stage import Process, Server, Stage, free_port
from rig.native import Cell, LoadGenerator, Shape, Timing

CHANNEL_XRP: Final = 50_000
"""Put into every channel: so much that none runs dry or is settled during a run."""
_OPENING_TRIES: Final = 60
POLICY: Final = f"""\
[policy]
schema = 1
[guards]
treasury_floor       = "10 XRP"
max_opens_per_ledger = 1000
ledger_lag           = "60s"
[pools.standard]
wallet       = "hot"
settle_delay = "24h"
channel = {{ min = "{CHANNEL_XRP} XRP", max = "{CHANNEL_XRP * 2} XRP" }}
runway  = {{ low = "1s", target = "2s" }}
fund    = {{ low = "1 XRP", target = "2 XRP" }}
settle  = {{ worth = "{CHANNEL_XRP} XRP", max_age = "24h" }}
close   = {{ idle = "30d" }}
"""
CAPS: Final = """\
max_drops_per_day = "1000000000 XRP"
max_locked = "1000000000 XRP"
max_open_channels = 1000000
max_requests_per_s = 1000000"""


@dataclass(frozen=True, slots=True)
class Site:
    """Where contenders stand: a directory, a broker's port on loopback, who asks and what asks."""

    directory: Path
    port: int
    shape: Shape
    load: LoadGenerator
    close_interval_s: float


class Contender(Protocol):
    """Something that answers requests below `prefix`, in the process `pid`; `batches`, where it takes them."""

    prefix: str
    batches: bool

    @property
    def pid(self) -> int: ...

    async def start(self) -> None:
        """Return once it accepts what the load generator asks."""

    async def stop(self) -> None: ...

    async def counters(self) -> Mapping[str, float]:
        """Totals that tell how it worked; the report shows by how much they grew for each claim."""


class Responder(ABC):
    """A program on the broker that says `ready` on its standard output once it answers."""

    prefix = ""
    batches = True

    def __init__(self, site: Site) -> None:
        self._site = site
        self._process: asyncio.subprocess.Process | None = None

    @abstractmethod
    def command(self) -> list[str]:
        """What is run."""

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    async def start(self) -> None:
        self._process = await asyncio.create_subprocess_exec(*self.command(), stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        if await self._process.stdout.readline() != b"ready\n":
            raise Unreachable(f"{self.command()[0]} does not come up")

    async def stop(self) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.terminate()
            await self._process.wait()

    async def counters(self) -> Mapping[str, float]:
        return {}


class Ceiling(Responder):
    """Answers at once with a fixed text: what the broker and the load generator can do at most."""

    prefix = "ceiling/v1"

    def command(self) -> list[str]:
        return [str(self._site.load.folder / "echo"), str(self._site.port), self.prefix]


class Durable(Responder):
    """The same with what one read of the socket brought written down and synced first: what the disk lets pass, too."""

    prefix = "durable/v1"

    def command(self) -> list[str]:
        log = self._site.directory / "durable.log"
        return [str(self._site.load.folder / "echo"), str(self._site.port), self.prefix, str(log)]


class Straightforward(Responder):
    """The stack one writes first: see `rig.straightforward`."""

    prefix = "straightforward/v1"
    batches = False

    def command(self) -> list[str]:
        program = Path(__file__).with_name("straightforward.py")
        store = self._site.directory / "straightforward.db"
        return [sys.executable, str(program), str(self._site.port), self.prefix, str(store)]


class Channeld:
    """The daemon as it is run, on a sandbox ledger in a process of its own, with an open channel for every payee."""

    prefix = "channeld/v1"
    batches = True

    def __init__(self, site: Site) -> None:
        self._site = site
        port = free_port()
        interval = ("--close-interval", str(site.close_interval_s))
        self._port = port
        self._ledger = Process(site.directory, "ledger", "sandbox", "ledger", "--port", str(port), *interval)
        self._stage = Stage(
            site.directory / "channeld", [f"ws://127.0.0.1:{port}"], site.port, _servers(site.shape), policy=POLICY
        )
        self._running = AsyncExitStack()

    @property
    def pid(self) -> int:
        return self._stage.daemon.pid

    async def start(self) -> None:
        self._ledger.start()
        self._running.push_async_callback(self._ledger.stop)
        await self._ledger.listening(self._port)
        async with LedgerClient(f"ws://127.0.0.1:{self._port}") as ledger:
            needed = (self._site.shape.channels + 2) * (CHANNEL_XRP + 100) * 1_000_000
            await ledger.fund({self._stage.wallet.address: needed, self._site.shape.payee: 1_000_000_000})
            self._running.push_async_callback(self._stage.daemon.stop)
            await self._stage.start()
            await self._open_channels(ledger)

    async def _open_channels(self, ledger: LedgerClient) -> None:
        """Ask for a claim of every payee until all are accepted."""
        cell, timing = Cell(rate=4.0 * self._site.shape.channels), Timing(0, 0.5, 2)
        sample = ""
        for _ in range(_OPENING_TRIES):
            said = await self._site.load.run(self.prefix, cell, timing)
            if said.accepted >= self._site.shape.channels and not said.rejected + said.unanswered:
                return
            sample = said.sample or f"{said.unanswered} requests got no answer"
            await ledger.result("ledger_accept")
        raise Unreachable(f"the channels do not open: {sample}; {self._stage.daemon.tail()}")

    async def stop(self) -> None:
        await self._running.aclose()

    async def counters(self) -> Mapping[str, float]:
        _, page = await asyncio.to_thread(self._stage.get, "/metrics")
        names = {
            "claims": "channeld_claim_group_requests_sum",
            "groups": "channeld_claim_group_requests_count",
            "signatures": "channeld_claim_signatures_total",
        }
        found = {what: re.search(rf"^{name} (\S+)", page, re.MULTILINE) for what, name in names.items()}
        return {what: float(value[1]) for what, value in found.items() if value}


def _servers(shape: Shape) -> list[Server]:
    """The content servers that the load generator plays."""
    n = shape.payees
    return [
        Server(f"bench-{s}", [f"{shape.payee}:{s * n + tag}" for tag in range(1, n + 1)], caps=CAPS)
        for s in range(shape.servers)
    ]


CONTENDERS: Final[Mapping[str, Callable[[Site], Contender]]] = {
    "ceiling": Ceiling,
    "durable": Durable,
    "channeld": Channeld,
    "straightforward": Straightforward,
}
"""What `--contenders` may name. A comparison is with `ceiling`, where it is among them."""
