"""What open intents take, added up from scratch: what the sums kept on the way must always say."""

from __future__ import annotations

from collections import Counter

from channeld.core.intents import FundChannel, Kind, OpenChannel, Status
from channeld.core.records import ChannelRecord, JournalEntry
from channeld.core.world import ServerView, WalletView
from channeld.service.commitments import PoolSums
from channeld.service.mirror import Mirror


def cost(mirror: Mirror, entry: JournalEntry) -> int:
    action = entry.action
    if isinstance(action, OpenChannel):
        return action.amount
    if isinstance(action, FundChannel) and (state := mirror.channels.get(action.channel_id)):
        return max(0, action.target_amount - state.record.channel.amount)
    return 0


def wallets(mirror: Mirror) -> dict[str, WalletView]:
    by_ticket = {tx.intent for tx in mirror.live.values() if tx.ticket}
    drops, signed, waiting = Counter[str](), Counter[str](), Counter[str]()
    guards = mirror.policy.guards
    for entry in mirror.journal.values():
        action = entry.action
        urgent = action.kind in (Kind.SETTLE, Kind.REQUEST_CLOSE, Kind.REDEEM)
        drops[action.wallet] += cost(mirror, entry) + (guards.urgent_fee_cap if urgent else guards.fee_cap)
        if isinstance(action, OpenChannel) and entry.number not in by_ticket:
            (waiting if entry.status is Status.PLANNED else signed)[action.wallet] += 1
    views = {}
    for name, wallet in mirror.wallets.items():
        if wallet.account is not None:
            free = {n for account, n in mirror.tickets - set(mirror.live) if account == wallet.address}
            coming = sum(tx.makes for tx in mirror.live.values() if tx.wallet == name)
            short = max(0, waiting[name] - len(free))
            objects = signed[name] + coming + short
            views[name] = WalletView(wallet.account, drops[name], objects, max(0, len(free) - waiting[name]))
    return views


def servers(mirror: Mirror) -> dict[str, ServerView]:
    locked, channels = Counter[str](), Counter[str]()
    for state in mirror.channels.values():
        locked[state.record.server] += state.record.channel.remaining
        channels[state.record.server] += 1
    for entry in mirror.journal.values():
        action = entry.action
        state = None if isinstance(action, OpenChannel) else mirror.channels.get(action.channel_id)
        server = action.server if isinstance(action, OpenChannel) else state.record.server if state else ""
        locked[server] += cost(mirror, entry)
        channels[server] += isinstance(action, OpenChannel)
    return {
        s: ServerView(locked[s], channels[s], grant.max_locked, grant.max_open_channels)
        for s, grant in mirror.grants.items()
    }


def locked(mirror: Mirror) -> dict[str, int]:
    """By tier, user and payee."""
    found = Counter[str]()
    for state in mirror.channels.values():
        record = state.record
        _lock(found, record, record.channel.remaining)
    for entry in mirror.journal.values():
        action = entry.action
        if isinstance(action, OpenChannel):
            _lock(found, action, cost(mirror, entry))
        elif (state := mirror.channels.get(action.channel_id)) is not None:
            _lock(found, state.record, cost(mirror, entry))
    return {name: drops for name, drops in found.items() if drops}


def _lock(found: Counter[str], whose: ChannelRecord | OpenChannel, drops: int) -> None:
    payee = whose.payee if isinstance(whose, OpenChannel) else whose.channel.payee
    found[f"payee/{whose.pool}/{payee}"] += drops
    found[f"user/{whose.user}"] += drops * bool(whose.user)
    found[f"tier/{whose.tier}"] += drops * bool(whose.tier)


def pools(mirror: Mirror) -> dict[str, PoolSums]:
    found: dict[str, PoolSums] = {}
    for entry in mirror.journal.values():
        action = entry.action
        state = None if isinstance(action, OpenChannel) else mirror.channels.get(action.channel_id)
        sums = found.setdefault(entry.intent.pool, PoolSums())
        pays = action.kind in (Kind.SETTLE, Kind.REQUEST_CLOSE, Kind.REDEEM)
        urgent = pays and (state is None or state.record.channel.deadline is not None)
        sums.drops += cost(mirror, entry)
        sums.urgent += urgent and not entry.intent.deadline
        sums.ordinary += not urgent and not entry.intent.deadline
        sums.opens += action.kind is Kind.OPEN
        sums.freely_closing += entry.intent.freely_closes
    for tx in mirror.live.values():
        if tx.intent is None:
            found.setdefault("", PoolSums()).signed_fees += tx.fee
    return {pool: sums for pool, sums in found.items() if sums != PoolSums()}


def added_up(mirror: Mirror) -> None:
    """Fails unless the sums are what adding up gives."""
    assert {p: s for p, s in mirror.commitments.pools.items() if s != PoolSums()} == pools(mirror)
    opens = [e.decided_at for e in mirror.journal.values() if isinstance(e.action, OpenChannel)]
    unsigned = {number for number, entry in mirror.journal.items() if entry.status is Status.PLANNED}
    assert {entry.number for wallet in mirror.wallets for entry in mirror.backlog.of(wallet)} == unsigned
    deadlines = Counter(e.action.wallet for e in mirror.journal.values() if e.intent.deadline)
    assert {w: sums.deadline for w, sums in mirror.commitments.wallets.items() if sums.deadline} == deadlines
    assert mirror.wallet_views() == wallets(mirror)
    assert mirror.server_views(mirror.grants) == servers(mirror)
    assert mirror.locked.everything() == locked(mirror)
    assert mirror.opens_in_flight() == (len(opens), sum(at == mirror.processed for at in opens))
