"""A real daemon with rules and budgets, killed while it spends: no budget is passed, and none is forgotten."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from waiting import until

from channeld.adapters.sqlite.reader import read_whole
from channeld.sandbox.stage import POLICY, Server, Stage
from e2e.world import XRP, ContentServer, World, accounts_for, content_server

pytestmark = pytest.mark.slow

PAYEES, DROPS, LIMIT = 3, 300_000, 7 * XRP
BUDGETS = (
    POLICY.replace('worth = "5 XRP"', 'worth = "90 XRP"')
    + """
[[settle.rule]]
name  = "pay-early"
match = { unredeemed = { gte = "1 XRP" } }
act   = "settle"

[budgets.capital-hour]
limit  = "7 XRP"
window = "1h"
[budgets.reserve-now]
kind  = "reserve"
limit = "0.4 XRP"
[budgets.fees-hour]
limit  = "1 XRP"
window = "1h"
"""
)
WIDER = BUDGETS.replace('limit = "0.4 XRP"', 'limit = "0.6 XRP"').replace('"7 XRP"', '"500 XRP"')


async def refused_for_its_budget(server: ContentServer, payee: str) -> dict[str, Any]:
    """Ask for a payee until the answer is that a budget is spent."""
    answers: list[dict[str, Any]] = []

    async def asked() -> bool:
        answers.append(await server.ask({"id": f"{payee}-{len(answers)}", "payee": payee, "drops": "1000"}))
        await asyncio.sleep(0.2)
        assert answers[-1]["status"] == "rejected", "a channel more than the budget allows"
        return answers[-1]["reason"] == "a budget of the policy is spent"

    await until(asked, what="a budget is spent")
    return answers[-1]


async def spend(server: ContentServer, stage: Stage, payees: list[str]) -> None:
    """Ask for more than the budget allows, three deaths on the way, until no more is signed."""
    for number in range(40):
        request = {"id": f"n{number}", "payee": payees[number % len(payees)], "drops": str(DROPS)}
        try:
            await server.ask(request, timeout_s=2)
        except TimeoutError:
            continue
        if number in (5, 12, 20):
            stage.daemon.kill()
            await stage.start()


async def spent(world: World, stage: Stage) -> Counter[str]:
    """What the wallet really spent, by the ledger's metadata alone."""
    found: Counter[str] = Counter()
    for entry in await world.history(stage.wallet.address):
        if entry["tx_json"]["Account"] != stage.wallet.address:
            continue
        found["fees"] += int(entry["tx_json"]["Fee"])
        found["transactions"] += 1
        for node in entry["meta"]["AffectedNodes"]:
            ((change, body),) = node.items()
            if body["LedgerEntryType"] == "PayChannel" and change == "CreatedNode":
                found["capital"] += int(body["NewFields"]["Amount"])
                found["channels"] += 1
            elif body["LedgerEntryType"] == "PayChannel" and "Amount" in body.get("PreviousFields", {}):
                found["capital"] += int(body["FinalFields"]["Amount"]) - int(body["PreviousFields"]["Amount"])
    return found


async def quiet(stage: Stage) -> bool:
    status = await stage.status()
    return bool(status["ready"]) and not status["intents_open"] and not status["transactions_live"]


def used(status: dict[str, Any]) -> dict[str, int]:
    return {name: int(budget["used"]) for name, budget in status["budgets"].items()}


async def test_rules_act_within_budgets_that_no_sigkill_makes_forget(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        payees = [f"{world.payee.address}:{tag}" for tag in range(PAYEES)]
        stage = await world.stage([Server("a", payees)], policy=BUDGETS)
        async with content_server(world) as server:
            for payee in payees[:2]:
                await server.buy({"id": f"first-{payee}", "payee": payee, "drops": "1000"})
            await refused_for_its_budget(server, payees[2])
            await spend(server, stage, payees[:2])
            await until(lambda: quiet(stage), "nothing is under way")
            before = await spent(world, stage)
            assert LIMIT - XRP < before["capital"] <= LIMIT, "it was spent, and not passed"
            assert before["channels"] == 2

            stage.daemon.kill()
            await stage.start()
            assert await spent(world, stage) == before
            assert used(await stage.status()) == {
                "capital-hour": before["capital"],
                "reserve-now": 400_000,
                "fees-hour": before["fees"],
            }
            await refused_for_its_budget(server, payees[2])

            stage.policy = WIDER
            stage.write()
            stage.daemon._process.send_signal(signal.SIGHUP)  # type: ignore[union-attr]
            await server.buy({"id": "at last", "payee": payees[2], "drops": "1000"})
            await until(lambda: quiet(stage), "nothing is under way")
            after = await spent(world, stage)
            assert after["channels"] == 3
            assert before["capital"] < after["capital"] <= 500 * XRP
            accounts_for([server])
        with closing(read_whole(stage.store)) as db:
            rules = db.execute("SELECT reason, path FROM intent WHERE kind = 'settle'").fetchall()
        assert set(rules) == {("rule", "settle/pay-early")}
