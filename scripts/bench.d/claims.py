"""How many claims a second, and how quickly: channeld behind a real Mosquitto, beside the ceiling of the same run.

The ceiling is a responder in C that only answers, on the same broker and under the same load: what no daemon exceeds
there. Figures of different machines do not compare; the ratio of one run does. Progress goes to stderr, the table and,
as the last line, one JSON object to stdout.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

from rig import plot, report
from rig.contenders import CONTENDERS, Contender, Site
from rig.native import Cell, LoadFailed, LoadGenerator, NoCompiler, Shape, Timing, build
from rig.runs import Bench
from servers import Mosquitto

from channeld.adapters.keystore import new_seed
from channeld.adapters.signer import derive
from channeld.core.errors import ChanneldError


def read_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="scripts/bench claims", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one short repetition, under 40 s")
    parser.add_argument("--in-flight", type=_numbers, default=[1, 16, 256], metavar="N,...")
    parser.add_argument("--rates", type=_numbers, default=[], metavar="N,...", help="requests a second, open loop")
    parser.add_argument(
        "--share", type=float, default=0.5, help="offer this share of channeld's best rate, open loop; 0: do not"
    )
    parser.add_argument("--batch", type=int, default=100, help="items of a batch; 0: no batches")
    parser.add_argument("--batches-in-flight", type=int, default=16, metavar="N")
    parser.add_argument("--repetitions", type=int, help="5, with --quick 1; figures are medians")
    parser.add_argument("--seconds", type=float, help="measured in each repetition: 3, with --quick 1.5")
    parser.add_argument("--servers", type=int, default=16, help="content servers, a connection each")
    parser.add_argument("--payees", type=int, default=16, help="payees of each server, a channel each")
    parser.add_argument("--match", choices=("correlation", "id"), default="correlation", help="how replies are matched")
    parser.add_argument("--close-interval", type=float, default=3.0, metavar="S", help="seconds between ledgers")
    parser.add_argument("--contenders", default="ceiling,channeld", help="of: " + ", ".join(CONTENDERS))
    parser.add_argument("--directory", type=Path, help="where the store is put, and removed again; default: $TMPDIR")
    parser.add_argument("--svg", type=Path, metavar="FILE", help="plot latency against offered load (see --rates)")
    parser.add_argument("--json", action="store_true", help="only the JSON")
    return parser.parse_args(arguments)


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",") if part]


def say(text: str) -> None:
    """Progress."""
    print(f"bench: {text}", file=sys.stderr, flush=True)


async def measure(options: argparse.Namespace, directory: Path) -> Bench:
    """Start everything, run everything, stop everything."""
    shape = Shape(options.servers, options.payees, derive(new_seed("ed25519").reveal(), "ed25519").address)
    async with AsyncExitStack() as running:
        broker = await running.enter_async_context(Mosquitto(directory))
        load = LoadGenerator(build(), broker.port, shape, options.match)
        site = Site(directory, broker.port, shape, load, options.close_interval)
        contenders: dict[str, Contender] = {}
        for name in options.contenders.split(","):
            contenders[name] = CONTENDERS[name](site)
            running.push_async_callback(contenders[name].stop)
            await contenders[name].start()
            say(f"{name} is up, process {contenders[name].pid}")
        timing = Timing(0.3 if options.quick else 0.5, options.seconds or (1.5 if options.quick else 3))
        bench = Bench(contenders, load, timing, options.repetitions or (1 if options.quick else 5), (broker.pid,), say)
        await bench.run(_closed_loop(options))
        await bench.run(_open_loop(options, bench))
    return bench


def _closed_loop(options: argparse.Namespace) -> list[Cell]:
    batches = [Cell(in_flight=options.batches_in_flight, batch=options.batch)] if options.batch else []
    return [*(Cell(in_flight=n) for n in options.in_flight), *batches]


def _open_loop(options: argparse.Namespace, bench: Bench) -> list[Cell]:
    """The rates asked for, and a share of what channeld has just shown."""
    name = "channeld" if "channeld" in bench.contenders else next(iter(bench.contenders))
    share = round(options.share * bench.best_rate(name), -2)
    return [Cell(rate=rate) for rate in (*options.rates, *([share] if share else []))]


def main(arguments: Sequence[str]) -> int:
    """Run; 0 done, 1 a contender rejected or lost requests, 3 something needed is missing."""
    options = read_arguments(arguments)
    if unknown := set(options.contenders.split(",")) - set(CONTENDERS):
        say(f"unknown contenders: {', '.join(sorted(unknown))}")
        return 2
    started = report.machine()
    with tempfile.TemporaryDirectory(prefix="channeld-bench-", dir=options.directory) as directory:
        store_on = report.filesystem(Path(directory))
        try:
            bench = asyncio.run(measure(options, Path(directory)))
        except (NoCompiler, LoadFailed, ChanneldError, OSError) as error:
            say(str(error))
            return 3
    about = {
        "bench": "claims",
        "load_average_before": started["load_average"],
        "store_on": store_on,
        "servers": options.servers,
        "channels": options.servers * options.payees,
        "repetitions": bench.repetitions,
        "seconds": bench.timing.measured,
    }
    figures = report.as_json(bench.series, about)
    if options.svg is not None:
        options.svg.write_text(plot.latency_against_load(figures))
    if not options.json:
        print(report.table(bench.series))
        print(report.footnote(figures))
    print(json.dumps(figures))
    return 1 if any(series.flaws for series in bench.series) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
