"""Many payees want a channel at once: the ledgers it takes, and what it costs to the drop."""

from __future__ import annotations

import asyncio
import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from waiting import until

from channeld.sandbox.stage import POLICY, Server, Stage
from e2e.test_truth import cli
from e2e.world import XRP, ContentServer, World, content_server, new_account

pytestmark = pytest.mark.slow
CAPS = 'max_open_channels = 2000\nmax_locked = "50000 XRP"'


def creates(history: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [e for e in history if e["tx_json"]["TransactionType"] == "PaymentChannelCreate"]


async def ask_all(server: ContentServer, payees: list[str]) -> None:
    """One request for each payee, in arrays."""
    for start in range(0, len(payees), 50):
        part = [{"id": p, "payee": p, "drops": "1000"} for p in payees[start : start + 50]]
        await server.publish(json.dumps(part))


async def submitted(stage: Stage) -> None:
    """Return once the daemon has handed in all that it wants in the next ledger: no more for a second."""
    before = None
    while (live := (await stage.status())["transactions_live"]) != before:
        before = live
        await asyncio.sleep(1)


async def test_a_thousand_opens_fill_their_ledgers_and_need_three_more(tmp_path: Path) -> None:
    """Ledgers close when the daemon has done its part, as they do where the machine has time for it."""
    count, capacity, most = 1000, 250, 200
    async with World(tmp_path, ledger=["--ledger-capacity", str(capacity)]) as world:
        payees = [f"{world.payee.address}:{tag}" for tag in range(count)]
        assert f"max_opens_per_ledger = {most}" in POLICY
        stage = await world.stage([Server("a", payees, caps=CAPS)], treasury=100_000 * XRP)
        async with content_server(world) as server:
            await world.fault("stall", seconds=0)
            before = (await world.ledger.result("ledger", ledger_index="validated"))["ledger_index"]
            await ask_all(server, payees)

            async def opened() -> bool:
                await submitted(stage)
                await world.ledger.result("ledger_accept")
                return len(creates(await world.history(stage.wallet.address))) >= count

            await until(opened, "a thousand channels")
        found = creates(await world.history(stage.wallet.address))
        assert {e["meta"]["TransactionResult"] for e in found} == {"tesSUCCESS"}
        assert len({(e["tx_json"]["Destination"], e["tx_json"]["DestinationTag"]) for e in found}) == count
        needed = max(e["ledger_index"] for e in found) - before
        spread = Counter(e["ledger_index"] for e in found)
        by_ticket = sum("TicketSequence" in e["tx_json"] for e in found)
        print(f"{count} opens in {needed} ledgers {sorted(spread.values())}, {by_ticket} by ticket")
        assert needed <= math.ceil(count / min(capacity, most)) + 3


async def opened_by_ticket(world: World, wallet: str, *, count: int) -> bool:
    found = creates(await world.history(wallet))
    assert all("TicketSequence" in e["tx_json"] for e in found)
    return len(found) >= count


async def objects(world: World, account: str, kind: str) -> list[dict[str, Any]]:
    """Everything of one kind that an account owns in the validated ledger."""
    found: list[dict[str, Any]] = []
    parameters: dict[str, Any] = {"account": account, "type": kind, "ledger_index": "validated", "limit": 400}
    while True:
        page = await world.ledger.result("account_objects", **parameters)
        found += page["account_objects"]
        if "marker" not in page:
            return found
        parameters["marker"] = page["marker"]


def put_in(entry: dict[str, Any]) -> int:
    """Drops that a transaction put into a new channel, as its metadata tells."""
    made = [n["CreatedNode"] for n in entry["meta"]["AffectedNodes"] if "CreatedNode" in n]
    return sum(int(n["NewFields"]["Amount"]) for n in made if n["LedgerEntryType"] == "PayChannel")


async def at_rest(stage: Stage) -> bool:
    status = await stage.status()
    return (status["intents_open"], status["transactions_live"]) == (0, 0)


async def test_250_opens_by_ticket_of_which_one_fails_are_accounted_to_the_drop(tmp_path: Path) -> None:
    """The payee in the middle has no account. Its ticket is used up with it, and nobody else notices."""
    count, treasury = 250, 2_000 * XRP
    most = f"max_opens_per_ledger = {count}\nticket_stock = {count}"
    policy = POLICY.replace("max_opens_per_ledger = 200", most)
    async with World(tmp_path, close_interval_s=1.0, ledger=["--ledger-capacity", "1000"]) as world:
        payees = [f"{world.payee.address}:{tag}" for tag in range(count)]
        nobody = payees[count // 2] = new_account().address
        stage = await world.stage([Server("a", payees, caps=CAPS)], treasury=treasury, policy=policy)
        wallet = stage.wallet.address

        async def stocked() -> bool:
            """Up to a tenth may be missing: for so few no tickets are made."""
            held = len(await objects(world, wallet, "ticket"))
            return held >= count - count // 10 and await at_rest(stage)

        await until(stocked, what="the stock of tickets is made")
        async with content_server(world) as server:
            await ask_all(server, payees)
            await until(lambda: opened_by_ticket(world, wallet, count=count), what="every open was validated")
            await until(stocked, what="the stock is full again")
            await ask_all(server, payees)
            await until(lambda: len(server.accepted) == count - 1, what="all but one are served")
            refused = await server.ask({"id": nobody, "payee": nobody, "drops": "1000"})
            assert (refused["status"], refused["code"]) == ("rejected", "no_headroom")

        history = await world.history(wallet)
        opens = creates(history)
        failed = [e for e in opens if e["meta"]["TransactionResult"] != "tesSUCCESS"]
        assert [(e["tx_json"]["Destination"], e["meta"]["TransactionResult"]) for e in failed] == [
            (nobody, "tecNO_DST")
        ]
        assert len({e["tx_json"]["TicketSequence"] for e in opens}) == len(opens) == count

        root = (await world.ledger.result("account_info", account=wallet, ledger_index="validated"))["account_data"]
        prices = (await world.ledger.result("server_state"))["state"]["validated_ledger"]
        channels, tickets = await world.ledger.channels(wallet), await objects(world, wallet, "ticket")
        assert len(channels) == count - 1
        assert root["OwnerCount"] == len(channels) + len(tickets)
        fees = sum(int(e["tx_json"]["Fee"]) for e in history if e["tx_json"]["Account"] == wallet)
        locked = sum(map(put_in, opens))
        assert locked == sum(int(c["amount"]) for c in channels)
        assert int(root["Balance"]) == treasury - locked - fees

        said = (await stage.status())["wallets"]["hot"]
        assert (said["balance"], said["owner_count"]) == (root["Balance"], root["OwnerCount"])
        reserve = prices["reserve_base"] + root["OwnerCount"] * prices["reserve_inc"]
        assert said["reserve"] == str(reserve)
        told = await cli(stage, "reconcile")
        assert (told["ok"], told["differences"]) == (True, [])
        print(f"{len(channels)} channels by ticket, 1 failed; {locked} drops locked, {fees} fees, {reserve} reserve")
