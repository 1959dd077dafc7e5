"""The daemon's state as gauges: what each is called, what it means, and where it is read.

Reading all of them costs the same however many channels there are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

from channeld.adapters.telemetry import Gauged
from channeld.app import budgets, health, held, nodes, receiving
from channeld.service.sums import PoolTotals

if TYPE_CHECKING:
    from channeld.app.daemon import Daemon

_NAN = float("nan")
_READY = ("ready", "Whether the daemon can issue claims.")
_Row = tuple[str, str, float]
"""A gauge of one value: its name without the prefix, what it means, and the value."""
_Values = Mapping[tuple[str, ...], float]
_Set = tuple[str, str, tuple[str, ...], _Values]
"""A gauge of a value for each of its labels."""


def gauges(daemon: Daemon) -> Iterator[Gauged]:
    """All of them."""
    for numbers in (_health, _ledger, _broker, _records, _engine):
        for name, text, value in numbers(daemon):
            yield Gauged(name, text, (), {(): value})
    for sets in (_channels, _wallets):
        for name, text, labels, values in sets(daemon):
            yield Gauged(name, text, labels, values)
    yield from receiving.gauges(daemon.mirror)
    yield from budgets.gauges(daemon.mirror, daemon.planner.spending, daemon.planner.purse)
    yield from nodes.gauges(daemon.follower.endpoints)


def paused() -> Iterator[Gauged]:
    """What there is to read between two lives."""
    yield Gauged(*_READY, (), {(): 0})


# --- numbers ---------------------------------------------------------------------------------------------------------


def _health(of: Daemon) -> Iterator[_Row]:
    text = "Whether the operator's files on disk were refused, and older ones are in force."
    writers = "Other daemons that say they are online with a wallet of ours."
    ahead = _NAN if of.clock.ahead_s is None else of.clock.ahead_s
    yield *_READY, not health.problems(of)
    yield "warnings", "What people should know although claims are issued.", len(health.warnings(of))
    yield "other_writers", writers, len(of.neighbours.warnings())
    yield "config_differs", text, of.files.refusal is not None
    yield "config_taken_time_seconds", "Unix time at which what is in force was read.", of.files.since
    yield "clock_ahead_seconds", "How far this machine's clock is ahead of the ledger's.", ahead


def _ledger(of: Daemon) -> Iterator[_Row]:
    mirror = of.mirror
    lag = of.monotonic() - mirror.seen_at if mirror.header else _NAN
    text = "Channels on which nothing is issued, for a single node shows their end."
    yield "ledger_connected", "Whether a node is followed.", of.follower.endpoint is not None
    yield "ledger_validated_index", "The last validated ledger processed.", mirror.processed or 0
    yield "ledger_lag_seconds", "Since the last validated ledger was processed.", lag
    yield "channels_paused", text, len(mirror.cautions)


def _broker(of: Daemon) -> Iterator[_Row]:
    broker = of.broker
    yield "mqtt_connected", "Whether the broker took us.", broker.connected
    yield "mqtt_reconnects", "Connections to the broker lost since this start.", broker.reconnects
    yield "mqtt_waiting_requests", "Messages taken and not decided yet.", of.gateway.waiting
    yield "mqtt_queued_replies", "Replies waiting for the broker.", broker.queued_out
    yield "mqtt_in_flight", "Messages sent that the broker has not acknowledged yet.", broker.in_flight_out


def _records(of: Daemon) -> Iterator[_Row]:
    """What is, or waits to be, written down."""
    chronicle = of.annals.chronicle
    text = "Accepted requests that are on disk and held in memory, too, until they are spread into the tables."
    passed_over = "Decisions since this start that the history could not keep up with."
    yield "requests_to_spread", text, of.store.backlog
    yield "remembered_ids", "Request ids remembered.", of.store.ids
    yield "history_waiting", "Answers of the engine not written to the history yet.", chronicle.waiting
    yield "history_passed_over", passed_over, chronicle.passed_over


def _engine(of: Daemon) -> Iterator[_Row]:
    """What waits to be decided, signed and validated."""
    journal, processed = of.mirror.journal, of.mirror.processed or 0
    oldest = next(iter(journal.values())).decided_at if journal else processed
    text = "Ledgers since the oldest intent that has not ended was decided."
    yield "decisions_waiting", "Payees that wait to be decided about, each with its channels.", of.planner.waiting
    yield "intents_open", "Intents that have not ended.", len(journal)
    yield "intents_oldest_ledgers", text, processed - oldest
    yield "transactions_live", "Signed transactions that may still be validated.", len(of.mirror.live)


# --- by label --------------------------------------------------------------------------------------------------------


def _channels(of: Daemon) -> Iterator[_Set]:
    states = _by_pool(of, issuing=lambda t: t.issuing, stopped=lambda t: t.channels - t.issuing)
    drops = _by_pool(
        of,
        capacity=lambda t: t.capacity,
        authorized=lambda t: t.capacity - t.remaining + t.unredeemed,
        unredeemed=lambda t: t.unredeemed,
        headroom=lambda t: t.remaining - t.unredeemed,
    )
    yield "channels", "Live channels.", ("pool", "state"), states
    yield "channel_drops", "Drops in live channels, by what they are.", ("pool", "kind"), drops


def _by_pool(of: Daemon, **read: Callable[[PoolTotals], int]) -> _Values:
    """One value for every pool and every reading of its totals."""
    pools = {pool or "quarantine": totals for pool, totals in of.mirror.sums.pools.items()}
    return {(pool, name): value(totals) for pool, totals in pools.items() for name, value in read.items()}


def _wallets(of: Daemon) -> Iterator[_Set]:
    """Of each wallet, and what is held back of its work."""
    wallets, one = of.mirror.wallets, ("wallet",)
    balances: _Values = {(name,): wallet.account.balance for name, wallet in wallets.items() if wallet.account}
    differences: _Values = {(name,): wallet.difference for name, wallet in wallets.items()}
    frozen: _Values = {(name,): of.mirror.halted(name) is not None for name in wallets}
    dear: _Values = {(why.value,): count for why, count in of.executor.prices.waiting.items()}
    text = "By how much the ledger, read whole, was off from what was believed."
    held_back = "Who waits for a person to look at what was asked for."
    yield "wallet_balance_drops", "Balance of an account of ours, reserve included.", one, balances
    yield "wallet_frozen", "Whether nothing may be issued for a wallet.", one, frozen
    yield "reconcile_difference_drops", text, one, differences
    yield "held_back", held_back, ("kind",), held.counts(of.mirror)
    yield "transactions_waiting", "Transactions not signed for what they would cost now.", ("code",), dear
