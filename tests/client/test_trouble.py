"""Broker, node, disk and login fail around the client: each is said by its name, and no held claim is lost."""

from __future__ import annotations

import asyncio
import contextlib
import random
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from client.rig import SERVER, in_file, one_contents_per_id, rig, submit
from client.scene import AMOUNT, SOLD, Body
from waiting import soon

from channeld.client import Accepted, Client, errors
from channeld.sandbox.broker import Access, Account, SandboxBroker
from channeld.sandbox.ledger import SandboxLedger
from channeld.sandbox.ledger_client import LedgerClient


async def test_a_broker_that_goes_away_costs_time_only(tmp_path: Path) -> None:
    async with rig(tmp_path, channels=False) as made:
        async with made.client(ledger=False) as client:
            before = await made.claim(client)
            port = made.broker.port
            await made.broker.stop()
            with pytest.raises(errors.BrokerLost) as lost:
                await made.claim(client, id="lost", timeout_s=0.5)
            assert lost.value.id == "lost"
            assert [held.claim for held in await client.best()] == [before.claim]
            waiting = asyncio.create_task(made.claim(client))
            made.broker = SandboxBroker(port=port)
            await made.broker.start()
            after = await waiting
            assert after.covers_from == before.covers_to
            assert isinstance((await client.finish())[0], (Accepted, errors.TooLate))
        one_contents_per_id(made)


async def test_a_session_dropped_in_the_middle_is_made_again_and_all_is_answered(tmp_path: Path) -> None:
    async with rig(tmp_path, channels=False) as made:
        drops = random.Random(9)

        def cut(requests: list[Body]) -> list[Any]:
            if drops.random() < 0.3:
                for one in list(made.broker.clients):
                    if one._session is not None and one._session.client_id != "daemon":
                        assert one._transport is not None
                        one._transport.abort()
            return made.daemon.honest(requests)

        made.daemon.answers = cut
        async with made.client(ledger=False) as client:
            accepted = [await made.claim(client) for _ in range(12)]
            assert accepted[-1].covers_to == (await client.best())[0].claim.amount == 12_000
        one_contents_per_id(made)


async def test_a_full_disk_stops_sales_and_loses_nothing(tmp_path: Path) -> None:
    async with rig(tmp_path, channels=False) as made:
        async with made.client(ledger=False) as client:
            before = await made.claim(client)
            asked = len(made.daemon.asked)
            fill(client)
            with pytest.raises(errors.DiskFull):
                await made.claim(client, content="x" * 200, id="never sent" + "y" * 100)
            assert len(made.daemon.asked) == asked, "what could not be written down was not sent"
            room(client)

            def fill_then_answer(requests: list[Body]) -> list[Any]:
                fill(client)
                return made.daemon.honest(requests)

            made.daemon.answers = fill_then_answer
            with pytest.raises(errors.DiskFull) as full:
                await made.claim(client, id="kept later")
            assert full.value.id == "kept later"
            assert full.value.accepted is not None
            assert full.value.accepted.covers_from == before.covers_to
            assert [held.claim for held in await client.best()] == [before.claim]
            room(client)
            made.daemon.answers = made.daemon.honest
            again = await made.claim(client, id="kept later")
            assert again.replayed
            assert [held.claim.amount for held in await client.best()] == [2000]


def database(client: Client) -> sqlite3.Connection:
    assert client._journal._db is not None
    return client._journal._db


def fill(client: Client) -> None:
    """Let the file not grow, and leave no room within it."""
    db = database(client)
    db.execute("PRAGMA journal_mode = DELETE")
    (pages,) = db.execute("PRAGMA page_count").fetchone()
    db.execute(f"PRAGMA max_page_count = {pages}")
    with contextlib.suppress(sqlite3.OperationalError):
        for n in range(10_000):
            db.execute(
                "INSERT OR IGNORE INTO request VALUES (?, 'r', 0, 1, 0, ?, 'rejected', 0, NULL)", (f"f{n}", "z" * 100)
            )
    for n in range(10_000):
        try:
            db.execute("INSERT OR IGNORE INTO slice VALUES (?, 0, 1)", (f"{n:064x}",))
        except sqlite3.OperationalError:
            break


def room(client: Client) -> None:
    database(client).execute("PRAGMA max_page_count = 1000000")


async def test_a_node_that_lags_is_given_time(tmp_path: Path) -> None:
    async with rig(tmp_path) as made:
        made.daemon.sold = AMOUNT - SOLD
        async with made.client(ledger_patience_s=8.0) as client:
            waiting = asyncio.create_task(made.claim(client, SOLD + 1))
            await soon(lambda: made.daemon.asked, "it is asked for")
            async with LedgerClient(made.ledger.url) as node:
                fund = {"TransactionType": "PaymentChannelFund", "Amount": "10"}
                fund["Channel"] = made.scene.channels["good"].channel_id
                await submit(node, made.ledger, fund, made.scene.wallet)
            assert (await waiting).covers_to == AMOUNT + 1


async def test_without_the_node_that_was_named_nothing_is_believed(tmp_path: Path) -> None:
    async with rig(tmp_path, channels=False) as made:
        async with SandboxLedger() as other:
            nowhere = other.url
        async with made.client(ledger=False, path=made.path) as client:
            client._belief.node = made_node(nowhere)
            with pytest.raises(errors.LedgerUnreachable):
                await made.claim(client, id="r")
            assert await client.unanswered() == ["r"], "it was not counted as paid"
            (held,) = await client.best()
            assert held.claim.amount == 1000, "its claim is kept all the same: it may be good"
            assert in_file(made, "SELECT * FROM slice") == []
            await client._belief.node.close()
            client._belief.node = None
            assert isinstance((await client.finish())[0], Accepted)


def made_node(url: str, network_id: int = 0) -> Any:
    from channeld.client.channels import LedgerNode

    return LedgerNode(url, network_id)


async def test_a_node_of_another_network_is_refused(tmp_path: Path) -> None:
    """Channel ids and claims name no network: money of a test network must not pass for money."""
    async with rig(tmp_path) as made, SandboxLedger(network_id=2) as other:
        async with made.client(ledger=False) as client:
            client._belief.node = made_node(other.url)
            for _ in range(2):
                with pytest.raises(errors.WrongNetwork):
                    await made.claim(client)


async def test_a_client_that_is_closed_tells_those_who_wait(tmp_path: Path) -> None:
    async with rig(tmp_path, channels=False) as made:
        made.daemon.answers = lambda _: []
        async with made.client(ledger=False) as client:
            waiting = asyncio.create_task(made.claim(client, id="r"))
            await soon(lambda: made.daemon.asked, "it is asked for")
        with pytest.raises(errors.Closed):
            await waiting
        with pytest.raises(errors.Closed):
            await made.claim(client)
        assert in_file(made, "SELECT id, state FROM request") == [("r", "sent")]


async def test_a_login_that_is_refused_is_said_so(tmp_path: Path) -> None:
    broker = SandboxBroker(access=Access({"news": Account("right")}))
    await broker.start()
    try:
        with pytest.raises(errors.NotAuthorized) as caught:
            async with client_of(broker.port, tmp_path, username="news", password="wrong-secret"):
                pass
        assert "wrong-secret" not in str(caught.value)
        async with client_of(broker.port, tmp_path, username="news", password="right"):
            pass
    finally:
        await broker.stop()
    with pytest.raises(errors.BrokerLost):
        async with client_of(broker.port, tmp_path, timeout_s=0.5):
            pass


def client_of(port: int, folder: Path, **more: Any) -> Client:
    key = "ED" + "0" * 64
    return Client(f"mqtt://127.0.0.1:{port}", server=SERVER, public_key=key, path=folder / "claims.db", **more)
