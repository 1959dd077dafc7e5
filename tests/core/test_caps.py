"""Where a cap leaves no room for funding, what is owed is paid out to make it, unless funding is held back anyhow."""

from __future__ import annotations

from dataclasses import replace

import pytest
from one_payee import acts, terms, view, world
from worlds import NOW

from channeld.core.decide import decide
from channeld.core.intents import SettleChannel
from channeld.core.policy import Override, Scope
from channeld.core.units import RippleTime
from channeld.core.vocabulary import Concern, Mode
from channeld.core.world import Reason


@pytest.mark.parametrize("held", ["", "override", "mode"])
def test_no_room_is_made_for_a_funding_that_is_held_back(held: str) -> None:
    policy = terms(0)
    if held == "override":
        override = Override(Scope(pool="p"), frozenset({Concern.FUND}), RippleTime(NOW + 50), "why")
        policy = replace(policy, overrides=(override,))
    elif held == "mode":
        policy = replace(policy, modes={Concern.FUND: Mode.OBSERVE})
    decision = decide(world(view(1, amount=100, left=2), caps=(100, 9)), policy)
    if not held:
        (action,) = acts(decision)
        assert isinstance(action, SettleChannel)
    else:
        assert acts(decision) == []
        (reason,) = [hold.reason for hold in decision.holds if len(hold.subject) == 64]
        assert reason is (Reason.OVERRIDE if held == "override" else Reason.OBSERVED)
