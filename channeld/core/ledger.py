"""What a validated ledger tells us, as values: headers, accounts, transactions and what they changed."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

from channeld.core.channel import Channel
from channeld.core.units import Address, ChannelId, Drops, LedgerIndex, RippleTime

_FLAG_INTERVAL: Final = 256


@dataclass(frozen=True, slots=True)
class Fees:
    """The network's price list in drops, read from the ledger and never assumed."""

    base_fee: Drops
    reserve_base: Drops
    reserve_increment: Drops

    def reserve(self, owner_count: int) -> int:
        """Drops an account with `owner_count` objects must keep."""
        return self.reserve_base + owner_count * self.reserve_increment


@dataclass(frozen=True, slots=True)
class OpenFees:
    """What a node asks now, in drops: `open_ledger` gets a transaction into the open ledger, and below `least` it is
    not even put into the queue. Sources: rippled TxQ.cpp doRPC (open_ledger_fee, minimum_fee).
    """

    open_ledger: Drops
    least: Drops


@dataclass(frozen=True, slots=True)
class LedgerHeader:
    """A validated ledger. `close_time` is the clock of the ledger after it: expirations are compared with it."""

    index: LedgerIndex
    hash: str
    close_time: RippleTime
    fees: Fees


@dataclass(frozen=True, slots=True)
class AccountState:
    """An account as of a ledger. `sequence` is the next one it must use; `regular_key` may sign for it."""

    address: Address
    balance: Drops
    sequence: int
    owner_count: int
    regular_key: Address | None = None
    master_disabled: bool = False


@dataclass(frozen=True, slots=True)
class ChannelChange:
    """What one transaction did to one channel.

    `channel` is the channel after it, or as it was last when `deleted`. `paid` is the movement of Balance, the only
    proof that money reached the payee: a transaction that succeeds on an expired channel deletes it and pays nothing.
    """

    channel: Channel
    created: bool
    deleted: bool
    paid: Drops

    @property
    def channel_id(self) -> ChannelId:
        return self.channel.channel_id


@dataclass(frozen=True, slots=True)
class ValidatedTransaction:
    """A transaction in a validated ledger, reduced to what concerns channels and our accounts.

    `number` is the sequence it used, or the ticket where `ticket` is true: (account, number) names it more firmly than
    its hash, for a claim's signature is not covered by the transaction's own. `accounts` are the account roots it
    changed, `created` and `modified` alike, as they were afterwards. `authority` is the account's key and signature as
    they stand in its blob, upper-case hex, empty where the account signed in another way.
    """

    hash: str
    ledger_index: LedgerIndex
    position: int
    account: Address
    number: int
    ticket: bool
    kind: str
    result: str
    fee: Drops
    channels: tuple[ChannelChange, ...]
    accounts: tuple[AccountState, ...]
    authority: str = ""

    def altered_from(self, blob: str) -> bool:
        """Whether it is the transaction of this blob (upper-case hex) or differs in what its account did not sign.

        The same signature under the same key covers the same fields. Only Signature, which a payer gave and anybody may
        change or leave out, is not among them.

        Sources: rippled sfields.macro (sfSignature and sfTxnSignature are not signed).
        """
        return bool(self.authority) and self.authority in blob

    @property
    def succeeded(self) -> bool:
        """Whether its effects were applied; it says nothing about what those were."""
        return self.result == "tesSUCCESS"


@dataclass(frozen=True, slots=True)
class History:
    """The transactions of one account over a span of ledgers, oldest first.

    `first`..`last` (inclusive) is what the node really searched, which can be less than what was asked for.
    """

    first: LedgerIndex
    last: LedgerIndex
    transactions: tuple[ValidatedTransaction, ...]


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """What a node says of itself.

    `complete_first`..`complete_last` (inclusive) is the newest span of ledgers it says it has. `age_s` is how old it
    says its last validated ledger is, None if it does not say. `blocked`: it no longer understands the network, so
    that nothing it says counts. `warning` is its own complaint about itself, empty if it has none.
    """

    network_id: int
    build: str
    complete_first: LedgerIndex
    complete_last: LedgerIndex
    age_s: float | None = None
    blocked: bool = False
    warning: str = ""


AMENDMENTS: Final = ("fixPayChanCancelAfter", "fixIncludeKeyletFields", "fixCleanup3_2_0")
"""Amendments that change what a channel transaction answers or when a channel expires. We are right under either
setting of each; which is on explains what is seen.
"""


def amendment_id(name: str) -> str:
    """What the ledger calls an amendment. Sources: rippled Feature.cpp (SHA-512Half of the name)."""
    return hashlib.sha512(name.encode()).hexdigest()[:64].upper()


def may_change_amendments(before: LedgerIndex, after: LedgerIndex) -> bool:
    """Whether an amendment can have come into force in the ledgers after `before` up to `after`.

    Sources: rippled Ledger.h isFlagLedger, RCLConsensus.cpp onClose: only in the ledger after every 256th.
    """
    return (before - 1) // _FLAG_INTERVAL != (after - 1) // _FLAG_INTERVAL


@dataclass(frozen=True, slots=True)
class SubmitResult:
    """A node's provisional answer to a submission: never final, whatever it says."""

    code: str
    queued: bool
    message: str
