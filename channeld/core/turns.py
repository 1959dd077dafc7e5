"""Things that wait in lines, one for each server, and leave in turn: few do not wait behind many. Pure.

Within a line the order stays. A line whose turn it is may give things of `quantum` cost, or one. What is put back goes
before all others: it has had its turn.

Sources: Shreedhar and Varghese, deficit round robin (1995), with what is left of a turn given up.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

T = TypeVar("T")


class _Line(Generic[T]):
    __slots__ = ("cost", "waiting")

    def __init__(self) -> None:
        self.waiting: deque[T] = deque()
        self.cost = 0


class Turns(Generic[T]):
    """`cost` of a thing, 1 or more, is what it takes of its line's turn."""

    __slots__ = ("_back", "_cost", "_left", "_lines", "_quantum", "_turns", "cost")

    def __init__(self, quantum: int, cost: Callable[[T], int]) -> None:
        self._quantum, self._cost = quantum, cost
        self._back: deque[T] = deque()
        self._lines: dict[str, _Line[T]] = {}
        self._turns: deque[str] = deque()
        self._left = quantum
        self.cost = 0
        """Of all that waits."""

    def __bool__(self) -> bool:
        return self.cost > 0

    def cost_of(self, line: str) -> int:
        """Of what waits in a line and was not put back."""
        found = self._lines.get(line)
        return found.cost if found else 0

    def add(self, line: str, thing: T) -> None:
        """Behind those of its line."""
        found = self._lines.get(line)
        if found is None:
            found = self._lines[line] = _Line()
            self._turns.append(line)
        cost = self._cost(thing)
        found.waiting.append(thing)
        found.cost += cost
        self.cost += cost

    def put_back(self, things: Iterable[T]) -> None:
        """Before all others, in this order."""
        back = list(things)
        self._back.extendleft(reversed(back))
        self.cost += sum(map(self._cost, back))

    def take(self) -> T:
        """The next. There must be one."""
        if self._back:
            thing = self._back.popleft()
            self.cost -= self._cost(thing)
            return thing
        line = self._turns[0]
        found = self._lines[line]
        thing = found.waiting.popleft()
        cost = self._cost(thing)
        found.cost -= cost
        self.cost -= cost
        self._left -= cost
        if not found.waiting or self._left <= 0:
            self._left = self._quantum
            self._turns.popleft()
            if found.waiting:
                self._turns.append(line)
            else:
                del self._lines[line]
        return thing

    def change(self, changed: Callable[[T], T | None]) -> None:
        """Replace each by another, or by nothing; all keep their places."""
        lines, back = self._lines, self._back
        self._lines, self._back, self._turns = {}, deque(), deque()
        self._left, self.cost = self._quantum, 0
        self.put_back(new for old in back if (new := changed(old)) is not None)
        for line, found in lines.items():
            for old in found.waiting:
                if (new := changed(old)) is not None:
                    self.add(line, new)
