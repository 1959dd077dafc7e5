"""The node on the wire: envelopes, streams, faults, saved states, and unmodified client libraries."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from waiting import soon
from websockets.exceptions import ConnectionClosed, InvalidStatus
from xrpl.asyncio.clients import AsyncWebsocketClient
from xrpl.asyncio.transaction import submit_and_wait
from xrpl.constants import CryptoAlgorithm
from xrpl.models import Payment
from xrpl.wallet import Wallet

from channeld.core.errors import BadValue, ConfigError
from channeld.core.units import RIPPLE_EPOCH
from channeld.sandbox.ledger import SandboxLedger, faults
from tests.sandbox.client import Client
from tests.sandbox.rig import address, key

QUIET_S = 0.1


async def test_frames_that_are_no_requests() -> None:
    """Not JSON, no object, no command, an unknown version: each has its own answer, and the connection lives."""
    async with SandboxLedger() as ledger, Client(ledger.url) as client:
        for text in ("{", "[1]", '"a"', "[" * 100_000):
            await client.socket.send(text)
            assert await client.receive() == {"type": "error", "error": "jsonInvalid", "value": text}
        await client.socket.send('{"id": "x"}')
        assert (await client.receive())["error"] == "missingCommand"
        await client.socket.send('{"id": 7, "command": "ping", "api_version": 9}')
        assert (await client.receive())["error"] == "invalid_API_version"
        reply = await client.ask("channel_authorize", channel_id="00" * 32, amount="1", secret="sNope")
        assert (reply["error"], reply["request"]["secret"]) == ("badSeed", "<masked>")


async def test_version_one_shapes() -> None:
    """Without api_version: flat transactions, string indexes, no api_version in the answer."""
    async with SandboxLedger() as ledger, Client(ledger.url) as two, Client(ledger.url, api_version=1) as one:
        await one.result("subscribe", streams=["transactions"])
        await two.fund("alice")
        message = await one.receive()
        assert message["transaction"]["hash"] == message["transaction"].get("hash")
        assert message["transaction"]["Amount"] == message["transaction"]["DeliverMax"] == "1000000000"
        tx_hash = message["transaction"]["hash"]
        flat = await one.result("tx", transaction=tx_hash)
        assert (flat["hash"], flat["validated"], flat["meta"]["TransactionResult"]) == (tx_hash, True, "tesSUCCESS")
        nested = await two.result("tx", transaction=tx_hash)
        assert "Amount" not in nested["tx_json"]
        assert await two.result("tx", ctid=nested["ctid"]) == nested
        listed = (await one.result("account_tx", account=address("alice")))["transactions"]
        assert [row["tx"]["hash"] for row in listed] == [tx_hash]
        binary = (await two.result("account_tx", account=address("alice"), binary=True))["transactions"]
        assert set(binary[0]) == {"tx_blob", "meta_blob", "ledger_index", "validated"}
        shown = await one.result("ledger", ledger_index="validated", transactions=True)
        assert shown["ledger"]["ledger_index"] == "3"
        assert shown["ledger"]["transactions"] == [tx_hash]


async def test_streams_in_order_and_proposed() -> None:
    """Proposed at once and without metadata; ledgerClosed before its transactions; the payee hears of a Create only."""
    async with SandboxLedger() as ledger, Client(ledger.url) as client, Client(ledger.url) as ear:
        await client.fund("alice", "bob")
        await ear.result("subscribe", streams=["ledger"], accounts_proposed=[address("bob")])
        create = {"Destination": address("bob"), "Amount": "1000", "SettleDelay": 5}
        assert await client.submit("alice", "PaymentChannelCreate", PublicKey=key("alice").public_key, **create)
        proposed = await ear.receive()
        assert (proposed["status"], "meta" in proposed, proposed["ledger_current_index"]) == ("proposed", False, 4)
        await client.result("ledger_accept")
        closed, validated = await ear.receive(), await ear.receive()
        assert (closed["type"], closed["txn_count"]) == ("ledgerClosed", 1)
        assert (validated["validated"], validated["hash"]) == (True, proposed["hash"])
        await ear.result("unsubscribe", streams=["ledger"], accounts_proposed=[address("bob")])
        await client.result("ledger_accept")
        with pytest.raises(TimeoutError):
            await ear.receive(QUIET_S)


async def test_paging_with_a_fixed_ledger() -> None:
    """Every page by number and marker, while ledgers go on: each channel once, though pages may be empty."""
    async with SandboxLedger() as ledger, Client(ledger.url) as client:
        await client.fund("alice", "bob")
        assert await client.submit("alice", "TicketCreate", TicketCount=40) == "tesSUCCESS"
        body = {"Destination": address("bob"), "Amount": "1000", "SettleDelay": 5, "PublicKey": key("alice").public_key}
        for _ in range(40):
            assert await client.submit("alice", "PaymentChannelCreate", **body) == "tesSUCCESS"
        await client.result("ledger_accept")
        at = ledger.node.validated.index
        await client.result("ledger_accept")
        for command, rows, extra in (
            ("account_channels", "channels", {}),
            ("account_objects", "account_objects", {"type": "payment_channel"}),
        ):
            found: list[dict[str, Any]] = []
            pages, marker = 0, None
            while marker is not None or not pages:
                more = {"marker": marker} if marker else {}
                params = {"account": address("alice"), "ledger_index": at, "limit": 7, **extra, **more}
                reply = await client.result(command, **params)
                found, pages, marker = found + reply[rows], pages + 1, reply.get("marker")
            assert len({row.get("channel_id") or row["index"] for row in found}) == len(found) == 40
            assert pages == 12
        many = await client.result("account_tx", account=address("alice"), limit=15, forward=True)
        rest = await client.result("account_tx", account=address("alice"), forward=True, marker=many["marker"])
        assert len(many["transactions"]) + len(rest["transactions"]) == 42


@pytest.mark.parametrize(
    ("low", "high", "version", "said"),
    [
        (-1, -1, 2, None),
        (0, -1, 2, None),
        (2, 3, 2, None),
        (1, -1, 2, "lgrIdxMalformed"),
        (2, 4, 2, "lgrIdxMalformed"),
        (9, -1, 2, "invalidLgrRange"),
        (1, 99, 1, None),
        (9, -1, 1, "lgrIdxsInvalid"),
    ],
)
async def test_account_tx_ranges(low: int, high: int, version: int, said: str | None) -> None:
    """Version 1 clips a range to what the node has; version 2 refuses one that reaches beyond it."""
    async with SandboxLedger() as ledger, Client(ledger.url, version) as client:
        await client.fund("alice")
        bounds = {"ledger_index_min": low, "ledger_index_max": high}
        reply = await client.ask("account_tx", account=address("alice"), **bounds)
        assert reply.get("error") == said
        if said is None:
            found = reply["result"]
            assert (found["ledger_index_min"], found["ledger_index_max"]) == (2, 3)


async def test_xrpl_py_helpers_work_unmodified() -> None:
    """autofill and submit_and_wait, with a timer closing ledgers."""
    async with SandboxLedger(close_interval_s=0.1) as ledger, AsyncWebsocketClient(ledger.url) as client:
        wallet = Wallet.from_seed("snoPBrXtMeMyMHUVTgbuqAfg1SUTb", algorithm=CryptoAlgorithm.SECP256K1)
        payment = Payment(account=wallet.address, destination=address("alice"), amount="25000000")
        response = await submit_and_wait(payment, client, wallet)
        assert response.result["meta"]["TransactionResult"] == "tesSUCCESS"


async def test_lost_late_and_refused_answers() -> None:
    """A lost answer's transaction is taken all the same; a refused one's is not."""
    async with SandboxLedger() as ledger, Client(ledger.url) as client:
        await client.fund("alice")
        await client.fault("submit_answer", mode="lose")
        lost = await client.post("submit", tx_blob=await client.sign("alice", "AccountSet"))
        await client.result("ping")
        assert all(message.get("id") != lost for message in client.heard)
        assert len(ledger.node.open.transactions) == 1
        await client.fault("submit_answer", mode="delay", delay_ms=50)
        late = await client.post("submit", tx_blob=await client.sign("alice", "AccountSet"))
        assert (await client.answer(late))["result"]["engine_result"] == "tesSUCCESS"
        await client.fault("submit_refuse", count=1)
        assert await client.submit("alice", "AccountSet") == "telINSUF_FEE_P"
        assert len(ledger.node.open.transactions) == 2
        await client.fault("queue", ledgers=2)
        assert await client.submit("alice", "AccountSet") == "terQUEUED"
        counts = []
        for _ in range(3):
            await client.result("ledger_accept")
            counts.append(ledger.node.validated.transaction_count)
        assert counts == [2, 0, 1]


@pytest.mark.parametrize(("mode", "times"), [("repeat", 2), ("skip", 0), ("delay", 1)])
async def test_stream_faults(mode: str, times: int) -> None:
    """The next ledgerClosed comes twice, not at all, or later; the one after as ever."""
    async with SandboxLedger() as ledger, Client(ledger.url) as client, Client(ledger.url) as ear:
        await ear.result("subscribe", streams=["ledger"])
        await client.fault("stream", mode=mode, of="ledgerClosed", delay_ms=20)
        await client.result("ledger_accept")
        if mode == "delay":
            assert (await ear.receive())["ledger_index"] == 3
        await client.result("ledger_accept")
        wanted = [3] * (times if mode != "delay" else 0) + [4]
        assert [(await ear.receive())["ledger_index"] for _ in wanted] == wanted


async def test_disconnect_and_refused_connections() -> None:
    """Others are cut, the one that asks lives; new ones get 503 until resumed."""
    async with SandboxLedger() as ledger, Client(ledger.url) as client, Client(ledger.url) as other:
        await client.fault("disconnect")
        with pytest.raises(ConnectionClosed):
            await other.receive()
        await client.fault("refuse_connections")
        with pytest.raises(InvalidStatus):
            await Client(ledger.url).__aenter__()
        await client.fault("resume")
        async with Client(ledger.url) as third:
            await third.result("ping")


async def test_stalled_and_frozen() -> None:
    """No ledger closes until resumed; frozen answers come after resume, in order."""
    async with SandboxLedger(close_interval_s=0.02) as ledger, Client(ledger.url) as client:
        await client.fault("stall")
        stopped = (await client.result("ledger_accept"))["ledger_current_index"]
        await client.result("subscribe", streams=["ledger"])
        with pytest.raises(TimeoutError):
            await client.receive(QUIET_S)
        await client.fault("resume")
        assert (await client.receive())["ledger_index"] == stopped
        await client.fault("stall")
        await client.fault("freeze_answers")
        numbers = [await client.post("ping"), await client.post("fee")]
        await client.fault("resume")
        answers = [await client.receive(), await client.receive()]
        assert [message["id"] for message in answers if message.get("type") == "response"] == numbers


async def test_lag_and_clock() -> None:
    """A lagging node shows older validated ledgers; the clock goes where it is put."""
    async with SandboxLedger() as ledger, Client(ledger.url) as client:
        for _ in range(4):
            await client.result("ledger_accept")
        await client.fault("lag", ledgers=3)
        assert (await client.result("ledger_closed"))["ledger_index"] == ledger.node.validated.index - 3
        assert (await client.ask("ledger", ledger_index=ledger.node.validated.index))["error"] == "lgrNotFound"
        assert "lag" in (await client.fault("list"))["faults"]
        assert (await client.fault("clear"))["faults"] == {}
        start = ledger.node.validated.close_time + 5000
        assert (await client.fault("clock", set=start, frozen=True))["time"] == start
        await client.result("ledger_accept")
        assert abs(ledger.node.validated.close_time - start) <= 5
        moved = (await client.fault("clock", offset_s=7200))["time"]
        assert abs(moved - (time.time() + 7200 - RIPPLE_EPOCH)) < 5


@pytest.mark.parametrize(
    "request_fields",
    [
        {"kind": "nonsense"},
        {"kind": "submit_answer", "mode": "eat"},
        {"kind": "queue", "count": 0},
        {"kind": "queue", "ledgers": 1.5},
        {"kind": "stall", "seconds": -1},
        {"kind": "stream", "mode": "skip", "of": "nothing"},
        {"kind": "submit_refuse", "engine_result": "tesFINE"},
        {"kind": "disconnect", "count": "all"},
        {"kind": "clock", "offset_s": "late"},
    ],
)
async def test_bad_faults(request_fields: dict[str, Any]) -> None:
    """Refused with a text that says what would be taken; an unknown kind names the known ones."""
    async with SandboxLedger() as ledger, Client(ledger.url) as client:
        reply = await client.ask("fault", **request_fields)
        assert reply["error"] == "invalidParams"
        if request_fields["kind"] == "nonsense":
            assert all(kind in reply["error_message"] for kind in faults.KINDS)
        assert ledger.node.faults.describe() == {}


async def test_saved_and_loaded(tmp_path: Path) -> None:
    """History, objects, the open ledger and the queue come back; two nodes may start from one file."""
    path = tmp_path / "ledger.json"
    async with SandboxLedger(state_file=path) as ledger, Client(ledger.url) as client:
        await client.fund("alice", "bob")
        assert await client.submit("alice", "AccountSet") == "tesSUCCESS"
        await client.fault("queue", ledgers=2)
        assert await client.submit("alice", "AccountSet") == "terQUEUED"
        header = ledger.node.validated
    for _ in range(2):
        copy = tmp_path / "copy.json"
        copy.write_bytes(path.read_bytes())
        async with SandboxLedger(state_file=copy) as again, Client(again.url) as client:
            assert again.node.validated == header
            assert again.node.state.digest() == header.account_hash
            history = await client.result("account_tx", account=address("alice"))
            assert len(history["transactions"]) == 1
            for _ in range(3):
                await client.result("ledger_accept")
            history = await client.result("account_tx", account=address("alice"))
            assert len(history["transactions"]) == 3


async def test_saved_while_running(tmp_path: Path) -> None:
    """save_state writes the file at once, whole, with the ledger going on."""
    path = tmp_path / "ledger.json"
    async with SandboxLedger(state_file=path) as ledger, Client(ledger.url) as client:
        await client.result("ledger_accept")
        await client.result("save_state")
        await soon(path.exists, "the file is there")
        assert json.loads(path.read_text())["headers"][-1][0] == ledger.node.validated.index


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "can not be read"),
        ("{}", "no saved ledger"),
        ('{"format": "channeld sandbox ledger", "version": 99}', "another version"),
        ('{"format": "channeld sandbox ledger", "version": 1, "network_id": 5}', "of network 5"),
        ('{"format": "channeld sandbox ledger", "version": 1, "network_id": 0}', "damaged"),
    ],
)
def test_bad_state_files(tmp_path: Path, text: str, said: str) -> None:
    """Refused with a clear sentence."""
    path = tmp_path / "ledger.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match=said):
        SandboxLedger(state_file=path)


async def test_state_with_wrong_sums_is_refused(tmp_path: Path) -> None:
    """Drops that do not add up, or a broken chain of headers."""
    path = tmp_path / "ledger.json"
    async with SandboxLedger(state_file=path) as ledger:
        ledger.close_ledger()
    saved = json.loads(path.read_text())
    saved["headers"][-1][2] = "0" * 64
    path.write_text(json.dumps(saved))
    with pytest.raises(ConfigError, match="does not follow"):
        SandboxLedger(state_file=path)


def test_unknown_amendment() -> None:
    """Only what changes this ledger can be switched."""
    with pytest.raises(BadValue, match="fixCleanup3_2_0"):
        SandboxLedger(amendments={"fixEverything": True})
