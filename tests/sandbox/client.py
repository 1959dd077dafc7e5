"""A client for the sandbox's own tests: sends a request, waits for its answer, keeps what else arrives."""

from __future__ import annotations

import asyncio
import itertools
import json
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

from channeld.adapters.signer import sign_transaction
from channeld.sandbox.stage import PATIENCE_S
from tests.sandbox.rig import address, key


class Client:
    """One connection, `async with Client(url) as client:`."""

    def __init__(self, url: str, api_version: int = 2) -> None:
        self.url, self.api_version = url, api_version
        self.numbers = itertools.count(1)
        self.heard: list[dict[str, Any]] = []
        self.socket: ClientConnection

    async def __aenter__(self) -> Client:
        self.socket = await connect(self.url, max_size=None, proxy=None)
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.socket.close()

    async def post(self, command: str, **params: Any) -> int:
        """Send a request; its number."""
        number = next(self.numbers)
        request = {"id": number, "command": command, "api_version": self.api_version, **params}
        await self.socket.send(json.dumps(request))
        return number

    async def receive(self, timeout_s: float = PATIENCE_S) -> dict[str, Any]:
        """The next message, whatever it is."""
        message: dict[str, Any] = json.loads(await asyncio.wait_for(self.socket.recv(), timeout_s))
        return message

    async def answer(self, number: int, timeout_s: float = PATIENCE_S) -> dict[str, Any]:
        """Wait for the answer to request `number`; stream messages before it go to `heard`."""
        while True:
            message = await self.receive(timeout_s)
            if message.get("id") == number:
                return message
            self.heard.append(message)

    async def ask(self, command: str, **params: Any) -> dict[str, Any]:
        """A request's whole answer."""
        return await self.answer(await self.post(command, **params))

    async def result(self, command: str, **params: Any) -> dict[str, Any]:
        """A request's result; it must succeed."""
        reply = await self.ask(command, **params)
        assert reply["status"] == "success", reply
        found: dict[str, Any] = reply["result"]
        return found

    async def verify(self, **claim: str) -> bool:
        """What channel_verify says; an error is a no."""
        reply = await self.ask("channel_verify", **claim)
        return bool(reply.get("result", {}).get("signature_verified", False))

    async def sign(self, by: str, kind: str, **fields: Any) -> str:
        """The blob of a transaction with the account's next sequence."""
        info = await self.result("account_info", account=address(by), ledger_index="current")
        base = {"TransactionType": kind, "Account": address(by), "Fee": "10"}
        base["Sequence"] = info["account_data"]["Sequence"]
        return sign_transaction({**base, **fields}, key(by)).blob

    async def submit(self, by: str, kind: str, **fields: Any) -> str:
        """Sign and submit; the provisional result."""
        reply = await self.result("submit", tx_blob=await self.sign(by, kind, **fields))
        return str(reply["engine_result"])

    async def fund(self, *names: str, drops: int = 1_000_000_000) -> None:
        """Make accounts and close the ledger."""
        for name in names:
            pay = {"Destination": address(name), "Amount": str(drops)}
            assert await self.submit("genesis", "Payment", **pay) == "tesSUCCESS"
        await self.result("ledger_accept")

    async def fault(self, kind: str, **params: Any) -> dict[str, Any]:
        """Order a fault."""
        return await self.result("fault", kind=kind, **params)
