"""Policy files gone wrong: each is accepted or refused with a located message.

Prints how many of each there were, and how many lines of problems. A failure names the seed of its file.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from options import numbers

sys.path[:0] = [str(Path(__file__).parents[2] / folder) for folder in ("", "tests")]

from mutants import examine  # noqa: E402


def main() -> None:
    files, first = numbers(__doc__, files=10_000, seed=1)
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        ends = Counter(examine(seed, Path(folder)) for seed in range(first, first + files))
    took = time.monotonic() - started
    print(f"{files} files: {ends['accepted']} accepted, {ends['refused']} refused, none crashed; {took:.0f} s")


if __name__ == "__main__":
    main()
