"""What a wallet has to sign now: planned intents as transactions, in their order, and how pressing each of them is.

An intent says what is to be reached. What transaction does that, and whether any does, is asked anew each time, of the
channel as it is then.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import chain, islice, takewhile
from typing import Final

from channeld.core.channel import Channel
from channeld.core.fees import PAYING, Means, Urgency, most
from channeld.core.intents import (
    Claim,
    MakeTickets,
    Noop,
    Number,
    OpenChannel,
    Redeem,
    RedeemChannel,
    Transaction,
    transaction_for,
)
from channeld.core.receiving import redemption
from channeld.core.records import JournalEntry, LiveTransaction
from channeld.core.units import Drops, RippleTime
from channeld.service.holdings import ChannelState, Wallet
from channeld.service.mirror import Mirror
from channeld.service.numbers import tickets_to_make
from channeld.service.spending import Spending

_MOST_SHARES: Final = 256
"""Deadline work that shares what an account has left for fees."""


class Workload:
    """One for an executor. Nothing may be asked before the first ledger is processed, but for `rank`."""

    def __init__(self, mirror: Mirror, spending: Spending) -> None:
        self._mirror, self._spending = mirror, spending
        mirror.backlog.rank_by(self.rank)

    @property
    def _now(self) -> RippleTime:
        assert self._mirror.header is not None
        return self._mirror.header.close_time

    def planned(self, wallet: Wallet, after: JournalEntry | None = None) -> Iterator[JournalEntry]:
        """What waits to be signed and may be, in order; of those without a deadline only what is behind `after`."""
        backlog, name = self._mirror.backlog, wallet.name
        whole = after is None or backlog.presses(after)
        line = backlog.of(name) if whole else chain(backlog.deadlines(name), backlog.of(name, after))
        return (e for e in line if not self._mirror.holds_back(e.action) and not self._in_vain(e))

    def of(
        self, wallet: Wallet, after: JournalEntry | None = None
    ) -> Iterator[tuple[JournalEntry | None, Transaction]]:
        """What a wallet has to sign, in order: intents, then new tickets, then fillers for gaps that hold others up."""
        for entry in self.planned(wallet, after):
            transaction = self.transaction(wallet, entry)
            if transaction is not None:
                yield (entry, transaction)
        if count := self.tickets_due(wallet):
            yield (None, MakeTickets(count))
        while True:
            yield (None, Noop())

    def tickets_due(self, wallet: Wallet) -> int:
        """How many tickets to make now: none where no budget is left for that, nor from the purse for deadlines."""
        count = tickets_to_make(self._mirror, wallet)
        return self._spending.tickets(wallet.name, count) if count else 0

    def transaction(self, wallet: Wallet, entry: JournalEntry) -> Transaction | None:
        """What reaches an intent's target from the channel as it is; None: nothing is left to do.

        An open that was retired before it was signed is of no use any more: it is decided anew.
        """
        if isinstance(entry.action, OpenChannel) and entry.number <= self._mirror.retired:
            return None
        if isinstance(entry.action, RedeemChannel):
            held = self._mirror.vault.channels.get(entry.action.channel_id)
            halted = self._mirror.halted(wallet.name) is not None
            return redemption(held, self._mirror.policy.receive, self._now, halted=halted)
        state = self._channel(entry)
        channel, authorized = (state.record.channel, state.record.authorized) if state else (None, 0)
        refused = state is not None and state.refused
        return transaction_for(
            entry.action, channel, authorized, claim_key=wallet.claim_key, close_time=self._now, refused=refused
        )

    def in_the_way(self, entry: JournalEntry) -> bool:
        """Whether a payout that has a deadline is not decided because of it: a channel has one open intent.

        What is decided in its place is deadline work itself, so nothing gives way twice.
        """
        state = self._channel(entry)
        pool = self._mirror.policy.pools.get(state.record.pool) if state else None
        if state is None or pool is None or entry.intent.deadline:
            return False
        return state.record.channel.forfeits(state.record.authorized, pool.life_margin, self._now)

    def urgency(self, entry: JournalEntry | None, transaction: Transaction) -> Urgency:
        """A payout on a channel that ends is urgent; one that the payee refuses is not worth more than the usual."""
        tried = entry.attempts if entry else 0
        if isinstance(transaction, Redeem):
            held = self._mirror.vault.channels[transaction.channel_id]
            stake = held.collectable - (entry.spent if entry else 0)
            return replace(self._before(held.channel, tried), stake=stake)
        state = self._channel(entry) if entry else None
        pays = isinstance(transaction, Claim) and transaction.balance is not None
        if state is None or not pays or state.refused or state.record.channel.deadline is None:
            return Urgency(tried)
        return self._before(state.record.channel, tried)

    def presses(self, entry: JournalEntry) -> bool:
        """Whether an intent is for deadline work: decided as such, or a payout on a channel that ends soon by now."""
        return entry.intent.deadline or self._end(entry).presses

    def stake(self, entry: JournalEntry) -> int:
        """Drops that we lose, or the payee does, if it comes too late; 0 where it pays nothing out."""
        if isinstance(entry.action, RedeemChannel):
            held = self._mirror.vault.channels.get(entry.action.channel_id)
            return max(0, held.collectable - entry.spent) if held else 0
        state = self._channel(entry) if entry.action.kind in PAYING else None
        return state.record.channel.unredeemed(state.record.authorized) if state and not state.refused else 0

    def rank(self, entry: JournalEntry) -> tuple[bool, bool, int]:
        """What goes first: what presses; of that, what has time for last attempts only; then where most is at stake."""
        end = self._end(entry)
        presses = entry.intent.deadline or end.presses
        stake = self.stake(entry) if presses else 0
        return presses, stake > 0 and end.last_attempts, stake

    def _end(self, entry: JournalEntry) -> Urgency:
        """How near the end is that a payout has to come before; as if there were none before a ledger was seen."""
        pays = self._mirror.header is not None and entry.action.kind in PAYING
        channel = self._paid_from(entry) if pays else None
        return Urgency(0) if channel is None else self._before(channel, 0)

    def _paid_from(self, entry: JournalEntry) -> Channel | None:
        """The channel that an intent pays out of, as far as we know it."""
        if isinstance(entry.action, RedeemChannel):
            held = self._mirror.vault.channels.get(entry.action.channel_id)
            return held.channel if held else None
        state = self._channel(entry)
        return state.record.channel if state else None

    def pressing_stake(self, entry: JournalEntry | None) -> int | None:
        """What is at stake for an intent that stands with what has a deadline; None for anything else."""
        return self.stake(entry) if entry is not None and self._mirror.backlog.presses(entry) else None

    def most(self, urgency: Urgency) -> Drops:
        """The most that a transaction may offer."""
        assert self._mirror.header is not None
        return most(urgency, self._mirror.policy.guards, self._mirror.header.fees.base_fee)

    def means(self, wallet: Wallet) -> Means:
        """What a wallet has for fees now; what its transactions under way offer is given out already."""
        assert wallet.account is not None
        mine = [tx for tx in self._mirror.live.values() if tx.account == wallet.address]
        left = wallet.account.balance - sum(tx.fee for tx in mine)
        if left >= _MOST_SHARES * self._mirror.policy.guards.urgent_fee_cap:  # there is enough for so many
            return Means.of(left, 0)
        given = [(stake, tx.fee) for tx in mine if (stake := self._live_stake(tx))]
        waits = takewhile(self._mirror.backlog.presses, self.planned(wallet))
        waiting = sum(self.stake(entry) for entry in islice(waits, _MOST_SHARES))
        means = Means.of(left + sum(fee for _, fee in given), waiting + sum(stake for stake, _ in given))
        for stake, fee in given:
            means.took(stake, fee)
        return means

    def outdone(self, wallet: Wallet, number: Number) -> Drops:
        """What is to be offered under a number so that deadline work numbered above it is not held up; 0: anything.

        Nothing has to make room for what brings no more than such a fee beside its own.
        """
        if number.ticket:
            return Drops(0)
        above = (tx for tx in self._mirror.live.values() if tx.number > number.value and tx.account == wallet.address)
        fees = (tx.fee for tx in above if not tx.ticket and self._live_stake(tx) >= 2 * tx.fee)
        return max(fees, default=Drops(0))

    def _live_stake(self, live: LiveTransaction) -> int:
        """What is at stake for deadline work under way; 0 for other work."""
        entry = None if live.intent is None else self._mirror.journal.get(live.intent)
        return self.stake(entry) if entry is not None and self.presses(entry) else 0

    def _before(self, channel: Channel, tried: int) -> Urgency:
        """How pressing a payout is: what counts is the channel's deadline."""
        if channel.deadline is None:
            return Urgency(tried)
        left_s = max(0, channel.deadline - self._now)
        return Urgency(tried, int(left_s / max(self._mirror.interval_s, 0.001)))

    def _in_vain(self, entry: JournalEntry) -> bool:
        """Whether what others spoilt of a collection cost as much as it brings: it waits, for a better claim if any."""
        if not entry.spent or not isinstance(entry.action, RedeemChannel):
            return False
        held = self._mirror.vault.channels.get(entry.action.channel_id)
        return held is not None and 0 < held.collectable <= entry.spent

    def _channel(self, entry: JournalEntry) -> ChannelState | None:
        action = entry.action
        return None if isinstance(action, OpenChannel) else self._mirror.channels.get(action.channel_id)
