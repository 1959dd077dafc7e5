"""A content server is told before its unused channel is closed, once, however often the daemon dies in between."""

from __future__ import annotations

from pathlib import Path

import pytest
from waiting import until

from channeld.sandbox.stage import POLICY, Server
from e2e.test_told import reading
from e2e.world import World, content_server

pytestmark = pytest.mark.slow

NOTICED = (
    POLICY.replace('settle_delay = "1h"', 'settle_delay = "2s"')
    + """
[[close.rule]]
name  = "unused"
match = { idle = { gte = "4s" } }
set   = { patience = "2s", notice = "8s" }
act   = "notify_then_close"
"""
)


async def test_a_notice_is_told_once_and_the_close_comes_after_it(tmp_path: Path) -> None:
    async with World(tmp_path, close_interval_s=1.0) as world:
        stage = await world.stage([Server("a", [world.payee.address])], policy=NOTICED)
        async with content_server(world) as server, reading(world, "a") as told:
            reply = await server.buy({"id": "1", "drops": "1000"})

            def events() -> list[str]:
                return [event["event"] for event in told.events]

            await told.until(lambda: "closing_notice" in events())
            again = await server.ask({"id": "2", "drops": "1000"})
            assert again["claim"]["channel_id"] == reply["claim"]["channel_id"], "it is used, and the notice withdrawn"
            await told.until(lambda: events().count("closing_notice") == 2)
            stage.daemon.kill()
            await stage.start()
            await told.until(lambda: "channel_closed" in events())
            numbers = {event["seq"]: event["event"] for event in told.events}
            assert sorted(numbers) == list(range(1, len(numbers) + 1)), "no gap"
            assert list(numbers.values()).count("closing_notice") == 2

            async def gone() -> bool:
                return not await world.ledger.channels(stage.wallet.address)

            await until(gone)
            entry = await world.ledger.result("account_info", account=world.payee.address, ledger_index="validated")
            assert int(entry["account_data"]["Balance"]) == 100_000_000 + 2000, "what was signed is paid before the end"
