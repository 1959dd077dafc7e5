"""Replays a recording of a real node: the same steps, and every answer must be the recorded one.

A recording is `{"name", "steps", "answers"}`. Its accounts have keys made from its name and are funded from the
genesis account, so recordings can follow each other on one ledger; ticket and page contents depend on sequence
numbers, so they must do so in alphabetical order on a fresh ledger. What differs from run to run is normalised on
both sides: known addresses, keys, channel ids and object indexes become `$name`, and values of `VOLATILE` keys only
keep their type.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Iterator
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from xrpl.constants import CryptoAlgorithm
from xrpl.core import addresscodec, keypairs

from channeld.adapters.signer import KeyPair, derive, sign_transaction
from channeld.core.claim import claim_message
from channeld.sandbox.ledger import keylets

GENESIS_SEED = "snoPBrXtMeMyMHUVTgbuqAfg1SUTb"
VOLATILE = {
    "ledger_hash",
    "ledger_index",
    "ledger_current_index",
    "hash",
    "date",
    "close_time_iso",
    "PreviousTxnID",
    "PreviousTxnLgrSeq",
    "Sequence",
    "LastLedgerSequence",
    "TxnSignature",
    "ctid",
    "ledger_time",
    "validated_ledgers",
    "account_sequence_available",
    "account_sequence_next",
    "validated_ledger_index",
    "tx_blob",
    "Expiration",
    "expiration",
    "marker",
    "TransactionIndex",
    "ledger_index_min",
    "ledger_index_max",
    "parent_close_time",
    "close_time",
    "close_time_human",
    "parent_hash",
    "account_hash",
    "transaction_hash",
    "total_coins",
    "open_ledger_cost",
    "CancelAfter",
    "cancel_after",
    "IndexPrevious",
    "IndexNext",
    "network_id",
    "txn_count",
    "TicketSequence",
    "warnings",
    "index_hint",
    "OwnerNode",
    "DestinationNode",
}
DROPPED = {"deprecated", "request", "inLedger", "warnings", "server_index", "nodes_hash", "id"}
SORTED = {"AffectedNodes", "channels", "account_objects"}
QUIET_S = 0.25
"""Silence that ends a listening step. The node is on this machine and has answered the close by then."""


class Scenario:
    """One recording being replayed: its accounts, the symbols seen so far, and what is submitted and not yet closed."""

    def __init__(self, socket: ClientConnection, ear: ClientConnection, name: str) -> None:
        self.socket, self.ear, self.name, self.number = socket, ear, name, 0
        self.accounts: dict[str, KeyPair] = {}
        self.symbols: dict[str, str] = {}
        self.pending: list[tuple[str, str]] = []
        self._note("genesis", derive(GENESIS_SEED, "secp256k1"))

    def account(self, name: str) -> KeyPair:
        if name not in self.accounts:
            kind = "secp256k1" if name.endswith("K") else "ed25519"
            entropy = hashlib.sha256(f"{self.name}/{name}".encode()).hexdigest()[:32]
            self._note(name, derive(keypairs.generate_seed(entropy, CryptoAlgorithm(kind)), kind))
        return self.accounts[name]

    def _note(self, name: str, pair: KeyPair) -> None:
        self.accounts[name] = pair
        encoded = addresscodec.encode_account_public_key(bytes.fromhex(pair.public_key))
        self.symbols |= {
            pair.address: f"${name}",
            pair.public_key: f"${name}.key",
            encoded: f"${name}.key58",
            keylets.account(pair.address): f"${name}.root",
            keylets.owner_directory(pair.address): f"${name}.directory",
        }

    def fill(self, value: Any) -> Any:
        """Put addresses, keys, channel ids and claim signatures in place of symbols."""
        if isinstance(value, dict):
            if "$claim" in value:
                who, channel, drops = value["$claim"]
                message = claim_message(bytes.fromhex(self.fill(f"${channel}")), int(drops))
                return self.account(who).signer()(message).hex().upper()
            return {key: self.fill(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self.fill(item) for item in value]
        if isinstance(value, str) and value.startswith("$"):
            known = next((text for text, symbol in self.symbols.items() if symbol == value), None)
            name, _, part = value[1:].partition(".")
            return known or (self.account(name).public_key if part else self.account(name).address)
        return value

    def plain(self, value: Any, key: str | None = None) -> Any:
        """Put symbols in place of what differs from run to run."""
        if isinstance(value, dict):
            return {name: self.plain(item, name) for name, item in value.items() if name not in DROPPED}
        if isinstance(value, list):
            items = [self.plain(item) for item in value]
            return sorted(items, key=lambda item: json.dumps(item, sort_keys=True)) if key in SORTED else items
        if key in VOLATILE:
            return f"<{type(value).__name__}>"
        if isinstance(value, str) and value in self.symbols:
            return self.symbols[value]
        return "<genesis balance>" if key == "Balance" and isinstance(value, str) and len(value) > 15 else value

    async def ask(self, **request: Any) -> dict[str, Any]:
        self.number += 1
        await self.socket.send(json.dumps({"id": self.number, "api_version": 2, **request}))
        reply: dict[str, Any] = json.loads(await self.socket.recv())
        assert reply["id"] == self.number
        return reply

    async def submit(self, fields: dict[str, Any], by: str, save: str | None) -> dict[str, Any]:
        pair = self.account(by)
        tx = {"Account": pair.address, "Fee": "10", **self.fill(fields)}
        if "Sequence" not in tx:
            info = await self.ask(command="account_info", account=pair.address, ledger_index="current")
            tx["Sequence"] = info["result"]["account_data"]["Sequence"] if "result" in info else 1
        if save:
            number = tx.get("TicketSequence") or tx["Sequence"]
            self.symbols[keylets.channel(tx["Account"], tx["Destination"], number)] = f"${save}"
        reply = await self.ask(command="submit", tx_blob=sign_transaction(tx, pair).blob)
        if "result" in reply:
            self.pending.append((reply["result"]["tx_json"]["hash"], by))
        return reply

    async def close(self, count: int) -> list[dict[str, Any]]:
        for _ in range(count):
            await self.ask(command="ledger_accept")
        pending, self.pending = self.pending, []
        return [{"by": by, "answer": await self.ask(command="tx", transaction=tx_hash)} for tx_hash, by in pending]

    async def _listen(self, wanted: dict[str, Any]) -> Any:
        await self.ear.send(json.dumps({"api_version": 2, "command": "subscribe", **self.fill(wanted)}))
        return json.loads(await self.ear.recv())

    async def _heard(self) -> list[Any]:
        messages = []
        while True:
            try:
                messages.append(json.loads(await asyncio.wait_for(self.ear.recv(), QUIET_S)))
            except TimeoutError:
                return messages

    async def step(self, step: dict[str, Any]) -> Any:
        """Take one step; its answer in normalised form."""
        if "fund" in step:
            destination = self.account(step["fund"]).address
            payment = {"TransactionType": "Payment", "Destination": destination, "Amount": step["drops"]}
            await self.submit(payment, "genesis", None)
            await self.close(1)
            return None
        if "submit" in step:
            return self.plain(await self.submit(step["submit"], step["by"], step.get("save")))
        if "close" in step:
            return self.plain(await self.close(step["close"]))
        if "ask" in step:
            return self.plain(await self.ask(**self.fill(step["ask"])))
        return self.plain(await (self._listen(step["listen"]) if "listen" in step else self._heard()))


async def replay(url: str, recording: dict[str, Any]) -> list[str]:
    """Replay one recording; the differences found."""
    found: list[str] = []
    async with connect(url, max_size=None) as socket, connect(url, max_size=None) as ear:
        scenario = Scenario(socket, ear, recording["name"])
        for place, (step, want) in enumerate(zip(recording["steps"], recording["answers"], strict=True)):
            found += differences(want, await scenario.step(step), f"step {place} {json.dumps(step)[:80]}: ")
    return found


def differences(want: Any, got: Any, path: str) -> Iterator[str]:
    """Where two JSON values differ, types included."""
    if type(want) is not type(got):
        yield f"{path}: expected {json.dumps(want)[:160]}, got {json.dumps(got)[:160]}"
    elif isinstance(want, dict):
        for key in sorted(want.keys() | got.keys()):
            if key not in got or key not in want:
                yield f"{path}.{key}: {'missing' if key not in got else 'not expected'}"
            else:
                yield from differences(want[key], got[key], f"{path}.{key}")
    elif isinstance(want, list):
        if len(want) != len(got):
            yield f"{path}: {len(want)} items expected, got {len(got)}"
        for place, pair in enumerate(zip(want, got, strict=False)):
            yield from differences(*pair, f"{path}[{place}]")
    elif want != got:
        yield f"{path}: expected {want!r}, got {got!r}"
