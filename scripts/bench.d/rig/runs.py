"""What is run in which order: every load for every contender in turn, so that what disturbs the machine meets all."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from rig.contenders import Contender
from rig.native import Cell, LoadGenerator, Result, Timing


@dataclass(slots=True)
class Series:
    """The repetitions of one load for one contender. `grown` is by how much its counters grew, over all of them."""

    contender: str
    cell: Cell
    results: list[Result] = field(default_factory=list)
    grown: dict[str, float] = field(default_factory=dict)

    def median(self, read: Callable[[Result], float]) -> float:
        return statistics.median(read(result) for result in self.results)

    def total(self, read: Callable[[Result], int]) -> int:
        return sum(read(result) for result in self.results)

    @property
    def rate(self) -> float:
        """Accepted claims a second."""
        return self.median(lambda r: r.rate)

    @property
    def flaws(self) -> str:
        """What makes its figures doubtful; empty if nothing does."""
        counts = {
            "rejected": self.total(lambda r: r.rejected),
            "unanswered": self.total(lambda r: r.unanswered),
            "answered twice or never asked": self.total(lambda r: r.strays),
        }
        sample = next((r.sample for r in self.results if r.sample), "")
        said = [f"{count} {what}" for what, count in counts.items() if count]
        return ", ".join(said) + (f" ({sample})" if sample else "")


@dataclass(slots=True)
class Bench:
    """`contenders` are running; `watch` are processes whose processor time counts beside the contender's."""

    contenders: Mapping[str, Contender]
    load: LoadGenerator
    timing: Timing
    repetitions: int
    watch: tuple[int, ...]
    say: Callable[[str], None]
    series: list[Series] = field(default_factory=list)

    async def run(self, cells: Sequence[Cell]) -> None:
        """Measure every load `repetitions` times with every contender, the contenders next to each other."""
        fresh = {
            (name, cell): Series(name, cell) for cell in cells for name in self.contenders if self._able(name, cell)
        }
        self.series += fresh.values()
        for round_ in range(self.repetitions):
            for cell in cells:
                for name in self._in_turn(round_):
                    if (name, cell) in fresh:
                        await self._measure(fresh[name, cell])

    def _able(self, name: str, cell: Cell) -> bool:
        return cell.batch == 1 or self.contenders[name].batches

    def _in_turn(self, round_: int) -> list[str]:
        """The contenders, every other round the other way round."""
        names = list(self.contenders)
        return names[::-1] if round_ % 2 else names

    async def _measure(self, series: Series) -> None:
        contender = self.contenders[series.contender]
        before = await contender.counters()
        result = await self.load.run(contender.prefix, series.cell, self.timing, (contender.pid, *self.watch))
        after = await contender.counters()
        series.results.append(result)
        for name, value in after.items():
            series.grown[name] = series.grown.get(name, 0) + value - before.get(name, 0)
        self.say(f"{series.cell.name}, {series.contender}: {result.rate:.0f}/s, p99 {result.p99:.2f} ms")

    def best_rate(self, contender: str) -> float:
        """The highest median rate of a contender so far, with single requests."""
        return max((s.rate for s in self.series if s.contender == contender and s.cell.batch == 1), default=0.0)
