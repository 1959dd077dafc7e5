"""What a node is started with, and the clock it goes by."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from channeld.core.errors import BadValue
from channeld.core.units import MAX_UINT32, RIPPLE_EPOCH
from channeld.sandbox.ledger.view import Fees

DEFAULT_CAPACITY: Final = 1000


@dataclass(frozen=True)
class Settings:
    """What a node is started with."""

    amendments: Mapping[str, bool] = field(default_factory=dict)
    network_id: int = 0
    capacity: int = DEFAULT_CAPACITY
    """How many transactions a ledger takes at their ordinary fee, 1 or more."""
    fees: Fees = field(default_factory=Fees)

    def __post_init__(self) -> None:
        if self.capacity < 1:
            raise BadValue("ledger capacity", "a ledger must take something", "1 or more")
        if not 0 <= self.network_id <= MAX_UINT32:
            raise BadValue("network id", "out of range", "0 to 4294967295")


class Clock:
    """Ripple time, which tests may move."""

    def __init__(self) -> None:
        self.offset_s = 0.0
        self.frozen_at: int | None = None

    def now(self) -> int:
        """The node's time in ripple seconds."""
        if self.frozen_at is not None:
            return self.frozen_at
        return int(time.time() + self.offset_s) - RIPPLE_EPOCH
