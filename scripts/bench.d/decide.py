"""What it takes to decide a ledger that touched 100 channels of ours, with 1 000 of them and with 100 000.

Deciding is incremental, so the two must be the same within noise: with rules in the policy and without. Each time is
from the ledger's arrival to everything decided, journaled and handed to the history; the median over the ledgers. And
how long a start with all of them takes, from the store's file to everything decided, and the memory it leaves in use.
Times are the process's own CPU, so that they mean something on a busy machine.

Progress goes to stderr, the table and, as the last line, one JSON object to stdout.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

import structlog
from rig.holdings import filled, stored

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))

from engine import Engine
from worlds import PAYEES

from channeld.app import garbage
from channeld.core.policy import Policy
from channeld.core.records import JournalEntry
from channeld.core.units import Drops
from channeld.core.world import Hold, Planned, World
from channeld.service.chronicle import Chronicle
from channeld.service.holdings import Group
from channeld.settings import load_policy

XRP = 1_000_000
TERMS = """
[policy]
schema = 1
[guards]
max_closes_per_hour = "0.5%"
[pools.p]
wallet       = "hot"
settle_delay = "1h"
life_margin  = "1m"
channel = { min = "2 XRP", max = "5000 XRP" }
runway  = { low = "6h", target = "48h" }
fund    = { low = "1 XRP", target = "2 XRP" }
settle  = { worth = "50 XRP", max_age = "30d" }
close   = { idle = "90d", min_age = "30d" }
"""
RULES = """
[budgets.fees]
window = "1d"
limit  = "40 XRP"
[budgets.capital]
limit = "100000000000 XRP"
[[fund.rule]]
name = "base"
set = { horizon = "48h", quantile = 0.9, cooldown = "10m", min_step = "1 XRP" }
[[fund.rule]]
name = "wait-out-fee-spike"
match = { network_fee_drops = { gt = 200 }, runway = { gt = "2h" } }
act = "hold"
[[fund.rule]]
name = "running-out"
match = { runway = { lt = "6h" }, headroom = { lt = "1 XRP" } }
act = "fund_to_target"
[[settle.rule]]
name = "worth-it"
match = { unredeemed = { gt = "50 XRP" }, fee_ratio = { lt = 0.001 } }
act = "settle"
[[settle.rule]]
name = "old"
match = { unredeemed_age = { gte = "30d" } }
act = "settle"
[[close.rule]]
name = "idle"
match = { idle = { gt = "90d" }, age = { gt = "30d" }, return_probability = { lt = 0.1 } }
set = { notice = "72h", patience = "3d" }
act = "notify_then_close"
[[close.rule]]
name = "dust"
match = { idle = { gt = "60d" }, remaining = { lt = "0.1 XRP" } }
act = "close"
[[open.rule]]
name = "roomy"
match = { demand = { gte = "20 XRP" } }
set = { amount = "50 XRP" }
"""


def terms(directory: Path, *, rules: bool) -> Policy:
    """A policy of terms under which nothing falls due, with chains of rules or without."""
    path = directory / "policy.toml"
    path.write_text(TERMS + (RULES if rules else ""))
    return load_policy(path)


def touched(engine: Engine, turn: Iterator[str], count: int) -> None:
    """The next ledger closes, in which somebody funded so many channels of ours with a drop each."""
    ledger = engine.ledger
    ledger.index, ledger.time = ledger.index + 1, ledger.time + 4
    ledger.history = []
    for number in range(count):
        channel = ledger.channels[next(turn)]
        change = ledger._put(replace(channel, amount=Drops(channel.amount + 1)), 0)
        ledger._record(
            f"{ledger.index:032X}{number:032X}", PAYEES[1].account, ledger.index, "tesSUCCESS", 10, [change], number
        )


def remembering(engine: Engine) -> None:
    """Every decision goes to a chronicle, as it does in the daemon."""
    chronicle = Chronicle({}, lambda: engine.unix)

    def decided(
        world: World, entries: list[tuple[tuple[str, str], JournalEntry]], holds: list[Hold], wishes: list[Planned]
    ) -> None:
        header = engine.mirror.header
        assert header is not None
        chronicle.decided(header.index, world, engine.policy, entries=entries, holds=holds, wishes=wishes)
        chronicle.written(chronicle.waiting)

    engine.planner.on_decided = decided  # type: ignore[assignment]


def memory_mb() -> float:
    """What this process holds now."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


def measure(engine: Engine, policy: Policy, ledgers: int, count: int) -> dict[str, float]:
    """A start from the file, and then so many ledgers that touch so many channels each."""
    gc.collect()
    before, began = memory_mb(), time.process_time()
    engine.policy = policy
    engine.build()
    remembering(engine)
    engine.connect()
    engine.decide_all()
    start = time.process_time() - began
    garbage.settle()  # as the daemon does
    held = memory_mb() - before
    ids = sorted(engine.ledger.channels)
    step = max(1, len(ids) // 97)
    turn = (ids[(n * step + n // len(ids)) % len(ids)] for n in range(10**9))
    whole, deciding = [], []
    decide, spent = engine.planner._decide, [0.0]

    def timed(groups: Sequence[Group]) -> None:
        started = time.process_time()
        decide(groups)
        spent[0] += time.process_time() - started

    engine.planner._decide = timed  # type: ignore[method-assign]
    for _ in range(ledgers):
        touched(engine, islice(turn, count), count)
        engine.clock += 4
        started, spent[0] = time.process_time(), 0.0
        asyncio.run(engine.follower._process(engine.session, engine.ledger.header()))  # type: ignore[arg-type]
        whole.append(time.process_time() - started)
        deciding.append(spent[0])
        engine.decide_all()  # what fell due by the clock waits for its turn behind the ledger
    assert not engine.mirror.journal, "something fell due: what was measured is not what was meant"
    engine.kill()
    garbage.unsettle()
    return {
        "start_s": round(start, 2),
        "memory_mb": round(held),
        "ledger_ms": round(statistics.median(whole) * 1e3, 2),
        "decide_ms": round(statistics.median(deciding) * 1e3, 2),
    }


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="scripts/bench decide", description=__doc__)
    parser.add_argument("--channels", default="1000,100000", metavar="N,...")
    parser.add_argument("--touch", type=int, default=100, help="channels that each ledger touches")
    parser.add_argument("--ledgers", type=int, default=100)
    arguments = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    found: dict[str, dict[str, dict[str, float]]] = {}
    columns = ["channels", "rules", "start s", "memory MB", "a ledger ms", "of it deciding ms"]
    print(f"| {' | '.join(columns)} |\n|{' --- |' * len(columns)}")
    for channels in map(int, arguments.channels.split(",")):
        with tempfile.TemporaryDirectory() as name:
            engine = stored(Path(name), filled(channels, 1000 * XRP), terms(Path(name), rules=False))
            for rules in (False, True):
                result = measure(engine, terms(Path(name), rules=rules), arguments.ledgers, arguments.touch)
                found.setdefault(str(channels), {})["rules" if rules else "terms"] = result
                values = " | ".join(str(value) for value in result.values())
                print(f"| {channels} | {'yes' if rules else 'no'} | {values} |", flush=True)
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
