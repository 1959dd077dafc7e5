"""An override ends by the ledger's clock: nobody has to read the policy again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from engine import Engine, policy

from channeld.core.policy import Override, Policy, Scope
from channeld.core.requests import Code, Granted, Refusal
from channeld.core.units import RippleTime
from channeld.core.vocabulary import Concern
from channeld.core.world import Reason

HELD_S = 24


def held(concern: Concern, until: int) -> Policy:
    override = Override(Scope(pool="p"), frozenset({concern}), RippleTime(until), "ticket 4711")
    return replace(policy(), overrides=(override,))


def test_what_an_override_holds_is_done_with_the_ledger_that_is_past_its_end(tmp_path: Path) -> None:
    """Funding that is due waits, and goes by itself: no request, no reload, no restart in between."""
    engine = Engine(tmp_path / "store.db")
    engine.connect()
    channel_id = engine.opened(drops=18)
    end = engine.ledger.time + HELD_S
    engine.policy = engine.mirror.policy = held(Concern.FUND, end)
    assert isinstance(engine.answer(engine.ask("low", 18))[0], Granted)
    engine.tick()
    group = next(iter(engine.mirror.groups.values()))
    while engine.ledger.time + 4 < end:
        engine.tick()
        assert not engine.mirror.journal, "it is held"
    assert engine.ledger.channels[channel_id].amount == 20
    engine.tick(end - engine.ledger.time)
    (entry,) = engine.mirror.journal.values()
    assert (entry.action.kind.value, engine.mirror.header.close_time if engine.mirror.header else None) == ("fund", end)
    for _ in range(2):
        engine.tick()
    assert engine.ledger.channels[channel_id].amount > 20
    assert group.wanted == 0


@pytest.mark.parametrize("left", [1, 0])
def test_the_desk_opens_to_the_second(tmp_path: Path, left: int) -> None:
    """`until` is the first moment at which it is as if the override were not there; what is told is the time left."""
    engine = Engine(tmp_path / "store.db")
    engine.connect()
    engine.opened(drops=1)
    end = engine.ledger.time + HELD_S
    engine.policy = engine.mirror.policy = held(Concern.ADMIT, end)
    answer = engine.answer(engine.ask("early", 1))[0]
    assert isinstance(answer, Refusal)
    assert (answer.code, answer.retry_after_ms) == (Code.FROZEN, HELD_S * 1000)
    engine.tick(HELD_S - left)
    answer = engine.answer(engine.ask("late", 1))[0]
    assert isinstance(answer, Refusal if left else Granted)


def test_a_held_opening_is_refused_with_its_reason_and_opened_when_it_is_over(tmp_path: Path) -> None:
    engine = Engine(tmp_path / "store.db")
    engine.connect()
    end = engine.ledger.time + HELD_S
    engine.policy = engine.mirror.policy = held(Concern.OPEN, end)
    answer = engine.answer(engine.ask("first", 1))[0]
    assert isinstance(answer, Refusal)
    assert answer.code is Code.NO_HEADROOM
    (group,) = engine.mirror.groups.values()
    assert group.answer is not None
    assert (group.answer.reason, group.answer.until) == (Reason.OVERRIDE, end)
    engine.tick(HELD_S)
    engine.answer(engine.ask("first", 1))
    assert engine.mirror.journal, "asked again, it is opened"
