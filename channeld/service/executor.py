"""Carry an intent to its end: sign, persist, submit, and submit again until a validated ledger has judged it.

A transaction is on disk before it is first sent. While it is undecided the identical blob is sent again with every
ledger, never a second one. Once it is proven dead its number is free, and the next transaction takes the lowest free
number, so that a replacement and what it replaces can never both happen.

There is no recovery code: after a crash the journal holds what was planned and what was signed, and this goes on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from channeld.core.errors import BadValue, LedgerError, Unreachable
from channeld.core.intents import Kind, Noop, OpenChannel, Status, Transaction, transaction_for
from channeld.core.ledger import LedgerHeader
from channeld.core.records import JournalEntry, LiveTransaction
from channeld.core.units import ChannelId, Drops, LedgerIndex
from channeld.service.mirror import Mirror, Wallet, tx_key
from channeld.service.ports import NodeSession, Store, Telemetry, TransactionSigner

log = structlog.get_logger()

_URGENT = {Kind.SETTLE: 1, Kind.REQUEST_CLOSE: 1, Kind.OPEN: 0, Kind.FUND: 0, Kind.FINALIZE_CLOSE: 2}
"""Who goes first where numbers are short: readers wait for opens and funds, nobody waits for a finalize."""


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
        ledgers_to_live: int = 12,
        most_in_flight: int = 40,
    ) -> None:
        self._mirror, self._store, self._signer, self._telemetry = mirror, store, signer, telemetry
        self._new_channel_id = new_channel_id
        self._ledgers_to_live, self._most_in_flight = ledgers_to_live, most_in_flight
        self._wake = asyncio.Event()
        self._session: NodeSession | None = None
        self._resend = False
        self._attempts: dict[int, int] = {}

    def wake(self) -> None:
        """Something was planned."""
        self._wake.set()

    def connected(self, session: NodeSession | None) -> None:
        """A node that is in sync is there, or gone."""
        self._session, self._resend = session, session is not None
        self._wake.set()

    def ledger(self) -> None:
        """A ledger was processed: what is still undecided is sent again."""
        self._resend = True
        self._wake.set()

    async def run(self) -> None:
        """Until cancelled.

        A node that fails is left to whoever follows it; a store that fails ends this with `StoreError`.
        """
        while True:
            await self._wake.wait()
            self._wake.clear()
            session = self._session
            if session is None or self._mirror.header is None or self._mirror.frozen.get("store"):
                continue
            try:
                await self._round(session)
            except (Unreachable, LedgerError) as error:
                log.warning("submit_postponed", reason=str(error))

    async def _round(self, session: NodeSession) -> None:
        if self._resend:
            self._resend = False
            for live in sorted(self._mirror.live.values(), key=lambda t: t.number):
                await self._submit(session, live)
        fee: Drops | None = None
        for wallet in self._mirror.wallets.values():
            while (step := self._next(wallet)) is not None:
                fee = await session.open_fee() if fee is None else fee
                signed = self._sign(wallet, step, fee)
                if signed is not None:
                    await self._submit(session, signed)

    # --- what to sign next -------------------------------------------------------------------------------------------

    def _next(self, wallet: Wallet) -> tuple[JournalEntry | None, Transaction] | None:
        """The next transaction for a wallet, if it may have one more in flight; closes what became moot on the way."""
        mine = [tx.number for tx in self._mirror.live.values() if tx.wallet == wallet.name]
        if wallet.account is None or len(mine) >= self._most_in_flight:
            return None
        for entry in self._planned(wallet):
            transaction = self._transaction(wallet, entry)
            if transaction is not None:
                return (entry, transaction)
            self._moot(entry)
        blocked = mine and self._number(wallet) < max(mine)
        return (None, Noop()) if blocked else None

    def _planned(self, wallet: Wallet) -> list[JournalEntry]:
        planned = [
            e
            for e in self._mirror.journal.values()
            if e.status is Status.PLANNED and e.action.wallet == wallet.name and not self._mirror.holds_back(e.action)
        ]
        return sorted(planned, key=lambda e: (_URGENT[e.action.kind], e.number))

    def _transaction(self, wallet: Wallet, entry: JournalEntry) -> Transaction | None:
        header = self._header()
        state = None if isinstance(entry.action, OpenChannel) else self._mirror.channels.get(entry.action.channel_id)
        channel, authorized = (state.record.channel, state.record.authorized) if state else (None, 0)
        return transaction_for(
            entry.action, channel, authorized, claim_key=wallet.claim_key, close_time=header.close_time
        )

    def _moot(self, entry: JournalEntry) -> None:
        """Nothing is left to do for it."""
        self._store.set_intent(entry.number, Status.MOOT, "overtaken")
        self._attempts.pop(entry.number, None)
        self._mirror.close_entry(entry)

    def _number(self, wallet: Wallet) -> int:
        """The lowest sequence of the account that no live transaction holds: free numbers first, then the next."""
        assert wallet.account is not None
        number = wallet.account.sequence
        while (wallet.address, number) in self._mirror.live:
            number += 1
        return number

    def _header(self) -> LedgerHeader:
        assert self._mirror.header is not None
        return self._mirror.header

    # --- sign, persist, submit ---------------------------------------------------------------------------------------

    def _sign(
        self, wallet: Wallet, step: tuple[JournalEntry | None, Transaction], open_fee: Drops
    ) -> LiveTransaction | None:
        """Sign under a reserved number and write it down.

        None where it cannot be signed: its intent has failed then.
        """
        entry, transaction = step
        number, index = self._number(wallet), self._header().index
        last = LedgerIndex(index + self._ledgers_to_live)
        fee = self._fee(entry, open_fee)
        try:
            signed = self._signer(wallet.name, transaction, number, fee, last)
        except BadValue as error:
            self._unsignable(entry, str(error))
            return None
        action = entry.action if entry else None
        channel_id = entry.channel_id if entry else None
        if isinstance(action, OpenChannel):
            channel_id = self._new_channel_id(wallet.address, action, number)
        intent = entry.number if entry else None
        head = (intent, wallet.name, wallet.address, number, fee, LedgerIndex(index + 1), last)
        live = LiveTransaction(*head, signed.hash, signed.blob, channel_id)
        self._store.signed(live)
        self._mirror.live[tx_key(live)] = live
        if entry is not None:
            entry.status, entry.channel_id = Status.SIGNED, channel_id
            self._attempts[entry.number] = self._attempts.get(entry.number, 0) + 1
        return live

    def _unsignable(self, entry: JournalEntry | None, why: str) -> None:
        log.error("unsignable", intent=entry.number if entry else None, reason=why)
        if entry is not None:
            self._store.set_intent(entry.number, Status.FAILED, why[:200])
            self._mirror.close_entry(entry)

    def _fee(self, entry: JournalEntry | None, open_fee: Drops) -> Drops:
        """What the open ledger asks, doubled with every attempt that died, never above the cap or below the base."""
        tried = self._attempts.get(entry.number, 0) if entry else 0
        base = self._header().fees.base_fee
        cap = max(base, self._mirror.policy.guards.fee_cap)
        return Drops(min(cap, max(base, open_fee) << min(tried, 16)))

    async def _submit(self, session: NodeSession, live: LiveTransaction) -> None:
        """Hand it in.

        The answer is provisional, whatever it says; only a `tem` tells that it can never succeed as it is.
        """
        result = await session.submit(live.blob)
        self._telemetry.submitted(result.code)
        if result.code.startswith("tem") and tx_key(live) in self._mirror.live:
            self._mirror.doomed.setdefault(tx_key(live), result.code)
            log.error("submit_impossible", code=result.code, message=result.message, hash=live.hash)
        else:
            log.debug("submitted", code=result.code, hash=live.hash, number=live.number)
