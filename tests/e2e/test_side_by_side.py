"""Daemons on one broker and prefix: each keeps retained what is its own, and leaves alone what is another's."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
from pathlib import Path
from typing import Any

import aiomqtt
import pytest
from waiting import until

from channeld.sandbox.stage import Server, Stage
from e2e.test_told import PREFIX, Reader, reading
from e2e.world import NODELAY, ContentServer, World, new_account

pytestmark = pytest.mark.slow


async def first_channel(world: World, told: Reader) -> dict[str, Any]:
    """What is retained for server `a` once it holds a claim."""
    async with ContentServer("a", world.broker.port) as server:
        await server.buy({"id": "first", "drops": "5"})
    await told.until(lambda: told.events)
    return dict(told.channels)


async def ledgers_pass(stage: Stage, count: int) -> None:
    """So many more are processed by a daemon that is connected to the broker."""

    async def at() -> int:
        said = await stage.status()
        return int(said["ledger"]["validated"]["index"]) if said["mqtt"]["connected"] else 0

    began = await until(at, "it is connected, and has seen a ledger")

    async def passed() -> bool:
        return await at() >= began + count

    await until(passed, f"{count} ledgers")


async def publish(world: World, topic: str, payload: bytes) -> None:
    version = aiomqtt.ProtocolVersion.V5
    async with aiomqtt.Client("127.0.0.1", world.broker.port, protocol=version, socket_options=NODELAY) as client:
        await client.publish(topic, payload, qos=1, retain=True)


def cleared(told: Reader) -> list[str]:
    return [topic for topic, said in told.came if said is None]


@pytest.mark.parametrize("wallet", ["own", "the same"])
async def test_a_second_daemon_leaves_alone_what_the_first_retains(tmp_path: Path, wallet: str) -> None:
    """One with a wallet, a key and a server of its own; and one with the first one's, and a new store."""
    async with World(tmp_path) as world:
        stage = await world.stage([Server("a", [world.payee.address])])
        async with reading(world, "a") as told:
            shown = await first_channel(world, told)
            if wallet == "own":
                payee = new_account()
                await world.ledger.fund({payee.address: 100_000_000})
                second = await world.stage([Server("b", [payee.address])], name="channeld-2")
            else:
                second = await world.stage([Server("a", [world.payee.address])], name="channeld-2", start=False)
                shutil.copytree(stage.directory / "secrets", second.directory / "secrets", dirs_exist_ok=True)
                second.wallet, second.claim_key = stage.wallet, stage.claim_key
                second.write()
                await second.start(ready=False)
                await until(lambda: "unknown_channels" in second.get("/api/v1/status")[1], "it is frozen")
            await ledgers_pass(second, 4)
            assert cleared(told) == []
            assert told.channels.keys() == shown.keys()


@pytest.mark.parametrize("put", [b"", b'{"state":"closed"}'])
async def test_what_somebody_else_did_to_a_retained_channel_is_put_right(tmp_path: Path, put: bytes) -> None:
    async with World(tmp_path) as world:
        stage = await world.stage([Server("a", [world.payee.address])])
        async with reading(world, "a") as told:
            shown = await first_channel(world, told)
            (topic,) = shown
            assert topic.startswith(PREFIX)
            await publish(world, topic, put)
            await told.until(lambda: told.channels.get(topic) != shown[topic])
            await told.until(lambda: told.channels == shown)
        await until(lambda: "channels_put_right" in stage.daemon.log.read_text(), "it says so")


# --- names -----------------------------------------------------------------------------------------------------------

NAMESAKE = "another_daemon_of_this_name"


def said_online(world: World, stage: Stage) -> Any:
    """Whether the broker holds the word of this very start of a daemon."""

    async def look() -> bool:
        instance = (await stage.status())["instance"]
        version = aiomqtt.ProtocolVersion.V5
        async with aiomqtt.Client("127.0.0.1", world.broker.port, protocol=version, socket_options=NODELAY) as client:
            await client.subscribe(f"channeld/v1/daemons/{stage.name}/status", qos=1)
            async with asyncio.timeout(5):
                async for message in client.messages:
                    said = json.loads(bytes(message.payload))  # type: ignore[arg-type]
                    return bool(said["status"] == "online" and said["instance"] == instance)
        return False

    return look


async def test_a_broker_that_goes_back_to_what_an_earlier_life_said_is_no_namesake(tmp_path: Path) -> None:
    db = tmp_path / "broker" / "mosquitto.db"
    kept = f"persistence true\npersistence_location {db.parent}/\nautosave_interval 0"
    async with World(tmp_path, mosquitto={"extra": kept}) as world:
        stage = await world.stage([Server("a", [world.payee.address])])
        await until(said_online(world, stage), "its first life is online")
        world.broker.signal(signal.SIGUSR1)
        await until(db.exists, "the broker has saved that")
        stage.daemon.kill()
        await stage.start()
        await until(said_online(world, stage), "its second life is online")
        await world.broker.kill()
        await world.broker.start()
        await stage.ready()
        await until(said_online(world, stage), "what the broker went back to is put right")
        await ledgers_pass(stage, 2)
        assert NAMESAKE not in stage.daemon.log.read_text()
        assert (await stage.status())["warnings"] == []


async def test_two_daemons_of_one_name_are_told_so(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        first = await world.stage([Server("a", [world.payee.address])])
        await until(said_online(world, first), "the first is online")
        second = await world.stage([Server("a", [world.payee.address])], start=False)
        await second.start(ready=False)
        await until(lambda: NAMESAKE in first.daemon.log.read_text(), "the first hears of it")
        await until(lambda: NAMESAKE in second.daemon.log.read_text(), "and when it comes back, the second")
        found = (await second.status())["warnings"] + (await second.status())["reasons"]
        assert any("daemon.name" in warning or "name of its own" in warning for warning in found)
