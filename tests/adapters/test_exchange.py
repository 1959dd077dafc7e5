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
from channeld.adapters.broker.exchange import SAYS

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
            assert daemon._says.received == 0
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
            drop(getattr(daemon, which))
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


async def test_the_second_has_a_name_of_its_own() -> None:
    assert SAYS
    exchange = Exchange(
        settings(1),
        subscriptions=(),
        will=None,
        on_messages=lambda messages: None,
        on_connected=lambda present: None,
        on_lost=lambda reason: None,
    )
    assert exchange._says.settings.client_id == exchange._asked.settings.client_id + SAYS
