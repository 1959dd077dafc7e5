"""Lives of the engine against the sandbox's ledger, with faults, third parties and deaths.

Prints the number of runs. What fails is shrunk and printed by hypothesis; the exit status is then 1.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import structlog
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test
from options import numbers

sys.path[:0] = [str(Path(__file__).parents[2] / folder) for folder in ("", "tests")]

from service.machine import LedgerMachine  # noqa: E402


def main() -> None:
    runs, chosen = numbers(__doc__, runs=2000, seed=1)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    calm = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
    terms = settings(
        max_examples=runs,
        stateful_step_count=30,
        deadline=None,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=calm,
    )
    started = time.monotonic()
    try:
        run_state_machine_as_test(seed(chosen)(LedgerMachine), settings=terms)
    finally:
        took = time.monotonic() - started
        print(f"{LedgerMachine.runs} runs, {LedgerMachine.deaths} deaths, {took:.0f} s, seed {chosen}")


if __name__ == "__main__":
    main()
