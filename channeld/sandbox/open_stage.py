"""A stage left open for somebody's own content server: ledger, broker and daemon on this machine, one server to be.

What a client needs is told in one JSON object. The payee's seed lies in the stage's directory, so that redeeming can be
tried as well. Nothing here is worth anything.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from channeld.adapters.keystore import new_seed, write_private
from channeld.adapters.signer import derive
from channeld.core.units import DROPS_PER_XRP
from channeld.sandbox.ledger_client import LedgerClient
from channeld.sandbox.stage import Process, Server, Stage, free_port

_TREASURY = 10_000 * DROPS_PER_XRP
_PAYEE_HAS = 20 * DROPS_PER_XRP


@contextlib.asynccontextmanager
async def open_stage(directory: Path, server: str) -> AsyncIterator[dict[str, str]]:
    """Start it all in an empty directory, and end it whatever happens; yields what a client needs.

    Raises `Unreachable` with its output if a part does not work.
    """
    ledger_port, mqtt_port = free_port(), free_port()
    ledger_url = f"ws://127.0.0.1:{ledger_port}"
    nodes = [
        Process(directory, "ledger", "sandbox", "ledger", "--port", str(ledger_port), "--close-interval", "1"),
        Process(directory, "broker", "sandbox", "broker", "--port", str(mqtt_port)),
    ]
    seed = new_seed("ed25519")
    write_private(directory / "payee.seed", seed.reveal() + "\n", "payee.seed")
    payee = derive(seed.reveal(), "ed25519").address
    async with contextlib.AsyncExitStack() as stack:
        for node, port in zip(nodes, (ledger_port, mqtt_port), strict=True):
            stack.push_async_callback(node.stop)
            node.start()
            await node.listening(port)
        stage = Stage(directory / "daemon", [ledger_url], mqtt_port, [Server(server, [payee])])
        async with LedgerClient(ledger_url) as ledger:
            await ledger.fund({stage.wallet.address: _TREASURY, payee: _PAYEE_HAS})
        stack.push_async_callback(stage.daemon.stop)
        await stage.start()
        yield {
            "mqtt": f"mqtt://127.0.0.1:{mqtt_port}",
            "ledger": ledger_url,
            "server": server,
            "public_key": stage.claim_key.public_key,
            "payer": stage.wallet.address,
            "payee": payee,
            "payee_seed_file": str(directory / "payee.seed"),
        }
