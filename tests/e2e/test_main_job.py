"""The main job on real parts: a request over Mosquitto comes back as a signed claim that the ledger accepts."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
from waiting import until

from channeld.adapters.signer import KeyType
from channeld.sandbox.stage import PATIENCE_S, POLICY, Server
from e2e.world import XRP, ContentServer, World, accounts_for, content_server

pytestmark = pytest.mark.slow


def mosquitto_ask(port: int, server: str, request: dict[str, Any]) -> dict[str, Any]:
    """Ask as a person does, with Mosquitto's own clients."""
    topic, base = f"channeld/v1/servers/{server}", ["-h", "127.0.0.1", "-p", str(port), "-V", "mqttv5", "-q", "1"]
    answer = subprocess.run(
        ["mosquitto_rr", *base, "-t", f"{topic}/claim", "-e", f"{topic}/reply", "-m", json.dumps(request), "-W", "10"],
        capture_output=True,
        check=True,
        timeout=PATIENCE_S,
    )
    reply: dict[str, Any] = json.loads(answer.stdout)
    return reply


@pytest.mark.parametrize("key_type", ["ed25519", "secp256k1"])
async def test_a_claim_from_mosquittos_clients_verifies_on_the_node(tmp_path: Path, key_type: KeyType) -> None:
    async with World(tmp_path) as world:
        stage = await world.stage([Server("a", [f"{world.payee.address}:7"])], key_type=key_type)
        request = {"id": "6f1c", "drops": "1500"}
        first = await asyncio.to_thread(mosquitto_ask, world.broker.port, "a", request)
        assert (first["code"], first["id"]) == ("no_headroom", "6f1c")
        await asyncio.sleep(first["retry_after_ms"] / 1000)
        reply = await asyncio.to_thread(mosquitto_ask, world.broker.port, "a", request)

        assert reply["status"] == "accepted", "retry_after_ms holds"
        assert reply["covers"] == {"from": "0", "to": "1500"}
        assert reply["claim"]["public_key"] == stage.claim_key.public_key
        verified = await world.ledger.result("channel_verify", **reply["claim"])
        assert verified == {"signature_verified": True}
        (channel,) = await world.ledger.channels(stage.wallet.address)
        assert channel["channel_id"] == reply["claim"]["channel_id"]
        assert channel["account"] == reply["source_account"] == stage.wallet.address
        assert channel["destination_account"] == reply["destination_account"] == world.payee.address
        assert channel["destination_tag"] == reply["destination_tag"] == 7


async def test_the_payee_redeems_the_claim_without_us(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        await world.stage([Server("a", [world.payee.address])])
        async with content_server(world) as server:
            reply = await server.buy({"id": "1", "drops": "2000"})
        claim = reply["claim"]
        redeem = {
            "TransactionType": "PaymentChannelClaim",
            "Channel": claim["channel_id"],
            "Balance": claim["amount"],
            "Amount": claim["amount"],
            "Signature": claim["signature"],
            "PublicKey": claim["public_key"],
        }
        answer = await world.ledger.submit(redeem, world.payee)
        assert answer["engine_result"] == "tesSUCCESS"

        async def paid() -> bool:
            entry = await world.ledger.result(
                "ledger_entry", payment_channel=claim["channel_id"], ledger_index="validated"
            )
            return entry["node"]["Balance"] == "2000"

        await until(paid)


LIFE = (
    POLICY.replace('settle_delay = "1h"', 'settle_delay = "2s"')
    .replace('worth = "5 XRP"', 'worth = "3 XRP"')
    .replace('idle = "1h", min_age = "1h"', 'idle = "15s", min_age = "0s"')
)


async def test_a_channel_lives_from_open_to_close_by_the_policys_values(tmp_path: Path) -> None:
    """Opened on demand, funded before it runs dry, settled when worth it, closed when idle and all is paid."""
    async with World(tmp_path) as world:
        stage = await world.stage([Server("a", [world.payee.address])], policy=LIFE)
        async with content_server(world) as server:
            for n in range(9):
                await server.buy({"id": str(n), "drops": str(XRP // 2)})
                await asyncio.sleep(0.3)
        await until(lambda: _gone(world, stage.wallet.address), what="the channel is closed")
        history = await world.history(stage.wallet.address)
        kinds = [entry["tx_json"]["TransactionType"] for entry in history]
        assert kinds.count("PaymentChannelCreate") == 1
        assert "PaymentChannelFund" in kinds
        deleted = [n["DeletedNode"] for e in history for n in e["meta"]["AffectedNodes"] if "DeletedNode" in n]
        (channel,) = [d for d in deleted if d["LedgerEntryType"] == "PayChannel"]
        assert channel["FinalFields"]["Balance"] == str(9 * XRP // 2), "what was signed is paid before the close"
        assert int(await _balance(world, world.payee.address)) == 100 * XRP + 9 * XRP // 2


async def _gone(world: World, account: str) -> bool:
    return not await world.ledger.channels(account)


async def _balance(world: World, account: str) -> str:
    result = await world.ledger.result("account_info", account=account, ledger_index="validated")
    balance: str = result["account_data"]["Balance"]
    return balance


async def test_sigterm_answers_what_was_taken_and_says_goodbye(tmp_path: Path) -> None:
    async with World(tmp_path) as world:
        stage = await world.stage([Server("a", [world.payee.address])])
        async with content_server(world) as server:
            await server.buy({"id": "first", "drops": "1"})
            replies = [server.expect(str(n)) for n in range(200)]
            for n in range(200):
                await server.publish(json.dumps({"id": str(n), "drops": "5"}))
            assert await stage.daemon.stop(signal.SIGTERM) == 0
            status = asyncio.create_task(_retained(server, f"channeld/v1/daemons/{stage.name}/status"))
            assert json.loads(await status)["status"] == "offline"
            await stage.start()
            await asyncio.wait_for(asyncio.gather(*replies), PATIENCE_S)
            accounts_for([server])


async def _retained(server: ContentServer, topic: str) -> bytes:
    import aiomqtt

    async with aiomqtt.Client("127.0.0.1", server._port, protocol=aiomqtt.ProtocolVersion.V5) as client:
        await client.subscribe(topic, qos=1)
        async for message in client.messages:
            return bytes(message.payload)  # type: ignore[arg-type]
    raise AssertionError("nothing retained")
