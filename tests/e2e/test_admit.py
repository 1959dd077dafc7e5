"""A login that was stolen: what it can cost with rules for admit, over Mosquitto, SIGKILL included."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import Any

import pytest

from channeld.sandbox.stage import POLICY, Server
from e2e.test_truth import cli
from e2e.world import ContentServer, World, content_server

pytestmark = pytest.mark.slow

RULES = """
[tiers.vip]
users = ["vip-*"]

[[admit.rule]]
name  = "a-user-an-hour"
match = { user_spent_hour = { gt = "3000" } }
set   = { retry_after = "10m" }
act   = "refuse"

[[admit.rule]]
name  = "far-too-much"
match = { drops = { gt = "1 XRP" }, server = { in = ["a"] } }
act   = "hold"
"""


async def answered(server: ContentServer, request: dict[str, str]) -> dict[str, Any]:
    """Ask until the daemon sees ledgers again."""
    while (reply := await server.ask(request))["code"] == "frozen":
        await asyncio.sleep(0.2)
    return dict(reply)


async def test_a_stolen_login_costs_no_more_than_its_caps_and_a_person_lets_it_go_on(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        servers = [Server(name, [world.payee.address]) for name in ("a", "b")]
        stage = await world.stage(servers, policy=POLICY + RULES)
        async with content_server(world, "a") as thief, content_server(world, "b") as other:
            await thief.buy({"id": "1", "drops": "3000", "user": "u"})
            for life in range(2):
                refused = await answered(thief, {"id": f"more-{life}", "drops": "1", "user": "u"})
                assert (refused["code"], refused["retry_after_ms"]) == ("limit_exceeded", 600_000)
                assert "a-user-an-hour" in refused["reason"]
                await thief.buy({"id": f"v{life}", "drops": "1", "user": "v"})
                await stage.daemon.stop(signal.SIGKILL)
                await stage.start()
            await thief.buy({"id": "again", "drops": "1"})
            for n, drops in enumerate(("1000001", "1")):
                held = await thief.ask({"id": f"held{n}", "drops": drops})
                assert held["code"] == "frozen"
                assert "far-too-much" in held["reason"]
            assert (await thief.ask({"id": "1", "drops": "3000", "user": "u"}))["replayed"]
            await other.buy({"id": "1", "drops": "1"})
            assert "far-too-much" in (await stage.status())["held_servers"]["a"]["held"]
            _, page = await asyncio.to_thread(stage.get, "/metrics")
            assert 'channeld_admit_acts_total{action="hold",rule="far-too-much",type="apply"} 1.0' in page
            await cli(stage, "thaw", "--wallet", "server:a", "--why", "it was the new article")
            await thief.buy({"id": "after", "drops": "1"})
