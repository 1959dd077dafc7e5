"""What is asked comes over some connections, what is said goes over others, and together they are as one."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from zlib import crc32

import pytest
from mqtt_help import WAIT_S, Recorder, drop, running, settings
from servers import Mosquitto
from waiting import soon

from channeld.adapters.broker import Broker, Exchange, Inbound, Will
from channeld.adapters.broker.exchange import ASKED_OVER, ASKS, SAID_OVER, SAYS
from channeld.adapters.broker.strangers import MOST_PER_S

pytestmark = pytest.mark.slow


@asynccontextmanager
async def exchanging(
    port: int, *servers: str, ack: bool = True, reply: bool = False
) -> AsyncIterator[tuple[Exchange, Recorder]]:
    """An `Exchange` that hears `servers` (else one, which asks on `ask`), and has a will on `status`, connected; one
    that answers, if `reply`.
    """
    recorder = Recorder(ack=ack)

    def answer(messages: list[Inbound]) -> None:
        for message in messages:
            if exchange.publish("reply", message.payload):
                exchange.ack(message)

    exchange = Exchange(
        settings(port),
        subscriptions=("own",),
        everybody=("ask", "ask/+"),
        will=Will("status", b"gone"),
        on_messages=answer if reply else recorder.on_messages,
        on_connected=recorder.on_connected,
        on_lost=recorder.on_lost,
    )
    exchange.hear({server: (f"ask/{server}",) for server in servers} or {"one": ("ask",)})
    recorder.broker = exchange  # type: ignore[assignment]
    task = asyncio.create_task(exchange.run())
    try:
        await soon(lambda: exchange.connected)
        yield exchange, recorder
    finally:
        await exchange.stop(WAIT_S)
        await asyncio.wait_for(task, WAIT_S)


def lane(daemon: Exchange, topic: str) -> Broker:
    """The connection over which is asked on a topic."""
    return daemon._asks.brokers[daemon._asks.lane_of[topic]]


async def test_asked_over_one_and_answered_over_the_other_and_a_clean_stop_leaves_no_will(tmp_path: Path) -> None:
    async with Mosquitto(tmp_path) as real, running(settings(real.port, "other"), "reply", "status") as (other, seen):
        async with exchanging(real.port) as (daemon, asked):
            assert asked.connects == [False], "told once"
            for number in range(3):
                other.publish("ask", b"%d" % number)
            await asked.until(lambda: len(asked.messages) == 3)
            for message in asked.messages:
                assert daemon.publish("reply", message.payload, line="a")
            assert await daemon.flush(5)
            assert [broker.published for broker in (daemon._own, *daemon._asks.brokers)] == [0] * (1 + ASKED_OVER)
            assert [broker.received for broker in daemon._says.brokers] == [0] * SAID_OVER
            await seen.until(lambda: len(seen.messages) == 3)
            other.publish("own", b"no request")
            await asked.until(lambda: len(asked.messages) == 4)
            assert daemon.asked == 3
        other.publish("reply", b"end")
        await seen.until(lambda: len(seen.messages) == 4)
        assert seen.payloads == [b"0", b"1", b"2", b"end"]


async def test_what_is_to_leave_at_once_waits_for_nothing_else_in_this_turn_of_the_loop(tmp_path: Path) -> None:
    """The loop stands still until somebody else has it."""
    async with Mosquitto(tmp_path) as real, exchanging(real.port) as (daemon, _):
        assert daemon.publish("reply", b"1", retain=True)
        daemon.send()
        asked = ["mosquitto_sub", "-p", str(real.port), "-t", "reply", "-C", "1", "-W", str(int(WAIT_S))]
        done = subprocess.run(asked, capture_output=True, text=True, check=True)  # noqa: ASYNC221
        assert done.stdout == "1\n"


async def test_nothing_is_acknowledged_while_stopping_whose_reply_does_not_leave(tmp_path: Path) -> None:
    """What comes in the midst of a stop is answered, or comes again to the next one."""
    asks = 0
    async with Mosquitto(tmp_path) as real, running(settings(real.port, "other"), "reply") as (other, seen):

        async def ask() -> None:
            nonlocal asks
            while True:
                asks += other.publish("ask", b"%d" % asks)
                await asyncio.sleep(0.0005)

        async with exchanging(real.port):
            pass  # from now on the broker keeps what is asked
        for _ in range(5):
            asking = asyncio.create_task(ask())
            async with exchanging(real.port, reply=True):
                before = len(seen.payloads)
                await seen.until(lambda known=before: len(seen.payloads) > known + 50)  # type: ignore[misc]
            asking.cancel()
        async with exchanging(real.port, reply=True):
            await seen.until(lambda: len(set(seen.payloads)) == asks)


@pytest.mark.parametrize("which", ["own", "asks", "says"])
async def test_when_one_is_lost_it_comes_back_and_nothing_is_lost_with_it(tmp_path: Path, which: str) -> None:
    async with Mosquitto(tmp_path) as real, running(settings(real.port, "other"), "reply") as (other, seen):
        async with exchanging(real.port, ack=False) as (daemon, asked):
            other.publish("ask", b"before")
            await asked.until(lambda: bool(asked.messages))
            drop({"own": daemon._own, "asks": lane(daemon, "ask"), "says": daemon._says.brokers[0]}[which])
            await soon(lambda: not daemon.connected)
            assert daemon.publish("reply", b"meanwhile")
            await soon(lambda: daemon.connected)
            assert await daemon.flush(5)
            assert daemon.reconnects == 1
            await seen.until(lambda: b"meanwhile" in seen.payloads)
            times = 2 if which == "asks" else 1
            await asked.until(lambda: len([one for one in asked.messages if one.connection]) == times)
            assert set(asked.payloads) == {b"before"}
            assert asked.connects == [False, True][: 2 if which == "own" else 1]


async def test_the_second_is_not_tried_before_the_first_was_taken_and_a_stop_does_not_wait_for_it(
    tmp_path: Path,
) -> None:
    async with Mosquitto(tmp_path, passwords="other:x\n", extra="log_type all") as real:
        exchange = Exchange(
            settings(real.port),
            subscriptions=("ask",),
            will=None,
            on_messages=lambda messages: None,
            on_connected=lambda present: None,
            on_lost=lambda reason: None,
        )
        task = asyncio.create_task(exchange.run())
        await soon(lambda: exchange.reconnects > 2)
        assert "not authorized" in (exchange.last_error or "")
        assert {broker.last_error for broker in exchange._all[1:]} == {None}
        await exchange.stop(0.1)
        await asyncio.wait_for(task, WAIT_S)


async def test_each_has_a_name_of_its_own() -> None:
    exchange = Exchange(
        settings(1),
        subscriptions=(),
        will=None,
        on_messages=lambda messages: None,
        on_connected=lambda present: None,
        on_lost=lambda reason: None,
    )
    own, *names = [broker.settings.client_id for broker in exchange._all]
    asks = [f"{own}{ASKS}{number}" for number in range(1, ASKED_OVER + 1)]
    says = [f"{own}{SAYS}{number}" for number in range(1, SAID_OVER + 1)]
    assert names == asks + says


async def test_a_flood_has_a_connection_of_its_own(tmp_path: Path) -> None:
    """Whoever asks little does not wait behind it, however often it changes its connection."""
    async with Mosquitto(tmp_path) as real, running(settings(real.port, "other"), "reply/#") as (_, seen):
        async with exchanging(real.port) as (daemon, _):
            says, shared = daemon._says, 0
            for number in range(4000):
                assert daemon.publish("reply/flood", b"%d" % number, line="flood")
                if number % 100 == 99:
                    for line in ("a", "b"):
                        assert daemon.publish(f"reply/{line}", b"%d" % number, line=line)
                        shared += says._lanes[line].broker is says._lanes["flood"].broker
                    await asyncio.sleep(0)
            assert shared == 0
            assert sum(broker.published for broker in says.brokers) == 4080
            assert await daemon.flush(WAIT_S)
            assert says._lanes == {}, "nothing is remembered of a line that is done"
            await seen.until(lambda: len(seen.messages) == 4080)
        flood = [int(message.payload) for message in seen.messages if message.topic == "reply/flood"]
        assert flood == list(range(4000)), "in its order"


async def test_who_was_there_before_a_flood_leaves_but_for_what_has_to_be_in_order(tmp_path: Path) -> None:
    async with Mosquitto(tmp_path) as real, running(settings(real.port, "other"), "reply/#") as (_, seen):
        async with exchanging(real.port) as (daemon, _):
            says, done = daemon._says, list[bool]()
            assert daemon.publish("reply/a", b"before", line="a", told=done.append)
            assert daemon.publish("reply/b", b"before", line="b")
            assert daemon.publish("reply/c", b"before", line="c", retain=True)
            assert daemon.publish("reply/none", b"before")
            for number in range(1000):
                assert daemon.publish("reply/flood", b"%d" % number, line="flood")
            assert len({lane.broker for lane in says._lanes.values()}) == 1, "where all ask little"
            for line in ("a", "b", "c", ""):
                assert daemon.publish(f"reply/{line or 'none'}", b"after", line=line)
            flood = says._lanes["flood"].broker
            assert [line for line, lane in says._lanes.items() if lane.broker is not flood] == ["b"]
            assert await daemon.flush(WAIT_S)
            assert (says._lanes, done) == ({}, [True])
            assert daemon.publish("reply/a", b"last", line="a")
            assert await daemon.flush(WAIT_S)
            await seen.until(lambda: len(seen.messages) == 1009)
        for line, last in (("a", [b"last"]), ("c", []), ("none", [])):
            assert [m.payload for m in seen.messages if m.topic == f"reply/{line}"] == [b"before", b"after", *last]


async def test_one_that_is_lost_holds_up_only_what_was_on_its_way_there(tmp_path: Path) -> None:
    async with Mosquitto(tmp_path) as real, running(settings(real.port, "other"), "reply/#") as (_, seen):
        async with exchanging(real.port) as (daemon, _):
            first, whole = daemon._says.brokers[0], list[bool]()
            daemon.on_whole = lambda: whole.append(daemon.connected)
            kept, first.settings = first.settings, settings(1)
            drop(first)
            assert daemon.publish("reply/b", b"caught", line="b")
            assert daemon.publish("reply/c", b"caught", line="c", retain=True)
            await soon(lambda: not first.connected)
            assert not daemon.connected
            for number in range(100):
                for line in ("a", "b"):
                    assert daemon.publish(f"reply/{line}", b"%d" % number, line=line)
            assert daemon.publish("reply/c", b"in its order", line="c")
            await seen.until(lambda: len(seen.messages) == 200)
            assert {message.topic for message in seen.messages} == {"reply/a", "reply/b"}
            assert not whole
            first.settings = kept
            await seen.until(lambda: len(seen.messages) == 203)
            assert [m.payload for m in seen.messages if m.topic == "reply/c"] == [b"caught", b"in its order"]
            assert whole == [True]


async def test_what_is_held_back_stays_with_the_broker_and_the_connection_stands(tmp_path: Path) -> None:
    async with Mosquitto(tmp_path) as real, running(settings(real.port, "other")) as (other, _):
        async with exchanging(real.port) as (daemon, asked):
            connection = lane(daemon, "ask")._connection
            assert connection is not None
            daemon.hold_back(True)
            for number in range(3000):
                assert other.publish("ask", b"%d" % number)
            assert await other.flush(WAIT_S)
            for _ in range(3):
                connection._on_tick(60)  # it hears nothing, and that is no silence of the broker
            assert asked.messages == []
            daemon.hold_back(False)
            await asked.until(lambda: len(asked.messages) == 3000)
            assert asked.payloads == [b"%d" % number for number in range(3000)]
            assert (asked.losses, daemon.reconnects) == ([], 0)


async def test_what_is_held_back_is_held_back_by_the_next_connection_too(tmp_path: Path) -> None:
    async with Mosquitto(tmp_path) as real, running(settings(real.port, "other")) as (other, _):
        async with exchanging(real.port, ack=False) as (daemon, asked):
            daemon.hold_back(True)
            asks = lane(daemon, "ask")
            drop(asks)
            await soon(lambda: not asks.connected)
            await soon(lambda: daemon.connected)
            connection = asks._connection
            assert connection is not None
            assert connection._held_back
            assert other.publish("ask", b"x")
            assert await other.flush(WAIT_S)
            daemon.hold_back(False)
            await asked.until(lambda: asked.payloads == [b"x"])


# -- who asks over which ----------------------------------------------------------------------------------------------


async def test_every_server_has_a_queue_of_its_own_as_far_as_there_are_connections(tmp_path: Path) -> None:
    """Whatever one of them asks, it waits in nobody's way."""
    servers = [f"s{number}" for number in range(ASKED_OVER)]
    async with Mosquitto(tmp_path) as real, running(settings(real.port, "other")) as (other, _):
        async with exchanging(real.port, *servers, ack=False) as (daemon, asked):
            flooded = lane(daemon, "ask/s3")
            flooded.hold_back(True)
            for number in range(5000):
                assert other.publish("ask/s3", b"%d" % number)
            for server in servers:
                assert other.publish(f"ask/{server}", b"lone")
            await asked.until(lambda: len(asked.messages) == len(servers) - 1)
            assert sorted(message.topic for message in asked.messages) == sorted(
                f"ask/{server}" for server in servers if server != "s3"
            )


async def test_servers_come_and_go_and_each_is_heard_once_at_qos_1(tmp_path: Path) -> None:
    async with Mosquitto(tmp_path) as real, running(settings(real.port, "other")) as (other, _):
        async with exchanging(real.port, "a", "b") as (daemon, asked):
            daemon.hear({"b": ("ask/b",), "c": ("ask/c",)})
            assert sum(daemon._asks._servers) == 2
            await soon(lambda: daemon._asks.hears("ask/c"))
            await soon(lambda: not any(broker._subscriptions.superfluous() for broker in daemon._asks.brokers))
            for name in "abc":
                assert other.publish(f"ask/{name}", name.encode())
            await asked.until(lambda: len(asked.messages) == 3)
            assert sorted((message.payload, message.connection is not None) for message in asked.messages) == [
                (b"a", False),  # a stranger now, heard at QoS 0
                (b"b", True),
                (b"c", True),
            ]


async def test_what_waits_for_an_earlier_process_elsewhere_is_taken_and_the_place_is_left(tmp_path: Path) -> None:
    """A server that would come before it, and for which its place is the first choice, was put in meanwhile."""
    choice = crc32(b"z") % ASKED_OVER
    rival = next(name for name in map(str, range(1000)) if crc32(name.encode()) % ASKED_OVER == choice)
    async with Mosquitto(tmp_path) as real, running(settings(real.port, "other")) as (other, _):
        async with exchanging(real.port, "z") as (daemon, _):
            assert daemon._asks.lane_of["ask/z"] == choice
        assert other.publish("ask/z", b"while it was away")
        assert await other.flush(WAIT_S)
        async with exchanging(real.port, rival, "z") as (daemon, asked):
            assert daemon._asks.lane_of["ask/z"] != choice
            await asked.until(lambda: asked.payloads == [b"while it was away"])
            await soon(lambda: not daemon._asks.brokers[choice]._subscriptions.superfluous())
            assert other.publish("ask/z", b"now")
            assert await other.flush(WAIT_S)
            assert other.publish(f"ask/{rival}", b"end")
            await asked.until(lambda: {b"end", b"now"} <= set(asked.payloads))
            assert sorted(asked.payloads) == [b"end", b"now", b"while it was away"]


async def test_strangers_are_heard_as_long_as_little_is_asked_and_nobody_is_heard_twice(tmp_path: Path) -> None:
    async with Mosquitto(tmp_path) as real, running(settings(real.port, "other")) as (other, _):
        async with exchanging(real.port, "a") as (daemon, asked):
            assert other.publish("ask/a", b"known")
            assert other.publish("ask/stranger", b"unknown")
            await asked.until(lambda: len(asked.messages) == 2)
            for number in range(3 * MOST_PER_S):
                assert other.publish("ask/a", b"%d" % number)
            assert await other.flush(WAIT_S)
            await asked.until(lambda: len(asked.messages) == 2 + 3 * MOST_PER_S)
            await soon(lambda: not daemon._own._subscriptions.superfluous())
            assert other.publish("ask/stranger", b"unheard")
            assert await other.flush(WAIT_S)
            assert other.publish("own", b"x")
            await asked.until(lambda: b"x" in asked.payloads)
            assert b"unheard" not in asked.payloads
            daemon._strangers.listen()
            await soon(lambda: not daemon._own._subscriptions.missing())
            assert other.publish("ask/stranger", b"heard again")
            await asked.until(lambda: b"heard again" in asked.payloads)
            assert len(asked.messages) == len(set(asked.payloads)) == 4 + 3 * MOST_PER_S


async def test_whatever_strangers_send_is_bounded_and_nothing_of_it_is_taken_while_held_back(tmp_path: Path) -> None:
    """Retained or not, many or large: at QoS 0 it could not be left with the broker."""
    async with Mosquitto(tmp_path) as real, running(settings(real.port, "other")) as (other, _):
        async with exchanging(real.port, "a") as (daemon, asked):
            await soon(lambda: not daemon._own._subscriptions.missing())
            daemon.hold_back(True)
            assert other.publish("ask/stranger", b"held back")
            assert other.publish("own", b"own")
            await asked.until(lambda: asked.payloads == [b"own"])
            daemon.hold_back(False)
            for retain, size in ((True, 10), (False, 500_000)):
                daemon._strangers.listen()
                await soon(lambda: not daemon._own._subscriptions.missing())
                before, count = len(asked.messages), 4 * MOST_PER_S if size == 10 else 40
                for _ in range(count):
                    other.publish("ask/stranger", b"x" * size, retain=retain)
                    if other.queued_out > 5000:
                        await soon(lambda: other.queued_out < 2500)
                assert await other.flush(WAIT_S)
                end = b"end %d" % size
                assert other.publish("own", end)
                await asked.until(lambda wanted=end: wanted in asked.payloads)  # type: ignore[misc]
                assert 1 < len(asked.messages) - before < count
