"""How long hypothesis looks: briefly by default, long when CHANNELD_SOAK is set. What no test is to find in its
environment. And who listens to every daemon.
"""

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
LONGEST = (
    "test_two_nodes_die_and_freeze_in_turn_under_load",
    "test_rules_act_within_budgets_that_no_sigkill_makes_forget",
    "test_a_server_that_vanishes_with_ten_thousand_replies_due",
    "test_one_liar_among_three_is_never_believed",
    "test_sigkill_at_chosen_steps_ends_as_the_life_without_it",
    "test_a_notice_is_told_once_and_the_close_comes_after_it",
    "test_yesterdays_store_put_back_does_not_sign",
    "test_daemon_and_broker_are_killed_at_random_moments",
    "test_a_fixed_end_comes_under_load_and_no_request_is_refused",
    "test_a_channel_lives_from_open_to_close_by_the_policys_values",
    "test_a_death_at_every_step_ends_as_the_life_without_one",
)
"""Tests that take the longest, by waiting or by work."""


def pytest_configure(config: pytest.Config) -> None:
    """Before any part of channeld is imported. Who only starts workers listens to none: they do that themselves."""
    if hasattr(config, "workerinput") or not config.getoption("numprocesses", None):
        HEARD.listen()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest first, then all that are slow: mostly they wait, and no worker is left with one at the end."""
    items.sort(key=lambda item: (getattr(item, "originalname", "") not in LONGEST, not item.get_closest_marker("slow")))


@pytest.fixture(scope="session", autouse=True)
def no_settings() -> Iterator[None]:
    """What stands in this environment for a daemon, or for the scripts that start the tests, reaches no daemon of a
    test, which would refuse it. What is for tests was read with their modules.
    """
    with pytest.MonkeyPatch.context() as patch:
        for variable in [name for name in os.environ if name.startswith("CHANNELD_")]:
            patch.delenv(variable)
        yield


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
