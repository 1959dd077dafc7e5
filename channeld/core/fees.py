"""What a transaction offers, and how long it may live: more with every attempt that died, most as a deadline nears.

Prices are drops. An ordinary transaction never offers more than `fee_cap`: while the network asks more, work waits.
What the payee loses if it comes too late (a payout on a channel that ends) may go to `urgent_fee_cap`, at once where
only a few attempts are left, for what is at stake is worth far more than the fee. What a node asks is only its word:
one that asks nonsense, or does not tell, makes ordinary work wait, and holds up a last attempt only where less than
what it asks is at stake. Numbers go in order, so what is signed and not taken holds up all that is signed after it.

Sources: rippled TxQ.h (the fee level of the open ledger; a queued transaction needs its last ledger two ahead),
Transactor.cpp checkFee (a fee may be paid out of the reserve, and not be above the balance).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from channeld.core.intents import Kind
from channeld.core.ledger import OpenFees
from channeld.core.policy import Guards
from channeld.core.units import Drops

LEDGERS_TO_LIVE: Final = 12
"""Ledgers a transaction may take to be validated."""
URGENT_LEDGERS_TO_LIVE: Final = 4
"""And where time is short: so that its successor, with a higher fee, still comes in time."""
LAST_ATTEMPTS: Final = 5
"""With time for no more attempts than this before the deadline, the cap is offered at once."""
_LAST_LEDGERS: Final = LAST_ATTEMPTS * URGENT_LEDGERS_TO_LIVE
_MOST_DOUBLINGS: Final = 20
PAYING: Final = frozenset({Kind.SETTLE, Kind.REQUEST_CLOSE, Kind.REDEEM})
"""Kinds that pay out, so that what comes too late is lost."""


@dataclass(frozen=True, slots=True)
class Urgency:
    """How pressing a transaction is: `ledgers_left` until its deadline, None where there is none.

    `tried` counts the transactions that were signed for the same intent before and died. `stake` is what we gain by it
    (drops, None: no such thing): more than that is never offered, but for the base fee.
    """

    tried: int
    ledgers_left: int | None = None
    stake: int | None = None

    @property
    def last_attempts(self) -> bool:
        """Whether there is time for few more attempts only."""
        return self.ledgers_left is not None and self.ledgers_left <= _LAST_LEDGERS

    @property
    def presses(self) -> bool:
        """Whether the next attempt, or the one after, is among the last."""
        return self.ledgers_left is not None and self.ledgers_left <= _LAST_LEDGERS + LEDGERS_TO_LIVE


@dataclass(slots=True)
class Means:
    """What an account has for fees before ends, given out one after the other, the biggest stake first.

    Half of it is shared in proportion to what is `at_stake` in all; the other half is for whoever comes first, as far
    as that may offer it. So the biggest stake has half of all there is at least, however many others there are, and
    what is worth little takes little from it.
    """

    shared: int
    first: int
    at_stake: int

    @classmethod
    def of(cls, drops: int, at_stake: int) -> Means:
        """Nothing is given out yet; `drops` may be negative."""
        return cls(drops // 2, drops - drops // 2, at_stake)

    @property
    def left(self) -> int:
        """What nobody was given."""
        return self.shared + self.first

    def room(self, stake: int) -> int:
        """Drops for the next one, where so much is at stake for it; may be negative."""
        return self._part(stake) + self.first

    def took(self, stake: int, drops: int) -> None:
        """It was given so much, its own part first."""
        own = min(drops, self._part(stake))
        self.shared, self.first = self.shared - own, self.first - (drops - own)
        self.at_stake -= stake

    def _part(self, stake: int) -> int:
        return self.shared * stake // max(1, stake, self.at_stake)


def worst_fee(kind: Kind, guards: Guards, *, ends: bool) -> Drops:
    """The most that a transaction for such an intent may offer; `ends` says that its channel has a deadline."""
    return guards.urgent_fee_cap if ends and kind in PAYING else guards.fee_cap


def life(urgency: Urgency) -> int:
    """Ledgers it may take, from the one that is open now: 1 or more. The time for the last attempts is not touched."""
    if urgency.ledgers_left is None:
        return LEDGERS_TO_LIVE
    spare = urgency.ledgers_left - _LAST_LEDGERS
    return max(URGENT_LEDGERS_TO_LIVE, min(LEDGERS_TO_LIVE, spare))


def most(urgency: Urgency, guards: Guards, base_fee: Drops) -> Drops:
    """The most that it may offer: the operator's cap, and no more than is at stake, but for the base fee."""
    cap = guards.fee_cap if urgency.ledgers_left is None else guards.urgent_fee_cap
    return cap if urgency.stake is None else Drops(min(cap, max(base_fee, urgency.stake)))


def fee(
    urgency: Urgency,
    guards: Guards,
    *,
    base_fee: Drops,
    asked: OpenFees | None,
    affordable: int | None = None,
) -> Drops | None:
    """Drops to offer: what the open ledger asks, doubled with each attempt that died, up to the cap; None: it waits.

    `affordable` are drops that the account has for it, its reserve included, None where nobody looked: what may go to
    the urgent cap offers no more than that, but for the base fee, for a fee above the balance is never taken.

    `asked` is what the node says, None where it does not tell. It waits where what may be offered would not be taken at
    all; the open ledger may ask more, for then the cap buys a place in the queue. A last attempt is made all the same,
    but not where less is at stake than the node asks: what is worth more would wait behind it.
    """
    pressing, cap = urgency.ledgers_left is not None, most(urgency, guards, base_fee)
    if base_fee > cap or (asked is None and not pressing):
        return None
    has = min(cap, max(base_fee, affordable)) if pressing and affordable is not None else cap
    least, wanted = (base_fee, base_fee) if asked is None else (asked.least, max(base_fee, asked.open_ledger))
    if urgency.last_attempts:
        return None if cap < min(least, guards.urgent_fee_cap) else Drops(has)
    return None if least > has else Drops(min(has, wanted << min(urgency.tried, _MOST_DOUBLINGS)))
