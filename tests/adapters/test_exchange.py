"""What is asked comes over one connection, what is said goes over another, and together they are one session."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from mqtt_help import WAIT_S, Recorder, drop, running, settings
from servers import Mosquitto
from waiting import soon

from channeld.adapters.broker import Exchange, Inbound, Will
from channeld.adapters.broker.exchange import LANES, SAYS

pytestmark = pytest.mark.slow


@asynccontextmanager
async def exchanging(port: int, *, ack: bool = True, reply: bool = False) -> AsyncIterator[tuple[Exchange, Recorder]]:
    """An `Exchange` that asks for `ask` and has a will on `status`, connected; one that answers, if `reply`."""
    recorder = Recorder(ack=ack)

    def answer(messages: list[Inbound]) -> None:
        for message in messages:
            if exchange.publish("reply", message.payload):
                exchange.ack(message)

    exchange = Exchange(
        settings(port),
        subscriptions=("ask",),
        will=Will("status", b"gone"),
        on_messages=answer if reply else recorder.on_messages,
        on_connected=recorder.on_connected,
        on_lost=recorder.on_lost,
    )
    recorder.broker = exchange  # type: ignore[assignment]
    task = asyncio.create_task(exchange.run())
    try:
        await soon(lambda: exchange.connected)
        yield exchange, recorder
    finally:
        await exchange.stop(WAIT_S)
        await asyncio.wait_for(task, WAIT_S)


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
            assert daemon._asked.published == 0
            assert [broker.received for broker in daemon._says.brokers] == [0] * LANES
            await seen.until(lambda: len(seen.messages) == 3)
        other.publish("reply", b"end")
        await seen.until(lambda: len(seen.messages) == 4)
        assert seen.payloads == [b"0", b"1", b"2", b"end"]


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


@pytest.mark.parametrize("which", ["_asked", "_says"])
async def test_when_either_is_lost_it_comes_back_and_nothing_is_lost_with_it(tmp_path: Path, which: str) -> None:
    async with Mosquitto(tmp_path) as real, running(settings(real.port, "other"), "reply") as (other, seen):
        async with exchanging(real.port, ack=False) as (daemon, asked):
            other.publish("ask", b"before")
            await asked.until(lambda: bool(asked.messages))
            drop(daemon._asked if which == "_asked" else daemon._says.brokers[0])
            await soon(lambda: not daemon.connected)
            assert daemon.publish("reply", b"meanwhile")
            await soon(lambda: daemon.connected)
            assert await daemon.flush(5)
            assert daemon.reconnects == 1
            await seen.until(lambda: b"meanwhile" in seen.payloads)
            again = 2 if which == "_asked" else 1
            await asked.until(lambda: asked.payloads == [b"before"] * again)
            assert asked.connects == [False, True][:again]


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
        assert exchange._says.last_error is None
        await exchange.stop(0.1)
        await asyncio.wait_for(task, WAIT_S)


async def test_each_has_a_name_of_its_own() -> None:
    assert SAYS
    exchange = Exchange(
        settings(1),
        subscriptions=(),
        will=None,
        on_messages=lambda messages: None,
        on_connected=lambda present: None,
        on_lost=lambda reason: None,
    )
    first = exchange._asked.settings.client_id
    names = [broker.settings.client_id for broker in exchange._says.brokers]
    assert names == [f"{first}{SAYS}{number}" for number in range(1, LANES + 1)]


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
            connection = daemon._asked._connection
            assert connection is not None
            daemon.hold_back(True)
            for number in range(3000):
                assert other.publish("ask", b"%d" % number)
            assert await other.flush(WAIT_S)
            for _ in range(3):
                connection._on_tick(60)  # it hears nothing, and that is no silence of the broker
            assert (asked.messages, daemon.unread) == ([], False)
            daemon.hold_back(False)
            await asked.until(lambda: len(asked.messages) == 3000)
            assert asked.payloads == [b"%d" % number for number in range(3000)]
            assert (asked.losses, daemon.reconnects) == ([], 0)


async def test_what_is_held_back_is_held_back_by_the_next_connection_too(tmp_path: Path) -> None:
    async with Mosquitto(tmp_path) as real, running(settings(real.port, "other")) as (other, _):
        async with exchanging(real.port, ack=False) as (daemon, asked):
            daemon.hold_back(True)
            drop(daemon._asked)
            await soon(lambda: asked.connects == [False, True] and daemon.connected)
            connection = daemon._asked._connection
            assert connection is not None
            assert connection._held_back
            assert other.publish("ask", b"x")
            assert await other.flush(WAIT_S)
            daemon.hold_back(False)
            await asked.until(lambda: asked.payloads == [b"x"])
