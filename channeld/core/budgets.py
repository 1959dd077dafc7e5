"""Budgets: what may be spent, locked or reserved at most, counted before acting and corrected by the outcome.

A budget with a `window` bounds what flows within any span of that length; one without bounds what is out at any moment.
What is in flight counts with its worst case from the moment it is decided, and with what it really took once it ended.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from channeld.core.units import Drops, Seconds


class Purse(enum.Enum):
    """What a budget counts, in drops."""

    FEES = "fees"
    """Fees of transactions, for whatever they were."""
    CAPITAL = "capital"
    """What is put into channels; at any moment: what they hold that is not paid out."""
    RESERVE = "reserve"
    """The ledger's owner reserve for channels."""


@dataclass(frozen=True, slots=True)
class Budget:
    """One budget. `pools` empty means all of them. A budget of fees has a `window` (1 or more seconds)."""

    name: str
    purse: Purse
    limit: Drops
    window: Seconds | None = None
    pools: frozenset[str] = frozenset()

    def bounds(self, purse: Purse, pool: str) -> bool:
        """Whether spending of this kind for this pool counts here."""
        return purse is self.purse and (not self.pools or pool in self.pools)


@dataclass(slots=True)
class Purses:
    """What is left of every budget while deciding: whatever is decided takes its worst case at once.

    `used` is what each budget, by name, has used so far, everything in flight included with its worst case.
    """

    budgets: Iterable[Budget]
    used: Mapping[str, int]
    taken: dict[str, int] = field(default_factory=dict)

    def left(self, purse: Purse, pool: str) -> int | None:
        """Drops that may still be taken; None where no budget bounds it. Negative where a limit was lowered."""
        return min((self._left(b) for b in self.budgets if b.bounds(purse, pool)), default=None)

    def exhausted(self, costs: Mapping[Purse, int], pool: str) -> Budget | None:
        """The first budget that these costs would pass, or None."""
        for budget in self.budgets:
            cost = costs.get(budget.purse, 0)
            if cost > 0 and budget.bounds(budget.purse, pool) and cost > self._left(budget):
                return budget
        return None

    def take(self, costs: Mapping[Purse, int], pool: str) -> None:
        """Set these costs aside, worst case, whatever is left: deadline work is never held back by a budget."""
        for budget in self.budgets:
            if budget.bounds(budget.purse, pool):
                self.taken[budget.name] = self.taken.get(budget.name, 0) + costs.get(budget.purse, 0)

    def _left(self, budget: Budget) -> int:
        return budget.limit - self.used.get(budget.name, 0) - self.taken.get(budget.name, 0)
