"""What the daemon says of itself: gauges, status, channels, and why it is not ready."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from channeld.adapters.sqlite.journal_reader import reading
from channeld.adapters.sqlite.reader import read_channels, read_facts, read_incoming
from channeld.adapters.telemetry import Gauged
from channeld.app import budgets, receiving, standing
from channeld.core.freezes import Audit
from channeld.core.ledger import AMENDMENTS
from channeld.core.records import ChannelRecord
from channeld.core.units import to_unix
from channeld.service.endpoints import Endpoint, Endpoints
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


def problems(daemon: Daemon) -> list[str]:
    """Why the daemon is not ready; nothing if it is."""
    found = []
    if daemon.follower.problem:
        found.append(f"ledger: {daemon.follower.problem}")
    if not daemon.broker.connected:
        found.append(f"broker: {daemon.gateway.presence.namesake or daemon.broker.last_error or 'not connected yet'}")
    stopped = daemon.desk.stopped()
    if stopped and not (stopped.startswith("no validated ledger") and daemon.follower.problem):
        found.append(f"issuing: {stopped}")
    found += [f"issuing: {why}" for frozen in daemon.mirror.frozen_wallets.values() for why in frozen.values()]
    return found


def warnings(daemon: Daemon) -> list[str]:
    """What people should know although claims are issued; nothing if all is well."""
    dear = daemon.executor.prices.waits()
    found = [f"ledger: {dear}"] if dear else []
    found += [f"deadlines: {beyond}" for beyond in budgets.warnings(daemon.planner.purse)]
    found += [f"clock: {wrong}"] if (wrong := daemon.clock.wrong()) else []
    found += [f"writers: {shared}" for shared in daemon.neighbours.warnings()]
    found += [f"history: it cannot be written: {problem}"] if (problem := daemon.annals.problem) else []
    found += [f"broker: {namesake}"] if (namesake := daemon.gateway.presence.namesake) else []
    found += [f"held: {why}" for held in daemon.mirror.held.values() for why in held.values()]
    apart = len(daemon.mirror.held_apart)
    found += [f"held: {apart} users or payees wait for a person: see status"] if apart else []
    found += [f"store: {crowded}"] if (crowded := daemon.ids.warning()) else []
    found += [f"config: {wrong}"] if (wrong := _not_in_force(daemon)) else []
    skipped = {endpoint.name: _skipped(endpoint) for endpoint in daemon.follower.endpoints.all}
    found += [f"ledger: {n} messages of {name} could not be understood" for name, n in skipped.items() if n]
    return found


def _not_in_force(daemon: Daemon) -> str | None:
    """Why the operator's files are not in force, in one line; None where they are."""
    refusal = daemon.files.refusal
    if refusal is None:
        return None
    more = f" (and {len(refusal.problems) - 1} more: see status)" if len(refusal.problems) > 1 else ""
    return f"the files were refused, what was in force still is: {refusal.problems[0]}{more}"


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


def _skipped(endpoint: Endpoint) -> int:
    return endpoint.skipped + (endpoint.session.skipped if endpoint.session else 0)


def status(daemon: Daemon) -> dict[str, Any]:
    """How the daemon is doing, for a person and for programs."""
    mirror, header = daemon.mirror, daemon.mirror.header
    reasons = problems(daemon)
    ledger = None
    if header is not None:
        lag = round(daemon.monotonic() - mirror.seen_at, 3)
        ledger = {"index": header.index, "close_time_unix": to_unix(header.close_time), "lag_s": lag}
    return {
        "name": daemon.settings.daemon.name,
        "version": daemon.version,
        "instance": daemon.instance,
        "ready": not reasons,
        "reasons": reasons,
        "warnings": warnings(daemon),
        "frozen": dict(mirror.frozen),
        "frozen_wallets": {wallet: dict(frozen) for wallet, frozen in mirror.frozen_wallets.items() if frozen},
        **standing.held_back(mirror),
        "policy_hash": mirror.policy.hash,
        "held": standing.held(daemon),
        "suggestions": standing.suggestions(daemon),
        "policy": standing.in_force(daemon),
        "config": _config(daemon),
        "ledger": {"endpoint": daemon.follower.endpoint, "validated": ledger, **_nodes(daemon)},
        "mqtt": {"connected": daemon.broker.connected, "reconnects": daemon.broker.reconnects},
        "store": {"path": str(daemon.settings.store.path), "id": daemon.store_id},
        "wallets": {
            name: {
                "address": wallet.address,
                "role": "pay" if wallet.pays else "receive",
                "balance": str(wallet.account.balance) if wallet.account else None,
                "owner_count": wallet.account.owner_count if wallet.account else None,
                "reserve": str(header.fees.reserve(wallet.account.owner_count)) if wallet.account and header else None,
            }
            for name, wallet in mirror.wallets.items()
        },
        "receiving": receiving.status(mirror),
        "pools": {
            pool: {
                "channels": t.channels,
                "issuing": t.issuing,
                "remaining": str(t.remaining),
                "unredeemed": str(t.unredeemed),
                "headroom": str(t.remaining - t.unredeemed),
            }
            for pool, t in mirror.sums.pools.items()
            if pool or t.channels
        },
        "budgets": budgets.status(mirror, daemon.planner.spending),
        "deadline_purses": budgets.purses(mirror, daemon.planner.purse),
        "paused_channels": len(mirror.cautions),
        "intents_open": len(mirror.journal),
        "transactions_live": len(mirror.live),
    }


def _nodes(daemon: Daemon) -> dict[str, Any]:
    """What the nodes say, how many must agree, and which rules are in force (null where no node told)."""
    nodes, known = daemon.follower.endpoints, daemon.mirror.amendments
    return {
        "quorum": nodes.quorum,
        "endpoints": {endpoint.name: _node(nodes, endpoint) for endpoint in nodes.all},
        "amendments": {name: None if known is None else name in known for name in AMENDMENTS},
    }


def _node(nodes: Endpoints, endpoint: Endpoint) -> dict[str, Any]:
    facts, heard = endpoint.facts, endpoint.heard_at
    return {
        "connected": endpoint.session is not None,
        "problem": nodes.unfit(endpoint),
        "warning": facts.warning if facts else "",
        "ledger": endpoint.newest.index if endpoint.newest else None,
        "heard_s_ago": None if heard is None else round(nodes.now() - heard, 3),
        "latency_ms": round(endpoint.latency_s * 1000, 1),
        "history": [facts.complete_first, facts.complete_last] if facts else None,
        "build": facts.build if facts else None,
        "messages_skipped": _skipped(endpoint),
    }


def channels(daemon: Daemon) -> dict[str, Any]:
    """Every live channel, in both directions."""
    mirror, shown = daemon.mirror, []
    for state in mirror.channels.values():
        told = channel_object(state.record)
        shown.append(told | {"reason": told["reason"] or mirror.cautious(state)})
    shown += [receiving.incoming_object(held) for held in mirror.vault.channels.values()]
    return {"channels": shown}


def gauges(daemon: Daemon) -> Iterator[Gauged]:
    """The daemon's state as gauges; costs the same however many channels there are."""
    mirror, broker = daemon.mirror, daemon.broker
    pools = {pool or "quarantine": totals for pool, totals in mirror.sums.pools.items()}
    yield Gauged(
        "channels",
        "Live channels.",
        ("pool", "state"),
        _by(pools, issuing=lambda t: t.issuing, stopped=lambda t: t.channels - t.issuing),
    )
    yield Gauged(
        "channel_drops",
        "Drops in live channels, by what they are.",
        ("pool", "kind"),
        _by(
            pools,
            capacity=lambda t: t.capacity,
            authorized=lambda t: t.capacity - t.remaining + t.unredeemed,
            unredeemed=lambda t: t.unredeemed,
            headroom=lambda t: t.remaining - t.unredeemed,
        ),
    )
    balances: dict[tuple[str, ...], float] = {(n,): w.account.balance for n, w in mirror.wallets.items() if w.account}
    yield Gauged("wallet_balance_drops", "Balance of an account of ours, reserve included.", ("wallet",), balances)
    lag = daemon.monotonic() - mirror.seen_at if mirror.header else float("nan")
    yield Gauged("ledger_lag_seconds", "Since the last validated ledger was processed.", (), {(): lag})
    differences: dict[tuple[str, ...], float] = {(n,): w.difference for n, w in mirror.wallets.items()}
    text = "By how much the ledger, read whole, was off from what was believed."
    yield Gauged("reconcile_difference_drops", text, ("wallet",), differences)
    frozen: dict[tuple[str, ...], float] = {(n,): mirror.halted(n) is not None for n in mirror.wallets}
    yield Gauged(
        "held_back", "Who waits for a person to look at what was asked for.", ("kind",), standing.counts(mirror)
    )
    yield Gauged("wallet_frozen", "Whether nothing may be issued for a wallet.", ("wallet",), frozen)
    text = "Channels on which nothing is issued, for a single node shows their end."
    yield Gauged("channels_paused", text, (), {(): len(mirror.cautions)})
    yield from receiving.gauges(mirror)
    yield from budgets.gauges(mirror, daemon.planner.spending, daemon.planner.purse)
    yield Gauged("ledger_validated_index", "The last validated ledger processed.", (), {(): mirror.processed or 0})
    yield Gauged("ledger_connected", "Whether a node is followed.", (), {(): daemon.follower.endpoint is not None})
    yield from _node_gauges(daemon.follower.endpoints)
    yield Gauged("mqtt_connected", "Whether the broker took us.", (), {(): broker.connected})
    yield Gauged("mqtt_reconnects", "Connections to the broker lost since this start.", (), {(): broker.reconnects})
    yield Gauged("mqtt_waiting_requests", "Messages taken and not decided yet.", (), {(): daemon.gateway.waiting})
    yield Gauged("mqtt_queued_replies", "Replies waiting for the broker.", (), {(): broker.queued_out})
    text = "Messages sent that the broker has not acknowledged yet."
    yield Gauged("mqtt_in_flight", text, (), {(): broker.in_flight_out})
    text = "Accepted requests that are on disk and held in memory, too, until they are spread into the tables."
    yield Gauged("requests_to_spread", text, (), {(): daemon.store.backlog})
    yield from _engine_gauges(daemon)
    yield Gauged("remembered_ids", "Request ids remembered.", (), {(): daemon.store.ids[0]})
    ahead = daemon.clock.ahead_s
    ahead_s = float("nan") if ahead is None else ahead
    yield Gauged("clock_ahead_seconds", "How far this machine's clock is ahead of the ledger's.", (), {(): ahead_s})
    yield from _standing_gauges(daemon)


def _engine_gauges(daemon: Daemon) -> Iterator[Gauged]:
    """What waits to be decided, recorded, signed and validated."""
    mirror = daemon.mirror
    chronicle = daemon.annals.chronicle
    yield Gauged(
        "history_waiting", "Answers of the engine not written to the history yet.", (), {(): chronicle.waiting}
    )
    text = "Decisions since this start that the history could not keep up with."
    yield Gauged("history_passed_over", text, (), {(): chronicle.passed_over})
    text = "Payees that wait to be decided about, each with its channels."
    yield Gauged("decisions_waiting", text, (), {(): daemon.planner.waiting})
    yield Gauged("intents_open", "Intents that have not ended.", (), {(): len(mirror.journal)})
    oldest = next(iter(mirror.journal.values())).decided_at if mirror.journal else mirror.processed or 0
    text = "Ledgers since the oldest intent that has not ended was decided."
    yield Gauged("intents_oldest_ledgers", text, (), {(): (mirror.processed or 0) - oldest})
    yield Gauged("transactions_live", "Signed transactions that may still be validated.", (), {(): len(mirror.live)})
    dear: dict[tuple[str, ...], float] = {(why.value,): n for why, n in daemon.executor.prices.waiting.items()}
    yield Gauged("transactions_waiting", "Transactions not signed for what they would cost now.", ("reason",), dear)


def _standing_gauges(daemon: Daemon) -> Iterator[Gauged]:
    """Whether claims can be issued by the operator's newest files, and what people should know."""
    text = "Whether the operator's files on disk were refused, and older ones are in force."
    yield Gauged("config_differs", text, (), {(): daemon.files.refusal is not None})
    yield Gauged(
        "config_taken_time_seconds", "Unix time at which what is in force was read.", (), {(): daemon.files.since}
    )
    text = "Other daemons that say they are online with a wallet of ours."
    yield Gauged("other_writers", text, (), {(): len(daemon.neighbours.warnings())})
    yield Gauged("warnings", "What people should know although claims are issued.", (), {(): len(warnings(daemon))})
    yield Gauged("ready", "Whether the daemon can issue claims.", (), {(): not problems(daemon)})


def _node_gauges(nodes: Endpoints) -> Iterator[Gauged]:
    """How every node of the config is, by host and port."""
    now, nan = nodes.now(), float("nan")

    def each(value: Callable[[Endpoint], float]) -> dict[tuple[str, ...], float]:
        return {(endpoint.name,): value(endpoint) for endpoint in nodes.all}

    label = ("endpoint",)
    yield Gauged("node_connected", "Whether a node answers.", label, each(lambda e: e.session is not None))
    yield Gauged("node_fit", "Whether a node may be followed.", label, each(lambda e: nodes.unfit(e) is None))
    yield Gauged(
        "node_lag_seconds",
        "Since a node announced a validated ledger.",
        label,
        each(lambda e: nan if e.heard_at is None else now - e.heard_at),
    )
    yield Gauged(
        "node_validated_index",
        "The last validated ledger that a node announced.",
        label,
        each(lambda e: e.newest.index if e.newest else 0),
    )
    yield Gauged("node_latency_seconds", "How long a node takes to answer.", label, each(lambda e: e.latency_s))
    yield Gauged(
        "node_messages_skipped",
        "Messages of a node that could not be understood.",
        label,
        each(_skipped),
    )


def _by(pools: Mapping[str, PoolTotals], **read: Callable[[PoolTotals], int]) -> dict[tuple[str, ...], float]:
    """One value for every pool and every reading of its totals."""
    return {(pool, name): value(totals) for pool, totals in pools.items() for name, value in read.items()}


def read_store(settings: Settings, what: str) -> dict[str, Any]:
    """Read the store of a daemon that does not run: its `status`, its `channels` or its `audit`."""
    path = settings.store.path
    if what == "audit":
        with reading(path) as journal:
            return _audit(journal.audits(_MOST_AUDITS))
    if what == "channels":
        ours = [channel_object(record) for record in asyncio.run(read_channels(path))]
        return {"channels": ours + [receiving.incoming_object(held) for held in asyncio.run(read_incoming(path))]}
    return asyncio.run(read_facts(path))
