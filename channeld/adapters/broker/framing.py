"""MQTT 5 packets out of a byte stream, and a second reading of a PUBLISH that the engine refuses.

The engine reads one packet at a time and gives up with the stream when one is bad. Here the stream is cut first, by the
fixed header alone, so that a packet whose inside is bad costs that packet and not the connection, and `mqtt5.read`
never sees a byte of the next one. Pure: bytes in, values out.

Beware: the engine's enumerations are typed as `IntEnum` and are none. They know `==`, `int()` and `.name`, but no
order, no hash and no format, and every one is true, zero included.

Sources: OASIS MQTT 5.0 sections 1.5.5 (variable byte integer), 2.1 (fixed header), 3.3 (PUBLISH), 3.3.2.3 (properties).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import mqtt5

from channeld.core.errors import Malformed

MAX_PACKET: Final = 2 + 3 + 268_435_455
"""The largest packet MQTT can express, in bytes (section 2.1.4)."""

MAX_LEVELS: Final = 128
"""Levels of a Response Topic that is answered."""

BAD_LENGTH: Final = "a remaining length of more than four bytes"
TOO_LARGE: Final = "a packet above the maximum packet size"


class Framer:
    """Cuts a byte stream into packets. `limit` is the largest packet taken, in bytes, inclusive.

    After the first break of framing `fault` says what it was and nothing more is returned: the stream is lost.
    A partial packet is kept as the pieces that came, so that a large one costs one copy. Holds at most `limit` bytes
    and one read.
    """

    __slots__ = ("_have", "_limit", "_need", "_pieces", "fault")

    def __init__(self, limit: int = MAX_PACKET) -> None:
        self.fault: str | None = None
        self._limit = limit
        self._pieces: list[bytes] = []
        self._have = 0
        self._need = 2

    def feed(self, data: bytes) -> list[memoryview]:
        """Take what was read and return the packets that are complete now, in order, each as a view of its bytes."""
        if self._have:
            self._pieces.append(data)
            self._have += len(data)
            if self._have < self._need:
                return []
            data = b"".join(self._pieces)
        return [] if self.fault is not None else self._cut(data)

    def _cut(self, data: bytes) -> list[memoryview]:
        view = memoryview(data)
        frames: list[memoryview] = []
        at, end, limit = 0, len(data), self._limit
        need = 2
        while end - at >= 2:
            length, body = data[at + 1], at + 2
            if length & 0x80:
                length, body = _remaining_length(data, at + 1, end)
                if length < 0:
                    need = end - at + 1
                    break
            need = body - at + length
            if body < 0 or need > limit:
                self.fault = BAD_LENGTH if body < 0 else TOO_LARGE
                break
            if at + need > end:
                break
            frames.append(view[at : at + need])
            at += need
            need = 2
        self._keep(data, at, need)
        return frames

    def _keep(self, data: bytes, at: int, need: int) -> None:
        rest = data[at:] if self.fault is None else b""
        self._pieces = [rest] if rest else []
        self._have = len(rest)
        self._need = need


def _remaining_length(data: bytes, at: int, end: int) -> tuple[int, int]:
    """The length at `at` and where it ends: (-1, 0) if bytes are missing, (0, -1) if it has a fifth byte."""
    value = 0
    for shift in range(4):
        if at + shift >= end:
            return -1, 0
        byte = data[at + shift]
        value |= (byte & 0x7F) << (7 * shift)
        if byte < 0x80:
            return value, at + shift + 1
    return 0, -1


def read_packet(frame: memoryview) -> mqtt5.Packet:
    """One complete packet. Raises `Malformed` for anything the engine refuses: skip it, or end the connection.

    The engine panics on some input, and a panic is no `Exception`: everything but the ways to end the process counts.
    """
    try:
        packet, used = mqtt5.read(frame)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # a Rust panic derives from BaseException
        raise Malformed(f"unreadable packet: {type(error).__name__}") from None
    if used != len(frame):
        raise Malformed("a packet that ends before its length")
    return packet


def read_publish(frame: memoryview) -> mqtt5.PublishPacket:
    """`read_packet` for a packet whose first byte says PUBLISH."""
    packet = read_packet(frame)
    if not isinstance(packet, mqtt5.PublishPacket):
        raise Malformed("not a PUBLISH")
    return packet


@dataclass(slots=True)
class Salvaged:
    """A PUBLISH read by hand. `topic` is None where it cannot be read: acknowledge it by `packet_id` and skip it."""

    topic: str | None
    payload: bytes
    qos: int
    retain: bool
    packet_id: int
    response_topic: str | None = None
    bad_response_topic: bool = False
    correlation_data: bytes | None = None
    message_expiry_interval: int | None = None


def salvage_publish(frame: memoryview) -> Salvaged:
    """Read a PUBLISH which the engine refused, as far as it can be read.

    A text that is not UTF-8 costs only that text. Raises `Malformed` if not even the packet identifier can be had:
    then the sender is broken, end the connection.
    """
    data = bytes(frame)
    at = _body(data)
    qos = (data[0] >> 1) & 3
    raw_topic, at = _binary(data, at)
    packet_id = 0
    if qos:
        packet_id, at = _integer(data, at, 2)
    if qos == 3 or (qos and not packet_id):
        raise Malformed("a PUBLISH without a usable packet identifier")
    found = Salvaged(None, b"", qos, bool(data[0] & 1), packet_id)
    topic = _text(raw_topic)
    try:
        end = _properties(data, at, found)
    except Malformed:
        return found
    found.topic, found.payload = topic, data[end:]
    return found


def _properties(data: bytes, at: int, found: Salvaged) -> int:
    """Read the properties at `at` into `found` and return where the payload starts (section 3.3.2.3)."""
    length, at = _varint(data, at)
    end = at + length
    if end > len(data):
        raise Malformed("properties beyond the packet")
    while at < end:
        kind, at = data[at], at + 1
        if kind == 0x08:
            raw, at = _binary(data, at)
            found.response_topic = usable_topic(_text(raw))
            found.bad_response_topic = found.response_topic is None
        elif kind == 0x09:
            found.correlation_data, at = _binary(data, at)
        elif kind == 0x02:
            found.message_expiry_interval, at = _integer(data, at, 4)
        else:
            at = _skip(data, at, kind)
    if at != end:
        raise Malformed("properties of another length than they say")
    return end


def _skip(data: bytes, at: int, kind: int) -> int:
    if kind == 0x01:
        return _integer(data, at, 1)[1]
    if kind == 0x03:
        return _binary(data, at)[1]
    if kind == 0x0B:
        return _varint(data, at)[1]
    if kind == 0x23:
        return _integer(data, at, 2)[1]
    if kind == 0x26:
        return _binary(data, _binary(data, at)[1])[1]
    raise Malformed("a property that a PUBLISH does not have")


def _body(data: bytes) -> int:
    return _varint(data, 1)[1]


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value, end = _remaining_length(data, at, len(data))
    if value < 0 or end < 0:
        raise Malformed("a length is missing")
    return value, end


def _integer(data: bytes, at: int, size: int) -> tuple[int, int]:
    if at + size > len(data):
        raise Malformed("a number is cut off")
    return int.from_bytes(data[at : at + size], "big"), at + size


def _binary(data: bytes, at: int) -> tuple[bytes, int]:
    length, at = _integer(data, at, 2)
    if at + length > len(data):
        raise Malformed("a text is cut off")
    return data[at : at + length], at + length


def _text(raw: bytes) -> str | None:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return None


def usable_topic(topic: str | None) -> str | None:
    """The topic if one may publish to it, else None: 1 character or more, no wildcard, no NUL, at most 128 levels.

    The levels because a broker may hang up on whoever publishes to more (Mosquitto: above 200), and that would be us.
    Sources: OASIS MQTT 5.0 sections 3.3.2.3.5 (Response Topic), 4.7.1 and 4.7.3 (topic names).
    """
    if not topic or "+" in topic or "#" in topic or "\0" in topic or topic.count("/") >= MAX_LEVELS:
        return None
    return topic
