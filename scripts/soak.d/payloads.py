"""Mutated payloads on all request topics, valid requests between them.

No crash, every request answered, every valid one accepted, memory flat. Prints what it counted.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from pathlib import Path

import structlog
from options import numbers

sys.path[:0] = [str(Path(__file__).parents[2] / folder) for folder in ("", "tests")]

from e2e.attack import GROWN_MIB, attack  # noqa: E402


def main() -> int:
    messages, seed = numbers(__doc__, messages=1_000_000, seed=1)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    with tempfile.TemporaryDirectory(prefix="channeld-soak-") as directory:
        counted = asyncio.run(attack(Path(directory), messages, seed))
    flat = counted["rss_last_mib"] <= counted["rss_first_mib"] + GROWN_MIB
    print(json.dumps({**counted, "seed": seed, "memory_flat": flat}))
    return 0 if flat else 1


if __name__ == "__main__":
    sys.exit(main())
