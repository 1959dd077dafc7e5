"""How long hypothesis looks: briefly by default, long when CHANNELD_SOAK is set. And who listens to every daemon."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest
from heard import Heard
from hypothesis import HealthCheck, settings

_CALM = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
settings.register_profile(
    "fast", max_examples=60, stateful_step_count=25, deadline=None, suppress_health_check=_CALM, print_blob=True
)
settings.register_profile("soak", settings.get_profile("fast"), max_examples=3000, stateful_step_count=80)
settings.load_profile("soak" if os.environ.get("CHANNELD_SOAK") else "fast")

HEARD = Heard()


def pytest_configure(config: pytest.Config) -> None:
    """Before any part of channeld is imported. Who only starts workers listens to none: they do that themselves."""
    if hasattr(config, "workerinput") or not config.getoption("numprocesses", None):
        HEARD.listen()


@pytest.fixture(autouse=True)
def heard() -> Iterator[Heard]:
    """Every message that any daemon of this test says or takes is of the contract; nothing needs to be asked for."""
    yield HEARD
    HEARD.judge()


def pytest_sessionfinish(session: Any) -> None:
    """A worker of several tells the one who started it how many it judged."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["judged"] = HEARD.judged


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    HEARD.judged += getattr(node, "workeroutput", {}).get("judged", 0)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    terminalreporter.write_line(f"{HEARD.judged} messages of daemons were judged by the AsyncAPI document")


def pytest_unconfigure() -> None:
    HEARD.close()
