"""Which groups are decided next: by what touched them, and by the clock. It decides nothing itself.

Three lines, each served before the one behind it: `urgent`, what a claim cannot wait for; `changed`, what a ledger or
the end of an intent changed; and the backlog, which is what would be too much to be decided at once: all groups after a
start or a change of policy, or thousands that fall due or had claims in the same ledger. So what is live comes first,
and a ledger is never held up by what can wait.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterable
from itertools import chain, islice
from typing import Final

from channeld.core.units import RippleTime
from channeld.service.holdings import Group

AT_ONCE: Final = 256
"""Groups that a ledger's decision takes on beside those that it changed; if there are more, all of them wait."""


class Agenda:
    """Groups by the line they are in. One that is in several is decided once. `everything` are all groups there are."""

    def __init__(self, everything: Collection[Group]) -> None:
        self._urgent: dict[Group, None] = {}
        self._changed: dict[Group, None] = {}
        self._backlog: dict[Group, None] = {}
        self._touched: set[Group] = set()
        self._due: list[tuple[RippleTime, int, Group]] = []
        self._due_at: dict[Group, RippleTime] = {}
        self._pushed = 0
        self.add(everything)

    # --- getting into it ----------------------------------------------------------------------------------------------

    def want(self, group: Group) -> None:
        """A claim waits for it, or the next one will."""
        self._urgent[group] = None

    def change(self, group: Group) -> None:
        """It is not as it was when it was decided."""
        self._changed[group] = None

    def touch(self, group: Group) -> None:
        """Something small happened to it: it is for the next ledger."""
        self._touched.add(group)

    def add(self, groups: Collection[Group]) -> None:
        """These are to be decided now, if they are not too many, or as soon as there is time."""
        line = self._changed if len(self._changed) + len(groups) <= AT_ONCE else self._backlog
        line.update(dict.fromkeys(groups))

    def schedule(self, until: RippleTime, group: Group) -> None:
        """It is due at `until`. Only its next moment is kept: deciding then names all later ones anew."""
        at = self._due_at.get(group)
        if at is not None and at <= until:
            return
        self._due_at[group] = until
        self._pushed += 1
        heapq.heappush(self._due, (until, self._pushed, group))

    def ledger(self, close_time: RippleTime) -> None:
        """A ledger was processed whole: what waited for it and what has fallen due by its clock is decided on it."""
        due = []
        while self._due and self._due[0][0] <= close_time:
            until, _, group = heapq.heappop(self._due)
            if self._due_at.get(group) == until:
                del self._due_at[group]
                due.append(group)
        self.add(due)
        self.add(self._touched)
        self._touched.clear()

    # --- getting out of it --------------------------------------------------------------------------------------------

    def next(self, most: int, *, backlog: bool) -> list[Group]:
        """The first so many, with the `backlog` or without it. They stay until they are `done`."""
        lines = (self._urgent, self._changed, self._backlog if backlog else ())
        return list(dict.fromkeys(islice(chain(*lines), most)))

    def next_urgent(self, most: int) -> list[Group]:
        """The first so many for which claims wait. They stay until they are `done`."""
        return list(islice(self._urgent, most))

    def done(self, groups: Iterable[Group]) -> None:
        """They were decided, in whichever lines they are."""
        for group in groups:
            self._urgent.pop(group, None)
            self._changed.pop(group, None)
            self._backlog.pop(group, None)

    def knows(self, group: Group) -> bool:
        """Whether it will be decided again by itself."""
        lines = (self._urgent, self._changed, self._backlog, self._touched, self._due_at)
        return any(group in line for line in lines)

    @property
    def waiting(self) -> int:
        """Groups that are to be decided, however long that takes; one in two lines counts twice."""
        return len(self._urgent) + len(self._changed) + len(self._backlog)
