"""A node on another network, one that asks absurd fees, and one that talks nonsense: survived, and said."""

from __future__ import annotations

import asyncio
import json
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from waiting import until

from channeld.sandbox.stage import POLICY, Server, Stage
from e2e.liar import Liar, honest
from e2e.test_nodes import metric
from e2e.test_truth import cli
from e2e.world import XRP, World, content_server

pytestmark = pytest.mark.slow

NETWORK = 2000
BRISK = POLICY.replace('worth = "5 XRP", max_age = "10m"', 'worth = "0.5 XRP", max_age = "10m"')


async def readyz(stage: Stage) -> tuple[int, dict[str, Any]]:
    code, text = await asyncio.to_thread(stage.get, "/readyz")
    return code, json.loads(text) if code else {}


async def warned(stage: Stage, of: str) -> bool:
    """Whether it is ready and warns of something all the same."""
    code, said = await readyz(stage)
    return code == 200 and any(of in warning for warning in said["warnings"])


async def blamed(stage: Stage, reason: str) -> bool:
    code, said = await readyz(stage)
    return code == 503 and any(reason in why for why in said["reasons"])


async def test_on_a_network_of_its_own_every_transaction_names_it(tmp_path: Path) -> None:
    async with World(tmp_path, ledger=["--network-id", str(NETWORK)]) as world:
        stage = await world.stage([Server("a", [world.payee.address])], network_id=NETWORK, policy=BRISK)
        async with content_server(world) as server:
            await server.buy({"id": "1", "drops": str(XRP)})

            async def settled() -> bool:
                kinds = [e["tx_json"]["TransactionType"] for e in await world.history(stage.wallet.address)]
                return "PaymentChannelClaim" in kinds

            await until(settled, what="the payee is paid")
        mine = [e for e in await world.history(stage.wallet.address) if e["tx_json"]["Account"] == stage.wallet.address]
        assert {(e["tx_json"]["NetworkID"], e["meta"]["TransactionResult"]) for e in mine} == {(NETWORK, "tesSUCCESS")}


async def test_at_first_contact_another_network_ends_it_and_later_it_is_not_used(tmp_path: Path) -> None:
    async with World(tmp_path, ledger=["--network-id", str(NETWORK)]) as world, Liar(world.ledger_url, honest) as node:
        node.lie = on_network(NETWORK + 1)
        stage = await world.stage(
            [Server("a", [world.payee.address])], network_id=NETWORK, ledgers=[node.url], start=False
        )
        await stage.start(ready=False)
        await until(lambda: not stage.daemon.running, what="it ends by itself")
        name = node.url.removeprefix("ws://")
        assert await stage.daemon.stop() == 2
        assert (
            f"channeld: ledger.network_id: it is {NETWORK}, but {name} is on network {NETWORK + 1}"
            in stage.daemon.tail()
        )

        node.lie = honest
        await stage.start()
        node.lie = on_network(NETWORK + 1)
        why = f"is on network {NETWORK + 1}, not {NETWORK} as [ledger] network_id says"
        await until(lambda: blamed(stage, why), what="the reason shows")
        assert (await stage.status())["ledger"]["endpoints"][name]["problem"].startswith(why)
        before = node.connections
        await until(lambda: node.connections >= before + 2, what="it is tried again")
        node.lie = honest
        await stage.ready()
        await stage.daemon.stop()
        node.lie = on_network(NETWORK + 1)
        refused = await cli(stage, "reconcile", status=2)
        assert f"ledger.network_id: it is {NETWORK}" in refused["stderr"]


def on_network(number: int) -> Any:
    def lie(command: str, message: dict[str, Any]) -> dict[str, Any]:
        if command == "server_info":
            message["result"]["info"]["network_id"] = number
        return message

    return lie


def asking(fields: dict[str, Any]) -> Any:
    """A node that says this of its fees."""

    def lie(command: str, message: dict[str, Any]) -> dict[str, Any]:
        if command == "fee":
            message["result"]["drops"] = fields
        return message

    return lie


ABSURD = [
    ({"open_ledger_fee": "10000000", "minimum_fee": "10000000"}, "fee_cap", "asks 10 XRP"),
    ({"open_ledger_fee": "-10", "minimum_fee": "-10"}, "fee_unknown", "open_ledger_fee: not an amount"),
    ({"open_ledger_fee": 10.5, "minimum_fee": 10.5}, "fee_unknown", "open_ledger_fee: not an amount"),
    ({}, "fee_unknown", "open_ledger_fee: not an amount"),
]


async def waiting(stage: Stage, reason: str, count: int) -> bool:
    """Whether so many transactions wait for this reason."""
    return await metric(stage, f'transactions_waiting{{code="{reason}"}}') == count


async def test_absurd_fees_are_waited_out(tmp_path: Path) -> None:
    async with World(tmp_path) as world, Liar(world.ledger_url, honest) as node:
        payees = [f"{world.payee.address}:{n}" for n in range(len(ABSURD))]
        stage = await world.stage([Server("a", payees)], ledgers=[node.url])
        async with content_server(world) as server:
            for payee, (fields, reason, said) in zip(payees, ABSURD, strict=True):
                node.lie = asking(fields)
                refused = await server.ask({"id": payee, "payee": payee, "drops": "5"})
                assert refused["code"] == "no_headroom"
                await until(lambda said=said: warned(stage, said), what=f"{said} shows")
                await until(partial(waiting, stage, reason, 1), what=f"{reason}: it is counted")
                node.lie = honest
                await server.buy({"id": payee, "payee": payee, "drops": "5"})
                await until(partial(waiting, stage, reason, 0), what=f"{reason}: it waits no more")
        assert "defect" not in stage.daemon.log.read_text()
        fees = [int(e["tx_json"]["Fee"]) for e in await world.history(stage.wallet.address)]
        assert max(fees) <= 5000


NONSENSE: list[str | bytes] = [
    "",
    "nonsense",
    "[1, 2]",
    "null",
    '{"type": "never heard of", "id": "x"}',
    '{"id": 99999999, "result": {}}',
    '{"id": true, "status": "error"}',
    '{"type": "ledgerClosed"}',
    '{"type": "ledgerClosed", "ledger_index": 1e99, "ledger_hash": 5}',
    '{"type": "ledgerClosed", "ledger_index": -1, "ledger_hash": "A", "ledger_time": 1, "fee_base": 0.5}',
    '{"type": "transaction", "validated": true, "tx_json": 7}',
    "[" * 5000,
    b"\x00\xff\xfe",
    "{" + '"a":' * 2000,
]


def strange(command: str, message: dict[str, Any]) -> dict[str, Any]:
    """Transactions and ledger entries of kinds that nobody knows, and fields that nobody heard of."""
    message["novelty"] = {"deep": [1, 2.5, None]}
    for entry in message.get("result", {}).get("transactions", ()) if command == "account_tx" else ():
        entry["tx_json"]["Novelty"] = {"x": []}
        entry["meta"]["AffectedNodes"] += [
            {"ModifiedNode": {"LedgerEntryType": "Novelty", "LedgerIndex": "0" * 64}},
            {"SplitNode": {"LedgerEntryType": "PayChannel"}},
        ]
    return message


async def test_a_node_that_talks_nonsense_is_survived_and_shown(tmp_path: Path) -> None:
    async with World(tmp_path) as world, Liar(world.ledger_url, strange, NONSENSE) as node:
        stage = await world.stage([Server("a", [world.payee.address])], ledgers=[node.url], policy=BRISK)
        async with content_server(world) as server:
            for n in range(3):
                await server.buy({"id": str(n), "drops": str(XRP // 2)})
        await until(lambda: warned(stage, "could not be understood"), what="it shows in /readyz")
        name = node.url.removeprefix("ws://")
        assert (await stage.status())["ledger"]["endpoints"][name]["messages_skipped"] > len(NONSENSE)
        assert await metric(stage, f'node_messages_skipped{{endpoint="{name}"}}') > len(NONSENSE)
        text = stage.daemon.log.read_text()
        assert "defect" not in text
        assert 0 < text.count("node_message_skipped") < 30, "said, and not again and again"


async def test_a_clock_that_is_hours_off_the_ledgers_is_shown_and_does_not_count(tmp_path: Path) -> None:
    hours = 5 * 3600
    async with World(tmp_path) as world:
        stage = await world.stage([Server("a", [world.payee.address])])
        assert abs(await metric(stage, "clock_ahead_seconds")) < 60
        async with content_server(world) as server:
            await server.buy({"id": "1", "drops": "5"})
            now = int(time.time())
            await world.fault("clock", offset_s=hours)
            await until(lambda: warned(stage, "s behind the ledger's"), what="the clock shows in /readyz")
            assert await metric(stage, "clock_ahead_seconds") == pytest.approx(-hours, abs=60)
            late = await server.ask({"id": "late", "drops": "5", "not_after": now + hours - 120})
            assert (late["code"], "not_after" in late["reason"]) == ("bad_request", True)
            await server.buy({"id": "2", "drops": "5", "not_after": now + hours + 600})
            assert (await server.ask({"id": "1", "drops": "5"}))["replayed"] is True
