"""The numbers a wallet's transactions are signed under: its account's sequence, and tickets.

There is no counter. What is free follows from validated ledgers and from what is signed and not ended: a sequence is
free from the account's next one on, a ticket of ours is free while it is there, unless a live transaction holds it. So
a number is freed only by proof, a replacement takes the number of what it replaces, and both can never happen.

Sequences go in order: one that is missing holds up all after it. Tickets go in any order, so new channels, of which
many may be on their way at once, take a ticket where there is one. Tickets are made by a transaction that must be the
highest number of its wallet, for it takes the numbers after its own: until it ends nothing is signed above it.

Sources: rippled CreateTicket.cpp (numbers, 250 at most, reserve), Transactor.cpp checkSeqProxy.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from channeld.core.intents import Number
from channeld.core.records import JournalEntry, LiveTransaction
from channeld.core.world import Reason
from channeld.service.holdings import Wallet
from channeld.service.mirror import Mirror

TICKETS: Final = "tickets"
FILLER: Final = "filler"
MOST_TICKETS: Final = 250
"""An account can hold no more. Sources: rippled CreateTicket.h."""
MOST_IN_SEQUENCE: Final = 1000
"""Sequences in flight at once; a policy opens no more channels than this in a ledger."""
MANY_OPENS: Final = 20
"""When more opens than this wait for the next ledger, tickets are made for them."""


def kind_of(live: LiveTransaction, entry: JournalEntry | None) -> str:
    """What journal and metrics call a transaction: the kind of its intent, `tickets` or `filler`."""
    if entry is not None:
        return entry.action.kind.value
    return TICKETS if live.makes else FILLER


def tickets_subject(wallet: str) -> str:
    """What a failure to make tickets sets back."""
    return f"tickets/{wallet}"


@dataclass(slots=True)
class Numbers:
    """What a wallet can sign under now. Numbers handed out are not handed out again by the same object."""

    mirror: Mirror
    wallet: Wallet
    _taken: set[int] = field(default_factory=set)
    _tickets: list[int] = field(default_factory=list)
    _sequences: list[int] = field(default_factory=list)
    _making: int | None = None

    def __post_init__(self) -> None:
        self._tickets = self.mirror.free_tickets(self.wallet)
        mine = [tx for tx in self.mirror.live.values() if tx.account == self.wallet.address]
        self._sequences = [tx.number for tx in mine if not tx.ticket]
        self._making = next((tx.number for tx in mine if tx.makes), None)
        self._taken = set(self._sequences)

    def take(self, *, by_ticket: bool) -> Number | None:
        """The number for one more transaction, a ticket rather than a sequence if asked for; None: not now.

        A ticket is taken also where no sequence can be had, so that nothing urgent waits for tickets being made.
        """
        sequence = self._lowest()
        if self._tickets and (by_ticket or sequence is None):
            return Number(self._tickets.pop(0), ticket=True)
        if sequence is None:
            return None
        self._hold(sequence)
        return Number(sequence)

    def give_back(self, number: Number) -> None:
        """Nothing was signed under it."""
        if number.ticket:
            self._tickets.insert(0, number.value)
        else:
            self._taken.discard(number.value)
            self._sequences.remove(number.value)

    def take_gap(self) -> Number | None:
        """A free sequence below one in flight, which holds that one up; None if there is none."""
        lowest = self._lowest()
        if lowest is None or lowest > max(self._sequences, default=0):
            return None
        self._hold(lowest)
        return Number(lowest)

    def take_highest(self) -> Number | None:
        """A sequence above all in flight, for making tickets; None where one below is free or tickets are coming."""
        lowest = self._lowest()
        if self._making is not None or lowest is None or lowest <= max(self._sequences, default=0):
            return None
        self._hold(lowest)
        self._making = lowest
        return Number(lowest)

    def _hold(self, sequence: int) -> None:
        self._taken.add(sequence)
        self._sequences.append(sequence)

    def _lowest(self) -> int | None:
        """The lowest sequence that nothing in flight holds; None above tickets being made, or with too many."""
        if self.wallet.account is None or len(self._sequences) >= MOST_IN_SEQUENCE:
            return None
        number = self.wallet.account.sequence
        while number in self._taken:
            number += 1
        return None if self._making is not None and number > self._making else number


def tickets_to_make(mirror: Mirror, wallet: Wallet) -> int:
    """How many tickets are worth making now: the policy's stock, and what many waiting opens will use.

    0 while some are being made, while a failure to make them cools down, or where the wallet cannot afford the reserve.
    """
    guards, header = mirror.policy.guards, mirror.header
    held = sum(account == wallet.address for account, _ in mirror.tickets)
    free = len(mirror.free_tickets(wallet))
    setback = mirror.setbacks.get(tickets_subject(wallet.name))
    if header is None or not wallet.pays or mirror.frozen_wallets.get(wallet.name):
        return 0
    if any(tx.makes and tx.wallet == wallet.name for tx in mirror.live.values()):
        return 0
    if setback is not None and setback.retry_at is not None and header.close_time < setback.retry_at:
        return 0
    wanted = max(guards.ticket_stock, _opens_waiting(mirror, wallet))
    missing = min(wanted - free, MOST_TICKETS - held)
    view = mirror.wallet_views().get(wallet.name) if missing > max(0, wanted // 10) else None
    if view is None:
        return 0
    spare = view.spendable(header.fees, guards)
    affordable = spare // header.fees.reserve_increment if header.fees.reserve_increment else missing
    return max(0, min(missing, affordable))


def _opens_waiting(mirror: Mirror, wallet: Wallet) -> int:
    """Opens that the next ledger's guard will let through, where they are many; else 0."""
    most = mirror.policy.guards.max_opens_per_ledger
    if most <= MANY_OPENS or mirror.opens_in_flight()[0] < MANY_OPENS:
        return 0
    pools = {name for name, pool in mirror.policy.pools.items() if pool.wallet == wallet.name}
    waiting = sum(
        group.answer is not None and group.answer.reason is Reason.GUARD_RATE and group.pool in pools
        for group in mirror.groups.values()
    )
    return min(waiting, most, MOST_TICKETS) if waiting > MANY_OPENS else 0
