"""From an open socket to confirmed subscriptions: CONNECT and CONNACK, SUBSCRIBE and SUBACK, UNSUBSCRIBE and UNSUBACK.

Sources: OASIS MQTT 5.0 sections 3.1.2.4 (Clean Start), 3.1.2.11 (CONNECT properties), 3.2.2.2 (Connect Reason Code),
3.8.3.1 (subscription options), 3.10 (UNSUBSCRIBE).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

import mqtt5

from channeld.adapters.broker.connection import Connection
from channeld.adapters.broker.messages import BrokerSettings, Will
from channeld.adapters.broker.outbox import SUBSCRIBE_ID
from channeld.adapters.broker.subscriptions import Subscriptions
from channeld.core.errors import Unreachable

_T = TypeVar("_T")
_NAMED: Final = 3
"""Topics named in an error."""

_REMEDIES: Final = {
    "certificate has expired": "renew the broker's certificate",
    "certificate is not valid for": "the broker's certificate is for another name than mqtt.url says",
    "doesn't match": "the broker's certificate is for another name than mqtt.url says",
    "CERTIFICATE_VERIFY_FAILED": "mqtt.ca_file does not vouch for the broker's certificate",
    "ALERT_UNKNOWN_CA": "the broker does not trust who signed mqtt.cert_file",
    "CERTIFICATE_EXPIRED": "renew mqtt.cert_file",
    "CERTIFICATE_REQUIRED": "the broker asks for a certificate: set mqtt.cert_file and mqtt.key_file",
    "ALERT_HANDSHAKE_FAILURE": "the broker may ask for a certificate: set mqtt.cert_file and mqtt.key_file",
    "WRONG_VERSION_NUMBER": "no TLS is spoken on this port: mqtt:// or another port in mqtt.url",
}
"""What to do about a failure of TLS, by a word of OpenSSL's text; the first that fits."""


def remedy(reason: str) -> str:
    """The reason for a connection that failed, with what to do about it where that is known."""
    found = next((what for word, what in _REMEDIES.items() if word in reason), None) if "SSL" in reason else None
    return f"{reason} ({found})" if found else reason


async def enter(connection: Connection, settings: BrokerSettings, will: Will | None) -> mqtt5.ConnAckPacket:
    """Connect; returns the broker's terms. Raises `OSError` or `Unreachable`: come again later."""
    server_name = settings.host if settings.tls else None
    await asyncio.get_running_loop().create_connection(
        lambda: connection, settings.host, settings.port, ssl=settings.tls, server_hostname=server_name
    )
    connection.write(_connect_packet(settings, will).write())
    connack = await _answer(connection, connection.connack)
    _check(connack)
    connection.keep_alive(settings.keep_alive_s if connack.server_keep_alive is None else connack.server_keep_alive)
    return connack


def _connect_packet(settings: BrokerSettings, will: Will | None) -> mqtt5.ConnectPacket:
    return mqtt5.ConnectPacket(
        settings.client_id,
        username=settings.username,
        password=settings.password,
        clean_start=False,
        will=None if will is None else _will(will),
        keep_alive=settings.keep_alive_s,
        session_expiry_interval=settings.session_expiry_s,
        receive_max=settings.receive_maximum,
        max_packet_size=settings.maximum_packet_size,
    )


def _will(will: Will) -> mqtt5.Will:
    return mqtt5.Will(
        will.topic,
        payload=will.payload,
        qos=mqtt5.QoS.AT_LEAST_ONCE,
        retain=will.retain,
        will_delay_interval=will.delay_s,
    )


def _check(connack: mqtt5.ConnAckPacket) -> None:
    if connack.reason_code != mqtt5.ConnAckReasonCode.SUCCESS:
        words = connack.reason_code.name.lower().replace("_", " ")
        raise Unreachable(f"the broker refused the connection: {words} (0x{int(connack.reason_code):02X})")
    if connack.max_qos == mqtt5.QoS.AT_MOST_ONCE:
        raise Unreachable("the broker grants no QoS 1, which channeld cannot do without")


async def subscribe(
    connection: Connection, subscriptions: Subscriptions, handling: Callable[[str], mqtt5.RetainHandling]
) -> None:
    """Let the broker confirm all that is due. Raises `Unreachable` where it refuses one, and ends the connection then.

    `handling` says for each subscription whether the broker is to send what it holds.
    """
    while wanted := subscriptions.missing():
        await _subscribe(connection, wanted, handling)
        subscriptions.confirmed(wanted)
    while left := subscriptions.superfluous():
        await _answer(connection, connection.ask(mqtt5.UnsubscribePacket(SUBSCRIBE_ID, left)))
        subscriptions.taken_back(left)


async def _subscribe(
    connection: Connection, wanted: Mapping[str, int], handling: Callable[[str], mqtt5.RetainHandling]
) -> None:
    filters = [_filter(topic, qos, handling(topic)) for topic, qos in wanted.items()]
    codes = await _answer(connection, connection.ask(mqtt5.SubscribePacket(SUBSCRIBE_ID, filters)))
    refused = [topic for (topic, qos), code in zip(wanted.items(), codes, strict=False) if code != qos]
    if refused:
        connection.end(mqtt5.DisconnectReasonCode.NORMAL_DISCONNECTION, "subscription refused")
        some = ", ".join(refused[:_NAMED]) + (f" and {len(refused) - _NAMED} more" if len(refused) > _NAMED else "")
        raise Unreachable(f"the broker does not let us subscribe at the QoS that we need to {some}")


def _filter(topic: str, qos: int, handling: mqtt5.RetainHandling) -> mqtt5.TopicFilter:
    """With the retain flag as it was published: a retained request is to be seen as such."""
    return mqtt5.TopicFilter(
        topic,
        max_qos=mqtt5.QoS.AT_LEAST_ONCE if qos else mqtt5.QoS.AT_MOST_ONCE,
        retain_as_published=True,
        retain_handling=handling,
    )


async def _answer(connection: Connection, packet: asyncio.Future[_T]) -> _T:
    """The packet, or `Unreachable` with the reason if the connection ends first."""
    either: set[asyncio.Future[Any]] = {packet, connection.ended}
    await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
    if packet.done():
        return packet.result()
    raise Unreachable(connection.ended.result())
