"""Why, of every channel of a run: inputs, rule or term, reason, transaction and outcome, with the daemon or without."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from channeld.cli.chain import lines
from channeld.cli.plans import plan_lines
from channeld.sandbox.stage import PATIENCE_S, Server, Stage
from e2e.explaining import HASTY, ask, explained, judge, of_ledger, run, settled
from e2e.world import World, content_server

pytestmark = pytest.mark.slow


OVERRIDE = """
[[override]]
scope = { pool = "standard" }
concern = ["close"]
act = "hold"
until = 2037-01-01T00:00:00Z
why = "4711"
"""


async def command(stage: Stage, *arguments: str) -> tuple[int, str, str]:
    """`channeld` as an operator runs it: exit status, stdout, stderr."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "channeld", *arguments, "--config", str(stage.directory / "channeld.toml")),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def test_every_channel_of_a_run_is_explained(tmp_path: Path) -> None:
    """Show 6 in short: and again from the store once the daemon is down."""
    async with World(tmp_path, close_interval_s=0.5) as world:
        stage = await run(world, 12)
        await settled(world, stage)
        kinds = await explained(world, stage, source="daemon")
        for kind in ("done open", "done fund", "done settle", "done request_close", "done finalize_close"):
            assert kinds[kind], kinds
        assert kinds["by rule settle/paid-early"], kinds
        assert kinds["by the pool's terms, as laid by fund/roomier"], kinds
        happened = await of_ledger(world, stage.wallet.address)
        channel = next(iter(happened))
        alive = await asyncio.to_thread(ask, stage, channel)
        await stage.daemon.stop()
        status, out, _ = await command(stage, "explain", channel[:20].lower())
        assert status == 0
        dead: dict[str, Any] = json.loads(out)
        assert dead["source"] == "store"
        assert dead["chain"] == alive["chain"]
        judge(dead, happened[channel])
        text = "\n".join(lines(dead))
        for link in dead["chain"]:
            assert link["why"] in text
            assert link["by"] in text
        assert all(tx_hash in text for tx_hash in happened[channel])


async def test_requests_payees_moments_and_what_is_not_known(tmp_path: Path) -> None:
    """A request: what it was told and why, its slice, and what the engine did for it. A payee; a moment; a stranger."""
    async with World(tmp_path, close_interval_s=0.5) as world:
        stage = await run(world, 0)
        payee = f"{world.payee.address}:3"
        asked = {"id": "no 1/a", "payee": payee, "drops": "7000"}
        async with content_server(world) as server:
            refused = await server.ask(asked)
            accepted = await server.buy(asked)
        await _written(stage, payee)
        status, out, err = await command(stage, "explain", "a/no 1/a")
        assert status == 0, err
        told = json.loads(out)
        assert (told["subject"], told["answer"], told["payee"]) == ("request", "accepted", payee)
        assert (told["channel_id"], told["covers"]) == (accepted["claim"]["channel_id"], accepted["covers"])
        assert told["refused_before"][0]["code"] == refused["code"] == "no_headroom"
        assert told["refused_before"][0]["reason"] == refused["reason"]
        assert told["demand"]["drops"] == "7000"
        assert json.loads((await command(stage, "explain", "no 1/a"))[1])["channel_id"] == told["channel_id"]

        answer = json.loads((await command(stage, "explain", payee))[1])
        (channel,) = answer["channels"]
        assert channel["channel_id"] == told["channel_id"]
        opened = next(link for link in answer["chain"] if link["answer"] == "done")
        assert (opened["action"], opened["because"], opened["inputs"]["wanted"]) == ("open", "wanted", 7000)
        assert opened["transactions"][0]["result"] == "tesSUCCESS"
        assert answer["now"]["reason"] == "no_demand"

        long_ago = json.loads((await command(stage, "explain", payee, "--at", str(opened["at_unix"] - 3600)))[1])
        assert long_ago["chain"] == []
        assert "now" not in long_ago
        for query in ("", "?what=", "?what=a&at=now", f"?what={'x' * 300}"):
            assert (await asyncio.to_thread(stage.get, f"/api/v1/explain{query}"))[0] == 400
        for body, code in ((b"{}", 200), (b'{"policy": 1}', 400), (b'{"policy": "x"}', 400), (b"[]", 400)):
            assert await asyncio.to_thread(post, stage, "plan", body) == code, "a plan needs no token"
        assert await asyncio.to_thread(post, stage, "thaw", b"{}") == 401, "what changes anything does"
        for stranger in ("FFFFFFFF", "rrrrrrrrrrrrrrrrrrrrrhoLvTp", "a/never-asked", "never asked"):
            status, out, err = await command(stage, "explain", stranger)
            assert (status, out) == (1, ""), stranger
            assert "nothing is known" in err
        assert (await command(stage, "explain", payee, "--at", "yesterday"))[0] == 2
        misspelt = world.payee.address[:-1] + ("x" if world.payee.address[-1] != "x" else "y")
        status, _, err = await command(stage, "explain", misspelt)
        assert status == 2
        assert "checksum" in err


def post(stage: Stage, action: str, body: bytes) -> int:
    """The status of a POST without a token."""
    request = urllib.request.Request(f"http://127.0.0.1:{stage.http_port}/api/v1/{action}", body, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


async def _written(stage: Stage, what: str) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while (await asyncio.to_thread(ask, stage, what))["not_written_yet"]:
            await asyncio.sleep(0.1)


async def test_a_plan_says_what_would_be_done_and_does_nothing(tmp_path: Path) -> None:
    """What a policy that only suggests keeps back, what a candidate would do of it, and what that takes; then, in
    force, it does just that. Replayed over what was recorded, it differs in the same.
    """
    async with World(tmp_path, close_interval_s=0.5) as world:
        suggesting = HASTY.replace("schema = 1", 'schema = 1\nmode = "suggest"')
        stage = await world.stage([Server("a", [world.payee.address])], policy=suggesting)
        candidate = tmp_path / "candidate.toml"
        candidate.write_text(HASTY)
        async with content_server(world) as server:
            refused = await server.ask({"id": "1", "drops": "7000"})
            assert refused["code"] == "no_headroom"
            plan = await _wanting(stage, server)
            assert plan["do"] == []
            status, out, err = await command(stage, "policy", "plan", "--policy", str(candidate))
            assert status == 0, err
            told = json.loads(out)
            (opening,) = told["candidate"]["do"]
            assert (opening["action"], opening["target"], opening["because"]) == ("open", "2000000", "wanted")
            assert told["differing"] == 1
            assert told["differences"][0]["in_force"]["answer"] == "would"
            assert told["candidate"]["costs"]["capital"] == "2000000"
            assert int(told["candidate"]["costs"]["reserve"]) > 0
            wallet = told["candidate"]["wallets"]["hot"]
            assert wallet["in_channels"] == {"before": "0", "after": "2000000"}
            assert "open to 2 XRP: wanted" in "\n".join(plan_lines(told))
            assert not await world.ledger.channels(stage.wallet.address), "a plan does nothing"

            replayed = json.loads((await command(stage, "policy", "replay", str(candidate)))[1])
            assert replayed["differing"] >= 1
            assert replayed["changes"][0]["to"] == "open: wanted"
            bad = tmp_path / "bad.toml"
            bad.write_text(HASTY.replace('"hot"', '"hut"'))
            for arguments in (("plan", "--policy", str(bad)), ("replay", str(bad))):
                status, out, err = await command(stage, "policy", *arguments)
                assert (status, out) == (2, "")
                assert "did you mean hot" in err

            stands = await stage.status()
            assert (stands["suggestions"]["pending"], stands["held"]["suggested"]["count"]) == (1, 1)
            assert stands["suggestions"]["subjects"] == [f"standard/{world.payee.address}"]
            assert stands["held"]["suggested"]["oldest_since_unix"] <= stands["ledger"]["validated"]["close_time_unix"]
            assert set(stands["policy"]["modes"].values()) == {"suggest"}
            begun = stands["policy_hash"]
            (stage.directory / "policy.toml").write_text(HASTY + OVERRIDE)
            assert stage.daemon.running
            os.kill(stage.daemon.pid, signal.SIGHUP)
            await server.buy({"id": "1", "drops": "7000"})
        (channel,) = await world.ledger.channels(stage.wallet.address)
        assert channel["amount"] == opening["target"]
        stands = await stage.status()
        assert stands["suggestions"]["pending"] == 0
        (override,) = stands["policy"]["overrides"]
        assert (override["scope"], override["concerns"], override["why"]) == ({"pool": "standard"}, ["close"], "4711")
        await stage.daemon.stop()
        assert (await command(stage, "policy", "plan"))[0] == 3
        entries = json.loads((await command(stage, "audit"))[1])["audit"]
        assert [e["what"] for e in entries] == [
            f"policy {policy[:12]} in force" for policy in (stands["policy_hash"], begun)
        ]


async def _wanting(stage: Stage, server: Any) -> dict[str, Any]:
    """A plan made while something is wanted: a reason that does not pass by itself makes the daemon forget the want."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            await server.ask({"id": "1", "drops": "7000"})
            plan: dict[str, Any] = json.loads((await command(stage, "policy", "plan"))[1])
            if plan["would"]:
                return plan
