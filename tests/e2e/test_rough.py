"""A rough network and ruthless neighbours: whatever they do, requests are answered, once, and memory does not grow."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing, suppress
from pathlib import Path

import aiomqtt
import pytest
from waiting import until

from channeld.sandbox.stage import PATIENCE_S, Server, Stage
from e2e.attack import CAPS, PREFIX, ROOMY, link, resident_kib
from e2e.test_crash import repeat_until_answered, signed_in_store
from e2e.world import NODELAY, XRP, ContentServer, World, accounts_for, content_server

pytestmark = pytest.mark.slow

RICH = 2_000_000 * XRP
CUTS = 8
MUCH_KIB = 40_000
"""More than an answered request may ever cost, times those in this file."""


def requests(count: int, name: str = "r") -> dict[str, str]:
    return {f"{name}{n}": json.dumps({"id": f"{name}{n}", "drops": "7"}) for n in range(count)}


async def stage_for(world: World, *names: str, start: bool = True, port: int | None = None) -> Stage:
    """A daemon on which each of these servers has a channel that is never empty."""
    payees = {name: f"{world.payee.address}:{n}" for n, name in enumerate(names)}
    servers = [Server(name, [payee], caps=CAPS) for name, payee in payees.items()]
    stage = await world.stage(servers, policy=ROOMY, treasury=RICH, start=False)
    if port is not None:
        stage.mqtt_port = port
        stage.write()
    if start:
        await stage.start()
        await asyncio.gather(*(open_channel(world, name) for name in names))
    return stage


async def open_channel(world: World, name: str) -> None:
    async with ContentServer(name, world.broker.port) as server:
        await server.buy({"id": "first", "drops": "7"})


async def ask_all(server: ContentServer, wanted: dict[str, str]) -> None:
    """Ask each once, never again, and wait for all answers."""
    for payload in wanted.values():
        await server.publish(payload)
    await until(lambda: all(i in server.accepted for i in wanted), "an answer to every request")


# -- clients of every kind -------------------------------------------------------------------------------------------


async def test_requests_at_every_qos_of_both_versions_are_answered(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        await stage_for(world, "a")
        for version in (aiomqtt.ProtocolVersion.V311, aiomqtt.ProtocolVersion.V5):
            for qos in (0, 1, 2):
                more = {"protocol": version, "socket_options": NODELAY}
                async with aiomqtt.Client("127.0.0.1", world.broker.port, **more) as client:
                    await client.subscribe(f"{PREFIX}/servers/a/reply", qos=qos)
                    wanted = requests(20, f"{version.value}-{qos}-")
                    for payload in wanted.values():
                        await client.publish(f"{PREFIX}/servers/a/claim", payload, qos=qos)
                    async with asyncio.timeout(PATIENCE_S):
                        async for message in client.messages:
                            reply = json.loads(message.payload)  # type: ignore[arg-type]
                            assert reply["status"] == "accepted"
                            del wanted[reply["id"]]
                            if not wanted:
                                break


# -- connections that end --------------------------------------------------------------------------------------------


class Cutter:
    """Passes bytes on between whoever connects and the broker, until `cut`."""

    def __init__(self, port: int) -> None:
        self.cuts, self.connects = 0, 0
        self._to, self._writers = port, list[asyncio.StreamWriter]()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connects += 1
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._to)
        self._writers += [writer, far_writer]
        with suppress(OSError):
            await asyncio.gather(self._pass(reader, far_writer), self._pass(far_reader, writer))

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
        writer.close()

    def cut(self) -> None:
        """End every connection, whatever is on its way."""
        self.cuts += bool(self._writers)
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()


@asynccontextmanager
async def cutter(port: int) -> AsyncIterator[tuple[Cutter, int]]:
    made = Cutter(port)
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    try:
        yield made, server.sockets[0].getsockname()[1]
    finally:
        server.close()
        made.cut()


async def test_a_daemon_that_is_cut_off_every_second_answers_everything_once(tmp_path: Path) -> None:
    async with World(tmp_path) as world, cutter(world.broker.port) as (between, port):
        stage = await stage_for(world, "a", port=port)
        async with content_server(world) as server:
            wanted = requests(3000)
            asking = asyncio.create_task(repeat_until_answered(server, wanted))
            while between.cuts < CUTS or (between.cuts < 2 * CUTS and not asking.done()):
                await asyncio.sleep(1)
                between.cut()
            await asking
            await stage.ready()
            again = await server.ask(json.loads(wanted["r17"]))
            assert again["replayed"] is True
            spent = {channel: amount - 7 for channel, amount in signed_in_store(stage).items()}
            assert sum(spent.values()) == 7 * len(wanted), "each was debited once"
        assert between.connects > CUTS / 2, "the daemon came back every time"


async def test_a_storm_of_connections_hinders_nobody(tmp_path: Path) -> None:
    """Others connect at the rate of 10 000 a minute, some properly, some with nonsense."""
    async with World(tmp_path) as world:
        stage = await stage_for(world, "a")
        storming = Storm(world.broker.port)
        task = asyncio.create_task(storming.run(per_s=170))
        async with content_server(world) as server:
            answered = 0
            while answered < 100 or storming.came < 1000:
                assert not task.done()
                await server.ask({"id": f"q{answered}", "drops": "7"})
                answered += 1
        task.cancel()
        assert (await stage.status())["mqtt"]["reconnects"] == 0


class Storm:
    """Clients that come and go; `came` counts them."""

    def __init__(self, port: int) -> None:
        self.came, self._port = 0, port

    async def run(self, per_s: int) -> None:
        """So many a second, until cancelled."""
        hello = (
            b"\x10\x10\0\x04MQTT\x04\x02\0\x3c\0\x04st%02d",
            b"\x10\x10\0\x04MQTT\x04\x02\0\x3c\0\x04daem",
            b"\xff" * 40,
        )
        loop = asyncio.get_running_loop()
        began = loop.time()
        while True:
            reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
            said = hello[self.came % 3]
            writer.write(said % (self.came % 100) if b"%" in said else said)
            with suppress(OSError):
                await reader.read(4)
            writer.transport.abort()
            self.came += 1
            await asyncio.sleep(max(0.0, began + self.came / per_s - loop.time()))


# -- servers that do not take their answers --------------------------------------------------------------------------


async def test_a_server_that_never_acknowledges_hinders_nobody(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        stage = await stage_for(world, "deaf", "a")
        before = resident_kib(stage.daemon.pid)
        heard: list[bytes] = []
        deaf = await link(world.broker.port, "deaf", lambda topic, payload: heard.append(payload), qos=1)
        for n in range(6000):
            deaf.publish(f"{PREFIX}/servers/deaf/claim".encode(), b'{"id":"d%d","drops":"7"}' % n, 1)
            if n % 500 == 0:
                await deaf.ping()
        async with content_server(world) as server:
            await ask_all(server, requests(200))
        await until(lambda: len(heard) >= 6000, what="the deaf one's answers")
        assert resident_kib(stage.daemon.pid) - before < MUCH_KIB
        deaf.close()


async def test_a_server_that_vanishes_with_ten_thousand_replies_due(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        stage = await stage_for(world, "gone", "a")
        before = resident_kib(stage.daemon.pid)
        gone = await link(world.broker.port, "gone", lambda topic, payload: None, qos=1)
        topic = f"{PREFIX}/servers/gone/claim".encode()
        for n in range(10_000):
            gone.publish(topic, b'{"id":"g%d","drops":"7"}' % n, 1)
        await gone.ping()
        gone.close()
        async with content_server(world) as server:
            await ask_all(server, requests(200))
        async with content_server(world, "gone") as back:
            await repeat_until_answered(back, requests(10_000, "g"))
            accounts_for_but_first(back)
        signed = sum(signed_in_store(stage).values())
        assert signed == 7 * (10_000 + 200 + 2), "each was debited once"
        assert resident_kib(stage.daemon.pid) - before < MUCH_KIB


def accounts_for_but_first(server: ContentServer) -> None:
    """As `accounts_for`, where the first seven drops were bought by an id that is not asked again here."""
    first = {"status": "accepted", "drops": "7", "covers": {"from": "0", "to": "7"}}
    some = next(iter(server.accepted.values()))
    server.accepted["first"] = {**first, "claim": {**some["claim"], "amount": "7"}}
    accounts_for([server])


# -- two of a name ---------------------------------------------------------------------------------------------------


async def test_two_daemons_of_one_name_never_both_issue_and_the_first_goes_on_alone(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        first = await stage_for(world, "a")
        second = await world.stage([Server("a", [world.payee.address], caps=CAPS)], start=False)
        await second.start(ready=False)
        await until(lambda: speaks_of_another(first) or speaks_of_another(second), what="one of them says so")
        async with content_server(world) as server:
            for n in range(20):
                with suppress(TimeoutError):
                    await server.ask({"id": f"two-{n}", "drops": "7"}, timeout_s=0.25)
            await second.daemon.stop()
            await first.ready()
            await repeat_until_answered(server, requests(20))
            issuers = {reply["source_account"] for reply in server.accepted.values()}
        assert issuers == {first.wallet.address}
        assert signed_in_store(second) == {}


def speaks_of_another(stage: Stage) -> bool:
    text = stage.get("/api/v1/status")[1]
    return "another daemon says channeld/v1/daemons/channeld-1/status" in text


# -- a store that stalls ---------------------------------------------------------------------------------------------


async def test_while_the_store_stalls_the_broker_keeps_the_requests(tmp_path: Path) -> None:
    """Somebody holds the store's lock: nothing is answered or acknowledged, so that a kill loses nothing."""
    async with World(tmp_path) as world:
        stage = await stage_for(world, "a")
        wanted = requests(3000)
        async with content_server(world) as server:
            with closing(sqlite3.connect(stage.store, isolation_level=None)) as other:
                other.execute("BEGIN IMMEDIATE")
                before = resident_kib(stage.daemon.pid)
                for payload in wanted.values():
                    await server.publish(payload)
                await asyncio.sleep(2)
                assert server.accepted == {}, "nothing is answered before it is on disk"
                assert resident_kib(stage.daemon.pid) - before < MUCH_KIB
                stage.daemon.kill()
            await stage.start()
            answered = set[str]()
            await until(lambda: answered.update(r["id"] for r in server.received) or len(answered) >= len(wanted))
            assert answered >= set(wanted), "each is answered, if only with `frozen`, though nobody asked again"
            await repeat_until_answered(server, wanted)
            accounts_for_but_first(server)


async def stands_still(count: Callable[[], int]) -> int:
    """What a count is once it has been the same for two seconds."""
    while True:
        before = count()
        await asyncio.sleep(2)
        if count() == before:
            return before


async def test_a_store_that_stalls_for_ten_seconds_is_tried_again_and_nothing_happens_twice(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        stage = await stage_for(world, "a")
        pid, wanted = stage.daemon.pid, requests(2000)
        async with content_server(world) as server:
            asking = asyncio.create_task(repeat_until_answered(server, wanted))
            await until(lambda: len(server.accepted) > 200)
            with closing(sqlite3.connect(stage.store, isolation_level=None)) as other:
                other.execute("BEGIN IMMEDIATE")
                known = await stands_still(lambda: len(server.accepted))  # the last answers are still on their way
                before = resident_kib(pid)
                await asyncio.sleep(8)
                assert len(server.accepted) == known
                assert resident_kib(pid) - before < MUCH_KIB
            await asking
            accounts_for_but_first(server)
            assert sum(signed_in_store(stage).values()) == 7 * (len(wanted) + 1)
        assert stage.daemon.running
        assert stage.daemon.pid == pid
