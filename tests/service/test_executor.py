"""An intent is carried to its end once: whatever the node answers, whenever the process dies."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from engine import CHEAP, Engine, Killed, policy
from hypothesis import given, settings
from hypothesis import strategies as st
from worlds import PAYEES, channel

from channeld.core.errors import LedgerError, Malformed, Unreachable
from channeld.core.freezes import Cause
from channeld.core.intents import Claim, Create, FundChannel, Intent, Noop, Number, SettleChannel
from channeld.core.ledger import OpenFees
from channeld.core.records import ChannelRecord
from channeld.core.units import ChannelId, Drops, LedgerIndex, Payee, RippleTime, Seconds
from channeld.service import executor, prices
from channeld.service.prices import Dear


def want(engine: Engine, drops: int = 5) -> None:
    """Something is asked for in vain: a channel is to be opened."""
    engine.desk.answer([engine.ask("first", drops)])


def numbers(engine: Engine) -> list[int]:
    """The account's sequences of everything submitted so far."""
    return [engine.ledger.blobs[blob][1] for blob in engine.session.submitted]


def settled(engine: Engine) -> None:
    for _ in range(20):
        engine.tick()


def intents(engine: Engine) -> list[tuple[str, str]]:
    return [(k, s) for k, s in engine.on_disk("SELECT kind, status FROM intent ORDER BY number")]


def test_what_is_submitted_is_on_disk_before(engine: Engine) -> None:
    looked: list[str] = []

    def look(blob: str) -> None:
        rows = engine.on_disk("SELECT blob, i.status FROM tx JOIN intent i ON i.number = tx.intent WHERE ended IS NULL")
        assert (blob, "signed") in rows
        looked.append(blob)

    engine.session.on_submit = look
    engine.opened()
    engine.answer(engine.ask(1, 18))
    settled(engine)
    assert len(set(looked)) >= 2


def test_a_lost_answer_is_answered_by_the_identical_blob(engine: Engine) -> None:
    engine.session.lost = True
    want(engine)
    engine.work()
    engine.session.lost = False
    for _ in range(3):
        engine.tick()
    assert len(set(engine.session.submitted)) == 1
    assert len(engine.ledger.created) == 1


def test_an_answer_that_makes_no_sense_is_held_against_its_node_and_ends_nothing(engine: Engine) -> None:
    troubles: list[str] = []
    engine.executor.courier.on_trouble = lambda _session, why: troubles.append(why)

    def nonsense(_: str) -> None:
        raise Malformed("engine_result: not a string")

    engine.session.on_submit = nonsense
    want(engine)
    engine.work()
    engine.tick()
    assert set(troubles) == {"submit: engine_result: not a string"}
    assert intents(engine) == [("open", "signed")]
    engine.session.on_submit = lambda _: None
    engine.tick()
    engine.tick()
    assert (intents(engine), len(engine.ledger.created)) == ([("open", "done")], 1)


@pytest.mark.parametrize(
    "code", ["tefPAST_SEQ", "telINSUF_FEE_P", "terQUEUED", "tecUNFUNDED", "tesSUCCESS", "temMALFORMED"]
)
def test_no_provisional_answer_is_believed(engine: Engine, code: str) -> None:
    """The node says one thing and another node's ledger takes the transaction."""
    want(engine)
    engine.session.code = code
    engine.work()
    assert intents(engine) == [("open", "signed")]
    engine.ledger.submit(engine.session.submitted[0])
    engine.tick()
    assert intents(engine) == [("open", "done")]
    assert len(engine.ledger.created) == 1


def test_a_dead_transaction_gives_its_number_to_its_successor(engine: Engine) -> None:
    engine.session.code = "telINSUF_FEE_P"
    want(engine)
    engine.work()
    (first,) = set(engine.session.submitted)
    last = engine.ledger.blobs[first][3]
    while engine.ledger.index < last:
        engine.tick()
    assert set(engine.session.submitted) == {first}
    engine.session.code = None
    engine.tick()
    assert len(set(engine.session.submitted)) == 2
    assert set(numbers(engine)) == {7}
    engine.tick()
    assert intents(engine) == [("open", "done")]
    assert len(engine.ledger.created) == 1


def test_a_successor_offers_more_and_never_more_than_the_cap(engine: Engine) -> None:
    engine.session.code = "telINSUF_FEE_P"
    want(engine)
    for _ in range(80):
        engine.work()
        engine.tick()
    fees = [engine.ledger.blobs[b][2] for b in dict.fromkeys(engine.session.submitted)]
    assert fees == [10, 20, 40, 80, 100, 100, 100][: len(fees)]
    assert len(fees) > 4


def test_a_transaction_validated_exactly_in_its_last_ledger_counts(engine: Engine) -> None:
    engine.session.code = "telINSUF_FEE_P"
    want(engine)
    engine.work()
    (blob,) = set(engine.session.submitted)
    last = engine.ledger.blobs[blob][3]
    while engine.ledger.index < last - 1:
        engine.tick()
    engine.ledger.submit(blob)
    engine.tick()
    assert engine.ledger.index == last
    assert intents(engine) == [("open", "done")]
    settled(engine)
    assert len(engine.ledger.created) == 1


def test_an_impossible_transaction_fails_only_when_its_time_is_over(engine: Engine) -> None:
    engine.session.code = "temBAD_AMOUNT"
    want(engine)
    engine.work()
    (blob,) = set(engine.session.submitted)
    while engine.ledger.index < engine.ledger.blobs[blob][3]:
        engine.tick()
        assert intents(engine) == [("open", "signed")]
    engine.tick()
    assert intents(engine)[0] == ("open", "failed")


def test_what_one_node_calls_impossible_and_the_ledger_has_leaves_nothing_behind(engine: Engine) -> None:
    want(engine)
    engine.session.code = "temBAD_AMOUNT"
    engine.work()
    assert list(engine.mirror.doomed.values()) == ["temBAD_AMOUNT"]
    engine.ledger.submit(engine.session.submitted[0])
    engine.tick()
    assert intents(engine) == [("open", "done")]
    assert engine.mirror.doomed == {}


def test_what_failed_is_not_tried_again_before_it_cooled_down(engine: Engine) -> None:
    engine.session.code = "temBAD_AMOUNT"
    want(engine)
    engine.work()
    for _ in range(13):
        engine.tick()
    failed_at = engine.ledger.time
    while len(intents(engine)) == 1:
        want(engine)
        engine.tick()
        assert engine.ledger.time < failed_at + 60
    assert engine.ledger.time >= failed_at + 10 - 4


def test_a_foreign_transaction_under_our_number_displaces_ours_without_doing_it_twice(engine: Engine) -> None:
    engine.session.code = "telINSUF_FEE_P"
    want(engine)
    engine.work()
    theirs: Any = Create(PAYEES[3].account, 0, Drops(9), Seconds(1), "ED" * 33, None)
    foreign = engine.ledger.sign("hot", theirs, Number(7), Drops(10), LedgerIndex(10**6))
    engine.ledger.submit(foreign.blob)
    engine.session.code = None
    settled(engine)
    assert list(engine.mirror.frozen_wallets["hot"]) == ["foreign_transaction"]
    assert [c.payee for c in engine.ledger.channels.values()] == [PAYEES[3]]  # nothing new while another one writes
    engine.mirror.stopped.thaw("hot", Cause.FOREIGN_TRANSACTION)
    settled(engine)
    ours = [c for c in engine.ledger.channels.values() if c.payee == PAYEES[0]]
    assert len(ours) == 1
    rows = engine.on_disk("SELECT destination, pool FROM channel")
    assert (PAYEES[3].account, "") in rows  # the stranger's channel is kept apart


def test_two_live_transactions_never_share_a_number(engine: Engine) -> None:
    """Three payees' worth of intents, a node that forgets every other blob, and no number twice."""
    calls = itertools.count()
    engine.session.on_submit = lambda _: setattr(engine.session, "code", "telINSUF_FEE_P" if next(calls) % 2 else None)
    for n in range(25):
        engine.answer(engine.ask(n, 7, payee=PAYEES[n % 2]))
        engine.tick()
        live = engine.on_disk("SELECT account, number FROM tx WHERE ended IS NULL")
        assert max(Counter(live).values(), default=1) == 1
    validated = Counter(t.number for t in engine.ledger.history)
    assert max(validated.values()) == 1


def test_a_gap_in_the_numbers_is_filled_so_that_later_ones_can_go_on(engine: Engine) -> None:
    """Number 7 turns out to be impossible and dies; number 8, signed later, cannot be taken before a 7 was."""
    want(engine)
    engine.session.code = "temBAD_AMOUNT"
    engine.work()
    (impossible,) = set(engine.session.submitted)
    engine.session.on_submit = lambda blob: setattr(
        engine.session, "code", "temBAD_AMOUNT" if blob == impossible else None
    )
    for _ in range(6):
        engine.tick()
    engine.answer(engine.ask(2, 5, payee=PAYEES[1]))
    later = engine.session.submitted[-1]
    assert engine.ledger.blobs[later][1] == 8
    while engine.ledger.index < engine.ledger.blobs[later][3]:
        engine.tick()
    sevens = {b for b in engine.session.submitted if engine.ledger.blobs[b][1] == 7} - {impossible}
    assert [engine.ledger.blobs[b][0] for b in sevens] == [Noop()]
    assert [t.number for t in engine.ledger.history][:2] == [7, 8]
    assert engine.ledger.channels[f"{8:064X}"].payee == PAYEES[1]


# --- absurd fees -----------------------------------------------------------------------------------------------------

DEAR = OpenFees(Drops(10 * 10**6), Drops(10 * 10**6))


@pytest.mark.parametrize(
    ("fees", "why", "reason"),
    [
        (DEAR, Dear.FEE_CAP, "1 transaction waits: the node asks 10 XRP for one, and fee_cap is 0.0001 XRP"),
        (Malformed("open_ledger_fee: not an amount"), Dear.FEE_UNKNOWN, "does not tell its fee (open_ledger_fee"),
        (LedgerError("unknownCmd"), Dear.FEE_UNKNOWN, "does not tell its fee (unknownCmd"),
        (Unreachable("no answer within 5 s"), Dear.FEE_UNKNOWN, "does not tell its fee (no answer within 5 s"),
    ],
)
def test_what_costs_too_much_waits_for_a_named_reason_and_goes_on(
    engine: Engine, fees: OpenFees | Exception, why: Dear, reason: str
) -> None:
    engine.session.fees = fees
    want(engine)
    for _ in range(15):
        engine.tick()
    assert intents(engine) == [("open", "planned")]
    assert engine.executor.prices.waiting == {dear: int(dear is why) for dear in Dear}
    assert reason in str(engine.executor.prices.waits())
    engine.session.fees = CHEAP
    engine.tick()
    engine.tick()
    assert intents(engine) == [("open", "done")]
    assert engine.executor.prices.waits() is None
    assert set(engine.executor.prices.waiting.values()) == {0}


def test_a_payout_on_a_channel_that_ends_goes_out_up_to_its_own_cap_while_others_wait(tmp_path: Path) -> None:
    engine = Engine(tmp_path / "store.db", terms=policy(cancel_after=400))
    engine.connect()
    engine.opened()
    engine.answer(engine.ask(1, 5))
    dear = engine.mirror.policy.guards.urgent_fee_cap
    engine.session.fees = OpenFees(Drops(10**7), dear)
    engine.answer(engine.ask(2, 5, payee=PAYEES[1]))
    before = len(engine.session.submitted)
    while not any(c.balance for c in engine.ledger.channels.values()):
        engine.tick()
    paid = {engine.ledger.blobs[b][0].__class__.__name__: engine.ledger.blobs[b][2] for b in engine.session.submitted}
    assert {engine.ledger.blobs[b][0].__class__ for b in engine.session.submitted[before:]} == {Claim}
    assert paid["Claim"] == dear
    assert ("open", "planned") in intents(engine)
    assert "fee_cap" in str(engine.executor.prices.waits())


@pytest.mark.parametrize("error", [Unreachable("no answer within 5 s"), LedgerError("slowDown"), Malformed("fee")])
def test_a_node_that_does_not_tell_its_fee_holds_up_no_last_attempt(tmp_path: Path, error: Exception) -> None:
    engine = Engine(tmp_path / "store.db", terms=policy(cancel_after=160))
    engine.connect()
    channel_id = engine.opened()
    engine.answer(engine.ask(1, 5))
    engine.session.fees = error
    end = engine.ledger.channels[channel_id].cancel_after
    assert end is not None
    while engine.ledger.time < end and not engine.ledger.channels[channel_id].balance:
        engine.tick()
    assert engine.ledger.channels[channel_id].balance == 5


def test_who_leaves_the_question_for_its_fee_unanswered_is_blamed_within_seconds(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And whoever is lost meanwhile ends the round: nothing is signed that nobody could be given."""
    troubles: list[str] = []
    engine.executor.courier.on_trouble = lambda _session, why: troubles.append(why)

    async def silent() -> OpenFees:
        return await asyncio.get_running_loop().create_future()

    monkeypatch.setattr(prices, "_ANSWER_WITHIN_S", 0.0)
    engine.session.open_fees = silent  # type: ignore[method-assign]
    want(engine)
    engine.work()
    assert troubles == ["fee: no answer within 0 s"]
    engine.session.gone = True
    with pytest.raises(Unreachable):
        engine.work()
    assert len(troubles) == 1


@pytest.mark.parametrize("tells", [True, False])
def test_a_fund_that_is_too_dear_gives_way_to_the_payout_before_the_end(tmp_path: Path, tells: bool) -> None:
    """It is planned long before, and would keep the channel from being decided until all is lost."""
    engine = Engine(tmp_path / "store.db", terms=policy(cancel_after=150))
    engine.connect()
    channel_id = engine.opened()
    engine.answer(engine.ask(1, 5))
    dear = engine.mirror.policy.guards.urgent_fee_cap
    engine.session.fees = OpenFees(Drops(10**7), dear) if tells else LedgerError("unknownCmd")
    engine.answer(engine.ask(2, 18))
    assert intents(engine)[-1] == ("fund", "planned")
    end = engine.ledger.channels[channel_id].cancel_after
    assert end is not None
    while engine.ledger.time < end and not engine.ledger.channels[channel_id].balance:
        assert len([kind for kind, _ in intents(engine) if kind == "fund"]) == 1
        engine.tick(3)
    assert engine.ledger.channels[channel_id].balance == 5
    assert engine.on_disk("SELECT kind, status FROM intent WHERE kind IN ('fund', 'settle', 'request_close')") == [
        ("fund", "moot"),
        ("request_close", "done"),
    ]


def test_what_is_too_dear_does_not_hide_what_has_nothing_left_to_do(engine: Engine) -> None:
    channel_id = engine.opened()
    engine.session.fees = DEAR
    engine.answer(engine.ask(2, 5, payee=PAYEES[1]))
    engine.answer(engine.ask(3, 18))
    assert intents(engine)[1:] == [("open", "planned"), ("fund", "planned")]
    engine.ledger.channels[channel_id] = replace(engine.ledger.channels[channel_id], amount=Drops(60))
    engine.connect()
    engine.work()
    assert intents(engine)[1:] == [("open", "planned"), ("fund", "moot")]


def test_what_is_left_for_a_fee_is_the_balance_without_what_is_offered_already(engine: Engine) -> None:
    engine.session.code = "telINSUF_FEE_P"
    want(engine)
    engine.work()
    (live,) = engine.mirror.live.values()
    means = engine.executor._workload.means(engine.mirror.wallets["hot"])
    assert means.left == engine.ledger.balance - live.fee


# --- very much at once -----------------------------------------------------------------------------------------------


def planted(engine: Engine, count: int) -> list[str]:
    """So many channels with a fund planned on each, as after a day on which the network was too dear."""
    assert engine.mirror.header is not None
    now, found = engine.mirror.header.close_time, []
    for n in range(count):
        c = channel(10**6 + n, amount=50, payee=Payee(PAYEES[0].account, n))
        engine.mirror.add(ChannelRecord(10**6 + n, c, 10, True, "p", "a", now, now, None, None))
        fund = Intent(FundChannel("hot", c.channel_id, Drops(60)), "running_out", "F", (), "p")
        for entry in engine.store.journal([fund], engine.mirror.header.index):
            engine.mirror.open_entry(entry)
        found.append(c.channel_id)
    return found


@pytest.fixture
def busy(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Engine:
    for name, most in (("_SWEPT", 6), ("_TOO_DEAR", 3), ("_TURNS", 2)):
        monkeypatch.setattr(executor, name, most)
    engine.session.fees = DEAR
    return engine


def looked_at(engine: Engine) -> list[str]:
    """Of whom it was asked from here on what is to be signed."""
    found: list[str] = []
    workload = engine.executor._workload
    asked = workload.transaction

    def asking(wallet: Any, entry: Any) -> Any:
        found.append(entry.action.channel_id)
        return asked(wallet, entry)

    workload.transaction = asking  # type: ignore[method-assign]
    return found


def test_however_much_waits_a_ledger_looks_at_so_much_of_it_and_at_all_of_it_in_turn(
    busy: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned = planted(busy, 40)
    seen, turns = looked_at(busy), executor._TURNS
    for ledger in range(2 * -(-40 // 6)):
        before = len(seen)
        monkeypatch.setattr(executor, "_TURNS", 0 if ledger < 7 else turns)
        busy.executor.ledger()
        busy.ledger.index += 1
        busy.mirror.header = busy.ledger.header()
        busy.work()
        assert len(seen) - before <= 6 + executor._TURNS * (3 + 2)
        assert ledger < 6 or set(seen) == set(planned), "what has nothing left to do is found without a price"
    assert busy.executor.prices.waiting[Dear.FEE_CAP] == 40
    busy.session.fees = CHEAP
    for _ in range(3):
        busy.work()
    assert busy.executor.prices.waits() is None
    assert busy.mirror.backlog.count("hot") == 0
    assert len(busy.mirror.live) == 40


def test_behind_very_much_that_is_too_dear_a_payout_before_an_end_is_found(busy: Engine) -> None:
    """One that was decided before its channel had an end, so that it stands in its place among the others."""
    planned = planted(busy, 30)
    last = busy.mirror.channels[ChannelId(planned[-1])]
    assert last.entry is not None
    busy.mirror.close_entry(last.entry)
    settle = Intent(SettleChannel("hot", last.record.channel.channel_id, Drops(10)), "worth_it", "F", (), "p")
    for entry in busy.store.journal([settle], busy.mirror.processed):
        busy.mirror.open_entry(entry)
    far = replace(last.record.channel, cancel_after=RippleTime(busy.ledger.time + 10**6))
    busy.mirror.replace(last, replace(last.record, channel=far))
    busy.session.fees = OpenFees(Drops(10**7), busy.mirror.policy.guards.urgent_fee_cap)
    rounds = 0
    while not busy.session.submitted:
        busy.work()
        rounds += 1
        assert rounds <= 30
    assert [type(busy.ledger.blobs[blob][0]) for blob in busy.session.submitted] == [Claim]
    assert rounds > 1


def test_what_a_ledger_changed_is_looked_at_with_it_however_much_waits(busy: Engine) -> None:
    planned = planted(busy, 40)
    busy.work()
    for channel_id in (planned[20], planned[33]):
        state = busy.mirror.channels[ChannelId(channel_id)]
        enough = replace(state.record, channel=replace(state.record.channel, amount=Drops(60)))
        busy.mirror.replace(state, enough)
    seen = looked_at(busy)
    busy.ledger.index += 1
    busy.mirror.header = busy.ledger.header()
    busy.work()
    assert seen[:2] == [planned[20], planned[33]]
    assert [status for _, status in intents(busy)].count("moot") == 2


# --- dying -----------------------------------------------------------------------------------------------------------


def life(path: Path, deaths: set[int], *, lost: bool = False) -> tuple[Engine, int]:
    """Open, use, fund, settle and close a channel, dying at the given contacts with the node."""
    engine = Engine(path, terms=policy(max_per_payee=1))
    contacts = itertools.count()

    def contact(where: str) -> None:
        if next(contacts) in deaths:
            raise Killed(where)

    def alive(step: object, *arguments: object) -> None:
        engine.session.at_await, engine.session.lost = contact, lost
        try:
            step(*arguments)  # type: ignore[operator]
        except Killed:
            reborn()
        except Unreachable:
            pass

    def reborn() -> None:
        while True:
            try:
                engine.kill()
                engine.session = type(engine.session)(engine.ledger, at_await=contact)
                engine.build()
                engine.connect()
            except Killed:
                continue
            return

    alive(engine.connect)
    for n in range(12):
        alive(lambda n=n: engine.answer(engine.ask(n, 7)))
        alive(engine.tick)
        engine.answer(engine.ask(n, 7)) if not deaths else alive(lambda n=n: engine.answer(engine.ask(n, 7)))
        alive(engine.tick)
    engine.session.at_await = lambda _: None
    engine.session.lost = False
    engine.restart()
    for _ in range(60):
        engine.tick()
    return engine, next(contacts)


def fate(engine: Engine) -> dict[str, object]:
    promised = engine.on_disk(
        "SELECT channel_id, authorized, (SELECT sum(covers_to - covers_from) FROM request r WHERE r.channel = c.row)"
        " FROM channel c"
    )
    return {
        "open intents": [s for _, s in intents(engine) if s in ("planned", "signed")],
        "live": engine.on_disk("SELECT * FROM tx WHERE ended IS NULL"),
        "promised and not paid": [r for r in promised if r[1] != engine.ledger.closed.get(r[0]) or r[1] != r[2]],
        "left on the ledger": list(engine.ledger.channels),
        "accepted": engine.on_disk("SELECT count(*), sum(covers_to - covers_from) FROM request"),
        "money": engine.ledger.balance + sum(engine.ledger.closed.values()) + sum(t.fee for t in engine.ledger.history),
    }


def test_a_life_without_deaths_ends_with_everything_paid_and_closed(tmp_path: Path) -> None:
    engine, contacts = life(tmp_path / "s.db", set())
    assert fate(engine) == {
        "open intents": [],
        "live": [],
        "promised and not paid": [],
        "left on the ledger": [],
        "accepted": [(12, 84)],
        "money": 10**6,
    }
    assert contacts > 40


@settings(max_examples=settings().max_examples // 4)
@given(deaths=st.sets(st.integers(0, 60), max_size=10), lost=st.booleans())
def test_wherever_it_dies_it_ends_as_if_it_had_not(
    deaths: set[int], lost: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    engine, _ = life(tmp_path_factory.mktemp("life") / "s.db", deaths, lost=lost)
    found = fate(engine)
    for name in ("open intents", "live", "promised and not paid", "left on the ledger"):
        assert found[name] == [], name
    assert found["money"] == 10**6
    engine.kill()


def test_after_a_death_at_each_single_contact_one_channel_carried_it_all(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Channels are opened one after the other only because they close: never two to do one job."""
    clean, contacts = life(tmp_path_factory.mktemp("clean") / "s.db", set())
    for death in range(0, contacts, 7):
        engine, _ = life(tmp_path_factory.mktemp("life") / "s.db", {death})
        assert len(engine.ledger.created) == len(clean.ledger.created), death
        engine.kill()


def test_an_intent_whose_goal_is_reached_already_is_moot_and_nothing_is_signed(engine: Engine) -> None:
    channel_id = engine.opened()
    engine.desk.answer([engine.ask(1, 18)])
    assert intents(engine)[-1] == ("fund", "planned")
    before = engine.on_disk("SELECT count(*) FROM tx")
    engine.ledger.channels[channel_id] = replace(engine.ledger.channels[channel_id], amount=Drops(60))
    engine.connect()
    engine.work()
    assert intents(engine)[-1] == ("fund", "moot")
    assert engine.on_disk("SELECT count(*) FROM tx") == before
