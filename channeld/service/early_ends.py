"""Which payees ended channels early, and when: read from the store at the start, and added to as ledgers show it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from channeld.core.early_ends import MOST_KEPT
from channeld.core.policy import LONGEST_WINDOW
from channeld.core.units import Payee, RippleTime

_FEW: Final = 1000


class EarlyEnds:
    """The last `MOST_KEPT` of each payee, in order; of payees that had one within the longest window there is."""

    def __init__(self, ended: Iterable[tuple[Payee, RippleTime]] = ()) -> None:
        self._ends: dict[Payee, tuple[RippleTime, ...]] = {}
        self._look_at = _FEW
        for payee, at in ended:
            self.add(payee, at)

    def of(self, payee: Payee) -> tuple[RippleTime, ...]:
        """When its channels ended early."""
        return self._ends.get(payee, ())

    def add(self, payee: Payee, at: RippleTime) -> None:
        """The store has it: a channel of a payee ended early, no earlier than those before."""
        self._ends[payee] = (*self._ends.get(payee, ()), at)[-MOST_KEPT:]
        if len(self._ends) >= self._look_at:
            self._ends = {p: ends for p, ends in self._ends.items() if ends[-1] > at - LONGEST_WINDOW}
            self._look_at = max(_FEW, 2 * len(self._ends))
