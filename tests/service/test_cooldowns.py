"""Cooldowns across crashes: however often the process dies, and wherever, no step comes sooner than it may."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from engine import Engine, Killed, policy

from channeld.core.intents import Kind
from channeld.core.policy import Policy
from channeld.core.rules import Rule
from channeld.core.vocabulary import Concern

COOLDOWN = 60


def terms() -> Policy:
    """Each claim makes funding and paying out due at once; only cooldowns space them."""
    often = Rule("often", set={"cooldown": COOLDOWN, "worth": 1})
    fund = Rule("slowly", set={"cooldown": COOLDOWN}, act="fund_to_target")
    pool = policy().pools["p"]
    roomy = replace(
        pool, channel=replace(pool.channel, max=10**6), fund=replace(pool.fund, low=10**5, target=10**5 + 1)
    )
    return replace(policy(), pools={"p": roomy}, rules={Concern.SETTLE: (often,), Concern.FUND: (fund,)})


def steps(engine: Engine) -> dict[str, list[int]]:
    """The ledgers on which each kind of step was decided."""
    found: dict[str, list[int]] = {"fund": [], "settle": []}
    for kind, ledger in engine.on_disk("SELECT kind, decided_at FROM intent ORDER BY number"):
        found.setdefault(kind, []).append(ledger)
    return found


def dies_in_journal(engine: Engine) -> None:
    """The process dies right after the intents were written down."""
    written: Callable[..., Any] = engine.store.journal

    def journal(*arguments: Any) -> Any:
        written(*arguments)
        raise Killed

    engine.store.journal = journal  # type: ignore[method-assign]


@pytest.mark.parametrize("restart_every", [0, 1, 4])
@pytest.mark.parametrize("in_journal", [False, True])
def test_no_step_comes_sooner_than_its_cooldown(tmp_path: Path, restart_every: int, in_journal: bool) -> None:
    engine = Engine(tmp_path / "s.db", terms=terms())
    engine.connect()
    engine.opened()
    for turn in range(80):
        engine.answer(engine.ask(turn, 1))
        if in_journal and restart_every:
            dies_in_journal(engine)
        try:
            engine.tick(4)
        except Killed:
            engine.restart()
        if restart_every and turn % restart_every == 0:
            engine.restart()
    found = steps(engine)
    for kind in ("fund", "settle"):
        apart = [4 * (b - a) for a, b in zip(found[kind], found[kind][1:], strict=False)]
        assert all(COOLDOWN <= seconds <= COOLDOWN + 8 for seconds in apart), (kind, apart)
        assert len(apart) >= 3


def test_what_is_owed_on_a_channel_that_is_closing_is_paid_though_it_cools_down(tmp_path: Path) -> None:
    engine = Engine(tmp_path / "s.db", terms=terms())
    engine.connect()
    channel_id = engine.opened()
    engine.answer(engine.ask("one", 1))
    engine.tick(4)
    engine.tick(4)
    assert len(steps(engine)["settle"]) == 1
    engine.answer(engine.ask("two", 1))
    ended = replace(engine.ledger.channels[channel_id], expiration=engine.ledger.time + 40)
    change = engine.ledger._put(ended, 0)
    engine.ledger._record(f"{1:064X}", ended.destination_account, 1, "tesSUCCESS", 10, [change], 0)
    engine.restart()
    engine.tick(4)
    engine.tick(4)
    assert len(steps(engine)["settle"]) == 2, "within its cooldown"
    assert engine.ledger.channels[channel_id].balance == 2


def test_a_channel_that_is_gone_leaves_nothing(tmp_path: Path) -> None:
    engine = Engine(tmp_path / "s.db")
    engine.connect()
    engine.opened()
    engine.answer(engine.ask("used", 5))
    for _ in range(60):
        engine.tick(4)
    assert engine.ledger.channels == {}
    assert [kind for (kind,) in engine.on_disk("SELECT kind FROM acted")] == [Kind.OPEN.value]
