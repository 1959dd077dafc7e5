"""The demo's processes: a ledger that closes every second, a broker and the daemon, in a directory of their own."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from channeld.core.errors import Unreachable
from channeld.core.units import to_ripple
from channeld.sandbox.demo import cast
from channeld.sandbox.demo.cast import Role
from channeld.sandbox.demo.chronicle import balances, validated_index
from channeld.sandbox.ledger_client import GENESIS_ADDRESS, LedgerClient
from channeld.sandbox.stage import Process, Stage, free_port

CLOSE_INTERVAL_S: Final = 1
PREFIX: Final = "channeld/v1"
_MOST_ROUNDED_UP_S: Final = 5
_LEDGERS_FOR_THE_PACE: Final = 2
_PACE_WITHIN_S: Final = 10.0


@dataclass(slots=True)
class Theatre:
    """Everything runs. `start` is what every account held before the daemon did anything, as of `first_ledger`."""

    stage: Stage
    nodes: list[Process]
    ledger: LedgerClient
    mqtt_port: int
    first_ledger: int
    start: dict[str, int]

    @property
    def complete(self) -> bool:
        """Whether every process still runs."""
        return all(process.running for process in (*self.nodes, self.stage.daemon))


@contextlib.asynccontextmanager
async def theatre(directory: Path, roles: Sequence[Role], *, seconds: float, rate: float) -> AsyncIterator[Theatre]:
    """Start it all, and end every process whatever happens. Raises `Unreachable` with its output if one does not work.

    Accounts are paid in from genesis: the daemon's wallet, and those of the payees.
    """
    ledger_port, mqtt_port = free_port(), free_port()
    nodes = [
        Process(
            directory,
            "ledger",
            "sandbox",
            "ledger",
            "--port",
            str(ledger_port),
            "--close-interval",
            str(CLOSE_INTERVAL_S),
        ),
        Process(directory, "broker", "sandbox", "broker", "--port", str(mqtt_port)),
    ]
    payees = sum(len(role.payees) for role in roles)
    url, policy = f"ws://127.0.0.1:{ledger_port}", cast.policy(rate, payees)
    async with contextlib.AsyncExitStack() as stack:
        for node in nodes:
            stack.push_async_callback(_end, node)
            node.start()
        stage = Stage(directory, [url], mqtt_port, [role.on_stage() for role in roles], policy=policy)
        await asyncio.gather(nodes[0].listening(ledger_port), nodes[1].listening(mqtt_port))
        ledger = await stack.enter_async_context(LedgerClient(url))
        accounts: dict[str, int] = {payee.account: cast.PAYEE_START_DROPS for role in roles for payee in role.payees}
        await ledger.fund({**accounts, stage.wallet.address: cast.treasury(seconds, rate, payees)})
        await _steady_time(ledger)
        first = await validated_index(ledger)
        start = await balances(ledger, (GENESIS_ADDRESS, stage.wallet.address, *accounts), first)
        stack.push_async_callback(_end, stage.daemon)
        await stage.start()
        await _knows_the_pace(stage)
        yield Theatre(stage, nodes, ledger, mqtt_port, first, start)


async def _steady_time(ledger: LedgerClient) -> None:
    """Close ledgers until their time runs as the clock does, a second a ledger.

    Close times are rounded to 10 s, up or down, and each is at least a second after the last: so those of a young
    ledger leap by up to 9 s, until one was rounded up by the most there is. In a demo of seconds an idle time must not.
    """
    while True:
        header = await ledger.result("ledger", ledger_index="validated")
        if header["ledger"]["close_time"] >= to_ripple(time.time()) + _MOST_ROUNDED_UP_S:
            return
        await ledger.result("ledger_accept")


async def _knows_the_pace(stage: Stage) -> None:
    """Return once the daemon has seen enough ledgers to know how often they close: it says when to ask again by that.

    Raises `Unreachable` if ledgers do not close, or the daemon does not follow them.
    """
    first: int | None = None
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_PACE_WITHIN_S):
            while True:
                index = (await stage.status())["ledger"]["validated"]["index"]
                first = index if first is None else first
                if index >= first + _LEDGERS_FOR_THE_PACE:
                    return
                await asyncio.sleep(0.05)
    raise Unreachable(f"the daemon does not follow the ledger: {stage.daemon.tail()}")


async def _end(process: Process) -> None:
    """End a process: asked first, then not asked."""
    if process.running:
        await process.stop(timeout_s=3.0)
