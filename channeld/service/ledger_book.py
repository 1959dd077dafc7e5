"""Money accounting over a span of ledgers: income, losses, and what must stop issuing because of what was seen.

One `SpanBook` is made for every span that the reconciler applies, gathers while the span is read, and is written in the
same transaction as the rest of it. So a ledger that must freeze something can never be processed without the freeze,
and nothing is issued between the two: reading, writing and freezing happen in one turn of the event loop.

**At most one of two daemons on a wallet issues, whatever the timing.** A claim is issued only on a channel whose Create
stands in the journal of the store that issues. Every store marks its Creates (`core.witness.source_tag`), so that equal
decisions make no equal transactions, and a Create stands in one journal only. So two daemons with stores of their own
never issue on the *same* channel; two copies of one store are told apart by their witness. That leaves
each issuing on channels of its own. Let A's first Create be validated in ledger a and B's in ledger b, a <= b. B issues
only after it has applied ledger b, and ledgers are applied in order and without gaps, so it has applied a as well: A's
Create is a transaction of the wallet that B's journal does not have, and B froze the wallet in that very turn, before
it could issue. If B started after a, its first full read shows A's channel with our claim key, which it never opened,
and that freezes it just the same. A goes on alone until it applies ledger b, and then freezes too, until an operator
says which of the two is to go. (A claim may still be issued up to `ledger_lag` after a channel of A's was closed on
the ledger; that is so with one daemon as well, and touches no channel of B's.)
"""

from __future__ import annotations

from collections.abc import Sequence

import structlog

from channeld.core.budgets import Outlay
from channeld.core.channel import Channel
from channeld.core.conservation import Income, Loss, LossKind, Moved, explained, explained_unseen, loss_of
from channeld.core.freezes import EVERYTHING, SELF, Cause, Freeze
from channeld.core.intents import FundChannel, OpenChannel
from channeld.core.ledger import AccountState, LedgerHeader, ValidatedTransaction
from channeld.core.news import Event
from channeld.core.records import Booked, ChannelRecord, JournalEntry, LiveTransaction
from channeld.core.units import Address, format_xrp, to_unix
from channeld.service.mirror import Mirror
from channeld.service.news import SpanNews, addressed, to_receivers

log = structlog.get_logger()


class SpanBook:
    """Gathers one span, up to `header`. `gapless` says that no transaction of our accounts is missing from it."""

    def __init__(self, mirror: Mirror, header: LedgerHeader, *, gapless: bool = True) -> None:
        self._mirror, self._wallets, self._header, self._gapless = mirror, mirror.by_address, header, gapless
        self._news, self._comparing = SpanNews(mirror, header), False
        self._keys = mirror.claim_keys
        self._balances = {a: w.booked for a, w in mirror.by_address.items()}
        self._unseen = 0
        self._incomes: list[Income] = []
        self._losses: list[Loss] = []
        self._heard: list[Event] = []
        self._freezes: list[Freeze] = []
        self._outlays: list[Outlay] = []

    @property
    def booked(self) -> Booked:
        """All of it, to be written with the span. Only balances that changed are in it."""
        balances = {a: b for a, b in self._balances.items() if self._wallets[a].booked != b}
        events = addressed(self._news.events, self._mirror) + to_receivers(self._heard, self._mirror)
        return Booked(self._incomes, self._losses, self._freezes, balances, events, self._outlays)

    # --- transactions ------------------------------------------------------------------------------------------------

    def transaction(self, tx: ValidatedTransaction, moves: Sequence[Moved], *, ours: bool) -> None:
        """A validated transaction: was it ours, and is every drop that it moved accounted for?"""
        self._news.transaction(tx, moves, ours=ours)
        if tx.account in self._wallets and not ours:
            self._freeze_wallet(
                tx.account, Cause.FOREIGN_TRANSACTION, f"it sent {tx.kind} {tx.hash}, which is not ours"
            )
        for account in tx.accounts:
            if account.address in self._wallets:
                self._balance(tx, account, moves)

    def _balance(self, tx: ValidatedTransaction, account: AccountState, moves: Sequence[Moved]) -> None:
        before, change = self._balances[account.address], explained(tx, account.address, moves)
        if not self._gapless:
            self._balances[account.address] = None if before is None else before + change
            return
        self._balances[account.address] = account.balance
        if before is None:
            return
        surplus = account.balance - before - change
        if surplus > 0:
            self._incomes.append(Income(tx.hash, account.address, tx.ledger_index, surplus, tx.account))
        elif surplus < 0:
            found = f"{format_xrp(-surplus)} left it with {tx.kind} {tx.hash}, and nothing of ours accounts for that"
            self._freeze_wallet(account.address, Cause.UNEXPLAINED_DECREASE, found)

    def took(self, live: LiveTransaction, entry: JournalEntry | None, moves: Sequence[Moved]) -> None:
        """A transaction of ours was validated: this is what it took, whatever it achieved."""
        changes = [m.change for m in moves if m.change.channel.source_account == live.account]
        locked = sum(max(0, m.added) for m in moves if m.change in changes)
        closes = any(c.deleted or c.channel.expiration is not None for c in changes)
        self._took(live, entry, locked, opened=any(c.created for c in changes), closes=closes)

    def _took(
        self, live: LiveTransaction, entry: JournalEntry | None, locked: int, *, opened: bool, closes: bool
    ) -> None:
        intent = entry.intent if entry else None
        outlay = Outlay(
            live.hash,
            self._header.close_time,
            intent.pool if intent else "",
            live.fee,
            locked,
            opened=opened,
            freely_closed=closes and intent is not None and intent.freely_closes,
            wallet=live.wallet,
            deadline=intent is not None and intent.deadline,
        )
        self._outlays.append(outlay)

    def unseen(self, live: LiveTransaction, entry: JournalEntry | None) -> None:
        """A transaction of ours used its number in a ledger that nobody showed us: it may have cost its fee, and done
        all that it was for.
        """
        action, locked = entry.action if entry else None, 0
        if isinstance(action, OpenChannel):
            locked = action.amount
        elif isinstance(action, FundChannel) and (state := self._mirror.channels.get(action.channel_id)):
            locked = max(0, action.target_amount - state.record.channel.amount)
        self._took(live, entry, locked, opened=isinstance(action, OpenChannel), closes=True)
        before = self._balances.get(live.account)
        if before is not None and not self._gapless:
            self._balances[live.account] = before - live.fee

    # --- channels ----------------------------------------------------------------------------------------------------

    def changed(self, old: ChannelRecord, now: Channel) -> None:
        """A channel is not as it was. More was paid from it than this store knows to be signed: it is an old copy."""
        if self._comparing:
            self._news.changed(old, now)
            self._unseen += explained_unseen(old.channel, now, 0)
        if old.pool and not old.adopted and now.balance > old.authorized:
            paid = f"{now.balance} drops were paid from {now.channel_id}, and {old.authorized} were signed"
            self._freeze(EVERYTHING, Cause.OLD_STORE, f"{paid} as far as this store knows: it is an old copy")

    def closed(self, record: ChannelRecord, tx: ValidatedTransaction | None) -> None:
        """A channel is gone, by this transaction or by one that was not seen."""
        if tx is None:
            self._news.gone(record)
            self._unseen += explained_unseen(record.channel, None, record.payable)
        kind = loss_of(record.channel, record.authorized, tx, self._header.close_time)
        if kind is not None:
            drops = record.channel.unredeemed(record.authorized)
            ledger = tx.ledger_index if tx else self._header.index
            self._losses.append(Loss(record.channel.channel_id, ledger, kind, drops, tx.hash if tx else ""))

    def opened(self, channel: Channel) -> None:
        """A full read shows a channel that an intent of ours opened, in a ledger that nobody showed us."""
        self._news.opened(channel)
        self._unseen += explained_unseen(None, channel, 0)

    def lost(self, loss: Loss) -> None:
        """Something held on a channel that pays us can never be collected any more."""
        self._losses.append(loss)

    def heard(self, event: Event) -> None:
        """Something happened to a channel that pays us, on which a claim is held."""
        self._heard.append(event)

    def unknown(self, channel: Channel, *, displaced: bool) -> None:
        """A full read shows a channel of ours that this store never opened; `displaced`: under a number that it had
        signed a Create under.
        """
        self._unseen += explained_unseen(None, channel, 0)
        if channel.public_key in self._keys:
            found = f"the ledger has {channel.channel_id} with our claim key, which this store never opened"
            self._freeze_wallet(channel.source_account, Cause.UNKNOWN_CHANNELS, found)
        elif displaced:
            found = f"it opened {channel.channel_id} under a number of ours, and not as we had signed that"
            self._freeze_wallet(channel.source_account, Cause.FOREIGN_TRANSACTION, found)

    def returned(self, channel: Channel) -> None:
        """A node shows a channel of ours that a validated ledger had deleted."""
        found = f"{channel.channel_id} is shown again, and was deleted"
        self._freeze_wallet(channel.source_account, Cause.GONE_CHANNEL, found)

    # --- comparing ---------------------------------------------------------------------------------------------------

    def read_whole(self) -> None:
        """What is told from here on is what a full read shows, and not what a transaction did."""
        self._comparing = True

    def compare(self, account: AccountState) -> int:
        """A full read shows this balance: by how many drops it differs from what the books say, 0 if they say nothing.

        Comes after all channels of the same read, for what they gained or gave back unseen is accounted for. Where
        history was missing the books say only how low the balance can be, and more than that is no difference. They
        follow the ledger from here on.
        """
        wallet, booked = self._wallets[account.address], self._balances[account.address]
        self._balances[account.address] = account.balance
        surplus = 0 if booked is None else account.balance - booked - self._unseen
        if wallet.bounded:
            surplus = min(0, surplus)
        if surplus > 0:
            self._incomes.append(Income("", account.address, self._header.index, surplus, Address("")))
        elif surplus < 0:
            found = f"it holds {format_xrp(-surplus)} less than its transactions account for"
            self._freeze_wallet(account.address, Cause.UNEXPLAINED_DECREASE, found)
        return surplus

    # --- freezing ----------------------------------------------------------------------------------------------------

    def _freeze_wallet(self, address: Address, cause: Cause, found: str) -> None:
        """Stop a wallet. One that only receives issues nothing: its owner may use it as he likes."""
        if not self._wallets[address].pays:
            log.info("receiving_account_used", account=address, found=found)
            return
        self._freeze(self._wallets[address].name, cause, found)

    def _freeze(self, scope: str, cause: Cause, found: str) -> None:
        self._freezes.append(Freeze(scope, cause, found, SELF, to_unix(self._header.close_time)))


def announce(booked: Booked) -> None:
    """Say in the log what was booked, once it is on disk: income is news, a failure of ours an alarm."""
    for income in booked.incomes:
        log.info("income", account=income.account, drops=income.drops, by=income.by, hash=income.hash)
    for loss in booked.losses:
        say = log.warning if loss.kind is LossKind.FORGONE else log.error
        say("payout_lost", kind=loss.kind.value, channel_id=loss.channel_id, drops=loss.drops, hash=loss.hash)
    for freeze in booked.freezes:
        log.error("frozen", scope=freeze.scope or "everything", cause=freeze.cause.value, reason=freeze.reason)
