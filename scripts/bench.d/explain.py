"""What the history of decisions costs.

The engine's part of a ledger that touches so many groups, with and without a chronicle that listens, where nothing is
new and where all is; the writer's part in its thread; and what an answer takes on disk.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[2] / folder) for folder in ("", "tests")]

from lab import terms  # noqa: E402
from worlds import PAYEES, channel  # noqa: E402

from channeld.adapters.sqlite.history import History, history_path  # noqa: E402
from channeld.app.annals import SLICE  # noqa: E402
from channeld.core.decide import decide  # noqa: E402
from channeld.core.demand import Rate  # noqa: E402
from channeld.core.ledger import AccountState, Fees  # noqa: E402
from channeld.core.units import Address, Drops, LedgerIndex, Payee, RippleTime  # noqa: E402
from channeld.core.world import ChannelView, GroupView, ServerView, WalletView, World  # noqa: E402
from channeld.service.chronicle import Chronicle  # noqa: E402

ROUNDS = 40


def world_of(groups: int, channels: int) -> World:
    """So many payees with so many channels each, all of them within their band."""
    views = []
    for number in range(groups):
        payee = Payee(PAYEES[0].account, number)
        states = tuple(
            ChannelView(
                channel(number * channels + n, amount=60, payee=payee),
                20,
                True,
                "a",
                RippleTime(900),
                RippleTime(990),
                RippleTime(990),
                None,
                None,
                None,
            )
            for n in range(channels)
        )
        views.append(GroupView("p", payee, "a", states, 0, 0, Rate(0, RippleTime(990))))
    account = AccountState(Address("rsxZupPvnQbaSQbrTtCnTgGtQwJksr8VL3"), Drops(10**9), 1, 0)
    fees = Fees(Drops(10), Drops(10), Drops(2))
    return World(
        RippleTime(1000),
        0.0,
        fees,
        tuple(views),
        {"p": WalletView(account, 0, 0)},
        {"a": ServerView(0, 0, 10**9, 10**6)},
        0,
    )


def timed(work: Callable[[], object]) -> float:
    """Median milliseconds of a piece of work."""
    took = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        work()
        took.append((time.perf_counter() - started) * 1000)
    return statistics.median(took)


def main(groups: int, channels: int) -> None:
    world, policy = world_of(groups, channels), terms()
    policy = replace(policy, pools={"p": replace(policy.pools["p"], wallet="p")})
    decision = decide(world, policy)
    index = LedgerIndex(7)

    def tell(chronicle: Chronicle) -> None:
        chronicle.decided(index, world, policy, entries=(), holds=decision.holds, wishes=decision.suggested)

    known = Chronicle({}, time.time)
    tell(known)
    print(f"{groups} groups of {channels} channels, {len(decision.holds)} answers")
    print(f"  deciding alone              {timed(lambda: decide(world, policy)):8.3f} ms")
    print(f"  chronicle, nothing new      {timed(lambda: tell(known)):8.3f} ms")
    print(f"  chronicle, everything new   {timed(lambda: tell(Chronicle({}, time.time))):8.3f} ms")
    with tempfile.TemporaryDirectory() as directory:
        path = history_path(Path(directory) / "channeld.db")
        history = History(path, network_id=0)
        news = known.next(10**6)
        started, rounds = time.perf_counter(), 10
        for _ in range(rounds):
            for start in range(0, len(news), SLICE):
                history.write(news[start : start + SLICE])
        took = (time.perf_counter() - started) / rounds
        history.close()
        moments, answers = len(news), sum(len(moment.answers) for moment in news)  # type: ignore[union-attr]
        size = path.stat().st_size / (answers * rounds)
        a_slice = took / moments * SLICE * 1000
        print(f"  writer, in its thread       {took * 1000:8.3f} ms: {a_slice:.2f} ms a slice of {SLICE}")
        print(f"  on disk                     {size:8.0f} bytes an answer")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="scripts/bench explain", description=__doc__)
    parser.add_argument("groups", type=int, nargs="?", default=256)
    parser.add_argument("channels", type=int, nargs="?", default=1, help="of each group")
    given = parser.parse_args()
    main(given.groups, given.channels)
