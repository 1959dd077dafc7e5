"""The published claim vectors, through this ledger's submit path and its channel_verify."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from channeld.sandbox.ledger import SandboxLedger, codec
from tests.sandbox.client import Client

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "claim-vectors.json").read_text())


@pytest.mark.parametrize("entry", VECTORS["transactions"], ids=lambda entry: entry["hash"][:8])
def test_transactions_decode_and_verify(entry: dict[str, Any]) -> None:
    """The blob gives the fields, the hash and the signed bytes; its signature holds, and no other."""
    tx = codec.decode(entry["tx_blob"])
    assert (tx.json, tx.hash) == (entry["tx_json"], entry["hash"])
    assert codec.signing_bytes(tx).hex().upper() == entry["signing_hex"]
    codec.check(tx)
    spoiled = entry["tx_blob"].replace(tx.json["Fee"] and "6840000000000000", "6840000000000001")
    with pytest.raises(codec.Refused, match="Invalid signature"):
        codec.check(codec.decode(spoiled))


async def test_channel_verify_agrees_with_rippled() -> None:
    """Every vector verifies; of the edge cases exactly those rippled accepts."""
    async with SandboxLedger() as ledger, Client(ledger.url) as client:
        for vector in VECTORS["vectors"]:
            claim = {name: vector[name] for name in ("channel_id", "public_key", "signature")}
            assert await client.verify(**claim, amount=str(vector["drops"])), vector["note"]
        for case in VECTORS["signature_edge_cases"]:
            message = bytes.fromhex(case["message_hex"])
            amount = str(int.from_bytes(message[36:], "big"))
            claim = {"channel_id": message[4:36].hex(), "public_key": case["public_key"]}
            accepted = await client.verify(**claim, amount=amount, signature=case["signature"])
            assert accepted is case["rippled_accepts"], case["note"]
