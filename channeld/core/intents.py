"""The closed set of things the engine may do, what each becomes on the ledger, and the status table they live by.

An intent names an absolute target (hold so much, have paid out so much), so carrying it out twice does nothing more.
It is written down before anything happens, and it ends in exactly one of the final states.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from channeld.core.channel import Channel
from channeld.core.errors import Refused
from channeld.core.units import Address, ChannelId, Drops, Payee, RippleTime, Seconds, drawn_by


class Kind(enum.Enum):
    """What an intent does; the values are what journal, metrics and log call it."""

    OPEN = "open"
    FUND = "fund"
    SETTLE = "settle"
    REQUEST_CLOSE = "request_close"
    FINALIZE_CLOSE = "finalize_close"
    REDEEM = "redeem"


class Status(enum.Enum):
    """Where an intent stands."""

    PLANNED = "planned"
    """Decided and journaled; nothing signed that could still be validated."""
    SIGNED = "signed"
    """A transaction with a reserved sequence is on disk and may be, or have been, submitted."""
    DONE = "done"
    """A validated ledger shows the effect."""
    FAILED = "failed"
    """A validated ledger shows that it will not happen this way; what is due now is decided anew."""
    MOOT = "moot"
    """Overtaken: the target already holds, or the channel is gone, before anything was signed."""


TRANSITIONS: Final[Mapping[Status, frozenset[Status]]] = MappingProxyType(
    {
        Status.PLANNED: frozenset({Status.SIGNED, Status.MOOT, Status.FAILED}),
        # back to PLANNED: the transaction is proven dead, its sequence is free, and the intent is signed again
        Status.SIGNED: frozenset({Status.PLANNED, Status.DONE, Status.FAILED}),
        Status.DONE: frozenset(),
        Status.FAILED: frozenset(),
        Status.MOOT: frozenset(),
    }
)
"""Every legal step; a step that is not here is a defect."""

OPEN_STATUSES: Final = frozenset({Status.PLANNED, Status.SIGNED})


def check_transition(old: Status, new: Status) -> None:
    """Raise `Refused` for a step that the table does not have."""
    if new not in TRANSITIONS[old]:
        raise Refused(f"an intent cannot go from {old.value} to {new.value}")


@dataclass(frozen=True, slots=True)
class OpenChannel:
    """Open a channel to `payee` holding `amount`. `server` is the content server whose caps it counts against.

    `user` is the one who alone draws from it, empty for all; `tier` that of those who do, empty for none.
    `settle_delay` is in seconds; `life` is the seconds from opening to CancelAfter, or None for no fixed end.
    """

    wallet: str
    pool: str
    server: str
    payee: Payee
    amount: Drops
    settle_delay: Seconds
    life: Seconds | None
    user: str = ""
    tier: str = ""
    kind = Kind.OPEN

    @property
    def subject(self) -> str:
        """Whose channels it adds to."""
        return drawn_by(self.payee, self.user)


@dataclass(frozen=True, slots=True)
class FundChannel:
    """Raise a channel's Amount to `target_amount`."""

    wallet: str
    channel_id: ChannelId
    target_amount: Drops
    kind = Kind.FUND


@dataclass(frozen=True, slots=True)
class SettleChannel:
    """Pay out up to `target_balance`, which was signed before."""

    wallet: str
    channel_id: ChannelId
    target_balance: Drops
    kind = Kind.SETTLE


@dataclass(frozen=True, slots=True)
class RequestClose:
    """Stop issuing, pay out what was signed and ask for the close, in one transaction.

    The payout is what is authorised when it is signed, which no longer moves: issuing stopped when this was journaled.
    """

    wallet: str
    channel_id: ChannelId
    kind = Kind.REQUEST_CLOSE


@dataclass(frozen=True, slots=True)
class FinalizeClose:
    """Delete a channel that has expired, so that what remains comes back."""

    wallet: str
    channel_id: ChannelId
    kind = Kind.FINALIZE_CLOSE


@dataclass(frozen=True, slots=True)
class RedeemChannel:
    """Collect what a payer signed on a channel that pays us, up to `target_balance` or more.

    What is really collected is the best claim held when it is signed: that can only have risen.
    """

    wallet: str
    channel_id: ChannelId
    target_balance: Drops
    kind = Kind.REDEEM


Action = OpenChannel | FundChannel | SettleChannel | RequestClose | FinalizeClose | RedeemChannel


NOTIFIED: Final = "notified"
"""The reason of a close that content servers were told of before."""
OWED_BEFORE_CLOSE: Final = "owed_before_close"
OWED_BEFORE_END: Final = "owed_before_end"
"""Why a payee is paid at once: its channel is being closed; the fixed end of its channel is near."""
SOURCE_CLOSES: Final = "source_closes"
BEFORE_END: Final = "before_end"
"""Why we collect at once: the source requested a close; the fixed end is near."""
DEADLINES: Final = frozenset({OWED_BEFORE_CLOSE, OWED_BEFORE_END, SOURCE_CLOSES, BEFORE_END})
"""Reasons of deadline work: what comes too late is lost. Nothing holds it back, and a purse of its own pays for it."""
FREE_CLOSES: Final = frozenset({"idle", "rule", NOTIFIED})
"""Reasons of a close that nothing forced: these are what `max_closes_per_hour` bounds."""


@dataclass(frozen=True, slots=True)
class Intent:
    """A decision, with what it was based on: the reason, the hash of the policy in force, and its rules that held.

    `path` has them concern by concern as `concern/rule`, the deciding one last. `pool` is whose budgets it counts
    against, empty for what is about no pool.
    """

    action: Action
    reason: str
    policy_hash: str
    path: tuple[str, ...] = ()
    pool: str = ""

    @property
    def freely_closes(self) -> bool:
        """Whether it closes a channel though nothing forces it."""
        return isinstance(self.action, RequestClose) and self.reason in FREE_CLOSES

    @property
    def deadline(self) -> bool:
        """Whether it is deadline work: `DEADLINES`."""
        return self.reason in DEADLINES


@dataclass(frozen=True, slots=True)
class Create:
    """PaymentChannelCreate."""

    destination: Address
    destination_tag: int | None
    amount: Drops
    settle_delay: Seconds
    public_key: str
    cancel_after: RippleTime | None


@dataclass(frozen=True, slots=True)
class Fund:
    """PaymentChannelFund: add `amount` drops (1 or more)."""

    channel_id: ChannelId
    amount: Drops


@dataclass(frozen=True, slots=True)
class Claim:
    """PaymentChannelClaim by the source: pay out up to `balance` (None: pay nothing), and `close` it or not."""

    channel_id: ChannelId
    balance: Drops | None
    close: bool


@dataclass(frozen=True, slots=True)
class Redeem:
    """PaymentChannelClaim by the destination: be paid up to `balance`, which `signature` under `public_key` allows.

    `amount`, at least `balance`, is what was signed. `close` gives up the channel with it. All hex is upper-case.
    """

    channel_id: ChannelId
    balance: Drops
    amount: Drops
    signature: str
    public_key: str
    close: bool


@dataclass(frozen=True, slots=True)
class Noop:
    """An AccountSet that changes nothing: fills a sequence that nothing else needs, so that later ones can go on."""


@dataclass(frozen=True, slots=True)
class MakeTickets:
    """TicketCreate: set `count` (1..250) numbers aside, each of which one later transaction may use in any order."""

    count: int


Transaction = Create | Fund | Claim | Redeem | Noop | MakeTickets


@dataclass(frozen=True, slots=True)
class Number:
    """What a transaction is signed under, once for each account: its sequence, or a ticket."""

    value: int
    ticket: bool = False


def transaction_for(
    action: Action,
    channel: Channel | None,
    authorized: int,
    *,
    claim_key: str,
    close_time: RippleTime,
    refused: bool = False,
) -> Transaction | None:
    """The transaction that reaches an action's target from the channel as it is now; None if nothing is left to do.

    `channel` is the validated channel (None when it is gone, or for an open), `authorized` what was signed on it,
    `claim_key` the public key of new channels, `close_time` that of the last validated ledger. Where the payee's
    account `refused` a payout, a close goes without one, for a refused payout undoes the close in the same transaction.
    What redeems is not made here but in `core.receiving`.
    """
    assert not isinstance(action, RedeemChannel)
    if isinstance(action, OpenChannel):
        cancel_after = None if action.life is None else RippleTime(close_time + action.life)
        payee = action.payee
        return Create(payee.account, payee.tag, action.amount, action.settle_delay, claim_key, cancel_after)
    if channel is None:
        return None
    if isinstance(action, FundChannel):
        missing = action.target_amount - channel.amount
        return Fund(channel.channel_id, Drops(missing)) if missing > 0 else None
    if isinstance(action, SettleChannel):
        payable = Drops(min(action.target_balance, authorized, channel.amount))
        return Claim(channel.channel_id, payable, close=False) if payable > channel.balance else None
    if isinstance(action, RequestClose):
        owed = Drops(channel.balance + channel.unredeemed(authorized))
        pays = owed > channel.balance and not refused
        return Claim(channel.channel_id, owed if pays else None, close=True)
    return Claim(channel.channel_id, None, close=False) if channel.deletable(close_time) else None
