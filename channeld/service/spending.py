"""What budgets, purses and the guard on closes have used: what really was taken over time, and at worst in flight.

The history is in the store, written with the ledger that showed it. It is read once for the budgets in force, at the
first decision after a start and again when a policy brings others; from then on every span of ledgers adds its own. So
no restart makes a budget forget, and no decision reads more than a few sums.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Final

from channeld.core.budgets import Budget, Outlay, Purse, Purses, Window
from channeld.core.fees import worst_fee
from channeld.core.intents import Kind
from channeld.core.ledger import LedgerHeader
from channeld.core.units import HOUR_S, RippleTime, Seconds
from channeld.core.world import Pulse, WalletView
from channeld.service.commitments import PoolSums
from channeld.service.mirror import Mirror
from channeld.service.sums import PoolTotals

CLOSES_WINDOW: Final = HOUR_S
_NOTHING = PoolSums()


class Spending:
    """One for a daemon. `outlays` reads from the store what was taken after a moment, the oldest first.

    Nothing may be asked before the first ledger is processed. Whoever asks may meet `StoreError`.
    """

    def __init__(self, mirror: Mirror, outlays: Callable[[RippleTime], Sequence[Outlay]]) -> None:
        self._mirror, self._read = mirror, outlays
        self._terms: tuple[tuple[Budget, ...], Seconds] | None = None
        self._spent: dict[str, Window] = {}
        self._closed: dict[str, Window] = {}
        self._drawn: dict[str, Window] = {}

    def took(self, outlays: Iterable[Outlay]) -> None:
        """The store has these, newer than all before."""
        if self._terms is not None:
            for outlay in outlays:
                self._add(outlay)

    def used(self) -> dict[str, int]:
        """Drops that each budget of the policy in force has used, by its name, everything in flight at its worst."""
        header = self._recalled()
        return {budget.name: self._used(budget, header) for budget in self._mirror.policy.budgets}

    def purses(self) -> Purses:
        """What is left of the budgets, for whoever decides outside of `core.decide`."""
        return Purses(self._mirror.policy.budgets, self.used())

    def purse_used(self, wallet: str) -> int:
        """Drops that deadline work of a wallet has taken from its purse, everything in flight at its worst."""
        header, guards = self._recalled(), self._mirror.policy.guards
        window, sums = self._drawn.get(wallet), self._mirror.commitments.wallets.get(wallet)
        used = window.total(header.close_time) if window else 0
        return used + (sums.deadline * guards.urgent_fee_cap if sums else 0)

    def wallet_views(self) -> dict[str, WalletView]:
        """Every wallet that a ledger has shown, with what its open intents take and what is left of its purse."""
        purse = self._mirror.policy.guards.deadline_purse
        views = self._mirror.wallet_views()
        return {name: replace(view, purse=purse - self.purse_used(name)) for name, view in views.items()}

    def tickets(self, wallet: str, count: int) -> int:
        """How many of `count` tickets a wallet may make: within budgets for all pools, and beside floor and purse."""
        header, guards, view = self._recalled(), self._mirror.policy.guards, self.wallet_views().get(wallet)
        costs = {Purse.FEES: worst_fee(Kind.OPEN, guards, ends=False)}
        if view is None or self.purses().exhausted(costs, "") is not None:
            return 0
        increment = header.fees.reserve_increment
        return max(0, min(count, view.spendable(header.fees, guards) // increment)) if increment else count

    def pulses(self) -> dict[str, Pulse]:
        """Every pool of the policy in force as a whole."""
        header, pulses = self._recalled(), {}
        for pool in self._mirror.policy.pools:
            window, flying = self._closed.get(pool), self._mirror.commitments.pools.get(pool, _NOTHING)
            closed = window.total(header.close_time) if window else 0
            channels = self._mirror.sums.pools.get(pool, PoolTotals()).channels
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
        """Nothing that happened so many seconds ago, or longer, matters to a budget, purse or guard in force."""
        windows = [Window(b.window) for b in self._mirror.policy.budgets if b.window is not None]
        windows += [Window(CLOSES_WINDOW), Window(self._mirror.policy.guards.deadline_window)]
        return max(window.reach for window in windows)

    def _recalled(self) -> LedgerHeader:
        """The last ledger, with the history at hand for the budgets in force."""
        header, budgets = self._mirror.header, self._mirror.policy.budgets
        assert header is not None
        terms = (budgets, self._mirror.policy.guards.deadline_window)
        if self._terms != terms:
            self._spent = {b.name: Window(b.window) for b in budgets if b.window is not None}
            self._closed, self._drawn = {}, {}
            history = self._read(RippleTime(header.close_time - self.reach))
            self._terms = terms
            self.took(history)
        return header

    def _add(self, outlay: Outlay) -> None:
        assert self._terms is not None
        header, (budgets, window) = self._mirror.header, self._terms
        increment = header.fees.reserve_increment if header else 0
        for budget in budgets:
            amount = outlay.amount(budget.purse, increment)
            if amount and budget.name in self._spent and budget.bounds(budget.purse, outlay.pool):
                self._spent[budget.name].add(outlay.at, amount)
        if outlay.deadline:
            self._drawn.setdefault(outlay.wallet, Window(window)).add(outlay.at, outlay.fee)
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
            for pool, totals in mirror.sums.pools.items():
                if budget.bounds(budget.purse, pool):
                    reserve = totals.channels * header.fees.reserve_increment
                    used += reserve if budget.purse is Purse.RESERVE else totals.remaining
        return used

    def _flying(self, purse: Purse, sums: PoolSums, increment: int) -> int:
        guards = self._mirror.policy.guards
        if purse is Purse.FEES:
            return sums.urgent * guards.urgent_fee_cap + sums.ordinary * guards.fee_cap + sums.signed_fees
        return sums.opens * increment if purse is Purse.RESERVE else sums.drops
