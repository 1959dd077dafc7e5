"""All transactions of closed ledgers, by hash, by ledger and by account; and those seen but not (yet) in one.

Sources: rippled AcceptedLedgerTx.cpp, SQLite account_transactions (getAffectedAccounts decides who a transaction
concerns).
"""

from __future__ import annotations

from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from channeld.sandbox.ledger import meta as metadata
from channeld.sandbox.ledger.codec import Transaction
from channeld.xrpl_core import binarycodec

_SEEN: Final = 65_536
"""How many transactions are remembered that are in no closed ledger."""


@dataclass(eq=False)
class Record:
    """A transaction in a closed ledger. `place` is its index there."""

    tx: Transaction
    result: str
    meta: dict[str, Any]
    ledger_index: int
    place: int
    close_time: int

    @property
    def at(self) -> tuple[int, int]:
        """Where it stands in history."""
        return self.ledger_index, self.place

    @cached_property
    def accounts(self) -> frozenset[str]:
        """The accounts it concerns."""
        return frozenset(metadata.affected_accounts(self.meta))

    @property
    def meta_blob(self) -> str:
        """The metadata as the API's binary form. `delivered_amount` is the API's own and no part of it."""
        plain = {name: value for name, value in self.meta.items() if name != "delivered_amount"}
        return str(binarycodec.encode(plain))


class History:
    """Records by hash, ledger and account, oldest first."""

    def __init__(self) -> None:
        self._by_hash: dict[str, Record] = {}
        self._by_ledger: dict[int, list[Record]] = {}
        self._by_account: dict[str, list[Record]] = {}
        self._seen: OrderedDict[str, Transaction] = OrderedDict()

    def add(self, records: list[Record]) -> None:
        """Take a closed ledger's transactions, in order."""
        for record in records:
            self._by_hash[record.tx.hash] = record
            self._by_ledger.setdefault(record.ledger_index, []).append(record)
            self._seen.pop(record.tx.hash, None)
            for address in record.accounts:
                self._by_account.setdefault(address, []).append(record)

    def note(self, tx: Transaction) -> None:
        """Remember a submitted transaction, so that `tx` knows it before it is validated."""
        if tx.hash not in self._by_hash:
            self._seen[tx.hash] = tx
            if len(self._seen) > _SEEN:
                self._seen.popitem(last=False)

    def find(self, tx_hash: str) -> Record | None:
        """The validated transaction of that hash."""
        return self._by_hash.get(tx_hash)

    def unvalidated(self, tx_hash: str) -> Transaction | None:
        """The transaction of that hash if it was seen and is in no closed ledger."""
        return self._seen.get(tx_hash)

    def in_ledger(self, ledger_index: int) -> list[Record]:
        """A closed ledger's transactions, in order."""
        return self._by_ledger.get(ledger_index, [])

    def at(self, ledger_index: int, place: int) -> Record | None:
        """The transaction at a place, as a ctid names it."""
        records = self.in_ledger(ledger_index)
        return records[place] if place < len(records) else None

    def of_account(
        self, address: str, low: int, high: int, forward: bool, start: tuple[int, int] | None
    ) -> Iterator[Record]:
        """An account's transactions in ledgers low..high inclusive, from place `start` inclusive on."""
        records = self._by_account.get(address, [])
        if forward:
            first = bisect_left(records, max(start or (0, 0), (low, 0)), key=lambda record: record.at)
            span = range(first, len(records))
        else:
            last = bisect_left(records, min(_next(start), (high + 1, 0)), key=lambda record: record.at)
            span = range(last - 1, -1, -1)
        for index in span:
            if not low <= records[index].ledger_index <= high:
                return
            yield records[index]

    def all(self) -> Iterator[Record]:
        """Every validated transaction."""
        return iter(self._by_hash.values())


def _next(start: tuple[int, int] | None) -> tuple[int, int]:
    return (1 << 32, 0) if start is None else (start[0], start[1] + 1)
