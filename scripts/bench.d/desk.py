"""What one claim costs the desk, without the broker: read, look up, choose a channel, store, sign, write the reply.

The choice must not depend on how many payees there are. Groups of 1 are lone requests, a commit each; groups of 256
are the largest. Times are the process's own CPU, for what a commit waits depends on the disk. A table to stdout, and
as the last line one JSON object.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path

import structlog
from rig.holdings import calm, filled, stored

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))

from engine import Engine
from worlds import PAYEES

from channeld.core.requests import Ask, Granted
from channeld.wire.claims import ClaimReader
from channeld.wire.replies import reply


def answered(engine: Engine, reader: ClaimReader, payloads: list[bytes]) -> None:
    """One group, from payloads to replies."""
    parsed = [item for payload in payloads for item in reader.read("a", payload)[0]]
    asks = [item.ask for item in parsed if isinstance(item.ask, Ask)]
    answers = engine.desk.answer(asks)
    assert all(isinstance(answer, Granted) for answer in answers), answers[0]
    for item, answer in zip(parsed, answers, strict=True):
        reply(item.id, answer)


def measure(payees: int, sizes: list[int], groups: int) -> dict[str, float]:
    """Microseconds of CPU for a claim, by the size of the group: medians of ten parts."""
    dice, number, found = random.Random(1), 0, {}
    with tempfile.TemporaryDirectory() as directory:
        engine, reader = stored(Path(directory), filled(payees, 10**9), calm()), ClaimReader(0)
        engine.build()
        engine.connect()
        for size in sizes:
            parts = []
            for _ in range(10):
                wanted = [(number + n, dice.randrange(payees)) for n in range(size * groups)]
                number += len(wanted)
                said = [
                    b'{"id":"%d","drops":"1","payee":"%s:%d"}' % (n, PAYEES[0].account.encode(), p) for n, p in wanted
                ]
                began = time.process_time()
                for start in range(0, len(said), size):
                    answered(engine, reader, said[start : start + size])
                parts.append((time.process_time() - began) / len(said))
                while engine.store.backlog:
                    engine.store.fold(5000)
            found[str(size)] = round(statistics.median(parts) * 1e6, 1)
        engine.kill()
    return found


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="scripts/bench desk", description=__doc__)
    parser.add_argument("--payees", default="100,10000,100000", metavar="N,...")
    parser.add_argument("--groups", type=int, default=20, help="groups in each of ten parts")
    arguments = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    sizes, found = [1, 16, 256], {}
    print(
        "| payees | " + " | ".join(f"us a claim, groups of {size}" for size in sizes) + " |\n| --- | --- | --- | --- |"
    )
    for payees in map(int, arguments.payees.split(",")):
        found[str(payees)] = measure(payees, sizes, arguments.groups)
        print(f"| {payees} | " + " | ".join(f"{us:.1f}" for us in found[str(payees)].values()) + " |", flush=True)
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
