"""Budgets: what may be spent, locked or reserved at most, counted before acting and corrected by the outcome.

A budget with a `window` bounds what flows within any span of that length; one without bounds what is out at any moment.
What is in flight counts with its worst case from the moment it is decided, and with what it really took once it ended
(its `Outlay`); what came to nothing is free again. So no span of ledger time can ever hold more than the limit: when
the last thing in it was decided, all the others were either in flight or in the same window.
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from channeld.core.units import Drops, RippleTime, Seconds


class Purse(enum.Enum):
    """What a budget counts, in drops."""

    FEES = "fees"
    """Fees of transactions, for whatever they were, but for deadline work: that has a purse of its own."""
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
        """Set these costs aside, worst case, whatever is left."""
        for budget in self.budgets:
            if budget.bounds(budget.purse, pool):
                self.taken[budget.name] = self.taken.get(budget.name, 0) + costs.get(budget.purse, 0)

    def spoken_for(self) -> dict[str, int]:
        """What each budget has used by now, with all that was taken from it here."""
        return {b.name: self.used.get(b.name, 0) + self.taken.get(b.name, 0) for b in self.budgets}

    def _left(self, budget: Budget) -> int:
        return budget.limit - self.used.get(budget.name, 0) - self.taken.get(budget.name, 0)


# --- what was used up over time --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Outlay:
    """What one transaction of ours really took, known from a validated ledger that closed at `at`.

    `pool` is empty where it was for none. `locked` is drops put into a channel; `opened` is how many channels there are
    more, `freely_closed` how many are being closed that nothing forced to. `wallet` is who paid: `deadline` work from
    its purse for that, so that its fee counts in no budget. Where nobody will ever show what became of a transaction,
    this is the worst that it can have done. What happened long ago may be the sum of many, without a hash.
    """

    hash: str
    at: RippleTime
    pool: str
    fee: Drops
    locked: int = 0
    opened: int = 0
    freely_closed: int = 0
    wallet: str = ""
    deadline: bool = False

    def amount(self, purse: Purse, reserve_increment: int) -> int:
        """Drops that a budget of this kind counts."""
        if purse is Purse.RESERVE:
            return reserve_increment * self.opened
        if purse is Purse.CAPITAL:
            return self.locked
        return 0 if self.deadline else self.fee


GRAINS: Final = 1024
"""A window remembers no more sums than about this many, however much happens in it."""


class Window:
    """A sum over the last `length` seconds, in little memory: what happened in one grain of time is one sum.

    A grain leaves the window as a whole, once all of it is `length` old: the sum is never too small, and at most one
    grain's worth (a thousandth of the window, one second or more) is counted for a little too long.
    """

    def __init__(self, length: Seconds) -> None:
        self.length = length
        self._grain = max(1, length // GRAINS)
        self._sums: deque[tuple[int, int]] = deque()
        self._total = 0

    @property
    def reach(self) -> Seconds:
        """Nothing that happened so many seconds ago, or longer, is in it any more."""
        return Seconds(self.length + self._grain)

    def add(self, at: RippleTime, amount: int) -> None:
        """Something happened, not before what was added last."""
        end = -(-at // self._grain) * self._grain
        if self._sums and self._sums[-1][0] >= end:
            end, before = self._sums.pop()
            self._sums.append((end, before + amount))
        else:
            self._sums.append((end, amount))
        self._total += amount

    def total(self, now: RippleTime) -> int:
        """The sum of what happened after `now` - `length`; later questions are about the same moment or later ones."""
        while self._sums and self._sums[0][0] <= now - self.length:
            self._total -= self._sums.popleft()[1]
        return self._total
