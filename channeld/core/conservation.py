"""Money does not vanish: what one validated transaction may do to the balance of an account of ours, to the drop.

The balance of a wallet changes by nothing but this:

    - fee             if the account sent the transaction
    - added           to channels it is the source of: their Amount, by as much as it rose
    + returned        from channels of its that were deleted: Amount - Balance
    + paid            from channels it is the destination of: the movement of their Balance

What comes on top is income from outside, for anybody may pay us. What is missing is an unexplained decrease. A payout
moves no balance of ours: it was paid for when the channel was funded.

Where history is missing, the same holds between two whole readings of the ledger: a wallet can have lost the fees of
its own transactions that nobody saw end, and what its channels gained. More is an unexplained decrease as well.

Sources: rippled PaymentChannelCreate.cpp, PaymentChannelFund.cpp, PaymentChannelClaim.cpp, PayChan.cpp closeChannel.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass

from channeld.core.channel import Channel
from channeld.core.ledger import ChannelChange, ValidatedTransaction
from channeld.core.units import Address, ChannelId, LedgerIndex, RippleTime


@dataclass(frozen=True, slots=True)
class Moved:
    """A change of a channel, beside the channel as it was before it (None: it was not known)."""

    before: Channel | None
    change: ChannelChange

    @property
    def added(self) -> int:
        """Drops its source put in: all of Amount where it is new, never negative."""
        return self.change.channel.amount - (self.before.amount if self.before else 0)

    @property
    def returned(self) -> int:
        """Drops its source got back: what remained, if it was deleted."""
        return self.change.channel.remaining if self.change.deleted else 0


def explained(tx: ValidatedTransaction, account: Address, moves: Iterable[Moved]) -> int:
    """By how many drops the transaction may have changed the account's balance; negative where it took some."""
    total = -tx.fee if tx.account == account else 0
    for moved in moves:
        channel = moved.change.channel
        if channel.source_account == account:
            total += moved.returned - moved.added
        if channel.destination_account == account:
            total += moved.change.paid
    return total


def explained_unseen(before: Channel | None, after: Channel | None, payable: int) -> int:
    """By how many drops what nobody saw happen to a channel changed its source's balance, at least.

    None before it: it was not known; None after it: it is gone. `payable` is the most that its payee can have been paid
    in all: what was signed, or everything where that is not known. What a channel gained came from its source; when it
    goes, the rest comes back.
    """
    if after is not None:
        return (before.amount if before else 0) - after.amount
    return 0 if before is None else before.amount - max(before.balance, payable)


class LossKind(enum.Enum):
    """Why something that was signed will never be paid; the values are labels of the metric."""

    FORGONE = "forgone"
    """The payee closed the channel itself, in time, without handing in its claim. Our gain, its loss."""
    UNPAID = "unpaid"
    """The channel ended before we had paid what we signed. This is our failure, and alarmed as such."""
    UNSEEN = "unseen"
    """The channel went while no history shows how."""
    UNREDEEMED = "unredeemed"
    """A channel that pays us ended before we had collected what we held a claim for: our failure, and our loss."""


@dataclass(frozen=True, slots=True)
class Loss:
    """A payout, by us or to us, that did not happen and cannot happen any more.

    `hash` is empty where no transaction was seen.
    """

    channel_id: ChannelId
    ledger: LedgerIndex
    kind: LossKind
    drops: int
    hash: str


@dataclass(frozen=True, slots=True)
class Income:
    """Drops that came to an account of ours from outside; `hash` is empty where no transaction was seen."""

    hash: str
    account: Address
    ledger: LedgerIndex
    drops: int
    by: Address


def loss_of(channel: Channel, authorized: int, tx: ValidatedTransaction | None, now: RippleTime) -> LossKind | None:
    """What was lost with a channel that is gone: None where all that was signed had been paid.

    `channel` is as it was last, `now` the close time of a ledger not before the one that deleted it: where that lies
    past the channel's deadline the payee may have come too late as well, and the failure is counted as ours.
    """
    if not channel.unredeemed(authorized):
        return None
    if tx is None:
        return LossKind.UNSEEN
    in_time = channel.deadline is None or now < channel.deadline
    return LossKind.FORGONE if tx.account == channel.destination_account and in_time else LossKind.UNPAID
