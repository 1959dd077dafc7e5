"""The store keeps what it took, all of a group or nothing, and says after a crash what it said before."""

from __future__ import annotations

import copy
import gc
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from itertools import takewhile
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from worlds import PAYEES, SOURCE, channel

from channeld.adapters.sqlite import SqliteStore
from channeld.adapters.sqlite.groups import Group
from channeld.adapters.sqlite.reader import read_whole
from channeld.core.budgets import Outlay
from channeld.core.errors import ConfigError, Refused, StoreError
from channeld.core.freezes import Audit, Cause, Freeze
from channeld.core.intents import (
    Action,
    FinalizeClose,
    FundChannel,
    Intent,
    OpenChannel,
    RequestClose,
    SettleChannel,
    Status,
)
from channeld.core.records import (
    Accepted,
    Booked,
    ChannelMark,
    ChannelRecord,
    Ending,
    JournalEntry,
    LedgerUpdate,
    LiveTransaction,
    Payment,
    Remembered,
)
from channeld.core.units import ChannelId, Drops, LedgerIndex, RippleTime, Seconds


def record(number: int, amount: int = 100) -> ChannelRecord:
    now = RippleTime(50)
    return ChannelRecord(0, channel(number, amount=amount), 0, True, "p", "a", now, now, None, None)


def update(index: int = 5, **parts: Any) -> LedgerUpdate:
    names = ("channels", "new_channels", "endings", "intents", "payments")
    return LedgerUpdate(
        LedgerIndex(index), RippleTime(60), *(parts.get(n, ()) for n in names), booked=parts.get("booked", Booked())
    )


HOUR: Final = 277
NEW_HOUR: Final = (HOUR + 1) * 3600


class Request(NamedTuple):
    key: bytes
    remembered: Remembered


def request(number: int, row: int, covers: tuple[int, int], signed: int | None = None) -> Request:
    said = Remembered(b"contents %07d" % number, row, *covers, covers[1] if signed is None else signed)
    return Request(number.to_bytes(16, "big"), said)


def together(*requests: Request) -> Accepted:
    """In columns, as the store takes them."""
    return Accepted(*zip(*((key, *said, "a") for key, said in requests), strict=True))


def mark(row: int, authorized: int) -> ChannelMark:
    return ChannelMark(row, authorized, RippleTime(61), RippleTime(61))


def intent(action: Action) -> Intent:
    return Intent(action, "why", "F" * 64, (), "p")


def live(number: int, of: int | None = None, tx: str | None = None) -> LiveTransaction:
    head = (of, "hot", SOURCE, number, Drops(10), LedgerIndex(6), LedgerIndex(18))
    return LiveTransaction(*head, tx or f"{number:064X}", "B10B", ChannelId(f"{number:064X}"))


def row_id(row: int) -> ChannelId:
    return ChannelId(f"{row:064X}")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    made = SqliteStore(tmp_path / "s.db", network_id=1)
    made.apply(update(new_channels=[record(1), record(2)]))
    yield made
    made.close()


@contextmanager
def nothing_changes(store: SqliteStore) -> Iterator[None]:
    before = list(store._db.iterdump())
    yield
    assert list(store._db.iterdump()) == before


# --- against a plain model -------------------------------------------------------------------------------------------


class Model(RuleBasedStateMachine):
    """The store and a few dictionaries are told the same and asked the same, with crashes in between."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "s.db"
        self.store = SqliteStore(self.path, network_id=1)
        self.channels: dict[int, ChannelRecord] = {}
        self.requests: dict[bytes, tuple[Remembered, int]] = {}
        self.journal: dict[int, JournalEntry] = {}
        self.live: dict[int, LiveTransaction] = {}
        self.spent: dict[tuple[str, int], int] = {}
        self.outlays: list[Outlay] = []
        self.processed: int | None = None
        self.now, self.made, self.sent = NEW_HOUR - 3, 0, 0
        self.used: dict[tuple[str, int], tuple[int, int]] = {}

    def teardown(self) -> None:
        self.store.close()
        with closing(sqlite3.connect(self.path)) as db:
            used = db.execute("SELECT payee, hour, requests, drops FROM usage WHERE server = 'a'").fetchall()
        assert {(payee, hour): (requests, drops) for payee, hour, requests, drops in used} == self.used
        self.folder.cleanup()

    def step(self, **parts: Any) -> LedgerUpdate:
        self.processed = (self.processed or 4) + 1
        return update(self.processed, **parts)

    @rule()
    def crash(self) -> None:
        self.store._db.close()
        self.store = SqliteStore(self.path, network_id=1)

    @rule(amount=st.integers(1, 60))
    def a_channel(self, amount: int) -> None:
        self.made += 1
        new = record(self.made, amount)
        self.store.apply(self.step(new_channels=[new]))
        assert new.row not in self.channels
        self.channels[new.row] = copy.copy(new)

    @precondition(lambda self: self.channels)
    @rule(
        picks=st.lists(st.tuples(st.integers(0, 99), st.integers(0, 30)), min_size=1, max_size=4), clash=st.booleans()
    )
    def a_group(self, picks: list[tuple[int, int]], clash: bool) -> None:
        """Requests on several channels; good ones and one bad one go together, so all of them fail."""
        self.now += 1
        authorized = {row: c.authorized for row, c in self.channels.items()}
        taken, group = dict(authorized), []
        for pick, drops in picks:
            row = sorted(self.channels)[pick % len(self.channels)]
            self.sent += 1
            group.append(request(self.sent, row, (taken[row], taken[row] + drops)))
            taken[row] += drops
        if clash and self.requests:
            group.append(Request(next(iter(self.requests)), group[0].remembered))
        rows = {a.remembered.row for a in group}
        marks = [mark(row, taken[row]) for row in sorted(rows)]
        good = not (clash and self.requests) and all(
            (c := self.channels[row]).issuing
            and c.closed_at is None
            and authorized[row] < taken[row] <= c.channel.amount
            for row in rows
        )
        spend = [("a", self.now // 3600, 3), ("b", self.now // 3600, 2)]
        if not good:
            with nothing_changes(self.store), pytest.raises(StoreError):
                self.store.accept(self.now, together(*group), marks, spend)
            return
        self.store.accept(self.now, together(*group), marks, spend)
        self.requests |= {a.key: (a.remembered, self.now) for a in group}
        for _, said in group:
            whose = str(self.channels[said.row].channel.payee), self.now // 3600
            requests, sold = self.used.get(whose, (0, 0))
            self.used[whose] = requests + 1, sold + said.covers_to - said.covers_from
        for m in marks:
            c = self.channels[m.row]
            c.authorized, c.last_claim_at, c.unredeemed_since = m.authorized, m.last_claim_at, m.unredeemed_since
        for server, hour, drops in spend:
            self.spent[server, hour] = self.spent.get((server, hour), 0) + drops

    @precondition(lambda self: self.channels)
    @rule(pick=st.integers(0, 99), what=st.sampled_from(["fund", "settle", "close", "finalize", "open"]))
    def an_intent(self, pick: int, what: str) -> None:
        row = sorted(self.channels)[pick % len(self.channels)]
        target = self.channels[row].channel.channel_id
        actions: dict[str, Action] = {
            "fund": FundChannel("hot", target, Drops(77)),
            "settle": SettleChannel("hot", target, Drops(5)),
            "close": RequestClose("hot", target),
            "finalize": FinalizeClose("hot", target),
            "open": OpenChannel("hot", "p", "a", PAYEES[1], Drops(5), Seconds(6), Seconds(70)),
        }
        (entry,) = self.store.journal([intent(actions[what])], LedgerIndex(9))
        assert entry.number not in self.journal
        self.journal[entry.number] = copy.copy(entry)
        if what == "close":
            self.channels[row].issuing = False

    @precondition(lambda self: self.journal)
    @rule(pick=st.integers(0, 99), new=st.sampled_from([Status.SIGNED, Status.MOOT, Status.FAILED]))
    def an_intents_step(self, pick: int, new: Status) -> None:
        entry = self.journal[sorted(self.journal)[pick % len(self.journal)]]
        if new is Status.SIGNED:
            self.sign(entry)
            return
        if entry.status is not Status.PLANNED and new is Status.MOOT:
            with nothing_changes(self.store), pytest.raises(Refused):
                self.store.set_intent(entry.number, new, "no")
        elif entry.status is Status.PLANNED:
            self.store.set_intent(entry.number, new, "over")
            del self.journal[entry.number]

    def sign(self, entry: JournalEntry) -> None:
        if entry.status is Status.SIGNED:
            with nothing_changes(self.store), pytest.raises(Refused):
                self.store.signed([live(99_999, entry.number)])
            return
        self.sent += 1
        tx = live(self.sent, entry.number)
        if not isinstance(entry.action, OpenChannel):
            tx = replace(tx, channel_id=entry.channel_id)
        self.store.signed([tx])
        self.live[entry.number] = tx
        entry.status, entry.channel_id, entry.note = Status.SIGNED, tx.channel_id, ""
        entry.attempts += 1

    @precondition(lambda self: self.live)
    @rule(
        pick=st.integers(0, 99),
        status=st.sampled_from([Status.PLANNED, Status.DONE, Status.FAILED]),
        seconds=st.integers(0, 9),
        flags=st.tuples(st.booleans(), st.booleans()),
    )
    def an_ending(self, pick: int, status: Status, seconds: int, flags: tuple[bool, bool]) -> None:
        number = sorted(self.live)[pick % len(self.live)]
        tx = self.live.pop(number)
        ending = Ending(tx.hash, None if status is Status.PLANNED else LedgerIndex(9), "tesSUCCESS")
        at = self.outlays[-1].at if self.outlays else 0
        took = [Outlay(tx.hash, RippleTime(at + seconds), "p", tx.fee, 7, *flags)] * (status is not Status.PLANNED)
        booked = Booked(outlays=took)
        self.store.apply(self.step(endings=[ending], intents=[(number, status, "n")], booked=booked))
        self.outlays += took
        entry = self.journal[number]
        entry.status, entry.note = status, "n"
        if status is not Status.PLANNED:
            del self.journal[number]

    @precondition(lambda self: self.channels)
    @rule(
        pick=st.integers(0, 99), more=st.integers(0, 20), paid=st.integers(0, 5), gone=st.booleans(), lie=st.booleans()
    )
    def a_ledger(self, pick: int, more: int, paid: int, gone: bool, lie: bool) -> None:
        """A channel changes. A record that would lower `authorized`, or issue again, does not get its way."""
        row = sorted(self.channels)[pick % len(self.channels)]
        old = self.channels[row]
        shown = replace(
            old.channel,
            amount=Drops(old.channel.amount + more),
            balance=Drops(min(old.channel.amount, old.channel.balance + paid)),
            ledger_index=LedgerIndex(77),
        )
        closed = LedgerIndex(8) if gone else old.closed_at
        new = replace(old, channel=shown, closed_at=closed, issuing=old.issuing and not gone)
        told = replace(new, authorized=0, issuing=True) if lie and not gone else new
        money = Payment(shown.channel_id, f"{self.processed}", LedgerIndex(8), Drops(paid), SOURCE)
        self.store.apply(self.step(channels=[told], payments=[money, money]))
        self.channels[row] = new

    @rule()
    def read_again(self) -> None:
        self.store.load()

    @rule(limit=st.integers(1, 9))
    def folding(self, limit: int) -> None:
        """What was appended is spread into the tables, and nothing that can be asked changes."""
        before = self.store.backlog
        moved = self.store.fold(limit)
        assert (moved == 0) == (before == 0)
        assert moved <= 4 * limit + 4, "and those of one group"
        assert self.store.backlog <= before

    @rule(age=st.integers(0, 10), limit=st.integers(1, 5))
    def forgetting(self, age: int, limit: int) -> None:
        before = self.now - age
        gone = self.store.forget(before, limit)
        oldest = [(key, at) for key, (_, at) in self.requests.items()]
        old = len([*takewhile(lambda request: request[1] < before, oldest)])
        assert min(limit, old) <= gone <= old
        assert len({at for _, at in oldest[limit - 1 : gone]}) <= 1, "beyond the limit go those of the same second"
        for key, _ in oldest[:gone]:
            del self.requests[key]
        hour = before // 3600 - 170
        self.spent = {k: v for k, v in self.spent.items() if k[1] >= hour}

    @invariant()
    def both_say_the_same(self) -> None:
        other = SqliteStore(self.path, network_id=1)  # reads the disk; the store itself goes on where it is
        said = other.load()
        remembered = (len(self.requests), min((at for _, at in self.requests.values()), default=None))
        for each in (other, self.store):
            assert (each.ids, each.ids_since) == remembered
        assert other.ids_of("a") == self.store.ids_of("a") >= len(self.requests)
        for after in (-1, self.outlays[-1].at // 2 if self.outlays else 0):
            expected = sorted((o for o in self.outlays if o.at > after), key=lambda o: (o.at, o.hash))
            assert other.outlays(RippleTime(after)) == expected
        other._db.close()
        assert said.processed == self.processed
        assert {r.row: r for r in said.channels} == {n: c for n, c in self.channels.items() if c.closed_at is None}
        assert {n: self.store.channel(n) for n in self.channels} == self.channels
        assert {e.number: e for e in said.journal} == self.journal
        assert {t.intent: t for t in said.live} == self.live
        assert said.spent == self.spent
        keys = [*self.requests, b"unknown".rjust(16) * 2]
        assert self.store.remembered(keys) == {k: r for k, (r, _) in self.requests.items()}


TestModel = Model.TestCase
TestModel.settings = settings(max_examples=settings().max_examples // 2)


# --- single rules ----------------------------------------------------------------------------------------------------


def test_the_intent_to_close_stops_issuing_in_the_same_transaction(store: SqliteStore) -> None:
    store.accept(1, together(request(1, 1, (0, 5))), [mark(1, 5)], [])
    store.journal(
        [intent(SettleChannel("hot", row_id(2), Drops(1))), intent(RequestClose("hot", row_id(1)))], LedgerIndex(7)
    )
    assert {r.row: r.issuing for r in store.load().channels} == {1: False, 2: True}
    both = [request(2, 2, (0, 5)), request(3, 1, (5, 6))]
    with nothing_changes(store), pytest.raises(StoreError):
        store.accept(2, together(*both), [mark(2, 5), mark(1, 6)], [("a", 1, 6)])
    assert store.remembered([both[0].key, both[1].key]) == {}


@pytest.mark.parametrize("limit", [1, 2, 3, 5, 8])
def test_a_crash_between_any_two_steps_of_folding_changes_nothing(tmp_path: Path, limit: int) -> None:
    """Groups of several sizes, one more accepted in the middle; after each number of steps the disk says the same."""

    def told(store: SqliteStore) -> tuple[Any, ...]:
        said = store.load()
        kept = store.remembered([number.to_bytes(16, "big") for number in range(1, 12)])
        return said.spent, {r.row: r.authorized for r in said.channels}, kept, store.ids_of("a")

    steps, done = 0, False
    while not done:
        store = SqliteStore(tmp_path / f"{steps}.db", network_id=1)
        store.apply(update(new_channels=[record(1), record(2)]))
        number = authorized = 0

        def accept(store: SqliteStore, size: int) -> None:
            nonlocal number, authorized
            group = [request(number + n, 1, (authorized + n, authorized + n + 1)) for n in range(1, size + 1)]
            number, authorized = number + size, authorized + size + 1
            spent = [("a", HOUR, size), ("b", HOUR, 1)]
            store.accept(HOUR * 3600, together(*group), [mark(1, authorized), mark(2, authorized)], spent)

        for size in (3, 1, 4, 2):
            accept(store, size)
        for step in range(steps):
            if step == 2:
                accept(store, 1)
            done = store.fold(limit) == 0
        if steps <= 2:
            accept(store, 1)
        store._db.close()
        again = SqliteStore(store.path, network_id=1)
        spent, authorized_now, kept, ids = told(again)
        assert spent == {("a", HOUR): 11, ("b", HOUR): 5}
        assert authorized_now == {1: authorized, 2: authorized}
        assert len(kept) == ids == 11
        again.close()
        folded = SqliteStore(store.path, network_id=1)
        assert (told(folded), folded.backlog) == ((spent, authorized_now, kept, ids), 0)
        used = folded._db.execute("SELECT server, hour, requests, drops FROM usage").fetchall()
        assert used == [("a", HOUR, 11, 11)]
        accept(folded, 1)
        assert folded.load().spent == {("a", HOUR): 12, ("b", HOUR): 6}, "what is new is not taken for summed"
        folded.close()
        steps += 1
    assert steps > 11 // limit + 4


def test_a_large_group_is_summed_in_parts_and_a_crash_between_them_changes_nothing(tmp_path: Path) -> None:
    """A channel each: the sums come to more rows than one step may write."""
    size, steps, done, seen = 40, 0, False, set[int]()
    total = "SELECT coalesce(sum(requests), 0), coalesce(sum(drops), 0) FROM usage"
    while not done:
        store = SqliteStore(tmp_path / f"{steps}.db", network_id=1)
        store.apply(update(new_channels=[record(row) for row in range(1, size + 1)]))
        for first in (1, 2):
            group = [request(first * 100 + row, row, (first - 1, first)) for row in range(1, size + 1)]
            store.accept(HOUR * 3600, together(*group), [mark(r, first) for r in range(1, size + 1)], [("a", HOUR, 40)])
        for step in range(steps):
            done = store.fold(10 + step % 5) == 0
        seen.add(store._db.execute(total).fetchone()[0])
        store._db.close()
        again = SqliteStore(store.path, network_id=1)
        assert (again.load().spent, again.ids_of("a")) == ({("a", HOUR): 80}, 80)
        again.close()
        with closing(sqlite3.connect(store.path)) as db:
            assert db.execute(total).fetchone() == (80, 80)
        steps += 1
    assert len(seen) > 4, "in parts"


def test_what_is_accepted_after_everything_was_forgotten_is_summed_too(store: SqliteStore) -> None:
    """No number of a request is given again, although no request is left that has one as high."""
    for number in (1, 2):
        store.accept(HOUR * 3600, together(request(number, 1, (number - 1, number))), [mark(1, number)], [("a", 9, 1)])
        assert store.forget(HOUR * 3600 + 1, 10) == 1
        store.load()
    store.accept(HOUR * 3600, together(request(3, 1, (2, 3))), [mark(1, 3)], [("a", HOUR, 1)])
    assert (store.load().spent, store.ids_of("a")) == ({("a", HOUR): 1}, 3)


def test_requests_of_several_hours_in_one_batch_are_summed_apart(store: SqliteStore) -> None:
    for number, hour in enumerate((HOUR, HOUR, HOUR + 1, HOUR + 3), 1):
        store.accept(hour * 3600, together(request(number, 1, (number - 1, number))), [mark(1, number)], [])
    while store.fold(100):
        pass
    used = store._db.execute("SELECT hour, requests, drops FROM usage ORDER BY hour").fetchall()
    assert used == [(HOUR, 2, 2), (HOUR + 1, 1, 1), (HOUR + 3, 1, 1)]


def test_what_is_folded_is_let_go_of_without_a_collection_of_garbage(store: SqliteStore) -> None:
    """A batch is megabytes, and the collector is made to come rarely."""

    def groups() -> int:
        return sum(isinstance(each, Group) for each in gc.get_objects())

    gc.collect()
    gc.disable()
    try:
        before = groups()
        store.accept(7, together(request(1, 1, (0, 5))), [mark(1, 5)], [])
        assert groups() == before + 1
        while store.fold(10):
            pass
        assert groups() == before
    finally:
        gc.enable()


@pytest.mark.parametrize("authorized", [4, 5, 101])
def test_a_mark_is_higher_than_the_last_and_within_what_the_channel_holds(store: SqliteStore, authorized: int) -> None:
    store.accept(1, together(request(1, 1, (0, 5))), [mark(1, 5)], [])
    with nothing_changes(store), pytest.raises(StoreError):
        store.accept(2, together(request(2, 1, (5, authorized))), [mark(1, authorized)], [])


def retired(store: SqliteStore) -> None:
    store.books.freeze(Freeze("", Cause.OLD_STORE, "why", "somebody", 1))
    store.books.thaw("", Cause.OLD_STORE, Audit(2, "somebody", "thaw", "why"))


def test_what_is_proven_to_be_signed_is_never_lowered_by_what_was_not_folded(store: SqliteStore) -> None:
    store.accept(1, together(request(1, 1, (0, 5))), [mark(1, 5)], [])
    retired(store)
    proof = Audit(3, "server:a", "take", "why")
    store.take_as_signed([mark(1, 9), mark(2, 3)], [proof])
    assert [(r.authorized, r.issuing) for r in store.load().channels] == [(9, False), (3, False)]
    while store.fold(1):
        pass
    assert [r.authorized for r in store.load().channels] == [9, 3]
    assert store.books.audits(1) == [proof]


@pytest.mark.parametrize("authorized", [4, 5, 101])
def test_what_is_taken_as_signed_is_higher_than_before_and_within_what_the_channel_holds(
    store: SqliteStore, authorized: int
) -> None:
    """All or nothing."""
    store.accept(1, together(request(1, 1, (0, 5))), [mark(1, 5)], [])
    retired(store)
    with nothing_changes(store), pytest.raises(StoreError):
        store.take_as_signed([mark(2, 1), mark(1, authorized)], [Audit(3, "server:a", "take", "why")])


def test_nothing_is_taken_as_signed_on_a_channel_that_is_issued_on_or_gone(store: SqliteStore) -> None:
    with nothing_changes(store), pytest.raises(StoreError):
        store.take_as_signed([mark(1, 5)], [])
    retired(store)
    (kept, _) = store.load().channels
    store.apply(update(channels=[replace(kept, closed_at=LedgerIndex(6))]))
    with nothing_changes(store), pytest.raises(StoreError):
        store.take_as_signed([mark(1, 5)], [])


def test_an_id_is_accepted_once(store: SqliteStore) -> None:
    store.accept(1, together(request(1, 1, (0, 5))), [mark(1, 5)], [])
    with nothing_changes(store), pytest.raises(StoreError):
        store.accept(2, together(request(1, 2, (0, 5))), [mark(2, 5)], [])


def test_one_number_carries_one_live_transaction(store: SqliteStore) -> None:
    store.signed([live(7)])
    with nothing_changes(store), pytest.raises(StoreError):
        store.signed([live(7, tx="A" * 64)])
    store.load()
    store.apply(update(endings=[Ending(live(7).hash, None, "dead")]))
    store.signed([live(7, tx="A" * 64)])


def test_a_second_writer_waits_and_cannot_sign_what_the_first_has_signed(store: SqliteStore) -> None:
    second = SqliteStore(store.path, network_id=1)
    store.accept(1, together(request(1, 1, (0, 5))), [mark(1, 5)], [])
    with pytest.raises(StoreError):
        second.accept(1, together(request(2, 1, (0, 5))), [mark(1, 5)], [])
    assert second.load() == store.load()
    second.close()


def test_a_store_in_use_by_a_hanging_writer_fails_and_changes_nothing(store: SqliteStore) -> None:
    second = SqliteStore(store.path, network_id=1)
    second._db.execute("PRAGMA busy_timeout = 10")
    store._db.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreError):
        second.accept(1, together(request(1, 1, (0, 5))), [mark(1, 5)], [])
    store._db.execute("ROLLBACK")
    assert store.load().channels[0].authorized == 0
    second.close()


def test_the_log_starts_again_although_something_is_always_written(store: SqliteStore) -> None:
    """A checkpoint never finds all of it: somebody reads as of before the last commit, or it comes while it runs."""
    log, lengths = Path(f"{store.path}-wal"), []
    for n in range(1, 81):
        if n % 20 == 0:
            with closing(sqlite3.connect(store.path, isolation_level=None)) as reader:
                reader.execute("BEGIN")
                reader.execute("SELECT * FROM meta").fetchone()
                store.accept(n, together(request(n, 1, (n - 1, n))), [mark(1, n)], [])
                store.checkpoint()
            assert store.restart_log()
            lengths.append(log.stat().st_size)
        else:
            store.accept(n, together(request(n, 1, (n - 1, n))), [mark(1, n)], [])
    assert lengths[1:] == lengths[:1] * 3


def test_a_log_that_has_much_left_is_not_folded_by_who_commits(store: SqliteStore) -> None:
    class Behind:
        def execute(self, _: str) -> Any:
            raise AssertionError("it would hold the loop")

    store.accept(1, together(request(1, 1, (0, 1))), [mark(1, 1)], [])
    store.checkpoint()
    file = store._file
    kept, file.db, file._left = file.db, Behind(), 1001  # type: ignore[assignment]
    assert not store.restart_log()
    file.db = kept


def test_a_checkpoint_is_no_second_writer(store: SqliteStore) -> None:
    for n in range(1, 50):
        store.accept(n, together(request(n, 1, (n - 1, n))), [mark(1, n)], [])
        if n % 10 == 0:
            store.checkpoint()
    assert store.load().channels[0].authorized == 49


def test_a_store_belongs_to_one_network_from_its_first_channel_on(store: SqliteStore) -> None:
    with pytest.raises(ConfigError, match="network"):
        SqliteStore(store.path, network_id=0)
    assert SqliteStore(store.path, network_id=1).load() == store.load()


def test_a_store_that_holds_nothing_yet_follows_a_corrected_network(tmp_path: Path) -> None:
    SqliteStore(tmp_path / "s.db", network_id=1).close()
    SqliteStore(tmp_path / "s.db", network_id=0).close()
    with closing(read_whole(tmp_path / "s.db")) as db:
        assert db.execute("SELECT value FROM meta WHERE key = 'network_id'").fetchone() == ("0",)


def test_what_is_no_store_is_an_error_of_the_store(tmp_path: Path) -> None:
    (tmp_path / "s.db").write_bytes(b"not a database at all, but long enough to look like one" * 99)
    with pytest.raises(StoreError):
        SqliteStore(tmp_path / "s.db", network_id=1)
    with pytest.raises(StoreError):
        SqliteStore(tmp_path / "absent" / "s.db", network_id=1)


def test_what_cannot_be_opened_is_let_go_of(store: SqliteStore) -> None:
    """At once, not when the collector of garbage comes: somebody may try again every few seconds."""

    def held() -> list[str]:
        files = [str(number.resolve()) for number in Path("/proc/self/fd").iterdir()]
        return [file for file in files if file.startswith(str(store.path))]

    def not_opened(kind: type[Exception], network_id: int) -> None:
        with pytest.raises(kind) as raised:
            SqliteStore(store.path, network_id=network_id)
        assert (raised.value.__traceback__ is not None, held()) == (True, [])

    store.close()
    not_opened(ConfigError, 0)
    with closing(sqlite3.connect(store.path)) as db:
        db.execute("ALTER TABLE setback RENAME TO moved")
    not_opened(StoreError, 1)
    store.path.write_bytes(b"not a database at all, but long enough to look like one" * 99)
    not_opened(StoreError, 1)


def test_a_store_is_for_its_owners_eyes(store: SqliteStore) -> None:
    for file in store.path.parent.glob("s.db*"):
        assert file.stat().st_mode & 0o077 == 0, file


def test_every_commit_waits_for_the_disk(store: SqliteStore) -> None:
    assert store._db.execute("PRAGMA synchronous").fetchone() == (2,)
    assert store._db.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_ids_that_stand_in_both_places_count_once(store: SqliteStore) -> None:
    """The last one accepted is folded first, for its key is the lowest; then the process dies."""
    store.accept(5, together(*(request(9 - n, 1, (n, n + 1)) for n in range(3))), [mark(1, 3)], [])
    store.fold(1)
    store.load()
    assert (store.ids, store.ids_since) == (3, 5)


def test_requests_are_forgotten_in_slices_oldest_first_and_never_too_early(store: SqliteStore) -> None:
    for n in range(1, 11):
        store.accept(n, together(request(n, 1, (n - 1, n))), [mark(1, n)], [])
    assert [store.forget(7, 4), store.forget(7, 4), store.forget(7, 4)] == [4, 2, 0]
    assert (store.ids, store.ids_since) == (4, 7)
    left = store.remembered([n.to_bytes(16, "big") for n in range(1, 11)])
    assert sorted(r.covers_to for r in left.values()) == [7, 8, 9, 10]


def test_what_was_spent_long_ago_is_forgotten_in_slices_and_the_short_lived_first(store: SqliteStore) -> None:
    """An hour of each user: to look at all of them would hold the loop."""
    rows = [(name, hour, 5) for name in ("a", *(f"/u/{n}" for n in range(3000)), "z") for hour in (100, 300, 474, 475)]
    store._db.executemany("INSERT INTO spent VALUES (?, ?, ?)", rows)
    left = len(rows)
    for _ in range(3):
        store.forget(477 * 3600, 10)
        (now,) = store._db.execute("SELECT count(*) FROM spent").fetchone()
        assert left - 4097 <= now < left
        left = now
    store.forget(477 * 3600 + 5, 10)
    kept = dict(store._db.execute("SELECT hour, count(*) FROM spent GROUP BY hour"))
    assert kept == {475: 3002, 474: 2}
    store.forget(478 * 3600, 10)
    assert store._db.execute("SELECT count(*) FROM spent WHERE hour = 475").fetchone() == (2,)


def test_more_ids_than_one_statement_takes_are_looked_up(store: SqliteStore) -> None:
    group = [request(n, 1, (n - 1, n), 100) for n in range(1, 101)]
    store.accept(1, together(*group), [mark(1, 100)], [])
    keys = [n.to_bytes(16, "big") for n in range(1300)]
    assert len(store.remembered(keys)) == 100


def test_the_intent_that_was_to_open_a_channel_is_found_whatever_became_of_it(store: SqliteStore) -> None:
    action = OpenChannel("hot", "p", "a", PAYEES[1], Drops(5), Seconds(6), None)
    (entry,) = store.journal([intent(action)], LedgerIndex(7))
    store.signed([live(7, entry.number)])
    store.apply(
        update(endings=[Ending(live(7).hash, None, "unknown")], intents=[(entry.number, Status.FAILED, "unknown")])
    )
    found = store.opening(row_id(7))
    assert found is not None
    assert found.action == action
    assert store.opening(row_id(8)) is None


# --- a process that dies ---------------------------------------------------------------------------------------------


def go(path: Path) -> None:
    """Accept groups for ever, on two channels, saying each group's end, and fold with every group a little."""
    store = SqliteStore(path, network_id=1)
    rows = {r.row: r.authorized for r in store.load().channels}
    number = sum(rows.values())
    while True:
        group, before = [], dict(rows)
        for row in before:
            for _ in range(20):
                number += 1
                group.append(request(number, row, (rows[row], rows[row] + 1)))
                rows[row] += 1
        marks = [mark(row, rows[row]) for row in before]
        store.accept(1, together(*group), marks, [("a", 1, len(group))])
        print(number, flush=True)
        for _ in range(3):
            store.fold(8)


@pytest.mark.slow
@pytest.mark.parametrize("after", [0.05, 0.11, 0.17, 0.23, 0.31])
def test_a_writer_killed_in_the_middle_of_a_group_leaves_whole_groups_only(tmp_path: Path, after: float) -> None:
    path = tmp_path / "s.db"
    first = SqliteStore(path, network_id=1)
    first.apply(update(new_channels=[record(1, 10**9), record(2, 10**9)]))
    first.close()
    code = f"import test_sqlite as t, pathlib; t.go(pathlib.Path({str(path)!r}))"
    here = Path(__file__).parent
    paths = os.pathsep.join([str(here), str(here.parent), str(here.parents[1])])
    for _ in range(2):
        with subprocess.Popen(
            [sys.executable, "-c", code], stdout=subprocess.PIPE, env=os.environ | {"PYTHONPATH": paths}
        ) as writer:
            assert writer.stdout is not None
            writer.stdout.readline()
            deadline = time.monotonic() + after
            said = 0
            while time.monotonic() < deadline:
                said = int(writer.stdout.readline())
            writer.send_signal(signal.SIGKILL)
        whole = read_whole(path)
        sums = whole.execute(
            "SELECT c.authorized, sum(r.covers_to - r.covers_from), max(r.covers_to), count(*) FROM channel c"
            " JOIN request r ON r.channel = c.row GROUP BY c.row"
        ).fetchall()
        assert all(authorized == total == highest == count for authorized, total, highest, count in sums)
        assert len({authorized for authorized, *_ in sums}) == 1  # both channels, or neither
        assert sum(authorized for authorized, *_ in sums) >= said
        ((spent,),) = whole.execute("SELECT drops FROM spent").fetchall()
        assert spent == sum(authorized for authorized, *_ in sums)
        ((used, sold),) = whole.execute("SELECT sum(requests), sum(drops) FROM usage").fetchall()
        assert used == sold == spent
        whole.close()


class FailsLate:
    """A connection whose commits reach the disk and fail all the same."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def __getattr__(self, name: str) -> Any:
        return getattr(self._db, name)

    def execute(self, statement: str, *values: Any) -> Any:
        done = self._db.execute(statement, *values)
        if statement == "COMMIT":
            raise sqlite3.OperationalError("disk I/O error")
        return done


def test_after_a_commit_that_failed_nothing_is_written_before_all_was_read_again(store: SqliteStore) -> None:
    """It may have stopped the very channel that the next group draws from."""
    (channel_id,) = [r.channel.channel_id for r in store.load().channels if r.row == 1]
    kept, store._file.db = store._file.db, FailsLate(store._file.db)  # type: ignore[assignment]
    with pytest.raises(StoreError):
        store.stop_issuing([channel_id], Audit(1, "somebody", "close", "why"))
    store._file.db = kept
    for _ in "12":
        with pytest.raises(StoreError, match="read again"):
            store.accept(1, together(request(1, 1, (0, 5))), [mark(1, 5)], [])
    assert [r.issuing for r in store.load().channels if r.row == 1] == [False]
    store.accept(2, together(request(2, 2, (0, 5))), [mark(2, 5)], [])


def test_no_commit_folds_a_long_log(store: SqliteStore) -> None:
    """It would hold the loop for as long as that takes, once whoever has read from it for long is done."""
    assert store._db.execute("PRAGMA wal_autocheckpoint").fetchone() == (0,)


@pytest.mark.parametrize("failed", ["accept", *range(5)])
@pytest.mark.parametrize("loaded", [False, True])
def test_nothing_is_folded_at_the_close_after_a_commit_that_failed(
    tmp_path: Path, failed: str | int, loaded: bool
) -> None:
    """It may be on disk, and folded again what was spent would count twice; once it is loaded, it is folded.

    A step of folding fails, after so many that did not; with the last the group would go.
    """
    store = SqliteStore(tmp_path / "s.db", network_id=1)
    store.apply(update(new_channels=[record(1)]))
    store.accept(1, together(request(1, 1, (0, 5))), [mark(1, 5)], [("a", 1, 5)])
    for _ in range(failed if isinstance(failed, int) else 0):
        store.fold(100)
    kept, store._file.db = store._file.db, FailsLate(store._file.db)  # type: ignore[assignment]
    with pytest.raises(StoreError):
        if failed == "accept":
            store.accept(2, together(request(2, 1, (5, 8))), [mark(1, 8)], [("a", 1, 3)])
        else:
            store.fold(100)
    store._file.db = kept
    if loaded:
        store.load()
    store.close()
    with closing(sqlite3.connect(store.path)) as db:
        (waiting,) = db.execute("SELECT count(*) FROM request_group").fetchone()
    left = 2 if failed == "accept" else int(failed != 4)
    assert waiting == (0 if loaded else left)
    again = SqliteStore(store.path, network_id=1)
    assert again.load().spent == {("a", 1): 8 if failed == "accept" else 5}
    again.close()
    with closing(sqlite3.connect(store.path)) as db:
        (used,) = db.execute("SELECT sum(requests) FROM usage").fetchone()
    assert used == (2 if failed == "accept" else 1)


def test_the_last_starts_are_kept_and_no_more(store: SqliteStore, tmp_path: Path) -> None:
    assert store.starts.begun("0") == {"0"}
    for number in range(1, 70):
        kept = store.starts.begun(str(number))
    assert kept == {str(number) for number in range(6, 70)}
    store.close()
    again = SqliteStore(tmp_path / "s.db", network_id=1)
    assert again.starts.begun("x") == kept - {"6"} | {"x"}
    again.close()
