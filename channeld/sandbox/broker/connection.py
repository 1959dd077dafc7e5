"""One client's connection to the sandbox broker: packets in, what they ask for done at once, answers out.

Sources: OASIS MQTT 5.0 sections 3.1 (CONNECT), 3.2.2.3 (CONNACK properties), 3.3 (PUBLISH), 3.8 and 3.9 (SUBSCRIBE,
SUBACK), 3.12 (PINGREQ), 3.14 (DISCONNECT), 4.13 (errors); MQTT 3.1.1 section 3.2.2.3 for the answer to older clients.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import mqtt5
import structlog

from channeld.adapters.broker.framing import TOO_LARGE, read_packet
from channeld.adapters.broker.pipe import Pipe
from channeld.core.errors import Malformed
from channeld.sandbox.broker.session import MAX_ID, Message, Session, Subscription
from channeld.sandbox.broker.topics import valid_filter, valid_topic

if TYPE_CHECKING:
    from channeld.sandbox.broker.server import SandboxBroker

_log = structlog.get_logger()
Reason = mqtt5.DisconnectReasonCode
Refusal = mqtt5.ConnAckReasonCode
OLD_CLIENT: Final = b"\x20\x02\x00\x01"
"""A CONNACK as MQTT 3.1.1 reads it: unacceptable protocol level."""
_QUOTA: Final = mqtt5.SubAckReasonCode.QUOTA_EXCEEDED
_CONNECT: Final = 0x10
_PINGRESP: Final = b"\xd0\x00"
_SHARED: Final = "$share/"
_WRITES_KEPT: Final = 1000
_MOST_SUBSCRIPTIONS: Final = 10_000
"""Filters of one client; more are refused."""


class Client(Pipe):
    """A connection; it has a `session` once it was let in."""

    def __init__(self, broker: SandboxBroker) -> None:
        super().__init__(broker.limits.packet_size)
        self._broker = broker
        self._session: Session | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._writes: dict[str, bool] = {}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._broker.clients.add(self)
        self._timer = self._loop.call_later(self._broker.limits.connect_timeout_s, self.close)

    def data_received(self, data: bytes) -> None:
        if self._session is None and not self._heard and data[0] != _CONNECT:  # it would wait for more of its packet
            self._heard = True
            self.close()
        else:
            super().data_received(data)

    def lost(self, exc: Exception | None) -> None:
        self._broker.clients.discard(self)
        if self._timer is not None:
            self._timer.cancel()
        self._leave()

    def pause_writing(self) -> None:
        """Stop reading too: who does not take answers gets no more questions in, and memory does not grow."""
        super().pause_writing()
        if self._transport is not None:
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()
        if self._session is not None:
            self._session.release(self._loop.time())

    def _leave(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            self._broker.leave(self, session.client_id)

    def refuse(self, code: mqtt5.DisconnectReasonCode) -> None:
        """Say DISCONNECT with this code, if the client was let in, and close."""
        if self._session is not None:
            self.write(mqtt5.DisconnectPacket(reason_code=code).write())
        self.close()

    # -- packets -------------------------------------------------------------------------------------------------

    def packets(self, frames: list[memoryview], fault: str | None) -> None:
        try:
            for frame in frames:
                if self.closing:
                    return
                self._packet(frame)
        except Malformed as error:
            _log.debug("sandbox_broker_malformed", error=str(error))
            self.refuse(Reason.MALFORMED_PACKET)
        if fault is not None:
            self.refuse(Reason.PACKET_TOO_LARGE if fault is TOO_LARGE else Reason.MALFORMED_PACKET)

    def _packet(self, frame: memoryview) -> None:
        session = self._session
        if session is None:
            self._first(frame)
        elif frame[0] >> 4 == 4 and len(frame) >= 4:
            session.settle(frame[2] << 8 | frame[3], self._loop.time())
        else:
            self._dispatch(session, read_packet(frame))

    def _dispatch(self, session: Session, packet: mqtt5.Packet) -> None:
        match packet:
            case mqtt5.PublishPacket():
                self._publish(session, packet)
            case mqtt5.PingReqPacket():
                self.write(_PINGRESP)
            case mqtt5.SubscribePacket():
                self._subscribe(session, packet)
            case mqtt5.UnsubscribePacket():
                self._unsubscribe(session, packet)
            case mqtt5.DisconnectPacket():
                self._disconnect(session, packet)
            case _:
                self.refuse(Reason.PROTOCOL_ERROR)

    # -- CONNECT -------------------------------------------------------------------------------------------------

    def _first(self, frame: memoryview) -> None:
        level = _protocol_level(bytes(frame[:16]))
        if level < 5:
            self.write(OLD_CLIENT)
            self.close()
            return
        try:
            packet = read_packet(frame)
        except Malformed:
            self._turn_away(Refusal.MALFORMED_PACKET if level == 5 else Refusal.UNSUPPORTED_PROTOCOL_VERSION)
            return
        if isinstance(packet, mqtt5.ConnectPacket) and (refusal := self._unfit(packet)) is not None:
            self._turn_away(refusal)
        elif isinstance(packet, mqtt5.ConnectPacket):
            self._let_in(packet)

    def _unfit(self, packet: mqtt5.ConnectPacket) -> mqtt5.ConnAckReasonCode | None:
        """Why this client may not come in; None: it may."""
        broker, will = self._broker, packet.will
        refusals = (
            (len(broker.clients) > broker.limits.connections, Refusal.SERVER_BUSY),
            (packet.authentication_method is not None, Refusal.BAD_AUTHENTICATION_METHOD),
            ("\0" in packet.client_id, Refusal.CLIENT_ID_NOT_VALID),
            (will is not None and will.qos == mqtt5.QoS.EXACTLY_ONCE, Refusal.QUALITY_NOT_SUPPORTED),
            (will is not None and not valid_topic(will.topic), Refusal.TOPIC_NAME_INVALID),
            (not broker.access.admits(packet.username, packet.password), Refusal.BAD_USER_NAME_OR_PASSWORD),
        )
        return next((code for applies, code in refusals if applies), None)

    def _turn_away(self, code: mqtt5.ConnAckReasonCode) -> None:
        self.write(mqtt5.ConnAckPacket(reason_code=code).write())
        self.close()

    def _let_in(self, packet: mqtt5.ConnectPacket) -> None:
        client_id = packet.client_id or self._broker.new_client_id()
        session, present = self._broker.enter(self, client_id, packet.clean_start)
        session.user, session.expiry_s = packet.username, packet.session_expiry_interval
        session.will = None
        if packet.will is not None:
            session.will = _will(packet.will, client_id)
            session.will_delay_s = packet.will.will_delay_interval
            session.will_expiry_s = packet.will.message_expiry_interval
        self._session = session
        self.write(
            mqtt5.ConnAckPacket(
                session_present=present,
                assigned_client_id=None if packet.client_id else client_id,
                max_qos=mqtt5.QoS.AT_LEAST_ONCE,
                max_packet_size=self._broker.limits.packet_size,
                shared_subscription_available=False,
            ).write()
        )
        session.attach(self, min(packet.receive_max, MAX_ID - 1), packet.max_packet_size or 0)
        session.release(self._loop.time())
        self._watch(packet.keep_alive * 1.5)

    def _watch(self, seconds: float) -> None:
        """End the connection when one and a half keep-alive times passed in silence (section 3.1.2.10)."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(seconds, self._on_silence, seconds) if seconds else None
        self._heard = False

    def _on_silence(self, seconds: float) -> None:
        if self._heard:
            self._watch(seconds)
        else:
            self.refuse(Reason.KEEP_ALIVE_TIMEOUT)
            self.abort()

    # -- the others ----------------------------------------------------------------------------------------------

    def _publish(self, session: Session, packet: mqtt5.PublishPacket) -> None:
        if packet.qos == mqtt5.QoS.EXACTLY_ONCE:
            self.refuse(Reason.QOS_NOT_SUPPORTED)
        elif packet.topic_alias is not None:
            self.refuse(Reason.TOPIC_ALIAS_INVALID)
        elif not valid_topic(packet.topic) or (
            packet.response_topic is not None and not valid_topic(packet.response_topic)
        ):
            self.refuse(Reason.TOPIC_NAME_INVALID)
        else:
            code = self._take(session, packet)
            if packet.packet_id is not None:
                self.write(mqtt5.PubAckPacket(packet.packet_id, reason_code=code).write())

    def _take(self, session: Session, packet: mqtt5.PublishPacket) -> mqtt5.PubAckReasonCode:
        if not self._may_write(session, packet.topic):
            return mqtt5.PubAckReasonCode.NOT_AUTHORIZED
        message = _message(packet, session.client_id, self._loop.time())
        if self._broker.publish(message):
            return mqtt5.PubAckReasonCode.SUCCESS
        return mqtt5.PubAckReasonCode.NO_MATCHING_SUBSCRIBERS

    def _may_write(self, session: Session, topic: str) -> bool:
        """Whether the access list lets it; remembered. `$` topics are the broker's own."""
        known = self._writes.get(topic)
        if known is None:
            known = topic[0] != "$" and self._broker.access.allows("write", topic, session.user, session.client_id)
            if len(self._writes) >= _WRITES_KEPT:
                self._writes.clear()
            self._writes[topic] = known
        return known

    def _subscribe(self, session: Session, packet: mqtt5.SubscribePacket) -> None:
        """Answer first, then what is retained, so that a client knows its subscription when the messages come."""
        room = _MOST_SUBSCRIPTIONS - len(session.subscriptions)
        codes = [_grant(one) if at < room else _QUOTA for at, one in enumerate(packet.topic_filters)]
        self.write(mqtt5.SubAckPacket(packet.packet_id, codes).write())
        for one, code in zip(packet.topic_filters, codes, strict=True):
            if int(code) < 0x80:
                subscription = Subscription(
                    one.pattern, int(code), one.no_local, one.retain_as_published, packet.subscription_id
                )
                self._broker.subscribe(session, subscription, int(one.retain_handling))

    def _unsubscribe(self, session: Session, packet: mqtt5.UnsubscribePacket) -> None:
        existed, absent = mqtt5.UnsubAckReasonCode.SUCCESS, mqtt5.UnsubAckReasonCode.NO_SUBSCRIPTION_EXISTED
        codes = [existed if self._broker.unsubscribe(session, one) else absent for one in packet.patterns]
        self.write(mqtt5.UnsubAckPacket(packet.packet_id, codes).write())

    def _disconnect(self, session: Session, packet: mqtt5.DisconnectPacket) -> None:
        if packet.session_expiry_interval is not None and session.expiry_s:
            session.expiry_s = packet.session_expiry_interval
        if packet.reason_code == Reason.NORMAL_DISCONNECTION:
            session.will = None
        self._leave()
        self.close()


def _protocol_level(start: bytes) -> int:
    """The level in a CONNECT: 3 is MQTT 3.1, 4 is 3.1.1; 5 also where there is none, for the engine to refuse."""
    for name in (b"\x00\x04MQTT", b"\x00\x06MQIsdp"):
        at = start.find(name)
        if at >= 0 and at + len(name) < len(start):
            return start[at + len(name)]
    return 5


def _grant(wanted: mqtt5.TopicFilter) -> mqtt5.SubAckReasonCode:
    if wanted.pattern.startswith(_SHARED):
        return mqtt5.SubAckReasonCode.SHARED_SUBSCRIPTIONS_NOT_SUPPORTED
    if not valid_filter(wanted.pattern):
        return mqtt5.SubAckReasonCode.TOPIC_FILTER_INVALID
    if wanted.max_qos == mqtt5.QoS.AT_MOST_ONCE:
        return mqtt5.SubAckReasonCode.GRANTED_QOS_AT_MOST_ONCE
    return mqtt5.SubAckReasonCode.GRANTED_QOS_AT_LEAST_ONCE


def _message(packet: mqtt5.PublishPacket, origin: str, now: float) -> Message:
    expiry = packet.message_expiry_interval
    return Message(
        packet.topic,
        packet.payload,
        int(packet.qos),
        packet.retain,
        origin,
        None if expiry is None else now + expiry,
        packet.response_topic,
        packet.correlation_data,
        packet.content_type,
        packet.payload_format_indicator,
        packet.user_properties,
    )


def _will(will: mqtt5.Will, origin: str) -> Message:
    return Message(
        will.topic,
        will.payload or b"",
        int(will.qos),
        will.retain,
        origin,
        None,
        will.response_topic,
        will.correlation_data,
        will.content_type,
        will.payload_format_indicator,
        will.user_properties,
    )
