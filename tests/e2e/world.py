"""Everything real around one daemon: Mosquitto, a sandbox ledger as a process, and content servers that ask."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import aiomqtt
from servers import Mosquitto

from channeld.adapters.keystore import new_seed
from channeld.adapters.signer import KeyPair, KeyType, derive
from channeld.sandbox.ledger_client import LedgerClient
from channeld.sandbox.stage import PATIENCE_S, Process, Server, Stage, free_port

XRP = 1_000_000
_ASK_AGAIN_S = 0.2
NODELAY = [(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)]


def new_account(key_type: KeyType = "ed25519") -> KeyPair:
    return derive(new_seed(key_type).reveal(), key_type)


class World:
    """A broker, a ledger and a client of it; daemons come on top with `stage`. `ledger` are arguments of the ledger."""

    def __init__(
        self,
        directory: Path,
        *,
        close_interval_s: float = 0.5,
        mosquitto: dict[str, Any] | None = None,
        nodes: int = 1,
        ledger: Sequence[str] = (),
    ) -> None:
        self.directory = directory
        self.ledger_port = free_port()
        self.ledger_url = f"ws://127.0.0.1:{self.ledger_port}"
        others = [free_port() for _ in range(nodes - 1)]
        self.ledger_urls = [self.ledger_url, *(f"ws://127.0.0.1:{port}" for port in others)]
        arguments = ["--port", str(self.ledger_port), "--close-interval", str(close_interval_s), *ledger]
        arguments += [text for port in others for text in ("--also-port", str(port))]
        self.ledger_process = Process(directory, "ledger", "sandbox", "ledger", *arguments)
        (directory / "broker").mkdir()
        self.broker = Mosquitto(directory / "broker", **(mosquitto or {}))
        self.ledger = LedgerClient(self.ledger_url)
        self.payee = new_account()
        self.stages: list[Stage] = []
        self._stages_made = 0
        self._genesis = asyncio.Lock()

    async def __aenter__(self) -> World:
        self.ledger_process.start()
        await self.broker.start()
        await self.ledger_process.listening(self.ledger_port)
        await self.ledger.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for stage in self.stages:
            await stage.daemon.stop()
        await self.ledger.__aexit__(kind, error, trace)
        await self.broker.stop()
        await self.ledger_process.stop()

    async def stage(
        self,
        servers: list[Server],
        *,
        start: bool = True,
        treasury: int = 10_000 * XRP,
        ledgers: list[str] | None = None,
        **more: Any,
    ) -> Stage:
        """A daemon with a wallet that holds `treasury` drops; the payee's account exists as well."""
        directory = self.directory / f"daemon{self._stages_made}"
        stage = Stage(directory, ledgers or self.ledger_urls, self.broker.port, servers, **more)
        self._stages_made += 1
        self.stages.append(stage)
        async with self._genesis:  # who pays twice at a time takes a number twice
            await self.ledger.fund({stage.wallet.address: treasury, self.payee.address: 100 * XRP})
        if start:
            await stage.start()
        return stage

    async def fault(self, kind: str, **parameters: Any) -> None:
        await self.ledger.result("fault", kind=kind, **parameters)

    async def history(self, account: str) -> list[dict[str, Any]]:
        """Every validated transaction that touched an account."""
        found: list[dict[str, Any]] = []
        parameters: dict[str, Any] = {
            "account": account,
            "ledger_index_min": -1,
            "ledger_index_max": -1,
            "forward": True,
        }
        while True:
            page = await self.ledger.result("account_tx", **parameters)
            found += page["transactions"]
            if "marker" not in page:
                return found
            parameters["marker"] = page["marker"]


class ContentServer:
    """A content server: asks, matches replies by id, keeps the highest claim per channel and every slice it bought."""

    def __init__(self, name: str, port: int) -> None:
        self.name = name
        self.reply = f"channeld/v1/servers/{name}/reply"
        self._port = port
        self._client: aiomqtt.Client | None = None
        self._reader: asyncio.Task[None] | None = None
        self._waiting: dict[str | None, asyncio.Future[Any]] = {}
        self.accepted: dict[str, dict[str, Any]] = {}
        self.received: list[Any] = []

    async def __aenter__(self) -> ContentServer:
        self._client = aiomqtt.Client(
            "127.0.0.1",
            self._port,
            protocol=aiomqtt.ProtocolVersion.V5,
            max_inflight_messages=2000,
            max_queued_outgoing_messages=0,
            socket_options=NODELAY,
            timeout=PATIENCE_S,
        )
        await self._client.__aenter__()
        await self._client.subscribe(f"{self.reply}/#", qos=1)
        self._reader = asyncio.create_task(self._read(self._client))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._client is not None
        assert self._reader is not None
        self._reader.cancel()
        await asyncio.gather(self._reader, return_exceptions=True)
        await self._client.__aexit__(kind, error, trace)

    async def _read(self, client: aiomqtt.Client) -> None:
        async for message in client.messages:
            reply = json.loads(bytes(message.payload))  # type: ignore[arg-type]
            self.received.append(reply)
            for item in reply if isinstance(reply, list) else [reply]:
                self._keep(item)
            key = json.dumps([i["id"] for i in reply]) if isinstance(reply, list) else reply["id"]
            future = self._waiting.pop(key, None)
            if future is not None and not future.done():
                future.set_result(reply)

    def _keep(self, item: dict[str, Any]) -> None:
        if item["status"] == "accepted" and "claim" in item:
            before = self.accepted.setdefault(item["id"], item)
            assert before["claim"] == item["claim"], "an id that was accepted once gets the same claim for ever"
            assert before["covers"] == item["covers"]

    @property
    def client(self) -> aiomqtt.Client:
        assert self._client is not None
        return self._client

    async def publish(self, payload: str | bytes, verb: str = "claim", **more: Any) -> None:
        await self.client.publish(f"channeld/v1/servers/{self.name}/{verb}", payload, qos=1, **more)

    def expect(self, key: str | None) -> asyncio.Future[Any]:
        """The reply with this id, when it comes."""
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting[key] = future
        return future

    async def ask(self, request: Any, timeout_s: float = PATIENCE_S) -> Any:
        """Ask, and wait for the reply."""
        key = json.dumps([r.get("id") for r in request]) if isinstance(request, list) else request["id"]
        future = self.expect(key)
        await self.publish(json.dumps(request))
        return await asyncio.wait_for(future, timeout_s)

    async def send_raw(self, payload: bytes, key: str | None = None, timeout_s: float = PATIENCE_S, **more: Any) -> Any:
        """Publish anything, and wait for the reply with this id."""
        future = self.expect(key)
        await self.publish(payload, **more)
        return await asyncio.wait_for(future, timeout_s)

    async def buy(self, request: dict[str, Any], timeout_s: float = PATIENCE_S) -> dict[str, Any]:
        """Ask until accepted, sooner again than `retry_after_ms` tells: nobody here pays for asking."""
        async with asyncio.timeout(timeout_s):
            while True:
                reply: dict[str, Any] = await self.ask(request)
                if reply["status"] == "accepted":
                    return reply
                assert reply["code"] in ("no_headroom", "frozen"), reply
                await asyncio.sleep(min(_ASK_AGAIN_S, reply["retry_after_ms"] / 1000))

    def highest(self) -> dict[str, int]:
        """The highest amount claimed on every channel."""
        best: dict[str, int] = {}
        for reply in self.accepted.values():
            claim = reply["claim"]
            best[claim["channel_id"]] = max(best.get(claim["channel_id"], 0), int(claim["amount"]))
        return best


def accounts_for(servers: list[ContentServer]) -> None:
    """The highest claims sum to exactly the accepted drops, and the slices on every channel neither overlap nor gap."""
    slices: dict[str, list[tuple[int, int]]] = {}
    highest: dict[str, int] = {}
    for server in servers:
        for channel, amount in server.highest().items():
            highest[channel] = max(highest.get(channel, 0), amount)
        for reply in server.accepted.values():
            covers = (int(reply["covers"]["from"]), int(reply["covers"]["to"]))
            assert covers[1] - covers[0] == int(reply["drops"])
            assert int(reply["claim"]["amount"]) >= covers[1]
            slices.setdefault(reply["claim"]["channel_id"], []).append(covers)
    for channel, bought in slices.items():
        at = 0
        for start, end in sorted(bought):
            assert start == at, f"slices of {channel} overlap or leave a gap at {at}"
            at = end
        assert at == highest[channel]


@asynccontextmanager
async def content_server(world: World, name: str = "a") -> AsyncIterator[ContentServer]:
    async with ContentServer(name, world.broker.port) as server:
        yield server


async def retained(world: World, server: str) -> int:
    """How many channels the broker shows somebody who asks for what a server is told."""
    version = aiomqtt.ProtocolVersion.V5
    async with aiomqtt.Client("127.0.0.1", world.broker.port, protocol=version, socket_options=NODELAY) as client:
        await client.subscribe(f"channeld/v1/servers/{server}/channels/+", qos=1)
        await client.subscribe("marker", qos=1)
        await client.publish("marker", "x", qos=1)
        found = 0
        async for message in client.messages:
            if str(message.topic) == "marker":
                return found
            found += 1
    raise AssertionError("unreachable")
