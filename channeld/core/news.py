"""What content servers are told of channels that concern them: what happened to one, as events. Pure."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from typing import NamedTuple

from channeld.core.channel import Channel
from channeld.core.conservation import Moved
from channeld.core.ledger import ChannelChange, ValidatedTransaction
from channeld.core.units import Address, ChannelId, Drops, LedgerIndex, RippleTime


class News(enum.Enum):
    """The contract's closed set of events."""

    CHANNEL_OPENED = "channel_opened"
    CHANNEL_FUNDED = "channel_funded"
    SETTLED = "settled"
    """The source paid out."""
    REDEEMED = "redeemed"
    """The destination collected by itself."""
    CLOSING_NOTICE = "closing_notice"
    """We are going to close it: at once, and then no claim is issued on it any more, or after the policy's notice, if
    nobody uses it until then.
    """
    CHANNEL_CLOSING = "channel_closing"
    """An expiration is set: nothing can be collected from then on."""
    CHANNEL_CLOSED = "channel_closed"
    AT_RISK = "at_risk"
    """It ends with something signed and not paid out: whoever holds the best claim had better hand it in."""


class Event(NamedTuple):
    """Something that happened to a channel.

    `paid` is what reached the payee by it, `owed` what is signed and unpaid; None where an event has no such thing.
    `ledger_index` is the ledger it happened in or was seen by, `hash` the transaction, None where none was seen.
    """

    news: News
    channel_id: ChannelId
    destination_account: Address
    destination_tag: int | None
    amount: int
    balance: int
    expiration: RippleTime | None
    ledger_index: LedgerIndex
    hash: str | None = None
    paid: int | None = None
    owed: int | None = None


def event(
    news: News,
    channel: Channel,
    ledger_index: LedgerIndex,
    tx_hash: str | None = None,
    *,
    paid: int | None = None,
    owed: int | None = None,
) -> Event:
    """An event of a channel as it is now."""
    head = (channel.channel_id, channel.destination_account, channel.destination_tag)
    return Event(news, *head, channel.amount, channel.balance, channel.expiration, ledger_index, tx_hash, paid, owed)


def from_transaction(tx: ValidatedTransaction, moved: Moved, authorized: int) -> Iterator[Event]:
    """What a validated transaction did to one channel, signed as far as `authorized`; in the order of telling."""
    channel = moved.change.channel
    if moved.change.created:
        yield event(News.CHANNEL_OPENED, channel, tx.ledger_index, tx.hash)
    else:
        payout = News.SETTLED if tx.account == channel.source_account else News.REDEEMED
        yield from _differences(moved, tx.ledger_index, tx.hash, authorized, payout=payout)


def unseen(before: Channel, now: Channel, ledger_index: LedgerIndex, authorized: int) -> Iterator[Event]:
    """What must have happened to a channel while nobody looked. Who collected is not known: it counts as settled."""
    change = ChannelChange(now, created=False, deleted=False, paid=Drops(now.balance - before.balance))
    return _differences(Moved(before, change), ledger_index, None, authorized, payout=News.SETTLED)


def _differences(
    moved: Moved, ledger: LedgerIndex, tx_hash: str | None, authorized: int, *, payout: News
) -> Iterator[Event]:
    before, now, paid = moved.before, moved.change.channel, moved.change.paid
    if before is not None and now.amount > before.amount:
        yield event(News.CHANNEL_FUNDED, now, ledger, tx_hash)
    if paid > 0:
        yield event(payout, now, ledger, tx_hash, paid=paid)
    if moved.change.deleted:
        yield event(News.CHANNEL_CLOSED, now, ledger, tx_hash)
    elif now.expiration is not None and (before is None or before.expiration != now.expiration):
        yield event(News.CHANNEL_CLOSING, now, ledger, tx_hash)
        if owed := now.unredeemed(authorized):
            yield event(News.AT_RISK, now, ledger, tx_hash, owed=owed)
