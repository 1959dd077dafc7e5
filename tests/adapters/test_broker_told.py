"""What a publisher is told of each message, once; and at which connections the broker shows what it retains."""

from __future__ import annotations

from pathlib import Path

import mqtt5
import pytest
from mqtt_help import Peer, drop, running, scripted, settings

from channeld.core.errors import BadValue
from channeld.sandbox.broker import Access, SandboxBroker
from channeld.sandbox.broker.access import read_access_list

Told = list[tuple[str, bool]]


async def test_it_is_told_once_that_the_broker_has_it(port: int) -> None:
    told: Told = []
    async with running(settings(port), "x") as (broker, seen):
        for name in "abc":
            assert broker.publish("x", name.encode(), told=lambda taken, name=name: told.append((name, taken)))
        assert told == [], "not before the broker has answered"
        await seen.until(lambda: len(seen.messages) == 3)
        assert await broker.flush(5)
        assert told == [("a", True), ("b", True), ("c", True)]
        drop(broker)
        await seen.until(lambda: len(seen.connects) == 2)
        assert await broker.flush(5)
    assert len(told) == 3


async def test_what_the_broker_refuses_is_told_so(tmp_path: Path) -> None:
    """As an access list does, with MQTT 5."""
    told: Told = []
    rules = tmp_path / "acl"
    rules.write_text("topic readwrite mine\n")
    async with (
        SandboxBroker(access=Access(acl=read_access_list(rules))) as server,
        running(settings(server.port), "mine") as (broker, _),
    ):
        for topic in ("theirs", "mine"):
            broker.publish(topic, b"", told=lambda taken, topic=topic: told.append((topic, taken)))
        assert await broker.flush(5)
    assert told == [("theirs", False), ("mine", True)]


async def test_a_lost_connection_tells_nothing_and_the_next_one_once() -> None:
    told: Told = []
    lives = 0

    async def script(peer: Peer) -> None:
        nonlocal lives
        lives += 1
        await peer.welcome()
        sent = [await peer.packet(), await peer.packet()]
        assert [packet.payload for packet in sent] == [b"a", b"b"]
        if lives == 1:
            return  # and never said a word of either
        for packet in reversed(sent):
            peer.send(mqtt5.PubAckPacket(packet.packet_id).write() * 2)  # a broker may say it twice
        await peer.frame()

    async with scripted(script) as port, running(settings(port), "x") as (broker, _):
        for name in "ab":
            broker.publish("x", name.encode(), told=lambda taken, name=name: told.append((name, taken)))
        assert await broker.flush(5)
        assert told == [("b", True), ("a", True)], "as the answers came"
        assert lives == 2


async def test_what_waits_and_is_too_large_for_the_next_broker_is_told_so() -> None:
    """Each broker has a limit of its own; what no longer fits will never be sent."""
    told: Told = []
    lives = 0

    async def script(peer: Peer) -> None:
        nonlocal lives
        lives += 1
        await peer.welcome(max_packet_size=None if lives == 1 else 100)
        if lives == 1:
            await peer.packet()
            return
        packet = await peer.packet()
        peer.send(mqtt5.PubAckPacket(packet.packet_id).write())
        await peer.frame()

    async with scripted(script) as port, running(settings(port), "x") as (broker, _):
        for name, size in (("large", 1000), ("small", 10)):
            broker.publish("x", b"x" * size, told=lambda taken, name=name: told.append((name, taken)))
        assert await broker.flush(5)
    assert told == [("large", False), ("small", True)]


async def test_what_never_was_taken_in_is_not_told() -> None:
    told: Told = []
    given = settings(1, send_limit=2)
    async with running(given, "x", wait=False) as (broker, _):
        with pytest.raises(BadValue):
            broker.publish("a/#", b"", told=lambda taken: told.append(("bad", taken)))
        taken_in = [broker.publish("x", b"", told=lambda taken: told.append(("full", taken))) for _ in range(3)]
        assert taken_in == [True, True, False]
    assert told == []


# -- what is retained ------------------------------------------------------------------------------------------------


async def retain(port: int) -> None:
    async with running(settings(port, "publisher"), "y") as (broker, _):
        broker.publish("x", b"kept", retain=True)
        assert await broker.flush(5)


async def shown(port: int, **more: int) -> list[int]:
    """How often the broker had shown what it retains, by the time that each of three connections in a row stood."""
    counts = []
    async with running(settings(port, **more), "x", "end", retained_once=("x",)) as (broker, seen):
        for connection in range(1, 4):
            await seen.until(lambda connection=connection: len(seen.connects) == connection and broker.connected)
            end = b"%d" % connection
            broker.publish("end", end)  # comes back behind what is retained
            await seen.until(lambda end=end: end in seen.payloads)
            counts.append(seen.payloads.count(b"kept"))
            if connection < 3:
                drop(broker)
    return counts


async def test_what_is_retained_once_is_shown_at_the_first_connection_and_not_at_the_next(port: int) -> None:
    await retain(port)
    assert await shown(port) == [1, 1, 1]


async def test_a_new_start_is_shown_it_though_the_broker_still_has_the_session(port: int) -> None:
    await retain(port)
    assert await shown(port) == [1, 1, 1]
    assert await shown(port) == [1, 1, 1]


async def test_it_is_shown_again_where_the_broker_has_lost_the_session(port: int) -> None:
    await retain(port)
    assert await shown(port, session_expiry_s=0) == [1, 2, 3]
