"""The stack one writes first, for comparison: aiomqtt, pydantic, a commit for every request, xrpl-py for the signature.

It answers like the daemon, on one channel, and does nothing else: no look-up of ids, no limits, no ledger. Run as
`straightforward.py PORT PREFIX STORE`; says `ready` once it is subscribed.
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys

import aiomqtt
import aiosqlite
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from pydantic import BaseModel
from xrpl.core import keypairs
from xrpl.core.binarycodec import encode_for_signing_claim

CHANNEL = "AB" * 32


class Request(BaseModel):
    """A claim request."""

    id: str
    drops: str
    payee: str | None = None
    user: str | None = None
    content: str | None = None


async def serve(port: int, prefix: str, store: str) -> None:
    """Answer one request after the other, each durable before it leaves."""
    public, private = keypairs.derive_keypair(keypairs.generate_seed())
    nodelay = [(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)]
    async with (
        aiosqlite.connect(store) as db,
        aiomqtt.Client("127.0.0.1", port, protocol=aiomqtt.ProtocolVersion.V5, socket_options=nodelay) as client,
    ):
        await db.execute("PRAGMA journal_mode = WAL")
        await db.execute("PRAGMA synchronous = FULL")
        await db.execute("CREATE TABLE request (id TEXT, server TEXT, amount INTEGER)")
        await client.subscribe(f"{prefix}/servers/+/claim", qos=1)
        print("ready", flush=True)
        amount = 0
        async for message in client.messages:
            server = message.topic.value.split("/")[-2]
            request = Request.model_validate_json(bytes(message.payload))
            start, amount = amount, amount + int(request.drops)
            await db.execute("INSERT INTO request VALUES (?, ?, ?)", (request.id, server, amount))
            await db.commit()
            signed = encode_for_signing_claim({"channel": CHANNEL, "amount": str(amount)})
            reply = {
                "id": request.id,
                "status": "accepted",
                "drops": request.drops,
                "covers": {"from": str(start), "to": str(amount)},
                "claim": {
                    "channel_id": CHANNEL,
                    "amount": str(amount),
                    "signature": keypairs.sign(bytes.fromhex(signed), private),
                    "public_key": public,
                },
            }
            await client.publish(
                f"{prefix}/servers/{server}/reply", json.dumps(reply), qos=1, properties=_echoed(message)
            )


def _echoed(message: aiomqtt.Message) -> Properties:
    """The request's correlation data, for its reply."""
    properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    if (data := getattr(message.properties, "CorrelationData", None)) is not None:
        properties.CorrelationData = data
    return properties


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), sys.argv[2], sys.argv[3]))
