"""A validated ledger came: what it changed goes into the store in one transaction, and then into the mirror.

Everything here is synchronous, and costs what a ledger touches, not what we own. What a span of ledgers changes, `span`
reads; what is due after it, `planner` decides.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import structlog

from channeld.core.channel import Channel
from channeld.core.intents import Status
from channeld.core.ledger import AccountState, LedgerHeader, ValidatedTransaction
from channeld.core.outcome import Outcome, setback_after, subject_of
from channeld.core.records import Booked, ChannelRecord, JournalEntry, Payment
from channeld.core.units import ChannelId, Drops
from channeld.service.holdings import ChannelState
from channeld.service.ledger_book import announce
from channeld.service.mirror import Mirror
from channeld.service.planner import Planner
from channeld.service.ports import Store, Telemetry
from channeld.service.span import Span
from channeld.service.steps import UNWATCHED, Step, Steps

log = structlog.get_logger()

_SMOOTHING = 4
"""A ledger interval enters the running mean with weight 1/4."""
_LONGEST_SPACING_S = 60.0


class Reconciler:
    """Keeps the mirror true, and the `planner` told of what changed. `monotonic` is the one clock beside the ledger's.

    `on_refused` hears of every payout or channel that a payee's account did not take, with the result code;
    `on_redeemed` of every payment that a channel made to us, `on_gone` of every channel of ours that was deleted.
    """

    def __init__(
        self,
        mirror: Mirror,
        store: Store,
        planner: Planner,
        telemetry: Telemetry,
        monotonic: Callable[[], float],
        *,
        steps: Steps = UNWATCHED,
    ) -> None:
        self._mirror, self._store, self.planner = mirror, store, planner
        self._telemetry, self._monotonic, self._steps = telemetry, monotonic, steps
        self._spacings = 0
        self.on_refused: Callable[[JournalEntry, str], None] = lambda _entry, _code: None
        self.on_redeemed: Callable[[Payment], None] = lambda _payment: None
        self.on_gone: Callable[[ChannelId], None] = lambda _channel_id: None

    # --- reading ------------------------------------------------------------------------------------------------------

    def apply(
        self,
        header: LedgerHeader,
        transactions: Iterable[ValidatedTransaction],
        *,
        gapless: bool = True,
        age_s: float = 0.0,
    ) -> None:
        """Apply every transaction of our wallets in the ledgers after the last one processed, up to `header`.

        `gapless` says that none is missing; only then is a transaction that was not found past its last ledger dead by
        that alone. `age_s` is how old that ledger is already. Decides nothing yet. Raises `StoreError`, and then
        nothing has changed.
        """
        started, span = self._monotonic(), self._span(header, gapless=gapless)
        for transaction in sorted(transactions, key=lambda t: (t.ledger_index, t.position)):
            span.transaction(transaction)
        span.finish()
        attended, demands = self._mirror.attendance.at(header.close_time), self._mirror.demands
        with self._steps(Step.OUTCOME_WRITTEN):
            self._store.apply(replace(span.update(), attended=attended, learnt=demands.unwritten()))
        demands.written()
        with self._steps(Step.OUTCOME_ADOPTED):
            self._adopt(span)
        self._mirror.attendance.took(attended)
        for wallet in self._mirror.wallets.values():
            wallet.bounded |= not gapless
        ledgers = 1 if self._mirror.processed is None else max(0, header.index - self._mirror.processed)
        self._advance(header, age_s)
        self._telemetry.processed(ledgers, self._monotonic() - started)

    def compare(
        self,
        header: LedgerHeader,
        account: AccountState,
        channels: Sequence[Channel],
        incoming: Sequence[Channel] | None = None,
    ) -> int:
        """Make the mirror say what ledger `header` says of one wallet's channels; how many differed.

        `incoming` are those that pay it, None where nobody asked. The ledger is the truth about channels. Nothing that
        we signed, or hold, is forgotten by it. Raises `StoreError`.
        """
        wallet, span = self._mirror.by_address[account.address], self._span(header)
        wallet.account = account
        surplus = span.whole(account, channels)
        if incoming is not None:
            span.incoming.whole(account.address, incoming)
        wallet.difference = abs(surplus)
        differences = span.differences
        if differences or surplus:
            log.warning(
                "mirror_corrected", wallet=account.address, channels=differences, drops=surplus, ledger=header.index
            )
        if differences or span.book.booked != Booked():
            self._store.apply(span.update())
            self._adopt(span)
        wallet.bounded = False
        return differences

    def _span(self, header: LedgerHeader, *, gapless: bool = True) -> Span:
        return Span(self._mirror, self._store, self._telemetry, self._steps, header, gapless=gapless)

    # --- the store has it: now the mirror -----------------------------------------------------------------------------

    def _adopt(self, span: Span) -> None:
        mirror = self._mirror
        self._adopt_book(span)
        for live in span.ended.values():
            mirror.ended(live)
        mirror.tickets |= span.tickets_made
        mirror.tickets -= span.tickets_gone
        for setback in span.setbacks.values():
            mirror.set_back(setback)
        for record in span.after.values():
            self._replace(mirror.channels[record.channel.channel_id], record)
        for record in span.found.values():
            if record.closed_at is None:
                self.planner.urge(mirror.add(record).group)
            else:
                mirror.went(record)
        for entry, outcome in span.outcomes:
            self._end(entry, outcome)
        for entry, code in span.refusals:
            self._refused(entry, code)
        for payment in span.payments:
            self._telemetry.paid(payment.paid)
        self._adopt_incoming(span)
        for address, account in span.accounts.items():
            mirror.by_address[address].account = account

    def _adopt_incoming(self, span: Span) -> None:
        for held in span.incoming.after.values():
            self._mirror.vault.put(held)
        for payment in span.incoming.payments:
            self._telemetry.redeemed(payment.paid)
            self.on_redeemed(payment)

    def _adopt_book(self, span: Span) -> None:
        booked = span.book.booked
        for freeze in booked.freezes:
            self._mirror.stopped.freeze(freeze)
        for loss in booked.losses:
            self._telemetry.lost(loss.kind.value, loss.drops)
        for address, balance in booked.balances.items():
            self._mirror.by_address[address].booked = balance
        self.planner.spending.took(booked.outlays)
        announce(booked)

    def _replace(self, state: ChannelState, record: ChannelRecord) -> None:
        self._mirror.replace(state, record)
        self.planner.urge(state.group)
        if record.closed_at is not None:
            self.on_gone(record.channel.channel_id)
        if record.closed_at is not None and (lost := record.channel.unredeemed(record.authorized)):
            self._telemetry.forgone(lost)

    def _end(self, entry: JournalEntry, outcome: Outcome) -> None:
        """An intent ended, or goes back to be signed again. What failed is decided again when it has cooled down."""
        entry.status, entry.note = outcome.status, outcome.note
        if outcome.status is Status.PLANNED:
            self._mirror.plan_again(entry, outcome.spoilt)
            return
        group = self._mirror.close_entry(entry)
        self.planner.urge(group)
        setback = self._mirror.setbacks.get(subject_of(entry.action))
        if group is not None and setback is not None and setback.retry_at is not None:
            self.planner.schedule(setback.retry_at, group)

    def _refused(self, entry: JournalEntry, code: str) -> None:
        """The payee's account did not take a channel or a payout: whoever should know is told."""
        kind = entry.action.kind.value
        self._telemetry.refused(kind)
        log.error("payee_refuses", kind=kind, subject=subject_of(entry.action), intent=entry.number, result=code)
        self.on_refused(entry, code)

    def fail(self, entry: JournalEntry, why: str) -> None:
        """An intent cannot be signed at all: it has failed, and cools down like one that a ledger refused."""
        header = self._mirror.header
        assert header is not None
        outcome = Outcome(Status.FAILED, Drops(0), why)
        setback = setback_after(
            self._mirror.setbacks.get(subject_of(entry.action)), entry.action, outcome, header.close_time
        )
        self._store.set_intent(entry.number, Status.FAILED, why, setback)
        self._mirror.set_back(setback)
        self._end(entry, outcome)

    # --- the ledger moved on ------------------------------------------------------------------------------------------

    def _advance(self, header: LedgerHeader, age_s: float) -> None:
        """The ledger is processed whole: it is the one to decide on."""
        mirror, now = self._mirror, self._monotonic()
        if mirror.header is not None and mirror.processed is not None and header.index > mirror.processed:
            self._pace((now - mirror.heard_at) / (header.index - mirror.processed))
        if mirror.header is None or header.index > mirror.header.index:  # seen again, it is as old as it was
            mirror.heard_at, mirror.seen_at = now, now - age_s
        mirror.header, mirror.processed = header, header.index
        self.planner.ledger(header.close_time)

    def _pace(self, spacing_s: float) -> None:
        """Learn how often ledgers close. The first spacing after a start is cut short, so it teaches nothing."""
        mirror, self._spacings = self._mirror, self._spacings + 1
        if self._spacings > 1:
            weight = 1 if self._spacings == 2 else 1 / _SMOOTHING
            mirror.interval_s += (min(spacing_s, _LONGEST_SPACING_S) - mirror.interval_s) * weight
