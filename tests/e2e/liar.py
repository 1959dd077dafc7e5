"""A node that lies: a proxy before an honest one that rewrites what it says."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from channeld.sandbox.stage import free_port

Lie = Callable[[str, dict[str, Any]], dict[str, Any]]


def honest(_: str, message: dict[str, Any]) -> dict[str, Any]:
    return message


def invented_channel(command: str, message: dict[str, Any]) -> dict[str, Any]:
    """Ten times as many channels, and ten times as much in each."""
    result = message.get("result", {})
    if command == "account_channels":
        found = [{**c, "channel_id": "F" * 63 + f"{n:X}"} for n, c in enumerate(result.get("channels", []))]
        result["channels"] = result.get("channels", []) + found
    for entry in result.get("transactions", ()) if command == "account_tx" else ():
        for node in entry["meta"]["AffectedNodes"]:
            for body in node.values():
                if body["LedgerEntryType"] == "PayChannel":
                    fields = body.get("NewFields") or body["FinalFields"]
                    fields["Amount"] = str(int(fields["Amount"]) * 10)
                    body["LedgerIndex"] = "E" * 64
    return message


def hidden_expiration(command: str, message: dict[str, Any]) -> dict[str, Any]:
    """No channel is ever closing."""
    result = message.get("result", {})
    for channel in result.get("channels", ()) if command == "account_channels" else ():
        channel.pop("expiration", None)
    for entry in result.get("transactions", ()) if command == "account_tx" else ():
        for node in entry["meta"]["AffectedNodes"]:
            for body in node.values():
                body.get("FinalFields", {}).pop("Expiration", None)
    return message


def faked_index(_: str, message: dict[str, Any]) -> dict[str, Any]:
    """Ledgers of the future, with hashes of their own."""
    if message.get("type") == "ledgerClosed":
        message |= {"ledger_index": message["ledger_index"] + 900, "ledger_hash": "A" * 64}
    return message


class Liar:
    """`async with Liar(upstream, lie) as liar:` listens at `liar.url`; `lies` counts answers that it
    changed, `connections` who came.

    `lie` may be changed at any time; whatever is in `noise` is sent after every honest message.
    """

    def __init__(self, upstream: str, lie: Lie, noise: Sequence[str | bytes] = ()) -> None:
        self._upstream, self.lie, self.noise = upstream, lie, noise
        self.connections = 0
        self._port = free_port()
        self.url, self.lies = f"ws://127.0.0.1:{self._port}", 0
        self._server: Server | None = None

    async def __aenter__(self) -> Liar:
        self._server = await serve(self._between, "127.0.0.1", self._port, compression=None)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        await self._server.wait_closed()

    async def _between(self, client: ServerConnection) -> None:
        self.connections += 1
        asked: dict[Any, str] = {}
        async with connect(self._upstream, proxy=None, compression=None) as node:
            back = asyncio.create_task(self._back(node, client, asked))
            try:
                async for text in client:
                    question = json.loads(text)
                    asked[question.get("id")] = question.get("command", "")
                    await node.send(text)
            except ConnectionClosed:
                pass
            finally:
                back.cancel()

    async def _back(self, node: ClientConnection, client: ServerConnection, asked: dict[Any, str]) -> None:
        try:
            async for text in node:
                told = self.lie(asked.pop(json.loads(text).get("id"), ""), json.loads(text))
                self.lies += told != json.loads(text)
                await client.send(json.dumps(told))
                for rubbish in self.noise:
                    await client.send(rubbish)
        except ConnectionClosed:
            return
