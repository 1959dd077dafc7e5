"""What a ledger costs that changed one channel, with 100 channels and with 10 000, and a cold start with 10 000.

And what one decision costs while as many intents are open, as when all channels fall idle at once.

Progress goes to stderr, the table and, as the last line, one JSON object to stdout.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import structlog
from rig.holdings import calm, filled, stored

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))

from engine import Engine, drive
from worlds import PAYEES

from channeld.core.intents import Intent, RequestClose
from channeld.core.ledger import ChannelChange
from channeld.core.units import Drops


def changed(engine: Engine) -> None:
    """The next ledger closes, in which somebody funded one channel of ours with a drop."""
    ledger = engine.ledger
    ledger.index, ledger.time = ledger.index + 1, ledger.time + 4
    channel = next(iter(ledger.channels.values()))
    change = ledger._put(replace(channel, amount=Drops(channel.amount + 1)), 0)
    ledger._record(f"{ledger.index:064X}", PAYEES[1].account, ledger.index, "tesSUCCESS", 10, [change], 0)
    assert isinstance(change, ChannelChange)


def decided(engine: Engine, times: int) -> float:
    """Seconds of deciding one group (median) while every channel has a close under way."""
    actions = [RequestClose("hot", state.record.channel.channel_id) for state in engine.mirror.channels.values()]
    for entry in engine.store.journal([Intent(a, "idle", "F" * 64) for a in actions], engine.ledger.header().index):
        engine.mirror.open_entry(entry)
    group, each = next(iter(engine.mirror.groups.values())), []
    for _ in range(times):
        engine.planner.urge(group)
        began = time.perf_counter()
        engine.decide_all()
        each.append(time.perf_counter() - began)
    return statistics.median(each)


def measure(channels: int, ledgers: int) -> tuple[float, float, float]:
    """Seconds of a cold start after the pages arrived, of one ledger and of one decision (medians)."""
    with tempfile.TemporaryDirectory() as directory:
        engine = stored(Path(directory), filled(channels), calm())
        began = time.perf_counter()
        engine.build()
        engine.connect()
        start, each = time.perf_counter() - began, []
        for _ in range(ledgers):
            changed(engine)
            engine.ledger.history = engine.ledger.history[-1:]
            engine.pass_time(4)
            began = time.perf_counter()
            drive(engine.follower._process(engine.session, engine.ledger.header()))  # type: ignore[arg-type]
            each.append(time.perf_counter() - began)
        decision = decided(engine, ledgers)
        engine.kill()
        return start, statistics.median(each), decision


def main() -> int:
    """Measure both and print them."""
    parser = argparse.ArgumentParser(prog="scripts/bench ledger", description=__doc__)
    parser.add_argument("--ledgers", type=int, default=200)
    ledgers = parser.parse_args().ledgers
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    found = {}
    for channels in (100, 10_000):
        start, each, decision = measure(channels, ledgers)
        ledger_us, decision_us = round(each * 1e6), round(decision * 1e6)
        found[str(channels)] = {"cold_start_s": round(start, 3), "ledger_us": ledger_us, "decision_us": decision_us}
        print(
            f"{channels:>6} channels: start {start:6.2f} s, a ledger with one change {ledger_us:6} us,"
            f" a decision while as many close {decision_us:6} us",
            flush=True,
        )
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
