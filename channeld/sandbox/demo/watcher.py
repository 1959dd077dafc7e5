"""Watches the wallet's channels while the demo runs: for the display, and to know when everything is paid out."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final

from channeld.sandbox.demo.chronicle import Chronicle, transactions, validated_index
from channeld.sandbox.ledger_client import LedgerClient

_EVERY_S: Final = 0.3


class Watcher:
    """Reads ledger by ledger. `chronicle` and `index` are as of the last ledger that was read."""

    def __init__(self, ledger: LedgerClient, wallet: str, first: int) -> None:
        self._ledger, self._wallet = ledger, wallet
        self.first = self.index = first
        self.chronicle = Chronicle()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(_EVERY_S)

    async def look(self) -> None:
        """Read what was validated since the last time."""
        newest = await validated_index(self._ledger)
        if newest > self.index:
            self.chronicle.read(await transactions(self._ledger, self._wallet, self.index + 1, newest))
            self.index = newest

    def owed(self, highest: Mapping[str, int]) -> int:
        """Drops of the claims held that are not paid out yet."""
        lives = self.chronicle.lives
        return sum(max(0, claim - (lives[c].paid if c in lives else 0)) for c, claim in highest.items())
