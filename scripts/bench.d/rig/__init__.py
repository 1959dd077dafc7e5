"""What the benchmarks stand on: a real broker, what is measured, a load generator in C, and how its figures are shown.

`contenders` are what answers requests, `native` builds and runs the C programs, `runs` decides what is run in which
order and takes medians, `report` prints. Another contender is another class in `contenders`.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]

for needed in (ROOT, ROOT / "tests"):  # the tests' helpers start a Mosquitto here, too
    if str(needed) not in sys.path:
        sys.path.append(str(needed))
