"""What was decided is journaled, or waits with a reason; what is owed before a channel's end never waits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from engine import Engine, policy

from channeld.core.policy import SettleTerms
from channeld.core.units import Drops, Seconds


@pytest.mark.parametrize("frozen", [True, False])
def test_what_is_owed_is_paid_before_a_fixed_end_whether_the_wallet_is_frozen_or_not(
    tmp_path: Path, frozen: bool
) -> None:
    """Nothing but the end makes it due: the terms never pay it out. Frozen, the channel is paid and not closed."""
    terms = policy(cancel_after=200)
    never = replace(terms.pools["p"], settle=SettleTerms(Drops(10**9), Seconds(10**9)))
    engine = Engine(tmp_path / "s.db", terms=replace(terms, pools={"p": never}))
    engine.connect()
    channel_id = engine.opened()
    engine.answer(engine.ask(1, 5))
    if frozen:
        engine.mirror.frozen_wallets["hot"] = {"operator": "a person said so"}  # type: ignore[dict-item, index]
    end = engine.ledger.channels[channel_id].cancel_after
    assert end is not None
    while engine.ledger.time < end - 10:
        engine.tick()
    kinds = [kind for (kind,) in engine.on_disk("SELECT kind FROM intent ORDER BY number")]
    assert sum(paid for (paid,) in engine.on_disk("SELECT paid FROM payment")) == 5
    assert ("request_close" in kinds) is not frozen
    assert kinds.count("settle") == frozen
