"""More is asked than the broker takes replies: everything is answered, little waits here, and others notice little."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from mqtt_help import WAIT_S, running, settings
from servers import Mosquitto
from waiting import soon

from channeld.adapters.broker import Exchange
from channeld.adapters.gateway import Gateway
from channeld.core.admission import Admission
from channeld.core.limits import Limit
from channeld.core.requests import Answer, Ask, Code, Refusal
from channeld.wire.claims import ClaimReader
from channeld.wire.topics import Topics

TOPICS = Topics("channeld/v1", "d1")
MOST = 500
"""Replies that may wait for the broker."""
ASKED = 10_000


@dataclass
class Desk:
    """A desk behind a gateway, and what was seen of them."""

    gateway: Gateway
    exchange: Exchange
    dropped: list[str] = field(default_factory=list)
    most_due: int = 0


def _frozen(asks: Sequence[Ask]) -> list[Answer]:
    return [Refusal(Code.FROZEN, "decided") for _ in asks]


@asynccontextmanager
async def desk(port: int) -> AsyncIterator[Desk]:
    """A gateway whose desk is quick, behind the broker on `port`; connected."""
    loop, dropped = asyncio.get_running_loop(), list[str]()
    gateway = Gateway(
        TOPICS,
        ClaimReader(0),
        _frozen,
        lambda claims: [],
        most_queued=MOST,
        status=lambda online: b"{}",
        dropped=dropped.append,
        loop_time=loop.time,
        admission=Admission(Limit(1_000_000, 200), dict.fromkeys("ab", Limit(1_000_000, 200))),
        refused=lambda code, count: None,
        nanoseconds=time.monotonic_ns,
        later=loop.call_soon,
    )
    exchange = Exchange(
        settings(port),
        subscriptions=(),
        will=None,
        on_messages=gateway.on_messages,
        on_connected=lambda present: None,
        on_lost=lambda reason: None,
    )
    exchange.hear({server: TOPICS.asked(server) for server in "ab"})
    gateway.outbox, seen = exchange, Desk(gateway, exchange, dropped)

    def room() -> None:
        seen.most_due = max(seen.most_due, exchange.queued_out + gateway._refusals.due)
        gateway.go_on()

    exchange.on_room = room
    task = asyncio.create_task(exchange.run())
    try:
        await soon(lambda: exchange.connected)
        yield seen
    finally:
        await exchange.stop(WAIT_S)
        await asyncio.wait_for(task, WAIT_S)


async def test_a_flood_that_waited_at_the_broker_is_answered_to_the_last_and_little_of_it_waits_here(
    tmp_path: Path,
) -> None:
    """All comes at once, far more than replies can leave in the meantime: the broker has to keep it."""
    async with (
        Mosquitto(tmp_path) as real,
        running(settings(real.port, "a"), "channeld/v1/servers/a/reply") as (a, seen),
    ):
        async with desk(real.port):
            pass  # from now on the broker keeps what is asked
        for number in range(ASKED):
            assert a.publish("channeld/v1/servers/a/claim", b'{"id":"%d","drops":"1"}' % number)
        assert await a.flush(WAIT_S)
        async with desk(real.port) as back:
            await seen.until(lambda: len(seen.messages) >= ASKED)
        said = [json.loads(message.payload) for message in seen.messages]
        assert {reply["id"] for reply in said} == {str(number) for number in range(ASKED)}
        codes = [reply["code"] for reply in said]
        assert set(codes) == {"frozen", "busy"}
        assert all(reply["retry_after_ms"] > 0 for reply in said if reply["code"] == "busy")
        assert back.dropped == []
        assert MOST < back.most_due < ASKED / 2, "what is read at once is taken to its end, and no more"


async def test_a_server_that_is_gone_with_its_replies_due_holds_up_nobody(tmp_path: Path) -> None:
    """The broker keeps them for it, and takes what is for others."""
    async with (
        Mosquitto(tmp_path) as real,
        running(settings(real.port, "b"), "channeld/v1/servers/b/reply") as (b, seen),
    ):
        async with desk(real.port) as here:
            async with running(settings(real.port, "a", session_expiry_s=60), "channeld/v1/servers/a/reply") as (a, _):
                for number in range(ASKED):
                    assert a.publish("channeld/v1/servers/a/claim", b'{"id":"%d","drops":"1"}' % number)
            for number in range(20):
                b.publish("channeld/v1/servers/b/claim", b'{"id":"b%d","drops":"1"}' % number)
                await seen.until(lambda known=number: len(seen.messages) == known + 1)  # type: ignore[misc]
            assert {json.loads(message.payload)["code"] for message in seen.messages} == {"frozen"}
            assert here.dropped == []
