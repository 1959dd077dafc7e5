"""Which groups, or channels that pay us, are decided next: by what touched them, and by the clock. It decides nothing.

Four lines, each served before the one behind it, but for a few of the last in every slice that takes what can wait:

    urgent     what a claim cannot wait for
    changed    what a ledger or the end of an intent changed, and whatever a ledger brings to a deadline
    backlog    what would be too much to be decided at once: all of them after a start or a change of policy, or
               thousands that had claims in the same ledger
    rounds     thousands that fall due by the clock in the same ledger without a deadline: what drifts unannounced is
               looked at again every minute, however much there is, and though the backlog never ends

So what is live comes first, and a ledger is never held up by what can wait.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable
from itertools import chain, islice
from typing import Final, Generic, TypeVar

from channeld.core.units import RippleTime
from channeld.service.wheel import Wheel

AT_ONCE: Final = 256
"""Groups that a ledger's decision takes on beside those that it changed; if there are more, all of them wait."""
FEW: Final = 8
"""One in so many of a slice is of the rounds while there are any, and at least one."""

T = TypeVar("T", bound=Hashable)


class Agenda(Generic[T]):
    """Things by the line they are in. One that is in several is decided once. `everything` are all there are."""

    def __init__(self, everything: Collection[T] = ()) -> None:
        self._urgent: dict[T, None] = {}
        self._changed: dict[T, None] = {}
        self._backlog: dict[T, None] = {}
        self._rounds: dict[T, None] = {}
        self._everything: Collection[T] = ()
        self._walk: list[T] = []
        self._touched: set[T] = set()
        self._due, self._deadlines = Wheel[T](), Wheel[T]()
        self.add_all(everything)

    # --- getting into it ----------------------------------------------------------------------------------------------

    def want(self, thing: T) -> None:
        """A claim waits for it, or the next one will."""
        self._urgent[thing] = None

    def change(self, thing: T) -> None:
        """It is not as it was when it was decided."""
        self._changed[thing] = None

    def touch(self, thing: T) -> None:
        """Something small happened to it: it is for the next ledger."""
        self._touched.add(thing)

    def add(self, things: Collection[T]) -> None:
        """These are to be decided now, if they are not too many, or as soon as there is time."""
        line = self._changed if len(self._changed) + len(things) <= AT_ONCE else self._backlog
        line.update(dict.fromkeys(things))

    def add_all(self, everything: Collection[T]) -> None:
        """All there are. If they are many they are listed when the first of them is taken out, as they are then."""
        if len(everything) <= AT_ONCE:
            self.add(everything)
        else:
            self._everything, self._walk = everything, []

    def schedule(self, until: RippleTime, thing: T) -> None:
        """It is due at `until`. Only its next moment is kept: deciding then names all later ones anew."""
        self._due.put(until, thing)

    def deadline(self, at: RippleTime | None, thing: T) -> None:
        """It is decided with the first ledger that closes at `at` or later, whatever else waits; None: it has no
        deadline any more.
        """
        self._deadlines.drop(thing)
        if at is not None:
            self._deadlines.put(at, thing)

    def ledger(self, close_time: RippleTime) -> None:
        """A ledger was processed whole: what waited for it and what has fallen due by its clock is decided on it."""
        self._changed.update(dict.fromkeys(self._deadlines.due(close_time)))
        due = self._due.due(close_time)
        line = self._changed if len(self._changed) + len(due) <= AT_ONCE else self._rounds
        line.update(dict.fromkeys(due))
        self.add(self._touched)
        self._touched.clear()

    # --- getting out of it --------------------------------------------------------------------------------------------

    def next(self, most: int, *, backlog: bool) -> list[T]:
        """The first so many, with the `backlog` and rounds or without them. They stay until they are `done`.

        With them, the first of the rounds have their part of it whatever else waits.
        """
        if not backlog:
            return list(dict.fromkeys(islice(chain(self._urgent, self._changed), most)))
        if self.walking and len(self._backlog) < most:
            self._walk_on(most)
        rounds = min(len(self._rounds), max(1, most // FEW))
        ahead = list(islice(chain(self._urgent, self._changed, self._backlog), most - rounds))
        return list(dict.fromkeys(chain(ahead, islice(self._rounds, most - len(ahead)))))

    def _walk_on(self, most: int) -> None:
        """Put the next of all there are into the backlog."""
        if not self._walk:
            self._walk, self._everything = list(self._everything), ()
            self._walk.reverse()
        self._backlog.update(dict.fromkeys(reversed(self._walk[-most:])))
        del self._walk[-most:]

    def next_urgent(self, most: int) -> list[T]:
        """The first so many for which claims wait. They stay until they are `done`."""
        return list(islice(self._urgent, most))

    def done(self, things: Iterable[T]) -> None:
        """They were decided, in whichever lines they are."""
        for thing in things:
            self._urgent.pop(thing, None)
            self._changed.pop(thing, None)
            self._backlog.pop(thing, None)
            self._rounds.pop(thing, None)

    def drop(self, thing: T) -> None:
        """It is there no more."""
        self.done([thing])
        self._touched.discard(thing)
        self._due.drop(thing)
        self._deadlines.drop(thing)

    def knows(self, thing: T) -> bool:
        """Whether it will be decided again by itself; of whatever is on the way to the backlog nobody knows better."""
        lines = (self._urgent, self._changed, self._backlog, self._rounds, self._touched, self._due, self._deadlines)
        return self.walking or any(thing in line for line in lines)

    @property
    def walking(self) -> bool:
        """Whether some of all there are is not in any line yet."""
        return bool(self._walk or self._everything)

    @property
    def waiting(self) -> int:
        """Things that are to be decided, however long that takes; one in two lines counts twice."""
        lines = (self._urgent, self._changed, self._backlog, self._rounds, self._walk, self._everything)
        return sum(map(len, lines))

    @property
    def rounds_only(self) -> bool:
        """Whether nothing waits but what the clock brings up in thousands."""
        return bool(self._rounds) and not (self._urgent or self._changed or self._backlog or self.walking)
