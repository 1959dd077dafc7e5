"""What is due when, by the ledger's clock: each thing once, at the earliest moment it was named for."""

from __future__ import annotations

import heapq
from collections.abc import Hashable
from typing import Generic, TypeVar

from channeld.core.units import RippleTime

T = TypeVar("T", bound=Hashable)


class Wheel(Generic[T]):
    """Things by the second at which they are due. Naming, dropping and turning cost no more than what they move.

    Of what was dropped nothing is kept but the second itself, until that has passed.
    """

    def __init__(self) -> None:
        self._at: dict[T, RippleTime] = {}
        self._slots: dict[RippleTime, dict[T, None]] = {}
        self._moments: list[RippleTime] = []

    def put(self, at: RippleTime, thing: T) -> None:
        """It is due at a moment, if it is not due before."""
        known = self._at.get(thing)
        if known is not None and known <= at:
            return
        self.drop(thing)
        self._at[thing] = at
        if at not in self._slots:
            self._slots[at] = {}
            heapq.heappush(self._moments, at)
        self._slots[at][thing] = None

    def drop(self, thing: T) -> None:
        """It is not due any more; nothing happens where it was not."""
        if (at := self._at.pop(thing, None)) is not None:
            del self._slots[at][thing]

    def due(self, now: RippleTime) -> list[T]:
        """What is due by now, in order. It is named no more."""
        found: list[T] = []
        while self._moments and self._moments[0] <= now:
            found += self._slots.pop(heapq.heappop(self._moments))
        for thing in found:
            del self._at[thing]
        return found

    def first(self) -> RippleTime | None:
        """When the first thing is due; None if there is none."""
        while self._moments and not self._slots[self._moments[0]]:
            del self._slots[heapq.heappop(self._moments)]
        return self._moments[0] if self._moments else None

    def __contains__(self, thing: object) -> bool:
        return thing in self._at

    def __len__(self) -> int:
        return len(self._at)
