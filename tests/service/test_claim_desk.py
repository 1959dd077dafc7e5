"""Every claim the desk hands out is durable, on time, covered by a validated channel, and bought exactly once."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from engine import DELAY, LAG, MARGIN, Engine, policy, sign_claim
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from worlds import KEY, PAYEES

from channeld.core.claim import claim_message
from channeld.core.errors import StoreError
from channeld.core.freezes import Cause
from channeld.core.intents import Kind, RequestClose
from channeld.core.policy import CloseTerms
from channeld.core.requests import Answer, Ask, Code, Granted, Held, Refusal
from channeld.core.units import ChannelId, Drops, RippleTime, Seconds
from channeld.service.clock import KEPT_LONGER_S
from channeld.service.guard import Guard
from channeld.service.holdings import Wallet


def code(answer: Answer) -> Code | None:
    return answer.code if isinstance(answer, Refusal) else None


def granted(answer: Answer) -> Granted:
    assert isinstance(answer, Granted), answer
    return answer


class Desk(RuleBasedStateMachine):
    """Random claims, repeats, ledgers, redemptions, stalls and crashes, against a record of what was promised."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        caps = {"a": (150, 130, 3), "b": (10**6, 90, 2)}
        terms = policy(cancel_after=200)
        self.engine = Engine(Path(self.folder.name) / "store.db", terms=terms, caps=caps)
        self.engine.connect()
        self.asked: dict[int, dict[str, Any]] = {}
        self.promised: dict[int, Granted] = {}
        self.when: dict[int, float] = {}
        self.closing: set[str] = set()
        self.numbers = 0

    def teardown(self) -> None:
        self.engine.kill()
        self.folder.cleanup()

    # --- what may happen ---------------------------------------------------------------------------------------------

    def fresh(self, server: str, payee: int, drops: int) -> tuple[int, Ask]:
        self.numbers += 1
        what = {"drops": drops, "server": server, "payee": PAYEES[payee]}
        self.asked[self.numbers] = what
        return self.numbers, self.engine.ask(self.numbers, **what)

    requests = st.lists(
        st.tuples(st.sampled_from("aaab"), st.sampled_from([0, 0, 1]), st.integers(1, 25)), min_size=1, max_size=4
    )

    @rule(wanted=requests, repeat=st.booleans())
    def claims(self, wanted: list[tuple[str, int, int]], repeat: bool) -> None:
        """A group of new requests, some of them twice in the same group."""
        asks = [self.fresh(*one) for one in wanted]
        asks += asks[:1] if repeat else []
        self.judge(asks, self.engine.answer(*(ask for _, ask in asks)))

    @precondition(lambda self: self.asked)
    @rule(pick=st.integers(0, 10**6), with_new=st.booleans())
    def repeats(self, pick: int, with_new: bool) -> None:
        """An id comes again with the same contents, alone or beside a new one."""
        number = 1 + pick % self.numbers
        asks = [(number, self.engine.ask(number, **self.asked[number]))]
        asks += [self.fresh("a", 0, 3)] if with_new else []
        self.judge(asks, self.engine.answer(*(ask for _, ask in asks)))

    @precondition(lambda self: self.promised)
    @rule(pick=st.integers(0, 10**6), how=st.sampled_from(["drops", "payee"]))
    def conflicts(self, pick: int, how: str) -> None:
        """An accepted id comes again with other contents: nothing is decided."""
        number = sorted(self.promised)[pick % len(self.promised)]
        what = dict(self.asked[number])
        if how == "payee":
            what["payee"] = PAYEES[1] if what["payee"] == PAYEES[0] else PAYEES[0]
        else:
            what["drops"] += 1
        (answer,) = self.engine.answer(self.engine.ask(number, **what))
        assert code(answer) is Code.ID_CONFLICT

    @rule(count=st.integers(1, 4), seconds=st.integers(1, 12))
    def ledgers(self, count: int, seconds: int) -> None:
        for _ in range(count):
            self.engine.tick(seconds)
            self.note_closing()

    @rule(seconds=st.integers(5, 90))
    def a_long_pause_between_ledgers(self, seconds: int) -> None:
        self.engine.tick(seconds, take=False)
        self.note_closing()

    @rule(seconds=st.integers(1, 40))
    def silence(self, seconds: int) -> None:
        """No ledger comes, but time passes."""
        self.engine.pass_time(seconds)

    @rule(hours=st.integers(1, 30))
    def hours(self, hours: int) -> None:
        self.engine.pass_time(3600 * hours)
        self.engine.tick(4)

    @rule(pick=st.integers(0, 10**6))
    def redemption(self, pick: int) -> None:
        """A payee collects one of the claims it holds."""
        held = sorted({(g.claim.channel_id, g.claim.amount) for g in self.promised.values()})
        if held:
            channel_id, amount = held[pick % len(held)]
            if channel_id in self.engine.ledger.channels:
                self.engine.ledger.redeem(channel_id, amount)

    @rule()
    def crash(self) -> None:
        self.engine.restart()
        self.note_closing()

    @rule(lost=st.booleans(), fault=st.sampled_from([None, None, "telINSUF_FEE_P", "tefPAST_SEQ"]))
    def a_moody_node(self, lost: bool, fault: str | None) -> None:
        self.engine.session.lost, self.engine.session.code = lost, fault

    # --- what must hold ----------------------------------------------------------------------------------------------

    def note_closing(self) -> None:
        self.closing |= {
            e.action.channel_id for e in self.engine.mirror.journal.values() if isinstance(e.action, RequestClose)
        }

    def judge(self, asks: list[tuple[int, Ask]], answers: list[Answer]) -> None:
        for (number, ask), answer in zip(asks, answers, strict=True):
            if number in self.promised:
                self.same(self.promised[number], granted(answer))
            elif isinstance(answer, Granted):
                assert not answer.replayed
                assert answer.covers_to - answer.covers_from == ask.drops
                self.right(answer, self.asked[number]["payee"])
                self.promised[number], self.when[number] = answer, self.engine.unix
        self.note_closing()

    def same(self, was: Granted, now: Granted) -> None:
        assert now.replayed
        assert now[:2] == was[:2]
        for name in ("channel_id", "amount", "signature", "public_key"):
            assert getattr(now.claim, name) == getattr(was.claim, name), name

    def right(self, answer: Granted, payee: object) -> None:
        """Judged by what the ledger says, not by what the daemon believes."""
        channel = self.engine.ledger.channels[answer.claim.channel_id]
        header = self.engine.mirror.header
        assert header is not None
        assert channel.payee == payee
        assert channel.expiration is None
        assert answer.claim.channel_id not in self.closing
        assert channel.cancel_after is not None
        assert header.close_time + LAG <= channel.cancel_after - DELAY - MARGIN
        assert answer.covers_to <= answer.claim.amount <= channel.amount
        assert answer.claim.signature == sign_claim(
            claim_message(bytes.fromhex(answer.claim.channel_id), answer.claim.amount)
        )
        assert self.engine.clock - self.engine.mirror.seen_at <= LAG

    @invariant()
    def slices_are_disjoint_and_leave_no_gap(self) -> None:
        ends: dict[str, int] = {}
        for g in sorted(self.promised.values(), key=lambda g: g.covers_from):
            assert g.covers_from == ends.get(g.claim.channel_id, 0)
            ends[g.claim.channel_id] = g.covers_to
        for channel_id, state in self.engine.mirror.channels.items():
            assert state.record.authorized == ends.get(channel_id, 0)

    @invariant()
    def the_desk_never_asks_the_store_for_what_it_must_refuse(self) -> None:
        assert not self.engine.mirror.frozen

    @invariant()
    def the_file_says_what_was_promised(self) -> None:
        rows = self.engine.on_disk("SELECT channel_id, authorized, amount FROM channel")
        for channel_id, authorized, amount in rows:
            mine = [g.covers_to for g in self.promised.values() if g.claim.channel_id == channel_id]
            assert authorized == max(mine, default=0)
            assert authorized <= amount

    @invariant()
    def no_server_spends_more_in_a_day_than_it_may(self) -> None:
        since = self.engine.unix - 86_400
        spent = sum(
            g.covers_to - g.covers_from
            for n, g in self.promised.items()
            if self.asked[n]["server"] == "a" and self.when[n] > since
        )
        assert spent <= 150

    @invariant()
    def what_was_signed_was_paid_before_a_channel_went(self) -> None:
        for channel_id, paid in self.engine.ledger.closed.items():
            mine = [g.covers_to for g in self.promised.values() if g.claim.channel_id == channel_id]
            assert paid <= max(mine, default=0)

    @invariant()
    def locked_money_stays_within_the_caps(self) -> None:
        held = {"a": 0, "b": 0}
        for state in self.engine.mirror.channels.values():
            held[state.record.server] += state.record.channel.remaining
        assert held["a"] <= 130
        assert held["b"] <= 90


TestDesk = Desk.TestCase
TestDesk.settings = settings(
    max_examples=settings().max_examples // 2, stateful_step_count=settings().stateful_step_count
)


# --- single rules ----------------------------------------------------------------------------------------------------


def test_a_repeat_after_the_channel_closed_gives_the_same_claim_and_what_was_paid(engine: Engine) -> None:
    channel_id = engine.opened()
    first = granted(engine.answer(engine.ask(1, 5))[0])
    for _ in range(40):
        engine.tick()
    assert engine.ledger.closed == {channel_id: 5}
    again = granted(engine.answer(engine.ask(1, 5))[0])
    assert (again.claim.signature, again.covers_to, again.claim.paid, again.claim.headroom) == (
        first.claim.signature,
        first.covers_to,
        5,
        0,
    )


def test_a_payee_that_a_server_may_not_charge_for_is_unknown_to_it(engine: Engine) -> None:
    engine.opened()
    answers = engine.answer(
        engine.ask(1, 5, server="b", payee=PAYEES[1]), engine.ask(2, 5, server="c"), engine.ask(3, 5, payee=PAYEES[2])
    )
    assert {code(a) for a in answers} == {Code.UNKNOWN_PAYEE}
    assert engine.on_disk("SELECT count(*) FROM request") == [(0,)]


def test_a_payee_may_be_left_out_only_where_there_is_one(engine: Engine) -> None:
    engine.opened()
    two = engine.desk.answer([Ask("a", b"k" * 16, b"c" * 16, None, 5, None, None)])
    one = engine.desk.answer([Ask("b", b"k" * 16, b"c" * 16, None, 5, None, None)])
    assert code(two[0]) is Code.BAD_REQUEST
    assert granted(one[0]).claim.destination_account == PAYEES[0].account


def test_the_cap_of_a_day_binds_to_the_drop_and_survives_a_restart(tmp_path: Path) -> None:
    engine = Engine(tmp_path / "s.db", caps={"a": (12, 10**6, 5), "b": (10**6, 10**6, 5)})
    engine.connect()
    engine.opened()
    answers = engine.answer(engine.ask(1, 5), engine.ask(2, 5), engine.ask(3, 3), engine.ask(4, 2))
    assert [code(a) for a in answers] == [None, None, Code.LIMIT_EXCEEDED, None]
    engine.restart()
    assert code(engine.answer(engine.ask(5, 1))[0]) is Code.LIMIT_EXCEEDED
    assert granted(engine.answer(engine.ask(6, 1, server="b"))[0])
    assert granted(engine.answer(engine.ask(1, 5))[0]).replayed


def test_a_day_is_never_shorter_than_twenty_four_hours(tmp_path: Path) -> None:
    """The last second of an hour, and 23 hours and a second later, are one day."""
    engine = Engine(tmp_path / "s.db", caps={"a": (10, 10**6, 5), "b": (10, 10**6, 5)})
    engine.connect()
    engine.opened()
    engine.unix = 3600.0 * 480_000 - 1
    assert granted(engine.answer(engine.ask(1, 10))[0])
    engine.unix += 23 * 3600 + 1
    assert code(engine.answer(engine.ask(2, 10))[0]) is Code.LIMIT_EXCEEDED


@pytest.mark.parametrize(("drops", "hours"), [(1, 20), (4, 20), (5, 25), (10, 25)])
def test_who_is_over_the_cap_of_a_day_is_told_when_enough_of_it_is_over(tmp_path: Path, drops: int, hours: int) -> None:
    """4 drops, 6 five hours later, and then one more is too much. A second earlier it is still refused."""
    engine = Engine(tmp_path / "s.db", caps={"a": (10, 10**6, 5), "b": (10, 10**6, 5)})
    engine.connect()
    engine.opened()
    engine.unix = 3600.0 * 480_000 + 7
    assert granted(engine.answer(engine.ask(1, 4))[0])
    engine.pass_time(5 * 3600)
    engine.tick(1)
    _, refusal = engine.answer(engine.ask(2, 6), engine.ask(3, drops))
    assert isinstance(refusal, Refusal)
    wait = (refusal.retry_after_ms or 0) / 1000
    assert engine.unix + wait == pytest.approx(3600 * (480_005 + hours), abs=2)
    engine.pass_time(wait - 3)
    engine.tick(1)
    assert code(engine.answer(engine.ask(3, drops))[0]) is Code.LIMIT_EXCEEDED
    engine.pass_time(3)
    engine.tick(1)
    assert granted(engine.answer(engine.ask(3, drops))[0])


def test_more_than_the_cap_of_a_day_is_never_told_to_come_again(tmp_path: Path) -> None:
    engine = Engine(tmp_path / "s.db", caps={"a": (10, 10**6, 5), "b": (10, 10**6, 5)})
    engine.connect()
    engine.opened()
    (refusal,) = engine.answer(engine.ask(1, 11))
    assert isinstance(refusal, Refusal)
    assert (refusal.code, refusal.retry_after_ms) == (Code.LIMIT_EXCEEDED, None)


@pytest.mark.parametrize(("late", "accepted"), [(-1, True), (0, True), (1, False)])
def test_a_request_is_not_decided_after_its_time_but_a_repeat_is_answered(
    engine: Engine, late: int, accepted: bool
) -> None:
    engine.opened()
    ask = engine.ask(1, 5, not_after=int(engine.unix) - late)
    assert (code(engine.answer(ask)[0]) is None) is accepted
    engine.unix += 10
    assert code(engine.answer(ask)[0]) is (None if accepted else Code.BAD_REQUEST)


def held(engine: Engine, channel_id: str, amount: int, *, valid: bool = True) -> Held:
    signature = sign_claim(claim_message(bytes.fromhex(channel_id), amount))
    return Held(ChannelId(channel_id), Drops(amount), signature if valid else signature[:-1])


@pytest.mark.parametrize(
    ("amount", "valid", "frozen"), [(6, True, True), (5, True, False), (6, False, False), (1, True, False)]
)
def test_only_a_valid_claim_above_what_was_signed_freezes(
    engine: Engine, amount: int, valid: bool, frozen: bool
) -> None:
    channel_id = engine.opened()
    granted(engine.answer(engine.ask(1, 5))[0])
    answer = engine.answer(engine.ask(2, 5, held=held(engine, channel_id, amount, valid=valid)))[0]
    assert (code(answer) is Code.FROZEN) is frozen
    assert (code(engine.answer(engine.ask(3, 1))[0]) is Code.FROZEN) is frozen
    assert granted(engine.answer(engine.ask(1, 5))[0]).replayed


def test_a_proof_of_an_old_store_is_told_once_and_proves_nothing_more_once_a_person_has_said_go_on(
    engine: Engine,
) -> None:
    """Servers go on to send the best claim they hold; none is ever signed on that channel again."""
    guard, told = Guard(engine.mirror, engine.store.books, lambda: 1.0), list[str]()

    def doubt(found: str) -> None:
        told.append(found)
        guard.doubt(Cause.OLD_STORE, found)

    engine.desk.on_old_store = doubt
    old = engine.opened()
    granted(engine.answer(engine.ask(1, 5))[0])
    for number in range(2, 50):
        assert code(engine.answer(engine.ask(number, 5, held=held(engine, old, 9)))[0]) is Code.FROZEN
    assert len(told) == 1, "each of them is a line in the log"
    guard.thaw("", Cause.OLD_STORE, "eva", "the newest is lost")
    assert old in engine.mirror.channels
    (answer,) = engine.answer(engine.ask(60, 5, held=held(engine, old, 9)))
    assert code(answer) is Code.NO_HEADROOM, "not frozen: a channel is being opened"


def test_a_proof_of_an_old_store_stops_the_whole_group_it_came_in(engine: Engine) -> None:
    channel_id = engine.opened()
    answers = engine.answer(engine.ask(1, 5), engine.ask(2, 5, held=held(engine, channel_id, 9)), engine.ask(3, 5))
    assert {code(a) for a in answers} == {Code.FROZEN}
    assert engine.on_disk("SELECT count(*) FROM request") == [(0,)]


@pytest.mark.parametrize(("lag", "frozen"), [(LAG, False), (LAG + 0.1, True)])
def test_a_ledger_that_is_too_old_freezes_new_requests_and_no_repeats(engine: Engine, lag: float, frozen: bool) -> None:
    engine.opened()
    granted(engine.answer(engine.ask(1, 5))[0])
    engine.clock += lag
    assert (code(engine.answer(engine.ask(2, 5))[0]) is Code.FROZEN) is frozen
    assert granted(engine.answer(engine.ask(1, 5))[0]).replayed


def test_a_reconnect_to_a_node_that_stands_still_does_not_make_its_ledger_young(engine: Engine) -> None:
    engine.opened()
    engine.clock += LAG + 1
    engine.connect()
    assert code(engine.answer(engine.ask(1, 5))[0]) is Code.FROZEN
    engine.tick()
    assert granted(engine.answer(engine.ask(1, 5))[0])


def test_a_request_larger_than_any_channel_is_refused_for_good_and_harms_no_other(engine: Engine) -> None:
    channel_id = engine.opened()
    huge, small = engine.answer(engine.ask(1, 10**17), engine.ask(2, 21))
    assert (code(huge), huge.retry_after_ms) == (Code.NO_HEADROOM, None)  # type: ignore[union-attr]
    assert code(small) is Code.NO_HEADROOM
    assert small.retry_after_ms is not None  # type: ignore[union-attr]
    for _ in range(3):
        engine.tick()
    assert granted(engine.answer(engine.ask(2, 21))[0]).claim.channel_id == channel_id
    assert engine.ledger.channels[channel_id].amount <= 40  # a request that can never be met forecasts nothing


def test_a_frozen_wallet_issues_nothing_and_says_why(engine: Engine) -> None:
    engine.opened()
    engine.mirror.frozen_wallets["hot"] = {"operator": "ticket 4711"}
    for answer in engine.answer(engine.ask(1, 1), engine.ask(2, 1)):
        assert isinstance(answer, Refusal)
        assert (answer.code, answer.reason) == (Code.FROZEN, "ticket 4711")


def test_the_claim_of_a_group_that_leaves_little_has_more_put_in_at_once(engine: Engine) -> None:
    """The first of the group left enough; nothing waits for the next ledger."""
    engine.opened(drops=5)
    assert not engine.mirror.journal
    (state,) = engine.mirror.channels.values()
    left = state.record.channel.headroom(state.record.authorized)
    engine.answer(engine.ask("one", 1), engine.ask("two", left - 3))
    assert [entry.action.kind for entry in engine.mirror.journal.values()] == [Kind.FUND]


@pytest.mark.parametrize("ends", ["by other hands", "by itself"])
def test_a_repeat_says_no_headroom_where_nothing_can_be_signed_any_more(tmp_path: Path, ends: str) -> None:
    """Somebody else has set an expiration, or the channel's fixed end is too near: of a request and of a query."""
    by_itself = ends == "by itself"
    terms = policy(cancel_after=200 if by_itself else None, max_per_payee=1)
    pool = replace(terms.pools["p"], close=CloseTerms(Seconds(10**6), Seconds(20)))
    engine = Engine(tmp_path / "s.db", terms=replace(terms, pools={"p": pool}))
    engine.connect()
    channel_id = engine.opened()
    first = granted(engine.answer(engine.ask(1, 5))[0])
    assert first.claim.headroom > 0
    if by_itself:
        end = engine.ledger.channels[channel_id].cancel_after
        assert end is not None
        last = end - DELAY - MARGIN - LAG
        engine.tick(last - engine.ledger.time)
        (state,) = engine.mirror.channels.values()
        left = state.record.channel.headroom(state.record.authorized)
        assert granted(engine.answer(engine.ask(1, 5))[0]).claim.headroom == left > 0
        engine.tick(1)
    else:
        ended = replace(engine.ledger.channels[channel_id], expiration=RippleTime(engine.ledger.time + 40))
        engine.ledger.index, engine.ledger.time = engine.ledger.index + 1, engine.ledger.time + 1
        change = engine.ledger._put(ended, 0)
        engine.ledger._record("F" * 64, ended.destination_account, 1, "tesSUCCESS", 10, [change], 0)
        engine.see()
    assert engine.mirror.channels[channel_id].record.issuing
    assert granted(engine.answer(engine.ask(1, 5))[0]).claim.headroom == 0
    recalled = engine.desk.recall(engine.ask(1, 5).key)
    assert recalled is not None
    assert granted(recalled[0]).claim.headroom == 0


def test_once_a_close_is_written_down_nothing_is_issued_though_no_ledger_shows_it_yet(engine: Engine) -> None:
    channel_id = engine.opened()
    granted(engine.answer(engine.ask(1, 5))[0])
    while not any(isinstance(e.action, RequestClose) for e in engine.mirror.journal.values()):
        engine.tick()
    assert engine.ledger.channels[channel_id].expiration is None
    assert code(engine.answer(engine.ask(2, 5))[0]) is Code.NO_HEADROOM
    assert granted(engine.answer(engine.ask(1, 5))[0]).claim.headroom == 0
    engine.restart()
    answer = engine.answer(engine.ask(2, 5))[0]
    assert not isinstance(answer, Granted)
    assert code(answer) is Code.NO_HEADROOM


@pytest.mark.parametrize(("offset", "accepted"), [(-1, True), (0, True), (1, False)])
def test_the_last_claim_leaves_the_payee_its_settle_delay_even_if_the_ledger_lags(
    tmp_path: Path, offset: int, accepted: bool
) -> None:
    engine = Engine(tmp_path / "s.db", terms=policy(cancel_after=200, max_per_payee=1))
    engine.connect()
    channel_id = engine.opened()
    end = engine.ledger.channels[channel_id].cancel_after
    assert end is not None
    for n in range(200):
        if engine.ledger.time == end - DELAY - MARGIN - LAG + offset:
            break
        engine.tick(1)
        if n % 20 == 0:
            granted(engine.answer(engine.ask(n, 1))[0])
    assert isinstance(engine.answer(engine.ask("last", 1))[0], Granted) is accepted


def test_what_is_refused_for_want_of_headroom_can_be_had_after_the_time_that_was_named(engine: Engine) -> None:
    (answer,) = engine.answer(engine.ask(1, 5))
    assert isinstance(answer, Refusal)
    assert answer.retry_after_ms is not None
    waited = 0
    while waited < answer.retry_after_ms:
        engine.tick(4)
        waited += 4000
    assert granted(engine.answer(engine.ask(1, 5))[0])


class Broken:
    """A store whose next write fails, and which says so."""

    def __init__(self, store: Any) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def accept(self, *_: Any) -> None:
        raise StoreError("disk full")


def test_a_store_that_fails_gives_out_nothing_and_stops_the_desk(engine: Engine) -> None:
    engine.opened()
    told: list[bool] = []
    engine.desk.on_store_failed = lambda: told.append(True)
    engine.desk._store = Broken(engine.store)  # type: ignore[assignment]
    assert {code(a) for a in engine.desk.answer([engine.ask(1, 5), engine.ask(2, 5)])} == {Code.FROZEN}
    assert told
    engine.desk._store = engine.store
    assert code(engine.desk.answer([engine.ask(3, 1)])[0]) is Code.FROZEN
    engine.restart()
    assert granted(engine.answer(engine.ask(1, 5))[0]).covers_from == 0


def full_at(engine: Engine, most: int) -> None:
    """From the next life on so many ids may be remembered."""
    engine.max_ids = most
    engine.restart()


def test_a_full_store_of_ids_is_busy_for_new_ones_and_answers_old_ones(engine: Engine) -> None:
    engine.opened()
    full_at(engine, 3)
    answers = engine.answer(*(engine.ask(n, 1) for n in range(5)))
    assert [code(a) for a in answers] == [None, None, None, Code.BUSY, Code.BUSY]
    authorized = next(iter(engine.mirror.channels.values())).record.authorized
    engine.restart()
    assert engine.desk._ids.warning() == "3 of max_ids = 3 ids are remembered"
    full, old, conflict = engine.answer(engine.ask(3, 1), engine.ask(1, 1), engine.ask(2, 5))
    assert (code(full), code(conflict)) == (Code.BUSY, Code.ID_CONFLICT)
    assert granted(old).replayed
    assert next(iter(engine.mirror.channels.values())).record.authorized == authorized, "who is refused pays nothing"
    assert engine.store.forget(1 << 40, 2) == 3, "those of one second go together"
    answers = engine.answer(*(engine.ask(n, 1) for n in range(10, 14)))
    assert [code(a) for a in answers] == [None, None, None, Code.BUSY], "what is forgotten makes room"


@given(most=st.integers(1, 12), steps=st.lists(st.tuples(st.integers(0, 20), st.integers(1, 4)), max_size=12))
def test_never_more_ids_are_remembered_than_max_ids_and_room_is_used_up(
    most: int, steps: list[tuple[int, int]]
) -> None:
    """Groups of new ids and old ones, folding, forgetting and restarts in between."""
    with tempfile.TemporaryDirectory() as folder:
        engine = Engine(Path(folder) / "store.db")
        engine.connect()
        engine.opened(drops=55)
        full_at(engine, most)
        kept, number = 0, 0
        for kind, count in steps:
            if kind > 18:
                engine.restart()
            elif kind > 15:
                engine.store.fold(count)
            elif kind > 12:
                kept -= engine.store.forget(1 << 40, count)
            else:
                new = [engine.ask(f"n{n}", 1) for n in range(number, number + count)]
                number += count
                accepted = [code(a) for a in engine.answer(*new, *new)].count(None) // 2
                assert accepted == min(count, most - kept), "an id that stands twice in a group takes one place"
                kept += accepted
            assert engine.store.ids == kept <= most
        engine.kill()


def test_who_finds_the_ids_full_is_told_when_the_oldest_is_forgotten(engine: Engine) -> None:
    engine.opened()
    full_at(engine, 1)
    engine.answer(engine.ask("old", 1))

    def forgets(after: int) -> int:
        return engine.store.forget(int(engine.unix) + after - 86_400 - KEPT_LONGER_S, 9)

    said = engine.answer(engine.ask("new", 1))[0]
    assert isinstance(said, Refusal)
    assert said.retry_after_ms == 3_600_000, "never more than an hour: the operator may raise max_ids"
    engine.ledger.close(86_500)
    engine.pass_time(86_500)
    engine.see()
    said = engine.answer(engine.ask("new", 1))[0]
    assert isinstance(said, Refusal)
    assert said.retry_after_ms is not None
    wait = said.retry_after_ms // 1000
    assert (forgets(wait - 1), forgets(wait)) == (0, 1), "it is dropped as soon as it is older than promised"
    assert code(engine.answer(engine.ask("new", 1))[0]) is not Code.BUSY


def test_a_channel_of_another_key_is_never_signed_on(engine: Engine) -> None:
    engine.opened()
    engine.desk._signers = engine.desk._choice._keys = {}
    assert code(engine.answer(engine.ask(1, 5))[0]) is Code.NO_HEADROOM
    assert KEY not in engine.desk._signers


def test_a_channel_of_a_wallet_that_is_not_ours_any_more_is_not_signed_on(engine: Engine) -> None:
    engine.opened()
    stranger = Wallet("hot", PAYEES[3].account, KEY)
    engine.mirror.__init__(engine.store.load(), [stranger], engine.policy, engine.grants)  # type: ignore[misc]
    engine.mirror.header, engine.mirror.seen_at = engine.ledger.header(), engine.clock
    assert code(engine.desk.answer([engine.ask(1, 5)])[0]) is Code.NO_HEADROOM


def test_a_channel_that_the_ledger_shows_and_the_store_never_opened_is_not_signed_on(tmp_path: Path) -> None:
    truth = Engine(tmp_path / "truth.db")
    truth.connect()
    truth.opened()
    newcomer = Engine(tmp_path / "new.db", ledger=truth.ledger)
    newcomer.connect()
    assert code(newcomer.answer(newcomer.ask(1, 5))[0]) is Code.FROZEN
    assert newcomer.on_disk("SELECT scope, cause FROM freeze") == [("hot", "unknown_channels")]
    (row,) = newcomer.on_disk("SELECT pool, issuing FROM channel")
    assert row == ("", 0)
