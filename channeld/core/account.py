"""The running account of one decision: every intent takes its worst case from it, so that bounds hold across groups.

Wallets keep their reserve and the treasury floor, content servers, tiers, users and payees their caps, ledgers their
number of opens, pools their closes an hour, and budgets their limits. All of it counts what is in flight.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from channeld.core.budgets import Purse, Purses
from channeld.core.caps import Whose
from channeld.core.fees import worst_fee
from channeld.core.intents import Kind
from channeld.core.policy import Policy
from channeld.core.world import Reason, World

OPENS_BACKLOG: Final = 4
"""Opens in flight never exceed so many ledgers' worth: when the network takes none, no more are piled up."""


@dataclass(slots=True)
class Account:
    """One for a decision."""

    world: World
    policy: Policy
    spent: dict[str, int] = field(default_factory=dict)
    drawn: dict[str, int] = field(default_factory=dict)
    objects: dict[str, int] = field(default_factory=dict)
    locked: dict[str, int] = field(default_factory=dict)
    opened: dict[str, int] = field(default_factory=dict)
    closed: dict[str, int] = field(default_factory=dict)
    opens: int = 0
    purses: Purses = field(init=False)

    def __post_init__(self) -> None:
        self.purses = Purses(self.policy.budgets, self.world.used)

    def spendable(self, wallet: str, new_objects: int = 0) -> int:
        """Drops the wallet may still part with, one worst-case fee already set aside."""
        view = self.world.wallets[wallet]
        objects = max(0, self.objects.get(wallet, 0) - view.free_tickets) + new_objects
        drops = self.spent.get(wallet, 0)
        drawn = self.drawn.get(wallet, 0)
        return view.spendable(self.world.fees, self.policy.guards, drops=drops, objects=objects, drawn=drawn)

    def pays(self, wallet: str, fee: int, gain: int) -> bool:
        """Whether a wallet can pay an ordinary fee at its worst without touching the purse for deadline work.

        What brings the wallet more than it costs (`gain`) leaves the purse as it was. The floor is there to be used.
        """
        if not self.policy.guards.deadline_purse or gain >= fee:
            return True
        view = self.world.wallets[wallet]
        objects = max(0, self.objects.get(wallet, 0) - view.free_tickets)
        has = view.beside_reserve(self.world.fees, drops=self.spent.get(wallet, 0), objects=objects)
        return has - max(0, view.purse - self.drawn.get(wallet, 0)) >= fee

    def lockable(self, server: str, whose: Whose, *, freed: int = 0) -> tuple[int, Reason]:
        """Drops that may still be locked in a channel, and whose cap it is that leaves no more.

        `freed` is what is paid out of it before: every cap that the channel counts against has so much more room. 0
        for a content server that is not configured.
        """
        view = self.world.servers.get(server)
        left = 0 if view is None else view.max_locked - view.locked - self.locked.get(server, 0) + freed
        rooms = [(left, Reason.CAP_LOCKED)]
        for name, most, reason in whose.bounds(self.policy):
            rooms.append((most - self.world.locked.get(name, 0) - self.locked.get(name, 0) + freed, reason))
        return min(rooms, key=lambda room: room[0])

    def may_open(self, server: str) -> Reason | None:
        """Why no further channel may be opened for a server now, or None."""
        most, world = self.policy.guards.max_opens_per_ledger, self.world
        if world.opens_decided + self.opens >= most or world.opens_in_flight + self.opens >= most * OPENS_BACKLOG:
            return Reason.GUARD_RATE
        view = self.world.servers.get(server)
        if view is None or view.channels + self.opened.get(server, 0) >= view.max_channels:
            return Reason.CAP_CHANNELS
        return None

    def may_close(self, pool: str) -> bool:
        """Whether one more channel of a pool may be closed that nothing forces to."""
        cap, pulse = self.policy.guards.max_closes_per_hour, self.world.pulses.get(pool)
        if cap is None or pulse is None:
            return cap is None
        return pulse.closed + self.closed.get(pool, 0) < cap.of(pulse.channels)

    def count_close(self, pool: str) -> None:
        """A close that nothing forced was decided."""
        self.closed[pool] = self.closed.get(pool, 0) + 1

    def take(self, wallet: str, server: str, drops: int, whose: Whose, *, opens: bool) -> None:
        """Book `drops`; `opens` adds an owned object and a channel. What it costs is booked by `charge`."""
        self.spent[wallet] = self.spent.get(wallet, 0) + drops
        for name in (server, *whose.names):
            self.locked[name] = self.locked.get(name, 0) + drops
        if opens:
            self.objects[wallet] = self.objects.get(wallet, 0) + 1
            self.opened[server] = self.opened.get(server, 0) + 1
            self.opens += 1

    # --- budgets ------------------------------------------------------------------------------------------------------

    def fee(self, kind: Kind, *, ends: bool = False) -> int:
        """What an intent's transactions cost at worst; `ends` says that its channel has a deadline."""
        return worst_fee(kind, self.policy.guards, ends=ends)

    def costs(self, kind: Kind, drops: int, fee: int) -> Mapping[Purse, int]:
        """What an ordinary intent takes from budgets at worst."""
        reserve = self.world.fees.reserve_increment if kind is Kind.OPEN else 0
        return {Purse.FEES: fee, Purse.CAPITAL: drops, Purse.RESERVE: reserve}

    def exhausted(self, costs: Mapping[Purse, int], pool: str) -> bool:
        """Whether an intent of a pool with these costs would pass a budget."""
        return self.purses.exhausted(costs, pool) is not None

    def affordable(self, kind: Kind, pool: str, drops: int) -> int:
        """As many of these drops as the budgets let an intent of a pool lock; 0 where not even its fee is left."""
        if self.exhausted(self.costs(kind, 0, self.fee(kind)), pool):
            return 0
        left = self.purses.left(Purse.CAPITAL, pool)
        return drops if left is None else min(drops, max(0, left))

    def charge(self, wallet: str, pool: str, costs: Mapping[Purse, int]) -> None:
        """Set the worst case of an ordinary intent aside."""
        self.spent[wallet] = self.spent.get(wallet, 0) + costs[Purse.FEES]
        self.purses.take(costs, pool)

    def draw(self, wallet: str, fee: int) -> None:
        """Set the fee of deadline work aside: from the purse for it, and from no budget."""
        self.spent[wallet] = self.spent.get(wallet, 0) + fee
        self.drawn[wallet] = self.drawn.get(wallet, 0) + fee
