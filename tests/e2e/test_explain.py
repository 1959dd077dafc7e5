"""Why, of every channel of a run: inputs, rule or term, reason, transaction and outcome, with the daemon or without."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from channeld.cli.chain import lines
from channeld.sandbox.stage import Stage
from e2e.explaining import ask, explained, judge, of_ledger, run, settled
from e2e.world import World, content_server

pytestmark = pytest.mark.slow


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
        for stranger in ("FFFFFFFF", "rrrrrrrrrrrrrrrrrrrrrhoLvTp", "a/never-asked", "never asked"):
            status, out, err = await command(stage, "explain", stranger)
            assert (status, out) == (1, ""), stranger
            assert "nothing is known" in err
        assert (await command(stage, "explain", payee, "--at", "yesterday"))[0] == 2
        misspelt = world.payee.address[:-1] + ("x" if world.payee.address[-1] != "x" else "y")
        status, _, err = await command(stage, "explain", misspelt)
        assert status == 2
        assert "checksum" in err


async def _written(stage: Stage, what: str) -> None:
    async with asyncio.timeout(30):
        while (await asyncio.to_thread(ask, stage, what))["not_written_yet"]:
            await asyncio.sleep(0.1)
