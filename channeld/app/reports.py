"""What the daemon says of itself when it is asked: its status, its channels, and who did what."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

from channeld.adapters.sqlite.journal_reader import reading
from channeld.adapters.sqlite.reader import read_channels, read_facts, read_incoming
from channeld.app import budgets, health, held, nodes, receiving
from channeld.core.freezes import Audit
from channeld.core.ledger import LedgerHeader
from channeld.core.records import ChannelRecord
from channeld.core.units import RippleTime, to_unix
from channeld.service.frozen import Frozen
from channeld.service.holdings import Wallet
from channeld.service.sums import PoolTotals
from channeld.settings import Settings
from channeld.wire import events as contract

if TYPE_CHECKING:
    from channeld.app.daemon import Daemon

_MOST_AUDITS: Final = 200


def channel_object(record: ChannelRecord) -> dict[str, Any]:
    """A channel as the contract shows it, and what the store adds: pool, server, how far it is signed."""
    return {
        **contract.channel_object(record),
        **({} if record.pool else {"state": "quarantined"}),
        "direction": "out",
        "authorized": str(record.authorized),
        "headroom": str(record.channel.headroom(record.authorized)),
        "pool": record.pool,
        "adopted": record.adopted,
        "reason": _quarantine(record),
        "server": record.server,
        "tier": record.tier or None,
        "user": record.user or None,
    }


def _quarantine(record: ChannelRecord) -> str | None:
    """Why nothing is issued on a channel for good, or None."""
    if not record.pool:
        return "not opened by this store: what was signed on it is not known; `channeld channels adopt` takes it over"
    return "adopted: what was signed on it is not known; it settles and closes only" if record.adopted else None


def audit(daemon: Daemon) -> dict[str, Any]:
    """Who did what, and why, newest first; freezes that the daemon found itself as well."""
    return _audit(daemon.store.books.audits(_MOST_AUDITS))


def _audit(entries: Iterable[Audit]) -> dict[str, Any]:
    return {"audit": [{"at": a.at, "who": a.who, "what": a.what, "why": a.why} for a in entries]}


def _config(daemon: Daemon) -> dict[str, Any]:
    """Which files are in force since when, and what is wrong with those on disk."""
    files = daemon.files
    refusal = files.refusal
    return {
        "files": [str(path) for path in files.settings.files],
        "in_force_since_unix": round(files.since),
        "differs": refusal is not None,
        "refused_since_unix": round(refusal.since) if refusal else None,
        "problems": list(refusal.problems) if refusal else [],
    }


def status(daemon: Daemon) -> dict[str, Any]:
    """How the daemon is doing, for a person and for programs."""
    mirror, reasons = daemon.mirror, health.problems(daemon)
    return {
        "name": daemon.settings.daemon.name,
        "version": daemon.version,
        "instance": daemon.instance,
        "ready": not reasons,
        "reasons": reasons,
        "warnings": health.warnings(daemon),
        **held.stopped(mirror.stopped),
        "policy_hash": mirror.policy.hash,
        "held": held.held(daemon),
        "suggestions": held.suggestions(daemon),
        "policy": held.in_force(daemon),
        "config": _config(daemon),
        "ledger": {"endpoint": daemon.follower.endpoint, "validated": _validated(daemon), **nodes.status(daemon)},
        "mqtt": {"connected": daemon.broker.connected, "reconnects": daemon.broker.reconnects},
        "store": {"path": str(daemon.settings.store.path), "id": daemon.store_id},
        "wallets": {name: _wallet(wallet, mirror.header) for name, wallet in mirror.wallets.items()},
        "receiving": receiving.status(mirror),
        "pools": {pool: _pool(totals) for pool, totals in mirror.sums.pools.items() if pool or totals.channels},
        "budgets": budgets.status(mirror, daemon.planner.spending),
        "deadline_purses": budgets.purses(mirror, daemon.planner.purse),
        "paused_channels": len(mirror.cautions),
        "intents_open": len(mirror.journal),
        "transactions_live": len(mirror.live),
    }


def _validated(daemon: Daemon) -> dict[str, Any] | None:
    """The last ledger processed; None before the first."""
    header = daemon.mirror.header
    if header is None:
        return None
    lag = round(daemon.monotonic() - daemon.mirror.seen_at, 3)
    return {"index": header.index, "close_time_unix": to_unix(header.close_time), "lag_s": lag}


def _wallet(wallet: Wallet, header: LedgerHeader | None) -> dict[str, Any]:
    account = wallet.account
    return {
        "address": wallet.address,
        "role": "pay" if wallet.pays else "receive",
        "balance": str(account.balance) if account else None,
        "owner_count": account.owner_count if account else None,
        "reserve": str(header.fees.reserve(account.owner_count)) if account and header else None,
    }


def _pool(totals: PoolTotals) -> dict[str, Any]:
    return {
        "channels": totals.channels,
        "issuing": totals.issuing,
        "remaining": str(totals.remaining),
        "unredeemed": str(totals.unredeemed),
        "headroom": str(totals.remaining - totals.unredeemed),
    }


def channels(daemon: Daemon) -> dict[str, Any]:
    """Every live channel, in both directions."""
    mirror, shown = daemon.mirror, []
    for state in mirror.channels.values():
        told = channel_object(state.record)
        shown.append(told | {"reason": told["reason"] or mirror.cautious(state)})
    shown += [receiving.incoming_object(channel) for channel in mirror.vault.channels.values()]
    return {"channels": shown}


def read_store(settings: Settings, what: str) -> dict[str, Any]:
    """Read the store of a daemon that does not run: its `status`, its `channels` or its `audit`."""
    path = settings.store.path
    if what == "audit":
        with reading(path) as journal:
            return _audit(journal.audits(_MOST_AUDITS))
    if what == "channels":
        ours = [channel_object(record) for record in asyncio.run(read_channels(path))]
        return {"channels": ours + [receiving.incoming_object(channel) for channel in asyncio.run(read_incoming(path))]}
    return _store_status(settings)


def _store_status(settings: Settings) -> dict[str, Any]:
    """What a store says of a daemon that does not run: what it was stopped by above all, in the words of `status`."""
    path = settings.store.path
    facts = asyncio.run(read_facts(path))
    with reading(path) as journal:
        frozen = Frozen(journal.freezes())
    processed, attended = facts.get("processed"), facts.get("attended_until")
    return {
        "name": settings.daemon.name,
        "ready": False,
        "reasons": ["no daemon runs"],
        **held.stopped(frozen),
        "ledger": {"validated": None if processed is None else {"index": int(processed)}},
        "attended_until_unix": None if attended is None else to_unix(RippleTime(int(attended))),
        "store": {"path": str(path), "id": facts["store_id"]},
        "channels_ever": facts["channels_ever"],
        "channels_archived": facts["channels_archived"],
        "payments": facts["payments"],
        "drops_paid": str(facts["drops_paid"]),
    }
