"""The daemon's side of MQTT: framing, window, redelivery, and what a hostile or failing broker does to it."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
from pathlib import Path
from typing import Any

import mqtt5
import pytest
from certs import Authority
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from mqtt_help import Peer, drop, running, scripted, settings
from servers import Mosquitto, shipped
from structlog.testing import capture_logs
from waiting import soon

from channeld.adapters.broker import TAKEN_OVER, BrokerSettings, Will
from channeld.adapters.broker.connection import SILENT, SLICE
from channeld.adapters.broker.framing import (
    BAD_LENGTH,
    TOO_LARGE,
    Framer,
    read_packet,
    salvage_publish,
    usable_topic,
)
from channeld.adapters.broker.outbox import AHEAD, AHEAD_BYTES, DUP, QUANTUM, Outbox
from channeld.core.errors import BadValue, Malformed
from channeld.sandbox.broker import Access, Account, SandboxBroker
from channeld.sandbox.stage import PATIENCE_S

QOS1 = mqtt5.QoS.AT_LEAST_ONCE
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # the engine's panics


def publish(topic: str, payload: bytes, packet_id: int = 0, **more: Any) -> bytes:
    qos = QOS1 if packet_id else mqtt5.QoS.AT_MOST_ONCE
    return mqtt5.PublishPacket(topic, payload, qos=qos, packet_id=packet_id or None, **more).write()


# -- framing -------------------------------------------------------------------------------------------------------

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0+#"), min_size=1, max_size=20)
packets = st.one_of(
    st.builds(
        publish,
        texts,
        st.binary(max_size=300),
        st.integers(0, 65_535),
        response_topic=st.none() | texts,
        correlation_data=st.none() | st.binary(min_size=1, max_size=20),
        message_expiry_interval=st.none() | st.integers(0, 2**32 - 1),
        user_properties=st.lists(st.tuples(texts, texts), max_size=2),
        retain=st.booleans(),
    ),
    st.integers(1, 65_535).map(lambda n: mqtt5.PubAckPacket(n).write()),
    st.just(b"\xd0\x00"),
)


@given(st.lists(packets, max_size=8), st.data())
def test_any_chunking_gives_the_same_packets(frames: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(frames)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=12)))
    framer, got = Framer(), []
    for begin, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        got += [bytes(one) for one in framer.feed(stream[begin:end])]
    assert got == frames
    assert framer.fault is None


@given(st.lists(st.binary(max_size=40), max_size=10))
def test_no_bytes_break_the_framer(chunks: list[bytes]) -> None:
    framer = Framer(1000)
    for chunk in chunks:
        for frame in framer.feed(chunk):
            assert 2 <= len(frame) <= 1000


@pytest.mark.parametrize(
    ("stream", "fault"), [(b"\x30\xff\xff\xff\xff\x01", BAD_LENGTH), (b"\x30\xff\xff\x7f", TOO_LARGE)]
)
def test_broken_framing_is_told_after_the_packets_before_it(stream: bytes, fault: str) -> None:
    framer = Framer(1000)
    assert [bytes(one) for one in framer.feed(b"\xd0\x00" + stream)] == [b"\xd0\x00"]
    assert framer.fault == fault
    assert framer.feed(b"\xd0\x00") == []


@given(packets.filter(lambda frame: frame[0] >> 4 == 3))
def test_reading_by_hand_agrees_with_the_engine(frame: bytes) -> None:
    by_engine: Any = read_packet(memoryview(frame))
    by_hand = salvage_publish(memoryview(frame))
    for name in ("topic", "payload", "retain", "response_topic", "correlation_data", "message_expiry_interval"):
        assert getattr(by_hand, name) == getattr(by_engine, name), name
    assert (by_hand.packet_id or None) == by_engine.packet_id


@examples(max_examples=300)
@given(packets, st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), min_size=1, max_size=4))
def test_a_mutated_packet_raises_malformed_and_nothing_else(frame: bytes, changes: list[tuple[int, int]]) -> None:
    mutated = bytearray(frame)
    for at, value in changes:
        mutated[at % len(mutated)] = value
    for read in (read_packet, salvage_publish):
        try:
            read(memoryview(bytes(mutated)))
        except Malformed as error:
            assert "\n" not in str(error)


def test_a_response_topic_is_usable_only_without_wildcards_and_nul() -> None:
    assert usable_topic("a/b") == "a/b"
    assert [usable_topic(one) for one in (None, "", "a/+", "#", "a\0b", "/" * 128)] == [None] * 6


# -- outbox --------------------------------------------------------------------------------------------------------


def test_the_window_holds_messages_back_in_order() -> None:
    outbox, out = Outbox(10), []
    outbox.reconnected(False, 2, True)
    for number in range(5):
        outbox.wait(outbox.take_id(), bytes([0x32, number]))
    outbox.release(out.append)
    assert [frame[1] for frame in out] == [0, 1]
    assert outbox.settle(1)
    assert not outbox.settle(1), "settled twice"
    outbox.release(out.append)
    assert [frame[1] for frame in out] == [0, 1, 2]


@pytest.mark.parametrize("present", [True, False])
def test_what_was_not_settled_is_sent_again_first(present: bool) -> None:
    outbox, out = Outbox(10), []
    for number in range(4):
        outbox.wait(outbox.take_id(), bytes([0x32, number]))
    outbox.window = 3
    outbox.release(out.append)
    outbox.settle(2)
    out.clear()
    outbox.reconnected(present, 65_535, True)
    outbox.release(out.append)
    assert [frame[1] for frame in out] == [0, 2, 3]
    assert [bool(frame[0] & DUP) for frame in out] == [present, present, False]


def test_a_full_outbox_says_so_and_drops_what_no_broker_takes() -> None:
    outbox = Outbox(2)
    for size in (10, 100):
        outbox.wait(outbox.take_id(), b"2" * size)
    assert outbox.full
    assert outbox.drop_above(50) == 1
    assert not outbox.full


@given(flood=st.integers(0, 600), size=st.integers(20, 60_000), window=st.integers(1, 65_535))
@examples(max_examples=40)
def test_a_lone_reply_waits_for_what_is_under_way_and_one_turn_of_the_flood(flood: int, size: int, window: int) -> None:
    outbox, out = Outbox(10**9), list[bytes]()
    outbox.reconnected(True, window, True)
    for _ in range(flood):
        outbox.wait(outbox.take_id(), b"\x32" + b"x" * (size - 1), "flood")
    outbox.release(out.append)
    assert len(out) <= min(window, AHEAD)
    assert sum(map(len, out[:-1])) < AHEAD_BYTES
    sent = len(out)
    outbox.wait(outbox.take_id(), b"\x32lone", "lone")
    outbox.release(out.append)
    for packet_id in range(1, flood + 1):
        if b"\x32lone" in out:
            break
        assert outbox.settle(packet_id)
        outbox.release(out.append)
    assert out.index(b"\x32lone") - sent <= QUANTUM


async def test_a_message_that_the_broker_hangs_up_on_does_not_hold_up_the_rest_for_ever() -> None:
    """A broker with a dislike, that ends every connection over which the message comes."""
    got: list[bytes] = []

    async def script(peer: Peer) -> None:
        await peer.welcome(session_present=True)
        while True:
            frame = await peer.packet()
            if not isinstance(frame, mqtt5.PublishPacket) or frame.payload == b"bad":
                return
            got.append(frame.payload)
            peer.send(mqtt5.PubAckPacket(frame.packet_id).write())

    async with scripted(script) as port, running(settings(port, backoff_max_s=0.02), "x") as (broker, _):
        for payload in (b"1", b"bad", b"2", b"3"):
            broker.publish("t", payload)
        assert await broker.flush(10)
        assert got == [b"1", b"2", b"3"]
        assert broker.publish_refused == 1


# -- against a scripted broker -------------------------------------------------------------------------------------


async def test_poison_is_acknowledged_and_skipped_without_losing_the_connection() -> None:
    """A QoS 1 message the engine cannot read would come again after each reconnect, for ever."""
    acks: list[bytes] = []
    done = asyncio.Event()
    poison = publish("servers/a/claim", b"x", 7).replace(b"claim", b"cla\xffm")
    bad_property = bytearray(publish("servers/a/claim", b"x", 8, message_expiry_interval=5))
    bad_property[bad_property.index(b"\x05\x02") + 1] = 0x7E

    async def script(peer: Peer) -> None:
        await peer.welcome()
        peer.send(poison, bytes(bad_property), publish("servers/a/claim", b"good", 9))
        acks.extend([await peer.frame() for _ in range(3)])
        done.set()
        await peer.frame()

    async with scripted(script) as port, running(settings(port), "servers/+/claim") as (broker, seen):
        await asyncio.wait_for(done.wait(), PATIENCE_S)
        assert acks == [b"\x40\x02\x00\x07", b"\x40\x02\x00\x08", b"\x40\x02\x00\x09"]
        assert seen.payloads == [b"good"]
        assert broker.dropped_malformed == 2
        assert (broker.reconnects, broker.connected) == (0, True)


@pytest.mark.parametrize("topic", [b"reply/\xff", b"reply/\0", b"reply/#", b"reply/+"])
async def test_an_unusable_response_topic_is_flagged_and_the_message_delivered(topic: bytes) -> None:
    frame = publish("servers/a/claim", b"ask", 3, response_topic="reply/z", correlation_data=b"c")

    async def script(peer: Peer) -> None:
        await peer.welcome()
        peer.send(frame.replace(b"reply/z", topic))
        await peer.frame()

    async with scripted(script) as port, running(settings(port), "servers/+/claim") as (_, seen):
        await seen.until(lambda: bool(seen.messages))
        [message] = seen.messages
        assert (message.payload, message.response_topic, message.bad_response_topic) == (b"ask", None, True)
        assert message.correlation_data == b"c"


@pytest.mark.parametrize(
    ("stream", "code"), [(b"\x30\xff\xff\xff\xff\x01", 0x81), (b"\x30\xff\xff\xff\x7f", 0x95), (b"\x32\x01\x00", 0x81)]
)
async def test_a_broken_stream_ends_the_connection_and_is_tried_again(stream: bytes, code: int) -> None:
    answers: list[bytes] = []

    async def script(peer: Peer) -> None:
        await peer.welcome()
        if not answers:
            peer.send(stream)
            answers.append(await peer.frame())
        await peer.frame()

    async with scripted(script) as port, running(settings(port), "x") as (broker, seen):
        await seen.until(lambda: len(seen.connects) == 2)
        assert answers[0][0] == 0xE0
        assert answers[0][2] == code
        assert broker.last_error is None
        assert broker.reconnects == 1


async def test_the_brokers_receive_maximum_is_never_exceeded() -> None:
    got: list[bytes] = []
    enough, proceed = asyncio.Event(), asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.welcome(receive_max=3)
        pending = []
        while len(got) < 20:
            frame = await peer.packet()
            got.append(frame.payload)
            pending.append(frame.packet_id)
            assert len(pending) <= 3
            if len(pending) == 3 or len(got) == 20:
                if len(got) == 3:
                    enough.set()
                    await proceed.wait()
                peer.send(*(mqtt5.PubAckPacket(one).write() for one in pending))
                pending.clear()
        await peer.frame()

    async with scripted(script) as port, running(settings(port), "x") as (broker, _):
        for number in range(20):
            assert broker.publish("t", b"%d" % number)
        await asyncio.wait_for(enough.wait(), PATIENCE_S)
        assert (broker.in_flight_out, broker.queued_out) == (3, 17)
        proceed.set()
        assert await broker.flush(5)
        assert got == [b"%d" % number for number in range(20)]


async def test_a_broker_that_sends_beyond_our_receive_maximum_is_borne_with() -> None:
    """Hung up on, it would send the same again after every reconnect."""
    acks: list[bytes] = []
    done = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.welcome()
        peer.send(*(publish("x", b"", number) for number in (1, 2, 3)))
        acks.extend([await peer.frame() for _ in range(3)])
        done.set()
        await peer.frame()

    async with scripted(script) as port, running(settings(port, receive_maximum=2), "x", ack=False) as (broker, seen):
        await seen.until(lambda: len(seen.messages) == 3)
        for message in seen.messages:
            broker.ack(message)
        await asyncio.wait_for(done.wait(), PATIENCE_S)
        assert [ack[3] for ack in acks] == [1, 2, 3]
        assert (broker.reconnects, seen.losses) == (0, [])


async def test_what_one_read_brings_is_taken_in_slices_between_which_the_loop_sees_to_others() -> None:
    """Else whoever asked last would wait for thousands; the order stays, and what breaks the stream comes last."""
    many = SLICE * 4 + 1

    async def script(peer: Peer) -> None:
        await peer.welcome()
        await peer.frame()
        peer.send(*(publish("x", b"%d" % number, 1 + number) for number in range(many)), b"\x00\x00")
        while await peer.frame():
            pass

    turns = 0

    def turn() -> None:
        nonlocal turns
        turns += 1
        asyncio.get_running_loop().call_soon(turn)

    async with scripted(script) as port, running(settings(port), "x") as (broker, seen):
        broker.publish("t", b"go")
        turn()
        await seen.until(lambda: bool(seen.losses))
        assert seen.payloads[:many] == [b"%d" % number for number in range(many)]
        assert max(seen.batches) <= SLICE
        assert turns >= len(seen.batches) - 1
        assert "malformed" in seen.losses[0]


async def test_the_brokers_terms_are_honoured() -> None:
    """Maximum Packet Size refuses, and a warning says so; Retain Available 0 takes the flag off."""
    got: list[Any] = []

    async def script(peer: Peer) -> None:
        await peer.welcome(max_packet_size=100, retain_available=False)
        got.append(await peer.packet())
        peer.send(mqtt5.PubAckPacket(got[0].packet_id).write())
        await peer.frame()

    with capture_logs() as said:
        async with scripted(script) as port, running(settings(port), "x") as (broker, _):
            with pytest.raises(BadValue, match="payload"):
                broker.publish("t", b"x" * 100)
            assert broker.publish("t", b"x", retain=True)
            assert await broker.flush(5)
            assert (got[0].payload, got[0].retain) == (b"x", False)
    assert [one["max_packet"] for one in said if one["event"] == "mqtt_broker_takes_less"] == [100]


async def test_connect_asks_for_what_the_daemon_needs() -> None:
    seen: list[Any] = []

    async def script(peer: Peer) -> None:
        seen.append(await peer.packet())
        peer.send(mqtt5.ConnAckPacket().write())
        seen.append(await peer.packet())
        granted = [mqtt5.SubAckReasonCode.GRANTED_QOS_AT_LEAST_ONCE]
        peer.send(mqtt5.SubAckPacket(seen[1].packet_id, granted).write())
        await peer.frame()

    will = Will("status", b"offline")
    async with scripted(script) as port, running(settings(port), "x", will=will):
        connect, subscribe = seen
        assert (connect.clean_start, connect.session_expiry_interval, connect.receive_max) == (False, 3600, 2000)
        assert (connect.will.topic, connect.will.retain, int(connect.will.qos)) == ("status", True, 1)
        [wanted] = subscribe.topic_filters
        assert (int(wanted.max_qos), int(wanted.retain_handling), wanted.retain_as_published) == (1, 2, True)


async def test_a_subscription_granted_below_qos_1_is_no_connection() -> None:
    async def script(peer: Peer) -> None:
        await peer.packet()
        peer.send(mqtt5.ConnAckPacket().write())
        subscribe = await peer.packet()
        peer.send(mqtt5.SubAckPacket(subscribe.packet_id, [mqtt5.SubAckReasonCode.NOT_AUTHORIZED]).write())
        await peer.frame()

    async with scripted(script) as port, running(settings(port), "secret/x", wait=False) as (broker, seen):
        await soon(lambda: broker.reconnects >= 2)
        assert "secret/x" in (broker.last_error or "")
        assert (broker.connected, seen.connects) == (False, [])


@pytest.mark.slow
async def test_a_silent_broker_is_noticed_by_its_missing_ping_answer() -> None:
    async def script(peer: Peer) -> None:
        await peer.welcome(server_keep_alive=1)
        while await peer.frame():
            pass

    async with scripted(script) as port, running(settings(port), "x") as (_, seen):
        await seen.until(lambda: bool(seen.losses))
        assert seen.losses[0] == SILENT


# -- without a broker ----------------------------------------------------------------------------------------------


async def test_the_queue_is_bounded_and_stop_does_not_wait_for_the_unreachable() -> None:
    unused = settings(1, send_limit=4)
    async with asyncio.timeout(2), running(unused, "x", wait=False) as (broker, _):
        assert [broker.publish("t", b"") for _ in range(6)] == [True] * 4 + [False] * 2
        assert not await broker.stop()


@pytest.mark.parametrize("topic", ["", "a/#", "a\0b", "a\ud800", "a" * 70_000])
async def test_what_can_never_be_sent_is_a_bad_value(topic: str) -> None:
    async with SandboxBroker() as server, running(settings(server.port), "x") as (broker, _):
        for _ in range(3):
            with pytest.raises(BadValue):
                broker.publish(topic, b"")
        assert broker.publish("fine", b"")
        assert await broker.flush(5)


async def test_a_refused_login_is_retried_and_never_shows_the_password() -> None:
    access = Access({"channeld": Account("right-one")})
    login = {"username": "channeld", "password": b"wrong-one"}
    async with (
        SandboxBroker(access=access) as server,
        running(settings(server.port, **login), "x", wait=False) as (broker, _),
    ):
        await soon(lambda: broker.reconnects >= 2)
        assert "bad user name or password" in (broker.last_error or "")
        assert "wrong-one" not in (broker.last_error or "") + repr(broker.settings)


async def test_a_second_daemon_of_the_same_id_is_reported_as_such() -> None:
    async with (
        SandboxBroker() as server,
        running(settings(server.port), "x") as (_, first),
        running(settings(server.port), "x"),
    ):
        await first.until(lambda: bool(first.losses))
        assert first.losses[0] == TAKEN_OVER


async def test_a_callback_that_raises_costs_nothing_but_its_messages() -> None:
    async with SandboxBroker() as server, running(settings(server.port), "x") as (broker, seen):
        fine = broker._on_messages
        broker._on_messages = lambda messages: 1 // 0  # type: ignore[assignment, return-value]
        broker.publish("x", b"1")
        assert await broker.flush(5)
        await soon(lambda: broker.callback_errors > 0)
        broker._on_messages = fine
        broker.publish("x", b"2")
        await seen.until(lambda: seen.payloads == [b"2"])


# -- the same against both brokers ---------------------------------------------------------------------------------


async def test_request_and_reply(port: int) -> None:
    async with (
        running(settings(port), "ask") as (daemon, asked),
        running(settings(port, "server"), "reply") as (other, got),
    ):
        assert other._connection is not None
        other._connection.write(publish("ask", b"q", 9, correlation_data=b"\0\xff", message_expiry_interval=60))
        other.send()
        await asked.until(lambda: bool(asked.messages))
        [message] = asked.messages
        assert (message.topic, message.payload, message.retain) == ("ask", b"q", False)
        assert message.correlation_data == b"\0\xff"
        assert message.expires_at is not None
        assert 58 < message.expires_at - asyncio.get_running_loop().time() <= 60
        daemon.publish("reply", b"r" * 1_000_000)
        await got.until(lambda: bool(got.messages))
        assert got.payloads == [b"r" * 1_000_000]


async def test_what_is_not_acknowledged_comes_again_and_what_is_does_not(port: int) -> None:
    async with (
        running(settings(port), "ask", ack=False) as (daemon, asked),
        running(settings(port, "s"), "x") as (other, _),
    ):
        for payload in (b"1", b"2", b"3"):
            other.publish("ask", payload)
        await asked.until(lambda: len(asked.messages) == 3)
        old = list(asked.messages)
        daemon.ack(old[1])
        other.publish("ask", b"4")
        await asked.until(lambda: len(asked.messages) == 4)
        drop(daemon)
        await asked.until(lambda: len(asked.messages) == 7)
        assert asked.payloads[4:] == [b"1", b"3", b"4"]
        assert asked.connects == [False, True]
        daemon.ack(old[0])
        drop(daemon)
        await asked.until(lambda: len(asked.messages) == 10)
        assert asked.payloads[7:] == [b"1", b"3", b"4"], "an acknowledgement over an older connection means nothing"


async def test_a_retained_request_is_seen_as_such_but_never_on_subscribing(port: int) -> None:
    async with running(settings(port, "s"), "x") as (other, _):
        other.publish("ask", b"old", retain=True)
        assert await other.flush(5)
        async with running(settings(port), "ask") as (_, asked):
            other.publish("ask", b"new", retain=True)
            await asked.until(lambda: bool(asked.messages))
            assert [(one.payload, one.retain) for one in asked.messages] == [(b"new", True)]


async def test_the_will_is_sent_when_we_vanish_and_not_when_we_stop(port: int) -> None:
    will = Will("status", b"offline")
    async with running(settings(port, "watcher"), "status") as (_, seen):
        async with running(settings(port), "x", will=will) as (daemon, _):
            daemon.publish("status", b"online", retain=True)
            assert await daemon.flush(5)
            drop(daemon)
            await seen.until(lambda: seen.payloads == [b"online", b"offline"])
        async with running(settings(port), "status", will=will) as (daemon, mine):
            daemon.publish("status", b"last", retain=True)
            await mine.until(lambda: b"last" in mine.payloads)
        async with running(settings(port, "later"), "x") as (later, _):
            later.publish("status", b"after")
            await seen.until(lambda: b"after" in seen.payloads)
        assert seen.payloads == [b"online", b"offline", b"last", b"after"]


async def test_thousands_arrive_once_in_order_and_in_batches(port: int) -> None:
    async with running(settings(port), "ask") as (_, asked), running(settings(port, "s"), "x") as (other, _):
        wanted = [b"%d" % number for number in range(5000)]
        for payload in wanted:
            assert other.publish("ask", payload)
        await asked.until(lambda: len(asked.messages) == 5000)
        assert asked.payloads == wanted
        assert max(asked.batches) > 10


# -- against Mosquitto ---------------------------------------------------------------------------------------------


@pytest.mark.slow
async def test_a_restarted_broker_gets_what_was_not_settled(tmp_path: Path) -> None:
    """SIGKILL leaves no session: all unsettled messages come as new, none is lost."""
    async with Mosquitto(tmp_path) as real, running(settings(real.port), "ask") as (daemon, seen):
        await real.kill()
        await seen.until(lambda: bool(seen.losses))
        for number in range(100):
            assert daemon.publish("ask", b"%d" % number)
        assert daemon.queued_out == 100
        await real.start()
        await seen.until(lambda: len(seen.messages) == 100)
        assert seen.payloads == [b"%d" % number for number in range(100)]
        assert seen.connects == [False, False]


@pytest.mark.slow
async def test_small_windows_of_a_real_broker_in_both_directions(tmp_path: Path) -> None:
    async with Mosquitto(tmp_path, max_inflight=5) as real:
        given = settings(real.port, receive_maximum=7)
        async with running(given, "ask", ack=False) as (daemon, seen):
            for number in range(200):
                assert daemon.publish("ask", b"%d" % number)
            assert daemon.in_flight_out <= 5
            done = 0
            while done < 200:
                await seen.until(lambda known=done: len(seen.messages) > known)
                batch, done = seen.messages[done:], len(seen.messages)
                assert len(batch) <= 7
                for message in batch:
                    daemon.ack(message)
            assert seen.payloads == [b"%d" % number for number in range(200)]
            assert seen.losses == []


@pytest.mark.slow
async def test_mosquitto_beyond_our_receive_maximum_costs_no_connection(tmp_path: Path) -> None:
    """As shipped it does not keep to it while some messages are acknowledged and others wait."""
    async with Mosquitto(tmp_path) as real, running(settings(real.port, "other"), "nothing") as (other, _):
        given = settings(real.port, receive_maximum=20)
        async with running(given, "ask", ack=False) as (daemon, seen):
            done = 0
            for number in range(1000):
                assert other.publish("ask", b"%d" % number)
                if number % 50 == 49:
                    await seen.until(lambda known=done: len(seen.messages) > known)
                    daemon.ack(seen.messages[done])
                    done += 1
            while done < 1000:
                await seen.until(lambda known=done: len(seen.messages) > known)
                for message in seen.messages[done:]:
                    daemon.ack(message)
                done = len(seen.messages)
            assert seen.payloads == [b"%d" % number for number in range(1000)]
            assert (daemon.reconnects, seen.losses) == (0, [])


@pytest.mark.slow
async def test_the_deepest_usable_response_topic_can_be_answered(tmp_path: Path) -> None:
    """Mosquitto hangs up on a topic of more levels than it likes: no server may bring us to publish to one."""
    deepest = usable_topic("/" * 127)
    assert deepest is not None
    async with Mosquitto(tmp_path) as real, running(settings(real.port), deepest) as (daemon, seen):
        daemon.publish(deepest, b"answer")
        await seen.until(lambda: seen.payloads == [b"answer"])
        assert daemon.reconnects == 0


@pytest.mark.slow
async def test_a_mebibyte_arrives_with_the_longest_properties_around_it(tmp_path: Path) -> None:
    """A broker drops without a word what is above our Maximum Packet Size; a mebibyte is to be answered."""
    async with shipped(tmp_path) as real:
        topic, asked = f"{PREFIX}/servers/a/claim", f"{PREFIX}/servers/+/claim"
        async with running(_login(real.port, "channeld", b"d"), asked) as (_, seen):
            reader, writer = await asyncio.open_connection("127.0.0.1", real.port)
            writer.write(mqtt5.ConnectPacket("a", username="a", password=b"pa").write())
            long = {"response_topic": "r" * 65_535, "correlation_data": b"c" * 65_535}
            writer.write(publish(topic, b"p" * 1_048_576, 1, **long))
            await seen.until(lambda: len(seen.payloads[:1]) == 1)
            assert len(seen.payloads[0]) == 1_048_576
            writer.close()
            assert await reader.read(1)


@pytest.mark.slow
async def test_tls_with_a_certificate_of_ones_own(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "tls")
    certificate, key = authority.issue("broker")
    extra = f"certfile {certificate}\nkeyfile {key}"
    async with Mosquitto(tmp_path, extra=extra) as real:
        trusting = ssl.create_default_context(cafile=str(authority.ca))
        async with running(settings(real.port, tls=trusting), "ask") as (daemon, seen):
            daemon.publish("ask", b"private")
            await seen.until(lambda: seen.payloads == [b"private"])
        wary = settings(real.port, "other", tls=ssl.create_default_context())
        async with running(wary, "ask", wait=False) as (daemon, _):
            await soon(lambda: daemon.last_error is not None)
            assert "certificate" in (daemon.last_error or "")


# -- the shipped configuration -------------------------------------------------------------------------------------

PREFIX = "channeld/v1"


@pytest.mark.slow
async def test_the_shipped_access_list_gives_each_server_its_own_topics_only(tmp_path: Path) -> None:
    """Real clients: what `a` publishes elsewhere does not arrive, and what is for others does not reach it.

    Sets of topics, for Mosquitto hangs up on whoever publishes where it may not, and what it had not acknowledged comes
    twice.
    """
    async with shipped(tmp_path) as real:
        watched = [f"{PREFIX}/servers/+/{name}" for name in ("claim", "receive", "query")]
        async with (
            running(_login(real.port, "channeld", b"d"), *watched) as (daemon, asked),
            running(_login(real.port, "a", b"pa"), f"{PREFIX}/#") as (server, got),
        ):
            for topic in ("claim", "receive", "query", "reply", "event", "channels/X", "other"):
                for name in ("a", "b"):
                    server.publish(f"{PREFIX}/servers/{name}/{topic}", topic.encode())
                    daemon.publish(f"{PREFIX}/servers/{name}/{topic}", topic.encode())
            for topic in ("servers/a/reply/x/y", "servers/b/reply/x", "daemons/d/status", "daemons/d/witness"):
                server.publish(f"{PREFIX}/{topic}", b"forged")
                daemon.publish(f"{PREFIX}/{topic}", b"real")
            assert await server.flush(5)
            assert await daemon.flush(5)
            daemon.publish(f"{PREFIX}/servers/a/event", b"end")
            await got.until(lambda: b"end" in got.payloads)
            _, lines = await asyncio.to_thread(_real_client, real.port)
        assert {one.topic for one in asked.messages} == {
            f"{PREFIX}/servers/a/{name}" for name in ("claim", "receive", "query")
        }
        mine = {f"{PREFIX}/servers/a/{name}" for name in ("reply", "event", "channels/X", "reply/x/y")}
        assert {one.topic for one in got.messages} == {*mine, f"{PREFIX}/daemons/d/status"}
        assert all(one.payload != b"forged" for one in got.messages)
        assert lines == [], "b read what was retained for a"
        assert server.publish_refused > 0


async def test_with_the_shipped_configuration_bytes_bound_what_the_broker_holds_for_us(tmp_path: Path) -> None:
    """What was sent ahead of acknowledgements counts in no bound but `max_inflight_bytes`. All else is made smaller."""
    real = shipped(tmp_path)
    config = real.directory / "mosquitto.conf"
    config.write_text(config.read_text().replace("max_queued_bytes 67108864", "max_queued_bytes 4194304"))
    topic, large = f"{PREFIX}/servers/a/claim", b"x" * (1 << 20)
    async with real:
        daemon, a = _login(real.port, "channeld", b"d"), _login(real.port, "a", b"pa")
        async with running(daemon, f"{PREFIX}/servers/+/claim", ack=False) as (_, asked), running(a) as (server, _):
            for _ in range(100):
                await soon(lambda: server.publish(topic, large))
            assert await server.flush(20)
            before = -1
            while before < len(asked.messages):
                before = len(asked.messages)
                await asyncio.sleep(0.3)
            assert 1 < before < 60


def _login(port: int, name: str, password: bytes) -> BrokerSettings:
    return settings(port, name, username=name, password=password)


def _real_client(port: int) -> tuple[int, list[str]]:
    """mosquitto_pub as the daemon retains a channel of `a`; mosquitto_sub as `b` looks for it."""
    common = ["-h", "127.0.0.1", "-p", str(port), "-V", "mqttv5"]
    topic = f"{PREFIX}/servers/a/channels/X"
    subprocess.run(
        ["mosquitto_pub", *common, "-u", "channeld", "-P", "d", "-t", topic, "-m", "m", "-r", "-q", "1"], check=True
    )
    arguments = ["mosquitto_sub", *common, "-u", "b", "-P", "pb", "-t", f"{PREFIX}/servers/#", "-W", "1", "-v"]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout.splitlines()
