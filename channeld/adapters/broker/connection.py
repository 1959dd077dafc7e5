"""One TCP connection to the broker, from CONNECT to its end: bytes to packets, packets to bytes, keep-alive.

It decides nothing about sessions or reconnecting; `Broker` does. Everything here runs in the event loop's callbacks and
never waits.

Sources: OASIS MQTT 5.0 sections 3.1.2.10 (keep-alive), 3.3 and 3.4 (PUBLISH, PUBACK), 3.14 (DISCONNECT), 4.13 (errors).
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final, Protocol

import mqtt5
import structlog

from channeld.adapters.broker.framing import TOO_LARGE, read_packet, read_publish, salvage_publish, usable_topic
from channeld.adapters.broker.messages import Inbound
from channeld.adapters.broker.pipe import Pipe
from channeld.core.errors import Malformed

Reason = mqtt5.DisconnectReasonCode
TAKEN_OVER: Final = (
    "session taken over: another client connected with the same client id (give every daemon a name of its own;"
    " a broker must not make client ids of logins, for the daemon has several connections under one)"
)
SILENT: Final = "the broker went silent: no answer to a ping within the keep-alive time"
_MOST_UNACKNOWLEDGED: Final = 65_535
SLICE: Final = 128
"""Packets taken in one turn of the loop: one read can bring thousands, and whoever asked last would wait for them."""
_log = structlog.get_logger()
_PINGREQ: Final = b"\xc0\x00"


class Owner(Protocol):
    """What a connection tells the one who made it."""

    def _took(self, messages: list[Inbound]) -> None: ...

    def _settled(self, packet_id: int, refused: bool) -> None: ...

    def _skipped(self, what: str) -> None: ...

    def _room(self) -> None: ...


class Connection(Pipe):
    """`receive_maximum` is what we allowed the broker; `limit` the largest packet taken, in bytes."""

    def __init__(self, owner: Owner, receive_maximum: int, limit: int) -> None:
        super().__init__(limit)
        self.connack: asyncio.Future[mqtt5.ConnAckPacket] = self._loop.create_future()
        self.ended: asyncio.Future[str] = self._loop.create_future()
        self.unacknowledged = 0
        self._owner = owner
        self._asked: asyncio.Future[list[int]] = self._loop.create_future()
        self._receive_maximum, self._exceeded = receive_maximum, False
        self._held: list[Inbound] | None = []
        self._frames: deque[memoryview] = deque()
        self._fault: str | None = None
        self._held_back = self._slicing = False
        self._reason: str | None = None
        self._pinged = False
        self._tick: asyncio.TimerHandle | None = None

    # -- the transport's side ------------------------------------------------------------------------------------

    def lost(self, exc: Exception | None) -> None:
        if self._tick is not None:
            self._tick.cancel()
        if not self.ended.done():
            self.ended.set_result(self._reason or (f"connection lost: {exc}" if exc else "the broker hung up"))

    def resume_writing(self) -> None:
        super().resume_writing()
        self._owner._room()

    def packets(self, frames: list[memoryview], fault: str | None) -> None:
        if len(frames) <= SLICE and not self._frames and not self._held_back:
            self._take(frames, fault)
            return
        self._frames.extend(frames)
        self._fault = fault
        self._pause()
        self._take_later()

    def _take_later(self) -> None:
        if not (self._slicing or self._held_back):
            self._slicing = True
            self._loop.call_soon(self._take_slice)

    def _take_slice(self) -> None:
        """Some of what one read brought; the rest after the loop has seen to everything else. Then read again."""
        self._slicing = False
        if self.ended.done():
            self._frames.clear()
            return
        if self._held_back:
            return
        frames = self._frames
        self._take([frames.popleft() for _ in range(min(SLICE, len(frames)))], None if frames else self._fault)
        if frames:
            self._take_later()
        elif not self._held_back:
            self._resume()

    def hold_back(self, held: bool) -> None:
        """Take nothing more, not even from the socket; or go on."""
        if held == self._held_back:
            return
        self._held_back = held
        if held:
            self._pause()
        else:
            self._take_later()

    def _pause(self) -> None:
        if self._transport is not None and not self.closing:
            self._transport.pause_reading()

    def _resume(self) -> None:
        if self._transport is not None and not self.closing:
            self._transport.resume_reading()

    def _take(self, frames: list[memoryview], fault: str | None) -> None:
        messages: list[Inbound] = []
        settled = False
        try:
            for frame in frames:
                kind = frame[0] >> 4
                if kind == 3:
                    self._publish(frame, messages)
                elif kind == 4 and len(frame) >= 4:
                    settled, refused = True, len(frame) > 4 and frame[4] >= 0x80
                    self._owner._settled(frame[2] << 8 | frame[3], refused)
                else:
                    self._control(read_packet(frame))
        except Malformed as error:
            self.end(Reason.MALFORMED_PACKET, f"the broker sent a malformed packet: {error}")
        if messages:
            self._deliver(messages)
        if settled:
            self._owner._room()
        if fault is not None:
            code = Reason.PACKET_TOO_LARGE if fault is TOO_LARGE else Reason.MALFORMED_PACKET
            self.end(code, f"the broker sent {fault}")

    # -- packets in ----------------------------------------------------------------------------------------------

    def _publish(self, frame: memoryview, messages: list[Inbound]) -> None:
        try:
            packet = read_publish(frame)
        except Malformed as error:
            self._salvage(frame, messages, error)
            return
        response_topic = packet.response_topic
        usable = response_topic is None or usable_topic(response_topic) is not None
        expiry = packet.message_expiry_interval
        packet_id = packet.packet_id
        message = Inbound(
            packet.topic,
            packet.payload,
            packet.retain,
            response_topic if usable else None,
            packet.correlation_data,
            None if expiry is None else self._loop.time() + expiry,
            not usable,
        )
        if packet_id is not None:
            self._owe(message, packet_id, packet.qos == mqtt5.QoS.EXACTLY_ONCE)
        messages.append(message)

    def _owe(self, message: Inbound, packet_id: int, exactly_once: bool) -> None:
        """Note what an acknowledgement will need.

        More than our Receive Maximum is taken all the same, as far as packet identifiers go: Mosquitto does not keep to
        it once some messages are acknowledged and others not, and after a hang-up it would send the same again, for
        ever. Whoever takes the messages bounds them. Sources: MQTT 5.0 sections 2.2.1, 3.3.4 and 4.13.1.
        """
        if packet_id == 0:
            raise Malformed("packet identifier 0")
        message.packet_id, message.connection, message.exactly_once = packet_id, self, exactly_once
        self.unacknowledged += 1
        if self.unacknowledged > self._receive_maximum and not self._exceeded:
            self._exceeded = True
            _log.warning("mqtt_receive_maximum_exceeded", receive_maximum=self._receive_maximum)
        if self.unacknowledged > _MOST_UNACKNOWLEDGED:
            self.end(Reason.RECEIVE_MAX_EXCEEDED, "the broker sent more than there are packet identifiers")

    def _salvage(self, frame: memoryview, messages: list[Inbound], error: Malformed) -> None:
        """Deliver a PUBLISH that the engine refused, or acknowledge it and skip it.

        Left unacknowledged it would come again after every reconnect, and end every connection.
        """
        found = salvage_publish(frame)
        message = Inbound(found.topic or "", found.payload, found.retain, found.response_topic, found.correlation_data)
        message.bad_response_topic = found.bad_response_topic
        if found.message_expiry_interval is not None:
            message.expires_at = self._loop.time() + found.message_expiry_interval
        if found.qos:
            self._owe(message, found.packet_id, found.qos == 2)
        if found.topic is not None:
            messages.append(message)
            return
        self._owner._skipped(str(error))
        if message.packet_id:
            self.acknowledge(message)

    def _control(self, packet: mqtt5.Packet) -> None:
        if isinstance(packet, mqtt5.PingRespPacket):
            self._pinged = False
        elif isinstance(packet, mqtt5.ConnAckPacket):
            if not self.connack.done():
                self.connack.set_result(packet)
        elif isinstance(packet, mqtt5.SubAckPacket | mqtt5.UnsubAckPacket):
            if not self._asked.done():
                self._asked.set_result([int(code) for code in packet.reason_codes])
        elif isinstance(packet, mqtt5.DisconnectPacket):
            self._disconnected(packet)
        elif isinstance(packet, mqtt5.PubRelPacket):
            self.write(mqtt5.PubCompPacket(packet.packet_id).write())
        else:
            raise Malformed(f"{type(packet).__name__} does not belong here")

    def _disconnected(self, packet: mqtt5.DisconnectPacket) -> None:
        if packet.reason_code == Reason.SESSION_TAKEN_OVER:
            self._reason = TAKEN_OVER
        else:
            words = packet.reason_code.name.lower().replace("_", " ")
            self._reason = f"the broker disconnected us: {words} (0x{int(packet.reason_code):02X})"
        self.close()

    def _deliver(self, messages: list[Inbound]) -> None:
        if self._held is None:
            self._owner._took(messages)
        else:
            self._held.extend(messages)

    def open_gate(self) -> None:
        """Deliver from now on, first what came before. Nothing happens if that was said already."""
        held, self._held = self._held, None
        if held:
            self._owner._took(held)

    # -- packets out ---------------------------------------------------------------------------------------------

    def ask(self, packet: mqtt5.SubscribePacket | mqtt5.UnsubscribePacket) -> asyncio.Future[list[int]]:
        """Send it; the broker's reason codes will be there. One at a time."""
        self._asked = self._loop.create_future()
        self.write(packet.write())
        return self._asked

    def acknowledge(self, message: Inbound) -> None:
        """PUBACK (PUBREC at QoS 2). Nothing happens if it was acknowledged before, or the connection is over."""
        packet_id, message.packet_id = message.packet_id, 0
        if packet_id and not self.ended.done():
            self.unacknowledged -= 1
            self.write(bytes((0x50 if message.exactly_once else 0x40, 2, packet_id >> 8, packet_id & 0xFF)))

    def end(self, code: mqtt5.DisconnectReasonCode, reason: str) -> None:
        """Say DISCONNECT with this code and close; the first reason stands. With code 0 the broker drops our will."""
        if self._reason is None:
            self._reason = reason
            self.write(mqtt5.DisconnectPacket(reason_code=code).write())
            self.close()

    # -- keep-alive ----------------------------------------------------------------------------------------------

    def keep_alive(self, seconds: int) -> None:
        """Ping when half the time passed without both hearing and speaking; give up when that brings nothing."""
        if seconds > 0:
            self._tick = self._loop.call_later(seconds / 2, self._on_tick, seconds)

    def _on_tick(self, seconds: int) -> None:
        if self._held_back:
            self._pinged = False  # whatever the broker says is not read
        if self._pinged and not self._heard:
            self._reason = SILENT
            self.abort()
            return
        self._pinged = not (self._heard and self._spoke)
        self._heard = self._spoke = False
        if self._pinged:
            self.write(_PINGREQ)
        self.keep_alive(seconds)
