"""The client against the real daemon: the README's own lines, and being paid after the daemon is gone for good."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from channeld.adapters.keystore import new_seed, write_private
from channeld.adapters.signer import KeyType, derive
from channeld.client import Client
from channeld.sandbox.ledger_client import LedgerClient
from channeld.sandbox.stage import PATIENCE_S, Server, Stage
from e2e.world import World

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]


def client_of(world: World, stage: Stage, path: Path, **more: Any) -> Client:
    return Client(
        f"mqtt://127.0.0.1:{world.broker.port}",
        server="news-eu",
        public_key=stage.claim_key.public_key,
        payer=stage.wallet.address,
        path=path,
        **{"ledger": world.ledger_url, **more},
    )


def readme_lines() -> str:
    """The first Python block of the README."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    return str(blocks[0])


async def test_the_ten_lines_of_the_readme_get_a_verified_claim(tmp_path: Path) -> None:
    lines = readme_lines()
    assert len([line for line in lines.splitlines() if line.strip()]) <= 10
    async with World(tmp_path) as world:
        stage = await world.stage([Server("news-eu", [world.payee.address])])
        for written, real in {
            "127.0.0.1:1883": f"127.0.0.1:{world.broker.port}",
            "127.0.0.1:6006": f"127.0.0.1:{world.ledger_port}",
            "ED...": stage.claim_key.public_key,
            "rPAYEE": world.payee.address,
        }.items():
            assert written in lines
            lines = lines.replace(written, real)
        for total in (1500, 3000):
            done = await asyncio.to_thread(run, [sys.executable, "-c", lines], tmp_path)
            assert done.returncode == 0, done.stderr
            assert f" {total} " in f"{done.stdout} ".replace("\n", " "), "each run buys 1500 drops more"
        shown = await asyncio.to_thread(run, [*CLIENT, "claims", "--claims", str(tmp_path / "claims.db")], tmp_path)
        (held,) = [json.loads(line) for line in shown.stdout.splitlines()]
        assert await world.ledger.result("channel_verify", **held["claim"]) == {"signature_verified": True}
        assert (held["claim"]["amount"], held["payee"]) == ("3000", world.payee.address)


CLIENT = [sys.executable, "-m", "channeld.client"]


def run(command: list[str], folder: Path, timeout_s: float = PATIENCE_S) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=timeout_s)


async def balance(ledger: LedgerClient, account: str) -> int:
    info = await ledger.result("account_info", account=account, ledger_index="validated")
    return int(info["account_data"]["Balance"])


async def fees(world: World, account: str) -> int:
    """What an account paid for transactions of its own."""
    own = [entry["tx_json"] for entry in await world.history(account) if entry["tx_json"]["Account"] == account]
    return sum(int(tx["Fee"]) for tx in own)


@pytest.mark.parametrize("key_type", ["ed25519", "secp256k1"])
async def test_the_payee_is_paid_to_the_drop_without_channeld(tmp_path: Path, key_type: KeyType) -> None:
    async with World(tmp_path) as world:
        seed = new_seed(key_type)
        world.payee = derive(seed.reveal(), key_type)
        write_private(tmp_path / "payee.seed", seed.reveal() + "\n", "payee")
        payees = [world.payee.address, f"{world.payee.address}:7"]
        stage = await world.stage([Server("news-eu", payees)], key_type=key_type)
        path = tmp_path / "claims.db"
        accepted = 0
        async with client_of(world, stage, path) as client:
            for n in range(12):
                drops = 1000 * (n + 1)
                accepted += (await client.claim(payee=payees[n % 2], drops=drops)).drops
        stage.daemon.kill()
        before = await balance(world.ledger, world.payee.address)
        redeem = [*CLIENT, "redeem", "--claims", str(path), "--node", world.ledger_url]
        redeem += ["--seed-file", str(tmp_path / "payee.seed")]
        done = await asyncio.to_thread(run, redeem, tmp_path)
        assert done.returncode == 0, done.stderr
        paid = [int(json.loads(line)["paid"]) for line in done.stdout.splitlines()]
        assert (len(paid), sum(paid)) == (2, accepted)
        after = await balance(world.ledger, world.payee.address)
        assert after - before == accepted - await fees(world, world.payee.address)
        again = await asyncio.to_thread(run, redeem, tmp_path)
        assert again.returncode == 0
        assert [int(json.loads(line)["paid"]) for line in again.stdout.splitlines()] == [0, 0]
        assert await balance(world.ledger, world.payee.address) == after, "a second run costs nothing"
        for output in (done, again):
            assert seed.reveal() not in output.stdout + output.stderr


async def test_without_a_node_the_daemons_retained_states_are_compared(tmp_path: Path) -> None:
    """They are there before the first claim that relies on them."""
    async with World(tmp_path) as world:
        stage = await world.stage([Server("news-eu", [world.payee.address])])
        async with client_of(world, stage, tmp_path / "claims.db", ledger=None) as client:
            accepted = await client.claim(payee=world.payee.address, drops=1500)
            known = client._belief.states.known(accepted.claim.channel_id)
            assert known is not None
            assert known.channel is not None
            assert (known.channel.payee, known.closing) == (accepted.payee, False)
            assert known.channel.amount >= accepted.claim.amount


async def test_redeem_says_what_is_wrong_and_shows_no_seed(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        stage = await world.stage([Server("news-eu", [world.payee.address])])
        path = tmp_path / "claims.db"
        async with client_of(world, stage, path) as client:
            await client.claim(payee=world.payee.address, drops=5000)
        secret = new_seed("ed25519").reveal()
        write_private(tmp_path / "other.seed", secret + "\n", "other")
        write_private(tmp_path / "broken.seed", secret[:-1] + "x\n", "broken")
        open_to_all = tmp_path / "open.seed"
        open_to_all.write_text(secret)
        open_to_all.chmod(0o644)
        garbage = tmp_path / "garbage.db"
        garbage.write_bytes(b"no database" * 100)
        url = world.ledger_url
        for claims, seed, node, status, says in [
            (path, "other.seed", url, 2, "no claim pays that"),
            (path, "broken.seed", url, 2, "does not hold a family seed"),
            (path, "open.seed", url, 2, "chmod 600"),
            (path, "none.seed", url, 2, "no such file"),
            (tmp_path / "none.db", "other.seed", url, 2, "no such file"),
            (garbage, "other.seed", url, 2, "not a database"),
        ]:
            words = ["--claims", str(claims), "--seed-file", str(tmp_path / seed), "--node", node]
            done = await asyncio.to_thread(run, [*CLIENT, "redeem", *words], tmp_path)
            assert (done.returncode, says in done.stderr) == (status, True), done.stderr
            assert secret[:-2] not in done.stdout + done.stderr
            assert "Traceback" not in done.stderr
        with contextlib.suppress(FileNotFoundError):
            (tmp_path / "payee.seed").unlink()
