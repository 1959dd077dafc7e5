"""Closing a ledger: the transactions of the open one, re-sorted and applied anew.

The closed ledger does not take over the open ledger's results. Transactions are sorted by salted account, sequences
before tickets, then by hash, and tried in up to three passes; in all but the last a tec is not claimed, so that what
was a tec in the open ledger may end as a success, or the other way round.

Sources: rippled BuildLedger.cpp applyTransactions; CanonicalTXSet.cpp; apply.cpp applyTransaction (2.3.0).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from channeld.sandbox.ledger import pipeline
from channeld.sandbox.ledger.codec import Transaction
from channeld.sandbox.ledger.keylets import account_id, half_digest
from channeld.sandbox.ledger.results import is_final_failure
from channeld.sandbox.ledger.view import Overlay

_TOTAL_PASSES: Final = 3
_RETRY_PASSES: Final = 1


@dataclass
class Built:
    """What applying a set gave: transactions that went in (with result and metadata), and those that may yet."""

    entries: list[tuple[Transaction, str, dict[str, Any]]] = field(default_factory=list)
    left: list[Transaction] = field(default_factory=list)


def canonical(transactions: Iterable[Transaction]) -> list[Transaction]:
    """The order of a closed ledger: by account, salted with the set's own hash, then sequence or ticket, then hash."""
    txs = list(transactions)
    salt = half_digest("".join(sorted(tx.hash for tx in txs)).encode())
    mask = int.from_bytes(salt[:20], "big")

    def key(tx: Transaction) -> tuple[int, tuple[int, int], str]:
        return int.from_bytes(account_id(tx.account), "big") ^ mask, tx.order, tx.hash

    return sorted(txs, key=key)


def adverse(transactions: Iterable[Transaction]) -> list[Transaction]:
    """An order that turns the open ledger's round: accounts that came last go first. A fault for tests."""
    first: dict[str, int] = {}
    for place, tx in enumerate(txs := list(transactions)):
        first.setdefault(tx.account, place)
    return sorted(txs, key=lambda tx: (-first[tx.account], tx.order, tx.hash))


def apply_all(ledger: Overlay, ordered: list[Transaction]) -> Built:
    """Apply to a closing ledger in the given order, with retry passes."""
    built, pending, retry = Built(), ordered, True
    for number in range(_TOTAL_PASSES):
        before = len(pending)
        pending = _one_pass(ledger, built, pending, retry)
        changes = before - len(pending)
        if not changes and not retry:
            break
        if not changes or number >= _RETRY_PASSES:
            retry = False
    built.left = pending
    return built


def _one_pass(ledger: Overlay, built: Built, pending: list[Transaction], retry: bool) -> list[Transaction]:
    again = []
    for tx in pending:
        outcome = pipeline.apply(ledger, tx, len(built.entries), retry)
        if outcome.applied and outcome.meta is not None:
            built.entries.append((tx, outcome.result, outcome.meta))
        elif not is_final_failure(outcome.result):
            again.append(tx)
    return again
