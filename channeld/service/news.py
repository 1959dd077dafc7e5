"""Who is told what: the events of a span of ledgers, for the content servers that may charge for the channel's payee.

A server is told of every channel of ours that pays one of its payees, and of no other. What is in quarantine, for this
store never opened it, is nobody's.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from channeld.core.channel import Channel
from channeld.core.conservation import Moved
from channeld.core.intents import NOTIFIED, Intent, RequestClose
from channeld.core.ledger import LedgerHeader, ValidatedTransaction
from channeld.core.news import Event, News, event, from_transaction, unseen
from channeld.core.records import ChannelRecord
from channeld.core.units import ChannelId, LedgerIndex, Payee
from channeld.core.world import Notice
from channeld.service.mirror import Mirror

Told = tuple[str, Event]
"""A content server, and what it is told."""


class SpanNews:
    """Gathers the events of one span of ledgers, up to `header`, in the order in which things happened."""

    def __init__(self, mirror: Mirror, header: LedgerHeader) -> None:
        self._mirror, self._header = mirror, header
        self._opened: set[ChannelId] = set()
        self.events: list[Event] = []

    def transaction(self, tx: ValidatedTransaction, moves: Iterable[Moved], *, ours: bool) -> None:
        """A validated transaction; `ours` if it is in our journal."""
        for moved in moves:
            channel = moved.change.channel
            if channel.source_account not in self._mirror.by_address:
                continue
            if moved.change.created and ours:
                self._opened.add(channel.channel_id)
            state = self._mirror.channels.get(channel.channel_id)
            if channel.channel_id in self._opened or (state is not None and state.record.pool):
                self.events += from_transaction(tx, moved, state.record.authorized if state else 0)

    def opened(self, channel: Channel) -> None:
        """A channel of ours was found that was opened while nobody looked."""
        self.events.append(event(News.CHANNEL_OPENED, channel, self._header.index))

    def changed(self, old: ChannelRecord, now: Channel) -> None:
        """A channel was found to be other than it was."""
        if old.pool:
            self.events += unseen(old.channel, now, self._header.index, old.authorized)

    def gone(self, record: ChannelRecord) -> None:
        """A channel was found to be there no more."""
        if record.pool:
            self.events.append(event(News.CHANNEL_CLOSED, record.channel, self._header.index))


def addressed(events: Iterable[Event], mirror: Mirror) -> list[Told]:
    """Every event once for each server that is to be told."""
    of = mirror.servers_of
    return [(server, e) for e in events for server in of(Payee(e.destination_account, e.destination_tag))]


def to_receivers(events: Iterable[Event], mirror: Mirror) -> list[Told]:
    """Every event of a channel that pays us, once for each server that may hand in claims for the account it pays."""
    return [
        (server, e)
        for e in events
        for server in sorted(mirror.grants)
        if e.destination_account in mirror.grants[server].receive_accounts
    ]


def closing_notices(
    intents: Sequence[Intent], announced: Sequence[Notice], decided_at: LedgerIndex, mirror: Mirror
) -> list[Told]:
    """What is to be told with intents that are about to be journaled, and with what is announced.

    That a channel will be closed is told once: what was announced before is not told again when it is done.
    """
    closing = [i.action.channel_id for i in intents if isinstance(i.action, RequestClose) and i.reason != NOTIFIED]
    told = []
    for channel_id in (*closing, *(notice.channel_id for notice in announced if notice.noticed_at is not None)):
        record = mirror.channels[channel_id].record
        owed = record.channel.unredeemed(record.authorized)
        told.append(event(News.CLOSING_NOTICE, record.channel, decided_at, owed=owed))
    return addressed(told, mirror)
