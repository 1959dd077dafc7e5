"""Whatever is around the daemon fails for a while: it says so, and goes on by itself with nothing lost or doubled."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import aiomqtt
import pytest
from waiting import until

from channeld.sandbox.stage import PATIENCE_S, POLICY, Server, Stage
from e2e.test_crash import job_counts, repeat_until_answered
from e2e.world import ContentServer, World, accounts_for, content_server

pytestmark = pytest.mark.slow

STALL_S = 60 if os.environ.get("CHANNELD_SOAK") else 6
IMPATIENT = POLICY.replace('ledger_lag           = "20s"', 'ledger_lag           = "4s"')


async def not_ready(stage: Stage, why: str) -> bool:
    code, text = await asyncio.to_thread(stage.get, "/readyz")
    return code == 503 and why in text


async def test_a_ledger_that_stops_closing_freezes_issuing_and_thaws(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        stage = await world.stage([Server("a", [world.payee.address])], policy=IMPATIENT)
        async with content_server(world) as server:
            await server.buy({"id": "before", "drops": "100"})
            await world.fault("stall", seconds=STALL_S)
            await until(lambda: not_ready(stage, "validated ledger is"), what="the lag shows in /readyz")
            reply = await server.ask({"id": "during", "drops": "100"})
            assert (reply["code"], "retry_after_ms" in reply) == ("frozen", True)
            replay = await server.ask({"id": "before", "drops": "100"})
            assert replay["replayed"] is True, "what was accepted is answered even now"
            await stage.ready(STALL_S + PATIENCE_S)
            await server.buy({"id": "during", "drops": "100"})
            accounts_for([server])


async def test_a_node_connection_that_drops_five_times(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        payees = [f"{world.payee.address}:{tag}" for tag in range(3)]
        stage = await world.stage([Server("a", payees)])
        async with content_server(world) as server:
            requests = {
                str(n): json.dumps({"id": str(n), "payee": payees[n % 3], "drops": "40000"}) for n in range(300)
            }
            asking = asyncio.create_task(repeat_until_answered(server, requests))
            for n in range(5):
                await world.fault("disconnect")
                seen = len(server.accepted)
                await until(lambda seen=seen: len(server.accepted) > seen or asking.done())
                await stage.ready()
                if n == 2:
                    await world.fault("submit_answer", mode="lose", count=2)
            await asking
            accounts_for([server])
            await job_counts(world, stage.wallet.address)


async def test_mosquitto_restarts_under_load(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        stage = await world.stage([Server("a", [world.payee.address])])
        async with content_server(world) as server:
            await server.buy({"id": "0", "drops": "1"})
        await world.broker.restart()
        await until(lambda: not_ready(stage, "broker") if not world.broker.pid else True)
        await stage.ready()
        async with ContentServer("a", world.broker.port) as server:
            requests = {str(n): json.dumps({"id": str(n), "drops": "7"}) for n in range(1, 200)}
            await repeat_until_answered(server, requests)
            replay = await server.ask({"id": "0", "drops": "1"})
            assert replay["replayed"] is True
            accounts_for([server])


async def test_a_late_will_does_not_stand_however_soon_it_came_after_what_it_overwrote(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        stage = await world.stage([Server("a", [world.payee.address])])
        topic = f"channeld/v1/daemons/{stage.name}/status"
        async with content_server(world) as server, asyncio.timeout(PATIENCE_S):
            async with aiomqtt.Client("127.0.0.1", world.broker.port, protocol=aiomqtt.ProtocolVersion.V5) as client:
                await client.subscribe(topic, qos=1)
                overwritten = 0
                async for message in client.messages:
                    said = json.loads(bytes(message.payload))  # type: ignore[arg-type]
                    if said["status"] == "offline":
                        continue
                    if overwritten == 3:
                        break
                    overwritten += 1
                    will = json.dumps(said | {"status": "offline"})
                    await server.client.publish(topic, will, qos=1, retain=True)


async def test_a_daemon_without_node_or_broker_waits_and_says_why(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        stage = await world.stage([Server("a", [world.payee.address])], start=False)
        await world.broker.stop()
        await world.fault("refuse_connections")
        await stage.start(ready=False)
        await until(lambda: not_ready(stage, "ledger: "), what="/readyz names the ledger")
        assert await not_ready(stage, "broker: ")
        assert stage.daemon.running
        assert (await asyncio.to_thread(stage.get, "/healthz"))[0] == 200
        await world.broker.start()
        await world.fault("resume")
        await stage.ready()
