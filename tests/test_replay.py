"""A policy over recorded history: the one of the time differs in nothing; another differs where it must."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from adapters.test_history import Engine
from core.test_collecting import Case, a_case
from hypothesis import given, settings
from hypothesis import strategies as st
from worlds import NOW, case_of

from channeld.app.replay import MOST, replay
from channeld.cli.plans import replay_lines
from channeld.core.collecting import Collecting, Wait, collect_all
from channeld.core.decide import decide
from channeld.core.errors import Unreachable
from channeld.core.history import collected
from channeld.core.intents import Intent
from channeld.core.policy import Policy
from channeld.core.units import LedgerIndex, RippleTime
from channeld.core.vocabulary import Concern, Mode
from channeld.core.world import Reason


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


def collected_by(seed: int, directory: Path) -> tuple[Any, Case, list[tuple[Collecting, Intent | Wait]]]:
    """Settings of a daemon whose history has the channels that pay us of one case, decided in turn."""
    engine, case = Engine(directory), a_case(seed)
    answers = collect_all(case.seen, case.policy, RippleTime(NOW))
    for number, (seen, answer) in enumerate(answers, 1):
        said = collected(seen.held.channel.channel_id, answer, number if isinstance(answer, Intent) else None)
        engine.chronicle.collected(
            LedgerIndex(1), RippleTime(NOW), case.policy, wallet=seen.wallet, seen=seen, said=said
        )
    engine.write(10**6)
    engine.history.close()
    return SimpleNamespace(store=SimpleNamespace(path=directory / "channeld.db")), case, answers


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**63 - 1))
def test_every_channel_that_pays_us_is_on_record_and_decided_again_alike(
    seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """One answer each, but for what waits for an intent that was; with the path, and what money was short of."""
    where, case, answers = collected_by(seed, tmp_path_factory.mktemp("replay"))
    found = replay(where, case.policy)
    assert found["differing"] == found["unreadable"] == 0, found["changes"]
    news = [a for _, a in answers if isinstance(a, Intent) or a.reason is not Reason.IN_FLIGHT]
    assert found["same"] == found["answers"] == len(news)
    observing = replace(case.policy, modes={Concern.REDEEM: Mode.OBSERVE}, hash="0" * 64)
    changes = replay(where, observing)["changes"]
    assert not [change for change in changes if change["from"].endswith(("source_closes", "before_end"))]


def test_history_of_before_is_left_out(tmp_path: Path) -> None:
    """`since` is a moment; without a history there is nothing to decide on."""
    with pytest.raises(Unreachable, match="no history"):
        replay(SimpleNamespace(store=SimpleNamespace(path=tmp_path / "none.db")), case_of(1).policy)
    where, policy = recorded(1, tmp_path)
    assert replay(where, policy)["moments"] > 0
    assert replay(where, policy, 2_000_000_000)["moments"] == 0
