"""What open intents will take at worst, kept as sums while they come and go.

A decision must know what is spoken for: drops and owned objects of each wallet, the caps of each content server, what
counts against the budgets of each pool, opens on their way. Adding it up anew for every decision would cost as much as
there are open intents, just when there are thousands of them; so whoever changes an intent counts it again here, and a
decision reads the sums.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import NamedTuple

from channeld.core.caps import Whose, opened_for
from channeld.core.fees import PAYING
from channeld.core.intents import FundChannel, OpenChannel, Status
from channeld.core.policy import Guards
from channeld.core.records import ChannelRecord, JournalEntry, LiveTransaction
from channeld.core.units import LedgerIndex
from channeld.service.locked import Locked


class _Share(NamedTuple):
    """What one open intent was counted as."""

    wallet: str
    server: str
    pool: str
    drops: int
    urgent: bool
    ends: bool
    deadline: bool
    freely_closing: bool
    decided_at: LedgerIndex | None
    unsigned: bool
    object: bool
    names: tuple[str, ...] = ()


@dataclass(slots=True)
class WalletSums:
    """What the open intents of a wallet take: `drops` that they lock, and so many fees, urgent and ordinary ones.

    `deadline` of the urgent ones are for deadline work. `unsigned_opens` may still get a ticket; `objects` are opens
    signed under a sequence; `tickets` are being made.
    """

    drops: int = 0
    urgent: int = 0
    ordinary: int = 0
    deadline: int = 0
    unsigned_opens: int = 0
    objects: int = 0
    tickets: int = 0

    def committed(self, guards: Guards) -> int:
        """Drops it will part with at worst, fees included."""
        return self.drops + self.urgent * guards.urgent_fee_cap + self.ordinary * guards.fee_cap


@dataclass(slots=True)
class PoolSums:
    """What open intents of a pool (of none: empty name) count for in budgets.

    `drops` that they lock, channels that they open, or close though nothing forces it; and fees: so many that may be
    urgent, for their channel has a deadline, and so many ordinary ones; fees of deadline work count in no budget, and
    are not among them. `signed_fees` are drops offered by transactions under way that are for no intent.
    """

    drops: int = 0
    urgent: int = 0
    ordinary: int = 0
    opens: int = 0
    freely_closing: int = 0
    signed_fees: int = 0


class Commitments:
    """The sums over all open intents. Counting an intent twice counts it once, as it is now.

    What they lock for tiers, users and payees is added to `locked`, where what is in channels counts, too.
    """

    def __init__(self, locked: Locked | None = None) -> None:
        self._locked = locked or Locked()
        self.wallets: dict[str, WalletSums] = {}
        self.pools: dict[str, PoolSums] = {}
        self.opens = 0
        self._opens_at: Counter[LedgerIndex] = Counter()
        self._servers: dict[str, tuple[int, int]] = {}
        self._shares: dict[int, _Share] = {}
        self._by_ticket: set[int] = set()

    def server(self, server: str) -> tuple[int, int]:
        """Drops that open intents will lock for a content server, and channels that they will open for it."""
        return self._servers.get(server, (0, 0))

    def opens_decided(self, at: LedgerIndex | None) -> int:
        """Open intents to open a channel that were decided on this ledger."""
        return 0 if at is None else self._opens_at[at]

    # --- intents -----------------------------------------------------------------------------------------------------

    def count(self, entry: JournalEntry, record: ChannelRecord | None) -> None:
        """An open intent is new, or it or its channel changed. `record` is its channel, None for an open or if gone."""
        self.forget(entry.number)
        action, urgent = entry.action, entry.action.kind in PAYING
        server, pool = record.server if record else "", entry.intent.pool
        ends = urgent and (record is None or record.channel.deadline is not None)
        share = _Share(
            wallet=action.wallet,
            server=server,
            pool=pool,
            drops=0,
            urgent=urgent,
            ends=ends,
            deadline=entry.intent.deadline,
            freely_closing=entry.intent.freely_closes,
            decided_at=None,
            unsigned=False,
            object=False,
        )
        if isinstance(action, OpenChannel):
            unsigned = entry.status is Status.PLANNED
            taken = not unsigned and entry.number not in self._by_ticket
            whose = Whose(action.pool, str(action.payee), action.user, action.tier)
            share = share._replace(server=action.server, pool=action.pool, drops=action.amount, names=whose.names)
            share = share._replace(decided_at=entry.decided_at, unsigned=unsigned, object=taken)
        elif isinstance(action, FundChannel) and record is not None:
            drops = max(0, action.target_amount - record.channel.amount)
            share = share._replace(drops=drops, names=opened_for(record).names)
        self._shares[entry.number] = share
        self._add(share, 1)

    def forget(self, number: int) -> None:
        """An intent ended."""
        if (share := self._shares.pop(number, None)) is not None:
            self._add(share, -1)

    def _add(self, share: _Share, sign: int) -> None:
        sums, opens = self._wallet(share.wallet), share.decided_at is not None
        sums.drops += sign * share.drops
        sums.urgent += sign * share.urgent
        sums.ordinary += sign * (not share.urgent)
        sums.deadline += sign * share.deadline
        sums.unsigned_opens += sign * share.unsigned
        sums.objects += sign * share.object
        self._add_to_pool(share, sign)
        self._locked.add(share.names, sign * share.drops)
        locked, channels = self._servers.get(share.server, (0, 0))
        self._servers[share.server] = (locked + sign * share.drops, channels + sign * opens)
        if self._servers[share.server] == (0, 0):
            del self._servers[share.server]
        if share.decided_at is not None:
            self.opens += sign
            self._opens_at[share.decided_at] += sign
            if not self._opens_at[share.decided_at]:
                del self._opens_at[share.decided_at]

    def _add_to_pool(self, share: _Share, sign: int) -> None:
        sums = self.pools.setdefault(share.pool, PoolSums())
        sums.drops += sign * share.drops
        sums.urgent += sign * (share.ends and not share.deadline)
        sums.ordinary += sign * (not share.ends and not share.deadline)
        sums.opens += sign * (share.decided_at is not None)
        sums.freely_closing += sign * share.freely_closing

    # --- transactions ------------------------------------------------------------------------------------------------

    def signed(self, live: LiveTransaction) -> None:
        """A transaction is on disk; whoever says so counts its intent again."""
        self._wallet(live.wallet).tickets += live.makes
        if live.intent is None:
            self.pools.setdefault("", PoolSums()).signed_fees += live.fee
        if live.ticket and live.intent is not None:
            self._by_ticket.add(live.intent)

    def ended(self, live: LiveTransaction) -> None:
        """It can not be validated any more, or was; what becomes of its intent is told apart."""
        self._wallet(live.wallet).tickets -= live.makes
        if live.intent is None:
            self.pools[""].signed_fees -= live.fee
        else:
            self._by_ticket.discard(live.intent)

    def _wallet(self, name: str) -> WalletSums:
        return self.wallets.setdefault(name, WalletSums())
