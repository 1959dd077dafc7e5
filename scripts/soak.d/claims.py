"""SIGKILL of daemon and broker at random moments under load.

Content servers repeat what got no answer. At the end: what is signed is what was accepted, to the drop; slices are
disjoint; no id debited twice; no claim below one seen before; a repeated id got the same claim. Prints what it counted.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from pathlib import Path

import structlog
from options import numbers

sys.path[:0] = [str(Path(__file__).parents[2] / folder) for folder in ("", "tests")]

from e2e.killing import soak  # noqa: E402


def main() -> None:
    kills, seed = numbers(__doc__, kills=200, seed=1)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="channeld-soak-") as directory:
        counted = asyncio.run(soak(Path(directory), kills, seed))
    killed = ", ".join(f"{count} {what}" for what, count in counted["kills"].items())
    print(
        f"{kills} kills ({killed}); {counted['claims']} claims for {counted['drops']} drops on {counted['channels']}"
        f" channels, {counted['replays']} repeats answered alike; {time.monotonic() - started:.0f} s, seed {seed}"
    )


if __name__ == "__main__":
    main()
