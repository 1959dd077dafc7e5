"""Hostile payloads by the hundred thousand, and valid requests between them: nobody crashes, everything is answered.

`Orderly` attackers send what a broker lets pass, count, and expect one answer to each request; `Wild` ones send what it
hangs up on and come back; a `Customer` asks for claims all the while, and each must be accepted.
"""

from __future__ import annotations

import asyncio
import json
import random
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Final

from hostile import Mutator, publish, text_property
from waiting import until

from channeld.adapters.broker.framing import Framer
from channeld.sandbox.stage import Server, Stage
from e2e.world import XRP, ContentServer, World

PREFIX: Final = "channeld/v1"
ORDERLY: Final = 12
WINDOW: Final = 64
"""Requests that an attacker has unanswered at any time."""
CUSTOMERS: Final = 2
VALID_SHARE: Final = 20
"""One valid request comes with so many hostile ones."""
HALF_PACKET_S: Final = 0.3
GROWN_MIB: Final = 12
"""By how much the median resident memory of the last third may be above that of the first: what was accepted of a
million messages comes to some 8 MiB in SQLite's cache, which goes up to 64."""
ROOMY: Final = """\
[policy]
schema = 1
[guards]
treasury_floor = "10 XRP"
ledger_lag     = "60s"
[pools.standard]
wallet       = "hot"
settle_delay = "24h"
channel = { min = "50000 XRP", max = "100000 XRP" }
runway  = { low = "1s", target = "2s" }
fund    = { low = "1 XRP", target = "2 XRP" }
settle  = { worth = "50000 XRP", max_age = "24h" }
close   = { idle = "30d" }
"""
CAPS: Final = 'max_drops_per_day = "1000000000 XRP"\nmax_locked = "1000000000 XRP"\nmax_open_channels = 1000'


class Link(asyncio.Protocol):
    """One MQTT 5 connection: `on_reply(topic, payload)` for every message. It acknowledges nothing, ever."""

    def __init__(self, name: str, on_reply: Callable[[bytes, bytes], None], qos: int) -> None:
        self.name, self._on_reply, self._qos = name, on_reply, qos
        self.ready = asyncio.get_running_loop().create_future()
        self.over = asyncio.get_running_loop().create_future()
        self.ponged = asyncio.Event()
        self._framer, self._next_id = Framer(), 0
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        client = text_property(0, self.name.encode())[1:]
        connect = b"\0\x04MQTT\x05\x02\0\0\0" + client
        topic = f"{PREFIX}/servers/{self.name}/reply/#".encode()
        subscribe = b"\xff\xff\0" + struct.pack("!H", len(topic)) + topic + bytes((self._qos,))
        self.write(bytes((0x10, len(connect))) + connect + bytes((0x82, len(subscribe))) + subscribe)

    def connection_lost(self, exc: Exception | None) -> None:
        for future in (self.ready, self.over):
            if not future.done():
                future.set_result(False)
        self.ponged.set()

    def data_received(self, data: bytes) -> None:
        for frame in self._framer.feed(data):
            kind = frame[0] >> 4
            if kind == 3:
                self._reply(frame)
            elif kind == 5:
                self.write(b"\x62\x02" + frame[2:4])
            elif kind == 9:
                self.ready.set_result(True)
            elif kind == 13:
                self.ponged.set()

    def _reply(self, frame: memoryview) -> None:
        at = 1
        while frame[at] & 0x80:
            at += 1
        end = at + 3 + (frame[at + 1] << 8 | frame[at + 2])
        length, shift, after = 0, 0, end + (2 if frame[0] & 6 else 0)
        while True:
            length |= (frame[after] & 0x7F) << shift
            shift, after = shift + 7, after + 1
            if frame[after - 1] < 0x80:
                break
        self._on_reply(bytes(frame[at + 3 : end]), bytes(frame[after + length :]))

    def write(self, data: bytes) -> None:
        assert self._transport is not None
        self._transport.write(data)

    def publish(self, topic: bytes, payload: bytes, qos: int, *, retain: bool = False, properties: bytes = b"") -> None:
        self._next_id = self._next_id % 60_000 + 1
        self.write(publish(topic, payload, qos, self._next_id, retain, properties))

    async def ping(self) -> None:
        """Return once the broker has read everything, or hung up."""
        self.ponged.clear()
        self.write(b"\xc0\0")
        await self.ponged.wait()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()


async def link(port: int, name: str, on_reply: Callable[[bytes, bytes], None], qos: int = 0) -> Link:
    """A connection that is subscribed to the replies of server `name` at this QoS."""
    _, made = await asyncio.get_running_loop().create_connection(lambda: Link(name, on_reply, qos), "127.0.0.1", port)
    assert await made.ready, f"{name} cannot subscribe"
    return made


@dataclass(slots=True)
class Goal:
    """How many messages are still to be sent, by all together."""

    wanted: int
    sent: int = 0

    @property
    def reached(self) -> bool:
        return self.sent >= self.wanted


class Orderly:
    """`due` counts requests that must be answered, `answers` what came."""

    def __init__(self, name: str, goal: Goal, mutator: Mutator) -> None:
        self.name, self.due, self.answers = name, 0, 0
        self._goal, self._mutator = goal, mutator
        self._link: Link | None = None
        self._unsure = f"{PREFIX}/servers/{name}/reply/unsure".encode()
        self.faults: list[str] = []

    async def start(self, port: int) -> None:
        self._link = await link(port, self.name, self._took)
        alias = struct.pack("!BH", 0x23, 1)
        self._link.publish(f"{PREFIX}/servers/{self.name}/claim".encode(), b"named 1", 1, properties=alias)
        self.due += 1

    def _took(self, topic: bytes, payload: bytes) -> None:
        if b'"code":"internal"' in payload or payload[:1] not in b"[{":
            self.faults.append(f"{self.name}: {payload[:300]!r}")
        self.answers += topic != self._unsure
        self.send()

    def send(self) -> None:
        """As much as the window allows."""
        goal, out = self._goal, self._link
        assert out is not None
        while self.due - self.answers < WINDOW and not goal.reached:
            if out.over.done():
                self.faults.append(f"{self.name}: the broker hung up")
                goal.sent = goal.wanted
                return
            one = self._mutator.message()
            topic, properties = one.topic, one.properties
            if one.sure and topic.endswith(b"/claim") and goal.sent % 10 == 0:
                topic, properties = b"", struct.pack("!BH", 0x23, 1) + properties
            out.publish(topic, one.payload, one.qos, retain=one.retain, properties=properties)
            goal.sent += 1
            self.due += one.sure

    def close(self) -> None:
        assert self._link is not None
        self._link.close()


async def be_wild(port: int, goal: Goal, mutator: Mutator) -> int:
    """Send what the broker hangs up on until the goal is reached; how often it did."""
    hung_up = 0
    while not goal.reached:
        out = await link(port, "wild", lambda topic, payload: None)
        while not goal.reached and not out.over.done():
            for _ in range(5):
                out.write(mutator.wild())
            goal.sent += 5
            try:
                await asyncio.wait_for(out.ping(), HALF_PACKET_S)
            except TimeoutError:  # the broker takes the ping for the rest of a packet whose length was changed
                break
            await asyncio.sleep(0.002)
        hung_up += out.over.done()
        out.close()
    return hung_up


class Customer:
    """Asks for claims, one after the other as the attack goes on; every one must be accepted."""

    def __init__(self, name: str, payee: str) -> None:
        self.name, self.asked, self.accepted, self.slowest_s = name, 0, 0, 0.0
        self._payee, self._sent = payee, dict[str, float]()
        self._link: Link | None = None
        self.faults: list[str] = []

    async def start(self, port: int) -> None:
        self._link = await link(port, self.name, self._took)

    def _took(self, topic: bytes, payload: bytes) -> None:
        reply = json.loads(payload)
        if reply["status"] != "accepted":
            self.faults.append(str(reply))
        waited = asyncio.get_running_loop().time() - self._sent.pop(reply["id"])
        self.slowest_s = max(self.slowest_s, waited)
        self.accepted += 1

    async def run(self, goal: Goal) -> None:
        """Keep pace with the attack."""
        assert self._link is not None
        topic = f"{PREFIX}/servers/{self.name}/claim".encode()
        while not goal.reached:
            while self.asked * VALID_SHARE * CUSTOMERS < goal.sent and len(self._sent) < 100:
                self.asked += 1
                request = {"id": f"v{self.asked}", "payee": self._payee, "drops": "1"}
                self._sent[f"v{self.asked}"] = asyncio.get_running_loop().time()
                self._link.publish(topic, json.dumps(request).encode(), 1 + self.asked % 2)
            await asyncio.sleep(0.005)

    def close(self) -> None:
        assert self._link is not None
        self._link.close()


def resident_kib(pid: int) -> int:
    """Resident memory of a process."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0])


async def watch_memory(pid: int, goal: Goal, every_s: float = 0.5) -> list[tuple[int, int]]:
    """Samples of (messages sent, KiB) until the goal is reached."""
    samples = []
    while not goal.reached:
        samples.append((goal.sent, resident_kib(pid)))
        await asyncio.sleep(every_s)
    return samples


def thirds(samples: list[tuple[int, int]], wanted: int) -> tuple[float, float]:
    """Median memory of the first and of the last third, in KiB. The first begins when a tenth is sent."""
    first = [kib for sent, kib in samples if wanted / 10 <= sent < wanted * 0.4]
    last = [kib for sent, kib in samples if sent >= wanted * 2 / 3]
    return median(first), median(last)


async def open_channel(port: int, name: str, payee: str) -> None:
    """Ask until there is one."""
    async with ContentServer(name, port) as server:
        await server.buy({"id": "first", "payee": payee, "drops": "1"})


async def attack(directory: Path, messages: int, seed: int) -> dict[str, Any]:
    """Send so many hostile messages. Returns what was counted; raises `AssertionError` if a promise was broken."""
    rng = random.Random(seed)
    async with World(directory) as world:
        names = [*(f"h{n}" for n in range(ORDERLY)), *(f"v{n}" for n in range(CUSTOMERS))]
        payees = [f"{world.payee.address}:{n}" for n in range(len(names))]
        servers = [
            Server(name, [payee, f"{world.payee.address}:77"], caps=CAPS)
            for name, payee in zip(names, payees, strict=True)
        ]
        stage = await world.stage(servers, policy=ROOMY, treasury=2_000_000 * XRP)
        customers = [Customer(name, payees[ORDERLY + n]) for n, name in enumerate(names[ORDERLY:])]
        await asyncio.gather(
            *(open_channel(world.broker.port, name, payee) for name, payee in zip(names, payees, strict=True))
        )
        goal = Goal(messages)
        attackers = [
            Orderly(names[n], goal, Mutator(random.Random(rng.random()), PREFIX, names[n], payees[n]))
            for n in range(ORDERLY)
        ]
        counted = await _play(world, stage, goal, attackers, customers, Mutator(rng, PREFIX, "wild", payees[0]))
        log = stage.daemon.log.read_text()
        assert "Traceback" not in log, log[-3000:]
        assert "_failed" not in log, log[-3000:]
        return counted


async def _play(
    world: World, stage: Stage, goal: Goal, attackers: list[Orderly], customers: list[Customer], wild: Mutator
) -> dict[str, Any]:
    port, pid = world.broker.port, stage.daemon.pid
    everybody = [*attackers, *customers]
    began = asyncio.get_running_loop().time()
    for one in everybody:
        await one.start(port)
    for attacker in attackers:
        attacker.send()
    memory = asyncio.create_task(watch_memory(pid, goal))
    kicked, *_ = await asyncio.gather(be_wild(port, goal, wild), *(c.run(goal) for c in customers))
    try:
        await until(
            lambda: all(a.answers >= a.due for a in attackers) and all(c.accepted == c.asked for c in customers)
        )
    except AssertionError:
        missing = {a.name: a.due - a.answers for a in attackers} | {c.name: c.asked - c.accepted for c in customers}
        raise AssertionError(f"unanswered: {missing}; {stage.get('/readyz')}") from None
    took = asyncio.get_running_loop().time() - began
    faults = [fault for one in everybody for fault in one.faults]
    assert not faults, faults[:5]
    assert stage.daemon.running
    assert stage.daemon.pid == pid
    for one in everybody:
        one.close()
    answers = sum(a.answers for a in attackers)
    assert answers == sum(a.due for a in attackers), "somebody was answered twice"
    first, last = thirds(await memory, goal.wanted)
    return {
        "messages": goal.sent,
        "answers": answers,
        "valid": sum(c.accepted for c in customers),
        "slowest_valid_s": round(max(c.slowest_s for c in customers), 3),
        "hung_up": kicked,
        "seconds": round(took, 1),
        "rss_first_mib": round(first / 1024, 1),
        "rss_last_mib": round(last / 1024, 1),
    }
