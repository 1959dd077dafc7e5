"""The embedded broker: what real clients see of it, and what hostile ones can do to it."""

from __future__ import annotations

import asyncio
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiomqtt
import mqtt5
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from mqtt_help import Peer, drop, running, settings
from servers import write_passwords
from waiting import soon

from channeld.adapters.broker import Will
from channeld.core.errors import ConfigError
from channeld.sandbox.broker import Access, Account, Limits, SandboxBroker, read_access_list, read_passwords, serve
from channeld.sandbox.broker.topics import matches, valid_filter, valid_topic
from channeld.sandbox.stage import PATIENCE_S

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # the engine's panics
QOS = [mqtt5.QoS.AT_MOST_ONCE, mqtt5.QoS.AT_LEAST_ONCE, mqtt5.QoS.EXACTLY_ONCE]


@pytest.fixture
async def server() -> AsyncIterator[SandboxBroker]:
    async with SandboxBroker() as broker:
        yield broker


@asynccontextmanager
async def raw(port: int, client_id: str = "raw", *, connect: bool = True, **more: Any) -> AsyncIterator[Peer]:
    """A client that says exactly what the test writes; connected unless told otherwise."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    peer = Peer(reader, writer)
    try:
        if connect:
            peer.send(mqtt5.ConnectPacket(client_id, **{"clean_start": True, **more}).write())
            connack = await peer.packet()
            assert int(connack.reason_code) == 0
        yield peer
    finally:
        writer.close()


async def subscribe(peer: Peer, *patterns: str, qos: int = 1, subscription_id: int | None = None, **more: Any) -> Any:
    filters = [mqtt5.TopicFilter(one, max_qos=QOS[qos], **more) for one in patterns]
    peer.send(mqtt5.SubscribePacket(1, filters, subscription_id=subscription_id).write())
    suback = await peer.packet()
    return [int(code) for code in suback.reason_codes]


def publish(topic: str, payload: bytes = b"m", packet_id: int = 0, **more: Any) -> bytes:
    qos = QOS[1 if packet_id else 0]
    return mqtt5.PublishPacket(topic, payload, qos=qos, packet_id=packet_id or None, **more).write()


# -- topics --------------------------------------------------------------------------------------------------------

level = st.text("ab$", max_size=2)
topics = st.lists(level, min_size=1, max_size=5).map("/".join).filter(valid_topic)
filters = (
    st.lists(st.sampled_from(["a", "b", "ab", "", "+", "$a"]), min_size=1, max_size=5)
    .flatmap(lambda levels: st.sampled_from([levels, [*levels, "#"], ["#"]]))
    .map("/".join)
    .filter(valid_filter)
)


def slowly(wanted: list[str], given: list[str]) -> bool:
    """Section 4.7 word for word, level by level."""
    if not wanted:
        return not given
    if wanted[0] == "#":
        return True
    if not given:
        return wanted == ["#"]
    return wanted[0] in ("+", given[0]) and slowly(wanted[1:], given[1:])


@given(filters, topics)
def test_matching_agrees_with_the_standard_read_word_for_word(pattern: str, topic: str) -> None:
    hidden = topic[0] == "$" and pattern[0] in "+#"
    assert matches(pattern, topic) == (not hidden and slowly(pattern.split("/"), topic.split("/")))


@pytest.mark.parametrize(
    ("pattern", "topic", "expected"),
    [
        ("sport/#", "sport", True),
        ("sport/+", "sport", False),
        ("sport/+", "sport/", True),
        ("+/+", "/finance", True),
        ("+", "/finance", False),
        ("#", "$SYS/x", False),
        ("$SYS/#", "$SYS/x", True),
    ],
)
def test_the_standards_own_examples(pattern: str, topic: str, expected: bool) -> None:
    assert matches(pattern, topic) is expected


def test_which_filters_are_valid() -> None:
    assert all(valid_filter(one) for one in ("#", "+", "a/+/b/#", "/", "a b"))
    assert not any(valid_filter(one) for one in ("", "a#", "#/a", "a+/b", "a\0", "/" * 200))


# -- connecting ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("head", [b"\x00\x04MQTT\x04", b"\x00\x06MQIsdp\x03"])
async def test_an_older_client_is_told_so(server: SandboxBroker, head: bytes) -> None:
    body = head + b"\x02\x00\x3c\x00\x04abcd"
    async with raw(server.port, connect=False) as peer:
        peer.send(bytes([0x10, len(body)]), body)
        assert await peer.frame() == b"\x20\x02\x00\x01"
        assert await peer.frame() == b""


async def test_a_newer_client_is_told_so_as_well(server: SandboxBroker) -> None:
    async with raw(server.port, connect=False) as peer:
        peer.send(b"\x10\x11\x00\x04MQTT\x06\x02\x00\x3c\x00\x00\x04abcd")
        assert int((await peer.packet()).reason_code) == 0x84


async def test_a_client_without_an_id_gets_one(server: SandboxBroker) -> None:
    async with raw(server.port, connect=False) as peer:
        peer.send(mqtt5.ConnectPacket("").write())
        connack = await peer.packet()
        assert connack.assigned_client_id
        assert connack.max_qos == QOS[1]


@pytest.mark.parametrize("stream", [b"\x30\x03\x00\x01a", b"GET / HTTP/1.1\r\n\r\n", b"\x10\xff\xff\xff\xff\x7f"])
async def test_who_does_not_begin_with_connect_is_cut_off(server: SandboxBroker, stream: bytes) -> None:
    async with raw(server.port, connect=False) as peer:
        peer.send(stream)
        assert await peer.frame() == b""


@pytest.mark.slow
async def test_who_says_nothing_is_cut_off() -> None:
    async with SandboxBroker(limits=Limits(connect_timeout_s=0.1)) as server, raw(server.port, connect=False) as peer:
        assert await peer.frame() == b""


@pytest.mark.slow
async def test_silence_beyond_the_keep_alive_ends_the_connection_and_sends_the_will(server: SandboxBroker) -> None:
    will = mqtt5.Will("gone", payload=b"w", qos=QOS[1])
    async with raw(server.port, "watch") as watch, raw(server.port, keep_alive=1, will=will) as silent:
        await subscribe(watch, "gone")
        assert int((await silent.packet()).reason_code) == 0x8D
        assert (await watch.packet()).payload == b"w"


async def test_a_login_is_checked_against_plain_and_hashed_passwords(tmp_path: Path) -> None:
    path = tmp_path / "passwords"
    path.write_text("# a comment\nplain:secret\n")
    accounts = read_passwords(path)
    assert "secret" not in repr(accounts)
    if shutil.which("mosquitto_passwd"):
        accounts |= read_passwords(write_passwords(tmp_path / "hashed", "hashed:secret\n"))
        assert accounts["hashed"].secret.startswith("$7$")
    for account in accounts.values():
        assert account.opens(b"secret")
        assert not account.opens(b"Secret")
    path.write_text("fine:x\nno colon\n:x\nbad:$7$101$x\n")
    with pytest.raises(ConfigError) as caught:
        read_passwords(path)
    assert [problem.split(":")[1] for problem in caught.value.problems] == ["2", "3", "4"]


async def test_bad_logins_are_refused() -> None:
    async with SandboxBroker(access=Access({"u": Account("p")})) as server:
        for more in ({}, {"username": "u"}, {"username": "u", "password": b"q"}, {"username": "v", "password": b"p"}):
            async with raw(server.port, connect=False) as peer:
                peer.send(mqtt5.ConnectPacket("c", **more).write())  # type: ignore[arg-type]
                assert int((await peer.packet()).reason_code) == 0x86
        async with raw(server.port, username="u", password=b"p"):
            pass


# -- access list ---------------------------------------------------------------------------------------------------

ACL = """
topic read public/#
user a
topic write up/a
topic both
topic deny both/secret
topic both/#
pattern readwrite own/%u/#
pattern read client/%c
"""


def test_the_access_list_reads_as_mosquittos(tmp_path: Path) -> None:
    path = tmp_path / "acl"
    path.write_text(ACL)
    acl = read_access_list(path)
    cases = {
        ("read", "public/x", None, "c"): True,
        ("write", "public/x", None, "c"): False,
        ("read", "public/x", "a", "c"): False,
        ("write", "up/a", "a", "c"): True,
        ("read", "up/a", "a", "c"): False,
        ("read", "both", "a", "c"): True,
        ("write", "both/x", "a", "c"): True,
        ("read", "both/secret", "a", "c"): False,
        ("write", "own/a/x", "a", "c"): True,
        ("write", "own/b/x", "a", "c"): False,
        ("write", "own/+/x", "+", "c"): False,
        ("read", "client/c", None, "c"): True,
        ("read", "client/d", None, "c"): False,
    }
    assert {case: acl.allows(*case) for case in cases} == cases


def test_bad_lines_are_all_named(tmp_path: Path) -> None:
    path = tmp_path / "acl"
    path.write_text("topic a/#/b\nusers x\ntopic read fine\npattern\n")
    with pytest.raises(ConfigError) as caught:
        read_access_list(path)
    assert [problem.split(":")[1] for problem in caught.value.problems] == ["1", "2", "4"]


async def test_the_shipped_access_list_holds_here_too() -> None:
    acl = read_access_list(Path(__file__).parents[2] / "config" / "mosquitto.acl")
    async with SandboxBroker(access=Access(acl=acl)) as server:
        root = "channeld/v1"
        async with (
            running(settings(server.port, "d", username="channeld"), f"{root}/servers/+/claim") as (daemon, asked),
            running(settings(server.port, "a", username="a"), f"{root}/#") as (mine, got),
        ):
            for name in ("b", "a"):
                mine.publish(f"{root}/servers/{name}/claim", b"ask")
                daemon.publish(f"{root}/servers/{name}/reply", b"answer")
                daemon.publish(f"{root}/daemons/d/{'witness' if name == 'b' else 'status'}", b"s")
            await got.until(lambda: len(got.messages) == 2)
            await asked.until(lambda: bool(asked.messages))
            assert [one.topic for one in asked.messages] == [f"{root}/servers/a/claim"]
            assert [one.topic for one in got.messages] == [f"{root}/servers/a/reply", f"{root}/daemons/d/status"]
            assert mine.publish_refused == 1


# -- messages ------------------------------------------------------------------------------------------------------


async def test_every_property_is_passed_on(server: SandboxBroker) -> None:
    given: dict[str, Any] = {
        "response_topic": "r/x",
        "correlation_data": b"\0\xff",
        "content_type": "text/plain",
        "payload_format_indicator": 1,
        "user_properties": [("k", "v"), ("k", "w")],
    }
    async with raw(server.port, "s") as sub, raw(server.port, "p") as pub:
        assert await subscribe(sub, "t/+", "t/#", qos=2, subscription_id=9) == [1, 1]
        pub.send(publish("t/x", b"hello", 5, message_expiry_interval=100, **given))
        ack = await pub.packet()
        assert (ack.packet_id, int(ack.reason_code)) == (5, 0)
        got = await sub.packet()
        assert {name: getattr(got, name) for name in given} == given
        assert (got.payload, got.qos, got.message_expiry_interval) == (b"hello", QOS[1], 100)
        assert got.subscription_ids == [9, 9]


async def test_qos_is_the_lower_of_both(server: SandboxBroker) -> None:
    async with raw(server.port, "s") as sub, raw(server.port, "p") as pub:
        await subscribe(sub, "zero", qos=0)
        pub.send(publish("zero", b"1", 1), publish("zero", b"0"), publish("nobody", b"", 2))
        assert [(await sub.packet()).qos for _ in range(2)] == [QOS[0], QOS[0]]
        assert [int((await pub.packet()).reason_code) for _ in range(2)] == [0, 0x10]


async def test_retained_messages_and_the_ways_to_ask_for_them(server: SandboxBroker) -> None:
    async with raw(server.port, "p") as pub, raw(server.port, "s") as sub:
        pub.send(publish("r/1", b"one", 1, retain=True), publish("r/2", b"two", 2, retain=True))
        pub.send(publish("r/2", b"", 3, retain=True), publish("$x/1", b"", 4, retain=True))
        assert [int((await pub.packet()).reason_code) for _ in range(4)][3] == 0x87
        once = mqtt5.RetainHandling.SEND_IF_SUBSCRIPTION_NOT_EXISTS
        await subscribe(sub, "r/#", retain_handling=once)
        got = await sub.packet()
        assert (got.topic, got.payload, got.retain) == ("r/1", b"one", True)
        await subscribe(sub, "r/#", retain_handling=once)
        await subscribe(sub, "r/+", retain_handling=mqtt5.RetainHandling.SEND_NEVER)
        sub.send(b"\xc0\x00")
        assert await sub.frame() == b"\xd0\x00", "something retained came"


async def test_retain_as_published_and_no_local(server: SandboxBroker) -> None:
    async with raw(server.port, "a") as one, raw(server.port, "b") as other:
        await subscribe(one, "t", retain_as_published=False)
        await subscribe(other, "t", retain_as_published=True, no_local=True)
        other.send(publish("t", b"m", retain=True))
        assert (await one.packet()).retain is False
        one.send(publish("t", b"n", retain=True))
        got = await other.packet()
        assert (got.payload, got.retain) == (b"n", True)


async def test_an_expired_message_is_not_delivered(server: SandboxBroker) -> None:
    async with raw(server.port, "p") as pub:
        pub.send(publish("t", b"old", 1, retain=True, message_expiry_interval=0))
        await pub.frame()
        async with raw(server.port, "s") as sub:
            await subscribe(sub, "t")
            pub.send(publish("t", b"new", 2))
            assert (await sub.packet()).payload == b"new"


async def test_a_client_that_stays_away_gets_what_came_in_order(server: SandboxBroker) -> None:
    async with raw(server.port, "s", session_expiry_interval=60) as sub:
        await subscribe(sub, "t")
    async with raw(server.port, "p") as pub:
        for number in range(1, 6):
            pub.send(publish("t", b"%d" % number, number))
            await pub.frame()
    async with raw(server.port, "s", clean_start=False, session_expiry_interval=60, receive_max=2) as sub:
        first = [await sub.packet() for _ in range(2)]
        sub.send(b"\xc0\x00")
        assert await sub.frame() == b"\xd0\x00", "beyond the client's Receive Maximum"
        sub.send(mqtt5.PubAckPacket(first[0].packet_id).write())
        third = await sub.packet()
        assert [one.payload for one in (*first, third)] == [b"1", b"2", b"3"]
    async with raw(server.port, "s", clean_start=False) as sub:
        rest = [await sub.packet() for _ in range(4)]
        assert [(one.payload, one.duplicate) for one in rest] == [
            (b"2", True),
            (b"3", True),
            (b"4", False),
            (b"5", False),
        ]


async def test_a_queue_has_an_end_and_a_session_too() -> None:
    async with SandboxBroker(limits=Limits(queued=3)) as server, raw(server.port, "p") as pub:
        async with raw(server.port, "s", session_expiry_interval=60) as sub:
            await subscribe(sub, "t")
        await soon(lambda: len(server.clients) == 1)
        pub.send(*(publish("t", b"%d" % number, number) for number in range(1, 6)))
        assert [(await pub.frame())[0] for _ in range(5)] == [0x40] * 5
        async with raw(server.port, "s", clean_start=False) as sub:
            assert [(await sub.packet()).payload for _ in range(3)] == [b"1", b"2", b"3"]
        await soon(lambda: len(server.clients) == 1)
        async with raw(server.port, "s", connect=False) as sub:
            sub.send(mqtt5.ConnectPacket("s").write())
            assert (await sub.packet()).session_present is False


async def test_a_packet_larger_than_the_client_takes_is_not_sent(server: SandboxBroker) -> None:
    async with raw(server.port, "s", max_packet_size=50) as sub, raw(server.port, "p") as pub:
        await subscribe(sub, "t")
        pub.send(publish("t", b"x" * 100, 1), publish("t", b"small", 2))
        assert (await sub.packet()).payload == b"small"


# -- wills and takeover --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("reason", "sent"), [(None, True), (0x04, True), (0x00, False)])
async def test_the_will_is_sent_unless_the_client_left_properly(
    server: SandboxBroker, reason: int | None, sent: bool
) -> None:
    will = mqtt5.Will("w", payload=b"will", qos=QOS[1], retain=True)
    async with raw(server.port, "watch") as watch:
        await subscribe(watch, "w")
        async with raw(server.port, "c", will=will) as client:
            if reason is not None:
                client.send(bytes([0xE0, 1, reason]))
        await soon(lambda: len(server.clients) == 1)
        watch.send(publish("w", b"probe"))
        assert (await watch.packet()).payload == (b"will" if sent else b"probe")


async def test_a_delayed_will_is_not_sent_to_those_who_come_back(server: SandboxBroker) -> None:
    will = mqtt5.Will("w", payload=b"will", will_delay_interval=1)
    async with raw(server.port, "watch") as watch:
        await subscribe(watch, "w")
        async with raw(server.port, "c", will=will, session_expiry_interval=60):
            pass
        await soon(lambda: len(server.clients) == 1)
        async with raw(server.port, "c", clean_start=False, session_expiry_interval=60) as back:
            back.send(publish("w", b"back"))
            assert (await watch.packet()).payload == b"back"


async def test_the_same_client_id_takes_the_session_over(server: SandboxBroker) -> None:
    async with raw(server.port, "c", session_expiry_interval=60) as older:
        await subscribe(older, "t")
        async with raw(server.port, "c", clean_start=False, session_expiry_interval=60) as newer:
            assert int((await older.packet()).reason_code) == 0x8E
            assert await older.frame() == b""
            newer.send(publish("t", b"mine"))
            assert (await newer.packet()).payload == b"mine"


# -- hostile clients -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (mqtt5.PublishPacket("t", b"", qos=QOS[2], packet_id=1).write(), 0x9B),
        (mqtt5.PublishPacket("", b"", topic_alias=1).write(), 0x94),
        (publish("t/x").replace(b"t/x", b"t/#"), 0x90),
        (publish("t/x").replace(b"t/x", b"t/\0"), 0x90),
        (publish("t", response_topic="r/x").replace(b"r/x", b"r/+"), 0x90),
        (publish("t/x").replace(b"t/x", b"t/\xff"), 0x81),
        (b"\x30\xff\xff\xff\x7f", 0x95),
        (mqtt5.ConnectPacket("again").write(), 0x82),
    ],
)
async def test_what_a_client_may_not_send_ends_its_connection_with_the_reason(
    server: SandboxBroker, frame: bytes, code: int
) -> None:
    async with raw(server.port) as peer:
        peer.send(frame)
        assert (await peer.frame())[2] == code
        assert await peer.frame() == b""


async def test_bad_and_shared_subscriptions_are_refused_one_by_one(server: SandboxBroker) -> None:
    async with raw(server.port) as peer:
        packet = mqtt5.SubscribePacket(1, [mqtt5.TopicFilter(one) for one in ("axb", "ok", "$share/g/t")]).write()
        peer.send(packet.replace(b"axb", b"a+b"))
        assert [int(code) for code in (await peer.packet()).reason_codes] == [0x8F, 1, 0x9E]
        peer.send(mqtt5.UnsubscribePacket(2, ["ok", "never"]).write())
        assert [int(code) for code in (await peer.packet()).reason_codes] == [0, 0x11]


@pytest.mark.slow
async def test_a_client_that_never_reads_its_answers_is_not_listened_to(server: SandboxBroker) -> None:
    """2 million answers of 4 bytes would be 8 MB of memory; the broker stops reading long before."""
    frames = b"".join(publish("t", b"", number) for number in range(1, 20_001))
    async with raw(server.port) as peer:
        peer.writer.transport.pause_reading()  # type: ignore[attr-defined]
        [client] = server.clients
        assert client._transport is not None
        # else the kernel holds half a million answers between the two before anybody notices
        client._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        written = 0
        while client.writable and written < 200:
            peer.send(frames)
            written += 1
            await asyncio.sleep(0)
        await soon(lambda: not client.writable)
        assert client._transport.get_write_buffer_size() < 4_000_000
    async with raw(server.port, "other") as peer:
        peer.send(b"\xc0\x00")
        assert await peer.frame() == b"\xd0\x00"


@examples(max_examples=60, deadline=None)
@given(st.lists(st.binary(max_size=60), min_size=1, max_size=5), st.booleans())
def test_no_bytes_stop_the_broker(chunks: list[bytes], connect: bool) -> None:
    async def attack() -> None:
        async with SandboxBroker() as server:
            async with raw(server.port, connect=connect) as peer:
                peer.send(*chunks)
                peer.writer.write_eof()
                while await peer.frame():
                    pass
            async with raw(server.port, "alive") as peer:
                peer.send(b"\xc0\x00")
                assert await peer.frame() == b"\xd0\x00"

    asyncio.run(attack())


# -- real clients --------------------------------------------------------------------------------------------------


@pytest.mark.slow
async def test_mosquittos_own_clients(server: SandboxBroker) -> None:
    common = ["-h", "127.0.0.1", "-p", str(server.port), "-V", "mqttv5", "-q", "1"]
    sub = await asyncio.create_subprocess_exec(
        "mosquitto_sub", *common, "-t", "a/#", "-C", "2", "-F", "%t %r %D %p", stdout=subprocess.PIPE
    )
    await soon(lambda: any(one._session and one._session.subscriptions for one in server.clients))
    for more in (["-t", "a/b", "-m", "hi"], ["-t", "a", "-m", "kept", "-r", "-D", "publish", "response-topic", "r"]):
        pub = await asyncio.create_subprocess_exec("mosquitto_pub", *common, *more)
        assert await pub.wait() == 0
    output, _ = await asyncio.wait_for(sub.communicate(), PATIENCE_S)
    lines = output.decode().splitlines()
    assert lines[0].endswith("hi")
    assert lines[1].startswith("a ")
    assert lines[1].endswith("kept")
    old = await asyncio.create_subprocess_exec(
        "mosquitto_pub", *common[:4], "-V", "311", "-t", "a", "-m", "x", stderr=subprocess.PIPE
    )
    _, errors = await old.communicate()
    assert b"unacceptable protocol version" in errors


async def test_aiomqtt_asks_and_is_answered(server: SandboxBroker) -> None:
    v5 = aiomqtt.ProtocolVersion.V5
    async with (
        running(settings(server.port), "ask") as (daemon, asked),
        aiomqtt.Client("127.0.0.1", server.port, protocol=v5, identifier="content") as client,
    ):
        await client.subscribe("reply", qos=1)
        await client.publish("ask", b"q", qos=1)
        await asked.until(lambda: bool(asked.messages))
        daemon.publish("reply", asked.payloads[0] + b"!")
        async with asyncio.timeout(PATIENCE_S):
            message = await anext(aiter(client.messages))
        assert message.payload == b"q!"


async def test_serve_says_where_it_listens_and_ends_when_cancelled(tmp_path: Path) -> None:
    (tmp_path / "acl").write_text("topic #\n")
    (tmp_path / "passwords").write_text("u:p\n")
    where: asyncio.Future[tuple[str, int]] = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(
        serve(
            "127.0.0.1",
            0,
            password_file=tmp_path / "passwords",
            acl_file=tmp_path / "acl",
            ready=lambda host, port: where.set_result((host, port)),
        )
    )
    _, port = await asyncio.wait_for(where, PATIENCE_S)
    async with running(settings(port, username="u", password=b"p"), "t", will=Will("w", b"")) as (broker, seen):
        task.cancel()
        await seen.until(lambda: bool(seen.losses))
        assert "shutting down" in seen.losses[0]
        assert not broker.connected
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_daemon_that_is_cut_off_again_and_again_loses_nothing(server: SandboxBroker) -> None:
    async with (
        running(settings(server.port), "ask") as (daemon, asked),
        running(settings(server.port, "s"), "x") as (other, its),
    ):
        for number in range(500):
            other.publish("ask", b"%d" % number)
            if number % 100 == 50:
                await asked.until(lambda: bool(asked.messages))
                drop(daemon)
                drop(other)
                cut = number // 100 + 1
                await asked.until(lambda cut=cut: len(asked.connects) > cut)
                await its.until(lambda cut=cut: len(its.connects) > cut)
        await asked.until(lambda: {b"%d" % number for number in range(500)} <= set(asked.payloads))
        assert daemon.reconnects == 5
