"""A user of a dedicated tier has channels of his own, and nobody else ever draws from them."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from engine import Engine, policy
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from worlds import PAYEES

from channeld.app.plan import plan
from channeld.core.policy import Policy, Tier
from channeld.core.requests import Answer, Code, Granted, Refusal
from channeld.core.rules import OneOf, Rule
from channeld.core.vocabulary import Concern
from channeld.service import usher

GOLD = {"gold": Tier("gold", ("g*",), dedicated=True), "named": Tier("named", trust_request=True, dedicated=True)}


def terms(**more: Any) -> Policy:
    return replace(policy(opens=20, **more), tiers=GOLD)


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    made = Engine(tmp_path / "s.db", terms=terms(), caps={"a": (10**18, 10**9, 30), "b": (10**18, 10**9, 30)})
    made.connect()
    return made


def buy(engine: Engine, number: str, **said: Any) -> Granted:
    """Ask until accepted, which takes a few ledgers."""
    for turn in range(8):
        answer = engine.answer(engine.ask(f"{number}-{turn}", 2, **said))[0]
        if isinstance(answer, Granted):
            return answer
        assert answer.code is Code.NO_HEADROOM
        engine.tick()
    raise AssertionError("never accepted")


def owners(engine: Engine) -> dict[str, str]:
    return dict(engine.on_disk("SELECT channel_id, user FROM channel"))  # type: ignore[arg-type]


def test_gold_has_his_own_and_a_spare_and_all_others_share(engine: Engine) -> None:
    mine = buy(engine, "1", user="g1").claim.channel_id
    shared = buy(engine, "2", user="x").claim.channel_id
    assert shared != mine
    assert buy(engine, "3", user="y").claim.channel_id == shared
    assert buy(engine, "4").claim.channel_id == shared
    assert buy(engine, "5", user="x", tier="gold").claim.channel_id == shared, "gold does not trust requests"
    named = buy(engine, "6", user="x", tier="named").claim.channel_id
    assert named not in (mine, shared)
    for _ in range(4):
        engine.tick()
    assert sorted(owners(engine).values()) == ["", "g1", "g1", "x", "x"], "a spare each, by default, for their own"
    assert set(engine.on_disk("SELECT user, tier FROM channel")) == {("", ""), ("g1", "gold"), ("x", "named")}


def test_a_restart_in_between_forgets_nobody(engine: Engine) -> None:
    assert isinstance(engine.answer(engine.ask("first", 2, user="g1"))[0], Refusal)
    engine.restart()
    mine = buy(engine, "1", user="g1").claim.channel_id
    engine.restart()
    assert buy(engine, "2", user="g1").claim.channel_id == mine
    assert owners(engine)[mine] == "g1"
    (group,) = (g for g in engine.mirror.groups.values() if g.user == "g1")
    assert (group.tier, group.subject) == ("gold", f"{PAYEES[0]}/g1")


def test_a_plan_names_a_user_whose_channel_a_freeze_keeps_from_being_opened(engine: Engine) -> None:
    """As the history does, and with what would be done were the wallet not frozen."""
    engine.mirror.frozen_wallets["hot"] = {"operator": "by hand"}
    for user in ("", "g1"):
        group = engine.mirror.group("p", PAYEES[0], user)
        group.wanted, group.wanted_by = 2, "a"
    daemon: Any = SimpleNamespace(
        mirror=engine.mirror, planner=engine.planner, store=engine.store, monotonic=lambda: engine.clock
    )
    told = engine.loop.run_until_complete(plan(daemon, None))
    assert [(would["subject"], would["action"], would["reason"]) for would in told["would"]] == [
        (f"p/{PAYEES[0]}", "open", "frozen"),
        (f"p/{PAYEES[0]}/g1", "open", "frozen"),
    ]


def test_rules_and_overrides_tell_tiers_apart(tmp_path: Path) -> None:
    rules = {Concern.OPEN: (Rule("no", {"tier": OneOf(frozenset({"named"}))}, {}, "hold"),)}
    engine = Engine(tmp_path / "s.db", terms=replace(terms(), rules=rules))
    engine.connect()
    buy(engine, "1", user="g1")
    for _ in range(4):
        answer = engine.answer(engine.ask("2", 2, user="x", tier="named"))[0]
        assert isinstance(answer, Refusal)
        assert "a rule of the policy" in answer.reason
        engine.tick()


def test_users_that_a_server_invents_take_no_memory_and_cost_no_more_than_its_caps(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.answer(*(engine.ask(f"q{n}", 2, user=f"g{n}") for n in range(300)))
    for _ in range(8):
        engine.tick()
    assert len(owners(engine)) == 30, "max_open_channels"
    assert len(engine.mirror.groups) <= 31
    monkeypatch.setattr(usher, "MOST_WITHOUT_CHANNELS", 5)
    engine.answer(*(engine.ask(f"r{n}", 2, user=f"h{n}", tier="named") for n in range(300)))
    assert len(engine.mirror.groups) <= 31 + 3 + 5 + 5


class Users(RuleBasedStateMachine):
    """Users of all kinds ask, channels are lost, the process dies: whoever signs on a channel is the one it is for."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.number = 0
        self.drew: dict[str, set[str]] = {}

    @initialize(most=st.integers(1, 3))
    def begin(self, most: int) -> None:
        caps = {"a": (10**18, 400, 9), "b": (10**18, 200, 4)}
        self.engine = Engine(Path(self.folder.name) / "s.db", terms=terms(max_per_payee=most), caps=caps)
        self.engine.connect()

    def teardown(self) -> None:
        self.engine.kill()
        self.folder.cleanup()

    @rule(
        asks=st.lists(
            st.tuples(
                st.sampled_from("ab"),
                st.sampled_from(["", "g1", "g2", "x", "y"]),
                st.sampled_from([None, "named", "gold"]),
                st.integers(1, 8),
            ),
            min_size=1,
            max_size=4,
        )
    )
    def claims(self, asks: list[tuple[str, str, str | None, int]]) -> None:
        made = []
        for server, user, tier, drops in asks:
            self.number += 1
            made.append(self.engine.ask(self.number, drops, server=server, user=user, tier=tier))
        for (_, user, tier, _), answer in zip(asks, self.engine.answer(*made), strict=True):
            own = user if user.startswith("g") or (tier == "named" and user) else ""
            self.judge(own, answer)

    def judge(self, own: str, answer: Answer) -> None:
        if isinstance(answer, Granted):
            self.drew.setdefault(answer.claim.channel_id, set()).add(own)
            assert self.engine.mirror.by_row  # it lives
            assert owners(self.engine)[answer.claim.channel_id] == own

    @rule(count=st.integers(1, 4))
    def ledgers(self, count: int) -> None:
        for _ in range(count):
            self.engine.tick()

    @rule()
    def crash(self) -> None:
        self.engine.restart()

    @rule(pick=st.integers(0, 9))
    def a_payee_closes(self, pick: int) -> None:
        there = sorted(self.engine.ledger.channels)
        if there:
            self.engine.ledger._delete(self.engine.ledger.channels[there[pick % len(there)]], 0)
            self.engine.connect()

    @invariant()
    def nobody_draws_from_anothers_channel(self) -> None:
        assert all(len(users) == 1 for users in self.drew.values())


TestUsers = Users.TestCase
TestUsers.settings = settings(max_examples=max(5, settings().max_examples // 4), stateful_step_count=12)
