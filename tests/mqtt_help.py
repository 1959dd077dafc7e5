"""What the MQTT tests share: a recorder behind a `Broker`, and a broker that says whatever a test tells it to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager
from typing import Any

import mqtt5

from channeld.adapters.broker import Broker, BrokerSettings, Inbound, Will
from channeld.adapters.broker.framing import Framer
from channeld.sandbox.stage import PATIENCE_S

WAIT_S = PATIENCE_S


class Recorder:
    """Keeps what a `Broker` reports; acknowledges at once if `ack`."""

    def __init__(self, *, ack: bool = True) -> None:
        self.messages: list[Inbound] = []
        self.batches: list[int] = []
        self.connects: list[bool] = []
        self.losses: list[str] = []
        self.ack = ack
        self.broker: Broker
        self._changed = asyncio.Event()

    def on_messages(self, messages: list[Inbound]) -> None:
        self.messages += messages
        self.batches.append(len(messages))
        if self.ack:
            for message in messages:
                self.broker.ack(message)
        self._changed.set()

    def on_connected(self, session_present: bool) -> None:
        self.connects.append(session_present)
        self._changed.set()

    def on_lost(self, reason: str) -> None:
        self.losses.append(reason)
        self._changed.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until something reported makes the condition true."""
        async with asyncio.timeout(WAIT_S):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    @property
    def payloads(self) -> list[bytes]:
        return [message.payload for message in self.messages]


def settings(port: int, client_id: str = "daemon", **more: Any) -> BrokerSettings:
    return BrokerSettings("127.0.0.1", port, client_id, **{"backoff_min_s": 0.02, "backoff_max_s": 0.1, **more})


@asynccontextmanager
async def running(
    given: BrokerSettings,
    *subscriptions: str,
    ack: bool = True,
    will: Will | None = None,
    wait: bool = True,
    retained_once: Collection[str] = (),
) -> AsyncIterator[tuple[Broker, Recorder]]:
    """A `Broker` that runs, connected unless `wait` is false."""
    recorder = Recorder(ack=ack)
    broker = recorder.broker = Broker(
        given,
        subscriptions=subscriptions,
        will=will,
        retained_once=retained_once,
        on_messages=recorder.on_messages,
        on_connected=recorder.on_connected,
        on_lost=recorder.on_lost,
    )
    task = asyncio.create_task(broker.run())
    try:
        if wait:
            await recorder.until(lambda: broker.connected)
        yield broker, recorder
    finally:
        await broker.stop(0.5)
        await asyncio.wait_for(task, WAIT_S)


def drop(broker: Broker) -> None:
    """Cut the connection as a network does."""
    connection = broker._connection
    assert connection is not None
    connection.abort()


class Peer:
    """One connection to a `scripted` broker: read packets as bytes, write anything."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self.writer = reader, writer
        self._framer = Framer()
        self._frames: list[bytes] = []

    async def frame(self) -> bytes:
        """The next packet's bytes; b"" at the end."""
        async with asyncio.timeout(WAIT_S):
            while not self._frames:
                data = await self._reader.read(65_536)
                if not data:
                    return b""
                self._frames += [bytes(one) for one in self._framer.feed(data)]
        return self._frames.pop(0)

    async def packet(self) -> Any:
        return mqtt5.read(memoryview(await self.frame()))[0]

    def send(self, *parts: bytes) -> None:
        self.writer.write(b"".join(parts))

    async def welcome(self, **terms: Any) -> mqtt5.ConnectPacket:
        """Take CONNECT and SUBSCRIBE as a broker with these CONNACK terms does."""
        connect: mqtt5.ConnectPacket = await self.packet()
        self.send(mqtt5.ConnAckPacket(**terms).write())
        subscribe = await self.packet()
        granted = [mqtt5.SubAckReasonCode.GRANTED_QOS_AT_LEAST_ONCE] * len(subscribe.topic_filters)
        self.send(mqtt5.SubAckPacket(subscribe.packet_id, granted).write())
        return connect


@asynccontextmanager
async def scripted(script: Callable[[Peer], Awaitable[None]]) -> AsyncIterator[int]:
    """A broker that runs `script` for every connection; yields its port. What a script raises fails the test."""
    failures: list[BaseException] = []
    tasks: list[asyncio.Task[None]] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.append(task)
        try:
            await script(Peer(reader, writer))
        except Exception as error:
            failures.append(error)
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in tasks:
            task.cancel()
    if failures:
        raise failures[0]
