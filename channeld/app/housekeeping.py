"""Spreads what the desk has written into the tables, and tidies away what is old enough: a small slice at a time.

What is old enough: request ids beyond the time for which they are promised, what transactions took longer ago than any
budget looks back, channels that are long gone, and sums in memory that nothing asks for any more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from channeld.adapters.sqlite import BATCH, SqliteStore
from channeld.core.units import RippleTime, Seconds
from channeld.service.archivist import Archivist
from channeld.service.clock import Clock
from channeld.service.spending import Spending

SLICE: Final = 256
LARGEST_SLICE: Final = 8192
FORGOTTEN_SLICE: Final = 512
"""Ids dropped in one step at most: 3 ms with millions of them, for each is on a page of its own."""
OUTLAYS: Final = 128
"""Transactions whose outlays are summed in one step: some 2 ms."""
OUTLAYS_KEPT_S: Final = Seconds(31 * 86_400)
"""Each by itself for so long at least, and for as long as a budget in force looks back; then as sums by the hour."""
_SLICE_PAUSE_S: Final = 0.003
_IDLE_PAUSE_S: Final = 0.25
_FOLD_EVERY_S: Final = 60.0
_TIDY_EVERY_S: Final = 60.0
_FORGET_EVERY_S: Final = 1.0
"""How long folding may go without a look at what is to be forgotten: by itself it does not rest in a long overload."""


def fold_slice(backlog: int) -> int:
    """How much is folded in one step: short steps while little more than a batch waits, and soon much longer ones, so
    that folding keeps up with the desk whatever it accepts. Without that an overload grows memory (some 500 bytes a
    request) until it is over. A request takes part in some 9/4 steps of its size.
    """
    behind = max(0, backlog - BATCH)
    return min(LARGEST_SLICE, max(SLICE, behind * behind // 600_000))


def forget_slice(last: int, gone: int) -> int:
    """Ids dropped in the next step, after one that was to drop `last` and dropped `gone`.

    As long as a whole slice is old enough the next is larger, so that a day on, forgetting keeps up with the desk.
    """
    return min(FORGOTTEN_SLICE, last * 2) if gone >= last else SLICE


class Housekeeping:
    """`keep_s` is how long ids are promised to be remembered, `monotonic` tells seconds that have passed."""

    def __init__(
        self,
        store: SqliteStore,
        clock: Clock,
        keep_s: Seconds,
        monotonic: Callable[[], float],
        *,
        archivist: Archivist,
        spending: Spending,
    ) -> None:
        self._store, self._clock, self._keep_s, self._monotonic = store, clock, keep_s, monotonic
        self._chores: list[Callable[[], bool]] = [archivist.step, lambda: sum_outlays(store, spending)]
        self._left: list[Callable[[], bool]] = []
        self._fold_at = self._tidy_at = self._forget_at = 0.0
        self._slice, self._folded = SLICE, False

    def also(self, forget: Callable[[int], bool]) -> None:
        """Have this forget as well, a slice at a time, true where more is left. It is told since when there will be
        questions, in Unix seconds; 0 while nobody knows the time.
        """
        self._chores.append(lambda: forget(self._clock.forget_before(0)))

    async def run(self) -> None:
        """For ever. Raises `StoreError`."""
        while True:
            pause = self.step()
            await asyncio.sleep(pause)

    def step(self) -> float:
        """One slice of what is due; the seconds to rest before the next. Raises `StoreError`.

        A whole batch is folded with fewer writes a request, so folding waits until there is one, or a minute is over.
        Where ids are to be forgotten meanwhile, both take turns.
        """
        store, behind = self._store, self._slice > SLICE
        due = store.folding or store.backlog >= BATCH or self._monotonic() >= self._fold_at
        if due and not (self._folded and (behind or self._monotonic() >= self._forget_at)):
            self._folded = True
            store.fold(fold_slice(store.backlog))
            self._fold_at = self._monotonic() + _FOLD_EVERY_S
        else:
            self._folded, self._forget_at = False, self._monotonic() + _FORGET_EVERY_S
            behind = self._forget()
            if not store.folding:
                self._tidy()
        self._clock.look()
        return _SLICE_PAUSE_S if behind or store.folding or store.backlog >= BATCH else _IDLE_PAUSE_S

    def _forget(self) -> bool:
        """Drop a slice of what is old enough. True if more of it is left."""
        before = self._clock.forget_before(self._keep_s)
        gone = self._store.forget(before, self._slice)
        more = max(gone, self._store.claims.forget(before, self._slice)) >= self._slice
        self._slice = forget_slice(self._slice, self._slice if more else 0)
        return more

    def _tidy(self) -> None:
        """A slice of one of the chores; once a minute all of them begin anew. None of them is in a hurry."""
        if self._monotonic() >= self._tidy_at:
            self._tidy_at = self._monotonic() + _TIDY_EVERY_S
            self._left = [*self._left, *(chore for chore in self._chores if chore not in self._left)]
        if self._left and not self._left[0]():
            self._left.pop(0)


def sum_outlays(store: SqliteStore, spending: Spending) -> bool:
    """Sum a slice of what transactions took longer ago than any budget in force looks back. True if more is left."""
    if (now := spending.now) is None:
        return False
    before = RippleTime(now - max(spending.reach, OUTLAYS_KEPT_S))
    return store.books.sum_outlays(before, OUTLAYS) == OUTLAYS
