"""Every validated ledger is processed whole and once, whatever the node repeats, skips or no longer has."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from engine import Engine, Ledger, drive

from channeld.core.errors import LedgerError, Unreachable
from channeld.core.ledger import AccountState
from channeld.core.policy import SettleTerms
from channeld.core.units import Address, Drops, LedgerIndex


def processed(engine: Engine) -> int:
    ((index,),) = engine.on_disk("SELECT value FROM meta WHERE key = 'processed'")
    return int(index)


def statuses(engine: Engine) -> list[str]:
    return [s for (s,) in engine.on_disk("SELECT status FROM intent ORDER BY number")]


def test_a_repeated_or_an_older_header_changes_nothing(engine: Engine) -> None:
    channel_id = engine.opened()
    old = engine.ledger.header()
    engine.tick()
    engine.ledger.redeem(channel_id, 3)
    now, asked = processed(engine), len(engine.session.submitted)
    drive(engine.follower._process(engine.session, old))  # type: ignore[arg-type]
    assert (processed(engine), len(engine.session.submitted)) == (now, asked)
    engine.see()
    engine.see()
    assert engine.on_disk("SELECT ledger, paid FROM payment") == [(engine.ledger.index, 3)]


def test_ledgers_that_were_not_announced_are_fetched_with_the_next(engine: Engine) -> None:
    engine.answer(engine.ask(1, 5))
    for _ in range(3):
        engine.ledger.close()
    channel_id = engine.ledger.created[0]
    engine.ledger.redeem(channel_id, 2)
    engine.see()
    assert statuses(engine) == ["done"]
    assert engine.mirror.channels[engine.ledger.channels[channel_id].channel_id].record.channel.balance == 2
    assert processed(engine) == engine.ledger.index


def test_a_node_that_lacks_ledgers_in_between_is_left_and_nothing_is_processed(engine: Engine) -> None:
    before = processed(engine)
    for _ in range(4):
        engine.ledger.close()
    engine.session.first = engine.ledger.index - 1
    with pytest.raises(Unreachable):
        engine.see()
    assert processed(engine) == before


def test_a_node_that_is_behind_what_was_processed_is_not_followed(engine: Engine) -> None:
    engine.tick()
    engine.ledger.index -= 1
    with pytest.raises(Unreachable, match="behind"):
        engine.connect()


def test_a_gap_at_start_is_filled_before_anything_is_decided(engine: Engine) -> None:
    engine.answer(engine.ask(1, 5))
    for _ in range(30):
        engine.ledger.close()
    engine.restart()
    assert statuses(engine) == ["done"]
    assert len(engine.ledger.created) == 1
    assert set(engine.mirror.channels) == set(engine.ledger.channels)


@pytest.mark.parametrize("later", [1, 5, 30], ids=lambda n: f"{n}-ledgers-later")
def test_a_channel_opened_in_a_ledger_that_no_node_has_any_more_is_found_and_not_opened_twice(
    engine: Engine, later: int
) -> None:
    """The open was validated while nobody looked, and the history that shows it is gone."""
    engine.answer(engine.ask(1, 5))
    for _ in range(1 + later):
        engine.ledger.close()
    (channel_id,) = engine.ledger.created
    engine.kill()
    engine.build()
    engine.session.first = engine.ledger.index
    engine.connect()
    assert engine.on_disk("SELECT channel_id, pool, server, issuing FROM channel") == [(channel_id, "p", "a", 1)]
    assert engine.on_disk("SELECT count(*) FROM tx WHERE ended IS NULL") == [(0,)]
    engine.session.first = 0
    for n in range(20):
        engine.answer(engine.ask(n, 1))
        engine.tick()
    assert engine.ledger.created == [channel_id]


def test_a_transaction_in_a_hole_of_history_is_not_sent_anew_under_another_number(engine: Engine) -> None:
    engine.opened()
    engine.desk.answer([engine.ask(1, 18)])
    engine.work()
    assert statuses(engine) == ["done", "signed"]
    engine.ledger.close()
    engine.ledger.close()
    engine.kill()
    engine.build()
    engine.session.first = engine.ledger.index
    engine.connect()
    amount = sum(c.amount for c in engine.ledger.channels.values())
    engine.session.first = 0
    for _ in range(20):
        engine.tick(1)
    assert sum(c.amount for c in engine.ledger.channels.values()) == amount


def test_a_channel_that_vanished_unseen_is_closed_here_too(engine: Engine) -> None:
    channel_id = engine.opened()
    engine.answer(engine.ask(1, 5))
    del engine.ledger.channels[channel_id]
    engine.connect()
    assert not engine.mirror.channels
    assert engine.on_disk("SELECT closed_at, issuing FROM channel") == [(engine.ledger.index, 0)]
    assert all(not g.channels for g in engine.mirror.groups.values())


def test_a_wallet_that_is_not_in_the_ledger_is_said_to_need_funding(engine: Engine) -> None:
    async def nobody(account: Address, at: LedgerIndex) -> AccountState | None:
        return None

    engine.session.account = nobody  # type: ignore[method-assign]
    with pytest.raises(LedgerError, match="fund it"):
        engine.connect()


def test_waiting_for_a_clock_costs_one_entry_a_payee_however_many_ledgers_pass(engine: Engine) -> None:
    engine.opened()
    for n in range(50):
        engine.answer(engine.ask(n, 1))
        engine.tick(1)
    assert len(engine.planner._agenda._due) <= 4 * len(engine.mirror.groups)


def test_what_was_not_decided_because_the_ledger_lagged_is_decided_with_the_next(engine: Engine) -> None:
    """A policy that pays out sooner is taken over while no ledger comes."""
    channel_id = engine.opened()
    engine.answer(engine.ask(1, 5))
    engine.tick(1)
    engine.clock += 3600
    pool = engine.policy.pools["p"]
    sooner = replace(pool, settle=SettleTerms(Drops(1), pool.settle.max_age))
    engine.mirror.policy = replace(engine.policy, pools={"p": sooner})
    engine.planner.touch_all()
    engine.decide_all()
    assert engine.mirror.channels[channel_id].pending is None
    engine.tick(1)
    engine.tick(1)
    assert engine.ledger.channels[channel_id].balance == 5


def test_two_lives_of_one_ledger_end_alike(tmp_path: Path) -> None:
    """Seen ledger by ledger, or all at once after an absence: the store says the same of the channels."""
    ledger = Ledger()
    near, far = Engine(tmp_path / "near.db", ledger=ledger), None
    near.connect()
    channel_id = near.opened()
    far = tmp_path / "far.db"
    near.store._db.execute("VACUUM INTO ?", (str(far),))
    for amount in (2, 5, 9):
        ledger.close()
        near.see()
        ledger.redeem(channel_id, amount)
        near.see()
    absent = Engine(far, ledger=ledger)
    absent.connect()
    query = "SELECT channel_id, amount, balance, expiration, ledger_index, issuing, closed_at FROM channel"
    assert absent.on_disk(query) == near.on_disk(query)
    assert absent.on_disk("SELECT * FROM payment ORDER BY 1") == near.on_disk("SELECT * FROM payment ORDER BY 1")
