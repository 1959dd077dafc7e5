"""Carry an intent to its end: sign, persist, submit, and submit again until a validated ledger has judged it.

A transaction is on disk before it is first sent. While it is undecided the identical blob is sent again with every
ledger, never a second one. Once it is proven dead its number is free, and the next transaction takes the lowest free
number, so that a replacement and what it replaces can never both happen. Answers of nodes end nothing (`core.results`),
so nobody waits for them: what is signed is handed over at once, however slow the node is with the ones before.

There is no recovery code: after a crash the journal holds what was planned and what was signed, and this goes on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Final

import structlog

from channeld.core.channel import Channel
from channeld.core.errors import BadValue, LedgerError, Unreachable
from channeld.core.fees import Urgency, life
from channeld.core.intents import (
    Claim,
    Create,
    Kind,
    MakeTickets,
    Noop,
    Number,
    OpenChannel,
    Redeem,
    RedeemChannel,
    Status,
    Transaction,
    transaction_for,
)
from channeld.core.ledger import LedgerHeader
from channeld.core.receiving import redemption
from channeld.core.records import JournalEntry, LiveTransaction
from channeld.core.units import ChannelId, Drops, LedgerIndex
from channeld.service.courier import Courier
from channeld.service.holdings import ChannelState, Wallet
from channeld.service.mirror import Mirror
from channeld.service.numbers import FILLER, TICKETS, Numbers, kind_of, tickets_to_make
from channeld.service.ports import NodeSession, Store, Telemetry, TransactionSigner
from channeld.service.prices import Prices
from channeld.service.reconciler import Reconciler
from channeld.service.steps import UNWATCHED, Step, Steps

log = structlog.get_logger()

_GIVES_WAY: Final = frozenset({Kind.FUND, Kind.REQUEST_CLOSE})
"""Kinds on a channel that a freeze holds back; a channel has one open intent, so nothing else is decided meanwhile."""
_BATCH: Final = 16
"""Transactions signed and committed together: some 8 ms, after which claims get their turn."""
_LOOKED_AT: Final = 256
"""Planned intents looked through in one turn of the loop."""


class Executor:
    """One for all wallets. `new_channel_id` tells the id that a Create under a number gives its channel."""

    def __init__(
        self,
        mirror: Mirror,
        store: Store,
        signer: TransactionSigner,
        new_channel_id: Callable[[str, OpenChannel, int], ChannelId],
        telemetry: Telemetry,
        *,
        reconciler: Reconciler,
        steps: Steps = UNWATCHED,
    ) -> None:
        self._mirror, self._store, self._signer, self._reconciler = mirror, store, signer, reconciler
        self._new_channel_id, self._steps = new_channel_id, steps
        self.courier = Courier(mirror, telemetry, steps)
        self._wake = asyncio.Event()
        self._session: NodeSession | None = None
        self._resend = False
        self._swept: dict[str, LedgerIndex] = {}
        self.prices = Prices(mirror)

    def wake(self) -> None:
        """Something was planned."""
        self._wake.set()

    def connected(self, session: NodeSession | None) -> None:
        """A node that is in sync is there, or gone."""
        self._session, self._resend = session, session is not None
        self._swept.clear()
        self._wake.set()

    def ledger(self) -> None:
        """A ledger was processed: what is still undecided is sent again."""
        self._resend = True
        self._wake.set()

    async def run(self) -> None:
        """Until cancelled.

        A node that fails is left to whoever follows it; a store that fails ends this with `StoreError`.
        """
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                session = self._session
                if session is None or self._mirror.header is None or self._mirror.frozen.get("store"):
                    continue
                try:
                    await self.round(session)
                except (Unreachable, LedgerError) as error:
                    log.warning("submit_postponed", reason=str(error))
        finally:
            self.courier.stop()

    async def round(self, session: NodeSession) -> None:
        """Send again what is undecided, then sign and send what is planned, wallet by wallet.

        Raises `Unreachable` where the node is gone, `StoreError` for the store.
        """
        if self._resend:
            self._resend = False
            self.courier.resend(session)
        self.prices.begin()
        if self._mirror.policy.asks_for_fees:
            await self.prices.ask(session, self.courier.on_trouble)
        for wallet in self._mirror.wallets.values():
            self._let_go(wallet)
            await self._sweep(wallet)
            while wallet.account is not None and self._has_work(wallet):
                await self.prices.ask(session, self.courier.on_trouble)
                batch = self._batch(wallet)
                if not batch:
                    break
                self._persist(batch)
                for live in batch:
                    self.courier.send(session, live)
                await asyncio.sleep(0)
        self.prices.tell()

    # --- what to sign next -------------------------------------------------------------------------------------------

    def _has_work(self, wallet: Wallet) -> bool:
        """Whether something may be there to sign; moot intents are closed on the way."""
        for entry in self._planned(wallet):
            if self._transaction(wallet, entry) is not None:
                return True
            self._moot(entry)
        return Numbers(self._mirror, wallet).take_gap() is not None or self._tickets_due(wallet) > 0

    def _tickets_due(self, wallet: Wallet) -> int:
        """How many tickets to make now: none where no budget is left for that, nor from the purse for deadlines."""
        count = tickets_to_make(self._mirror, wallet)
        return self._reconciler.planner.spending.tickets(wallet.name, count) if count else 0

    def _batch(self, wallet: Wallet) -> list[LiveTransaction]:
        """Sign the next few transactions of a wallet, as far as it has numbers for them and they are not too dear."""
        numbers = Numbers(self._mirror, wallet)
        batch: list[LiveTransaction] = []
        dear = 0
        for entry, transaction in self._work(wallet):
            kind = _kind(entry, transaction)
            if (offered := self.prices.offer(self._urgency(entry, transaction))) is None:
                if isinstance(transaction, Noop):
                    break
                dear += 1
                continue
            with self._steps(Step.NUMBER_RESERVED, kind):
                number = self._number(numbers, transaction)
            if number is None and isinstance(transaction, MakeTickets):
                continue  # a gap below goes first
            if number is None:
                break
            try:
                with self._steps(Step.SIGNED, kind):
                    batch.append(self._sign(wallet, entry, transaction, number, offered))
            except BadValue as error:
                numbers.give_back(number)
                self._unsignable(entry, str(error))
            if len(batch) == _BATCH:
                break
        self.prices.hold(wallet.name, dear)
        return batch

    def _work(self, wallet: Wallet) -> Iterator[tuple[JournalEntry | None, Transaction]]:
        """What a wallet has to sign, in order: intents, then new tickets, then fillers for gaps that hold others up."""
        for entry in self._planned(wallet):
            transaction = self._transaction(wallet, entry)
            if transaction is not None:
                yield (entry, transaction)
        if count := self._tickets_due(wallet):
            yield (None, MakeTickets(count))
        while True:
            yield (None, Noop())

    def _number(self, numbers: Numbers, transaction: Transaction) -> Number | None:
        if isinstance(transaction, Noop):
            return numbers.take_gap()
        if isinstance(transaction, MakeTickets):
            return numbers.take_highest()
        return numbers.take(by_ticket=isinstance(transaction, Create))

    def _planned(self, wallet: Wallet) -> Iterator[JournalEntry]:
        return (e for e in self._mirror.backlog.of(wallet.name) if not self._mirror.holds_back(e.action))

    def _let_go(self, wallet: Wallet) -> None:
        """What a freeze keeps from being signed must not stand in the way of a payout on the same channel."""
        if self._mirror.halted(wallet.name):
            for entry in self._mirror.backlog.of(wallet.name):
                if entry.action.kind in _GIVES_WAY and self._mirror.holds_back(entry.action):
                    self._moot(entry, "frozen")

    async def _sweep(self, wallet: Wallet) -> None:
        """Close, once with every ledger, what has nothing left to do, and what stands in the way of deadline work:
        what is planned may wait for its price or a number for ever, and one that waits must not hide the next.
        """
        index = self._header().index
        if self._swept.get(wallet.name) == index:
            return
        self._swept[wallet.name] = index
        for count, entry in enumerate(self._planned(wallet), 1):
            if self._in_the_way(entry):
                self._moot(entry, "gives way to what is owed before the end")
            elif self._transaction(wallet, entry) is None:
                self._moot(entry)
            elif count % _LOOKED_AT:
                continue
            await asyncio.sleep(0)

    def _in_the_way(self, entry: JournalEntry) -> bool:
        """Whether a payout that has a deadline is not decided because of it: a channel has one open intent.

        What is decided in its place is deadline work itself, so nothing gives way twice.
        """
        state = self._channel(entry)
        pool = self._mirror.policy.pools.get(state.record.pool) if state else None
        if state is None or pool is None or entry.intent.deadline:
            return False
        now = self._header().close_time
        return state.record.channel.forfeits(state.record.authorized, pool.life_margin, now)

    def _channel(self, entry: JournalEntry) -> ChannelState | None:
        action = entry.action
        return None if isinstance(action, OpenChannel) else self._mirror.channels.get(action.channel_id)

    def _transaction(self, wallet: Wallet, entry: JournalEntry) -> Transaction | None:
        if isinstance(entry.action, RedeemChannel):
            held = self._mirror.vault.channels.get(entry.action.channel_id)
            return redemption(held, self._mirror.policy.receive, self._header().close_time)
        state = self._channel(entry)
        channel, authorized = (state.record.channel, state.record.authorized) if state else (None, 0)
        refused = state is not None and state.refused
        now = self._header().close_time
        return transaction_for(
            entry.action, channel, authorized, claim_key=wallet.claim_key, close_time=now, refused=refused
        )

    def _moot(self, entry: JournalEntry, why: str = "overtaken") -> None:
        """Nothing is left to do for it; what its subject needs now is decided with the next ledger."""
        with self._steps(Step.MOOTED, entry.action.kind.value):
            self._store.set_intent(entry.number, Status.MOOT, why)
        self._reconciler.planner.urge(self._mirror.close_entry(entry))

    def _unsignable(self, entry: JournalEntry | None, why: str) -> None:
        log.error("unsignable", intent=entry.number if entry else None, reason=why)
        if entry is not None:
            self._reconciler.fail(entry, why[:200])

    def _header(self) -> LedgerHeader:
        assert self._mirror.header is not None
        return self._mirror.header

    # --- sign and persist --------------------------------------------------------------------------------------------

    def _sign(
        self, wallet: Wallet, entry: JournalEntry | None, transaction: Transaction, number: Number, offered: Drops
    ) -> LiveTransaction:
        """Sign under a reserved number. Raises `BadValue` where it cannot be signed."""
        header = self._header()
        last = LedgerIndex(header.index + life(self._urgency(entry, transaction)))
        signed = self._signer(wallet.name, transaction, number, offered, last)
        channel_id = entry.channel_id if entry else None
        if entry is not None and isinstance(entry.action, OpenChannel):
            channel_id = self._new_channel_id(wallet.address, entry.action, number.value)
        head = (entry.number if entry else None, wallet.name, wallet.address, number.value, offered)
        life_span = (LedgerIndex(header.index + 1), last)
        makes = transaction.count if isinstance(transaction, MakeTickets) else 0
        return LiveTransaction(*head, *life_span, signed.hash, signed.blob, channel_id, number.ticket, makes)

    def _urgency(self, entry: JournalEntry | None, transaction: Transaction) -> Urgency:
        """A payout on a channel that ends is urgent; one that the payee refuses is not worth more than the usual."""
        tried = entry.attempts if entry else 0
        if isinstance(transaction, Redeem):
            held = self._mirror.vault.channels[transaction.channel_id]
            return replace(self._before(held.channel, tried), stake=held.collectable)
        state = self._channel(entry) if entry else None
        pays = isinstance(transaction, Claim) and transaction.balance is not None
        if state is None or not pays or state.refused or state.record.channel.deadline is None:
            return Urgency(tried)
        return self._before(state.record.channel, tried)

    def _before(self, channel: Channel, tried: int) -> Urgency:
        """How pressing a payout is: what counts is the channel's deadline."""
        if channel.deadline is None:
            return Urgency(tried)
        left_s = max(0, channel.deadline - self._header().close_time)
        return Urgency(tried, int(left_s / max(self._mirror.interval_s, 0.001)))

    def _persist(self, batch: list[LiveTransaction]) -> None:
        """Write down what was signed, before any of it is sent."""
        mirror = self._mirror
        first = mirror.journal[batch[0].intent] if batch[0].intent is not None else None
        with self._steps(Step.PERSISTED, kind_of(batch[0], first)):
            self._store.signed(batch)
        for live in batch:
            mirror.signed(live)


def _kind(entry: JournalEntry | None, transaction: Transaction) -> str:
    if entry is not None:
        return entry.action.kind.value
    return TICKETS if isinstance(transaction, MakeTickets) else FILLER
