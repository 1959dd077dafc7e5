"""SIGKILL to a real daemon before and after every step of every kind of transaction.

A first life is not killed and shows which steps there are; every later one dies at one of them, on the first of its
OCCASIONS, the second and so on, is started again, and must end as the first. Prints the number of cases and each one
that ended differently; the exit status is then 1, and also if too many of them never came to where they were to die.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

from options import numbers

sys.path[:0] = [str(Path(__file__).parents[2] / folder) for folder in ("", "tests")]

from e2e.test_steps import CLOSE_INTERVAL_S, NEVER, Death, Life, live  # noqa: E402
from e2e.world import World  # noqa: E402

MOST_MISSED = 0.1
"""Of the deaths, how many may miss their place: what is sent when depends on when ledgers close."""


def deaths(clean: Life, occasions: int) -> list[Death]:
    """Every place that the clean life came by, on its first occasions; twice as many where it is of many kinds."""
    return [
        Death(*place, nth)
        for place, count in sorted(clean.contacts.items())
        for nth in range(1, min(count, occasions if place[1] else 2 * occasions) + 1)
    ]


async def lane(cases: Sequence[Death], clean: Life) -> tuple[int, int]:
    """Some deaths on a ledger and a broker of their own: how many died where they should, and how many ended ill."""
    died = ill = 0
    with tempfile.TemporaryDirectory() as directory:
        async with World(Path(directory), close_interval_s=CLOSE_INTERVAL_S) as world:
            for number, death in enumerate(cases):
                try:
                    life = await live(world, number, death)
                except Exception:
                    ill += 1
                    print(f"{death}: it did not end\n{traceback.format_exc()}", flush=True)
                    continue
                died += life.died
                differs = {name: found for name, found in life.fate.items() if found != clean.fate[name]}
                if differs:
                    ill += 1
                    print(f"{death}: ended with {differs}, not {[clean.fate[name] for name in differs]}", flush=True)
    return died, ill


async def soak(occasions: int, lanes: int) -> int:
    """The life without a death, then all others, in so many lanes side by side."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as directory:
        async with World(Path(directory), close_interval_s=CLOSE_INTERVAL_S) as world:
            clean = await live(world, 0, NEVER)
    cases = deaths(clean, occasions)
    found = await asyncio.gather(*(lane(cases[number::lanes], clean) for number in range(lanes)))
    died, ill = (sum(column) for column in zip(*found, strict=True))
    places = len({(d.step, d.kind, d.when) for d in cases})
    took = time.monotonic() - started
    print(f"{len(cases)} cases at {places} places, {died} died there, {ill} ended differently, {took:.0f} s")
    return int(ill > 0 or died < (1 - MOST_MISSED) * len(cases))


if __name__ == "__main__":
    sys.exit(asyncio.run(soak(*numbers(__doc__, occasions=2, lanes=3))))
