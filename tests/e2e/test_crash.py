"""SIGKILL is ordinary: whatever was accepted is known afterwards, and nothing happens twice."""

from __future__ import annotations

import asyncio
import json
import random
from contextlib import closing
from pathlib import Path

import pytest

from channeld.adapters.sqlite.reader import read_whole
from channeld.sandbox.stage import PATIENCE_S, POLICY, Server, Stage
from e2e.killing import soak
from e2e.world import XRP, ContentServer, World, accounts_for, content_server

pytestmark = pytest.mark.slow

REQUESTS = 1000
PAYEES = 4
# small channels and low marks, so that opening, funding and settling are under way when the end comes
BUSY = POLICY.replace('min = "2 XRP"', 'min = "3 XRP"').replace('worth = "5 XRP"', 'worth = "2 XRP"')


async def repeat_until_answered(server: ContentServer, requests: dict[str, str]) -> None:
    """What a good content server does: the same id again until it is accepted, no faster than told."""
    async with asyncio.timeout(PATIENCE_S):
        while missing := [i for i in requests if i not in server.accepted]:
            waiting = [server.expect(i) for i in missing]
            for request_id in missing:
                await server.publish(requests[request_id])
            await asyncio.wait(waiting, timeout=3)
            await asyncio.sleep(0.2)


async def job_counts(world: World, wallet: str) -> None:
    """No two transactions did the same job: a payout always pays something new, and no payee has two channels."""
    creates, balances = [], {}
    for entry in await world.history(wallet):
        assert entry["meta"]["TransactionResult"] == "tesSUCCESS", entry["tx_json"]
        tx = entry["tx_json"]
        if tx["TransactionType"] == "PaymentChannelCreate":
            creates.append((tx["Destination"], tx.get("DestinationTag")))
        if tx["TransactionType"] == "PaymentChannelClaim":
            assert int(tx["Balance"]) > balances.get(tx["Channel"], 0)
            balances[tx["Channel"]] = int(tx["Balance"])
    assert len(creates) == len(set(creates))


def signed_in_store(stage: Stage) -> dict[str, int]:
    with closing(read_whole(stage.store)) as db:
        return dict(db.execute("SELECT channel_id, authorized FROM channel"))


async def test_sigkill_in_the_middle_of_1000_requests(tmp_path: Path) -> None:
    rng = random.Random(20)
    async with World(tmp_path) as world:
        payees = [f"{world.payee.address}:{tag}" for tag in range(PAYEES)]
        stage = await world.stage([Server("a", payees)], policy=BUSY)
        async with content_server(world) as server:
            requests = {
                str(n): json.dumps({"id": str(n), "payee": rng.choice(payees), "drops": str(rng.randint(1, XRP // 50))})
                for n in range(REQUESTS)
            }
            asking = asyncio.create_task(repeat_until_answered(server, requests))
            for _ in range(4):
                target = len(server.accepted) + rng.randint(20, 200)
                while len(server.accepted) < min(target, REQUESTS - 50):
                    await asyncio.sleep(0.002)
                stage.daemon.kill()
                await stage.start(ready=False)
            await asking
            assert len(server.accepted) == REQUESTS
            accounts_for([server])
            assert signed_in_store(stage) == server.highest()

            before = server.accepted["17"]
            again = await server.ask(json.loads(requests["17"]))
            assert again["replayed"] is True
            assert {k: before[k] for k in ("claim", "covers", "drops")} == {
                k: again[k] for k in ("claim", "covers", "drops")
            }
            await job_counts(world, stage.wallet.address)
            for channel, amount in server.highest().items():
                node = await world.ledger.result("ledger_entry", payment_channel=channel, ledger_index="validated")
                assert int(node["node"]["Amount"]) >= amount


async def test_daemon_and_broker_are_killed_at_random_moments(tmp_path: Path) -> None:
    """The short form of `scripts/soak claims`."""
    counted = await soak(tmp_path, kills=5, seed=6)
    assert counted["claims"] > 100
    assert counted["replays"] > 100
