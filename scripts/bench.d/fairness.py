"""What one server that floods does to another: p99 of a modest server alone, and beside a flood of twice what is taken.

`--echo` has the modest server ask a responder in C in between, which decides and stores nothing, while the daemon is
flooded as before: that much of the delay is the broker's and the processor's. `--minutes M` adds so long an overload at
twice the maximum, with the daemon's resident memory. Progress goes to stderr, the table and, as the last line, one JSON
object to stdout. The exit status is 1 if the ratio exceeds 2, if a request of the modest server was rejected, if one of
anybody was not answered, or if memory is not flat.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from rig import report
from rig.contenders import Ceiling, Channeld, Contender, Site
from rig.native import Cell, LoadFailed, LoadGenerator, NoCompiler, Result, Shape, Timing, build
from servers import Mosquitto

from channeld.adapters.keystore import new_seed
from channeld.adapters.signer import derive
from channeld.core.errors import ChanneldError

FLOODER, MODEST, OTHERS = 0, 1, 2
"""Servers by number; of the others there are two."""
SERVERS: Final = 4
MOST_RATIO: Final = 2.0
GROWN: Final = 1.10
"""What memory may be at the end of the overload, compared with its beginning: flat but for noise."""


def read_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="scripts/bench fairness", description=__doc__)
    parser.add_argument("--rate", type=float, default=500, help="what the modest server asks, a second")
    parser.add_argument(
        "--batch", type=int, default=100, help="items in a message of the flood; with 1 the broker is flooded as well"
    )
    parser.add_argument("--others", type=float, default=2000, help="what two others ask all the time, a second")
    parser.add_argument("--repetitions", type=int, default=5, help="figures are medians")
    parser.add_argument("--seconds", type=float, default=4, help="measured in each repetition")
    parser.add_argument("--echo", action="store_true", help="in between, let an echo answer the modest server")
    parser.add_argument("--minutes", type=float, default=0, help="of overload at twice the maximum")
    parser.add_argument("--json", action="store_true", help="only the JSON")
    return parser.parse_args(arguments)


def say(text: str) -> None:
    """Progress."""
    print(f"bench: {text}", file=sys.stderr, flush=True)


def resident_kib(pid: int) -> int:
    """Resident memory of a process."""
    return int(Path(f"/proc/{pid}/status").read_text().partition("VmRSS:")[2].split()[0])


@dataclass(slots=True)
class Rounds:
    """What the modest server got alone and beside the flood, and what the flood got."""

    alone: list[Result] = field(default_factory=list)
    beside: list[Result] = field(default_factory=list)
    floods: list[Result] = field(default_factory=list)

    def figures(self) -> dict[str, Any]:
        """Medians over the rounds, in ms."""

        def latency(results: list[Result]) -> dict[str, float]:
            return {
                "p50": _median(results, lambda r: r.p50),
                "p99": _median(results, lambda r: r.p99),
                "p99.9": _median(results, lambda r: r.p999),
            }

        alone, beside = latency(self.alone), latency(self.beside)
        return {"alone_ms": alone, "beside_flood_ms": beside, "p99_ratio": round(beside["p99"] / alone["p99"], 2)}


@dataclass(slots=True)
class Play:
    """A running contender, and who asks it."""

    load: LoadGenerator
    contender: Contender
    timing: Timing
    options: argparse.Namespace
    modest: Contender
    """Whom the modest server asks."""

    async def ask(self, who: int, cell: Cell, *, servers: int = 1, timing: Timing | None = None) -> Result:
        """What one server (or several, from `who` on) asks and gets."""
        generator = replace(self.load, first=who, servers=servers)
        asked = self.modest if who == MODEST else self.contender
        return await generator.run(asked.prefix, cell, timing or self.timing)

    async def most(self) -> float:
        """Claims a second that the desk accepts at most."""
        cell = Cell(in_flight=max(16, 256 // self.options.batch), batch=self.options.batch)
        return statistics.median([(await self.ask(FLOODER, cell, servers=SERVERS)).rate for _ in "123"])

    async def round(self, most: float, *, flood: bool) -> tuple[Result, Result | None]:
        """The modest server's figures while others ask moderately, and the flooder's if there is one."""
        around = Timing(0, self.timing.warm_up + self.timing.measured + 1)
        moderate = Cell(rate=self.options.others)
        tasks = [self.ask(OTHERS, moderate, servers=2, timing=around)]
        if flood:
            tasks.append(self.ask(FLOODER, self._flood(most), timing=around))
        running = [asyncio.create_task(task) for task in tasks]
        await asyncio.sleep(0.5)
        modest = await self.ask(MODEST, Cell(rate=self.options.rate))
        done = await asyncio.gather(*running)
        return modest, done[1] if flood else None

    async def compare(self, most: float, seen: Rounds) -> None:
        """One round without the flood, and one with it."""
        alone, _ = await self.round(most, flood=False)
        modest, flood = await self.round(most, flood=True)
        assert flood is not None
        seen.alone.append(alone)
        seen.beside.append(modest)
        seen.floods.append(flood)
        who = self.modest.prefix.partition("/")[0]
        say(f"{who}, round {len(seen.alone)}: p99 {alone.p99:.2f} ms alone, {modest.p99:.2f} ms beside the flood")

    def _flood(self, most: float) -> Cell:
        """Twice what the desk accepts."""
        return Cell(rate=most * 2 / self.options.batch, batch=self.options.batch)

    async def overload(self, most: float) -> dict[str, Any]:
        """All servers together at twice the maximum, and the daemon's memory meanwhile."""
        seconds, pid = self.options.minutes * 60, self.contender.pid
        running = asyncio.create_task(
            self.ask(FLOODER, self._flood(most), servers=SERVERS, timing=Timing(0, seconds, drain=20))
        )
        samples = []
        while not running.done():
            await asyncio.wait({running}, timeout=seconds / 60)
            samples.append(resident_kib(pid))
            say(f"overload: {samples[-1] / 1024:.0f} MiB")
        result = running.result()
        part = max(2, len(samples) // 10)
        first, last = statistics.median(samples[1 : part + 1]), statistics.median(samples[-part:])
        return {
            "minutes": self.options.minutes,
            "offered_per_s": round(most * 2),
            "accepted_per_s": round(result.rate),
            "rejected": result.rejected,
            "unanswered": result.unanswered,
            "rss_mib": [round(kib / 1024, 1) for kib in samples],
            "rss_first_mib": round(first / 1024, 1),
            "rss_last_mib": round(last / 1024, 1),
            "memory_flat": last <= first * GROWN,
        }


async def measure(options: argparse.Namespace, directory: Path) -> dict[str, Any]:
    """Start everything, run everything, stop everything."""
    shape = Shape(SERVERS, 16, derive(new_seed("ed25519").reveal(), "ed25519").address)
    async with AsyncExitStack() as running:
        broker = await running.enter_async_context(Mosquitto(directory))
        load = LoadGenerator(build(), broker.port, shape)
        site = Site(directory, broker.port, shape, load, 3.0)
        contenders: list[Contender] = [Channeld(site), *([Ceiling(site)] if options.echo else [])]
        for contender in contenders:
            running.push_async_callback(contender.stop)
            await contender.start()
        plays = [Play(load, contenders[0], Timing(0.5, options.seconds, drain=10), options, who) for who in contenders]
        play = plays[0]
        most = await play.most()
        say(f"the desk accepts {most:.0f}/s")
        rounds = [Rounds() for _ in plays]
        for _ in range(options.repetitions):
            for who, seen in zip(plays, rounds, strict=True):
                await who.compare(most, seen)
        figures = _figures(options, most, rounds[0], [flood for seen in rounds for flood in seen.floods])
        for seen in rounds[1:]:
            unanswered = sum(r.unanswered for r in (*seen.alone, *seen.beside))
            figures["echo"] = {**seen.figures(), "unanswered": unanswered}
        if options.minutes:
            figures["overload"] = await play.overload(most)
    return figures


def _median(results: list[Result], read: Callable[[Result], float]) -> float:
    return round(statistics.median(read(result) for result in results), 3)


def _figures(options: argparse.Namespace, most: float, rounds: Rounds, floods: list[Result]) -> dict[str, Any]:
    """What the daemon did; `floods` are all that it stood."""
    modest, seen = [*rounds.alone, *rounds.beside], rounds.figures()
    return {
        "bench": "fairness",
        "machine": report.machine(),
        "versions": report.versions(),
        "most_per_s": round(most),
        "modest": {
            "offered_per_s": options.rate,
            "alone_ms": seen["alone_ms"],
            "beside_flood_ms": seen["beside_flood_ms"],
            "rejected": sum(r.rejected for r in modest),
            "unanswered": sum(r.unanswered for r in modest),
        },
        "flood": {
            "offered_per_s": round(most * 2),
            "accepted_per_s": _median(rounds.floods, lambda r: r.rate),
            "busy": sum(r.rejected for r in floods),
            "unanswered": sum(r.unanswered for r in floods),
            "sample": next((r.sample for r in floods if r.sample), ""),
        },
        "p99_ratio": seen["p99_ratio"],
    }


def table(figures: dict[str, Any]) -> str:
    """The figures for people."""
    modest, flood = figures["modest"], figures["flood"]
    rows = ["| the modest server | p50 ms | p99 ms | p99.9 ms |", "| --- | --- | --- | --- |"]
    for name, key in (("alone, others ask moderately", "alone_ms"), ("beside the flood", "beside_flood_ms")):
        rows.append(f"| {name} | " + " | ".join(f"{modest[key][p]:.2f}" for p in ("p50", "p99", "p99.9")) + " |")
    rows.append(
        f"\np99 ratio {figures['p99_ratio']}; {modest['rejected']} of its requests rejected, {modest['unanswered']} "
        f"unanswered. The desk accepts {figures['most_per_s']}/s; the flood offered {flood['offered_per_s']}/s, got "
        f"{flood['accepted_per_s']:.0f}/s accepted and {flood['busy']} times `busy`; {flood['unanswered']} unanswered."
    )
    if echo := figures.get("echo"):
        alone, beside = echo["alone_ms"], echo["beside_flood_ms"]
        rows.append(
            f"From an echo instead: p50 {alone['p50']:.2f} and p99 {alone['p99']:.2f} ms alone,"
            f" {beside['p50']:.2f} and {beside['p99']:.2f} beside the flood; ratio {echo['p99_ratio']}."
        )
    if over := figures.get("overload"):
        rows.append(
            f"Overload of {over['minutes']:g} minutes at {over['offered_per_s']}/s: {over['accepted_per_s']}/s "
            f"accepted, {over['rejected']} rejected, {over['unanswered']} unanswered; memory "
            f"{over['rss_first_mib']} MiB at the beginning, {over['rss_last_mib']} MiB at the end."
        )
    return "\n".join(rows)


def main(arguments: Sequence[str]) -> int:
    """Run; 0 fair and flat, 1 not, 3 something needed is missing."""
    options = read_arguments(arguments)
    with tempfile.TemporaryDirectory(prefix="channeld-bench-") as directory:
        try:
            figures = asyncio.run(measure(options, Path(directory)))
        except (NoCompiler, LoadFailed, ChanneldError, OSError) as error:
            say(str(error))
            return 3
    if not options.json:
        print(table(figures))
    print(json.dumps(figures))
    modest = figures["modest"]
    lost = modest["rejected"] + modest["unanswered"] + figures["flood"]["unanswered"]
    fair = figures["p99_ratio"] <= MOST_RATIO and not lost
    return 0 if fair and figures.get("overload", {}).get("memory_flat", True) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
