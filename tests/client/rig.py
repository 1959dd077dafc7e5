"""A real broker and a real ledger around the client, and between them a daemon that says what the test wants."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import sqlite3
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiomqtt
import contract
from client.scene import AMOUNT, Body, Scene
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from channeld.adapters.signer import KeyPair, account_id
from channeld.client import Client
from channeld.core.claim import channel_id_of
from channeld.core.units import ChannelId, to_ripple
from channeld.sandbox.broker import SandboxBroker
from channeld.sandbox.ledger import SandboxLedger
from channeld.sandbox.ledger_client import LedgerClient
from channeld.sandbox.stage import PATIENCE_S

SERVER = "news"
TOPICS = f"channeld/v1/servers/{SERVER}"
XRP = 1_000_000
Answers = Callable[[list[Body]], list[Any]]
"""What a daemon says to a message's requests: payloads, each sent as it is or as JSON."""


class FakeDaemon:
    """Answers with `answers`; by default correctly, from where the good channel is sold.

    Of what `shown` names it retains the states, whenever the broker takes it. What it is asked must be of the contract.
    """

    def __init__(self, scene: Scene, port: int) -> None:
        self.scene, self._port = scene, port
        self.sold = 0
        self.known: dict[str, Body] = {}
        self.asked: list[Body] = []
        self.messages: list[bytes] = []
        self.answers: Answers = self.honest
        self.shown: list[str] = []
        self._client: aiomqtt.Client | None = None

    def honest(self, requests: list[Body]) -> list[Any]:
        said = [self.accept(request) for request in requests]
        return [said[0]] if len(said) == 1 else [said]

    def accept(self, request: Body) -> Body:
        """A correct answer; the same again for an id that was accepted."""
        if (before := self.known.get(request["id"])) is not None:
            return before | {"replayed": True}
        drops = int(request["drops"])
        answer = self.known[request["id"]] = self.scene.answer(request["id"], self.sold, drops)
        self.sold += drops
        return answer

    async def run(self, ready: asyncio.Event) -> None:
        while True:
            with contextlib.suppress(aiomqtt.MqttError):
                await self._serve(ready)
            await asyncio.sleep(0.02)

    async def _serve(self, ready: asyncio.Event) -> None:
        options = [(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)]
        version = aiomqtt.ProtocolVersion.V5
        async with aiomqtt.Client(
            "127.0.0.1", self._port, identifier="daemon", protocol=version, socket_options=options
        ) as client:
            self._client = client
            await client.subscribe("channeld/v1/servers/+/claim", qos=1)
            for name in self.shown:
                await self.show(name)
            ready.set()
            async for message in client.messages:
                assert isinstance(message.payload, bytes)
                contract.check(message.topic.value, message.payload)
                self.messages.append(message.payload)
                said = json.loads(message.payload)
                requests = said if isinstance(said, list) else [said]
                self.asked += requests
                for payload in self.answers(requests):
                    await self.reply(payload, message.properties)

    async def reply(self, payload: Any, to: Any) -> None:
        """Send an answer to where the request said; `to` are its properties."""
        properties = Properties(PacketTypes.PUBLISH)
        properties.CorrelationData = to.CorrelationData
        await self.publish(to.ResponseTopic, payload, properties=properties)

    async def show(self, name: str, state: str = "open") -> None:
        """Retain the state of one of the scene's channels."""
        payload = json.dumps(retained(self.scene, name, state)).encode()
        topic = f"{TOPICS}/channels/{self.scene.channels[name].channel_id}"
        contract.check(topic, payload)
        await self.publish(topic, payload, retain=True)

    async def publish(self, topic: str, payload: Any, **more: Any) -> None:
        assert self._client is not None
        await self._client.publish(
            topic, payload if isinstance(payload, bytes) else json.dumps(payload).encode(), qos=1, **more
        )


class Rig:
    """Scene, broker, ledger and fake daemon; `client` makes a client of them."""

    def __init__(self, scene: Scene, broker: SandboxBroker, ledger: SandboxLedger, folder: Path) -> None:
        self.scene, self.broker, self.ledger, self.folder = scene, broker, ledger, folder
        self.daemon = FakeDaemon(scene, broker.port)

    @property
    def path(self) -> Path:
        return self.folder / "claims.db"

    def client(self, *, ledger: bool = True, pinned: bool = True, **more: Any) -> Client:
        terms: dict[str, Any] = {
            "server": SERVER,
            "public_key": self.scene.claim_key.public_key,
            "path": self.path,
            "ledger": self.ledger.url if ledger else None,
            "payer": self.scene.wallet.address if pinned else None,
            "timeout_s": PATIENCE_S,
            "ledger_patience_s": 0.0,
        }
        return Client(f"mqtt://127.0.0.1:{self.broker.port}", **{**terms, **more})

    async def claim(self, client: Client, drops: int = 1000, **more: Any) -> Any:
        return await client.claim(payee=str(self.scene.payee), drops=drops, **more)


@asynccontextmanager
async def rig(folder: Path, *, channels: bool = True) -> AsyncIterator[Rig]:
    """Everything runs; with `channels` the scene's are on the ledger, else the good one is at least retained."""
    scene, broker = Scene(), SandboxBroker()
    await broker.start()
    ready = asyncio.Event()
    async with SandboxLedger(amendments={"fixPayChanCancelAfter": False}) as ledger:
        made = Rig(scene, broker, ledger, folder)
        if channels:
            await open_channels(scene, ledger)
        else:
            scene.invent(to_ripple(time.time()))
            made.daemon.shown = ["good"]
        task = asyncio.create_task(made.daemon.run(ready))
        try:
            await asyncio.wait_for(ready.wait(), PATIENCE_S)
            yield made
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task  # what the fake daemon stumbled over fails the test
            await broker.stop()


async def open_channels(scene: Scene, ledger: SandboxLedger) -> None:
    """What `Scene.invent` makes up, really."""
    now = to_ripple(time.time())
    scene.invent(now)
    async with LedgerClient(ledger.url) as node:
        people = [scene.wallet, scene.stranger, scene.payee_key]
        await node.fund({key.address: 1000 * XRP for key in people})
        for name, wanted in list(scene.channels.items()):
            source = scene.wallet if wanted.source_account == scene.wallet.address else scene.stranger
            fields: dict[str, Any] = {
                "TransactionType": "PaymentChannelCreate",
                "Destination": wanted.destination_account,
                "Amount": str(AMOUNT),
                "SettleDelay": wanted.settle_delay,
                "PublicKey": wanted.public_key,
            }
            if wanted.destination_tag is not None:
                fields["DestinationTag"] = wanted.destination_tag
            if wanted.cancel_after is not None:
                fields["CancelAfter"] = wanted.cancel_after
            sequence = await sequence_of(node, source)
            await submit(node, ledger, fields, source)
            destination = account_id(wanted.destination_account)
            channel_id = ChannelId(channel_id_of(account_id(source.address), destination, sequence))
            scene.channels[name] = replace(wanted, channel_id=channel_id)
        close = {"TransactionType": "PaymentChannelClaim", "Channel": scene.channels["closing"].channel_id}
        await submit(node, ledger, close | {"Flags": 0x00020000}, scene.wallet)


async def sequence_of(node: LedgerClient, key: KeyPair) -> int:
    info = await node.result("account_info", account=key.address, ledger_index="current")
    sequence: int = info["account_data"]["Sequence"]
    return sequence


async def submit(node: LedgerClient, ledger: SandboxLedger, fields: dict[str, Any], key: KeyPair) -> None:
    answer = await node.submit(fields, key)
    assert answer["engine_result"] == "tesSUCCESS", answer
    ledger.close_ledger()


def retained(scene: Scene, name: str, state: str = "open") -> Body:
    """The retained state of a channel, as the contract has it."""
    on = scene.channels[name]
    return {
        "channel_id": on.channel_id,
        "state": state,
        "source_account": on.source_account,
        "destination_account": on.destination_account,
        "destination_tag": on.destination_tag,
        "public_key": on.public_key,
        "amount": str(on.amount),
        "balance": str(on.balance),
        "settle_delay": on.settle_delay,
        "expiration": on.expiration,
        "cancel_after": on.cancel_after,
        "ledger_index": on.ledger_index,
    }


def in_file(made: Rig, sql: str, *values: object) -> list[Any]:
    with contextlib.closing(sqlite3.connect(made.path)) as db:
        return db.execute(sql, values).fetchall()


def rejected(request: Body, code: str, retry_after_ms: int | None = None) -> Body:
    said = {"id": request["id"], "status": "rejected", "code": code, "reason": f"{code} it is"}
    return said if retry_after_ms is None else said | {"retry_after_ms": retry_after_ms}


def one_contents_per_id(made: Rig) -> None:
    """No id was sent with different contents; `held` is no part of them."""
    said: dict[str, Body] = {}
    for request in made.daemon.asked:
        contents = {name: value for name, value in request.items() if name != "held"}
        assert said.setdefault(request["id"], contents) == contents
