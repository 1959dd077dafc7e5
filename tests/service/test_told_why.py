"""Who comes again after an attempt to get more has failed is told what it ended with."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from engine import Engine
from lab import Lab

from channeld.core.policy import Policy
from channeld.core.requests import Code, Refusal
from channeld.core.rules import Rule
from channeld.core.vocabulary import Concern

SOON = "it comes too soon after the last attempt to get more"
THEN = "; the next is made then"


def told(engine: Engine, note: str) -> Refusal:
    """What is said after the one attempt to open a channel failed with this."""
    engine.connect()
    engine.answer(engine.ask("one", 5))
    (group,) = [g for g in engine.mirror.groups.values() if g.opening]
    (entry,) = engine.mirror.journal.values()
    engine.reconciler.fail(entry, note)
    (answer,) = engine.answer(engine.ask("one", 5))
    assert isinstance(answer, Refusal)
    assert group.setback is not None
    return answer


@pytest.mark.parametrize("dies", [False, True])
@pytest.mark.parametrize(
    ("note", "words"),
    [
        ("tecNO_DST", ", which ended with tecNO_DST (the payee's account does not exist)"),
        ("tecNO_PERMISSION", ", which ended with tecNO_PERMISSION (the payee's account takes no channels)"),
        ("tecUNFUNDED", ", which ended with tecUNFUNDED (the wallet has too little)"),
        ("tecDIR_FULL", ", which ended with tecDIR_FULL"),
        ("no_effect", ""),
        ("rPayee1 has no key sEdSecret", ""),
        ("", ""),
    ],
)
def test_a_failed_attempt_is_told_by_its_code_and_by_nothing_else_of_it(
    tmp_path: Path, note: str, words: str, dies: bool
) -> None:
    engine = Engine(tmp_path / "s.db")
    answer = told(engine, note)
    if dies:
        engine.restart()
        (again,) = engine.answer(engine.ask("one", 5))
        assert isinstance(again, Refusal)
        answer = again
    assert (answer.code, answer.reason) == (Code.NO_HEADROOM, SOON + words + THEN)
    assert answer.retry_after_ms == 10_000


def slowly(terms: Policy) -> Policy:
    return replace(terms, rules={Concern.OPEN: (Rule("slowly", set={"cooldown": 600}),)})


def test_a_cooldown_of_a_rule_is_no_failure(tmp_path: Path) -> None:
    """What failed before that, and has cooled down, is not what it waits for."""
    engine = Engine(tmp_path / "s.db")
    told(engine, "tecNO_DST")
    engine.policy = slowly(engine.policy)
    engine.restart()
    for _ in range(3):
        engine.tick()
    (answer,) = engine.answer(engine.ask("one", 5))
    assert isinstance(answer, Refusal)
    assert answer.reason == SOON + THEN


def test_a_payee_that_is_not_on_the_ledger_is_called_that(tmp_path: Path) -> None:
    lab = Lab(tmp_path / "s.db")
    grant = lab.mirror.grants["a"]
    payees = {**grant.payees, lab.payee("nobody"): grant.payees[lab.payee("bob")]}
    lab.mirror.grants = {"a": replace(grant, payees=payees)}
    heard = []
    for _ in range(8):
        answer = lab.ask("1", 5, "nobody")
        assert isinstance(answer, Refusal)
        heard.append(answer.reason)
        lab.tick()
    assert SOON + ", which ended with tecNO_DST (the payee's account does not exist)" + THEN in heard
    assert set(heard) == {heard[0], SOON + ", which ended with tecNO_DST (the payee's account does not exist)" + THEN}
    assert heard[0] == "a channel is being opened"
