"""A run of the daemon on the sandbox's ledger, then why, of every channel it ever had.

Each chain must have for every link the inputs, the rule or the pool's terms, the reason, the transaction as the ledger
has it where one was sent, and the outcome. Prints how many links of each kind there were; the exit status is 1 if a
chain lacks anything.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from pathlib import Path

from options import numbers

sys.path[:0] = [str(Path(__file__).parents[2] / folder) for folder in ("", "tests")]

from e2e.explaining import explained, of_ledger, run, settled  # noqa: E402
from e2e.world import World  # noqa: E402


async def soak(seconds: float, seed: int) -> None:
    """One run, and all of its channels explained."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as directory:
        async with World(Path(directory), close_interval_s=1.0) as world:
            stage = await run(world, seconds, seed)
            await settled(world, stage)
            kinds = await explained(world, stage, source="daemon")
            channels = len(await of_ledger(world, stage.wallet.address))
            size = stage.store.with_name("channeld.history.db").stat().st_size
    for kind, count in kinds.most_common():
        print(f"{count:7}  {kind}")
    took = time.monotonic() - started
    print(f"{channels} channels explained, {size / 1000:.0f} KB of history, {took:.0f} s, seed {seed}")


if __name__ == "__main__":
    asyncio.run(soak(*numbers(__doc__, seconds=600, seed=1)))
