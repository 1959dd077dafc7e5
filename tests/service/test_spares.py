"""The desk stays with one channel, and goes on with the spare at once when that one can carry no more."""

from __future__ import annotations

from pathlib import Path

import pytest
from engine import DELAY, LAG, MARGIN, Engine, policy

from channeld.core.freezes import Audit
from channeld.core.requests import Answer, Code, Granted, Refusal
from channeld.core.units import ChannelId, LedgerIndex


def channel_of(answer: Answer) -> str:
    assert isinstance(answer, Granted), answer
    return answer.claim.channel_id


def with_a_spare(path: Path, *, cancel_after: int | None = None) -> tuple[Engine, str, str]:
    """An engine whose payee has a channel in use and a spare."""
    engine = Engine(path / "s.db", terms=policy(cancel_after=cancel_after, max_per_payee=3, spare=1))
    engine.connect()
    first = engine.opened()
    assert channel_of(engine.answer(engine.ask("used", 1))[0]) == first
    for _ in range(4):
        engine.tick()
    _, spare = engine.ledger.created
    return engine, first, spare


def test_one_channel_carries_all_while_it_can_across_a_restart(tmp_path: Path) -> None:
    engine, first, _ = with_a_spare(tmp_path)
    for number in range(6):
        assert channel_of(engine.answer(engine.ask(number, 1))[0]) == first
        engine.tick()
        if number == 3:
            engine.restart()
    assert len(engine.ledger.created) == 2


@pytest.mark.parametrize("why", ["closed by hand", "paused", "ran out", "gone"])
def test_the_spare_goes_on_at_once(tmp_path: Path, why: str) -> None:
    engine, first, spare = with_a_spare(tmp_path)
    state = engine.mirror.channels[ChannelId(first)]
    if why == "closed by hand":
        engine.store.stop_issuing([ChannelId(first)], Audit(0, "me", "close", "why"))
        engine.mirror.stop_issuing(state)
        engine.planner.urge(state.group)
    elif why == "paused":
        engine.mirror.cautions[state] = {"a node": LedgerIndex(1)}
    elif why == "ran out":
        left = state.record.channel.headroom(state.record.authorized)
        assert channel_of(engine.answer(engine.ask("all", left))[0]) == first
    else:
        engine.ledger._delete(engine.ledger.channels[first], 0)
        engine.connect()
    assert channel_of(engine.answer(engine.ask("next", 5))[0]) == spare
    engine.mirror.cautions.clear()
    assert channel_of(engine.answer(engine.ask("later", 1))[0]) == spare, "it stays there"
    for _ in range(4):
        engine.tick()
    issuing = [c for c, s in engine.mirror.channels.items() if s.record.issuing]
    assert len(issuing) == 2, "another stands by where one went, and none where it did not"
    assert (first in issuing) == (why in ("paused", "ran out"))


def test_what_a_paused_channel_will_carry_is_asked_once_however_often_it_is_repeated(tmp_path: Path) -> None:
    engine, first, spare = with_a_spare(tmp_path)
    paused = [engine.mirror.channels[ChannelId(channel_id)] for channel_id in (first, spare)]
    group = paused[0].group
    assert group is not None
    asked = group.asked
    engine.mirror.cautions.update({state: {"a node": LedgerIndex(1)} for state in paused})
    for _ in range(5):
        (answer,) = engine.answer(engine.ask("r", 5))
        assert isinstance(answer, Refusal)
        assert answer.code is Code.FROZEN
    assert group.asked == asked
    engine.mirror.cautions.clear()
    assert isinstance(engine.answer(engine.ask("r", 5))[0], Granted)
    assert group.asked == asked + 5


def test_no_claim_is_issued_so_late_that_a_payee_lacks_its_delay_and_none_is_refused_for_it(tmp_path: Path) -> None:
    engine, first, _ = with_a_spare(tmp_path, cancel_after=200)
    used: list[str] = []
    for number in range(150):
        answer = engine.answer(engine.ask(number, 1))[0]
        assert not isinstance(answer, Refusal), (number, answer)
        shown = engine.ledger.channels[channel_of(answer)]
        assert shown.cancel_after is not None
        assert engine.ledger.time + LAG + DELAY + MARGIN <= shown.cancel_after
        used += [channel_of(answer)] if channel_of(answer) not in used else []
        engine.tick(4)
    assert used[0] == first
    assert len(used) >= 3
    assert 2 <= len([s for s in engine.mirror.channels.values() if s.record.issuing]) <= 4, "two, and who makes way"
