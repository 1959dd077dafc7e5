"""Intents that wait to be signed, wallet by wallet, in the order in which their transactions are made.

Kept in order as they come and go, so that a batch costs what it signs, however many wait behind it.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Iterator
from itertools import takewhile
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
Rank = Callable[[JournalEntry], tuple[bool, bool, int]]
"""Whether an intent has a deadline, whether that is so near that there is time for last attempts only, and how many
drops are at stake; 0 without one.
"""
_Place = tuple[bool, bool, int, int, int]
"""Deadline work first, for what comes too late is lost: of that what is late, then where most is at stake; then by
kind, then by age.
"""
_FRONT: Final[_Place] = (False, False, -(10**18), -1, 0)
_SOME: Final = 64
"""Places read at once."""


class Backlog:
    """The planned intents of all wallets."""

    def __init__(self) -> None:
        self._rank: Rank = lambda entry: (entry.intent.deadline, False, 0)
        self._places: dict[str, list[_Place]] = {}
        self._place_of: dict[int, _Place] = {}
        self._entries: dict[int, JournalEntry] = {}
        self._touched: dict[str, dict[int, None]] = {}

    def add(self, entry: JournalEntry) -> None:
        """It waits to be signed. It must not wait already."""
        self._entries[entry.number] = entry
        place = self._place_of[entry.number] = self._place(entry)
        insort(self._places.setdefault(entry.action.wallet, []), place)

    def drop(self, entry: JournalEntry) -> None:
        """It is signed, or ended; nothing happens where it does not wait."""
        if self._entries.pop(entry.number, None) is not None:
            places = self._places[entry.action.wallet]
            del places[bisect_left(places, self._place_of.pop(entry.number))]

    def rank_by(self, rank: Rank) -> None:
        """From now on this says what goes first."""
        self._rank = rank
        self._places = {}
        for entry in self._entries.values():
            place = self._place_of[entry.number] = self._place(entry)
            self._places.setdefault(entry.action.wallet, []).append(place)
        for places in self._places.values():
            places.sort()

    def put_right(self, entry: JournalEntry) -> None:
        """Its end may be near by now, or more at stake: it waits where it belongs, if it waits."""
        if self._place_of.get(entry.number) not in (None, self._place(entry)):
            self.drop(entry)
            self.add(entry)

    def presses(self, entry: JournalEntry) -> bool:
        """Whether it stands with what has a deadline."""
        return not self._stands(entry)[0]

    def count(self, wallet: str) -> int:
        """How many wait for a wallet."""
        return len(self._places.get(wallet, ()))

    def of(self, wallet: str, after: JournalEntry | None = None) -> Iterator[JournalEntry]:
        """What waits for a wallet, first what is signed first; `after`: only what is behind that, if it waits or not.

        Others may come and go meanwhile: what is dropped is left out, and what is added further on comes, too.
        """
        return self._behind(wallet, _FRONT if after is None else self._stands(after))

    def deadlines(self, wallet: str) -> Iterator[JournalEntry]:
        """The first part of it: what has a deadline."""
        return takewhile(self.presses, self.of(wallet))

    def _behind(self, wallet: str, place: _Place) -> Iterator[JournalEntry]:
        places = self._places.get(wallet, [])
        while some := places[(start := bisect_right(places, place)) : start + _SOME]:
            place = some[-1]
            for *_, number in some:
                if (entry := self._entries.get(number)) is not None:
                    yield entry

    def touch(self, entry: JournalEntry) -> None:
        """What it is about is not as it was: somebody should look whether there is anything left to do."""
        if entry.number in self._entries:
            self._touched.setdefault(entry.action.wallet, {})[entry.number] = None

    def touched(self, wallet: str) -> Iterator[JournalEntry]:
        """What was touched since this was asked last, and waits still."""
        for number in self._touched.pop(wallet, ()):
            if (entry := self._entries.get(number)) is not None:
                yield entry

    def _stands(self, entry: JournalEntry) -> _Place:
        return self._place_of.get(entry.number) or self._place(entry)

    def _place(self, entry: JournalEntry) -> _Place:
        presses, last, stake = self._rank(entry)
        return not presses, not last, -stake, _ORDER[entry.action.kind], entry.number
