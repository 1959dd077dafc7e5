"""What content servers see of their channels: what is retained is what a ledger says, and events leave no gap."""

from __future__ import annotations

import itertools
import json
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from engine import Session
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from service.heralds import SUBSETS, Heralded, Key
from structlog.testing import capture_logs
from worlds import KEY, PAYEES, SOURCE, channel

from channeld.adapters.sqlite.events import MOST_WAITING
from channeld.core.channel import Channel
from channeld.core.news import Event, News
from channeld.core.records import Booked, ChannelRecord, LedgerUpdate
from channeld.core.requests import Code, Granted, Refusal
from channeld.core.units import ChannelId, Drops, LedgerIndex, Seconds
from channeld.service.herald import _LONGEST_PAUSE, _LOOKED_AT, MOST_UNSETTLED
from channeld.service.holdings import NO_TIME
from channeld.wire.events import channel_payload

OTHERS: Any = {
    (server, ChannelId(f"{number:064X}")): channel_payload(
        ChannelRecord(
            number, replace(channel(number), source_account=PAYEES[2].account), 0, True, "p", server, NO_TIME, NO_TIME,
            None, None,
        )
    )
    for server, number in (("a", 1), ("z", 2))
}  # fmt: skip
"""What another daemon with a wallet of its own retains, for a server of ours and for one that we do not know."""


class HeraldMachine(RuleBasedStateMachine):
    """Ledgers, deaths, lost sessions, other servers and other daemons, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp(prefix="channeld-herald-"))
        self.engine = Heralded(self.directory / "s.db")
        self.engine.board.retained |= OTHERS
        self.engine.meet()
        self.engine.connect()
        self.asked = 0
        self.dropped: set[str] = set()

    # --- what happens ------------------------------------------------------------------------------------------------

    @rule(payee=st.sampled_from(PAYEES[:2]), server=st.sampled_from("ab"), drops=st.integers(1, 15))
    def ask(self, payee: Any, server: str, drops: int) -> None:
        self.asked += 1
        engine = self.engine
        (answer,) = engine.answer(engine.ask(self.asked, drops, server=server, payee=payee))
        if isinstance(answer, Granted):
            key = (server, answer.claim.channel_id)
            if key in engine.board.meddled:
                return  # it was shown, and is put right with the next ledger
            shown = engine.board.arriving().get(key)
            assert shown is not None, "a claim on a channel that the server was never shown"
            assert int(json.loads(shown)["amount"]) >= answer.claim.amount
            assert json.loads(shown)["state"] == "open"

    @rule(seconds=st.sampled_from([4, 4, 4, 30, 90]), take=st.booleans())
    def ledger(self, seconds: int, take: bool) -> None:
        self.engine.tick(seconds, take=take)

    @rule(count=st.integers(1, 3))
    def ledgers_unseen(self, count: int) -> None:
        for _ in range(count):
            self.engine.ledger.close()
        self.engine.connect()

    @rule(pick=st.integers(0, 3), amount=st.integers(1, 20))
    def redeem(self, pick: int, amount: int) -> None:
        channels = sorted(self.engine.ledger.channels)
        if channels:
            state = self.engine.mirror.channels.get(channels[pick % len(channels)])  # type: ignore[call-overload]
            if state is not None and amount <= state.record.authorized:
                self.engine.ledger.redeem(channels[pick % len(channels)], amount)
                self.engine.see()

    @rule(count=st.integers(0, 6))
    def arrive(self, count: int) -> None:
        self.engine.board.deliver(count)
        self.engine.turn()

    @rule(room_for=st.sampled_from([0, 1, 10**9]))
    def crowd(self, room_for: int) -> None:
        self.engine.board.room = room_for

    @rule(arrived=st.integers(0, 6), session=st.booleans())
    def killed(self, arrived: int, session: bool) -> None:
        """What was handed over arrives in part, and nobody hears the answers."""
        self.engine.board.deliver(arrived, answered=False)
        self.engine.restart()
        self.engine.meet(session=session)

    @rule(forgets=st.booleans())
    def session_lost(self, forgets: bool) -> None:
        """The broker comes back without our session, perhaps without anything; what is under way is sent again."""
        if forgets:
            self.engine.board.retained = dict(OTHERS)
        self.engine.board.deliver()
        self.engine.meet(session=False)

    @rule(a=st.sampled_from(SUBSETS), b=st.sampled_from(SUBSETS))
    def reload(self, a: Any, b: Any) -> None:
        self.engine.grant({"a": a, "b": b})
        self.dropped |= {"a", "b"} - self.engine.grants.keys()  # what waited for them was dropped

    @rule(pick=st.integers(0, 7), put=st.sampled_from([b"", b"{}", b"junk"]))
    def meddled(self, pick: int, put: bytes) -> None:
        """Somebody else clears or changes what we retain."""
        board = self.engine.board
        ours = sorted(board.retained.keys() - OTHERS.keys())
        if ours:
            board.meddle(*ours[pick % len(ours)], put)

    @rule(pick=st.integers(0, 1))
    def others_say_theirs_again(self, pick: int) -> None:
        key = sorted(OTHERS)[pick]
        self.engine.board.put(*key, OTHERS[key])

    # --- what holds --------------------------------------------------------------------------------------------------

    @invariant()
    def events_leave_no_gap(self) -> None:
        for server, told in self.engine.board.told.items():
            known: dict[int, bytes] = {}
            for seq, payload in told:
                assert known.setdefault(seq, payload) == payload, "one number, two events"
                assert server in self.dropped or seq == 1 or seq - 1 in known, f"a gap before {seq}"

    @invariant()
    def what_others_retain_is_theirs(self) -> None:
        assert self.engine.board.retained.items() >= OTHERS.items()

    def teardown(self) -> None:
        engine = self.engine
        engine.board.room = 10**9
        engine.meet()
        engine.settle()
        engine.tick()
        engine.settle()
        engine.tick(1)
        engine.settle()
        for _ in range(2 * _LONGEST_PAUSE):
            if engine.herald.waiting:  # somebody meddled, and not for the first time
                engine.tick(1)
                engine.settle()
        assert engine.board.retained == engine.expected() | OTHERS
        assert engine.herald._unsettled == engine.herald.waiting == 0
        engine.herald.close()
        assert engine.on_disk("SELECT number FROM event") == [], "what the broker has is not kept"
        shown, before = engine.board.shown, dict(engine.board.retained)
        engine.restart()
        engine.meet()
        engine.settle()
        changed = [key for key, payload in engine.board.retained.items() if before.get(key) != payload]
        assert engine.board.shown - shown == len(changed), "what is retained already is not published again"
        engine.kill()
        shutil.rmtree(self.directory, ignore_errors=True)


class TestHerald(HeraldMachine.TestCase):
    settings = settings(max_examples=max(8, settings().max_examples // 10), stateful_step_count=30, deadline=None)


def test_many_changes_never_stand_in_the_way_of_a_claim(tmp_path: Path) -> None:
    """No more than a few hundred messages are unsettled, and the rest follows as they are settled."""
    engine = Heralded(tmp_path / "s.db")
    for number in range(1, MOST_UNSETTLED):
        made = Channel(
            ChannelId(f"{number:064X}"), SOURCE, PAYEES[0].account, None, KEY, Drops(9), Drops(0), Seconds(9), None,
            None, LedgerIndex(5),
        )  # fmt: skip
        record = ChannelRecord(number, made, 0, True, "p", "a", NO_TIME, NO_TIME, None, None)
        engine.mirror.add(record)
        engine.ledger.channels[made.channel_id] = made
    engine.store.apply(
        LedgerUpdate(LedgerIndex(99), NO_TIME, [], [s.record for s in engine.mirror.channels.values()], [], [], [])
    )
    engine.restart()
    engine.meet()
    engine.turn()
    assert len(engine.board.handed) == MOST_UNSETTLED
    told = [state for state in engine.mirror.channels.values() if state.told]
    assert len(told) == MOST_UNSETTLED // 2, "two servers see each"
    engine.settle()
    assert engine.board.retained == engine.expected()
    assert all(state.told for state in engine.mirror.channels.values())
    engine.kill()


def test_who_asks_for_what_the_broker_was_not_handed_yet_is_told_so_and_nothing_more_is_opened(tmp_path: Path) -> None:
    """As after a broker lost everything: there is headroom, and it waits for the retained object only."""
    engine = Heralded(tmp_path / "s.db")
    engine.meet()
    engine.connect()
    engine.opened()
    engine.settle()
    engine.board.retained.clear()
    engine.board.room = 0
    engine.meet(session=False)
    (answer,) = engine.answer(engine.ask("r", 5))
    assert isinstance(answer, Refusal)
    assert (answer.code, answer.retry_after_ms) == (Code.NO_HEADROOM, 100)
    assert "retained object is on its way to the broker" in answer.reason
    (more,) = engine.answer(engine.ask("more", 59))
    assert isinstance(more, Refusal)
    assert "retained" not in more.reason, "the object would not help"
    engine.board.room = 10**9
    engine.herald.ledger()
    (answer,) = engine.answer(engine.ask("r", 5))
    assert isinstance(answer, Granted)
    engine.kill()


def test_who_repeats_a_request_until_its_server_was_told_asks_once(tmp_path: Path) -> None:
    """Ten times a second, as told to: what was not refused for want of drops is no reason to lock more of them."""
    engine = Heralded(tmp_path / "s.db")
    engine.meet()
    engine.connect()
    channel_id = engine.opened()
    engine.settle()
    group = engine.mirror.channels[ChannelId(channel_id)].group
    assert group is not None
    engine.board.retained.clear()
    engine.board.room = 0
    engine.meet(session=False)
    amount, asked = engine.ledger.channels[channel_id].amount, group.asked
    for _ in range(8):
        for _ in range(40):
            (answer,) = engine.answer(engine.ask("r", 5))
            assert isinstance(answer, Refusal)
            assert "retained" in answer.reason
        assert group.asked == asked
        engine.tick()
        asked = group.asked
    engine.board.room = 10**9
    engine.herald.ledger()
    (answer,) = engine.answer(engine.ask("r", 5))
    assert isinstance(answer, Granted)
    assert group.asked == asked + 5
    for _ in range(6):
        engine.tick()
        engine.settle()
    assert (engine.ledger.channels[channel_id].amount, len(engine.ledger.channels)) == (amount, 1)
    engine.kill()


def test_what_the_broker_refuses_does_not_hold_up_the_rest(tmp_path: Path) -> None:
    """An access list without these topics costs the notices, not the claims."""
    engine = Heralded(tmp_path / "s.db")
    engine.meet()
    engine.connect()
    channel_id = engine.opened()
    for _, told in engine.board.handed:
        told(False)
    engine.board.handed.clear()
    (answer,) = engine.answer(engine.ask("r", 5))
    assert isinstance(answer, Granted)
    assert answer.claim.channel_id == channel_id
    assert engine.herald._unsettled == 0
    engine.kill()


def test_a_server_that_cannot_be_told_for_very_long_loses_the_oldest_and_sees_it(tmp_path: Path) -> None:
    """What waits is bounded; numbers go on."""
    engine = Heralded(tmp_path / "s.db")
    event = Event(News.SETTLED, ChannelId("A" * 64), PAYEES[0].account, None, 9, 5, None, LedgerIndex(7))
    booked = Booked(events=[("a", event)] * (MOST_WAITING + 3) + [("b", event)])
    engine.store.apply(LedgerUpdate(LedgerIndex(99), NO_TIME, [], [], [], [], [], booked))
    waiting = engine.store.events.waiting(0, 10**6)
    mine = [w.seq for w in waiting if w.server == "a"]
    assert mine == list(range(4, MOST_WAITING + 4))
    assert [w.seq for w in waiting if w.server == "b"] == [1]
    engine.store.events.only(["b"])
    assert [w.server for w in engine.store.events.waiting(0, 10**6)] == ["b"]
    engine.kill()


# --- beside other daemons --------------------------------------------------------------------------------------------


def shows(engine: Heralded) -> tuple[Key, bytes]:
    """A first channel, as it is retained."""
    engine.meet()
    engine.connect()
    channel_id = engine.opened()
    engine.settle()
    key = ("a", ChannelId(channel_id))
    return key, engine.board.retained[key]


@pytest.mark.parametrize("put", [b"", b"junk", b"older"])
def test_what_somebody_else_cleared_or_changed_is_put_right_with_the_next_ledger(tmp_path: Path, put: bytes) -> None:
    engine = Heralded(tmp_path / "s.db")
    key, ours = shows(engine)
    engine.board.put(*key, ours.replace(b"open", b"closing") if put == b"older" else put)
    assert not engine.board.handed
    engine.tick()
    engine.settle()
    assert engine.board.retained[key] == ours
    assert engine.herald.waiting == 0
    engine.kill()


def at_rest(path: Path, count: int) -> Heralded:
    """So many channels on which nothing happens, all of them shown."""
    engine = Heralded(path)
    for number in range(1, count + 1):
        made = replace(channel(number, amount=9), destination_account=PAYEES[0].account, destination_tag=None)
        engine.mirror.add(ChannelRecord(number, made, 0, True, "p", "a", NO_TIME, NO_TIME, None, None))
    engine.mirror.header = replace(engine.ledger.header(), index=LedgerIndex(5))
    engine.meet()
    engine.settle()
    return engine


def test_two_that_do_not_agree_on_what_to_retain_do_not_shout_at_each_other(tmp_path: Path) -> None:
    """Whatever the other one does: ever more seldom, and soon again once it is quiet."""
    engine = at_rest(tmp_path / "s.db", 1)
    before, (key, *_) = engine.board.shown, engine.board.retained
    for _ in range(300):
        if key in engine.board.retained:
            engine.board.put(*key, b"")
        engine.herald.ledger()
        engine.settle()
    assert 6 < engine.board.shown - before < 12
    for _ in range(2 * _LONGEST_PAUSE):
        engine.herald.ledger()
        engine.settle()
    assert key in engine.board.retained
    engine.board.put(*key, b"")
    engine.herald.ledger()
    engine.settle()
    assert key in engine.board.retained
    engine.kill()


def test_an_older_word_of_our_own_that_comes_late_is_no_reason_to_say_it_again(tmp_path: Path) -> None:
    engine = Heralded(tmp_path / "s.db")
    key, ours = shows(engine)
    before = engine.board.shown
    engine.herald.found(*key, ours.replace(b"open", b"closing"))
    engine.herald.found(*key, ours)
    engine.tick()
    engine.settle()
    assert engine.board.shown == before
    engine.kill()


def test_a_channel_of_our_wallet_that_is_not_known_yet_is_not_cleared_before_its_ledger(tmp_path: Path) -> None:
    """Another store with our wallet may have seen a ledger that we have not; once it was processed, it is gone."""
    engine = Heralded(tmp_path / "s.db")
    (server, channel_id), ours = shows(engine)
    at = int(json.loads(ours)["ledger_index"])
    index = engine.mirror.processed
    assert index is not None
    key = (server, ChannelId("C" * 64))
    engine.board.put(*key, ours.replace(b'"ledger_index":%d' % at, b'"ledger_index":%d' % (index + 2)))
    engine.tick()
    engine.settle()
    assert key in engine.board.retained
    for _ in range(3):
        engine.tick()
        engine.settle()
    assert key not in engine.board.retained
    assert (server, channel_id) in engine.board.retained
    engine.kill()


def as_of(payload: bytes, ahead: int) -> bytes:
    """The same, so many ledgers later."""
    at = int(json.loads(payload)["ledger_index"])
    return payload.replace(b'"ledger_index":%d' % at, b'"ledger_index":%d' % (at + ahead))


@pytest.mark.parametrize("doubted", [False, True])
def test_what_a_start_finds_of_a_ledger_to_come_is_not_cleared_before_it(tmp_path: Path, doubted: bool) -> None:
    """Another store with our wallet shows its youngest channel, and the node of this one is a few ledgers behind."""
    engine = Heralded(tmp_path / "s.db")
    (server, _), ours = shows(engine)
    early, gone = (server, ChannelId("C" * 64)), (server, ChannelId("D" * 64))
    lag = engine.ledger.index - int(json.loads(ours)["ledger_index"])
    engine.board.retained |= {early: as_of(ours, lag + 3), gone: ours}
    before = engine.board.retained.keys() - {gone}
    engine.kill()
    other = Heralded(tmp_path / "other.db")
    other.ledger, other.board = engine.ledger, engine.board
    other.kill()
    other.session = Session(other.ledger)
    other.build()
    doubts = [True] * doubted
    other.herald.doubted = lambda: bool(doubts)
    other.meet()
    other.settle()
    other.connect()  # the first ledger comes after all that the broker holds
    other.settle()
    assert other.board.retained.keys() == (before | {gone} if doubted else before)
    for _ in range(6):
        other.tick()
        other.settle()
    assert other.board.retained.keys() == (before | {gone} if doubted else before - {early})
    doubts.clear()
    other.herald.look_again()
    for _ in range(3):
        other.settle()
        other.tick()
    assert other.board.retained.keys() == before - {early}
    assert other.herald.waiting == 0
    other.kill()


def test_what_is_shown_as_of_a_ledger_that_never_comes_holds_nothing_up(tmp_path: Path) -> None:
    """Of another network on our topics: what else somebody changed is put right at once, and nobody is warned of it."""
    engine = Heralded(tmp_path / "s.db")
    key, ours = shows(engine)
    strange = ("a", ChannelId("C" * 64))
    engine.board.put(*strange, as_of(ours, 10**7))
    with capture_logs() as logs:
        for _ in range(20):
            engine.tick()
            engine.settle()
    assert [entry for entry in logs if entry["event"] == "channels_put_right"] == []
    assert engine.herald.waiting == 0
    engine.board.put(*key, b"")
    engine.tick()
    engine.settle()
    assert engine.board.retained.keys() == {key, strange} | engine.expected().keys()
    engine.kill()


def test_what_is_in_quarantine_is_left_to_whoever_put_it_there(tmp_path: Path) -> None:
    """Another daemon, with another store and our wallet: its channels are on the ledger, and pay a payee of ours."""
    engine = Heralded(tmp_path / "s.db")
    key, ours = shows(engine)
    engine.kill()
    other = Heralded(tmp_path / "other.db")
    other.ledger, other.board = engine.ledger, engine.board
    other.restart()
    assert not other.mirror.channels[key[1]].record.pool
    other.meet()
    for _ in range(3):
        other.tick()
        other.settle()
    assert other.board.retained[key] == ours
    other.kill()


def test_a_copy_of_the_store_clears_nothing_and_puts_nothing_right_as_long_as_it_is_doubted(tmp_path: Path) -> None:
    """It may know other servers than the one that is in use."""
    engine = Heralded(tmp_path / "s.db")
    key, ours = shows(engine)
    engine.grants = {"b": engine.grants["b"]}
    engine.restart()
    doubts = [True]
    engine.herald.doubted = lambda: bool(doubts)
    engine.meet()
    engine.settle()
    engine.board.put(*key, ours.replace(b"open", b"closing"))
    engine.tick()
    engine.settle()
    assert key in engine.board.retained
    doubts.clear()
    engine.herald.look_again()
    engine.settle()
    assert key not in engine.board.retained
    engine.kill()


def test_a_thousand_that_somebody_cleared_are_put_right_in_slices(tmp_path: Path) -> None:
    engine = at_rest(tmp_path / "s.db", 1000)
    shown = dict(engine.board.retained)
    for key in shown:
        engine.board.put(*key, b"")
    engine.herald.ledger()
    handed = [0, len(engine.board.handed)]
    while engine.later:
        engine.later.pop(0)()
        handed.append(len(engine.board.handed))
    assert max(after - before for before, after in itertools.pairwise(handed)) <= _LOOKED_AT
    assert handed[-1] == MOST_UNSETTLED
    engine.settle()
    assert engine.board.retained == shown
    engine.kill()
