"""The examples do what they say, against a stage as their readers start it."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from waiting import until

from channeld.sandbox.ledger_client import LedgerClient
from channeld.sandbox.stage import PATIENCE_S, Process, free_port

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
ARTICLES, NODE = ROOT / "examples/articles", ROOT / "examples/node"


@asynccontextmanager
async def stage(folder: Path) -> AsyncIterator[tuple[Path, dict[str, str]]]:
    """`channeld sandbox stage`, and what it says that a client needs."""
    out = folder / "stage.json"
    process = Process(folder, "stage", "sandbox", "stage", "--out", str(out))
    process.start()
    try:
        await until(lambda: out.exists() or not process.running, what="the stage is ready")
        assert process.running, process.tail()
        yield out, json.loads(out.read_text())
    finally:
        assert await process.stop() == 0


def get(url: str, reader: str | None) -> tuple[int, str]:
    request = urllib.request.Request(url, headers={} if reader is None else {"X-Reader": reader})
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError:
        return 0, ""


def serve(stage_file: Path, port: int, folder: Path) -> subprocess.Popen[bytes]:
    """The articles' web server, as their reader starts it."""
    command = [sys.executable, "-m", "uvicorn", "--app-dir", str(ARTICLES), "--port", str(port), "app:app"]
    environment = {**os.environ, "STAGE": str(stage_file), "CLAIMS": str(folder / "claims.db")}
    with (folder / "web.log").open("wb") as log:
        return subprocess.Popen(command, stdout=log, stderr=log, cwd=folder, env=environment)


async def test_articles_are_served_when_paid_and_paid_once(tmp_path: Path) -> None:
    async with stage(tmp_path) as (out, needed):
        port = free_port()
        url = f"http://127.0.0.1:{port}"
        web = await asyncio.to_thread(serve, out, port, tmp_path)
        try:
            await until(lambda: get(f"{url}/income", None)[0] == 200, what="the web server answers")
            assert (await asyncio.to_thread(get, f"{url}/articles/9", None))[0] == 401
            pages = [("u-17", 9), ("u-17", 9), ("u-18", 9), ("u-17", 10)]
            for reader, number in pages:
                page = await asyncio.to_thread(get, f"{url}/articles/{number}", reader)
                assert page == (200, f"Article {number}, paid for.\n")
            _, income = await asyncio.to_thread(get, f"{url}/income", None)
            ((channel, amount),) = [line.split() for line in income.splitlines()]
            assert int(amount) == 1500 * len(set(pages)), "the same page to the same reader costs once"
            web.kill()
            await asyncio.to_thread(web.wait, 20)
            web = await asyncio.to_thread(serve, out, port, tmp_path)
            await until(lambda: get(f"{url}/income", None)[0] == 200, what="the web server answers again")
            for reader, number in pages:
                assert (await asyncio.to_thread(get, f"{url}/articles/{number}", reader))[0] == 200
            assert (await asyncio.to_thread(get, f"{url}/income", None))[1] == income, "what was paid stays paid"
            async with LedgerClient(needed["ledger"]) as ledger:
                entry = await ledger.result("ledger_entry", payment_channel=channel, ledger_index="validated")
                assert entry["node"]["Destination"] == needed["payee"]
        finally:
            web.terminate()
            await asyncio.to_thread(web.wait, 20)


def node_modules() -> Path:
    """A folder with the Node example and what its lock file says, installed once."""
    npm = shutil.which("npm")
    version = re.match(r"v(\d+)", output("node", "--version") if shutil.which("node") else "")
    assert npm is not None and version is not None and int(version[1]) >= 18, (
        "the Node example needs nodejs 18 and npm: scripts/test installs Debian's packages, or install them yourself"
    )
    digest = hashlib.sha256((NODE / "package-lock.json").read_bytes()).hexdigest()[:12]
    place = ROOT / ".venv" / f"node-example-{digest}"
    if not place.exists():
        with tempfile.TemporaryDirectory(dir=ROOT / ".venv") as folder:
            made = Path(folder) / "example"
            shutil.copytree(NODE, made, ignore=shutil.ignore_patterns("node_modules"))
            command = [npm, "ci", "--no-audit", "--no-fund"]
            done = subprocess.run(command, cwd=made, capture_output=True, text=True, check=False)
            assert done.returncode == 0, f"npm ci failed; it needs the network once: {done.stderr}"
            with contextlib.suppress(OSError):  # another test process was faster
                made.rename(place)
    shutil.copy(NODE / "claim.mjs", place)
    return place


def output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


async def test_the_node_example_gets_a_claim_that_xrpl_js_verifies(tmp_path: Path) -> None:
    place = await asyncio.to_thread(node_modules)

    def claim(out: Path, *words: str) -> subprocess.CompletedProcess[str]:
        command = ["node", str(place / "claim.mjs"), str(out), *words]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE_S, check=False)

    async with stage(tmp_path) as (out, needed):
        first = await asyncio.to_thread(claim, out, "1500", "order-1")
        assert first.returncode == 0, first.stderr
        said: dict[str, Any] = json.loads(first.stdout)
        assert (said["sold_for"], said["claim"]["public_key"]) == ("1500", needed["public_key"])
        async with LedgerClient(needed["ledger"]) as ledger:
            assert await ledger.result("channel_verify", **said["claim"]) == {"signature_verified": True}
        second = await asyncio.to_thread(claim, out, "2500")
        assert second.returncode == 0, second.stderr
        kept = json.loads((tmp_path / "claims.json").read_text())
        assert [best["amount"] for best in kept["best"].values()] == ["4000"]

        wrong = tmp_path / "wrong.json"
        for change, says in [
            ({"public_key": "ED" + "0" * 64}, "Lie: the public key is not the pinned one"),
            ({"payer": needed["payee"]}, "Lie: another account pays"),
        ]:
            wrong.write_text(json.dumps(needed | change))
            refused = await asyncio.to_thread(claim, wrong, "10")
            assert (refused.returncode, says in refused.stderr) == (1, True), refused.stderr
        assert json.loads((tmp_path / "claims.json").read_text())["best"] == kept["best"], "a lie changes nothing held"


def test_the_lock_of_the_node_example_names_no_registry() -> None:
    """It installs from whatever registry npm is configured for."""
    lock = json.loads((NODE / "package-lock.json").read_text())
    packages = [package for name, package in lock["packages"].items() if name]
    assert len(packages) > 20
    assert all("integrity" in package and "resolved" not in package for package in packages)
    wanted = json.loads((NODE / "package.json").read_text())["dependencies"]
    assert lock["packages"][""]["dependencies"] == wanted
    assert wanted["xrpl"] == "4.6.0"
