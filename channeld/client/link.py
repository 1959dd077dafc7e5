"""The client's connection to the broker: kept up, with everything that waits sent again after each reconnect.

MQTT 5 through aiomqtt. Every process listens below its own Response Topic, so that several may share a server's login.
A session is never resumed: what was lost is asked again by id, which is safe at any time. Requests that wait together
go out as one batch.

Sources: MQTT 5.0 sections 3.3.2.3.3 (message expiry), 3.3.2.3.5 (response topic), 4.10 (request and response).
"""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
import socket
import ssl
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from channeld.client.errors import BadArgument, ClientError, NotAuthorized, TlsFailed
from channeld.client.tls import trouble

if TYPE_CHECKING:
    import aiomqtt

log = logging.getLogger("channeld.client")

_BATCH_ITEMS: Final = 500
_BATCH_BYTES: Final = 200_000
"""Below the contract's 256 KiB, and the answers below its 1 MiB."""
_BACKOFF_S: Final = (0.1, 5.0)
_KEEPALIVE_S: Final = 15
_TIMEOUT_S: Final = 5.0
_EXPIRY_S: Final = 30
_UNANSWERED_KEPT: Final = 2000
_LAST_WORDS_S: Final = 0.05
_AT_ONCE: Final = (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
"""Without it a small packet waits up to 40 ms for the acknowledgement of the one before."""
_REFUSED_LOGIN: Final = frozenset({4, 5, 134, 135, 138})
"""Bad login and not authorized, in both versions of the protocol, and banned."""


@dataclass(frozen=True, slots=True)
class Broker:
    """Where the broker is and how to log in. `url` is `mqtt://host:port` or `mqtts://host:port`, without a login."""

    url: str
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: ssl.SSLContext | None = None

    def place(self) -> tuple[str, int, bool]:
        """Host, port and whether it speaks TLS. Raises `BadArgument`."""
        parts = urlsplit(self.url)
        try:
            port = parts.port
        except ValueError:
            raise BadArgument("url: not a port") from None
        if parts.scheme not in ("mqtt", "mqtts") or not parts.hostname or parts.path not in ("", "/"):
            raise BadArgument("url: mqtt://host:port or mqtts://host:port")
        if parts.username is not None or parts.password is not None:
            raise BadArgument("url: a login does not belong into it; use username and password")
        tls = parts.scheme == "mqtts"
        return parts.hostname, port or (8883 if tls else 1883), tls


class Link:
    """One connection, made again whenever it is lost. `run` is a task for the client's whole life.

    `request(id)` gives the text of a request, or None where nobody waits for it any more. `on_answer(ids, payload)`
    gets what came in reply to the requests `ids`, None where that cannot be told. `on_state(channel_id, payload)` gets
    retained channel states. `on_connected()` asks again for what waits.
    """

    def __init__(
        self,
        broker: Broker,
        topics: str,
        *,
        request: Callable[[str], str | None],
        on_answer: Callable[[tuple[str, ...] | None, bytes], None],
        on_state: Callable[[str, bytes], None],
        on_connected: Callable[[], None],
    ) -> None:
        self._broker, self._base = broker, topics
        self._request, self._on_answer, self._on_state = request, on_answer, on_state
        self._on_connected = on_connected
        self._reply = f"{topics}/reply/{secrets.token_hex(8)}"
        self._states = f"{topics}/channels/"
        self._outbox: OrderedDict[str, None] = OrderedDict()
        self._ready = asyncio.Event()
        self._sent: OrderedDict[bytes, tuple[str, ...]] = OrderedDict()
        self.connected = asyncio.Event()
        self.problem: Exception | None = None

    def send(self, request_id: str) -> None:
        """Send a request soon, with others that wait. Does nothing while there is no connection: all is sent then."""
        if self.connected.is_set():
            self._outbox[request_id] = None
            self._ready.set()

    async def run(self) -> None:
        """Until cancelled. Raises `NotAuthorized` or `TlsFailed` where that is why there is no first connection."""
        import aiomqtt

        pause, was_connected = _BACKOFF_S[0], False
        while True:
            try:
                await self._life()
            except (aiomqtt.MqttError, NotAuthorized, OSError) as error:
                self.problem = refused = _refused(error) or await self._tls_trouble() or error
                if isinstance(refused, ClientError) and not was_connected:
                    raise refused from None
            if self.connected.is_set():
                pause, was_connected = _BACKOFF_S[0], True
            self.connected.clear()
            self._outbox.clear()
            log.info("broker lost: %s", self.problem)
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 (no secret)
            pause = min(2 * pause, _BACKOFF_S[1])

    async def _tls_trouble(self) -> TlsFailed | None:
        """What TLS has to do with it that there is no connection."""
        host, port, tls = self._broker.place()
        return await trouble(host, port, self._context()) if tls and not self.connected.is_set() else None

    def _context(self) -> ssl.SSLContext:
        return self._broker.tls or ssl.create_default_context()

    async def _life(self) -> None:
        """One connection, to its end, which raises."""
        async with self._client() as client:
            # the reader runs from the start, for only it notices at once that the connection is lost
            tasks = [asyncio.create_task(self._read(client)), asyncio.create_task(self._write(client))]
            try:
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                await asyncio.wait(tasks, timeout=_LAST_WORDS_S)  # let the reader hear why, else aiomqtt complains
            finally:
                for task in tasks:
                    task.cancel()
                ended = await asyncio.gather(*tasks, return_exceptions=True)
            for error in ended:
                if isinstance(error, Exception):
                    raise error

    async def _listen(self, client: aiomqtt.Client) -> None:
        """Subscribe; from then on requests may be sent."""
        granted = await client.subscribe([(self._reply, 1), (f"{self._states}+", 1)])
        if getattr(granted[0], "value", granted[0]) >= 128:
            raise NotAuthorized(f"the broker does not let this login read {self._reply}")
        self.connected.set()
        self._on_connected()

    def _client(self) -> aiomqtt.Client:
        import aiomqtt

        host, port, tls = self._broker.place()
        return aiomqtt.Client(
            host,
            port,
            username=self._broker.username,
            password=self._broker.password,
            protocol=aiomqtt.ProtocolVersion.V5,
            logger=_quiet(),
            timeout=_TIMEOUT_S,
            keepalive=_KEEPALIVE_S,
            max_inflight_messages=1000,
            socket_options=[_AT_ONCE],
            tls_context=self._context() if tls else None,
        )

    async def _read(self, client: aiomqtt.Client) -> None:
        async for message in client.messages:
            topic, payload = message.topic.value, message.payload
            if not isinstance(payload, bytes):
                continue
            if topic.startswith(self._states):
                self._on_state(topic[len(self._states) :], payload)
                continue
            token = getattr(message.properties, "CorrelationData", None)
            self._on_answer(self._sent.pop(token, None) if isinstance(token, bytes) else None, payload)

    async def _write(self, client: aiomqtt.Client) -> None:
        await self._listen(client)
        while True:
            await self._ready.wait()
            self._ready.clear()
            while (batch := self._next_batch()) is not None:
                ids, payload = batch
                await client.publish(f"{self._base}/claim", payload, qos=1, properties=self._properties(ids))

    def _next_batch(self) -> tuple[tuple[str, ...], str] | None:
        """As many of the waiting requests as one message may hold; None where nobody waits any more."""
        ids: list[str] = []
        texts: list[str] = []
        size = 2
        while self._outbox and len(ids) < _BATCH_ITEMS:
            request_id = next(iter(self._outbox))
            text = self._request(request_id)
            if text is not None:
                size += len(text.encode()) + 1
                if ids and size > _BATCH_BYTES:
                    break
                ids.append(request_id)
                texts.append(text)
            del self._outbox[request_id]
        if not ids:
            return None
        return tuple(ids), texts[0] if len(texts) == 1 else f"[{','.join(texts)}]"

    def _properties(self, ids: tuple[str, ...]) -> Any:
        """Where the answer goes, what tells us that it is the one, and for how long the question makes sense."""
        from paho.mqtt.packettypes import PacketTypes
        from paho.mqtt.properties import Properties

        token = secrets.token_bytes(8)
        self._sent[token] = ids
        while len(self._sent) > _UNANSWERED_KEPT:
            self._sent.popitem(last=False)
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        properties.ResponseTopic = self._reply
        properties.CorrelationData = token
        properties.MessageExpiryInterval = _EXPIRY_S
        return properties


def _refused(error: Exception) -> NotAuthorized | None:
    """The login or the topics are refused, so that trying again is of no use."""
    if isinstance(error, NotAuthorized):
        return error
    code = getattr(error, "rc", None)
    if getattr(code, "value", code) in _REFUSED_LOGIN:
        return NotAuthorized(f"the broker refuses this login: {error}")
    return None


def _quiet() -> logging.Logger:
    """aiomqtt's own logger, for what is worse than a lost connection only."""
    logger = logging.getLogger("channeld.client.mqtt")
    logger.setLevel(logging.ERROR)
    return logger
