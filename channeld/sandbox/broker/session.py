"""What the broker keeps for a client, connected or not: subscriptions, messages under way, messages that wait.

Sources: OASIS MQTT 5.0 sections 3.1.2.11.2 (expiry), 3.3.1.1 (DUP), 3.3.2.3.3 (Message Expiry Interval), 4.1 (session
state), 4.4 (redelivery), 4.9 (Receive Maximum).
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from dataclasses import dataclass, field
from typing import Final, Protocol

import mqtt5

MAX_ID: Final = 65_535
NEVER: Final = 0xFFFF_FFFF
"""A session expiry interval that means for ever."""
_QOS0, _QOS1 = mqtt5.QoS.AT_MOST_ONCE, mqtt5.QoS.AT_LEAST_ONCE


@dataclass(slots=True, eq=False)
class Message:
    """An application message inside the broker; `expires_at` is `loop.time()` or None."""

    topic: str
    payload: bytes
    qos: int = 0
    retain: bool = False
    origin: str = ""
    expires_at: float | None = None
    response_topic: str | None = None
    correlation_data: bytes | None = None
    content_type: str | None = None
    payload_format_indicator: int = 0
    user_properties: list[tuple[str, str]] = field(default_factory=list)

    def packet(self, now: float, *, qos: int, packet_id: int, retain: bool, ids: list[int], dup: bool) -> bytes:
        """The bytes of a PUBLISH of it, the rest of its life as its expiry."""
        life = None if self.expires_at is None else max(1, math.ceil(self.expires_at - now))
        return mqtt5.PublishPacket(
            self.topic,
            self.payload,
            qos=_QOS1 if qos else _QOS0,
            retain=retain,
            packet_id=packet_id or None,
            duplicate=dup,
            payload_format_indicator=self.payload_format_indicator,
            message_expiry_interval=life,
            content_type=self.content_type,
            response_topic=self.response_topic,
            correlation_data=self.correlation_data,
            subscription_ids=ids,
            user_properties=self.user_properties,
        ).write()


@dataclass(frozen=True, slots=True)
class Subscription:
    """One filter of one client, at QoS 0 or 1."""

    pattern: str
    qos: int
    no_local: bool = False
    retain_as_published: bool = False
    subscription_id: int | None = None


@dataclass(slots=True, eq=False)
class Delivery:
    """A message on its way to one client."""

    message: Message
    retain: bool
    ids: list[int]
    dup: bool = False


class Link(Protocol):
    """The connection a session uses while there is one."""

    writable: bool

    def write(self, frame: bytes) -> None: ...


class Session:
    """`limit`: QoS 1 messages that may wait for the client; beyond it the newest is dropped and counted."""

    def __init__(self, client_id: str, limit: int) -> None:
        self.client_id = client_id
        self.user: str | None = None
        self.subscriptions: dict[str, Subscription] = {}
        self.expiry_s = 0
        self.will: Message | None = None
        self.will_delay_s = 0
        self.will_expiry_s: int | None = None
        self.timers: list[asyncio.TimerHandle] = []
        self.dropped = 0
        self._limit = limit
        self._link: Link | None = None
        self._window, self._max_packet = MAX_ID, 0
        self._queue: deque[Delivery] = deque()
        self._unsettled: dict[int, Delivery] = {}
        self._last_id = 0

    @property
    def connected(self) -> bool:
        return self._link is not None

    @property
    def waiting(self) -> int:
        """Messages kept for the client, sent or not."""
        return len(self._queue) + len(self._unsettled)

    def attach(self, link: Link, window: int, max_packet: int) -> None:
        """A connection has come: what was sent and not settled goes first, marked as a duplicate."""
        self._link, self._window, self._max_packet = link, window, max_packet
        again = list(self._unsettled.values())
        for delivery in again:
            delivery.dup = True
        self._unsettled.clear()
        self._queue.extendleft(reversed(again))

    def detach(self) -> None:
        self._link = None

    def cancel_timers(self) -> None:
        for timer in self.timers:
            timer.cancel()
        self.timers.clear()

    def deliver(self, delivery: Delivery, qos: int, now: float) -> None:
        """Send now if the client can take it. At QoS 0 it is dropped otherwise, at QoS 1 it waits."""
        link = self._link
        if not qos:
            if link is not None and link.writable:
                self._send(link, delivery, 0, now)
            else:
                self.dropped += 1
        elif link is not None and link.writable and not self._queue and len(self._unsettled) < self._window:
            self._send(link, delivery, self._take_id(), now)
        elif len(self._queue) < self._limit:
            self._queue.append(delivery)
        else:
            self.dropped += 1

    def release(self, now: float) -> None:
        """Send what waits as far as the client's Receive Maximum and its socket allow."""
        link = self._link
        while link is not None and link.writable and self._queue and len(self._unsettled) < self._window:
            delivery = self._queue.popleft()
            expires_at = delivery.message.expires_at
            if expires_at is None or expires_at > now:
                self._send(link, delivery, self._take_id(), now)

    def settle(self, packet_id: int, now: float) -> None:
        """The client has acknowledged; an identifier it made up is ignored."""
        self._unsettled.pop(packet_id, None)
        if self._queue:
            self.release(now)

    def _send(self, link: Link, delivery: Delivery, packet_id: int, now: float) -> None:
        frame = delivery.message.packet(
            now,
            qos=1 if packet_id else 0,
            packet_id=packet_id,
            retain=delivery.retain,
            ids=delivery.ids,
            dup=delivery.dup,
        )
        if self._max_packet and len(frame) > self._max_packet:
            self.dropped += 1  # section 3.1.2.11.4: as if it had been sent
            return
        if packet_id:
            self._unsettled[packet_id] = delivery
        link.write(frame)

    def _take_id(self) -> int:
        """A packet identifier not under way; the window keeps one free."""
        packet_id = self._last_id % MAX_ID + 1
        while packet_id in self._unsettled:
            packet_id = packet_id % MAX_ID + 1
        self._last_id = packet_id
        return packet_id
