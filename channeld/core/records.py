"""What the store keeps and hands back, as values: channels, remembered requests, the journal and its transactions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from channeld.core.budgets import Outlay
from channeld.core.channel import Channel
from channeld.core.conservation import Income, Loss
from channeld.core.freezes import Freeze
from channeld.core.intents import Action, Intent, Kind, Status
from channeld.core.news import Event
from channeld.core.rhythm import Rhythm
from channeld.core.units import Address, ChannelId, Drops, LedgerIndex, Payee, RippleTime


@dataclass(frozen=True, slots=True)
class Signed:
    """A signed transaction: blob and hash, upper-case hex."""

    blob: str
    hash: str


@dataclass(slots=True)
class ChannelRecord:
    """A channel of ours as the store keeps it. `row` is its number in the store, which remembered requests refer to.

    `issuing` is false from the moment an intent to close is journaled. `pool` is empty for a channel that is
    quarantined: found on the ledger, not known to have been opened by us. `closed_at` is the ledger that deleted it,
    None while it lives. `adopted` is true where it is not known how far the channel is signed: it was found on the
    ledger, or in a store that was proven old. It settles and closes, and no claim is ever issued on it. `user`
    alone draws from it, everybody where that is empty; `tier` is the one that it was opened for, empty for none.
    `cut_short_at` is the close time at which its payee ended it early, None: it did not.
    `closed_by` is the hash of the transaction that deleted it, where one was seen to do so just now, or it is archived.
    """

    row: int
    channel: Channel
    authorized: int
    issuing: bool
    pool: str
    server: str
    opened_at: RippleTime
    last_claim_at: RippleTime
    unredeemed_since: RippleTime | None
    closed_at: LedgerIndex | None
    adopted: bool = False
    user: str = ""
    tier: str = ""
    cut_short_at: RippleTime | None = None
    closed_by: str = ""

    @property
    def payable(self) -> int:
        """The most that its payee can have been paid in all: what was signed, or all of it where that is not known."""
        return self.authorized if self.pool and not self.adopted else self.channel.amount


class Remembered(NamedTuple):
    """An accepted request: what it was (`contents`), the slice it bought on which channel, and the amount it was signed
    for.
    """

    contents: bytes
    row: int
    covers_from: int
    covers_to: int
    signed: int


class Accepted(NamedTuple):
    """Requests about to be accepted together, in columns of one length: keys (16 bytes each), what is to be remembered
    of each (see `Remembered`), and whose they are.
    """

    keys: Sequence[bytes] = ()
    contents: Sequence[bytes] = ()
    rows: Sequence[int] = ()
    covers_from: Sequence[int] = ()
    covers_to: Sequence[int] = ()
    signed: Sequence[int] = ()
    servers: Sequence[str] = ()


class ChannelMark(NamedTuple):
    """How far a channel is signed after a group of requests."""

    row: int
    authorized: int
    last_claim_at: RippleTime
    unredeemed_since: RippleTime | None


@dataclass(slots=True)
class JournalEntry:
    """An intent in the journal. `channel_id` is that of its subject; for an open, of what its transaction creates.

    `attempts` counts the transactions signed for it so far, `spent` is the fees of those that others spoilt: they were
    validated, brought it nowhere, and are not counted.
    """

    number: int
    intent: Intent
    status: Status
    decided_at: LedgerIndex
    channel_id: ChannelId | None
    note: str = ""
    attempts: int = 0
    spent: int = 0

    @property
    def action(self) -> Action:
        return self.intent.action


@dataclass(frozen=True, slots=True)
class LiveTransaction:
    """A signed transaction that may still be validated. `intent` is its journal number, None for a filler.

    It can be in any ledger of `first_ledger`..`last_ledger`, both inclusive. `number` is a sequence of the account, or
    a ticket where `ticket` is true; either way (account, number) can be validated once only. `makes` is how many
    tickets it creates, mostly 0.
    """

    intent: int | None
    wallet: str
    account: Address
    number: int
    fee: Drops
    first_ledger: LedgerIndex
    last_ledger: LedgerIndex
    hash: str
    blob: str
    channel_id: ChannelId | None
    ticket: bool = False
    makes: int = 0


@dataclass(frozen=True, slots=True)
class Setback:
    """What failed on a subject, a channel id or "pool/payee": how often in a row, and when it may be tried again.

    `retry_at` is the close time from which; None: at once. `refused` says that the payee's account takes no payout.
    `code` is the ledger's for the last failure, empty where it gave none.
    """

    subject: str
    failures: int
    retry_at: RippleTime | None
    refused: bool
    code: str = ""

    @property
    def over(self) -> bool:
        """Whether there is nothing to remember."""
        return not self.failures and not self.refused


@dataclass(frozen=True, slots=True)
class Ending:
    """How a transaction of ours ended: validated in `ledger` with `result`, or dead when `ledger` is None."""

    hash: str
    ledger: LedgerIndex | None
    result: str


@dataclass(frozen=True, slots=True)
class Payment:
    """Money that reached a payee, from metadata: the movement of a channel's Balance in one transaction."""

    channel_id: ChannelId
    hash: str
    ledger: LedgerIndex
    paid: Drops
    by: Address


@dataclass(frozen=True, slots=True)
class Booked:
    """What a span of ledgers means for money: what came in, what was lost, what must stop, and what the balances of our
    accounts are after it (None: not known, for history is missing). `events` are what content servers, each by name,
    are to be told of it, in order. `outlays` are what transactions of ours took.
    """

    incomes: Sequence[Income] = ()
    losses: Sequence[Loss] = ()
    freezes: Sequence[Freeze] = ()
    balances: Mapping[Address, int | None] = field(default_factory=dict)
    events: Sequence[tuple[str, Event]] = ()
    outlays: Sequence[Outlay] = ()


@dataclass(frozen=True, slots=True)
class Incoming:
    """A channel in which an account of ours is the payee, and the best claim that a payer signed on it.

    `held` is what the claim is good for in all (0: none yet), `signature` upper-case hex, `server` who handed it in.
    `held_since` is the close time as of which something was first held and not collected, None: nothing is. `lost` says
    that this can never be collected any more, and was booked. `closed_at` is the ledger that deleted the channel,
    `closed_by` as in a `ChannelRecord`.
    """

    channel: Channel
    held: int = 0
    signature: str = ""
    server: str = ""
    held_since: RippleTime | None = None
    lost: bool = False
    closed_at: LedgerIndex | None = None
    closed_by: str = ""

    @property
    def unredeemed(self) -> int:
        """Drops that the claim is good for and that were not paid yet."""
        return self.channel.unredeemed(self.held)

    @property
    def collectable(self) -> int:
        """Drops that can still be collected."""
        return 0 if self.lost or self.closed_at is not None else self.unredeemed


@dataclass(frozen=True, slots=True)
class Archived:
    """A channel long gone, and what there was of it: which transaction opened it (empty: not known), the close time at
    which it was gone, and fees (drops) and number of our transactions, drops and number of payments.
    """

    record: ChannelRecord | Incoming
    opened_by: str
    gone_at: RippleTime
    fees: int
    transactions: int
    paid: int
    payments: int


class TakenIn(NamedTuple):
    """A claim about to be taken in: its key (16 bytes), and what is to be remembered of it."""

    key: bytes
    contents: bytes
    channel_id: ChannelId
    server: str
    drops: int
    amount: int


@dataclass(frozen=True, slots=True)
class IncomingUpdate:
    """What a span of ledgers changes of channels that pay us: how they are now, and what they really paid."""

    channels: Sequence[Incoming] = ()
    payments: Sequence[Payment] = ()


class Attended(NamedTuple):
    """We were there for content servers when a ledger closed at `until`; before it, for a span, we had not been."""

    until: RippleTime
    absence: tuple[RippleTime, RippleTime] | None = None


class Announced(NamedTuple):
    """How far closing a channel with notice has come: due since, and told at, None where not yet."""

    channel_id: ChannelId
    due_since: RippleTime | None
    noticed_at: RippleTime | None


@dataclass(frozen=True, slots=True)
class Learnt:
    """What was learnt of demand: by pool/payee when it last asked, and its trace (`core.trace`); by pool its rhythm."""

    traces: Sequence[tuple[str, int, bytes]] = ()
    rhythms: Sequence[tuple[str, Rhythm]] = ()


@dataclass(frozen=True, slots=True)
class LedgerUpdate:
    """Everything that one processed span of ledgers changes in the store, applied in one transaction.

    `setbacks` replace those of their subjects. `tickets_made` are free tickets of ours by account; `tickets_gone` were
    used, or are not there.
    """

    processed: LedgerIndex
    close_time: RippleTime
    channels: Sequence[ChannelRecord]
    new_channels: Sequence[ChannelRecord]
    endings: Sequence[Ending]
    intents: Sequence[tuple[int, Status, str]]
    payments: Sequence[Payment]
    booked: Booked = Booked()
    setbacks: Sequence[Setback] = ()
    tickets_made: Sequence[tuple[Address, int]] = ()
    tickets_gone: Sequence[tuple[Address, int]] = ()
    incoming: IncomingUpdate = IncomingUpdate()
    attended: Attended | None = None
    learnt: Learnt = Learnt()


@dataclass(frozen=True, slots=True)
class StoreSnapshot:
    """All that is loaded at start. `processed` is None before the first ledger; `spent` is drops by (server, hour).

    `tickets` are those that we made and that are still there, whether a live transaction uses them or not. `early_ends`
    are those of channels that their payees ended early, in order. `acted` says when a channel was last funded or
    settled, or (by pool/payee) one opened. `traces` are by pool/payee, `rhythms` by pool. On what intents up to number
    `retired` open nothing is issued.
    """

    store_id: str
    processed: LedgerIndex | None
    channels: list[ChannelRecord]
    journal: list[JournalEntry]
    live: list[LiveTransaction]
    spent: dict[tuple[str, int], int]
    balances: dict[Address, int] = field(default_factory=dict)
    freezes: list[Freeze] = field(default_factory=list)
    setbacks: dict[str, Setback] = field(default_factory=dict)
    tickets: set[tuple[Address, int]] = field(default_factory=set)
    incoming: list[Incoming] = field(default_factory=list)
    announced: list[Announced] = field(default_factory=list)
    absences: list[tuple[RippleTime, RippleTime]] = field(default_factory=list)
    attended_until: RippleTime | None = None
    early_ends: list[tuple[Payee, RippleTime]] = field(default_factory=list)
    acted: dict[tuple[str, Kind], RippleTime] = field(default_factory=dict)
    traces: dict[str, bytes] = field(default_factory=dict)
    rhythms: dict[str, Rhythm] = field(default_factory=dict)
    retired: int = 0
