"""Views: what transactions read and change before anything is final.

`Overlay` collects the changes of a whole ledger, open or being closed, above the newest closed one. `TxView` collects
those of one transaction above an overlay, so that throwing it away leaves no trace. Both hold objects that no one
changes afterwards.

Sources: rippled include/xrpl/ledger/{OpenView,ApplyView}.h.
"""

from __future__ import annotations

from dataclasses import dataclass

from channeld.sandbox.ledger import keylets
from channeld.sandbox.ledger.amendments import Rules
from channeld.sandbox.ledger.state import Fields, Reader


@dataclass(frozen=True)
class Fees:
    """A network's fee and reserves, in drops."""

    base: int = 10
    reserve: int = 1_000_000
    increment: int = 200_000

    def account_reserve(self, owner_count: int) -> int:
        """What an account must hold that owns so many objects. Sources: rippled Fees.h accountReserve."""
        return self.reserve + owner_count * self.increment


@dataclass(frozen=True)
class LedgerContext:
    """What the rules may know about the ledger a transaction is applied in, besides its objects."""

    index: int
    parent_close_time: int
    """The one clock of every expiry test: the parent ledger's close time, ripple seconds."""
    is_open: bool
    fees: Fees
    rules: Rules
    network_id: int


class Overlay:
    """A ledger in the making: changes above what `base` holds."""

    def __init__(self, base: Reader, context: LedgerContext) -> None:
        self.base, self.context = base, context
        self.changes: dict[str, Fields | None] = {}
        self.burned = 0
        """Drops of fees taken so far."""

    def read(self, key: str) -> Fields | None:
        """The object with this ledger's changes. Not to be changed."""
        return self.changes[key] if key in self.changes else self.base.read(key)

    def balance_of(self, address: str) -> int:
        """An account's balance in drops; 0 if it does not exist."""
        root = self.read(keylets.account(address))
        return int(root["Balance"]) if root else 0


class TxView:
    """One transaction's changes above an overlay."""

    def __init__(self, parent: Overlay) -> None:
        self.parent, self.context = parent, parent.context
        self.touched: dict[str, Fields] = {}
        self.erased: set[str] = set()
        self.fee = 0
        """Drops of fee taken."""

    def read(self, key: str) -> Fields | None:
        """The object as this transaction sees it. Not to be changed."""
        if key in self.erased:
            return None
        return self.touched.get(key) or self.parent.read(key)

    def peek(self, key: str) -> Fields | None:
        """The object to be changed in place: this transaction's own copy. Lists in it must be replaced, not altered."""
        if key in self.erased:
            return None
        mine = self.touched.get(key)
        if mine is None and (original := self.parent.read(key)) is not None:
            mine = self.touched[key] = dict(original)
        return mine

    def insert(self, key: str, fields: Fields) -> None:
        """Add an object that does not exist yet. All but directories carry an (empty) last transaction at once."""
        if fields["LedgerEntryType"] != "DirectoryNode":
            fields.setdefault("PreviousTxnID", keylets.ZERO_HASH)
            fields.setdefault("PreviousTxnLgrSeq", 0)
        self.touched[key] = fields

    def erase(self, key: str) -> None:
        """Delete an object that was peeked; its last form stays readable for the metadata."""
        self.erased.add(key)

    def discard(self) -> None:
        """Forget every change, as a tec result does before it takes the fee."""
        self.touched.clear()
        self.erased.clear()

    def merge(self) -> None:
        """Write the changes into the overlay."""
        self.parent.burned += self.fee
        for key, fields in self.touched.items():
            if key in self.erased:
                self.parent.changes[key] = None
            elif fields != self.parent.read(key):
                self.parent.changes[key] = fields
