"""A node without a socket, accounts with keys, and the shortest way to submit and close."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import Any

from xrpl.constants import CryptoAlgorithm
from xrpl.core import keypairs

from channeld.adapters.signer import KeyPair, derive, sign_transaction
from channeld.core.claim import claim_message
from channeld.sandbox.ledger import codec, keylets
from channeld.sandbox.ledger.history import Record
from channeld.sandbox.ledger.node import Node, Submitted
from channeld.sandbox.ledger.settings import Clock, Settings
from channeld.sandbox.ledger.transact import read_account

START = 800_000_000
XRP = 1_000_000


@lru_cache
def key(name: str) -> KeyPair:
    """The key pair of an account called `name`; secp256k1 if it ends in K."""
    if name == "genesis":
        return derive("snoPBrXtMeMyMHUVTgbuqAfg1SUTb", "secp256k1")
    kind = "secp256k1" if name.endswith("K") else "ed25519"
    entropy = hashlib.sha256(name.encode()).hexdigest()[:32]
    return derive(keypairs.generate_seed(entropy, CryptoAlgorithm(kind)), kind)


def address(name: str) -> str:
    """The account's address."""
    return key(name).address


class Rig:
    """A node whose clock stands still until moved."""

    def __init__(self, capacity: int = 1000, network_id: int = 0, **amendments: bool) -> None:
        clock = Clock()
        clock.frozen_at = START
        self.node = Node(Settings(amendments, network_id, capacity), clock)
        self.node.bootstrap()

    @property
    def pct(self) -> int:
        """The close time expiry is judged by in the open ledger."""
        return self.node.validated.close_time

    def fund(self, *names: str, drops: int = 1000 * XRP) -> None:
        """Make accounts with so many drops each, and close."""
        for name in names:
            result = self.submit("genesis", "Payment", Destination=address(name), Amount=str(drops))
            assert result == "tesSUCCESS", result
        self.close()

    def sign(self, by: str, kind: str, *, signer: str | None = None, **fields: Any) -> codec.Transaction:
        """A signed transaction of `by`; what the network asks for is filled in unless given, None leaves it out."""
        root = read_account(self.node.open.view, address(by))
        base = {
            "TransactionType": kind,
            "Account": address(by),
            "Fee": "10",
            "Sequence": root["Sequence"] if root else 1,
        }
        if self.node.settings.network_id > 1024:
            base["NetworkID"] = self.node.settings.network_id
        given = {name: value for name, value in {**base, **fields}.items() if value is not None}
        return codec.decode(sign_transaction(given, key(signer or by)).blob)

    def offer(self, tx: codec.Transaction, fail_hard: bool = False) -> Submitted:
        """Submit as the API does, signature check included."""
        codec.check(tx)
        return self.node.submit(tx, fail_hard)

    def submit(self, by: str, kind: str, **fields: Any) -> str:
        """Sign and submit; the provisional result."""
        return self.offer(self.sign(by, kind, **fields)).result

    def close(self, count: int = 1) -> list[Record]:
        """Close ledgers; the transactions of the last."""
        records: list[Record] = []
        for _ in range(count):
            records = self.node.close().records
        return records

    def pass_time(self, close_time: int) -> None:
        """Close a ledger at exactly this time: it becomes the parent close time of what comes next."""
        assert close_time > self.pct
        rounded = close_time // 10 * 10
        if rounded > self.pct:
            self.node.clock.frozen_at = rounded
            self.node.close()
        self.node.clock.frozen_at = START  # behind: every close adds one second now
        while self.pct < close_time:
            self.node.close()

    def open_channel(self, source: str = "alice", destination: str = "bob", **fields: Any) -> str:
        """Create a channel of 100 XRP and close. Returns its id."""
        body = {"Amount": str(100 * XRP), "SettleDelay": 3600, "PublicKey": key(source).public_key, **fields}
        tx = self.sign(source, "PaymentChannelCreate", Destination=address(destination), **body)
        assert self.offer(tx).result == "tesSUCCESS"
        self.close()
        return keylets.channel(tx.account, tx.json["Destination"], tx.proxy)

    def claim(self, by: str, channel: str, signer: str | None = None, **fields: Any) -> str:
        """Submit a Claim; with `signer`, signed for Amount (default: Balance) by that account's key."""
        if signer:
            drops = int(fields.get("Amount", fields["Balance"]))
            signature = key(signer).signer()(claim_message(bytes.fromhex(channel), drops)).hex().upper()
            fields = {"Signature": signature, "PublicKey": key(signer).public_key, **fields}
        return self.submit(by, "PaymentChannelClaim", Channel=channel, **fields)

    def object(self, index: str) -> dict[str, Any] | None:
        """An object of the open ledger."""
        return self.node.open.view.read(index)

    def balance(self, name: str) -> int:
        """Drops of an account in the open ledger."""
        return self.node.open.view.balance_of(address(name))
