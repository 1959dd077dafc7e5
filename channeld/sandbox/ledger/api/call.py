"""One request: its parameters, what they select, and the readers all commands share.

Sources: rippled RPCHelpers.cpp lookupLedger, readLimitField (2.3.0).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from channeld.sandbox.ledger import keylets
from channeld.sandbox.ledger.api.errors import RpcError, expected, missing
from channeld.sandbox.ledger.headers import Header
from channeld.sandbox.ledger.state import ClosedView, Fields, Reader
from channeld.sandbox.ledger.streams import Streams, Subscriber

if TYPE_CHECKING:
    from channeld.sandbox.ledger.node import Node
    from channeld.sandbox.ledger.server import LedgerServer

HASH_DIGITS: Final = 64


@dataclass(frozen=True)
class Chosen:
    """The ledger a request asked for, and what the answer says of it. `header` is None for the open ledger."""

    reader: Reader
    header: Header | None
    fields: dict[str, Any]

    @property
    def is_open(self) -> bool:
        """Whether it is the open ledger."""
        return self.header is None


@dataclass
class Call:
    """A request being answered."""

    node: Node
    server: LedgerServer
    subscriber: Subscriber
    params: dict[str, Any]
    api_version: int
    is_admin: bool
    chosen: Chosen | None = field(default=None)

    @property
    def streams(self) -> Streams:
        """Who listens to what."""
        return self.server.streams

    @property
    def validated(self) -> Header:
        """The newest validated ledger, as far as this node shows it (a `lag` fault hides the newest)."""
        index = self.node.state.newest - self.server.faults.lag
        return self.node.headers[max(index, self.node.first_index)]

    def text(self, name: str) -> str:
        """A parameter that must be a string."""
        if name not in self.params:
            raise missing(name)
        if not isinstance(self.params[name], str):
            raise expected(name, "string")
        return str(self.params[name])

    def limit(self, default: int, least: int, most: int) -> int:
        """How many items a page may have; clamped for those who are not admins. 0 is refused."""
        value = self.params.get("limit")
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise expected("limit", "unsigned integer")
        if value == 0:
            raise RpcError("invalidParams")
        return value if self.is_admin else max(least, min(most, value))

    def address(self, name: str = "account") -> str:
        """A parameter that must be a classic address: absent is invalidParams, anything else wrong actMalformed."""
        if name not in self.params:
            raise missing(name)
        if not is_address(self.params[name]):
            raise RpcError("actMalformed")
        return str(self.params[name])

    def ledger(self) -> Chosen:
        """The ledger asked for by ledger_index or ledger_hash; the open one by default."""
        selector, tx_hash = self.params.get("ledger_index"), self.params.get("ledger_hash")
        legacy = self.params.get("ledger")
        if legacy is not None and legacy is not False:
            selector, tx_hash = (None, legacy) if len(str(legacy)) > 12 else (legacy, tx_hash)
        if selector is not None and tx_hash is not None:
            raise RpcError("invalidParams", "Exactly one of 'ledger_hash' and 'ledger_index' may be given.")
        self.chosen = self._by_hash(tx_hash) if tx_hash is not None else self._by_index(selector)
        return self.chosen

    def _by_hash(self, ledger_hash: Any) -> Chosen:
        if not isinstance(ledger_hash, str):
            raise RpcError("invalidParams", "ledgerHashNotString")
        if not is_hash(ledger_hash):
            raise RpcError("invalidParams", "ledgerHashMalformed")
        index = self.node.by_hash.get(ledger_hash.upper())
        if index is None:
            raise RpcError("lgrNotFound")
        return self.closed(index)

    def _by_index(self, selector: Any) -> Chosen:
        word = "current" if selector is None else str(selector)
        if word in ("current", ""):
            return self._open()
        if word in ("validated", "closed"):
            return self.closed(self.validated.index)
        if not (word.isascii() and word.isdigit()):
            raise RpcError("invalidParams", "ledgerIndexMalformed")
        return self._open() if int(word) == self.node.open.index else self.closed(int(word))

    def _open(self) -> Chosen:
        view = self.node.open.view
        return Chosen(view, None, {"ledger_current_index": self.node.open.index, "validated": False})

    def closed(self, index: int) -> Chosen:
        """A closed ledger by number. Raises lgrNotFound if it is not there."""
        header = self.node.headers.get(index)
        if header is None or index > self.validated.index:
            raise RpcError("lgrNotFound")
        fields = {"ledger_hash": header.hash, "ledger_index": index, "validated": True}
        return Chosen(ClosedView(self.node.state, index), header, fields)

    def objects(self) -> Chosen:
        """As `ledger`, for commands that read objects: those of ledgers older than the window are gone."""
        chosen = self.ledger()
        if chosen.header is not None and chosen.header.index < self.node.state.oldest:
            raise RpcError("lgrNotFound")
        return chosen


def is_address(value: Any) -> bool:
    """Whether a value is a classic address."""
    if not isinstance(value, str):
        return False
    try:
        keylets.account_id(value)
    except ValueError:
        return False
    return True


def is_hex(value: Any) -> bool:
    """Whether a value is a string of whole bytes in hex."""
    if not isinstance(value, str) or not value.isascii() or len(value) % 2:
        return False
    return all(digit in "0123456789abcdefABCDEF" for digit in value)


def is_hash(value: Any) -> bool:
    """Whether a value is 64 hex digits."""
    return is_hex(value) and len(value) == HASH_DIGITS


def with_index(key: str, fields: Fields) -> dict[str, Any]:
    """A ledger object as the API shows it: with its index."""
    return {**fields, "index": key}
