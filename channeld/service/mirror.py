"""What the daemon knows, in memory: our channels as validated, how far each is signed, and what is in flight.

It is filled from the store at start and changed only after the store has taken the change, so that a crash at any point
leaves nothing here that is not on disk. It decides nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from channeld.core.intents import Action, Kind, OpenChannel, RequestClose, Status
from channeld.core.ledger import LedgerHeader
from channeld.core.policy import Policy
from channeld.core.records import (
    Announced,
    ChannelMark,
    ChannelRecord,
    JournalEntry,
    LiveTransaction,
    Setback,
    StoreSnapshot,
)
from channeld.core.units import Address, ChannelId, Drops, LedgerIndex, Payee, RippleTime
from channeld.core.world import Planned, ServerView, WalletView
from channeld.service.attendance import Attendance
from channeld.service.audience import Audience
from channeld.service.backlog import Backlog
from channeld.service.commitments import Commitments, WalletSums
from channeld.service.demands import Demands
from channeld.service.early_ends import EarlyEnds
from channeld.service.frozen import Frozen
from channeld.service.holdings import ChannelState, Grant, Group, GroupKey, Wallet
from channeld.service.locked import Locked
from channeld.service.sums import Sums
from channeld.service.vault import Vault

_NOTHING = WalletSums()


class Mirror:
    """All of it. `header` is the last ledger processed whole, `heard_at` the monotonic time of that, and `seen_at` when
    that ledger was new: before that, where a node stood still.

    `changed` are channels that are not as they were when somebody last took note, gone ones included, with their
    payees. `tells` is set where somebody does: then a new channel waits until content servers are told of it.
    `stopped` says what is frozen, and why; of it `frozen` is everything, `held` are content servers, `held_apart` users
    and payees, by scope.
    On what intents up to number `retired` open nothing is issued: another copy of the store may have done so.
    `cautions` are channels whose end single nodes showed in ledgers not processed yet: nothing is issued on them.
    """

    def __init__(self, snapshot: StoreSnapshot, wallets: Iterable[Wallet], policy: Policy, grants: Mapping[str, Grant]):
        self.policy = policy
        self.grants = grants
        self.store_id, self.retired = snapshot.store_id, snapshot.retired
        self.wallets = {w.name: w for w in wallets}
        self.by_address = {w.address: w for w in self.wallets.values()}
        self.processed: LedgerIndex | None = snapshot.processed
        self.header: LedgerHeader | None = None
        self.seen_at = self.heard_at = 0.0
        self.interval_s = 4.0
        self.network_fee: Drops | None = None
        self.amendments: frozenset[str] | None = None
        self.channels: dict[ChannelId, ChannelState] = {}
        self.by_row: dict[int, ChannelState] = {}
        self.groups: dict[GroupKey, Group] = {}
        self.early_ends = EarlyEnds(snapshot.early_ends)
        self.journal: dict[int, JournalEntry] = {}
        self.backlog = Backlog()
        self.locked = Locked()
        self.commitments = Commitments(self.locked)
        self.live: dict[tuple[Address, int], LiveTransaction] = {tx_key(tx): tx for tx in snapshot.live}
        self.doomed: dict[tuple[Address, int], str] = {}
        self.missing: set[tuple[Address, int]] = set()
        self.cautions: dict[ChannelState, dict[str, LedgerIndex]] = {}
        self.setbacks = dict(snapshot.setbacks)
        self.attendance = Attendance(snapshot.absences, snapshot.attended_until)
        self.demands = Demands(snapshot.traces, snapshot.rhythms, self.attendance)
        self._acted = dict(snapshot.acted)
        self._by_subject: dict[str, Group] = {}
        self.tickets = set(snapshot.tickets)
        self.spent = dict(snapshot.spent)
        self.vault = Vault(snapshot.incoming)
        self.stopped = stopped = Frozen(snapshot.freezes)
        self.frozen, self.frozen_wallets, self.halted = stopped.everything, stopped.wallets, stopped.halted
        self.held, self.held_apart = stopped.servers, stopped.people
        self.claim_keys = frozenset(w.claim_key for w in self.wallets.values())
        self.sums = Sums(policy.pools, self.locked)
        self._audience = Audience(grants)
        self.tells = False
        self.changed: dict[ChannelId, Payee] = {}
        self._fill(snapshot)

    def _fill(self, snapshot: StoreSnapshot) -> None:
        """What the store has of accounts and channels, and what is in flight."""
        for held in snapshot.incoming:  # what pays an account that is to receive no more is followed to its end
            if (paid := self.by_address.get(held.channel.destination_account)) is not None:
                paid.receives = True
        for address, balance in snapshot.balances.items():
            if address in self.by_address:
                self.by_address[address].booked = balance
        for record in snapshot.channels:
            self.add(record)
        for notice in snapshot.announced:
            self.announced(notice)
        for live in self.live.values():
            self.commitments.signed(live)
        for entry in snapshot.journal:
            self.open_entry(entry)

    def take_over(self, policy: Policy, grants: Mapping[str, Grant], audience: Audience) -> None:
        """Another policy and other grants are in force from now on; `audience` is of these grants."""
        self.policy, self.grants, self._audience = policy, grants, audience
        self.sums.take_over(policy.pools)

    def servers_of(self, payee: Payee) -> tuple[str, ...]:
        """Content servers that may charge for a payee, by name."""
        return self._audience.of(self.grants, payee)

    def receiving(self) -> frozenset[Address]:
        """The accounts of ours that are followed as payees."""
        return frozenset(w.address for w in self.wallets.values() if w.receives)

    # --- what has to wait ---------------------------------------------------------------------------------------------

    def cautious(self, state: ChannelState) -> str | None:
        """Why nothing may be issued on a channel until some ledger to come is processed, or None."""
        told = self.cautions.get(state)
        if not told:
            return None
        return f"{', '.join(told)}: the channel is being closed, as of ledger {max(told.values())}; not confirmed yet"

    def holds_back(self, action: Action) -> str | None:
        """Why an action has to wait, or None. What was signed is paid out and collected all the same, what has expired
        is removed.

        A channel that was adopted is closed because an operator said so.
        """
        if action.kind in (Kind.SETTLE, Kind.FINALIZE_CLOSE, Kind.REDEEM):
            return None
        if isinstance(action, RequestClose):
            state = self.channels.get(action.channel_id)
            if state is not None and state.record.adopted:
                return None
        return self.halted(action.wallet)

    def sift(self, planned: Iterable[Planned]) -> tuple[list[Planned], list[Planned]]:
        """What of it is free to be done, and what has to wait, each in order."""
        free, kept = list[Planned](), list[Planned]()
        for each in planned:
            (free if self.holds_back(each.intent.action) is None else kept).append(each)
        return free, kept

    # --- channels ----------------------------------------------------------------------------------------------------

    def group(self, pool: str, payee: Payee, user: str = "") -> Group:
        """The group of a payee in a pool, or of one user of it, made if need be."""
        key = (pool, payee, user)
        found = self.groups.get(key)
        if found is None:
            found = self.groups[key] = Group(pool, payee, user, early_ends=self.early_ends)
            subject = f"{pool}/{found.subject}"
            self._by_subject[subject] = found
            found.setback = self.setbacks.get(subject)
            found.opened_at = self._acted.get((subject, Kind.OPEN))
            self.demands.adopt(found)
        return found

    def forget(self, group: Group) -> None:
        """Let go of the group of a user that has nothing; it is made again when it is asked for."""
        self.demands.release(group)
        if group.opened_at is not None:
            self._acted[f"{group.pool}/{group.subject}", Kind.OPEN] = group.opened_at
        del self.groups[group.pool, group.payee, group.user], self._by_subject[f"{group.pool}/{group.subject}"]

    def add(self, record: ChannelRecord) -> ChannelState:
        """Take in a channel the store has just got.

        One that is quarantined (no pool), or whose source is no wallet of ours any more, joins no group: no ledger
        would tell us about it, so nothing is signed on it.
        """
        ours = record.pool and record.channel.source_account in self.by_address
        group = self.group(record.pool, record.channel.payee, record.user) if ours else None
        state = ChannelState(record, bytes.fromhex(record.channel.channel_id), group)
        self.channels[record.channel.channel_id] = self.by_row[record.row] = state
        channel_id = record.channel.channel_id
        state.setback = self.setbacks.get(channel_id)
        state.funded_at = self._acted.pop((channel_id, Kind.FUND), None)
        state.settled_at = self._acted.pop((channel_id, Kind.SETTLE), None)
        self._note(record, state)
        if group is not None:
            group.channels.append(state)
            group.tier = group.tier or record.tier or None
        self.sums.count(record, 1)
        return state

    def replace(self, state: ChannelState, record: ChannelRecord) -> None:
        """Put a changed record in the place of the old one; a closed channel leaves."""
        self.sums.count(state.record, -1)
        state.record = record
        self._note(record, state)
        if state.entry is not None:
            self.backlog.touch(state.entry)
            self.commitments.count(state.entry, record if record.closed_at is None else None)
        if record.closed_at is None:
            self.sums.count(record, 1)
            return
        self.went(record)
        del self.channels[record.channel.channel_id], self.by_row[record.row]
        if state.group is not None:
            state.group.channels.remove(state)
            if state.group.current is state:
                state.group.current = None

    def went(self, record: ChannelRecord) -> None:
        """The store has a channel's end."""
        if record.cut_short_at is not None:
            self.early_ends.add(record.channel.payee, record.cut_short_at)

    def _note(self, record: ChannelRecord, state: ChannelState) -> None:
        """What content servers were told of it does not hold any more."""
        state.told = not self.tells
        self.changed[record.channel.channel_id] = record.channel.payee

    def mark(self, state: ChannelState, mark: ChannelMark) -> None:
        """The store has taken it: the channel is signed further. What is authorised never falls."""
        record = state.record
        assert mark.authorized > record.authorized
        channel = record.channel
        before = channel.unredeemed(record.authorized)
        record.authorized, record.last_claim_at = mark.authorized, mark.last_claim_at
        record.unredeemed_since = mark.unredeemed_since
        self.sums.pools[record.pool].unredeemed += channel.unredeemed(mark.authorized) - before

    def stop_issuing(self, state: ChannelState) -> None:
        """The store has it: an intent to close is written down."""
        self.sums.count(state.record, -1)
        state.record.issuing = False
        self.sums.count(state.record, 1)
        self.changed[state.record.channel.channel_id] = state.record.channel.payee

    def announced(self, notice: Announced) -> None:
        """The store has it: how far closing a channel with notice has come."""
        if (state := self.channels.get(notice.channel_id)) is not None:
            state.due_since, state.noticed_at = notice.due_since, notice.noticed_at

    def adopt(self, state: ChannelState, pool: str, authorized: int) -> None:
        """The store has it: a quarantined channel was taken over, to settle and close only."""
        record = state.record
        self.sums.count(record, -1)
        record.pool, record.server, record.issuing, record.adopted = pool, "", False, True
        record.authorized = max(record.authorized, authorized)
        self.sums.count(record, 1)
        self._note(record, state)
        state.group = self.group(pool, record.channel.payee)
        state.group.channels.append(state)

    # --- intents in flight -------------------------------------------------------------------------------------------

    def open_entry(self, entry: JournalEntry) -> None:
        """Take in an intent that is open: its subject is not decided again until it ends."""
        self.journal[entry.number] = entry
        if entry.status is Status.PLANNED:
            self.backlog.add(entry)
        self._commit(entry)
        if isinstance(entry.action, OpenChannel):
            self.group(entry.action.pool, entry.action.payee, entry.action.user).opening += 1
        elif (state := self.channels.get(entry.action.channel_id)) is not None:
            state.pending, state.entry = entry.action.kind, entry

    def acted(self, action: Action, now: RippleTime) -> None:
        """The store has it: this was decided now, and a cooldown of the policy counts from here."""
        if isinstance(action, OpenChannel):
            self.group(action.pool, action.payee, action.user).opened_at = now
        elif (state := self.channels.get(action.channel_id)) is not None:
            if action.kind is Kind.FUND:
                state.funded_at = now
            elif action.kind is Kind.SETTLE:
                state.settled_at = now

    def signed(self, live: LiveTransaction) -> None:
        """The store has it: a transaction that may be validated, and what it is for is under way."""
        self.live[tx_key(live)] = live
        self.commitments.signed(live)
        if live.intent is not None:
            entry = self.journal[live.intent]
            self.backlog.drop(entry)
            entry.status, entry.channel_id = Status.SIGNED, live.channel_id
            entry.attempts += 1
            self._commit(entry)

    def ended(self, live: LiveTransaction) -> None:
        """The store has it: a transaction was validated, or never will be."""
        del self.live[tx_key(live)]
        self.missing.discard(tx_key(live))
        self.doomed.pop(tx_key(live), None)
        self.commitments.ended(live)

    def plan_again(self, entry: JournalEntry, spoilt: int) -> None:
        """The store has it: what was signed for an intent is dead, or `spoilt` for this fee, and it is signed anew."""
        entry.status = Status.PLANNED
        if spoilt:
            entry.attempts, entry.spent = entry.attempts - 1, entry.spent + spoilt
        self.backlog.add(entry)
        self._commit(entry)

    def _commit(self, entry: JournalEntry) -> None:
        state = None if isinstance(entry.action, OpenChannel) else self.channels.get(entry.action.channel_id)
        self.commitments.count(entry, state.record if state else None)

    def close_entry(self, entry: JournalEntry) -> Group | None:
        """An intent ended: its group may be decided again."""
        del self.journal[entry.number]
        self.backlog.drop(entry)
        self.commitments.forget(entry.number)
        if isinstance(entry.action, OpenChannel):
            group = self.group(entry.action.pool, entry.action.payee, entry.action.user)
            group.opening -= 1
            return group
        state = self.channels.get(entry.action.channel_id)
        if state is None:
            return None
        state.pending = state.entry = None
        return state.group

    def set_back(self, setback: Setback) -> None:
        """The store has it: how often a subject failed, and when it may be tried again."""
        known = None if setback.over else setback
        self.setbacks.pop(setback.subject, None)
        if known is not None:
            self.setbacks[setback.subject] = known
        holder = self._by_subject.get(setback.subject) or self.channels.get(ChannelId(setback.subject))
        if holder is not None:
            holder.setback = known

    # --- views for decide --------------------------------------------------------------------------------------------

    def wallet_views(self) -> dict[str, WalletView]:
        """Every wallet that a ledger has shown, with what its open intents take at worst."""
        views = {}
        for name, wallet in self.wallets.items():
            if wallet.account is not None:
                sums = self.commitments.wallets.get(name, _NOTHING)
                left = len(self.free_tickets(wallet)) - sums.unsigned_opens
                objects = sums.objects + sums.tickets + max(0, -left)
                views[name] = WalletView(wallet.account, sums.committed(self.policy.guards), objects, max(0, left))
        return views

    def free_tickets(self, wallet: Wallet) -> list[int]:
        """Tickets of a wallet that we made and no live transaction uses, lowest first."""
        return sorted(key[1] for key in self.tickets if key[0] == wallet.address and key not in self.live)

    def server_views(self, servers: Iterable[str]) -> dict[str, ServerView]:
        """What these content servers use of their caps, in flight included; only of those that are configured."""
        views = {}
        for server in servers:
            if (grant := self.grants.get(server)) is not None:
                (used, channels), (flying, opening) = self.sums.of_server(server), self.commitments.server(server)
                views[server] = ServerView(used + flying, channels + opening, grant.max_locked, grant.max_open_channels)
        return views

    def opens_in_flight(self) -> tuple[int, int]:
        """Open intents to open a channel, in all groups; and how many of them were decided on the last ledger."""
        return self.commitments.opens, self.commitments.opens_decided(self.processed)


def tx_key(tx: LiveTransaction) -> tuple[Address, int]:
    """What names a transaction for good: only one with this account and number can ever be validated."""
    return (tx.account, tx.number)
