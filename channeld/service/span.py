"""What a span of validated ledgers changes: read, judged and gathered before anything is touched.

A `Span` takes every transaction of our wallets in the ledgers after the last one processed, or a whole reading of the
ledger, and says what became of channels, transactions, intents, tickets and money. It writes nothing: the reconciler
hands the store all of it in one transaction, and then lets the mirror follow.

How a transaction of ours ends:

    validated under its hash            judged by what it changed (`core.outcome`), and never by its result alone
    validated, but for its Signature    likewise: whoever passes a collection on can change that, and our own signature
                                        covers all the rest
    its number used by another          displaced: it can never happen any more, and its intent is signed again
    not found up to its last ledger     dead if history is gapless or the number is still unused: signed again;
                                        else its fate is unknown: its intent fails, and is decided anew
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import structlog

from channeld.core.channel import Channel
from channeld.core.conservation import Moved
from channeld.core.early_ends import cut_short
from channeld.core.intents import Action, OpenChannel, Status
from channeld.core.ledger import AccountState, ChannelChange, LedgerHeader, ValidatedTransaction
from channeld.core.outcome import Outcome, cooled, judge, judge_altered, setback_after, subject_of
from channeld.core.records import (
    ChannelRecord,
    Ending,
    Incoming,
    JournalEntry,
    LedgerUpdate,
    LiveTransaction,
    Payment,
    Setback,
)
from channeld.core.results import After
from channeld.core.units import Address, ChannelId, Drops, LedgerIndex, RippleTime
from channeld.core.witness import opened_by
from channeld.service.ledger_book import SpanBook
from channeld.service.mirror import Mirror, tx_key
from channeld.service.numbers import kind_of, tickets_subject
from channeld.service.ports import Store, Telemetry
from channeld.service.steps import Step, Steps
from channeld.service.vault import IncomingSpan

log = structlog.get_logger()


class Span:
    """What the ledgers up to `header` change. `gapless` says that no transaction of our wallets is missing from them.

    Only then is a transaction that was not found past its last ledger dead by that alone.
    """

    def __init__(
        self,
        mirror: Mirror,
        store: Store,
        telemetry: Telemetry,
        steps: Steps,
        header: LedgerHeader,
        *,
        gapless: bool = True,
    ) -> None:
        self._mirror, self._store, self._telemetry, self._steps = mirror, store, telemetry, steps
        self._header, self._gapless = header, gapless
        self.book = SpanBook(mirror, header, gapless=gapless)
        self.incoming = IncomingSpan(mirror.vault, mirror.receiving(), header, self.book, self._forgotten)
        self.after: dict[ChannelId, ChannelRecord] = {}
        self.found: dict[ChannelId, ChannelRecord] = {}
        self.outcomes: list[tuple[JournalEntry, Outcome]] = []
        self.payments: list[Payment] = []
        self.ended: dict[tuple[Address, int], LiveTransaction] = {}
        self.accounts: dict[Address, AccountState] = {}
        self.setbacks: dict[str, Setback] = {}
        self.tickets_made: set[tuple[Address, int]] = set()
        self.tickets_gone: set[tuple[Address, int]] = set()
        self.refusals: list[tuple[JournalEntry, str]] = []
        self._endings: list[Ending] = []
        self._failed_tickets: dict[str, str] = {}

    @property
    def _now(self) -> RippleTime:
        return self._header.close_time

    def _forgotten(self, channel_id: ChannelId) -> bool:
        """Whether a channel that paid us was deleted before."""
        return self._store.gone(channel_id, incoming=True)

    @property
    def differences(self) -> int:
        """How many channels are not as they were."""
        return len(self.found) + len(self.after) + len(self.incoming.after)

    # --- transactions -------------------------------------------------------------------------------------------------

    def transaction(self, tx: ValidatedTransaction) -> None:
        """One validated transaction: what it did to our channels, and whether it was ours."""
        mirror = self._mirror
        for account in tx.accounts:
            if account.address in mirror.by_address:
                self.accounts[account.address] = account
        live = mirror.live.get((tx.account, tx.number))
        if (tx.account, tx.number) in mirror.tickets:
            self.tickets_gone.add((tx.account, tx.number))
        entry, ours = None, live is not None and (live.hash == tx.hash or tx.altered_from(live.blob))
        if live is not None and ours:
            entry = mirror.journal.get(live.intent) if live.intent is not None else None
            self._ours(live, entry, tx)
        elif tx.account in mirror.by_address:
            if not self._store.knows(tx.hash):
                self._telemetry.foreign()
                log.warning("foreign_transaction", account=tx.account, number=tx.number, kind=tx.kind, hash=tx.hash)
            if live is not None:
                self._lost(live, "displaced")
        self._book(tx, live if ours else None, entry)
        self.incoming.transaction(tx)
        for change in tx.channels:
            if change.channel.source_account in mirror.by_address:
                self._change(change, tx, entry)

    def _book(self, tx: ValidatedTransaction, live: LiveTransaction | None, entry: JournalEntry | None) -> None:
        """Account for the money that a transaction moved, before what it did to channels is taken over.

        `live` is what we signed, where that is what it is.
        """
        moves = [Moved(old.channel if old else None, c) for c in tx.channels for old in (self._known(c),)]
        if live is not None:
            self.book.took(live, entry, moves)
            self.book.transaction(tx, moves, ours=True)
        else:
            self.book.transaction(tx, moves, ours=self._store.knows(tx.hash))

    def _known(self, change: ChannelChange) -> ChannelRecord | None:
        """A channel as it is known so far."""
        old = self.after.get(change.channel_id) or self.found.get(change.channel_id)
        if old is None and (state := self._mirror.channels.get(change.channel_id)):
            return state.record
        return old

    def _ours(self, live: LiveTransaction, entry: JournalEntry | None, tx: ValidatedTransaction) -> None:
        self.ended[tx_key(live)] = live
        self._endings.append(Ending(live.hash, tx.ledger_index, tx.result))
        kind = kind_of(live, entry)
        self._telemetry.transaction(kind, tx.result)
        self._telemetry.validated(kind, live.fee, tx.ledger_index - live.first_ledger + 1)
        if altered := tx.hash != live.hash:
            self._telemetry.altered()
            log.error("transaction_altered", signed=live.hash, hash=tx.hash, account=live.account, result=tx.result)
        if live.makes:
            self._tickets(live, tx)
        if entry is not None and live.channel_id is not None:
            with self._steps(Step.VALIDATED, kind):
                if altered:
                    outcome = judge_altered(entry.intent, live.channel_id, tx)
                else:
                    outcome = judge(entry.action, live.channel_id, tx)
            self.outcomes.append((entry, outcome))
            self._after(entry, outcome, tx)
            log.info("intent_ended", intent=entry.number, kind=kind, status=outcome.status.value, note=outcome.note)

    def _after(self, entry: JournalEntry, outcome: Outcome, tx: ValidatedTransaction) -> None:
        """What a claimed failure says beyond having failed: see `core.results.After`."""
        action = entry.action
        if outcome.after is After.REFUSED:
            self.refusals.append((entry, tx.result))
        elif outcome.after is After.UNFUNDED:
            log.error("wallet_short", wallet=action.wallet, intent=entry.number, result=tx.result)
        elif outcome.after is After.CHANNEL_GONE and not isinstance(action, OpenChannel):
            state = self._mirror.channels.get(action.channel_id)
            if state is not None and action.channel_id not in self.after:
                log.error("channel_gone_unseen", channel_id=action.channel_id, result=tx.result)
                self.after[action.channel_id] = self._gone(state.record, tx.ledger_index)

    def _tickets(self, live: LiveTransaction, tx: ValidatedTransaction) -> None:
        """Our TicketCreate ended: the numbers after its own are ours to use, or it cools down like any failure."""
        if tx.succeeded:
            self.tickets_made.update((live.account, live.number + n) for n in range(1, live.makes + 1))
        else:
            log.error("tickets_not_made", wallet=live.wallet, count=live.makes, result=tx.result)
            self._failed_tickets[live.wallet] = tx.result

    # --- channels -----------------------------------------------------------------------------------------------------

    def _change(self, change: ChannelChange, tx: ValidatedTransaction, entry: JournalEntry | None) -> None:
        """One channel changed."""
        channel_id = change.channel_id
        old = self._known(change)
        if old is None and self._store.gone(channel_id):
            self.book.returned(change.channel)
            return
        if change.paid > 0:
            self.payments.append(Payment(channel_id, tx.hash, tx.ledger_index, change.paid, tx.account))
        if old is None:
            if not change.deleted:
                self.found[channel_id] = self._new_record(change.channel, entry)
            return
        self.book.changed(old, change.channel)
        record = self._updated(old, change.channel)
        if change.deleted:
            record.cut_short_at = cut_short(old, self._now)
            record.closed_at, record.closed_by, record.issuing = tx.ledger_index, tx.hash, False
            self.book.closed(record, tx)
        (self.found if channel_id in self.found else self.after)[channel_id] = record

    def _new_record(self, channel: Channel, entry: JournalEntry | None) -> ChannelRecord:
        """A channel first seen: ours if `entry` is the intent that opened it, else quarantined, never signed on.

        Nor is one signed on whose intent was retired meanwhile; that one settles and closes.
        """
        quarantined = ChannelRecord(
            row=0,
            channel=channel,
            authorized=channel.balance,
            issuing=False,
            pool="",
            server="",
            opened_at=self._now,
            last_claim_at=self._now,
            unredeemed_since=None,
            closed_at=None,
        )
        action = entry.action if entry else None
        if entry is None or not isinstance(action, OpenChannel) or action.payee != channel.payee:
            log.warning("unknown_channel", channel_id=channel.channel_id, destination=channel.destination_account)
            return quarantined
        retired = entry.number <= self._mirror.retired
        return replace(
            quarantined,
            issuing=not retired,
            pool=action.pool,
            server=action.server,
            adopted=retired,
            user=action.user,
            tier=action.tier,
        )

    def _updated(self, old: ChannelRecord, channel: Channel) -> ChannelRecord:
        since = None
        if channel.unredeemed(old.authorized):
            since = old.unredeemed_since if channel.balance == old.channel.balance else self._now
        return replace(old, channel=channel, unredeemed_since=since)

    def whole(self, account: AccountState, channels: Sequence[Channel]) -> int:
        """Compare with all channels of a wallet as the ledger has them. By how many drops its balance is off.

        What is there and unknown is quarantined, unless it proves that we opened it; what is not there is gone.
        """
        self.book.read_whole()
        seen = {c.channel_id: c for c in channels}
        for channel_id, shown in seen.items():
            state, channel = self._mirror.channels.get(channel_id), replace(shown, source_tag=None)
            if state is None and self._store.gone(channel_id):
                self.book.returned(channel)
            elif state is None:
                self._appeared(shown, channel)
            elif replace(channel, ledger_index=state.record.channel.ledger_index) != state.record.channel:
                self.book.changed(state.record, channel)
                self.after[channel_id] = self._updated(state.record, channel)
        for channel_id, state in self._mirror.channels.items():
            if state.record.channel.source_account == account.address and channel_id not in seen:
                self.after[channel_id] = self._gone(state.record, self._header.index)
        return self.book.compare(account)

    def _appeared(self, shown: Channel, channel: Channel) -> None:
        """A full read has a channel, as `shown`, whose Create nobody saw: whose is it?"""
        opening = self._store.opening(channel.channel_id)
        ours = opening is not None and opened_by(opening.action, shown, self._mirror.store_id)
        self.found[channel.channel_id] = self._new_record(channel, opening if ours else None)
        if ours:
            self.book.opened(channel)
        else:
            self.book.unknown(channel, displaced=opening is not None)

    def _gone(self, record: ChannelRecord, at: LedgerIndex) -> ChannelRecord:
        """A channel is there no more as of ledger `at`, and no transaction shows how it went."""
        self.book.closed(record, None)
        return replace(record, closed_at=at, issuing=False, cut_short_at=cut_short(record, self._now))

    # --- transactions that were not found -----------------------------------------------------------------------------

    def finish(self) -> None:
        """All transactions were taken: what was signed and is not among them is judged by its absence."""
        for key, live in self._mirror.live.items():
            used_up = not self._gapless and self._unused(live) is False
            if key not in self.ended and (used_up or live.last_ledger < self._header.index):
                self._overdue(live)
        self._missing_tickets()
        self.incoming.finish()

    def _overdue(self, live: LiveTransaction) -> None:
        """A transaction was not found up to its last ledger, or its number was used up in a ledger nobody showed us.

        It is dead if that is proven, else its fate is unknown. It is proven by gapless history, and also by the
        account's sequence: not used up, so not included.
        """
        self._lost(live, "dead" if self._gapless or self._unused(live) else "unknown")

    def _unused(self, live: LiveTransaction) -> bool | None:
        """Whether the account, as of the ledger being applied, has not used this number yet; None: nobody knows."""
        wallet = self._mirror.by_address.get(live.account)
        if live.ticket:
            seen = wallet.tickets_seen if wallet else None
            return None if seen is None else live.number in seen
        states = (self.accounts.get(live.account), wallet.account if wallet else None)
        shown = [state.sequence for state in states if state is not None]
        return max(shown) <= live.number if shown else None

    def _missing_tickets(self) -> None:
        """Tickets of ours that the ledger does not have are forgotten; those made unseen are ours all the same.

        Only where the ledger's tickets were just read. Tickets of the account that we did not make are left alone.
        """
        for wallet in self._mirror.wallets.values():
            if (seen := wallet.tickets_seen) is None:
                continue
            wallet.tickets_seen = None
            ours = {n for account, n in self._mirror.tickets | self.tickets_made if account == wallet.address}
            self.tickets_gone.update((wallet.address, n) for n in ours - seen)
            for live in self.ended.values():
                made = range(live.number + 1, live.number + live.makes + 1) if live.account == wallet.address else ()
                self.tickets_made.update((wallet.address, n) for n in made if n in seen)

    def _lost(self, live: LiveTransaction, result: str) -> None:
        """A transaction is out of time (`unknown`: or was validated unseen). Its intent is signed again or fails.

        It fails where a node found the transaction itself impossible, and where its fate is unknown: then what is due
        is decided anew from the channel as it is.
        """
        self.ended[tx_key(live)] = live
        self._endings.append(Ending(live.hash, None, result))
        entry = None if live.intent is None else self._mirror.journal.get(live.intent)
        if result == "unknown":
            self.book.unseen(live, entry)
        if live.ticket and tx_key(live) in self._mirror.missing:
            self.tickets_gone.add(tx_key(live))  # no node ever took it: the ticket is not there
        self._telemetry.transaction(kind_of(live, entry), result)
        log.warning("transaction_lost", result=result, hash=live.hash, account=live.account, number=live.number)
        if entry is not None:
            doomed = self._mirror.doomed.pop(tx_key(live), None)
            again = result != "unknown" and doomed is None
            outcome = Outcome(Status.PLANNED if again else Status.FAILED, Drops(0), doomed or result)
            self.outcomes.append((entry, outcome))

    # --- what it comes to ---------------------------------------------------------------------------------------------

    def update(self) -> LedgerUpdate:
        """All of it, as the store takes it in one transaction."""
        steps = [(entry.number, outcome.status, outcome.note) for entry, outcome in self.outcomes]
        self._set_back()
        return LedgerUpdate(
            incoming=self.incoming.update(),
            processed=self._header.index,
            close_time=self._now,
            channels=list(self.after.values()),
            new_channels=list(self.found.values()),
            endings=self._endings,
            intents=steps,
            payments=self.payments,
            booked=self.book.booked,
            setbacks=list(self.setbacks.values()),
            tickets_made=sorted(self.tickets_made - self.tickets_gone),
            tickets_gone=sorted(self.tickets_gone),
        )

    def _lives(self, action: Action) -> bool:
        """Whether what an intent was about is there: nothing waits for a channel that went before its intent ended."""
        if isinstance(action, OpenChannel):
            return True
        return action.channel_id in self._mirror.channels or action.channel_id in self._mirror.vault.channels

    def _set_back(self) -> None:
        """What the ended intents leave their subjects with; a channel that closed leaves nothing."""
        known = self._mirror.setbacks
        for entry, outcome in self.outcomes:
            if outcome.status is not Status.PLANNED:
                subject = subject_of(entry.action)
                before = self.setbacks.get(subject) or known.get(subject)
                after = setback_after(before, entry.action, outcome, self._now)
                self.setbacks[subject] = after if self._lives(entry.action) else _none(subject)
        for wallet, result in self._failed_tickets.items():
            subject = tickets_subject(wallet)
            self.setbacks[subject] = cooled(known.get(subject), subject, self._now)
            log.warning("tickets_cool_down", wallet=wallet, result=result)
        changed: list[ChannelRecord | Incoming] = [*self.after.values(), *self.incoming.after.values()]
        for record in changed:
            if record.closed_at is not None:
                subject = record.channel.channel_id
                self.setbacks[subject] = _none(subject)
        self.setbacks = {s: v for s, v in self.setbacks.items() if s in known or not v.over}


def _none(subject: str) -> Setback:
    """Nothing has failed there."""
    return Setback(subject, 0, None, refused=False)
