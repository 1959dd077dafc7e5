"""Intents that wait to be signed, wallet by wallet, in the order in which their transactions are made.

Kept in order as they come and go, so that a batch costs what it signs, however many wait behind it.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator
from typing import Final

from channeld.core.intents import Kind
from channeld.core.records import JournalEntry

_ORDER: Final = {
    Kind.REDEEM: 0,
    Kind.OPEN: 0,
    Kind.FUND: 0,
    Kind.SETTLE: 1,
    Kind.REQUEST_CLOSE: 1,
    Kind.FINALIZE_CLOSE: 2,
}
"""Who goes first where numbers are short: readers wait for opens and funds, nobody waits for a finalize."""
_Place = tuple[bool, int, int]
"""Deadline work first, for what comes too late is lost; then by kind, then by age."""


class Backlog:
    """The planned intents of all wallets."""

    def __init__(self) -> None:
        self._places: dict[str, list[_Place]] = {}
        self._entries: dict[int, JournalEntry] = {}

    def add(self, entry: JournalEntry) -> None:
        """It waits to be signed. It must not wait already."""
        self._entries[entry.number] = entry
        insort(self._places.setdefault(entry.action.wallet, []), _place(entry))

    def drop(self, entry: JournalEntry) -> None:
        """It is signed, or ended; nothing happens where it does not wait."""
        if self._entries.pop(entry.number, None) is not None:
            places = self._places[entry.action.wallet]
            del places[bisect_left(places, _place(entry))]

    def of(self, wallet: str) -> Iterator[JournalEntry]:
        """What waits for a wallet, first what is signed first. What is dropped meanwhile is left out."""
        for *_, number in tuple(self._places.get(wallet, ())):
            if (entry := self._entries.get(number)) is not None:
                yield entry


def _place(entry: JournalEntry) -> _Place:
    return not entry.intent.deadline, _ORDER[entry.action.kind], entry.number
