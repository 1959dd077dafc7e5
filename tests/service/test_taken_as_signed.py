"""A claim that a store does not know to be signed is paid all the same, where nothing is issued any more."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from engine import DELAY, Engine, Killed, Session, said, sign_claim
from service.sums import added_up
from worlds import KEY, PAYEES

from channeld.adapters.sqlite.backup import copy_store, put_back
from channeld.core.claim import claim_message
from channeld.core.errors import StoreError
from channeld.core.freezes import Audit, Cause
from channeld.core.intents import Kind
from channeld.core.records import ChannelMark
from channeld.core.requests import Code, Granted, Held
from channeld.core.units import ChannelId, Drops
from channeld.service.guard import Guard

OWED = 12
TAKEN = "SELECT who, what, why FROM audit WHERE what LIKE 'take %'"


def held(channel_id: str, amount: int = OWED, *, signed_for: str = "") -> Held:
    message = claim_message(bytes.fromhex(signed_for or channel_id), amount)
    return Held(ChannelId(channel_id), Drops(amount), sign_claim(message))


def thaw(engine: Engine) -> None:
    """A person goes on from an old store."""
    guard = Guard(engine.mirror, engine.store.books, lambda: 1.0)
    guard.doubt(Cause.OLD_STORE, "data version")
    guard.on_thawed = lambda _: engine.planner.touch_all()
    guard.thaw("", Cause.OLD_STORE, "eva", "the newest is lost")


@pytest.fixture
def old(engine: Engine, tmp_path: Path) -> str:
    """The channel of a store that was put back: it knows of 5 drops, and a server holds a claim for 12."""
    channel_id = engine.opened()
    engine.answer(engine.ask("known", 5))
    copy_store(engine.path, tmp_path / "copy.db")
    (lost,) = engine.answer(engine.ask("lost", 7))
    assert isinstance(lost, Granted)
    assert (lost.claim.channel_id, lost.claim.amount) == (channel_id, OWED)
    engine.kill()
    put_back(tmp_path / "copy.db", engine.path, "aside")
    engine.session = Session(engine.ledger)
    engine.build()
    engine.connect()
    thaw(engine)
    return channel_id


def signed(engine: Engine) -> list[tuple[Any, ...]]:
    return engine.on_disk("SELECT authorized, issuing, adopted FROM channel WHERE rowid = 1")


def end(engine: Engine) -> None:
    """Until nothing is left of the old channel."""
    for _ in range(12):
        engine.tick()


def test_it_is_on_disk_once_with_who_handed_it_in_and_nothing_is_sold_by_it(engine: Engine, old: str) -> None:
    sold = "SELECT count(*) FROM request"
    before, spent, taken = engine.on_disk(sold), dict(engine.mirror.spent), list[Sequence[ChannelMark]]()
    take = engine.store.take_as_signed

    def counted(marks: Sequence[ChannelMark], audits: Sequence[Audit]) -> None:
        taken.append(marks)
        take(marks, audits)

    engine.store.take_as_signed = counted  # type: ignore[method-assign]
    for number in range(3):
        lower = engine.ask(f"lower{number}", 1, held=held(old, 7))
        (answer, _) = engine.answer(engine.ask(number, 1, held=held(old)), lower)
        assert said(answer) is Code.NO_HEADROOM
    assert len(taken) == 1, "what is known costs nothing"
    assert signed(engine) == [(OWED, 0, 1)]
    why = "it holds a valid claim, and this store knew of 5"
    assert engine.on_disk(TAKEN) == [("server:a", f"take {old} as signed to {OWED}", why)]
    assert (engine.on_disk(sold), dict(engine.mirror.spent)) == (before, spent)
    assert engine.mirror.sums.pools["p"].unredeemed == OWED
    added_up(engine.mirror)
    engine.restart()
    (state,) = (s for s in engine.mirror.channels.values() if s.record.row == 1)
    assert (state.record.authorized, state.record.issuing) == (OWED, False)
    end(engine)
    assert engine.ledger.closed[old] == OWED


@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize("when", ["decided", "signed", "closing"])
def test_a_close_that_is_under_way_pays_it_as_well(engine: Engine, old: str, when: str, restarted: bool) -> None:
    """A close that is signed pays what was known then; the rest comes while the settle delay runs."""
    if when == "decided":
        engine.decide_all()
        assert [e.action.kind for e in engine.mirror.journal.values()] == [Kind.REQUEST_CLOSE]
    if when == "signed":
        engine.tick(take=False)
        assert engine.mirror.live
    if when == "closing":
        engine.tick()
        engine.tick()
        channel = engine.ledger.channels[old]
        assert (channel.balance, channel.expiration is None) == (5, False)
    assert old not in engine.ledger.closed
    engine.answer(engine.ask("x", 1, payee=PAYEES[1], held=held(old)))  # no demand of its own payee brings it up
    if restarted:
        engine.restart()
    end(engine)
    assert engine.ledger.closed[old] == OWED
    assert engine.on_disk("SELECT count(*) FROM loss") == [(0,)]


@pytest.mark.parametrize("sent", [False, True])
def test_a_payout_that_was_decided_for_less_is_followed_by_one_for_the_rest(
    engine: Engine, old: str, sent: bool
) -> None:
    """Its target is absolute, and stands; what is owed beyond is decided when it has ended."""
    engine.tick()
    engine.tick()
    engine.answer(engine.ask("x", 1, held=held(old, 7)))
    engine.decide_all()
    if sent:
        engine.work()
    assert [e.action.kind for e in engine.mirror.journal.values() if e.channel_id == old] == [Kind.SETTLE]
    engine.answer(engine.ask("x", 1, held=held(old)))
    end(engine)
    assert engine.ledger.closed[old] == OWED
    assert [what for _, what, _ in engine.on_disk(TAKEN)] == [f"take {old} as signed to {n}" for n in (7, OWED)]


@pytest.mark.parametrize("death", ["before", "after"])
def test_a_death_round_its_commit_loses_nothing_and_keeps_it_once(engine: Engine, old: str, death: str) -> None:
    take = engine.store.take_as_signed

    def dies(marks: Sequence[ChannelMark], audits: Sequence[Audit]) -> None:
        if death == "after":
            take(marks, audits)
        raise Killed

    engine.store.take_as_signed = dies  # type: ignore[method-assign]
    with pytest.raises(Killed):
        engine.answer(engine.ask("x", 1, held=held(old)))
    assert not engine.ledger.pending, "nothing relied on it"
    engine.restart()
    engine.answer(engine.ask("x", 1, held=held(old)))
    assert signed(engine) == [(OWED, 0, 1)]
    assert len(engine.on_disk(TAKEN)) == 1
    end(engine)
    assert engine.ledger.closed[old] == OWED


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("nth", range(1, 11))
def test_a_death_at_any_contact_with_a_node_after_it_ends_alike(engine: Engine, old: str, late: bool, nth: int) -> None:
    """The server does not send it again. `late`: the close was requested, for less, before it came."""
    for _ in range(2 * late):
        engine.tick()
    places = list[str]()

    def dies(where: str) -> None:
        places.append(where)
        if len(places) == nth:
            raise Killed(where)

    engine.session.at_await = dies
    with pytest.raises(Killed):
        engine.answer(engine.ask("x", 1, payee=PAYEES[1], held=held(old)))
        engine.decide_all()  # as the running planner does: the settle delay is two ledgers
        engine.work()
        end(engine)
    engine.restart()
    end(engine)
    assert (engine.ledger.closed[old], len(engine.on_disk(TAKEN))) == (OWED, 1)


def test_what_cannot_be_kept_is_not_believed(engine: Engine, old: str) -> None:
    def fails(marks: Sequence[ChannelMark], audits: Sequence[Audit]) -> None:
        raise StoreError("no space")

    engine.store.take_as_signed = fails  # type: ignore[method-assign]
    (answer,) = engine.answer(engine.ask("x", 1, held=held(old)))
    assert said(answer) is Code.FROZEN
    assert engine.mirror.channels[ChannelId(old)].record.authorized == 5


@pytest.mark.parametrize("why_not", ["another channel's", "bad", "above the amount", "another key's", "lower"])
def test_nothing_else_raises_what_is_signed(engine: Engine, old: str, why_not: str) -> None:
    amount = engine.ledger.channels[old].amount
    shown = {
        "another channel's": held(old, signed_for="AB" * 32),
        "bad": Held(ChannelId(old), Drops(OWED), bytes(64)),
        "above the amount": held(old, amount + 1),
        "another key's": held(old),
        "lower": held(old, 4),
    }[why_not]
    if why_not == "another key's":
        engine.desk._signers = {key: signer for key, signer in engine.desk._signers.items() if key != KEY}
    (answer,) = engine.answer(engine.ask("x", 1, held=shown))
    assert said(answer) is Code.NO_HEADROOM, "nothing failed"
    assert signed(engine) == [(5, 0, 1)]
    assert engine.on_disk(TAKEN) == []
    end(engine)
    assert engine.ledger.closed[old] == 5


def test_all_of_a_channel_may_be_owed(engine: Engine, old: str) -> None:
    amount = engine.ledger.channels[old].amount
    engine.answer(engine.ask("x", 1, held=held(old, amount)))
    end(engine)
    assert engine.ledger.closed[old] == amount


def test_it_pays_whom_the_channel_pays_whoever_hands_it_in(engine: Engine, old: str) -> None:
    """The payee of the request it came with gets nothing by it, nor is that request answered by it."""
    (answer,) = engine.answer(engine.ask("x", 1, payee=PAYEES[1], held=held(old)))
    assert said(answer) is Code.NO_HEADROOM
    end(engine)
    assert engine.ledger.closed[old] == OWED
    paid = [c.channel for tx in engine.ledger.history for c in tx.channels if c.paid]
    assert {(c.channel_id, c.payee) for c in paid} == {(old, PAYEES[0])}


def test_what_is_held_in_a_group_is_bounded_and_kept_in_one_transaction(engine: Engine, old: str) -> None:
    verified, verify = list[bytes](), engine.desk._verify
    taken, take = list[int](), engine.store.take_as_signed

    def count(key: bytes, message: bytes, signature: bytes) -> bool:
        verified.append(message)
        return verify(key, message, signature)

    def counted(marks: Sequence[ChannelMark], audits: Sequence[Audit]) -> None:
        taken.extend(mark.authorized for mark in marks)
        take(marks, audits)

    engine.desk._verify, engine.store.take_as_signed = count, counted  # type: ignore[method-assign]
    rising = [engine.ask(f"up{n}", 1, held=held(old, n)) for n in (6, 8, 7, 8, OWED, 9)]
    bogus = [engine.ask(n, 1, held=held(old, OWED + 1, signed_for="AB" * 32)) for n in range(50)]
    engine.answer(*rising, *bogus)
    assert taken == [OWED]
    assert len(verified) == 16
    assert len(engine.on_disk(TAKEN)) == 1


@pytest.mark.parametrize("signed_to", [0, 9])
def test_a_channel_that_was_adopted_is_signed_as_far_as_is_proven_later(engine: Engine, signed_to: int) -> None:
    """As after a rebuild, or `channels adopt`."""
    old = engine.opened()
    engine.store._db.execute("UPDATE channel SET pool = ''")
    engine.restart()
    state = engine.mirror.channels[ChannelId(old)]
    engine.store.books.adopt([(ChannelId(old), signed_to)], "p", Audit(1, "eva", "adopt", "why"))
    engine.mirror.adopt(state, "p", signed_to)
    engine.answer(engine.ask("x", 1, held=held(old)))
    assert signed(engine) == [(OWED, 0, 1)]
    engine.planner.touch_all()
    end(engine)
    assert engine.ledger.closed[old] == OWED


def test_after_its_end_nothing_can_be_paid_and_the_loss_is_booked(engine: Engine, old: str) -> None:
    """The ledger pays nothing on an expired channel."""
    engine.tick()
    engine.ledger.close()
    engine.ledger.close(DELAY + 1)
    engine.answer(engine.ask("x", 1, held=held(old)))
    engine.see()
    end(engine)
    assert engine.ledger.closed[old] == 5
    assert engine.on_disk("SELECT drops FROM loss") == [(OWED - 5,)]
