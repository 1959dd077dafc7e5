"""What budgets and the guard on closes have used: what really was taken over time, and what is in flight at worst.

The history is in the store, written with the ledger that showed it. It is read once for the budgets in force, at the
first decision after a start and again when a policy brings others; from then on every span of ledgers adds its own. So
no restart makes a budget forget, and no decision reads more than a few sums.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from channeld.core.budgets import Budget, Outlay, Purse, Purses, Window
from channeld.core.fees import worst_fee
from channeld.core.intents import Kind
from channeld.core.ledger import LedgerHeader
from channeld.core.units import RippleTime, Seconds
from channeld.core.world import Pulse
from channeld.service.commitments import PoolSums
from channeld.service.holdings import PoolTotals
from channeld.service.mirror import Mirror

CLOSES_WINDOW: Seconds = Seconds(3600)
_NOTHING = PoolSums()


class Spending:
    """One for a daemon. `outlays` reads from the store what was taken after a moment, the oldest first.

    Nothing may be asked before the first ledger is processed. Whoever asks may meet `StoreError`.
    """

    def __init__(self, mirror: Mirror, outlays: Callable[[RippleTime], Sequence[Outlay]]) -> None:
        self._mirror, self._read = mirror, outlays
        self._budgets: tuple[Budget, ...] | None = None
        self._spent: dict[str, Window] = {}
        self._closed: dict[str, Window] = {}

    def took(self, outlays: Iterable[Outlay]) -> None:
        """The store has these, newer than all before."""
        if self._budgets is not None:
            for outlay in outlays:
                self._add(outlay)

    def used(self) -> dict[str, int]:
        """Drops that each budget of the policy in force has used, by its name, everything in flight at its worst."""
        header = self._recalled()
        return {budget.name: self._used(budget, header) for budget in self._mirror.policy.budgets}

    def purses(self) -> Purses:
        """What is left of the budgets, for whoever decides outside of `core.decide`."""
        return Purses(self._mirror.policy.budgets, self.used())

    def affords(self, kind: Kind) -> bool:
        """Whether the fee for something that is about no pool is left, beside all that is in flight."""
        costs = {Purse.FEES: worst_fee(kind, self._mirror.policy.guards, ends=False)}
        return self.purses().exhausted(costs, "") is None

    def pulses(self) -> dict[str, Pulse]:
        """Every pool of the policy in force as a whole."""
        header, pulses = self._recalled(), {}
        for pool in self._mirror.policy.pools:
            window, flying = self._closed.get(pool), self._mirror.commitments.pools.get(pool, _NOTHING)
            closed = window.total(header.close_time) if window else 0
            channels = self._mirror.totals.get(pool, PoolTotals()).channels
            pulses[pool] = Pulse(channels, closed + flying.freely_closing)
        return pulses

    # --- over time ---------------------------------------------------------------------------------------------------

    @property
    def now(self) -> RippleTime | None:
        """The close time of the last ledger; None before the first."""
        header = self._mirror.header
        return None if header is None else header.close_time

    @property
    def reach(self) -> Seconds:
        """Nothing that happened so many seconds ago, or longer, matters to a budget or guard in force."""
        windows = [Window(b.window) for b in self._mirror.policy.budgets if b.window is not None]
        return max(window.reach for window in (*windows, Window(CLOSES_WINDOW)))

    def _recalled(self) -> LedgerHeader:
        """The last ledger, with the history at hand for the budgets in force."""
        header, budgets = self._mirror.header, self._mirror.policy.budgets
        assert header is not None
        if self._budgets != budgets:
            self._spent = {b.name: Window(b.window) for b in budgets if b.window is not None}
            self._closed = {}
            history = self._read(RippleTime(header.close_time - self.reach))
            self._budgets = budgets
            self.took(history)
        return header

    def _add(self, outlay: Outlay) -> None:
        header = self._mirror.header
        increment = header.fees.reserve_increment if header else 0
        for budget in self._budgets or ():
            amount = outlay.amount(budget.purse, increment)
            if amount and budget.name in self._spent and budget.bounds(budget.purse, outlay.pool):
                self._spent[budget.name].add(outlay.at, amount)
        if outlay.freely_closed:
            self._closed.setdefault(outlay.pool, Window(CLOSES_WINDOW)).add(outlay.at, outlay.freely_closed)

    # --- now ---------------------------------------------------------------------------------------------------------

    def _used(self, budget: Budget, header: LedgerHeader) -> int:
        """What a budget has used: over its window, or what is out now; and what is in flight."""
        mirror = self._mirror
        used = self._spent[budget.name].total(header.close_time) if budget.name in self._spent else 0
        for pool, sums in mirror.commitments.pools.items():
            if budget.bounds(budget.purse, pool):
                used += self._flying(budget.purse, sums, header.fees.reserve_increment)
        if budget.window is None:
            for pool, totals in mirror.totals.items():
                if budget.bounds(budget.purse, pool):
                    reserve = totals.channels * header.fees.reserve_increment
                    used += reserve if budget.purse is Purse.RESERVE else totals.remaining
        return used

    def _flying(self, purse: Purse, sums: PoolSums, increment: int) -> int:
        guards = self._mirror.policy.guards
        if purse is Purse.FEES:
            return sums.urgent * guards.urgent_fee_cap + sums.ordinary * guards.fee_cap + sums.signed_fees
        return sums.opens * increment if purse is Purse.RESERVE else sums.drops
