"""What was seen is frozen with the ledger that showed it, survives a restart, and nothing is issued in between."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path

import pytest
from engine import CHEAP, Engine
from worlds import KEY, PAYEES

from channeld.adapters.sqlite.backup import copy_store, put_back
from channeld.adapters.witness_file import WitnessFile
from channeld.core.errors import LedgerError, Refused
from channeld.core.freezes import Cause
from channeld.core.intents import Create, Number, OpenChannel
from channeld.core.requests import Code, Granted, Refusal
from channeld.core.units import ChannelId, Drops, LedgerIndex, Seconds
from channeld.core.witness import Witness
from channeld.service.guard import Guard
from channeld.service.witness_watch import PATIENCE_S, RAISE_EVERY_S, WitnessWatch

HOME = "d on b"


def asked(engine: Engine, name: str) -> Code | None:
    (answer,) = engine.answer(engine.ask(name, 1))
    return answer.code if isinstance(answer, Refusal) else None


def causes(engine: Engine) -> list[tuple[str, str]]:
    return [(scope, cause) for scope, cause in engine.on_disk("SELECT scope, cause FROM freeze ORDER BY cause")]


def test_income_is_booked_and_stops_nothing(engine: Engine) -> None:
    channel_id = engine.opened()
    engine.ledger.balance += 3  # paid by a stranger, and seen with the next transaction that touches the account
    engine.ledger._record("E" * 64, "rStranger", 1, "tesSUCCESS", 10, [], 0)
    engine.ledger.history[-1] = replace(engine.ledger.history[-1], accounts=(engine.ledger.account(),))
    engine.ledger.history[-1] = replace(engine.ledger.history[-1], ledger_index=LedgerIndex(engine.ledger.index + 1))
    engine.tick()
    assert engine.on_disk("SELECT drops, by_account FROM income") == [(3, "rStranger")]
    assert (causes(engine), asked(engine, "x"), bool(channel_id)) == ([], None, True)


def test_an_unexplained_decrease_freezes_the_wallet_for_good(engine: Engine) -> None:
    engine.opened()
    engine.ledger.balance -= 1
    engine.ledger.sequence += 0
    engine.restart()
    assert causes(engine) == [("hot", "unexplained_decrease")]
    assert asked(engine, "x") is Code.FROZEN
    engine.restart()
    assert asked(engine, "x") is Code.FROZEN
    guard = Guard(engine.mirror, engine.store.books, lambda: 1.0)
    guard.thaw("hot", None, "eva", "it was a fee of another kind")
    assert asked(engine, "x") is None
    assert ("eva", "thaw hot unexplained_decrease") in engine.on_disk("SELECT who, what FROM audit")


def test_more_was_paid_than_the_store_knows_to_be_signed(engine: Engine) -> None:
    channel_id = engine.opened()
    engine.ledger.redeem(channel_id, 7)
    engine.see()
    assert causes(engine) == [("", "old_store")]
    assert asked(engine, "x") is Code.FROZEN
    guard = Guard(engine.mirror, engine.store.books, lambda: 1.0)
    guard.thaw("", Cause.OLD_STORE, "eva", "the newest is lost")
    assert engine.on_disk("SELECT issuing, adopted FROM channel") == [(0, 1)]
    assert asked(engine, "y") is Code.NO_HEADROOM, "never again on a channel of the old store"
    for _ in range(12):
        asked(engine, "y")
        engine.tick()
    (answer,) = engine.answer(engine.ask("y", 1))
    assert isinstance(answer, Granted)
    assert answer.claim.channel_id != channel_id


@pytest.mark.parametrize("seen", [True, False], ids=["seen", "unseen"])
@pytest.mark.parametrize("restarted", [True, False])
def test_a_create_under_way_in_an_old_copy_is_retired_with_it_though_no_ledger_was_read(
    engine: Engine, tmp_path: Path, seen: bool, restarted: bool
) -> None:
    engine.answer(engine.ask("first", 5))
    copy_store(engine.path, tmp_path / "copy.db")
    engine.tick()
    (sold,) = engine.answer(engine.ask("sold", 7))
    assert isinstance(sold, Granted)
    engine.kill()
    put_back(tmp_path / "copy.db", engine.path, "aside")
    engine.build()
    guard = Guard(engine.mirror, engine.store.books, lambda: 1.0)
    guard.doubt(Cause.OLD_STORE, "data version")
    guard.thaw("", Cause.OLD_STORE, "eva", "the newest is lost, and no node can be reached")
    if restarted:
        engine.kill()
        engine.build()
    engine.ledger.close(take=False)
    engine.session.first = 0 if seen else engine.ledger.index
    engine.connect()
    assert engine.on_disk("SELECT channel_id, issuing, adopted FROM channel") == [(sold.claim.channel_id, 0, 1)]
    assert (causes(engine), asked(engine, "again")) == ([], Code.NO_HEADROOM)
    engine.session.first = 0
    engine.ledger.redeem(sold.claim.channel_id, sold.claim.amount)
    engine.see()
    assert causes(engine) == [], "what its payee was sold by the newer store is paid"
    for _ in range(12):
        engine.tick()
        asked(engine, "again")
    assert asked(engine, "again") is None, "on a channel of its own"


def test_an_open_that_was_planned_before_the_thaw_of_an_old_store_is_decided_anew(engine: Engine) -> None:
    engine.session.fees = LedgerError("noNetwork", "")
    engine.answer(engine.ask("first", 5))
    guard = Guard(engine.mirror, engine.store.books, lambda: 1.0)
    guard.doubt(Cause.OLD_STORE, "data version")
    guard.thaw("", Cause.OLD_STORE, "eva", "the newest is lost")
    engine.session.fees = CHEAP
    for _ in range(3):
        engine.tick()
        asked(engine, "first")
    assert engine.on_disk("SELECT kind, status FROM intent") == [("open", "moot"), ("open", "done")]
    assert engine.on_disk("SELECT issuing, adopted FROM channel") == [(1, 0)]


def test_opens_that_a_thaw_retired_are_ended_one_in_a_turn_of_the_loop(engine: Engine) -> None:
    """Each is a commit: however many wait, claims get their turn in between."""
    engine.session.fees = LedgerError("noNetwork", "")
    engine.answer(engine.ask("first", 5))
    (entry,) = engine.mirror.journal.values()
    assert isinstance(entry.action, OpenChannel)
    guard = Guard(engine.mirror, engine.store.books, lambda: 1.0)
    guard.doubt(Cause.OLD_STORE, "data version")
    more = [replace(entry.intent, action=replace(entry.action, amount=Drops(60 + n))) for n in range(30)]
    for planned in engine.store.journal(more, engine.ledger.index):
        engine.mirror.open_entry(planned)
    engine.tick()  # this ledger's look at what waits is over
    guard.thaw("", Cause.OLD_STORE, "eva", "the newest is lost")

    async def ended_in_a_turn() -> list[int]:
        working = asyncio.create_task(engine.executor.round(engine.session))
        left = [len(engine.mirror.journal)]
        while not working.done():
            await asyncio.sleep(0)
            left.append(len(engine.mirror.journal))
        await working
        return [before - after for before, after in pairwise(left)]

    ended = engine.loop.run_until_complete(ended_in_a_turn())
    assert (sum(ended), max(ended)) == (31, 1)


def test_while_frozen_what_was_signed_is_paid_and_nothing_else_is_done(engine: Engine) -> None:
    channel_id = engine.opened()
    asked(engine, "1")
    guard = Guard(engine.mirror, engine.store.books, lambda: 1.0)
    guard.freeze("hot", "eva", "drill")
    for _ in range(40):
        engine.tick()
    kinds = {k for (k,) in engine.on_disk("SELECT kind FROM intent WHERE status <> 'moot'")}
    assert kinds == {"open", "settle"}, "an idle channel is not closed by a freeze"
    assert engine.ledger.channels[channel_id].balance > 0
    with pytest.raises(Refused):
        guard.freeze("cold", "eva", "no such wallet")


def test_a_transaction_that_is_not_ours_freezes_before_anything_is_issued(engine: Engine) -> None:
    payee = engine.ledger.channels[ChannelId(engine.opened())].destination_account
    other = Create(payee, 9, Drops(9), Seconds(1), "ED" * 33, None)
    signed = engine.ledger.sign("hot", other, Number(engine.ledger.sequence), Drops(10), LedgerIndex(10**6))
    engine.ledger.submit(signed.blob)
    engine.tick()
    assert causes(engine) == [("hot", "foreign_transaction")]
    assert asked(engine, "x") is Code.FROZEN


@pytest.mark.parametrize("seen", [True, False], ids=["seen", "unseen"])
@pytest.mark.parametrize(("drops", "key"), [(50, KEY), (20, KEY), (50, "ED" * 33)], ids=["same", "less", "other key"])
def test_a_create_of_somebody_else_under_our_number_to_our_payee_is_not_ours(
    engine: Engine, seen: bool, drops: int, key: str
) -> None:
    """It has the id that ours would have had, and may be signed on by whoever made it."""
    engine.answer(engine.ask("first", 5))
    (live,) = engine.mirror.live.values()
    engine.ledger.pending.clear()
    theirs = Create(PAYEES[0].account, PAYEES[0].tag, Drops(drops), Seconds(10), key, None)
    signed = engine.ledger.sign("hot", theirs, Number(live.number), Drops(10), LedgerIndex(10**6))
    engine.ledger.submit(signed.blob)
    if seen:
        engine.tick()
    else:
        engine.ledger.close()
        engine.session.first = engine.ledger.index + 1
        engine.ledger.close(take=False)
        engine.connect()
    assert engine.on_disk("SELECT channel_id, pool, issuing FROM channel") == [(live.channel_id, "", 0)]
    cause = Cause.UNKNOWN_CHANNELS if not seen and key == KEY else Cause.FOREIGN_TRANSACTION
    assert causes(engine) == [("hot", cause.value)]
    Guard(engine.mirror, engine.store.books, lambda: 1.0).thaw("hot", cause, "eva", "the other one is stopped")
    engine.session.first = 0
    assert asked(engine, "x") is Code.NO_HEADROOM
    for _ in range(12):
        engine.tick()
        asked(engine, "x")
    (answer,) = engine.answer(engine.ask("x", 1))
    assert isinstance(answer, Granted)
    assert answer.claim.channel_id != live.channel_id


def test_a_payee_that_closes_without_its_claim_forgoes_it(engine: Engine) -> None:
    channel_id = engine.opened()
    asked(engine, "1")
    change = engine.ledger._delete(engine.ledger.channels[channel_id], 0)
    engine.ledger.index += 1
    engine.ledger._record("D" * 64, change.channel.destination_account, 1, "tesSUCCESS", 10, [change], 0)
    engine.ledger.history[-1] = replace(engine.ledger.history[-1], accounts=(engine.ledger.account(),))
    engine.see()
    ((kind, drops),) = engine.on_disk("SELECT kind, drops FROM loss")
    assert (kind, drops > 0) == ("forgone", True)
    assert causes(engine) == []


# --- the witness on the broker ---------------------------------------------------------------------------------------


@dataclass
class Topic:
    """A broker that holds one retained message and gives back what is published, when it is let."""

    name: str = "witness"
    connected: bool = True
    retained: Witness | None = None
    held: bool = False
    inbox: list[Witness | str] = field(default_factory=list)

    def mark(self, marker: str) -> None:
        self.inbox += [self.retained] if self.retained else []
        self.inbox.append(marker)

    def publish(self, witness: Witness) -> None:
        self.retained = witness
        self.inbox.append(witness)

    def hold(self) -> None:
        self.held = True

    def release(self) -> None:
        self.held = False

    def deliver(self, watch: WitnessWatch) -> None:
        while self.inbox:
            said = self.inbox.pop(0)
            watch.witnessed(said) if isinstance(said, Witness) else watch.marked(said)


def watching(engine: Engine, topic: Topic, *, home: str = HOME) -> WitnessWatch:
    guard = Guard(engine.mirror, engine.store.books, lambda: 1.0)
    file = WitnessFile(engine.path.with_name("witness"))
    return WitnessWatch(
        engine.mirror, engine.store.books, guard, topic, file, home=home, monotonic=lambda: engine.clock
    )


def test_nothing_is_issued_before_the_broker_has_shown_the_new_version(engine: Engine) -> None:
    engine.opened()
    topic = Topic()
    watch = watching(engine, topic)
    assert asked(engine, "0") is Code.FROZEN
    watch.connected()
    assert topic.held
    watch.marked(str(topic.inbox.pop()))
    assert topic.held, "the version is published, and not shown yet"
    assert asked(engine, "1") is Code.FROZEN
    topic.deliver(watch)
    assert (topic.held, asked(engine, "2")) == (False, None)
    assert topic.retained == engine.store.books.identity().witness
    engine.pass_time(RAISE_EVERY_S)
    before = topic.retained
    watch.tick()
    assert topic.retained is not None
    assert before is not None
    assert topic.retained.data_version == before.data_version + 1


def test_a_broker_that_shows_nothing_is_not_waited_for_and_nothing_is_issued(engine: Engine) -> None:
    engine.opened()
    topic = Topic()
    watch = watching(engine, topic)
    watch.connected()
    engine.pass_time(PATIENCE_S + 0.1)
    watch.tick()
    assert (topic.held, asked(engine, "1")) == (False, Code.FROZEN)
    assert "access list" in engine.mirror.frozen["witness"]


@pytest.mark.parametrize(
    ("store_id", "ahead", "cause"), [("mine", 1, "old_store"), ("other", -1, "other_store"), ("mine", 0, None)]
)
def test_what_the_broker_holds_decides(engine: Engine, store_id: str, ahead: int, cause: str | None) -> None:
    mine = engine.store.books.raise_version(5, HOME)
    witness = Witness(mine.store_id if store_id == "mine" else store_id, mine.data_version + ahead)
    topic = Topic(retained=witness)
    watch = watching(engine, topic)
    watch.connected()
    topic.deliver(watch)
    assert [c for _, c in causes(engine)] == ([cause] if cause else [])
    assert not topic.held, "requests are answered, if only by `frozen`"
    assert (topic.retained == witness) is (cause is not None), "a witness that speaks against us is not overwritten"


def test_a_backup_made_before_the_broker_was_asked_does_not_make_an_old_store_pass(engine: Engine) -> None:
    """Its file is lost, and a backup would raise the version above what the broker holds."""
    mine = engine.store.books.raise_version(5, HOME)
    topic = Topic(retained=Witness(mine.store_id, mine.data_version + 1))
    watch = watching(engine, topic)
    watch.bear()
    watch.connected()
    watch.bear()
    topic.deliver(watch)
    assert [c for _, c in causes(engine)] == ["old_store"]
