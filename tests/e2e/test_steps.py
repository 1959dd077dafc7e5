"""SIGKILL to a real daemon at a step between a decision and its outcome: it ends as the one that was never killed."""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from waiting import until

from channeld.adapters.sqlite.reader import read_whole
from channeld.sandbox.stage import PATIENCE_S, POLICY, Process, Server, Stage
from channeld.wire.transactions import TF_CLOSE
from e2e.world import XRP, World, accounts_for, content_server

pytestmark = pytest.mark.slow

CLOSE_INTERVAL_S = 0.5
TREASURY = 1_000 * XRP
PAYEES, ASKS, DROPS = 2, 3, 600_000
HASTY = (
    POLICY.replace('settle_delay = "1h"', 'settle_delay = "2s"')
    .replace('worth = "5 XRP"', 'worth = "1 XRP"')
    .replace("max_per_payee = 2", "max_per_payee = 1")
    .replace('idle = "1h", min_age = "1h"', 'idle = "4s", min_age = "1s"')
    .replace('low = "10s", target = "60s"', 'low = "1s", target = "2s"')
    .replace('fee_cap              = "0.005 XRP"', 'fee_cap              = "0.005 XRP"\nticket_stock = 2')
)
SCRIPT = Path(__file__).with_name("deadly.py")


@dataclass(frozen=True, order=True)
class Death:
    """Where it dies: a step of a kind of transaction ("" where it is of many), before or after, for the nth time."""

    step: str
    kind: str
    when: str
    nth: int


NEVER = Death("never", "", "before", 0)


@dataclass(frozen=True)
class Life:
    """What became of one daemon, and where it came by before it died."""

    fate: dict[str, Any]
    contacts: Counter[tuple[str, str, str]]
    died: bool


async def live(world: World, number: int, death: Death) -> Life:
    """Channels are opened, used, funded, paid out and closed; the daemon dies once, where it is told, and starts again.

    `number` tells lives on one ledger apart.
    """
    payees = [f"{world.payee.address}:{number * 10 + n}" for n in range(PAYEES)]
    server_name = f"s{number}"
    stage = await world.stage(
        [Server(server_name, payees)], start=False, treasury=TREASURY, policy=HASTY, name=f"daemon-{number}"
    )
    before = await balance(world, world.payee.address)
    contacts, mortal = stage.directory / "contacts", stage.daemon
    deadly = Process(stage.directory, "daemon")
    named = [death.step, death.kind, death.when, str(death.nth)]
    run = ["run", "--config", str(stage.directory / "channeld.toml")]
    deadly._arguments = [sys.executable, str(SCRIPT), str(contacts), *named, *run]
    stage.daemon = deadly
    stage.daemon.start()
    watching = asyncio.create_task(start_again(stage, deadly, mortal))
    try:
        async with content_server(world, server_name) as server, asyncio.timeout(PATIENCE_S):
            buys = [{"id": str(n), "payee": payees[n % PAYEES], "drops": str(DROPS)} for n in range(PAYEES * ASKS)]
            while missing := [buy for buy in buys if buy["id"] not in server.accepted]:
                await buy_one(server, missing[0])
            await until(lambda: all_over(world, stage), "every channel is closed and nothing is open")
            accounts_for([server])
            accepted = sorted(server.accepted)
        history = await world.history(stage.wallet.address)
        one_at_a_time(history)
        found = fate(stage, history) | {
            "accepted": accepted,
            "paid": await balance(world, world.payee.address) - before,
            "wallet": await balance(world, stage.wallet.address) + fees(history, stage.wallet.address),
            "tickets on the ledger": len(await tickets(world, stage.wallet.address)),
            "freezes": [(await stage.status())[name] for name in ("frozen", "frozen_wallets")],
        }
    finally:
        watching.cancel()
        await stage.daemon.stop()
        world.stages.remove(stage)
    assert "defect" not in stage.daemon.log.read_text(), stage.daemon.tail()
    lines = contacts.read_text().splitlines() if contacts.exists() else []
    came_by = Counter(tuple(line.replace(" - ", "  ").split(" ")) for line in lines)
    return Life(found, came_by, stage.daemon is mortal)  # type: ignore[arg-type]


async def start_again(stage: Stage, deadly: Process, mortal: Process) -> None:
    """Once the deadly one is dead, the ordinary one takes its place."""
    while deadly.running:
        await asyncio.sleep(0.02)
    assert await deadly.stop() == -9, deadly.tail()
    stage.daemon = mortal
    mortal.start()


async def buy_one(server: Any, request: dict[str, str]) -> None:
    """Ask until accepted, whoever dies meanwhile."""
    try:
        reply = await server.ask(request, timeout_s=1)
    except TimeoutError:
        return
    if reply["status"] != "accepted":
        assert reply["code"] in ("no_headroom", "frozen"), reply
        await asyncio.sleep(min(0.3, reply["retry_after_ms"] / 1000))


async def all_over(world: World, stage: Stage) -> bool:
    """Whether nothing is left to be done: no channel, no intent, no transaction, and the stock of tickets is full."""
    code, _ = await asyncio.to_thread(stage.get, "/readyz")
    if code != 200 or await world.ledger.channels(stage.wallet.address):
        return False
    code, text = await asyncio.to_thread(stage.get, "/api/v1/status")
    if code != 200:  # it died just now
        return False
    status = json.loads(text)
    idle = (status["intents_open"], status["transactions_live"]) == (0, 0)
    return idle and len(await tickets(world, stage.wallet.address)) == 2


async def balance(world: World, account: str) -> int:
    root = await world.ledger.result("account_info", account=account, ledger_index="validated")
    return int(root["account_data"]["Balance"])


async def tickets(world: World, account: str) -> list[Any]:
    found = await world.ledger.result("account_objects", account=account, type="ticket", ledger_index="validated")
    return list(found["account_objects"])


def fees(history: list[dict[str, Any]], account: str) -> int:
    return sum(int(e["tx_json"]["Fee"]) for e in history if e["tx_json"]["Account"] == account)


def one_at_a_time(history: list[dict[str, Any]]) -> None:
    """No payee gets a second channel before the first one was asked to close: no job was done twice."""
    holder: dict[tuple[str, int | None], str] = {}
    for entry in history:
        tx = entry["tx_json"]
        if tx["TransactionType"] == "PaymentChannelCreate" and entry["meta"]["TransactionResult"] == "tesSUCCESS":
            payee = (tx["Destination"], tx.get("DestinationTag"))
            assert payee not in holder, "two channels for one payee"
            made = [n["CreatedNode"] for n in entry["meta"]["AffectedNodes"] if "CreatedNode" in n]
            holder[payee] = next(n["LedgerIndex"] for n in made if n["LedgerEntryType"] == "PayChannel")
        elif tx["TransactionType"] == "PaymentChannelClaim" and tx.get("Flags", 0) & TF_CLOSE:
            holder = {payee: channel for payee, channel in holder.items() if channel != tx["Channel"]}


def fate(stage: Stage, history: list[dict[str, Any]]) -> dict[str, Any]:
    """What the store says at the end, and the results of all transactions."""
    queries = {
        "open": "SELECT number FROM intent WHERE status IN ('planned', 'signed')",
        "live": "SELECT number FROM tx WHERE ended IS NULL",
        "not closed": "SELECT channel_id FROM channel WHERE closed_at IS NULL",
        "promised and not paid": "SELECT channel_id FROM channel WHERE authorized <> balance",
        "payments": "SELECT sum(paid) FROM payment",
        "losses": "SELECT kind, drops FROM loss",
        "incomes": "SELECT drops FROM income",
        "not ours": "SELECT channel_id FROM channel WHERE pool = ''",
    }
    with closing(read_whole(stage.store)) as db:
        found = {name: db.execute(query).fetchall() for name, query in queries.items()}
    return found | {"results": sorted({e["meta"]["TransactionResult"] for e in history})}


async def test_sigkill_at_chosen_steps_ends_as_the_life_without_it(tmp_path: Path) -> None:
    async with World(tmp_path, close_interval_s=CLOSE_INTERVAL_S) as world:
        clean = await live(world, 0, NEVER)
        assert not clean.died
        total = PAYEES * ASKS * DROPS
        assert (clean.fate["paid"], clean.fate["wallet"]) == (total, TREASURY - total)
        for number, death in enumerate(
            [
                Death("persisted", "open", "after", 1),
                Death("sent", "settle", "after", 1),
                Death("outcome_written", "", "after", 3),
            ],
            start=1,
        ):
            life = await live(world, number, death)
            assert life.died, death
            assert life.fate == clean.fate, death
