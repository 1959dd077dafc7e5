"""Several nodes on one ledger: one dies, freezes or lies, and nothing is lost, done twice or believed."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import re
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from waiting import until

from channeld.sandbox.ledger_client import LedgerClient
from channeld.sandbox.stage import POLICY, Server, Stage
from e2e.liar import Liar, Lie, faked_index, hidden_expiration, invented_channel
from e2e.test_crash import job_counts
from e2e.test_outages import IMPATIENT, not_ready
from e2e.world import ContentServer, World, accounts_for, content_server

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

LOAD_S = 300 if os.environ.get("CHANNELD_SOAK") else 24
HELD_S = 9
QUICK_TO_CLOSE = POLICY.replace(
    'close   = { idle = "1h", min_age = "1h" }', 'close   = { idle = "20s", min_age = "1s" }'
)


async def metric(stage: Stage, name: str) -> float:
    _, text = await asyncio.to_thread(stage.get, "/metrics")
    found = re.search(rf"^channeld_{re.escape(name)} (\S+)$", text, re.MULTILINE)
    assert found is not None, name
    return float(found[1])


async def buy_all_the_time(server: ContentServer, payees: list[str], seconds: float) -> int:
    """Ask in bursts, repeat what was not accepted; how many were accepted in the end."""
    loop, requests = asyncio.get_running_loop(), dict[str, str]()
    end = loop.time() + seconds
    for n in itertools.count():
        missing = [i for i in requests if i not in server.accepted]
        if loop.time() > end + 60 or (loop.time() > end and not missing):
            break
        if loop.time() < end:
            item = {"id": str(n), "payee": payees[n % len(payees)], "drops": "20000"}
            requests[str(n)] = json.dumps(item)
            missing.append(str(n))
        for request in missing[-40:]:
            await server.publish(requests[request])
        await asyncio.sleep(0.1)
    assert set(requests) <= set(server.accepted), "everything asked for was accepted in the end"
    return len(requests)


async def kill(node: LedgerClient) -> None:
    await node.result("fault", kind="refuse_connections")
    await node.result("fault", kind="disconnect")


async def freeze(node: LedgerClient) -> None:
    """The connection stays, and nothing comes any more."""
    await node.result("fault", kind="freeze_answers")
    await node.result("fault", kind="stream", mode="skip", of="ledgerClosed", count=1_000_000)


async def heal(node: LedgerClient) -> None:
    await node.result("fault", kind="clear")


class Alarms:
    """Watches `/readyz`: how often it told of trouble with the ledger, and how often that was over."""

    def __init__(self) -> None:
        self.raised = self.cleared = 0

    async def watch(self, stage: Stage) -> None:
        """Until cancelled."""
        while True:
            lagging = await not_ready(stage, "ledger")
            self.raised += lagging and self.raised == self.cleared
            self.cleared += not lagging and self.raised > self.cleared
            await asyncio.sleep(0.1)


async def ledgers_processed_since(stage: Stage, start: tuple[float, float]) -> tuple[int, int]:
    """How many ledgers were processed since, and how many there were."""
    processed, index = await processed_and_index(stage)
    return int(processed - start[0]), int(index - start[1])


async def processed_and_index(stage: Stage) -> tuple[float, float]:
    _, text = await asyncio.to_thread(stage.get, "/metrics")
    found = dict(re.findall(r"^channeld_(ledgers_processed_total|ledger_validated_index) (\S+)$", text, re.MULTILINE))
    return float(found["ledgers_processed_total"]), float(found["ledger_validated_index"])


async def test_two_nodes_die_and_freeze_in_turn_under_load(tmp_path: Path) -> None:
    async with World(tmp_path, nodes=2) as world, AsyncExitStack() as stack:
        nodes = [await stack.enter_async_context(LedgerClient(url)) for url in world.ledger_urls]
        payees = [f"{world.payee.address}:{tag}" for tag in range(3)]
        stage = await world.stage([Server("a", payees)], policy=IMPATIENT)
        async with content_server(world) as server:
            start, alarms, troubles = await processed_and_index(stage), Alarms(), 0
            watching = asyncio.create_task(alarms.watch(stage))
            buying = asyncio.create_task(buy_all_the_time(server, payees, LOAD_S))
            for trouble in itertools.cycle([kill, freeze]):
                if buying.done():
                    break
                node = nodes[world.ledger_urls.index((await stage.status())["ledger"]["endpoint"])]
                await trouble(node)
                troubles += 1
                await asyncio.sleep(HELD_S)
                await heal(node)
                await until(lambda: both_connected(stage), what="both nodes are connected again")
            bought = await buying
            assert len(server.accepted) == bought
            failovers = await metric(stage, "ledger_failovers_total")
            assert failovers >= 2
            await alarm_and_all_clear(stage, nodes)
            await until(lambda: alarms.cleared == alarms.raised > 0, what="the lag was said, and that it is over")
            watching.cancel()
            await world.ledger.__aenter__()  # the faults cut its connection as well
            await until(lambda: in_step(world, stage), what="nothing is open any more")
            accounts_for([server])
            await job_counts(world, stage.wallet.address)
            assert await metric(stage, "foreign_transactions_total") == 0
            assert await believed(stage) == await true(world, stage)
            processed, ledgers = await ledgers_processed_since(stage, start)
            assert processed == ledgers, "every ledger once"
            print(
                f"{troubles} troubles in {LOAD_S} s, {failovers:.0f} failovers, {bought} requests accepted once each,"
                f" {processed} of {ledgers} ledgers processed, {alarms.raised} alarms of which {alarms.cleared} cleared"
            )


async def both_connected(stage: Stage) -> bool:
    endpoints = (await stage.status())["ledger"]["endpoints"]
    return all(node["connected"] for node in endpoints.values())


async def alarm_and_all_clear(stage: Stage, nodes: list[LedgerClient]) -> None:
    """With both frozen the lag is said and stops issuing; afterwards neither is."""
    for node in nodes:
        await freeze(node)
    await until(lambda: not_ready(stage, "validated ledger is"), what="the lag shows in /readyz")
    assert await metric(stage, "ledger_lag_seconds") > 4
    for node in nodes:
        await heal(node)
    await stage.ready()


async def in_step(world: World, stage: Stage) -> bool:
    """Whether the daemon believes of its channels what the ledger says. It may be a ledger behind for a moment."""
    return await believed(stage) == await true(world, stage)


async def believed(stage: Stage) -> dict[str, tuple[Any, ...]]:
    _, text = await asyncio.to_thread(stage.get, "/api/v1/channels")
    return {c["channel_id"]: (c["amount"], c["balance"], c["expiration"]) for c in json.loads(text)["channels"]}


async def true(world: World, stage: Stage) -> dict[str, tuple[Any, ...]]:
    found = await world.ledger.channels(stage.wallet.address)
    return {c["channel_id"]: (c["amount"], c["balance"], c.get("expiration")) for c in found}


@pytest.mark.parametrize("lie", [invented_channel, hidden_expiration, faked_index])
async def test_one_liar_among_three_is_never_believed(tmp_path: Path, lie: Lie) -> None:
    async with World(tmp_path, nodes=3) as world, Liar(world.ledger_urls[2], lie) as liar:
        urls = [liar.url, *world.ledger_urls[:2]]
        payees = [f"{world.payee.address}:{tag}" for tag in range(2)]
        stage = await world.stage([Server("a", payees)], ledgers=urls, quorum=2, policy=QUICK_TO_CLOSE)
        async with content_server(world) as server:
            for n in range(8):
                await server.buy({"id": str(n), "payee": payees[n % 2], "drops": "300000"})
                await world.fault("disconnect", count=1)
            await until(lambda: closing(world, stage), what="the idle channels are closing")
            await until(lambda: in_step(world, stage), what="the daemon believes what the ledger says")
            stage.daemon.kill()
            await world.fault("refuse_connections")  # now nobody but the liar can second the honest node that is left
            await world.fault("disconnect")
            await stage.start(ready=False)
            await until(lambda: liar.lies > 0, what="the liar is asked")
            await world.fault("resume")
            await stage.ready()
            await until(lambda: in_step(world, stage), what="so it does after a new start")
            accounts_for([server])
            assert await metric(stage, "foreign_transactions_total") == 0


async def closing(world: World, stage: Stage) -> bool:
    found = await true(world, stage)
    return bool(found) and all(expiration is not None for _, _, expiration in found.values())
