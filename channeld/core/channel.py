"""One validated payment channel, and everything derived from it.

Names are the ledger's own: `amount` is all that was ever put in, `balance` all that was ever paid out. Ours:
`remaining` = amount - balance; `authorized` = the highest cumulative amount we signed; `headroom` = amount -
max(balance, authorized); `unredeemed` = max(0, authorized - balance).
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from channeld.core.units import Address, ChannelId, Drops, LedgerIndex, Payee, RippleTime, Seconds


class Phase(enum.Enum):
    """Where a channel stands in its life, as of a close time."""

    OPEN = "open"
    CLOSING = "closing"
    """An expiration is set and not reached: payouts still happen, no claim may be issued."""
    EXPIRED = "expired"
    """Nothing can be paid out any more; whoever touches the channel next deletes it."""


@dataclass(frozen=True, slots=True)
class Channel:
    """A channel as a validated ledger shows it. `ledger_index` is the ledger that was read or that last touched it.

    `source_tag` is told by whole readings only, and kept nowhere: it is the mark of the store that opened the channel.
    """

    channel_id: ChannelId
    source_account: Address
    destination_account: Address
    destination_tag: int | None
    public_key: str
    amount: Drops
    balance: Drops
    settle_delay: Seconds
    expiration: RippleTime | None
    cancel_after: RippleTime | None
    ledger_index: LedgerIndex
    source_tag: int | None = None

    @property
    def payee(self) -> Payee:
        """Whom this channel pays; account and tag are fixed in it for life."""
        return Payee(self.destination_account, self.destination_tag)

    @property
    def remaining(self) -> int:
        """Drops it still holds: what comes back to the source if it closed now."""
        return self.amount - self.balance

    @property
    def deadline(self) -> RippleTime | None:
        """The close time from which nothing is paid out any more, or None where no end is set."""
        expiration, cancel_after = self.expiration, self.cancel_after
        if expiration is None or cancel_after is None:
            return expiration if cancel_after is None else cancel_after
        return min(expiration, cancel_after)

    def headroom(self, authorized: int) -> int:
        """Drops that may still be signed; never negative."""
        return max(0, self.amount - max(self.balance, authorized))

    def unredeemed(self, authorized: int) -> int:
        """Drops that were signed and are not paid out, as far as the channel covers them."""
        return max(0, min(authorized, self.amount) - self.balance)

    def phase(self, close_time: RippleTime) -> Phase:
        """Where it stands for a transaction in the ledger after one that closed at `close_time`.

        Takes the earlier of the two expiry rules: at the deadline itself nothing counts as payable any more.
        Sources: rippled PayChan.cpp closeChannel (>=), PaymentChannelHelpers.cpp isChannelExpired (> with
        fixCleanup3_2_0).
        """
        if self.deadline is not None and close_time >= self.deadline:
            return Phase.EXPIRED
        return Phase.CLOSING if self.expiration is not None else Phase.OPEN

    def deletable(self, close_time: RippleTime) -> bool:
        """Whether touching it would surely delete it, under either expiry rule: strictly past the deadline."""
        return self.deadline is not None and close_time > self.deadline

    def last_claim_time(self, margin: Seconds) -> RippleTime | None:
        """The last close time at which a claim may still be issued on a channel with a fixed end, None if it has none.

        From then on the payee could not have its full settle delay, and `margin` on top, before `cancel_after`.
        """
        if self.cancel_after is None:
            return None
        return RippleTime(self.cancel_after - self.settle_delay - margin)

    def forfeits(self, authorized: int, margin: Seconds, close_time: RippleTime) -> bool:
        """Whether its end is set or near, and would take from the payee what is owed if that were not paid before."""
        phase, last = self.phase(close_time), self.last_claim_time(margin)
        over = phase is Phase.CLOSING or (last is not None and close_time >= last)
        return over and phase is not Phase.EXPIRED and self.unredeemed(authorized) > 0

    def turning_points(self, margin: Seconds) -> list[RippleTime]:
        """Close times from which something is due that has a deadline: no claim any more, and nothing left to pay."""
        if (deadline := self.deadline) is None:
            return []
        last = self.last_claim_time(margin)
        return [RippleTime(deadline + 1)] if last is None else [last, RippleTime(deadline + 1)]
