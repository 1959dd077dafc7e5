"""A validated ledger came: update the mirror, decide what is due, journal what is to be done.

Everything here is synchronous. A span of ledgers is applied to the store in one transaction and then to the mirror;
what changed is dirty, what falls due by the clock is on a heap, and only these are decided again. So a ledger costs
what it touches, not what we own.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

import structlog

from channeld.core.channel import Channel
from channeld.core.conservation import Moved
from channeld.core.decide import decide
from channeld.core.intents import Intent, Kind, OpenChannel, RequestClose, Status
from channeld.core.ledger import AccountState, ChannelChange, LedgerHeader, ValidatedTransaction
from channeld.core.outcome import Outcome, cooled, judge, setback_after, subject_of
from channeld.core.records import (
    Booked,
    ChannelRecord,
    Ending,
    JournalEntry,
    LedgerUpdate,
    LiveTransaction,
    Payment,
    Setback,
)
from channeld.core.results import After
from channeld.core.units import Address, ChannelId, Drops, LedgerIndex, RippleTime
from channeld.core.world import Hold, Planned, Reason, World
from channeld.service.ledger_book import SpanBook, announce
from channeld.service.mirror import ChannelState, Group, Mirror, tx_key
from channeld.service.numbers import kind_of, tickets_subject
from channeld.service.ports import Store, Telemetry
from channeld.service.steps import UNWATCHED, Step, Steps

log = structlog.get_logger()

_WAITING = frozenset({Reason.IN_FLIGHT, Reason.COOLDOWN, Reason.FROZEN_LAG, Reason.FROZEN, Reason.GUARD_RATE})
"""Reasons that pass by themselves: what was asked for is kept. For all others the server is told, and asks again."""
_SMOOTHING = 4
"""A ledger interval enters the running mean with weight 1/4."""
_LONGEST_SPACING_S = 60.0


@dataclass(slots=True)
class _Span:
    """What a span of ledgers changes, gathered before anything is touched."""

    book: SpanBook
    after: dict[ChannelId, ChannelRecord] = field(default_factory=dict)
    found: dict[ChannelId, ChannelRecord] = field(default_factory=dict)
    endings: list[Ending] = field(default_factory=list)
    outcomes: list[tuple[JournalEntry, Outcome]] = field(default_factory=list)
    payments: list[Payment] = field(default_factory=list)
    ended: dict[tuple[Address, int], LiveTransaction] = field(default_factory=dict)
    accounts: dict[Address, AccountState] = field(default_factory=dict)
    setbacks: dict[str, Setback] = field(default_factory=dict)
    tickets_made: set[tuple[Address, int]] = field(default_factory=set)
    tickets_gone: set[tuple[Address, int]] = field(default_factory=set)
    failed_tickets: dict[str, str] = field(default_factory=dict)
    refusals: list[tuple[JournalEntry, str]] = field(default_factory=list)


class Reconciler:
    """Keeps the mirror true and the journal filled. `monotonic` is the one clock beside the ledger's."""

    def __init__(
        self,
        mirror: Mirror,
        store: Store,
        telemetry: Telemetry,
        monotonic: Callable[[], float],
        *,
        steps: Steps = UNWATCHED,
    ) -> None:
        self._mirror, self._store, self._telemetry, self._monotonic = mirror, store, telemetry, monotonic
        self._steps = steps
        self._dirty: set[Group] = set(mirror.groups.values())
        self._touched: set[Group] = set()
        self._due: list[tuple[RippleTime, int, Group]] = []
        self._due_at: dict[Group, RippleTime] = {}
        self._pushed = 0
        self._spacings = 0
        self.on_planned: Callable[[], None] = lambda: None
        self.on_refused: Callable[[JournalEntry, str], None] = lambda _entry, _code: None

    # --- a ledger ----------------------------------------------------------------------------------------------------

    def apply(
        self, header: LedgerHeader, transactions: Iterable[ValidatedTransaction], *, gapless: bool = True
    ) -> None:
        """Apply every transaction of our wallets in the ledgers after the last one processed, up to `header`.

        `gapless` says that none is missing; only then is a transaction that was not found past its last ledger dead by
        that alone. Decides nothing yet. Raises `StoreError`, and then nothing has changed.
        """
        started, span = self._monotonic(), _Span(SpanBook(self._mirror, header, gapless=gapless))
        for transaction in sorted(transactions, key=lambda t: (t.ledger_index, t.position)):
            self._transaction(transaction, header, span)
        for key, live in self._mirror.live.items():
            overdue = live.last_ledger < header.index or (not gapless and self._used_up(live, span))
            if key not in span.ended and overdue:
                self._overdue(live, span, gapless=gapless)
        self._missing_tickets(span)
        with self._steps(Step.OUTCOME_WRITTEN):
            self._write(header, span)
        with self._steps(Step.OUTCOME_ADOPTED):
            self._adopt(header, span)
        ledgers = 1 if self._mirror.processed is None else max(1, header.index - self._mirror.processed)
        self._advance(header)
        self._telemetry.processed(ledgers, self._monotonic() - started)

    def _transaction(self, tx: ValidatedTransaction, header: LedgerHeader, span: _Span) -> None:
        """One validated transaction: what it did to our channels, and whether it was ours."""
        mirror = self._mirror
        for account in tx.accounts:
            if account.address in mirror.by_address:
                span.accounts[account.address] = account
        live = mirror.live.get((tx.account, tx.number))
        if (tx.account, tx.number) in mirror.tickets:
            span.tickets_gone.add((tx.account, tx.number))
        entry = mirror.journal.get(live.intent) if live is not None and live.intent is not None else None
        if live is not None and live.hash == tx.hash:
            self._ours(live, entry, tx, span)
        elif tx.account in mirror.by_address:
            if not self._store.knows(tx.hash):
                self._telemetry.foreign()
                log.warning("foreign_transaction", account=tx.account, number=tx.number, kind=tx.kind, hash=tx.hash)
            if live is not None:
                self._lost(live, "displaced", span)
        self._book(tx, span)
        for change in tx.channels:
            if change.channel.source_account in mirror.by_address:
                self._change(change, tx, entry, header, span)

    def _book(self, tx: ValidatedTransaction, span: _Span) -> None:
        """Account for the money that a transaction moved, before what it did to channels is taken over."""
        moves = [Moved(old.channel if old else None, c) for c in tx.channels for old in (self._known(c, span),)]
        live = self._mirror.live.get((tx.account, tx.number))
        ours = (live is not None and live.hash == tx.hash) or self._store.knows(tx.hash)
        span.book.transaction(tx, moves, ours=ours)

    def _known(self, change: ChannelChange, span: _Span) -> ChannelRecord | None:
        """A channel as it is known so far in a span."""
        old = span.after.get(change.channel_id) or span.found.get(change.channel_id)
        if old is None and (state := self._mirror.channels.get(change.channel_id)):
            return state.record
        return old

    def _ours(self, live: LiveTransaction, entry: JournalEntry | None, tx: ValidatedTransaction, span: _Span) -> None:
        span.ended[tx_key(live)] = live
        span.endings.append(Ending(live.hash, tx.ledger_index, tx.result))
        kind = kind_of(live, entry)
        self._telemetry.transaction(kind, tx.result)
        if live.makes:
            self._tickets(live, tx, span)
        if entry is not None and live.channel_id is not None:
            with self._steps(Step.VALIDATED, kind):
                outcome = judge(entry.action, live.channel_id, tx)
            span.outcomes.append((entry, outcome))
            self._after(entry, outcome, tx, span)
            log.info("intent_ended", intent=entry.number, kind=kind, status=outcome.status.value, note=outcome.note)

    def _after(self, entry: JournalEntry, outcome: Outcome, tx: ValidatedTransaction, span: _Span) -> None:
        """What a claimed failure says beyond having failed: see `core.results.After`."""
        action = entry.action
        if outcome.after is After.REFUSED:
            span.refusals.append((entry, tx.result))
        elif outcome.after is After.UNFUNDED:
            log.error("wallet_short", wallet=action.wallet, intent=entry.number, result=tx.result)
        elif outcome.after is After.CHANNEL_GONE and not isinstance(action, OpenChannel):
            state = self._mirror.channels.get(action.channel_id)
            if state is not None and action.channel_id not in span.after:
                log.error("channel_gone_unseen", channel_id=action.channel_id, result=tx.result)
                span.after[action.channel_id] = replace(state.record, closed_at=tx.ledger_index, issuing=False)

    def _tickets(self, live: LiveTransaction, tx: ValidatedTransaction, span: _Span) -> None:
        """Our TicketCreate ended: the numbers after its own are ours to use, or it cools down like any failure."""
        if tx.succeeded:
            span.tickets_made.update((live.account, live.number + n) for n in range(1, live.makes + 1))
        else:
            log.error("tickets_not_made", wallet=live.wallet, count=live.makes, result=tx.result)
            span.failed_tickets[live.wallet] = tx.result

    def _change(
        self,
        change: ChannelChange,
        tx: ValidatedTransaction,
        entry: JournalEntry | None,
        header: LedgerHeader,
        span: _Span,
    ) -> None:
        """One channel changed."""
        channel_id = change.channel_id
        old = self._known(change, span)
        if change.paid > 0:
            span.payments.append(Payment(channel_id, tx.hash, tx.ledger_index, change.paid, tx.account))
        if old is None:
            if not change.deleted:
                span.found[channel_id] = self._new_record(change.channel, entry, header.close_time)
            return
        span.book.changed(old, change.channel)
        record = self._updated(old, change.channel, header.close_time)
        if change.deleted:
            record.closed_at, record.issuing = tx.ledger_index, False
            span.book.closed(record, tx)
        (span.found if channel_id in span.found else span.after)[channel_id] = record

    def _new_record(self, channel: Channel, entry: JournalEntry | None, now: RippleTime) -> ChannelRecord:
        """A channel first seen: ours if an intent opened it, else quarantined, never signed on."""
        action = entry.action if entry else None
        if not isinstance(action, OpenChannel) or action.payee != channel.payee:
            log.warning("unknown_channel", channel_id=channel.channel_id, destination=channel.destination_account)
            return ChannelRecord(0, channel, channel.balance, False, "", "", now, now, None, None)
        return ChannelRecord(0, channel, channel.balance, True, action.pool, action.server, now, now, None, None)

    def _updated(self, old: ChannelRecord, channel: Channel, now: RippleTime) -> ChannelRecord:
        since = None
        if channel.unredeemed(old.authorized):
            since = old.unredeemed_since if channel.balance == old.channel.balance else now
        return replace(old, channel=channel, unredeemed_since=since)

    def _overdue(self, live: LiveTransaction, span: _Span, *, gapless: bool) -> None:
        """A transaction was not found up to its last ledger, or its number was used up in a ledger nobody showed us.

        It is dead if that is proven, else its fate is unknown. It is proven by gapless history, and also by the
        account's sequence: not used up, so not included.
        """
        self._lost(live, "dead" if gapless or self._unused(live, span) else "unknown", span)

    def _unused(self, live: LiveTransaction, span: _Span) -> bool | None:
        """Whether the account, as of the ledger being applied, has not used this number yet; None: nobody knows."""
        wallet = self._mirror.by_address.get(live.account)
        if live.ticket:
            seen = wallet.tickets_seen if wallet else None
            return None if seen is None else live.number in seen
        states = (span.accounts.get(live.account), wallet.account if wallet else None)
        shown = [state.sequence for state in states if state is not None]
        return max(shown) <= live.number if shown else None

    def _used_up(self, live: LiveTransaction, span: _Span) -> bool:
        """Whether it is known that something used this number up."""
        return self._unused(live, span) is False

    def _missing_tickets(self, span: _Span) -> None:
        """Tickets of ours that the ledger does not have are forgotten; those made unseen are ours all the same.

        Only where the ledger's tickets were just read. Tickets of the account that we did not make are left alone.
        """
        for wallet in self._mirror.wallets.values():
            if (seen := wallet.tickets_seen) is None:
                continue
            wallet.tickets_seen = None
            ours = {n for account, n in self._mirror.tickets | span.tickets_made if account == wallet.address}
            span.tickets_gone.update((wallet.address, n) for n in ours - seen)
            for live in span.ended.values():
                made = range(live.number + 1, live.number + live.makes + 1) if live.account == wallet.address else ()
                span.tickets_made.update((wallet.address, n) for n in made if n in seen)

    def _lost(self, live: LiveTransaction, result: str, span: _Span) -> None:
        """A transaction is out of time (`unknown`: or was validated unseen). Its intent is signed again or fails.

        It fails where a node found the transaction itself impossible, and where its fate is unknown: then what is due
        is decided anew from the channel as it is.
        """
        span.ended[tx_key(live)] = live
        span.endings.append(Ending(live.hash, None, result))
        entry = None if live.intent is None else self._mirror.journal.get(live.intent)
        if live.ticket and tx_key(live) in self._mirror.missing:
            span.tickets_gone.add(tx_key(live))  # no node ever took it: the ticket is not there
        self._telemetry.transaction(kind_of(live, entry), result)
        log.warning("transaction_lost", result=result, hash=live.hash, account=live.account, number=live.number)
        if entry is not None:
            doomed = self._mirror.doomed.pop(tx_key(live), None)
            again = result != "unknown" and doomed is None
            outcome = Outcome(Status.PLANNED if again else Status.FAILED, Drops(0), doomed or result)
            span.outcomes.append((entry, outcome))

    def _write(self, header: LedgerHeader, span: _Span) -> None:
        found = list(span.found.values())
        steps = [(entry.number, outcome.status, outcome.note) for entry, outcome in span.outcomes]
        changed = list(span.after.values())
        self._set_back(header, span)
        made = sorted(span.tickets_made - span.tickets_gone)
        tickets = (list(span.setbacks.values()), made, sorted(span.tickets_gone))
        money = (span.endings, steps, span.payments, span.book.booked)
        self._store.apply(LedgerUpdate(header.index, header.close_time, changed, found, *money, *tickets))

    def _set_back(self, header: LedgerHeader, span: _Span) -> None:
        """What the ended intents leave their subjects with; a channel that closed leaves nothing."""
        known = self._mirror.setbacks
        for entry, outcome in span.outcomes:
            if outcome.status is not Status.PLANNED:
                subject = subject_of(entry.action)
                before = span.setbacks.get(subject) or known.get(subject)
                span.setbacks[subject] = setback_after(before, entry.action, outcome, header.close_time)
        for wallet, result in span.failed_tickets.items():
            subject = tickets_subject(wallet)
            span.setbacks[subject] = cooled(known.get(subject), subject, header.close_time)
            log.warning("tickets_cool_down", wallet=wallet, result=result)
        for record in span.after.values():
            if record.closed_at is not None:
                subject = record.channel.channel_id
                span.setbacks[subject] = Setback(subject, 0, None, refused=False)
        span.setbacks = {s: v for s, v in span.setbacks.items() if s in known or not v.over}

    def _adopt(self, header: LedgerHeader, span: _Span) -> None:
        """The store has it: now the mirror."""
        mirror = self._mirror
        self._adopt_book(span)
        for key in span.ended:
            del mirror.live[key]
            mirror.missing.discard(key)
        mirror.tickets |= span.tickets_made
        mirror.tickets -= span.tickets_gone
        for setback in span.setbacks.values():
            mirror.set_back(setback)
        for record in span.after.values():
            self._replace(mirror.channels[record.channel.channel_id], record)
        for record in span.found.values():
            if record.closed_at is None:
                self._touch(mirror.add(record).group)
        for entry, outcome in span.outcomes:
            self._end(entry, outcome)
        for entry, code in span.refusals:
            self._refused(entry, code)
        for payment in span.payments:
            self._telemetry.paid(payment.paid)
        for address, account in span.accounts.items():
            mirror.by_address[address].account = account

    def _adopt_book(self, span: _Span) -> None:
        booked = span.book.booked
        for freeze in booked.freezes:
            self._mirror.freeze(freeze)
        for loss in booked.losses:
            self._telemetry.lost(loss.kind.value, loss.drops)
        for address, balance in booked.balances.items():
            self._mirror.by_address[address].booked = balance
        announce(booked)

    def _replace(self, state: ChannelState, record: ChannelRecord) -> None:
        self._mirror.replace(state, record)
        self._touch(state.group)
        if record.closed_at is not None and (lost := record.channel.unredeemed(record.authorized)):
            self._telemetry.forgone(lost)

    def _end(self, entry: JournalEntry, outcome: Outcome) -> None:
        """An intent ended, or goes back to be signed again. What failed is decided again when it has cooled down."""
        entry.status, entry.note = outcome.status, outcome.note
        if outcome.status is Status.PLANNED:
            return
        group = self._mirror.close_entry(entry)
        self._touch(group)
        setback = self._mirror.setbacks.get(subject_of(entry.action))
        if group is not None and setback is not None and setback.retry_at is not None:
            self._schedule(setback.retry_at, group)

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

    def _advance(self, header: LedgerHeader) -> None:
        """The ledger is processed whole: it is the one to decide on."""
        mirror, now = self._mirror, self._monotonic()
        if mirror.header is not None and mirror.processed is not None and header.index > mirror.processed:
            self._pace((now - mirror.seen_at) / (header.index - mirror.processed))
        if mirror.header is None or header.index > mirror.header.index:  # seen again, it is as old as it was
            mirror.seen_at = now
        mirror.header, mirror.processed = header, header.index
        self._dirty |= self._touched
        self._touched.clear()
        while self._due and self._due[0][0] <= header.close_time:
            until, _, group = heapq.heappop(self._due)
            if self._due_at.get(group) == until:
                del self._due_at[group]
                self._dirty.add(group)

    def _pace(self, spacing_s: float) -> None:
        """Learn how often ledgers close. The first spacing after a start is cut short, so it teaches nothing."""
        mirror, self._spacings = self._mirror, self._spacings + 1
        if self._spacings > 1:
            weight = 1 if self._spacings == 2 else 1 / _SMOOTHING
            mirror.interval_s += (min(spacing_s, _LONGEST_SPACING_S) - mirror.interval_s) * weight

    # --- comparing with the whole ledger -----------------------------------------------------------------------------

    def compare(self, header: LedgerHeader, account: AccountState, channels: Sequence[Channel]) -> int:
        """Make the mirror say what ledger `header` says of one wallet's channels; how many differed.

        The ledger is the truth about channels. What is there and unknown is quarantined, unless an intent of ours
        opened it; what is not there is gone. Nothing that we signed is forgotten by it.
        """
        mirror, span = self._mirror, _Span(SpanBook(self._mirror, header))
        mirror.by_address[account.address].account = account
        surplus = span.book.compare(account)
        mirror.by_address[account.address].difference = abs(surplus)
        seen = {c.channel_id: c for c in channels}
        for channel_id, channel in seen.items():
            state = mirror.channels.get(channel_id)
            if state is None:
                record = self._new_record(channel, self._store.opening(channel_id), header.close_time)
                span.found[channel_id] = record
                if not record.pool:
                    span.book.unknown(channel)
            elif replace(channel, ledger_index=state.record.channel.ledger_index) != state.record.channel:
                span.book.changed(state.record, channel)
                span.after[channel_id] = self._updated(state.record, channel, header.close_time)
        for state in list(mirror.channels.values()):
            record = state.record
            if record.channel.source_account == account.address and record.channel.channel_id not in seen:
                span.book.closed(record, None)
                span.after[record.channel.channel_id] = replace(record, closed_at=header.index, issuing=False)
        differences = len(span.found) + len(span.after)
        if differences or surplus:
            log.warning(
                "mirror_corrected", wallet=account.address, channels=differences, drops=surplus, ledger=header.index
            )
        if differences or span.book.booked != Booked():
            self._write(header, span)
            self._adopt(header, span)
        return differences

    # --- deciding ----------------------------------------------------------------------------------------------------

    def _touch(self, group: Group | None) -> None:
        if group is not None:
            self._dirty.add(group)

    def touch(self, group: Group, *, low: bool) -> None:
        """A claim was issued: decide this group with the next ledger, or at once where headroom runs `low`.

        At once means once per ledger: what could not be funded then is not tried with every claim.
        """
        self._touched.add(group)
        if low and group.urged_at != self._mirror.processed:
            group.urged_at = self._mirror.processed
            self._dirty.add(group)

    def urge(self, group: Group) -> None:
        """Something was asked for in vain, or headroom runs low: decide this group at the next `decide_dirty`."""
        self._dirty.add(group)

    def touch_all(self) -> None:
        """The policy or the grants changed: decide everything again."""
        self._dirty.update(self._mirror.groups.values())

    def _schedule(self, until: RippleTime, group: Group) -> None:
        """Decide the group again at `until`. Only its next moment is kept: deciding then names all later ones anew."""
        at = self._due_at.get(group)
        if at is not None and at <= until:
            return
        self._due_at[group] = until
        self._pushed += 1
        heapq.heappush(self._due, (until, self._pushed, group))

    def decide_dirty(self) -> None:
        """Decide every dirty group on the last processed ledger, and journal what is to be done in one transaction."""
        mirror = self._mirror
        if not self._dirty or mirror.header is None:
            return
        groups = {(g.pool, str(g.payee)): g for g in self._dirty}
        now = mirror.header.close_time
        for group in groups.values():
            self._observe(group, now)
        world = World(
            now,
            self._monotonic() - mirror.seen_at,
            mirror.header.fees,
            tuple(group.view() for group in groups.values()),
            mirror.wallet_views(),
            mirror.server_views(),
            *mirror.opens_in_flight(),
        )
        decision = decide(world, mirror.policy)
        free = [planned for planned in decision.planned if mirror.holds_back(planned.intent.action) is None]
        self._journal([planned.intent for planned in free], mirror.header.index)
        self._dirty.clear()
        for group in groups.values():
            group.answer = None
        frozen = [_frozen(planned) for planned in decision.planned if mirror.holds_back(planned.intent.action)]
        for hold in (*decision.holds, *frozen):
            self._held(hold, groups[hold.group])

    def _observe(self, group: Group, now: RippleTime) -> None:
        """Bring the group's rate of demand up to now. A group seen for the first time starts from what it asked."""
        if group.rate.at == 0:
            group.rate = replace(group.rate, at=now)
        if now > group.rate.at:
            half_life = self._mirror.policy.guards.demand_half_life
            group.rate, group.asked = group.rate.observe(group.asked, now, half_life), 0
        if (pool := self._mirror.policy.pools.get(group.pool)) is not None:
            group.low_mark = max(pool.fund.low, group.rate.need(pool.fund.runway_low))

    def _held(self, hold: Hold, group: Group) -> None:
        self._telemetry.held(hold.reason.value)
        if hold.reason in (Reason.FROZEN_LAG, Reason.FROZEN):
            self._touched.add(group)  # with the next ledger
        if hold.until is not None:
            self._schedule(hold.until, group)
        if hold.subject == str(group.payee):
            group.answer = hold
            if hold.reason is Reason.GUARD_RATE:
                self._touched.add(group)  # with the next ledger
            elif hold.reason not in _WAITING:
                group.wanted = 0

    def _journal(self, intents: list[Intent], index: LedgerIndex) -> None:
        """Write intents down, then act as written: closing stops issuing here in the same turn of the loop."""
        if not intents:
            return
        mirror = self._mirror
        with self._steps(Step.JOURNALED):
            entries = self._store.journal(intents, index)
        eta = self._monotonic() + 2.2 * mirror.interval_s + 0.5
        for entry in entries:
            mirror.open_entry(entry)
            self._telemetry.planned(entry.action.kind.value)
            log.info("intent_planned", intent=entry.number, kind=entry.action.kind.value, reason=entry.intent.reason)
            self._announce(entry, eta)
        self.on_planned()

    def _announce(self, entry: JournalEntry, eta: float) -> None:
        action = entry.action
        if isinstance(action, OpenChannel):
            mirror_group = self._mirror.group(action.pool, action.payee)
            mirror_group.eta = eta
            return
        state = self._mirror.channels[action.channel_id]
        if isinstance(action, RequestClose):
            self._mirror.stop_issuing(state)
        if action.kind is Kind.FUND and state.group is not None:
            state.group.eta = eta


def _frozen(planned: Planned) -> Hold:
    """What would be done, were its wallet not frozen."""
    action = planned.intent.action
    subject = str(action.payee) if isinstance(action, OpenChannel) else action.channel_id
    return Hold(subject, planned.group, Reason.FROZEN)
