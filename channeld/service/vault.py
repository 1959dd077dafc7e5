"""Channels that pay us and the best claim on each, in memory; and what validated ledgers change of them.

The vault is filled from the store at start and changed only after the store has taken the change, like the mirror. An
`IncomingSpan` gathers what a span of ledgers does, to be written in the same transaction as the rest of it. What a
channel really paid is read from the movement of its Balance; a channel that ended with something held and not paid is
a loss, booked once: when it is deleted, or as soon as its deadline lies behind a processed ledger, whichever is first.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import structlog

from channeld.core.channel import Channel
from channeld.core.conservation import Loss, LossKind, Moved
from channeld.core.ledger import ChannelChange, LedgerHeader, ValidatedTransaction
from channeld.core.news import Event, News, event, from_transaction, unseen
from channeld.core.records import Incoming, IncomingUpdate, Payment
from channeld.core.units import Address, ChannelId, Drops, RippleTime
from channeld.service.wheel import Wheel

log = structlog.get_logger()


@dataclass(slots=True)
class Holdings:
    """Sums over the live channels that pay us, kept as they change. `remaining` is what they hold unpaid."""

    channels: int = 0
    closing: int = 0
    remaining: int = 0
    unredeemed: int = 0


class Vault:
    """All of it. `dirty` are channels to be decided again."""

    def __init__(self, channels: Iterable[Incoming] = ()) -> None:
        self.channels: dict[ChannelId, Incoming] = {}
        self.totals = Holdings()
        self.dirty: set[ChannelId] = set()
        self._ends = Wheel[ChannelId]()
        for incoming in channels:
            self.put(incoming)

    def put(self, incoming: Incoming) -> None:
        """The store has it: this is how a channel is now; one that is gone leaves."""
        channel_id = incoming.channel.channel_id
        if (old := self.channels.pop(channel_id, None)) is not None:
            self._count(old, -1)
        self._ends.drop(channel_id)
        self.dirty.add(channel_id)
        if incoming.closed_at is not None:
            return
        self.channels[channel_id] = incoming
        self._count(incoming, 1)
        if incoming.collectable and (deadline := incoming.channel.deadline) is not None:
            self._ends.put(deadline, channel_id)

    def _count(self, incoming: Incoming, sign: int) -> None:
        totals = self.totals
        totals.channels += sign
        totals.closing += sign * (incoming.channel.expiration is not None)
        totals.remaining += sign * incoming.channel.remaining
        totals.unredeemed += sign * incoming.collectable

    def nearest_deadline(self) -> RippleTime | None:
        """When the first channel ends on which something is still to be collected; None if none has an end."""
        return self._ends.first()

    def ended(self, now: RippleTime) -> list[Incoming]:
        """Channels past their deadline on which something is still held; each is told once."""
        return [self.channels[channel_id] for channel_id in self._ends.due(RippleTime(now - 1))]


class Book(Protocol):
    """Where a span of ledgers is accounted for."""

    def lost(self, loss: Loss) -> None: ...
    def heard(self, event: Event) -> None: ...


class IncomingSpan:
    """What the ledgers up to `header` change of channels that pay one of `accounts`; `book` takes losses and news.

    `gone` says whether a ledger deleted a channel before: whatever a node shows of it, it is left out.
    """

    def __init__(
        self,
        vault: Vault,
        accounts: Collection[Address],
        header: LedgerHeader,
        book: Book,
        gone: Callable[[ChannelId], bool],
    ) -> None:
        self._vault, self._accounts, self._header, self._book, self._gone = vault, accounts, header, book, gone
        self.after: dict[ChannelId, Incoming] = {}
        self.payments: list[Payment] = []

    def transaction(self, tx: ValidatedTransaction) -> None:
        """One validated transaction, whoever sent it."""
        for change in tx.channels:
            if change.channel.destination_account in self._accounts:
                self._change(change, tx)

    def _known(self, channel_id: ChannelId) -> Incoming | None:
        return self.after.get(channel_id) or self._vault.channels.get(channel_id)

    def _returned(self, channel_id: ChannelId) -> bool:
        """Whether it is shown though it was deleted."""
        if gone := self._gone(channel_id):
            log.error("gone_channel_shown", channel_id=channel_id)
        return gone

    def _change(self, change: ChannelChange, tx: ValidatedTransaction) -> None:
        channel_id = change.channel_id
        old = self._known(channel_id)
        if old is None and self._returned(channel_id):
            return
        if change.paid > 0:
            self.payments.append(Payment(channel_id, tx.hash, tx.ledger_index, change.paid, tx.account))
        now = self._moved(old, change.channel)
        if old is not None and old.held:
            self._tell(from_transaction(tx, Moved(old.channel, change), old.held))
        if change.deleted:
            now = self._booked(replace(now, closed_at=tx.ledger_index, closed_by=tx.hash), LossKind.UNREDEEMED, tx.hash)
        self.after[channel_id] = now

    def _tell(self, events: Iterable[Event]) -> None:
        for event_ in events:
            self._book.heard(event_)

    def _moved(self, old: Incoming | None, channel: Channel) -> Incoming:
        """The channel as it is now, with what was held on it."""
        if old is None:
            return Incoming(channel)
        since = old.held_since if channel.balance == old.channel.balance else self._header.close_time
        now = replace(old, channel=channel)
        return replace(now, held_since=since if now.unredeemed else None)

    def _booked(self, held: Incoming, kind: LossKind, tx_hash: str) -> Incoming:
        """A channel that is over: what was held on it and not paid is lost, which is booked once."""
        if held.lost or not held.unredeemed:
            return held
        ledger = held.closed_at or self._header.index
        self._book.lost(Loss(held.channel.channel_id, ledger, kind, Drops(held.unredeemed), tx_hash))
        return replace(held, lost=True)

    def whole(self, account: Address, channels: Sequence[Channel]) -> None:
        """Compare with all channels that pay an account as the ledger has them. What is not there is gone unseen."""
        seen = {c.channel_id: c for c in channels}
        for channel_id, channel in seen.items():
            old = self._known(channel_id)
            same = old is not None and replace(channel, ledger_index=old.channel.ledger_index) == old.channel
            if same or (old is None and self._returned(channel_id)):
                continue
            self.after[channel_id] = self._moved(old, channel)
            if old is not None and old.held:
                self._tell(unseen(old.channel, channel, self._header.index, old.held))
        for channel_id, held in self._vault.channels.items():
            if held.channel.destination_account == account and channel_id not in seen:
                gone = replace(held, closed_at=self._header.index)
                if held.held:
                    self._tell([event(News.CHANNEL_CLOSED, held.channel, self._header.index)])
                self.after[channel_id] = self._booked(gone, LossKind.UNSEEN, "")

        self.finish()

    def finish(self) -> None:
        """All was taken: what is past its deadline now cannot be collected any more."""
        now = self._header.close_time
        overdue = {held.channel.channel_id: held for held in self._vault.ended(now)} | self.after
        for channel_id, held in overdue.items():
            if held.closed_at is None and held.channel.deletable(now) and held.collectable:
                self.after[channel_id] = self._booked(held, LossKind.UNREDEEMED, "")

    def update(self) -> IncomingUpdate:
        """All of it, for the store."""
        return IncomingUpdate(list(self.after.values()), self.payments)
