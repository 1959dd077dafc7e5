"""The node: its closed ledgers, its open ledger, and how transactions get from the one into the other.

Everything here is synchronous: the server calls it and carries its events to subscribers.

Sources: rippled NetworkOPs.cpp processTransaction, apply; OpenLedger.cpp accept; RCLConsensus.cpp doAccept (2.3.0).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from channeld.core.units import MAX_DROPS
from channeld.sandbox.ledger import amendments, closing, genesis, pipeline
from channeld.sandbox.ledger.codec import Transaction
from channeld.sandbox.ledger.faults import Faults
from channeld.sandbox.ledger.headers import Header, next_header, rounded_close_time
from channeld.sandbox.ledger.history import History, Record
from channeld.sandbox.ledger.locals import Held, LocalTransactions
from channeld.sandbox.ledger.queue import BASE_LEVEL, Candidate, TxQueue, fee_level, required_level
from channeld.sandbox.ledger.results import Reject, is_claimed, require
from channeld.sandbox.ledger.settings import Clock, Settings
from channeld.sandbox.ledger.state import State
from channeld.sandbox.ledger.transact import read_account
from channeld.sandbox.ledger.view import LedgerContext, Overlay

_MOST_BAD: Final = 65_536
_BAD_FOR_S: Final = 300.0
"""How long the hash of a malformed transaction is remembered as bad."""


@dataclass(frozen=True)
class Submitted:
    """The answer to a submission. The three at the end are None where the node did not get that far."""

    result: str
    applied: bool = False
    broadcast: bool = False
    queued: bool = False
    kept: bool = False
    sequence_next: int | None = None
    sequence_available: int | None = None
    open_ledger_cost: int | None = None


@dataclass(frozen=True)
class Closed:
    """A ledger that was just closed, with its transactions in order."""

    header: Header
    records: list[Record]


class OpenLedger:
    """The ledger in the making: provisional changes, and the transactions that made them."""

    def __init__(self, state: State, context: LedgerContext) -> None:
        self.view = Overlay(state, context)
        self.transactions: dict[str, Transaction] = {}

    @property
    def index(self) -> int:
        """The number it will have."""
        return self.view.context.index


class Node:
    """One XRP Ledger in standalone mode. Start it with `bootstrap` or by loading a saved state."""

    def __init__(self, settings: Settings, clock: Clock | None = None, faults: Faults | None = None) -> None:
        self.settings, self.clock, self.faults = settings, clock or Clock(), faults or Faults()
        self.rules = amendments.rules_from(settings.amendments)
        self.state, self.history = State(), History()
        self.headers: dict[int, Header] = {}
        self.by_hash: dict[str, int] = {}
        self.queue, self.held, self.kept = TxQueue(settings.capacity), Held(), LocalTransactions()
        self._bad: dict[str, float] = {}
        self.on_proposed: Callable[[Transaction, str, int], None] = lambda _tx, _result, _index: None
        self.open: OpenLedger

    # -- ledgers -------------------------------------------------------------------------------------------------

    @property
    def validated(self) -> Header:
        """The newest closed ledger; standalone, a closed ledger is validated at once."""
        return self.headers[self.state.newest]

    @property
    def first_index(self) -> int:
        """The oldest closed ledger this node can name: 2, as the genesis ledger itself is not stored."""
        return next(iter(self.headers))

    def bootstrap(self) -> None:
        """Make the genesis ledger and its successor, as `rippled -a --start` does."""
        self.state.commit(1, genesis.first_objects())
        first = next_header(None, 0, MAX_DROPS, self.state.digest(), [])
        self.state.commit(2, genesis.singletons(self.rules, self.settings.fees))
        close_time = rounded_close_time(self.clock.now(), 0)
        self._adopt(next_header(first, close_time, MAX_DROPS, self.state.digest(), []))
        self.open_next([])

    def _adopt(self, header: Header) -> None:
        self.headers[header.index] = header
        self.by_hash[header.hash] = header.index

    def _context(self, is_open: bool) -> LedgerContext:
        parent, settings = self.validated, self.settings
        return LedgerContext(
            parent.index + 1, parent.close_time, is_open, settings.fees, self.rules, settings.network_id
        )

    def close(self) -> Closed:
        """Close the open ledger and open the next one."""
        for tx in self.held.drain():
            self._offer(tx)
        submitted = list(self.open.transactions.values())
        taken = [tx for tx in submitted if not self.faults.holds_back(tx, self.open.index)]
        ordered = closing.adverse(taken) if self.faults.take("reorder") else closing.canonical(taken)
        ledger = Overlay(self.state, self._context(is_open=False))
        built = closing.apply_all(ledger, ordered)
        close_time = rounded_close_time(self.clock.now(), self.validated.close_time)
        coins = self.validated.total_coins - ledger.burned
        parent = self.validated
        self.state.commit(ledger.context.index, ledger.changes)
        entries = [(tx.hash, result) for tx, result, _ in built.entries]
        header = next_header(parent, close_time, coins, self.state.digest(), entries)
        self._adopt(header)
        records = [
            Record(tx, result, meta, header.index, place, header.close_time)
            for place, (tx, result, meta) in enumerate(built.entries)
        ]
        self._settle(records)
        settled = {tx.hash for tx in taken} - {tx.hash for tx in built.left}
        self.open_next([tx for tx in submitted if tx.hash not in settled])
        self.kept.sweep(self.state, header.index)
        return Closed(header, records)

    def _settle(self, records: list[Record]) -> None:
        self.history.add(records)
        for record in records:
            self.kept.forget(record.tx.hash)
            candidate = self.queue.holds(record.tx)
            if candidate is not None:
                self.queue.remove(candidate)
        self.queue.expire(self.state.newest)

    def open_next(self, left: list[Transaction]) -> None:
        """Open the ledger after the newest closed one: what was left over, then the queue, then what is kept."""
        self.open = OpenLedger(self.state, self._context(is_open=True))
        for tx in left:
            self._apply_open(tx)
        self._drain_queue()
        for tx in self.kept.all():
            if tx.hash not in self.open.transactions and not self._is_queued(tx):
                self._offer(tx)

    def _is_queued(self, tx: Transaction) -> bool:
        candidate = self.queue.holds(tx)
        return candidate is not None and candidate.tx.hash == tx.hash

    def _drain_queue(self) -> None:
        """Move queued transactions into the open ledger while they pay its level. Sources: rippled TxQ.cpp accept."""
        for candidate in self.queue.candidates():
            for mine in self.queue.of(candidate.tx.account):
                if not self._enter(mine):
                    break

    def _enter(self, candidate: Candidate) -> bool:
        if candidate.not_before > self.open.index:
            return False
        if candidate.level < required_level(len(self.open.transactions), self.queue.capacity):
            return False
        outcome = self._apply_open(candidate.tx)
        candidate.retries -= 1
        if outcome.applied or outcome.result.startswith(("tef", "tem")) or candidate.retries <= 0:
            self.queue.remove(candidate)
        return outcome.applied

    # -- submissions ---------------------------------------------------------------------------------------------

    def submit(self, tx: Transaction, fail_hard: bool = False) -> Submitted:
        """Take a transaction whose signature was checked; the result is provisional."""
        if self._is_bad(tx.hash):
            return Submitted("temBAD_SIGNATURE")
        self.history.note(tx)
        self.faults.mark(tx)
        outcome = self._offer(tx, self.faults.queue_delay(), fail_hard)
        if outcome.result.startswith("tem"):
            self._remember_bad(tx.hash)
        if outcome.applied:
            self.on_proposed(tx, outcome.result, self.open.index)
            self._follow(tx)
        queued = outcome.result == "terQUEUED"
        hard = fail_hard and outcome.result != "tesSUCCESS"
        if outcome.result.startswith("ter") and not queued and not fail_hard:
            self.held.add(tx)
        if not hard:
            self.kept.add(tx, self.open.index)
        relayed = (outcome.applied or queued) and not hard
        return self._answer(tx, Submitted(outcome.result, outcome.applied, relayed, queued, kept=not hard or queued))

    def _answer(self, tx: Transaction, submitted: Submitted) -> Submitted:
        root = read_account(self.open.view, tx.account)
        following = root["Sequence"] if root else 0
        base = pipeline.base_fee(self.open.view, self.open.view.context, tx)
        level = required_level(len(self.open.transactions), self.queue.capacity)
        return Submitted(
            submitted.result,
            submitted.applied,
            submitted.broadcast,
            submitted.queued,
            submitted.kept,
            sequence_next=following,
            sequence_available=self.queue.next_sequence(tx.account, following),
            open_ledger_cost=level * base // BASE_LEVEL,
        )

    def _remember_bad(self, tx_hash: str) -> None:
        self._bad[tx_hash] = time.monotonic() + _BAD_FOR_S
        if len(self._bad) > _MOST_BAD:
            del self._bad[next(iter(self._bad))]

    def _is_bad(self, tx_hash: str) -> bool:
        until = self._bad.get(tx_hash)
        if until is not None and until < time.monotonic():
            del self._bad[tx_hash]
            until = None
        return until is not None

    def _follow(self, tx: Transaction) -> None:
        """Apply held transactions whose turn came with this one."""
        following = self.held.pop_successor(tx)
        while following is not None:
            outcome = self._offer(following)
            if not outcome.applied:
                return
            self.on_proposed(following, outcome.result, self.open.index)
            following = self.held.pop_successor(following)

    def _apply_open(self, tx: Transaction, fail_hard: bool = False) -> pipeline.Outcome:
        outcome = pipeline.apply(self.open.view, tx, len(self.open.transactions), fail_hard=fail_hard)
        if outcome.applied:
            self.open.transactions[tx.hash] = tx
        return outcome

    def _offer(self, tx: Transaction, forced: int = 0, fail_hard: bool = False) -> pipeline.Outcome:
        """Into the open ledger if it pays for it and it is its turn, else into the queue if it may wait there.

        `forced` (a fault) queues it whatever it pays, for so many ledgers.

        Sources: rippled TxQ.cpp apply, tryDirectApply.
        """
        view = self.open.view
        root = read_account(view, tx.account)
        level = fee_level(tx.fee, pipeline.base_fee(view, view.context, tx))
        its_turn = root is None or tx.ticket is not None or tx.sequence == root["Sequence"]
        required = required_level(len(self.open.transactions), self.queue.capacity)
        enough = level >= required or level < BASE_LEVEL  # below the ordinary fee nothing waits: telINSUF_FEE_P
        if forced == 0 and (root is None or (its_turn and enough)):
            outcome = self._apply_open(tx, fail_hard)
            if outcome.applied and (rival := self.queue.holds(tx)) is not None:
                self.queue.remove(rival)
            return outcome
        try:
            self._wait(tx, level, self.open.index + forced, fail_hard)
        except Reject as reject:
            return pipeline.Outcome(reject.result, applied=False)
        return pipeline.Outcome("terQUEUED", applied=False)

    def _wait(self, tx: Transaction, level: int, not_before: int, fail_hard: bool) -> None:
        """Put a transaction into the queue. Raises `Reject` if it may not wait there."""
        view = self.open.view
        pipeline.preflight(tx, view.context)
        root = read_account(view, tx.account)
        if root is None:
            raise Reject("terNO_ACCOUNT")
        ahead = tx.ticket is None and tx.sequence > root["Sequence"]
        if not (ahead and self.queue.of(tx.account)):
            pipeline.check_sequence(view, tx)
        require(not fail_hard, "telCAN_NOT_QUEUE")
        self.queue.check(tx, level, root, view.context)
        try:
            pipeline.preclaim(view, view.context, tx, in_sequence=False)
        except Reject as reject:
            if not is_claimed(reject.result):
                raise
        self.queue.add(Candidate(tx, level, not_before))
