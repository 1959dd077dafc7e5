"""SIGKILL at any moment: what was returned is in the file, and no id was sent with two contents.

Eight deaths here; `scripts/soak client [DEATHS]` runs a hundred.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import socket
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import aiomqtt
import pytest

from channeld.adapters.sqlite.reader import read_whole
from channeld.client import Accepted, Client, errors
from channeld.client.booking import read_best, slices
from channeld.client.claims_file import open_file
from channeld.sandbox.stage import PATIENCE_S, Server
from e2e.world import World

pytestmark = pytest.mark.slow
DEATHS = int(os.environ.get("CHANNELD_CLIENT_DEATHS", "8"))
HAMMER = Path(__file__).parents[1] / "client/hammer.py"
SERVER = "a"


class Listener:
    """Hears all that is asked and answered, by id."""

    def __init__(self) -> None:
        self.contents: dict[str, dict[str, Any]] = {}
        self.accepted: dict[str, dict[str, Any]] = {}
        self.repeated = 0

    async def listen(self, client: aiomqtt.Client) -> None:
        async for message in client.messages:
            assert isinstance(message.payload, bytes)
            said = json.loads(message.payload)
            for one in said if isinstance(said, list) else [said]:
                if "status" in one:
                    self._answered(one)
                else:
                    self._asked(one)

    def _asked(self, request: dict[str, Any]) -> None:
        contents = {name: value for name, value in request.items() if name != "held"}
        before = self.contents.setdefault(request["id"], contents)
        assert before == contents, "an id was sent with two contents"
        self.repeated += before is not contents

    def _answered(self, answer: dict[str, Any]) -> None:
        if answer["status"] == "accepted":
            self.accepted[answer["id"]] = answer


@asynccontextmanager
async def listening(port: int) -> AsyncIterator[Listener]:
    made = Listener()
    options = [(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)]
    version = aiomqtt.ProtocolVersion.V5
    async with aiomqtt.Client("127.0.0.1", port, protocol=version, socket_options=options) as client:
        await client.subscribe([(f"channeld/v1/servers/{SERVER}/{what}", 1) for what in ("claim", "reply/#")])
        task = asyncio.create_task(made.listen(client))
        try:
            yield made
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
    if not task.cancelled() and task.exception() is not None:
        raise AssertionError from task.exception()


def returned(log: Path) -> list[list[Any]]:
    """What `claim` returned in all lives so far; a line that was cut by death had not been served."""
    return [json.loads(line) for line in log.read_text().splitlines(keepends=True) if line.endswith("\n")]


def nothing_is_missing(path: Path, served: list[list[Any]]) -> None:
    """All that was returned stands in the file as accepted, within what was bought, and below the best claim."""
    with closing(open_file(path, None)) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        states = dict(db.execute("SELECT id, state FROM request"))
        best = {held.claim.channel_id: held.claim.amount for held in read_best(db)}
        bought = sum(stop - start for _, start, stop in slices(db))
        drops = db.execute("SELECT coalesce(sum(drops), 0) FROM request WHERE state = 'accepted'").fetchone()
    for request_id, _, channel_id, covers_to, amount in served:
        assert states[request_id] == "accepted"
        assert best[channel_id] >= amount >= covers_to
    assert drops == (bought,)


async def test_a_client_killed_under_load_loses_nothing_and_sends_no_id_twice(tmp_path: Path) -> None:
    rng = random.Random(DEATHS)
    path, log = tmp_path / "claims.db", tmp_path / "served.log"
    async with World(tmp_path) as world:
        payees = [f"{world.payee.address}:{tag}" for tag in range(3)]
        stage = await world.stage([Server(SERVER, payees)])
        terms: dict[str, Any] = {
            "url": f"mqtt://127.0.0.1:{world.broker.port}",
            "server": SERVER,
            "public_key": stage.claim_key.public_key,
            "payer": stage.wallet.address,
            "path": str(path),
            "ledger": world.ledger_url,
            "timeout_s": 60.0,
        }
        async with listening(world.broker.port) as heard:
            for death in range(DEATHS):
                before = len(heard.accepted)
                await one_life(terms | {"payees": payees}, log, heard, rng, first=death == 0)
                await asyncio.to_thread(nothing_is_missing, path, returned(log))
                assert death or len(heard.accepted) > before
            async with Client(**terms) as client:
                for result in await client.finish():
                    assert isinstance(result, (Accepted, errors.TooLate)), result
                assert await client.unanswered() == []
            await asyncio.to_thread(nothing_is_missing, path, returned(log))
            with closing(sqlite3.connect(path)) as db:
                accepted = {row[0] for row in db.execute("SELECT id FROM request WHERE state = 'accepted'")}
                best = {row[0]: row[1] for row in db.execute("SELECT channel_id, amount FROM best")}
            assert heard.accepted.keys() == accepted, "what the daemon accepted is in the file"
        with closing(read_whole(stage.store)) as store:
            assert dict(store.execute("SELECT channel_id, authorized FROM channel")) == best
        served = returned(log)
        print(f"{DEATHS} deaths, {len(served)} served, {len(accepted)} accepted, {heard.repeated} repeated")
        assert len(served) > 20 * DEATHS


def start(terms: dict[str, Any], log: Path) -> subprocess.Popen[bytes]:
    with log.open("ab") as file:
        return subprocess.Popen([sys.executable, str(HAMMER), json.dumps(terms)], stdout=file)


async def one_life(terms: dict[str, Any], log: Path, heard: Listener, rng: random.Random, *, first: bool) -> None:
    """Start it, and kill it somewhere: while it starts, finishes, asks or books."""
    process = start(terms, log)
    try:
        if first or rng.random() < 0.8:
            until = len(heard.accepted) + (200 if first else rng.choice([rng.randint(1, 60), rng.randint(1, 1000)]))
            async with asyncio.timeout(PATIENCE_S):
                while len(heard.accepted) < until:
                    assert process.poll() is None, "it lives until it is killed"
                    await asyncio.sleep(0.002)
            await asyncio.sleep(rng.uniform(0, 0.2))
        else:
            await asyncio.sleep(rng.uniform(0, 0.6))
    finally:
        process.kill()
        await asyncio.to_thread(process.wait)
