"""The command line of a soak: some whole numbers, in an order, each of which may be left out."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def numbers(said: str | None, **defaults: int) -> list[int]:
    """What was given, or the default, of each in this order. `--help` prints `said`, the soak's own docstring."""
    parser = argparse.ArgumentParser(
        prog=f"scripts/soak {Path(sys.argv[0]).stem}",
        description=said,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    for name, default in defaults.items():
        parser.add_argument(name, type=int, nargs="?", default=default, help=f"{default} where it is not given")
    given = parser.parse_args()
    return [getattr(given, name) for name in defaults]
