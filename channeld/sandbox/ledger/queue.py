"""The transaction queue: what a full open ledger does not take waits here, best fee first.

Sound but simpler than rippled's: the limit (`capacity`) is fixed instead of following the network's recent ledgers, and
no transaction blocks others (rippled lets AccountSet with certain flags, SetRegularKey and the like go only alone). A
transaction gets into an open ledger at its ordinary fee while it holds fewer than `capacity`; from then on it must pay
the escalated level 256*500*n^2/capacity^2 or wait.

Sources: rippled src/xrpld/app/misc/detail/TxQ.cpp (2.3.0).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from channeld.sandbox.ledger.codec import Transaction
from channeld.sandbox.ledger.results import Reject, require
from channeld.sandbox.ledger.state import Fields
from channeld.sandbox.ledger.view import LedgerContext

BASE_LEVEL: Final = 256
MEDIAN_LEVEL: Final = 128_000
"""The escalation multiplier, in fee levels: 500 times the base."""
PER_ACCOUNT: Final = 10
LEDGERS: Final = 20
"""The queue holds this many ledgers' worth of transactions, at least 2000."""
_RETRIES: Final = 10
_REPLACE_PERCENT: Final = 25
_LLS_MARGIN: Final = 2


@dataclass(eq=False)
class Candidate:
    """A queued transaction. It goes in no earlier than in ledger `not_before`."""

    tx: Transaction
    level: int
    not_before: int = 0
    retries: int = _RETRIES


def fee_level(fee: int, base: int) -> int:
    """A fee as a level: 256 is the ordinary fee. A transaction that may be free counts as very high."""
    return fee * BASE_LEVEL // base if base else BASE_LEVEL * 1000


def required_level(count: int, capacity: int) -> int:
    """The level a transaction must pay to get into an open ledger that holds `count`."""
    if count < capacity:
        return BASE_LEVEL
    return max(BASE_LEVEL, MEDIAN_LEVEL * count * count // (capacity * capacity))


class TxQueue:
    """Candidates by account and sequence or ticket."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._accounts: dict[str, dict[tuple[int, int], Candidate]] = {}
        self._size = 0

    def __len__(self) -> int:
        return self._size

    @property
    def maximum(self) -> int:
        """How many transactions the queue takes in all."""
        return max(2000, LEDGERS * self.capacity)

    def of(self, account: str) -> list[Candidate]:
        """An account's candidates in the order they will go in."""
        return [candidate for _, candidate in sorted(self._accounts.get(account, {}).items())]

    def next_sequence(self, account: str, sequence: int) -> int:
        """The first sequence from `sequence` on that no candidate uses."""
        mine = self._accounts.get(account, {})
        while (0, sequence) in mine:
            sequence += 1
        return sequence

    def holds(self, tx: Transaction) -> Candidate | None:
        """The candidate with the same account and sequence or ticket."""
        return self._accounts.get(tx.account, {}).get(tx.order)

    def check(self, tx: Transaction, level: int, root: Fields, context: LedgerContext) -> None:
        """Whether a transaction of the account `root` may wait here. Raises `Reject` with the tel code that says why
        not.
        """
        mine = self._accounts.get(tx.account, {})
        rival = mine.get(tx.order)
        if rival is not None:
            enough = level > rival.level * (100 + _REPLACE_PERCENT) // 100
            require(enough, "telCAN_NOT_QUEUE_FEE")
        soon = tx.last_ledger is not None and tx.last_ledger < context.index + _LLS_MARGIN
        require(not soon and "AccountTxnID" not in tx.json, "telCAN_NOT_QUEUE")
        require(rival is not None or len(mine) < PER_ACCOUNT, "telCAN_NOT_QUEUE_FULL")
        if tx.ticket is None and rival is None:
            require(tx.sequence <= self.next_sequence(tx.account, root["Sequence"]), "terPRE_SEQ")
        _check_balance([*mine.values()], tx, int(root["Balance"]), context.fees.reserve)
        if rival is None and self._size >= self.maximum:
            self._make_room(level)

    def _make_room(self, level: int) -> None:
        worst = min(self.candidates(), key=lambda candidate: candidate.level)
        require(level > worst.level, "telCAN_NOT_QUEUE_FULL")
        self.remove(self.of(worst.tx.account)[-1])

    def add(self, candidate: Candidate) -> None:
        """Put a checked transaction in line, in place of one with the same sequence."""
        mine = self._accounts.setdefault(candidate.tx.account, {})
        self._size += candidate.tx.order not in mine
        mine[candidate.tx.order] = candidate

    def remove(self, candidate: Candidate) -> None:
        """Take a candidate out."""
        mine = self._accounts.get(candidate.tx.account, {})
        if mine.get(candidate.tx.order) is candidate:
            del mine[candidate.tx.order]
            self._size -= 1
        if not mine:
            self._accounts.pop(candidate.tx.account, None)

    def candidates(self) -> list[Candidate]:
        """All candidates, best fee first; among equals by hash, as good as any order."""
        every = [candidate for mine in self._accounts.values() for candidate in mine.values()]
        return sorted(every, key=lambda candidate: (-candidate.level, candidate.tx.hash))

    def expire(self, closed_index: int) -> None:
        """Drop candidates whose LastLedgerSequence is over."""
        for candidate in self.candidates():
            last = candidate.tx.last_ledger
            if last is not None and last <= closed_index:
                self.remove(candidate)


def _check_balance(queued: list[Candidate], tx: Transaction, balance: int, reserve: int) -> None:
    """Queued fees may not exceed the balance or the base reserve, nor fees and spends together the balance.

    Sources: rippled TxQ.cpp apply: totalFee, potentialSpend.
    """
    others = [candidate.tx for candidate in queued if candidate.tx.order != tx.order]
    if not others:
        return
    fees = sum(other.fee for other in others)
    if fees >= balance or fees >= reserve:
        raise Reject("telCAN_NOT_QUEUE_BALANCE")
    spends = sum(other.spend for other in others)
    require(balance - fees - spends >= tx.fee, "telCAN_NOT_QUEUE_BALANCE")
