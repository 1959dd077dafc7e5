"""A channel goes under load, for whatever reason, and its spare carries on: no request is refused because of it."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from waiting import until

from channeld.sandbox.stage import POLICY, Server, Stage
from e2e.test_truth import cli
from e2e.world import ContentServer, World, accounts_for, content_server, retained

pytestmark = pytest.mark.slow

SPARE = (
    POLICY.replace('settle_delay = "1h"', 'settle_delay = "3s"')
    .replace('life_margin  = "1m"', 'life_margin  = "1s"')
    .replace("max_per_payee = 2", "max_per_payee = 3, spare = 1")
)


@dataclass
class Load:
    """A content server that asks all the time, and what was answered with a refusal."""

    server: ContentServer
    refused: list[dict[str, Any]] = field(default_factory=list)
    asked: int = 0
    answered: int = 0
    pausing: bool = False
    over: bool = False

    async def ask(self) -> None:
        self.asked += 1
        reply = await self.server.ask({"id": f"r{self.asked}", "drops": "1000"})
        self.answered += 1
        if reply["status"] != "accepted":
            self.refused.append(reply)

    async def burst(self, count: int = 20) -> None:
        await asyncio.gather(*(self.ask() for _ in range(count)))

    async def run(self) -> None:
        while not self.over:
            if not self.pausing:
                await self.burst(5)
            await asyncio.sleep(0.03)

    @property
    def used(self) -> set[str]:
        """Channels on which claims were given."""
        return set(self.server.highest())

    async def moved(self, before: set[str], count: int = 60) -> None:
        """Return once another channel has carried requests for a while."""
        await until(lambda: self.used - before, what="the spare carries")
        asked = self.asked
        await until(lambda: self.asked >= asked + count)


@dataclass
class Scene:
    world: World
    stage: Stage
    load: Load

    async def open(self) -> list[dict[str, Any]]:
        """Channels of the wallet as validated, that are not closing."""
        found = await self.world.ledger.channels(self.stage.wallet.address)
        return [channel for channel in found if "expiration" not in channel]

    async def two(self) -> bool:
        """Whether the spare stands by, and the daemon has it."""
        return len(await self.open()) >= 2 and len(self.in_store()) >= 2

    def in_store(self) -> list[str]:
        with closing(sqlite3.connect(f"file:{self.stage.store}?mode=ro", uri=True)) as db:
            rows = db.execute("SELECT channel_id FROM channel WHERE closed_at IS NULL AND issuing = 1").fetchall()
        return [channel_id for (channel_id,) in rows]

    def reasons(self) -> list[str]:
        """Why closes were requested."""
        with closing(sqlite3.connect(f"file:{self.stage.store}?mode=ro", uri=True)) as db:
            query = "SELECT reason FROM intent WHERE kind = 'request_close' ORDER BY number"
            return [reason for (reason,) in db.execute(query)]


@asynccontextmanager
async def scene(tmp_path: Path, policy: str) -> AsyncIterator[Scene]:
    """A payee with a channel in use and a spare beside it. At the end nothing was refused, and it all adds up."""
    async with World(tmp_path, close_interval_s=1.0) as world, content_server(world) as server:
        stage = await world.stage([Server("a", [world.payee.address])], policy=policy)
        await server.buy({"id": "first", "drops": "1000"})
        made = Scene(world, stage, Load(server))
        await until(made.two, what="the spare is opened")
        await until(lambda: told(world), what="the server is told of the spare: before that nothing is issued on it")
        running = asyncio.create_task(made.load.run())
        try:
            yield made
        finally:
            made.load.over = True
            await running
        assert made.load.refused == []
        accounts_for([server])
        print(f"{made.load.asked} requests on {len(made.load.used)} channels, none refused")


async def told(world: World) -> bool:
    return await retained(world, "a") >= 2


async def by_the_payee(scene: Scene) -> None:
    """The destination hands in its best claim and closes: the channel is gone at once."""
    (channel_id,) = scene.load.used
    best = max(
        (r["claim"] for r in scene.load.server.accepted.values()),
        key=lambda claim: int(claim["amount"]),
    )
    answer = await scene.world.ledger.submit(
        {
            "TransactionType": "PaymentChannelClaim",
            "Channel": channel_id,
            "Balance": best["amount"],
            "Amount": best["amount"],
            "Signature": best["signature"],
            "PublicKey": best["public_key"],
            "Flags": 0x00020000,
        },
        scene.world.payee,
    )
    assert answer["engine_result"] == "tesSUCCESS"


async def by_the_operator(scene: Scene) -> None:
    (channel_id,) = scene.load.used
    assert await cli(scene.stage, "close", channel_id, "--why", "a test") == {"closing": [channel_id]}


async def by_running_out(scene: Scene) -> None:
    """One request takes nearly all that the channel has left; what comes until it is funded is more than the rest."""
    scene.load.pausing = True
    await until(lambda: scene.load.answered == scene.load.asked)
    left = int(scene.load.server.received[-1]["headroom"])
    reply = await scene.load.server.ask({"id": "big", "drops": str(left - 500)})
    assert reply["status"] == "accepted"
    scene.load.pausing = False


@pytest.mark.parametrize("close", [by_the_payee, by_the_operator, by_running_out])
async def test_a_channel_goes_under_load_and_no_request_is_refused(
    tmp_path: Path, close: Callable[[Scene], Awaitable[None]]
) -> None:
    async with scene(tmp_path, SPARE) as made:
        before = made.load.used
        assert len(before) == 1, "all requests on one channel while it lasts"
        await close(made)
        await made.load.moved(before)
        if close is not by_running_out:
            await until(made.two, what="another spare is opened")
            assert not before & set(made.in_store())


async def test_a_fixed_end_comes_under_load_and_no_request_is_refused(tmp_path: Path) -> None:
    """Both channels were opened together, and end together: successors are ready before."""
    policy = SPARE.replace('ledger_lag           = "20s"', 'ledger_lag           = "6s"')
    policy = policy.replace('life_margin  = "1s"', 'life_margin  = "1s"\ncancel_after = "34s"')
    async with scene(tmp_path, policy) as made:
        first = set(made.in_store())
        await until(lambda: made.load.used - first, what="a successor carries")
        await made.load.moved(made.load.used & first)
        await until(lambda: {"life_over", "owed_before_end"} & set(made.reasons()))


async def test_our_own_close_of_an_unused_channel_refuses_nobody_who_comes_back(tmp_path: Path) -> None:
    """The load pauses until the channel is closed as unused, and comes back at that very moment.

    It may not be closed before there are two, which takes some ledgers more where the machine is slow.
    """
    policy = SPARE.replace('idle = "1h", min_age = "1h"', 'idle = "10s", min_age = "0s"')
    async with scene(tmp_path, policy) as made:
        before = made.load.used
        made.load.pausing = True
        await until(lambda: made.reasons() == ["idle"], what="it is closed as unused")
        await made.load.burst()
        made.load.pausing = False
        await made.load.moved(before)
        await until(made.two, what="another spare is opened")
