"""Transactions the node keeps: those held until their sequence comes up, and its own, tried again for five ledgers.

A first answer of tel, tef or ter is therefore not final: a kept transaction may still get in.

Sources: rippled LocalTxs.cpp; LedgerMaster.cpp addHeldTransaction, popAcctTransaction (2.3.0).
"""

from __future__ import annotations

from typing import Final

from channeld.sandbox.ledger import keylets
from channeld.sandbox.ledger.codec import Transaction
from channeld.sandbox.ledger.state import Reader
from channeld.sandbox.ledger.transact import read_account

HOLD_LEDGERS: Final = 5


class Held:
    """Transactions that answered ter, by account in sequence order."""

    def __init__(self) -> None:
        self._accounts: dict[str, dict[tuple[tuple[int, int], str], Transaction]] = {}

    def add(self, tx: Transaction) -> None:
        """Hold a transaction until its account moves or the ledger closes."""
        self._accounts.setdefault(tx.account, {})[tx.order, tx.hash] = tx

    def pop_successor(self, tx: Transaction) -> Transaction | None:
        """Take out what may follow an applied transaction of the same account: the next sequence, or a ticket."""
        mine = self._accounts.get(tx.account, {})
        for key in sorted(mine):
            if key[0] > tx.order:
                follows = key[0][0] == 1 or key[0] == (0, tx.order[1] + 1)
                return mine.pop(key) if follows else None
        return None

    def drain(self) -> list[Transaction]:
        """Take out all, as a closing ledger does."""
        every = [tx for mine in self._accounts.values() for _, tx in sorted(mine.items())]
        self._accounts.clear()
        return every


class LocalTransactions:
    """What was submitted here without fail_hard, each for five ledgers or until its LastLedgerSequence is over."""

    def __init__(self) -> None:
        self._kept: dict[str, tuple[int, Transaction]] = {}

    def add(self, tx: Transaction, open_index: int) -> None:
        """Keep a transaction submitted while `open_index` was the open ledger."""
        expires = open_index + HOLD_LEDGERS
        if tx.last_ledger is not None:
            expires = min(expires, tx.last_ledger + 1)
        self._kept[tx.hash] = (expires, tx)

    def all(self) -> list[Transaction]:
        """The kept ones, by account and sequence."""
        return sorted((tx for _, tx in self._kept.values()), key=lambda tx: (tx.account, tx.order))

    def forget(self, tx_hash: str) -> None:
        """Drop one that is in a closed ledger."""
        self._kept.pop(tx_hash, None)

    def sweep(self, ledger: Reader, closed_index: int) -> None:
        """Drop those that expired or can not succeed any more."""
        for tx_hash, (expires, tx) in list(self._kept.items()):
            if closed_index > expires or _is_past(ledger, tx):
                del self._kept[tx_hash]


def _is_past(ledger: Reader, tx: Transaction) -> bool:
    root = read_account(ledger, tx.account)
    if root is None:
        return False
    if tx.ticket is None:
        return bool(root["Sequence"] > tx.sequence)
    if root["Sequence"] <= tx.ticket:
        return False
    return ledger.read(keylets.ticket(tx.account, tx.ticket)) is None
