"""What content servers are told, and may read, over a real broker: channels, events, queries."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiomqtt
import pytest

from channeld.sandbox.stage import PATIENCE_S, Server
from e2e.world import NODELAY, ContentServer, World, new_account

pytestmark = pytest.mark.slow
PREFIX = "channeld/v1/servers"


class Reader:
    """Reads everything below a server's name, and keeps what is retained and in which order things came."""

    def __init__(self, client: aiomqtt.Client) -> None:
        self.client = client
        self.came: list[tuple[str, Any]] = []
        self.channels: dict[str, Any] = {}
        self.changed = asyncio.Event()

    async def read(self) -> None:
        async for message in self.client.messages:
            topic = str(message.topic)
            said = json.loads(bytes(message.payload)) if message.payload else None  # type: ignore[arg-type]
            self.came.append((topic, said))
            if "/channels/" in topic:
                self.channels[topic] = said
                if said is None:
                    del self.channels[topic]
            self.changed.set()

    @property
    def events(self) -> list[dict[str, Any]]:
        return [said for topic, said in self.came if topic.endswith("/event")]

    @property
    def accepted(self) -> list[Any]:
        return [said for topic, said in self.came if topic.endswith("/reply") and said["status"] == "accepted"]

    @property
    def topics(self) -> list[str]:
        """Topics in the order in which messages came, without refusals."""
        return [topic for topic, said in self.came if not topic.endswith("/reply") or said["status"] != "rejected"]

    async def until(self, condition: Any) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not condition():
                self.changed.clear()
                await self.changed.wait()


@asynccontextmanager
async def reading(world: World, name: str) -> AsyncIterator[Reader]:
    version = aiomqtt.ProtocolVersion.V5
    async with aiomqtt.Client("127.0.0.1", world.broker.port, protocol=version, socket_options=NODELAY) as client:
        reader = Reader(client)
        await client.subscribe(f"{PREFIX}/{name}/#", qos=1)
        task = asyncio.create_task(reader.read())
        try:
            yield reader
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def ask(server: ContentServer, query: dict[str, Any]) -> Any:
    future = server.expect(query["id"])
    await server.publish(json.dumps(query), "query")
    return await asyncio.wait_for(future, PATIENCE_S)


async def test_a_server_is_told_of_its_channels_before_it_claims_and_may_ask_again(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        other = new_account()
        await world.ledger.fund({other.address: 100_000_000})
        mine, theirs = Server("a", [world.payee.address]), Server("b", [other.address])
        stage = await world.stage([mine, theirs])
        async with reading(world, "a") as told, ContentServer("a", world.broker.port) as server:
            reply = await server.buy({"id": "r1", "drops": "1500"})
            channel_id = reply["claim"]["channel_id"]
            await told.until(lambda: told.accepted)
            shown_at, claimed_at = (f"{PREFIX}/a/{end}" for end in (f"channels/{channel_id}", "reply"))
            assert told.topics.index(shown_at) < told.topics.index(claimed_at)
            (shown,) = told.channels.values()
            assert (shown["state"], shown["public_key"]) == ("open", reply["claim"]["public_key"])
            assert int(shown["amount"]) >= int(reply["claim"]["amount"])
            await told.until(lambda: told.events)
            assert [(e["seq"], e["event"], e["channel_id"]) for e in told.events] == [(1, "channel_opened", channel_id)]

            replayed = await server.ask({"id": "r1", "drops": "1500"})
            queried = await ask(server, {"id": "q1", "request": "r1"})
            extra = {"id": "q1", "request": "r1", "channel_state": "open", "paid": "0", "next": "will_be_paid"}
            assert queried == replayed | extra
            assert (await ask(server, {"id": "q2", "request": "r2"}))["status"] == "unknown"
            listed = await ask(server, {"id": "q3", "channels": True})
            assert listed == {"id": "q3", "status": "ok", "channels": [shown], "more": False}
            assert (await ask(server, {"id": "q4"}))["code"] == "bad_request"
            await server.ask({"id": "x", "drops": "1", "payee": other.address})
            await stage.daemon.stop()  # folds what was accepted, and counts what was rejected before
            await stage.start()
            totals = await ask(server, {"id": "q5", "totals": {"from": 1, "to": 31_000_000}})
            assert totals["totals"]["entries"] == []
            now = int(time.time())
            totals = await ask(server, {"id": "q6", "totals": {"from": now - 60, "to": now + 60}})
            accepted = [e for e in totals["totals"]["entries"] if e["code"] == "accepted"]
            assert accepted == [{"payee": world.payee.address, "code": "accepted", "requests": 1, "drops": "1500"}]
            assert (await asyncio.to_thread(stage.get, "/api/asyncapi.yaml"))[1].startswith("asyncapi: 3.0.0")
        async with reading(world, "b") as seen:
            await asyncio.sleep(0)
            await seen.client.publish(f"{PREFIX}/b/x", "1", qos=1)
            await seen.until(lambda: seen.came)
            assert [topic for topic, _ in seen.came] == [f"{PREFIX}/b/x"], "nothing of another server"

        # a is not configured any more: what was retained for it goes, across a restart
        await stage.daemon.stop()
        stage.servers = [theirs]
        stage.write()
        await stage.start()
        async with reading(world, "a") as left:
            await left.client.publish(f"{PREFIX}/a/x", "1", qos=1)
            await left.until(lambda: any(topic.endswith("/x") for topic, _ in left.came))
            assert left.channels == {}
