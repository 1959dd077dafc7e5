"""Ledger headers: their hashes, and how a close time is rounded.

A ledger's close time is the clock rounded to the resolution (10 s here, half goes up), but at least one second after
its parent's; so ten quick closes move ledger time by ten seconds at least.

Sources: rippled LedgerTiming.h roundCloseTime, effCloseTime; Ledger.cpp calculateLedgerHash (2.3.0).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from channeld.core.units import RIPPLE_EPOCH
from channeld.sandbox.ledger.keylets import ZERO_HASH, half_hex

CLOSE_RESOLUTION: Final = 10
"""Seconds. Standalone nodes start at the finest step and agree with themselves, so it stays there."""
_LEDGER_PREFIX: Final = b"LWR\x00"


@dataclass(frozen=True)
class Header:
    """A closed ledger. Times are ripple seconds, coins drops."""

    index: int
    hash: str
    parent_hash: str
    account_hash: str
    transaction_hash: str
    close_time: int
    parent_close_time: int
    total_coins: int
    transaction_count: int

    def json(self, api_version: int) -> dict[str, Any]:
        """The `ledger` object of the API: the index is a number in version 2, a string before."""
        moment = datetime.fromtimestamp(self.close_time + RIPPLE_EPOCH, UTC)
        return {
            "account_hash": self.account_hash,
            "close_flags": 0,
            "close_time": self.close_time,
            "close_time_human": moment.strftime("%Y-%b-%d %H:%M:%S.000000000 UTC"),
            "close_time_iso": iso_time(self.close_time),
            "close_time_resolution": CLOSE_RESOLUTION,
            "closed": True,
            "ledger_hash": self.hash,
            "ledger_index": self.index if api_version > 1 else str(self.index),
            "parent_close_time": self.parent_close_time,
            "parent_hash": self.parent_hash,
            "total_coins": str(self.total_coins),
            "transaction_hash": self.transaction_hash,
        }


def iso_time(time: int) -> str:
    """A ripple time as ISO 8601."""
    return datetime.fromtimestamp(time + RIPPLE_EPOCH, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def rounded_close_time(now: int, parent: int) -> int:
    """The close time of a ledger closed at `now` above a ledger closed at `parent`, ripple seconds."""
    shifted = now + CLOSE_RESOLUTION // 2
    return max(shifted - shifted % CLOSE_RESOLUTION, parent + 1)


def next_header(
    parent: Header | None, close_time: int, coins: int, account_hash: str, entries: Sequence[tuple[str, str]]
) -> Header:
    """The header of the ledger above `parent` (None: the first), holding transactions `entries` (hash, result)."""
    index, parent_hash, parent_time = (1, ZERO_HASH, 0) if parent is None else _succeed(parent)
    tx_hash = half_hex("".join(part for entry in entries for part in entry).encode()) if entries else ZERO_HASH
    preimage = _LEDGER_PREFIX + index.to_bytes(4, "big") + coins.to_bytes(8, "big")
    preimage += bytes.fromhex(parent_hash + tx_hash + account_hash)
    preimage += parent_time.to_bytes(4, "big") + close_time.to_bytes(4, "big") + bytes([CLOSE_RESOLUTION, 0])
    return Header(
        index, half_hex(preimage), parent_hash, account_hash, tx_hash, close_time, parent_time, coins, len(entries)
    )


def _succeed(parent: Header) -> tuple[int, str, int]:
    return parent.index + 1, parent.hash, parent.close_time
