"""Carry an intent to its end: sign, persist, submit, and submit again until a validated ledger has judged it.

A transaction is on disk before it is first sent. While it is undecided the identical blob is sent again with every
ledger, never a second one. Once it is proven dead its number is free, and the next transaction takes the lowest free
number, so that a replacement and what it replaces can never both happen. Answers of nodes end nothing (`core.results`),
so nobody waits for them: what is signed is handed over at once, however slow the node is with the ones before.

There is no recovery code: after a crash the journal holds what was planned and what was signed, and this goes on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from itertools import chain, islice
from typing import Final

import structlog

from channeld.core.errors import BadValue, LedgerError, Unreachable
from channeld.core.fees import life
from channeld.core.intents import Create, Kind, MakeTickets, Noop, Number, OpenChannel, Status, Transaction
from channeld.core.ledger import LedgerHeader
from channeld.core.records import JournalEntry, LiveTransaction
from channeld.core.units import ChannelId, Drops, LedgerIndex
from channeld.service.courier import Courier
from channeld.service.frozen import STORE
from channeld.service.holdings import Wallet
from channeld.service.mirror import Mirror
from channeld.service.numbers import FILLER, TICKETS, Numbers, kind_of
from channeld.service.ports import NodeSession, Store, Telemetry, TransactionSigner
from channeld.service.prices import Prices
from channeld.service.reconciler import Reconciler
from channeld.service.steps import UNWATCHED, Step, Steps
from channeld.service.workload import Workload

log = structlog.get_logger()

_GIVES_WAY: Final = frozenset({Kind.FUND, Kind.REQUEST_CLOSE})
"""Kinds on a channel that a freeze holds back; a channel has one open intent, so nothing else is decided meanwhile."""
_BATCH: Final = 4
"""Transactions signed and committed together: some 4 ms, after which claims get their turn."""
_LOOKED_AT: Final = 256
"""Planned intents looked through in one turn of the loop."""
_SWEPT: Final = 4096
"""Planned intents looked through with every ledger, beside those whose channels it has changed."""
_TOO_DEAR: Final = 512
"""Transactions passed over for what they cost in one turn of the loop: some 3 ms."""
_TURNS: Final = 8
"""Such turns in a round."""


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
        self._workload = Workload(mirror, reconciler.planner.spending)
        self.courier.presses = self._workload.presses
        self._swept: dict[str, LedgerIndex] = {}
        self._swept_to: dict[str, JournalEntry | None] = {}
        self._passed: dict[str, JournalEntry | None] = {}
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
                if session is None or self._mirror.header is None or self._mirror.frozen.get(STORE):
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
            await self._let_go(wallet)
            await self._sweep(wallet)
            turns = 0
            while turns < _TURNS and wallet.account is not None and await self._has_work(wallet):
                await self.prices.ask(session, self.courier.on_trouble)
                batch = self._batch(wallet, self.courier.stands_at(session))
                if batch:
                    self._persist(batch)
                elif not self._passed[wallet.name]:
                    break
                turns += not batch
                for live in batch:
                    self.courier.send(session, live)
                await asyncio.sleep(0)
        self.prices.tell()

    # --- what to sign next -------------------------------------------------------------------------------------------

    async def _has_work(self, wallet: Wallet) -> bool:
        """Whether something may be there to sign; moot intents are closed on the way, each in a turn of its own."""
        for entry in self._workload.planned(wallet):
            if self._workload.transaction(wallet, entry) is not None:
                return True
            self._moot(entry)
            await asyncio.sleep(0)
        return Numbers(self._mirror, wallet).take_gap() is not None or self._workload.tickets_due(wallet) > 0

    def _batch(self, wallet: Wallet, at: LedgerIndex) -> list[LiveTransaction]:
        """Sign the next few transactions of a wallet, as far as it has numbers for them and they are not too dear.

        They live from the ledger `at`, which may be later than the one that is processed: else what has four ledgers
        would be dead before anybody has it, where enough nodes agree on a ledger only after that.
        Where very many are, some are passed over, and the next batch goes on behind them: see `_passed`.
        """
        numbers, means = Numbers(self._mirror, wallet), self._workload.means(wallet)
        batch: list[LiveTransaction] = []
        dear, after = 0, self._passed.get(wallet.name)
        self._passed[wallet.name] = None
        for entry, transaction in self._workload.of(wallet, after):
            kind, urgency = _kind(entry, transaction), self._workload.urgency(entry, transaction)
            stake = self._workload.pressing_stake(entry)
            room = means.left if stake is None else means.room(stake)
            offered, most = self.prices.offer(urgency, room), min(room, self._workload.most(urgency))
            if offered is None and not isinstance(transaction, Noop):
                dear += 1
                if stake is not None:
                    means.took(stake, max(0, most))  # it is kept for it
                elif entry is not None and dear >= _TOO_DEAR:
                    self._passed[wallet.name] = entry
                    break
                continue
            with self._steps(Step.NUMBER_RESERVED, kind):
                number = self._number(numbers, transaction)
            if number is None and isinstance(transaction, MakeTickets):
                continue  # a gap below goes first
            if number is None:
                break
            if (due := self._due(wallet, number, offered, most)) is None:
                numbers.give_back(number)
                dear += entry is not None
                break
            try:
                with self._steps(Step.SIGNED, kind):
                    batch.append(self._sign(wallet, entry, transaction, number, due, at=at))
                means.took(stake or 0, due)
            except BadValue as error:
                numbers.give_back(number)
                self._unsignable(entry, str(error))
            if len(batch) == _BATCH:
                break
        if dear and (after or self._passed[wallet.name]):  # who was not looked at waits as well
            dear = self._mirror.backlog.count(wallet.name) - len(batch)
        self.prices.hold(wallet.name, dear)
        return batch

    def _due(self, wallet: Wallet, number: Number, offered: Drops | None, most: int) -> Drops | None:
        """Drops to offer under a number: enough not to hold up deadline work that is under way above it.

        None: that may be more than `most`, or would not be taken either. Then nothing is signed under it now: what is
        under way ends within a few ledgers, and goes first where the number is then.
        """
        outdone = self._workload.outdone(wallet, number)
        if offered is None or offered >= outdone:
            return offered
        return outdone if outdone <= most and not self.prices.refuses(outdone) else None

    def _number(self, numbers: Numbers, transaction: Transaction) -> Number | None:
        if isinstance(transaction, Noop):
            return numbers.take_gap()
        if isinstance(transaction, MakeTickets):
            return numbers.take_highest()
        return numbers.take(by_ticket=isinstance(transaction, Create))

    async def _let_go(self, wallet: Wallet) -> None:
        """What a freeze keeps from being signed must not stand in the way of a payout on the same channel."""
        if self._mirror.halted(wallet.name):
            for entry in self._mirror.backlog.of(wallet.name):
                if entry.action.kind in _GIVES_WAY and self._mirror.holds_back(entry.action):
                    self._moot(entry, "frozen")
                    await asyncio.sleep(0)

    async def _sweep(self, wallet: Wallet) -> None:
        """Close, with every ledger, what has nothing left to do, and what stands in the way of deadline work: what is
        planned may wait for its price or a number for ever, and one that waits must not hide the next. What has come to
        press goes to the front.

        What a ledger has changed is looked at with that ledger; the rest in turn, for only the passing of time can have
        changed that.
        """
        index, backlog = self._header().index, self._mirror.backlog
        if self._swept.get(wallet.name) == index:
            return
        self._swept[wallet.name] = index
        await self._look_at(wallet, backlog.touched(wallet.name))
        line = chain(backlog.of(wallet.name, self._swept_to.get(wallet.name)), backlog.of(wallet.name))
        in_turn = islice(line, min(_SWEPT, backlog.count(wallet.name)))
        self._swept_to[wallet.name] = await self._look_at(wallet, in_turn)

    async def _look_at(self, wallet: Wallet, entries: Iterable[JournalEntry]) -> JournalEntry | None:
        """Close those of them that give way or are moot, and put the others where they belong; the last of them."""
        entry = None
        for count, entry in enumerate(entries, 1):
            if self._mirror.holds_back(entry.action):
                closed = False
            elif closed := self._workload.in_the_way(entry):
                self._moot(entry, "gives way to what is owed before the end")
            elif closed := self._workload.transaction(wallet, entry) is None:
                self._moot(entry)
            if not closed:
                self._mirror.backlog.put_right(entry)
            if closed or not count % _LOOKED_AT:
                await asyncio.sleep(0)
        return entry

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
        self,
        wallet: Wallet,
        entry: JournalEntry | None,
        transaction: Transaction,
        number: Number,
        offered: Drops,
        *,
        at: LedgerIndex,
    ) -> LiveTransaction:
        """Sign under a reserved number. Raises `BadValue` where it cannot be signed."""
        last = LedgerIndex(at + life(self._workload.urgency(entry, transaction)))
        signed = self._signer(wallet.name, transaction, number, offered, last)
        channel_id = entry.channel_id if entry else None
        if entry is not None and isinstance(entry.action, OpenChannel):
            channel_id = self._new_channel_id(wallet.address, entry.action, number.value)
        head = (entry.number if entry else None, wallet.name, wallet.address, number.value, offered)
        life_span = (LedgerIndex(self._header().index + 1), last)
        makes = transaction.count if isinstance(transaction, MakeTickets) else 0
        return LiveTransaction(*head, *life_span, signed.hash, signed.blob, channel_id, number.ticket, makes)

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
