"""History is missing and the ledger is read whole: what our own transactions explain is no loss, and a drop more is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from engine import Engine, policy
from hypothesis import given
from hypothesis import strategies as st
from worlds import channel

from channeld.core.budgets import Budget, Purse
from channeld.core.conservation import explained_unseen
from channeld.core.units import Drops, Seconds


def unseen(engine: Engine, ledgers: int, stolen: int) -> list[str]:
    """The daemon is away for some ledgers whose history no node has; what freezes the wallet when it is back."""
    for _ in range(ledgers):
        engine.ledger.close()
    engine.ledger.balance -= stolen
    engine.kill()
    engine.build()
    engine.session.first = engine.ledger.index
    engine.connect()
    frozen = [cause for (cause,) in engine.on_disk("SELECT cause FROM freeze")]
    engine.restart()
    assert [cause for (cause,) in engine.on_disk("SELECT cause FROM freeze")] == frozen, "found again, or only then"
    return frozen


def an_open(engine: Engine) -> None:
    engine.answer(engine.ask("more", 5))


def a_fund(engine: Engine) -> None:
    engine.opened(drops=20)
    engine.answer(*(engine.ask(n, 4) for n in range(4)))


def a_payout_and_a_close(engine: Engine) -> None:
    """Asked for, paid, and gone within the ledgers that nobody saw."""
    channel_id = engine.opened(drops=20)
    engine.answer(engine.ask("sold", 9))
    engine.ledger.redeem(channel_id, 9)
    engine.ledger._delete(engine.ledger.channels[channel_id], 0)


def nothing(engine: Engine) -> None:
    engine.opened()


@pytest.mark.parametrize("before", [nothing, an_open, a_fund, a_payout_and_a_close])
@pytest.mark.parametrize(("stolen", "frozen"), [(0, []), (1, ["unexplained_decrease"]), (-5, [])])
def test_only_what_nothing_of_ours_explains_freezes(
    tmp_path: Path, before: object, stolen: int, frozen: list[str]
) -> None:
    engine = Engine(tmp_path / "store.db")
    engine.connect()
    assert callable(before)
    before(engine)
    assert unseen(engine, 20, stolen) == frozen
    assert engine.on_disk("SELECT * FROM income") == [], "what nobody saw come is not booked as income"
    if not frozen:
        assert engine.mirror.wallets["hot"].booked == engine.ledger.balance


@pytest.mark.parametrize("before", [an_open, a_fund])
def test_what_nobody_will_ever_tell_counts_against_budgets_as_the_worst(tmp_path: Path, before: object) -> None:
    """Its fee, and what it was to lock, whether it did or not; once it is known what became of it, as that."""
    budgets = tuple(Budget(p.value, p, Drops(10**9), Seconds(10**6)) for p in Purse)
    engine = Engine(tmp_path / "store.db", terms=replace(policy(), budgets=budgets))
    engine.connect()
    assert callable(before)
    before(engine)
    flying = engine.planner.spending.used()
    (fee,) = engine.on_disk("SELECT fee FROM tx WHERE ended IS NULL")[0]
    unseen(engine, 20, 0)
    cap = engine.policy.guards.fee_cap
    assert engine.planner.spending.used() == {**flying, "fees": flying["fees"] - cap + fee}
    assert flying["capital"] > 0
    assert engine.on_disk("SELECT DISTINCT ended FROM tx WHERE ledger IS NULL") == [("unknown",)]


@given(st.integers(1, 50), st.integers(0, 50), st.integers(0, 60), st.integers(0, 50), st.integers(0, 50))
def test_what_a_channel_explains_is_the_least_that_can_have_come_of_it(
    amount: int, paid: int, signed: int, added: int, redeemed: int
) -> None:
    """Whatever was added and collected unseen, no more than explained went, and the channel alone is to the drop."""
    paid = min(paid, amount)
    before, after = channel(amount=amount, balance=paid), channel(amount=amount + added, balance=paid)
    collected = Drops(max(paid, min(redeemed, signed, amount + added)))
    assert explained_unseen(before, after, signed) == -added
    assert explained_unseen(None, after, signed) == -after.amount
    assert explained_unseen(before, None, signed) <= after.amount - collected - added
