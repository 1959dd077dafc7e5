"""Bad input made cheaply: valid payloads mutated, a corpus of what has hurt readers of JSON and MQTT, odd properties.

Everything comes from one seeded source, so a run can be repeated.
"""

from __future__ import annotations

import json
import random
import struct
from dataclasses import dataclass
from typing import Final

TOKENS: Final = tuple(
    token.encode("utf-8", "surrogatepass")
    for token in (
        "NaN", "Infinity", "-Infinity", "1e400", "-0", "0", "00", "1.0", "1e3", "true", "null", "{}", "[]", '""',
        '"0"', '"-1"', '"01"', '"1.5"', '"１２"', '"999999999999999999"', '"100000000000000001"', '"\\ud800"',
        '"\\udfff\\ud800"',
        '"\ud800"', '"\\u0000"', '"\x00"', '"\x1f"', '"\\u001f"', '"\u202e"', '"\U0010ffff"',
        "9" * 400, "-" + "9" * 400,
        '"' + "9" * 5000 + '"', "18446744073709551616", '{"channel_id":"00"}', '[["id"]]', '{"id":{"id":{}}}', "\ufeff",
    )
)  # fmt: skip
CORPUS: Final = (
    b"", b" ", b"\0", b"null", b"3", b'"x"', b"[]", b"{}", b"[[]]", b"[null]", b"[1,2,3]", b"[" * 10_000,
    b'{"a":' * 10_000, b"[" * 10_000 + b"]" * 10_000, b'{"id":' + b"[" * 10_000 + b"]" * 10_000 + b',"drops":"1"}',
    b'{"id":"deep","drops":"1","user":' + b'{"a":' * 10_000 + b"1" + b"}" * 10_000 + b"}",
    b"\xff\xfe", b"\xef\xbb\xbf{}", b'{"id":"\xff","drops":"1"}', b'{"id":"\xed\xa0\x80","drops":"1"}',
    b'{"id":"a","id":"b","drops":"1"}', b'{"id":"a","drops":"1","drops":"2"}',
    b'{"id":"a","\\u0064rops":"1","drops":"2"}',
    b'{"id":"a","drops":NaN}', b'{"id":"a","drops":1e400}', b'{"id":"a","drops":"1","not_after":1e400}',
    b'{"id":"\x01","drops":"1"}', b'{"id":"a\\n","drops":"1"}', b'{"id":"a","drops":"1"}{"id":"b","drops":"1"}',
    b'[{"id":"a","drops":"1"},]', b'{"id":"a","drops":"1"} x', b"[" + b'{"id":"z","drops":"1"},' * 1000 + b"0]",
    b"{" + b'"k":1,' * 3000 + b'"id":"a"}',
)  # fmt: skip
LARGE: Final = (
    b"x" * 65_537, b'{"id":"x","drops":"1","content":"' + b"y" * 70_000 + b'"}', b"[" + b"0," * 150_000 + b"0]",
    b'["' + b"y" * 300_000 + b'"]', b"z" * 1_048_576, b'{"id":"' + b"i" * 1_040_000 + b'"}',
)  # fmt: skip
BEYOND: Final = (b"z" * 1_048_577, b"[" * 1_060_000, b"0" * 10_000_000)
"""Not answered: above 1 MiB, and above what the daemon's own maximum packet size lets through."""


@dataclass(frozen=True, slots=True)
class Hostile:
    """A message to publish. `sure`: it is a request that must get one answer, on a topic of whoever sent it."""

    topic: bytes
    payload: bytes
    qos: int
    retain: bool
    properties: bytes
    sure: bool


class Mutator:
    """Hostile messages of one content server. `payee` is one that it may charge for."""

    def __init__(self, rng: random.Random, prefix: str, server: str, payee: str) -> None:
        self._rng, self._prefix, self._server = rng, prefix, server
        self._own = f"{prefix}/servers/{server}/"
        self._seeds = _seeds(payee)
        self._corpus = (*CORPUS, *self._seeds)

    def message(self) -> Hostile:
        """The next one."""
        rng = self._rng
        payload = self.payload()
        verb = rng.choices(("claim", "receive", "query"), (8, 1, 1))[0]
        topic, sure = f"{self._own}{verb}".encode(), True
        properties, answered = self._properties()
        qos = rng.choices((1, 2, 0), (12, 3, 1))[0]
        if rng.random() < 0.01:
            topic, sure = self._topic(), False
        elif len(payload) > 1_048_576 or not answered:
            sure = False
        elif qos == 0:
            sure, properties = False, text_property(0x08, f"{self._own}reply/unsure".encode())
        return Hostile(topic, payload, qos, rng.random() < 0.01, properties, sure)

    def payload(self) -> bytes:
        """Anything a server could put into a message."""
        rng = self._rng
        draw = rng.random()
        if draw < 0.0003:
            return rng.choice(LARGE)
        if draw < 0.00033:
            return rng.choice(BEYOND)
        if draw < 0.03:
            return rng.choice(CORPUS)
        payload = bytearray(rng.choice(self._seeds))
        for _ in range(rng.choice((1, 1, 2, 4))):
            rng.choice(_CHANGES)(rng, payload)
        return bytes(payload)

    def _topic(self) -> bytes:
        rng = self._rng
        name = rng.choice(("nobody", f"n{rng.randrange(10**9)}", "x" * 64, "x" * 65, "ü", "a b", "", "y" * 30_000))
        if rng.random() < 0.3:
            return f"{self._own}{rng.choice(('Claim', 'claim/', 'claim/x', '', 'event', 'repl'))}".encode()
        if rng.random() < 0.01:
            name = "z" * (65_535 - len(self._prefix) - len("/servers//claim"))
        return f"{self._prefix}/servers/{name}/claim".encode()

    def _properties(self) -> tuple[bytes, bool]:
        """Properties of a PUBLISH that a broker lets pass, and whether a message with them is surely answered."""
        rng = self._rng
        draw = rng.random()
        if draw < 0.5:
            return b"", True
        if draw < 0.7:
            return text_property(0x09, rng.randbytes(rng.choice((0, 1, 3, 8, 17, 255, 4096)))), True
        if draw < 0.85:
            return text_property(0x08, self._response_topic()), True
        if draw < 0.95:
            pair = struct.pack("!H", 3) + b"k\xc3\xbc" + struct.pack("!H", 5) + b"value"
            return (b"\x26" + pair) * rng.choice((1, 2, 40)), True
        if draw < 0.97:
            return text_property(0x09, rng.randbytes(65_535)), True
        below = text_property(0x08, f"{self._own}reply/unsure".encode())
        return below + struct.pack("!BI", 2, rng.choice((0, 1, 60, 2**32 - 1))), False

    def _response_topic(self) -> bytes:
        own, other = self._own.encode(), f"{self._prefix}/servers/somebody/".encode()
        levels = b"/".join([b"l"] * self._rng.choice((1, 100, 150)))
        choices = (
            own + b"reply", own + b"reply/x/y", own + b"replyx", own + b"event", own + b"reply/" + levels, own,
            other + b"reply", other + b"claim", b"$SYS/broker", b"x", b"/", own + b"reply/" + b"w" * 2000,
            f"{self._prefix}/daemons/channeld-1/status".encode(), f"{self._prefix}/daemons/channeld-1/witness".encode(),
        )  # fmt: skip
        return self._rng.choice(choices)

    def wild(self) -> bytes:
        """A PUBLISH that a broker may well hang up on: bytes changed anywhere, texts that are no texts, aliases."""
        rng = self._rng
        topic = f"{self._own}claim".encode()
        bad = rng.choice((b"\xff", b"\0", b"#", b"+", b"\xed\xa0\x80", b"\xc0\x80"))
        properties = rng.choice(
            (
                b"", text_property(0x08, b"reply/" + bad), text_property(0x08, f"{self._own}reply/".encode() + bad),
                struct.pack("!BH", 0x23, rng.choice((0, 1, 10, 11, 65_535))), b"\x01\x02", b"\x0b\x00", b"\x99",
                text_property(0x03, bad), b"\x26" + struct.pack("!H", 1) + bad[:1] + struct.pack("!H", 0),
            )
        )  # fmt: skip
        if rng.random() < 0.2:
            topic += bad
        frame = bytearray(publish(topic, self.payload()[:5000], 1, rng.randint(0, 9), False, properties))
        if rng.random() < 0.5:
            at = rng.randrange(min(len(frame), 200))
            frame[at] = rng.randrange(256)
        return bytes(frame)


def _seeds(payee: str) -> tuple[bytes, ...]:
    account = payee.partition(":")[0]
    held = {"channel_id": "AB" * 32, "amount": "5", "signature": "CD" * 64, "public_key": "ED" + "01" * 32}
    full = {"id": "full", "payee": payee, "drops": "1500", "user": "u-17", "content": "article/9", "tier": "gold"}
    claim = {"id": "r1", "claim": held}
    return tuple(
        json.dumps(value, separators=(",", ":")).encode()
        for value in (
            {"id": "m", "drops": "1"},
            {"id": "m2", "payee": payee, "drops": "1"},
            {**full, "region": "eu", "not_after": 4_000_000_000, "held": held},
            {"id": "tagged", "payee": f"{account}:77", "drops": "10"},
            [{"id": f"b{n}", "payee": payee, "drops": "1"} for n in range(5)],
            [full, {"id": "x"}, claim],
            claim,
            {"id": "q1", "request": "m"},
            {"id": "q3", "totals": {"from": 1760000000, "to": 1760086400}},
        )
    )


# -- changes ---------------------------------------------------------------------------------------------------------


def _flip(rng: random.Random, payload: bytearray) -> None:
    if payload:
        payload[rng.randrange(len(payload))] = rng.randrange(256)


def _cut(rng: random.Random, payload: bytearray) -> None:
    at = rng.randint(0, len(payload))
    del payload[at : at + rng.choice((1, 2, 10, 1000))]


def _repeat(rng: random.Random, payload: bytearray) -> None:
    at = rng.randint(0, len(payload))
    payload[at:at] = payload[at : at + rng.choice((1, 10, 60))] * rng.choice((1, 1, 5))


def _put_token(rng: random.Random, payload: bytearray) -> None:
    """A value becomes another one."""
    at = payload.find(b":", rng.randint(0, len(payload)))
    end = min((e for e in (payload.find(b",", at), payload.find(b"}", at)) if e > at), default=at)
    payload[at + 1 : end] = rng.choice(TOKENS)


def _put_name(rng: random.Random, payload: bytearray) -> None:
    """A name more, perhaps one that is there already."""
    at = payload.find(b"{") + 1
    name = rng.choice((b"id", b"drops", b"payee", b"user", b"\\u0069d", b"", b"__proto__", b"held", b"x" * 300))
    payload[at:at] = b'"' + name + b'":' + rng.choice(TOKENS) + b","


def _new_numbers(rng: random.Random, payload: bytearray) -> None:
    """Texts that no cache has seen."""
    at = payload.find(b'"', rng.randint(0, len(payload))) + 1
    payload[at:at] = b"%x" % rng.getrandbits(64)


def _new_tag(rng: random.Random, payload: bytearray) -> None:
    at = payload.find(b':77"')
    if at >= 0:
        payload[at + 1 : at + 3] = b"%d" % rng.getrandbits(32)
    else:
        _new_numbers(rng, payload)


_CHANGES: Final = (_flip, _cut, _repeat, _put_token, _put_name, _new_numbers, _new_tag)


# -- packets ---------------------------------------------------------------------------------------------------------


def text_property(kind: int, text: bytes) -> bytes:
    """A property that holds text or bytes."""
    return struct.pack("!BH", kind, len(text)) + text


def _length(value: int) -> bytes:
    said = bytearray()
    while True:
        value, low = value >> 7, value & 0x7F
        said.append(low | (0x80 if value else 0))
        if not value:
            return bytes(said)


def publish(topic: bytes, payload: bytes, qos: int, packet_id: int, retain: bool, properties: bytes = b"") -> bytes:
    """A PUBLISH with whatever is given, sound or not."""
    head = struct.pack("!H", len(topic)) + topic + (struct.pack("!H", packet_id) if qos else b"")
    rest = head + _length(len(properties)) + properties + payload
    return bytes((0x30 | qos << 1 | retain,)) + _length(len(rest)) + rest
