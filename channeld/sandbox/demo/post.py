"""A content server's way to the daemon and back: requests out, and every answer to whoever waits for it.

Answers find their way by Correlation Data where it was sent, else by the ids they hold; both are in use, and so are the
default reply topic and a Response Topic below it.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import socket
from collections import deque
from collections.abc import Sequence
from typing import Any, Final

import aiomqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

_MOST_IN_FLIGHT: Final = 1000
"""Messages that wait for the broker's acknowledgement; MQTT 5 allows what the broker announced, at most 65 535."""
_QOS: Final = 1

_AT_ONCE: Final = (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
"""Without it a small packet waits up to 40 ms for the acknowledgement of the one before."""
_LOG: Final = logging.getLogger("channeld.demo.mqtt")
_LOG.setLevel(logging.ERROR)

Answers = list[dict[str, Any]]


class Post:
    """One connection of one content server. Used by one task that reads, and by any number that ask."""

    def __init__(self, prefix: str, server: str, port: int) -> None:
        self._base = f"{prefix}/servers/{server}"
        self.client = aiomqtt.Client(
            "127.0.0.1",
            port,
            identifier=server,
            protocol=aiomqtt.ProtocolVersion.V5,
            logger=_LOG,
            socket_options=[_AT_ONCE],
            max_inflight_messages=_MOST_IN_FLIGHT,
        )
        self._numbers = itertools.count()
        self._by_data: dict[bytes, asyncio.Future[tuple[float, Answers]]] = {}
        self._by_ids: dict[tuple[str, ...], deque[asyncio.Future[tuple[float, Answers]]]] = {}
        self.stray = 0

    async def subscribe(self) -> None:
        """Listen for answers; nothing may be asked before."""
        await self.client.subscribe(f"{self._base}/reply/#", qos=_QOS)

    async def read(self) -> None:
        """Hand out answers until cancelled. Raises `aiomqtt.MqttError` if the connection is lost."""
        loop = asyncio.get_running_loop()
        async for message in self.client.messages:
            self._hand_out(message, loop.time())

    def _hand_out(self, message: aiomqtt.Message, now: float) -> None:
        payload = json.loads(bytes(message.payload))
        answers: Answers = payload if isinstance(payload, list) else [payload]
        data = getattr(message.properties, "CorrelationData", None)
        waiting = self._by_data.pop(data, None) if data is not None else self._by_content(answers)
        if waiting is None or waiting.done():
            self.stray += 1
            return
        waiting.set_result((now, answers))

    def _by_content(self, answers: Answers) -> asyncio.Future[tuple[float, Answers]] | None:
        ids = tuple(str(answer.get("id")) for answer in answers)
        queue = self._by_ids.get(ids)
        if not queue:
            return None
        waiting = queue.popleft()
        if not queue:
            del self._by_ids[ids]
        return waiting

    async def ask(self, requests: Sequence[dict[str, Any]]) -> tuple[float, Answers]:
        """Send one request, or several as a batch, and wait for the answer: how long that took (s), and what it says.

        Waits for as long as it takes: who calls decides how long that may be.
        """
        loop = asyncio.get_running_loop()
        number = next(self._numbers)
        waiting = loop.create_future()
        properties = self._address(number, waiting, tuple(request["id"] for request in requests))
        started = loop.time()
        payload = json.dumps(requests[0] if len(requests) == 1 else list(requests))
        await self.client.publish(f"{self._base}/claim", payload, qos=_QOS, properties=properties)
        arrived, answers = await waiting
        return arrived - started, answers

    def _address(
        self, number: int, waiting: asyncio.Future[tuple[float, Answers]], ids: tuple[str, ...]
    ) -> Properties | None:
        """Where the answer is to go, in turn: a topic below ours with data, the default topic with and without."""
        way = number % 3
        if way == 2:
            self._by_ids.setdefault(ids, deque()).append(waiting)
            return None
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        data = number.to_bytes(8, "big")
        properties.CorrelationData = data
        self._by_data[data] = waiting
        if way == 0:
            properties.ResponseTopic = f"{self._base}/reply/{number % 7}"
        return properties
