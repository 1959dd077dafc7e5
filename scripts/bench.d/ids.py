"""What remembered ids cost: `ids.py [N] [--json]` fills a store with N of them (2 000 000) as the desk and folding do.

Prints bytes on disk for each, what 10 million would take, memory, and how long one look-up of a group, one step of
folding and one slice of forgetting hold the loop at that size. The exit status is 1 above 1.5 GB for 10 million.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from rig import report

from channeld.adapters.sqlite import SqliteStore
from channeld.core.records import Accepted

GROUP: Final = 2048
SLICE: Final = 128
SAMPLES: Final = 300
MOST_BYTES: Final = 1_500_000_000
"""On disk for 10 million ids."""
START: Final = 1_700_000_000


def key(n: int) -> bytes:
    """The id of the n-th request."""
    return hashlib.blake2b(b"%d" % n, digest_size=16).digest()


def requests(start: int, end: int) -> Accepted:
    """From the `start`-th on, as the desk makes them."""
    keys, at = [key(n) for n in range(start, end)], [n * 1500 for n in range(start, end + 1)]
    contents, rows = [k[::-1] for k in keys], [1 + n % 100_000 for n in range(start, end)]
    return Accepted(keys, contents, rows, at[:-1], at[1:], at[1:], ["a"] * len(keys))


def resident_mib() -> float:
    """Resident memory of this process."""
    return int(Path("/proc/self/status").read_text().partition("VmRSS:")[2].split()[0]) / 1024


def fill(store: SqliteStore, count: int) -> float:
    """Accept and fold so many; the seconds that folding took."""
    folding = 0.0
    for start in range(0, count, GROUP):
        store.accept(START + start // 10_000, requests(start, min(start + GROUP, count)), [], [])
        if store.backlog >= GROUP * 4 or start + GROUP >= count:
            began = time.perf_counter()
            while store.backlog:
                store.fold(GROUP)
            folding += time.perf_counter() - began
        if start % (GROUP * 64) == 0:
            store.checkpoint()
            print(f"bench: {start} ids, {resident_mib():.0f} MiB", file=sys.stderr, flush=True)
    store.checkpoint()
    return folding


def timed(do: Callable[[int], object], times: int = SAMPLES) -> dict[str, float]:
    """Milliseconds of one call."""
    took = []
    for n in range(times):
        began = time.perf_counter()
        do(n)
        took.append((time.perf_counter() - began) * 1000)
    took.sort()
    return {"p50": round(took[len(took) // 2], 3), "p99": round(took[len(took) * 99 // 100], 3)}


def measure(count: int, directory: Path) -> dict[str, Any]:
    """Fill, then look up, fold, forget."""
    path = directory / "ids.db"
    store = SqliteStore(path, network_id=0)
    began, before = time.perf_counter(), resident_mib()
    folding = fill(store, count)
    took, size = time.perf_counter() - began, path.stat().st_size
    grown = resident_mib() - before
    step = 7_919_000_003  # a prime: keys far from each other

    def known(n: int) -> None:
        assert len(store.remembered([key((n * SLICE + k) * step % count) for k in range(SLICE)])) > 1

    def unknown(n: int) -> None:
        assert not store.remembered([key(count + n * SLICE + k) for k in range(SLICE)])

    def accept(n: int) -> None:
        store.accept(START + count, requests(count + n * SLICE, count + (n + 1) * SLICE), [], [])

    figures = {
        "bench": "ids",
        "ids": count,
        "bytes_per_id": round(size / count, 1),
        "gb_for_10_million": round(size / count / 100, 3),
        "extrapolated": count < 10_000_000,
        "fill_s": round(took, 1),
        "fold_us_per_id": round(folding / count * 1e6, 2),
        "rss_grown_mib": round(grown, 1),
        f"look_up_{SLICE}_known_ms": timed(known),
        f"look_up_{SLICE}_unknown_ms": timed(unknown),
        f"accept_{SLICE}_ms": timed(accept),
        f"fold_{SLICE}_ms": timed(lambda n: store.fold(SLICE)),
        f"forget_{SLICE}_ms": timed(lambda n: store.forget(START + count, SLICE)),
        "machine": report.machine(),
        "store_on": report.filesystem(directory),
    }
    store.close()
    return figures


def main(arguments: Sequence[str]) -> int:
    """Run; 0 within the bound, 1 not."""
    parser = argparse.ArgumentParser(prog="scripts/bench ids", description=__doc__)
    parser.add_argument("ids", type=int, nargs="?", default=2_000_000)
    parser.add_argument("--json", action="store_true", help="only the JSON")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="channeld-bench-") as directory:
        figures = measure(options.ids, Path(directory))
    if not options.json:
        for name, value in figures.items():
            print(f"{name:24} {value}")
    print(json.dumps(figures))
    return 0 if figures["bytes_per_id"] * 10_000_000 <= MOST_BYTES else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
