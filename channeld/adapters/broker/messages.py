"""The values of the broker adapter: how to reach the broker, what came from it, what it shall say if we vanish."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class BrokerSettings:
    """How to reach the broker and how much may be under way. Times in seconds, sizes in bytes, bounds inclusive."""

    host: str
    port: int
    client_id: str
    username: str | None = None
    password: bytes | None = field(default=None, repr=False)
    tls: ssl.SSLContext | None = field(default=None, repr=False)
    keep_alive_s: int = 30
    """0..65535; 0 sends no pings. The broker may set another."""
    session_expiry_s: int = 3600
    """How long the broker keeps subscriptions and messages while we are away."""
    receive_maximum: int = 2000
    """1..65535: messages the broker may have unacknowledged towards us, over each connection. Throughput is at most
    this by the time to an acknowledgement."""
    maximum_packet_size: int = 1_400_000
    """A broker drops silently what is larger; must exceed the 1 MiB that is to be answered, with a topic, a Response
    Topic and Correlation Data of 64 KiB each around it."""
    connect_timeout_s: float = 10
    """From the first packet of TCP to the answer to SUBSCRIBE."""
    backoff_min_s: float = 0.2
    backoff_max_s: float = 15
    send_limit: int = 10_000
    """1..50000: messages that may wait for the broker's window; beyond it `publish` refuses."""


@dataclass(frozen=True, slots=True)
class Will:
    """What the broker publishes at QoS 1 when the connection ends without a DISCONNECT of ours.

    `delay_s`: seconds that the broker waits for us to come back first.
    """

    topic: str
    payload: bytes
    retain: bool = True
    delay_s: int = 0


class Acknowledger(Protocol):
    """The connection that a message came over."""

    def acknowledge(self, message: Inbound) -> None: ...


@dataclass(slots=True, eq=False)
class Inbound:
    """A message that came. At QoS 1 the broker keeps it until `ack`, and sends it again after a reconnect."""

    topic: str
    payload: bytes
    retain: bool = False
    response_topic: str | None = None
    correlation_data: bytes | None = None
    expires_at: float | None = None
    """`loop.time()` after which an undecided message is to be dropped (and acknowledged); None: never."""
    bad_response_topic: bool = False
    """There was a Response Topic that nobody may publish to; `response_topic` is None."""
    packet_id: int = 0
    """0 when there is nothing to acknowledge: QoS 0, or done."""
    connection: Acknowledger | None = field(default=None, repr=False)
    """Where it is acknowledged, which means nothing to a later connection; None at QoS 0."""
    exactly_once: bool = False


def ack(message: Inbound) -> None:
    """PUBACK: the broker forgets the message. Nothing for QoS 0, a second time, or over a connection that is gone."""
    if message.connection is not None:
        message.connection.acknowledge(message)
