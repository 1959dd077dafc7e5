"""A small client of a ledger node, for the demo and for tests: ask, fund accounts from genesis, submit."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Final

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, WebSocketException

from channeld.adapters.signer import KeyPair, derive, sign_transaction
from channeld.core.errors import LedgerError, Unreachable
from channeld.wire.transactions import LARGEST_IMPLIED_NETWORK

GENESIS_SEED: Final = "snoPBrXtMeMyMHUVTgbuqAfg1SUTb"
"""The seed of a new network's one account (`masterpassphrase`); secp256k1."""
GENESIS_ADDRESS: Final = "rHb9CJAWyB4rj91VRWn96DkukG4bwdtyTh"
"""The address of that account."""


class LedgerClient:
    """One connection. `async with LedgerClient(url) as ledger:`; raises `Unreachable` if nothing answers in 10 s."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._numbers = itertools.count(1)
        self._socket: ClientConnection | None = None
        self._lock = asyncio.Lock()
        self._network_id: int | None = None

    async def __aenter__(self) -> LedgerClient:
        for _ in range(200):
            try:
                self._socket = await connect(self.url, max_size=None, proxy=None)
            except (OSError, WebSocketException):
                await asyncio.sleep(0.05)
                continue
            return self
        raise Unreachable(f"no ledger answers at {self.url}")

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._socket is not None:
            await self._socket.close()

    async def ask(self, command: str, **parameters: Any) -> dict[str, Any]:
        """Ask and return the whole answer, an error included. Raises `Unreachable` if the connection is lost."""
        assert self._socket is not None
        number = next(self._numbers)
        question = json.dumps({"id": number, "api_version": 2, "command": command, **parameters})
        async with self._lock:
            try:
                await self._socket.send(question)
                while True:
                    answer: dict[str, Any] = json.loads(await self._socket.recv())
                    if answer.get("id") == number:
                        return answer
            except ConnectionClosed as error:
                raise Unreachable(f"the ledger at {self.url} went away") from error

    async def result(self, command: str, **parameters: Any) -> dict[str, Any]:
        """Ask and return the result; raises `LedgerError` for an error."""
        answer = await self.ask(command, **parameters)
        if "result" not in answer:
            raise LedgerError(str(answer.get("error")), str(answer.get("error_message", "")))
        result: dict[str, Any] = answer["result"]
        return result

    async def submit(self, transaction: Mapping[str, Any], key: KeyPair) -> dict[str, Any]:
        """Fill in Sequence (of the open ledger), Fee and NetworkID where they are missing and needed, sign, submit; the
        node's answer.
        """
        fields = {"Account": key.address, "Fee": "20", **transaction}
        if self._network_id is None:
            self._network_id = int((await self.result("server_info"))["info"].get("network_id", 0))
        if self._network_id > LARGEST_IMPLIED_NETWORK:
            fields.setdefault("NetworkID", self._network_id)
        if "Sequence" not in fields:
            info = await self.result("account_info", account=key.address, ledger_index="current")
            fields["Sequence"] = info["account_data"]["Sequence"]
        return await self.result("submit", tx_blob=sign_transaction(fields, key).blob)

    async def fund(self, addresses: Mapping[str, int]) -> None:
        """Pay so many drops from genesis to each address, and return once validated ledgers show them all."""
        genesis = derive(GENESIS_SEED, "secp256k1")
        for address, drops in addresses.items():
            payment = {"TransactionType": "Payment", "Destination": address, "Amount": str(drops)}
            answer = await self.submit(payment, genesis)
            if answer["engine_result"] not in ("tesSUCCESS", "terQUEUED"):
                raise LedgerError(answer["engine_result"], answer.get("engine_result_message", ""))
        await self.result("ledger_accept")
        for address in addresses:
            await self.wait_for_account(address)

    async def wait_for_account(self, address: str) -> None:
        """Return once a validated ledger shows the account; raises `LedgerError` after 100 tries."""
        for _ in range(100):
            answer = await self.ask("account_info", account=address, ledger_index="validated")
            if "result" in answer:
                return
            await asyncio.sleep(0.05)
        raise LedgerError("actNotFound", f"{address} does not appear in a validated ledger")

    async def channels(self, account: str, ledger_index: int | str = "validated") -> list[dict[str, Any]]:
        """All channels whose source is `account`, as of one ledger: by default the last validated one."""
        found: list[dict[str, Any]] = []
        parameters: dict[str, Any] = {"account": account, "ledger_index": ledger_index, "limit": 400}
        while True:
            page = await self.result("account_channels", **parameters)
            found += page["channels"]
            if "marker" not in page:
                return found
            parameters |= {"marker": page["marker"], "ledger_index": page["ledger_index"]}
