"""A policy over recorded history: the one of the time differs in nothing; another differs where it must."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from adapters.test_history import Engine
from hypothesis import given, settings
from hypothesis import strategies as st
from worlds import case_of

from channeld.app.replay import MOST, replay
from channeld.cli.plans import replay_lines
from channeld.core.decide import decide
from channeld.core.errors import Unreachable
from channeld.core.policy import Policy
from channeld.core.vocabulary import Concern, Mode


def recorded(seed: int, directory: Path, ledgers: int = 3) -> tuple[Any, Policy]:
    """Settings of a daemon whose history has the groups of one world, each decided by itself, and the policy."""
    engine, case = Engine(directory), case_of(seed)
    for _ in range(ledgers):
        engine.ledger += 1
        for group in case.world.groups:
            world = replace(case.world, groups=(group,))
            engine.tell(world, case.policy, decide(world, case.policy))
    engine.write(10**6)
    engine.history.close()
    store = SimpleNamespace(path=directory / "channeld.db")
    return SimpleNamespace(store=store), case.policy


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**63 - 1))
def test_the_policy_of_the_time_answers_as_it_did(seed: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    """On inputs as they were recorded, nothing differs, and everything is counted."""
    where, policy = recorded(seed, tmp_path_factory.mktemp("replay"))
    found = replay(where, policy)
    assert found["differing"] == 0, found["changes"]
    assert found["same"] == found["answers"]
    assert found["recorded_policies"] in ([policy.hash], [])


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**63 - 1))
def test_a_policy_that_only_observes_differs_in_what_was_done(
    seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """What has no deadline is not done under it: each is listed with what was and would be, and counted by kind."""
    where, policy = recorded(seed, tmp_path_factory.mktemp("replay"))
    observing = replace(policy, modes=dict.fromkeys(Concern, Mode.OBSERVE), hash="0" * 64)
    found = replay(where, observing)
    assert found["same"] + found["differing"] == found["answers"]
    assert sum(change["count"] for change in found["changes"]) == found["differing"]
    assert len(found["differences"]) == min(found["differing"], MOST)
    for each in found["differences"]:
        assert each["policy"]["answer"] != "done" or each["recorded"]["answer"] == "done"
    text = "\n".join(replay_lines(found))
    assert f"{found['differing']} otherwise" in text


def test_history_of_before_is_left_out(tmp_path: Path) -> None:
    """`since` is a moment; without a history there is nothing to decide on."""
    with pytest.raises(Unreachable, match="no history"):
        replay(SimpleNamespace(store=SimpleNamespace(path=tmp_path / "none.db")), case_of(1).policy)
    where, policy = recorded(1, tmp_path)
    assert replay(where, policy)["moments"] > 0
    assert replay(where, policy, 2_000_000_000)["moments"] == 0
