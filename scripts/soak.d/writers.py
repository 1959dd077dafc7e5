"""Two daemons with stores of their own on one wallet, started at random moments.

Whatever the timing, at most one of the two issues. Prints how often the first, the second or neither did; the exit
status is 1 if both ever did, or if nobody ever issued.
"""

from __future__ import annotations

import asyncio
import random
import sys
import tempfile
from collections import Counter
from pathlib import Path

from options import numbers

sys.path[:0] = [str(Path(__file__).parents[2] / folder) for folder in ("", "tests")]

from e2e.test_truth import two_writers  # noqa: E402
from e2e.world import World  # noqa: E402

LONGEST_OFFSET_S = 8.0
"""By then the first has opened its channel and issues."""
WORDS = {(True, True): "both", (True, False): "first", (False, True): "second", (False, False): "neither"}


async def lane(number: int, starts: int, rng: random.Random) -> Counter[str]:
    """Some starts, one after the other, on a ledger and a broker of their own."""
    seen: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as directory:
        async with World(Path(directory)) as world:
            for start in range(starts):
                offset_s = rng.choice([0.0, rng.uniform(0, 2), rng.uniform(0, LONGEST_OFFSET_S)])
                first, second = await two_writers(world, str(start), offset_s)
                seen[WORDS[bool(first), bool(second)]] += 1
                if first and second:
                    print(f"BOTH: lane {number}, start {start}, offset {offset_s:.3f} s: {first} and {second} claims")
    return seen


async def soak(starts: int, seed: int, lanes: int) -> Counter[str]:
    """All starts, in so many lanes side by side."""
    shares = [len(range(number, starts, lanes)) for number in range(lanes)]
    work = [lane(number, share, random.Random(seed * 1000 + number)) for number, share in enumerate(shares)]
    return sum(await asyncio.gather(*work), Counter[str]())


def main() -> int:
    starts, seed, lanes = numbers(__doc__, starts=100, seed=1, lanes=2)
    seen = asyncio.run(soak(starts, seed, lanes))
    told = ", ".join(f"{seen[word]} {word}" for word in ("first", "second", "neither", "both"))
    print(f"{starts} starts, seed {seed}, who issued: {told}")
    return int(bool(seen["both"]) or not (seen["first"] + seen["second"]))


if __name__ == "__main__":
    sys.exit(main())
