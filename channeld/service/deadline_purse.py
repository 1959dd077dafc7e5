"""Deadline work that goes beyond its purse: it is done all the same, and people are told.

What a claim that comes too late loses is worth more than any fee. But an exhausted purse says that more is ending at
once than the operator reckoned with, or that fees are out of hand, and that ordinary money pays for it now.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import structlog

from channeld.core.records import JournalEntry
from channeld.core.units import RippleTime, format_xrp
from channeld.service.mirror import Mirror
from channeld.service.spending import Spending

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Passed:
    """How often deadline work of a wallet went beyond its purse since this start, and when it last did."""

    count: int
    last: RippleTime


class DeadlinePurse:
    """One for a daemon; whoever journals intents tells of them."""

    def __init__(self, mirror: Mirror, spending: Spending) -> None:
        self._mirror, self._spending = mirror, spending
        self._passed: dict[str, Passed] = {}
        self._over: set[str] = set()

    @property
    def passed(self) -> Mapping[str, Passed]:
        """By wallet; only of those that did."""
        return MappingProxyType(self._passed)

    def left(self, wallet: str) -> int:
        """Drops left of a wallet's purse, everything in flight at its worst; negative where work went beyond it.

        Raises `StoreError`.
        """
        return self._mirror.policy.guards.deadline_purse - self._spending.purse_used(wallet)

    def drawn(self, entries: Iterable[JournalEntry]) -> None:
        """These intents were journaled. An alarm for each wallet whose purse they went beyond. Raises `StoreError`."""
        wallets = [entry.action.wallet for entry in entries if entry.intent.deadline]
        for wallet in sorted(set(wallets)):
            if self.left(wallet) >= 0:
                self._over.discard(wallet)
                continue
            beyond = self._beyond(wallet, wallets.count(wallet))
            if wallet not in self._over:
                self._over.add(wallet)
                log.error("deadline_purse_exhausted", wallet=wallet, **beyond)

    def _beyond(self, wallet: str, decided: int) -> dict[str, object]:
        """Count how many of those just decided the purse did not have; what there is to say of it."""
        header, guards, left = self._mirror.header, self._mirror.policy.guards, self.left(wallet)
        assert header is not None
        count = min(decided, -(left // guards.urgent_fee_cap))
        before = self._passed.get(wallet)
        self._passed[wallet] = Passed(count + (before.count if before else 0), header.close_time)
        return {"purse": guards.deadline_purse, "window_s": guards.deadline_window, "beyond": -left, "count": count}

    def warnings(self) -> list[str]:
        """What people should know, a line for each wallet: for a window's length after its purse was not enough.

        Raises `StoreError`.
        """
        header, guards = self._mirror.header, self._mirror.policy.guards
        if header is None:
            return []
        return [
            f"wallet {wallet}: deadline work went beyond its purse, {format_xrp(guards.deadline_purse)} in"
            f" {guards.deadline_window} s: it goes on and takes what was not meant for it; raise guards.deadline_purse"
            for wallet in self._mirror.wallets
            if self.left(wallet) < 0 or self._recent(wallet, header.close_time)
        ]

    def _recent(self, wallet: str, now: RippleTime) -> bool:
        passed = self._passed.get(wallet)
        return passed is not None and now - passed.last < self._mirror.policy.guards.deadline_window
