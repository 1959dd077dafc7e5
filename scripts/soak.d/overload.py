"""Twice what the desk accepts, for ten minutes.

Memory must be flat once it is warm (a tenth more at most, in runs of five minutes and longer), and everything that
waits bounded. Prints what it counted.
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

from e2e.overload import overload  # noqa: E402


def main() -> int:
    (seconds,) = numbers(__doc__, seconds=600)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    with tempfile.TemporaryDirectory(prefix="channeld-soak-") as directory:
        counted = asyncio.run(overload(Path(directory), seconds))
    print(json.dumps(counted))
    return 0 if counted["passed"] else 1


if __name__ == "__main__":
    sys.exit(main())
