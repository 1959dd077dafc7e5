"""A thousand payees want a channel at once: the ledgers it takes."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from channeld.sandbox.stage import POLICY, Process, Server
from e2e.world import XRP, ContentServer, World, content_server, until

pytestmark = pytest.mark.slow
CAPS = 'max_open_channels = 2000\nmax_locked = "50000 XRP"'


def creates(history: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [e for e in history if e["tx_json"]["TransactionType"] == "PaymentChannelCreate"]


async def ask_all(server: ContentServer, payees: list[str]) -> None:
    """One request for each payee, in arrays."""
    for start in range(0, len(payees), 50):
        part = [{"id": p, "payee": p, "drops": "1000"} for p in payees[start : start + 50]]
        await server.publish(json.dumps(part))


def ledger_with(world: World, *arguments: str) -> None:
    """The world's ledger process, with more arguments."""
    world.ledger_process = Process(world.directory, "ledger", *world.ledger_process._arguments[3:], *arguments)


async def test_a_thousand_opens_fill_their_ledgers_and_need_three_more(tmp_path: Path) -> None:
    count, capacity, most = 1000, 250, 200
    world = World(tmp_path, close_interval_s=4.0)
    ledger_with(world, "--ledger-capacity", str(capacity))
    async with world:
        payees = [f"{world.payee.address}:{tag}" for tag in range(count)]
        assert f"max_opens_per_ledger = {most}" in POLICY
        stage = await world.stage([Server("a", payees, caps=CAPS)], treasury=100_000 * XRP)
        async with content_server(world) as server:
            before = (await world.ledger.result("ledger", ledger_index="validated"))["ledger_index"]
            await ask_all(server, payees)

            async def opened() -> bool:
                return len(creates(await world.history(stage.wallet.address))) >= count

            await until(opened, 90, "a thousand channels")
        found = creates(await world.history(stage.wallet.address))
        assert {e["meta"]["TransactionResult"] for e in found} == {"tesSUCCESS"}
        assert len({(e["tx_json"]["Destination"], e["tx_json"]["DestinationTag"]) for e in found}) == count
        needed = max(e["ledger_index"] for e in found) - before
        spread = Counter(e["ledger_index"] for e in found)
        by_ticket = sum("TicketSequence" in e["tx_json"] for e in found)
        print(f"{count} opens in {needed} ledgers {sorted(spread.values())}, {by_ticket} by ticket")
        assert needed <= math.ceil(count / min(capacity, most)) + 3
