"""Channels long gone leave tables and memory, and nothing that was true of them is lost or done again."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from engine import Engine
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from lab import TILL, Lab
from worlds import PAYEES, SOURCE

from channeld.adapters.sqlite import SqliteStore
from channeld.adapters.sqlite.backup import copy_store, draft_beside, put_back
from channeld.adapters.sqlite.journal_reader import reading
from channeld.adapters.sqlite.reader import read_whole
from channeld.app.housekeeping import Housekeeping
from channeld.core.errors import ConfigError
from channeld.core.freezes import Cause
from channeld.core.intents import Kind
from channeld.core.records import Incoming
from channeld.core.requests import Granted, Refusal, Taken
from channeld.core.units import ChannelId, Drops, RippleTime, Seconds, to_unix
from channeld.service.archivist import Archivist
from channeld.service.clock import Clock

KEEP = 40
"""Seconds for which a channel that is gone stays whole."""
SUMS = (
    "SELECT coalesce(sum(signed), 0), coalesce(sum(balance), 0) FROM (SELECT balance, authorized AS signed FROM channel"
    " UNION ALL SELECT balance, signed FROM archive)",
    "SELECT coalesce(sum(paid), 0), coalesce(sum(n), 0) FROM (SELECT paid, 1 AS n FROM payment"
    " UNION ALL SELECT paid, payments FROM archive)",
    "SELECT coalesce(sum(fee), 0) FROM"
    " (SELECT fee FROM tx WHERE ledger IS NOT NULL UNION ALL SELECT fees FROM archive)",
)


def archivist(engine: Engine, keep: int = KEEP) -> Archivist:
    return Archivist(engine.mirror, engine.store.archive, Seconds(keep))


def forget_all(engine: Engine) -> None:
    while engine.store.backlog:
        engine.store.fold(1000)
    while engine.store.forget(2**40, 1000):
        pass


def archive_all(engine: Engine, keep: int = 0) -> None:
    work = archivist(engine, keep)
    while work.step():
        pass


def rows(engine: Engine, table: str) -> dict[str, int]:
    return dict(engine.on_disk(f"SELECT channel_id, row FROM {table}"))  # type: ignore[arg-type]


class ArchiveMachine(RuleBasedStateMachine):
    """Requests, ledgers, deaths, forgetting and archiving, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp(prefix="channeld-archive-"))
        self.engine = Engine(self.directory / "s.db")
        self.engine.connect()
        self.work = archivist(self.engine)
        self.asked = 0
        self.answers: dict[bytes, Granted] = {}
        self.numbers: dict[str, int] = {}
        self.highest: Counter[str] = Counter()

    def teardown(self) -> None:
        """Time passes: all of it is closed, forgotten and archived, and no row is left but of what is live."""
        engine = self.engine
        while engine.ledger.channels or engine.mirror.journal:
            engine.tick(30)
        engine.tick()
        forget_all(engine)
        self.archived()
        archive_all(engine)
        assert set(rows(engine, "channel")) == set(engine.ledger.channels)
        assert set(rows(engine, "archive")) == set(engine.ledger.closed)
        assert engine.on_disk("SELECT * FROM tombstone") == []
        self.adds_up()
        engine.kill()
        shutil.rmtree(self.directory)

    # --- what happens ------------------------------------------------------------------------------------------------

    @rule(payee=st.sampled_from(PAYEES[:2]), drops=st.integers(1, 15))
    def ask(self, payee: Any, drops: int) -> None:
        """Until it is accepted: a channel may have to be opened first."""
        self.asked += 1
        ask = self.engine.ask(self.asked, drops, payee=payee)
        for _ in range(4):
            (answer,) = self.engine.answer(ask)
            if isinstance(answer, Granted):
                claim = answer.claim
                assert claim.channel_id in self.engine.ledger.channels
                assert claim.amount > self.highest[claim.channel_id]
                self.highest[claim.channel_id] = claim.amount
                self.answers[ask.key] = answer
                return
            self.engine.tick()

    @rule(seconds=st.sampled_from([4, 4, 15]))
    def ledger(self, seconds: int) -> None:
        self.engine.tick(seconds)

    @rule()
    def nobody_comes_for_a_while(self) -> None:
        """What there is falls idle, is closed, and is gone for longer than it is kept."""
        while self.engine.ledger.channels:
            self.engine.tick(30)
        for _ in range(3):
            self.engine.tick(30)
            self.work.step()

    @rule(pick=st.integers(0, 3))
    def redeem(self, pick: int) -> None:
        """A payee collects."""
        channels = sorted(self.engine.ledger.channels)
        if channels:
            channel_id = ChannelId(channels[pick % len(channels)])
            state = self.engine.mirror.channels.get(channel_id)
            if state is not None and state.record.authorized:
                self.engine.ledger.redeem(channel_id, state.record.authorized)
                self.engine.see()

    @rule()
    def killed(self) -> None:
        self.engine.restart()
        self.work = archivist(self.engine)

    @rule(limit=st.integers(1, 300))
    def fold(self, limit: int) -> None:
        self.engine.store.fold(limit)

    @rule(ago=st.sampled_from([60, 200, 400]), limit=st.integers(1, 4))
    def forget(self, ago: int, limit: int) -> None:
        self.engine.store.forget(int(self.engine.unix) - ago, limit)

    @rule()
    def archived(self) -> None:
        self.work.step()

    # --- what holds --------------------------------------------------------------------------------------------------

    @invariant()
    def what_is_remembered_is_answered_as_before(self) -> None:
        for key, answer in self.answers.items():
            recalled = self.engine.desk.recall(key)
            if self.engine.store.remembered([key]):
                assert recalled is not None
                granted, record = recalled
                assert isinstance(granted, Granted)
                same = (granted.claim.channel_id, granted.claim.amount, granted.claim.signature)
                assert same == (answer.claim.channel_id, answer.claim.amount, answer.claim.signature)
                assert (granted.covers_from, granted.covers_to) == (answer.covers_from, answer.covers_to)
                assert record.authorized == self.highest[record.channel.channel_id]

    @invariant()
    def adds_up(self) -> None:
        """What was signed, paid and spent is the same sum wherever it stands, and what the ledger says. No number is
        given again.
        """
        engine, ledger = self.engine, self.engine.ledger
        with closing(read_whole(engine.path)) as db:
            sums = [db.execute(query).fetchone() for query in SUMS]
            numbers = dict(
                db.execute("SELECT channel_id, row FROM channel UNION ALL SELECT channel_id, row FROM archive")
            )
        paid = [change.paid for tx in ledger.history for change in tx.channels if change.paid]
        fees = sum(tx.fee for tx in ledger.history if tx.account == SOURCE)
        assert sums == [(sum(self.highest.values()), sum(paid)), (sum(paid), len(paid)), (fees,)]
        assert {c: self.numbers.setdefault(c, row) for c, row in numbers.items()} == numbers
        assert len(set(self.numbers.values())) == len(self.numbers) == len(numbers)


TestArchive = ArchiveMachine.TestCase
TestArchive.settings = settings(max_examples=8, stateful_step_count=30)


# --- one channel, used and gone --------------------------------------------------------------------------------------


def gone(engine: Engine) -> ChannelId:
    """A channel that was opened, drawn from, paid and deleted by the ledger; its requests are remembered."""
    engine.connect()
    channel_id = ChannelId(engine.opened())
    for number in range(3):
        (answer,) = engine.answer(engine.ask(number, 4))
        assert isinstance(answer, Granted)
        engine.tick()
    while engine.ledger.channels:
        engine.tick(30)
    for _ in range(2):
        engine.tick(30)
    return channel_id


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    made = Engine(tmp_path / "s.db")
    yield made
    made.kill()


def tables(engine: Engine, channel_id: str) -> dict[str, int]:
    """In how many rows of which tables a channel still stands."""
    named = "SELECT m.name FROM sqlite_master m JOIN pragma_table_info(m.name) c WHERE m.type = 'table' AND c.name IN"
    found = engine.on_disk(f"{named} ('channel_id', 'subject')")
    places = {name: "subject" if name in ("setback", "acted") else "channel_id" for (name,) in found}
    counts = {
        t: engine.on_disk(f"SELECT count(*) FROM {t} WHERE {c} = '{channel_id}'")[0][0] for t, c in places.items()
    }
    return {table: count for table, count in counts.items() if count}


def test_it_stays_whole_while_a_request_refers_to_it_and_then_an_entry_is_left(engine: Engine) -> None:
    channel_id = gone(engine)
    before = tables(engine, channel_id)
    archive_all(engine, keep=10**6)
    archive_all(engine)
    assert tables(engine, channel_id) == before, "it is remembered, or not old enough"
    assert before.keys() >= {"channel", "intent", "tx", "payment", "tombstone"}
    forget_all(engine)
    archive_all(engine, keep=10**6)
    assert tables(engine, channel_id) == before
    archive_all(engine)
    assert tables(engine, channel_id) == {"archive": 1, "event": before["event"]}
    assert engine.on_disk("SELECT * FROM tx WHERE intent NOT IN (SELECT number FROM intent)") == []


def test_its_entry_tells_what_there_was(engine: Engine) -> None:
    """As `explain` finds it: parties, amounts, how far it was signed, what opened and closed it, and when."""
    channel_id = gone(engine)
    was = engine.store.channel(1)
    forget_all(engine)
    archive_all(engine)
    history = engine.ledger.history
    opened = next(tx for tx in history for c in tx.channels if c.created)
    closed = next(tx for tx in history for c in tx.channels if c.deleted)
    with reading(engine.path) as journal:
        entry = journal.archived(channel_id, incoming=False)
        assert journal.ids(channel_id[:8]) == [channel_id]
        assert [e.record.channel.channel_id for e in journal.archived_of(PAYEES[0])] == [channel_id]
    assert entry is not None
    assert was is not None
    assert entry.record == replace(was, closed_by=closed.hash)
    assert (entry.opened_by, entry.gone_at > was.opened_at) == (opened.hash, True)
    assert (entry.paid, entry.payments) == (12, sum(1 for tx in history for c in tx.channels if c.paid))
    assert (entry.fees, entry.transactions) == (sum(tx.fee for tx in history), len(history))


def test_what_was_lost_is_kept_until_it_is_booked(engine: Engine) -> None:
    """Something was signed, was not paid, and no loss stands for it: it is looked into, and not put away."""
    channel_id = gone(engine)
    forget_all(engine)
    with engine.store._transaction() as db:
        db.execute("UPDATE channel SET authorized = authorized + 1")
    archive_all(engine)
    assert "channel" in tables(engine, channel_id)
    with engine.store._transaction() as db:
        db.execute("INSERT INTO loss VALUES (?, 1, 'forgone', 1, '')", (channel_id,))
    archive_all(engine)
    assert tables(engine, channel_id).keys() == {"archive", "event", "loss"}


def test_a_channel_whose_end_only_a_failed_payout_shows_is_booked_as_lost_and_put_away(engine: Engine) -> None:
    """No ledger showed how it went; content servers are told, and the payee's early end counts."""
    engine.connect()
    channel_id = engine.opened()
    (answer,) = engine.answer(engine.ask("it", 4))
    assert isinstance(answer, Granted)
    del engine.ledger.channels[channel_id]
    while channel_id in engine.mirror.channels:
        engine.tick(10)
    assert engine.ledger.history[-1].result == "tecNO_TARGET"
    assert engine.on_disk("SELECT * FROM loss") == [(channel_id, engine.ledger.index, "unseen", 4, "")]
    assert engine.on_disk("SELECT count(*) FROM channel WHERE closed_at IS NOT NULL AND cut_short_at > 0") == [(1,)]
    assert "channel_closed" in str(engine.on_disk("SELECT * FROM event"))
    engine.tick()
    forget_all(engine)
    archive_all(engine)
    assert tables(engine, channel_id).keys() == {"archive", "event", "loss"}


@pytest.mark.parametrize("archived", [False, True])
@pytest.mark.parametrize("told", ["by a transaction", "by a full read", "at a start"])
def test_a_gone_channel_that_is_shown_again_is_never_issued_on(engine: Engine, archived: bool, told: str) -> None:
    """A node that lies, or forgot, shows it: the wallet is frozen, and neither row nor memory takes it in."""
    channel_id, ledger = gone(engine), engine.ledger
    was = engine.store.channel(1)
    assert was is not None
    if archived:
        forget_all(engine)
        archive_all(engine)
    again = replace(was.channel, amount=Drops(10**6), expiration=None)
    ledger.channels[channel_id] = again
    if told == "by a transaction":
        change = ledger._put(again, 0)
        ledger.close()
        ledger._record("F" * 64, PAYEES[1].account, 1, "tesSUCCESS", 10, [change], 0)
        engine.see()
    elif told == "by a full read":
        engine.ledger.close()
        engine.connect()
    else:
        engine.restart()
    assert Cause.GONE_CHANNEL.value in engine.mirror.frozen_wallets["hot"]
    assert channel_id not in engine.mirror.channels
    (answer,) = engine.answer(engine.ask("more", 5))
    assert isinstance(answer, Refusal)
    assert tables(engine, channel_id).keys() <= (
        {"archive", "event"} if archived else {"channel", "intent", "tx", "payment", "tombstone", "event"}
    )
    assert engine.on_disk(
        "SELECT sum(signed) FROM (SELECT authorized signed FROM channel UNION ALL SELECT signed FROM archive)"
    ) == [(12,)]


def test_a_backup_from_before_does_not_bring_it_back(engine: Engine, tmp_path: Path) -> None:
    """Put back, it knows the channel as live, or as just gone; the ledger says, and it is archived again."""
    engine.connect()
    channel_id = engine.opened()
    engine.answer(engine.ask(1, 4))
    copies = [tmp_path / "live.db", tmp_path / "gone.db"]
    copy_store(engine.path, copies[0])
    gone(engine)
    copy_store(engine.path, copies[1])
    forget_all(engine)
    archive_all(engine)
    for copy in copies:
        engine.kill()
        put_back(draft_beside(copy, engine.path), engine.path, copy.name)
        engine.build()
        engine.connect()
        assert channel_id not in engine.mirror.channels
        engine.tick(30)
        forget_all(engine)
        archive_all(engine)
        left = tables(engine, channel_id).keys()
        assert left <= {"archive", "event", "loss"}
        assert "archive" in left


def test_a_payout_that_comes_too_late_leaves_nothing_behind(engine: Engine) -> None:
    """It fails after the ledger that deleted its channel: there is nothing to cool down for, in memory or on disk."""
    engine.connect()
    channel_id, ledger = engine.opened(), engine.ledger
    for number in range(30):
        engine.answer(engine.ask(number, 4))
        engine.tick()
        if any(entry.action.kind is Kind.SETTLE for entry in engine.mirror.journal.values()):
            break
    flying = [entry for entry in engine.mirror.journal.values() if entry.action.kind is Kind.SETTLE]
    assert flying, "a payout is on its way"
    assert ledger.pending
    old = ledger.channels[channel_id]
    ledger.close(take=False)
    ledger._record("E" * 64, old.destination_account, 1, "tesSUCCESS", 10, [ledger._delete(old, 0)], 0)
    engine.see()
    assert channel_id not in engine.mirror.channels
    engine.tick()
    assert not any(entry.action.kind is Kind.SETTLE for entry in engine.mirror.journal.values()), "it has ended"
    assert channel_id not in engine.mirror.setbacks
    assert engine.on_disk(f"SELECT * FROM setback WHERE subject = '{channel_id}'") == []
    engine.tick()
    forget_all(engine)
    archive_all(engine)
    assert tables(engine, channel_id).keys() == {"archive", "event", "loss"}


def test_a_store_that_holds_nothing_but_an_archive_belongs_to_its_network(engine: Engine) -> None:
    gone(engine)
    forget_all(engine)
    archive_all(engine)
    with engine.store._transaction() as db:
        db.execute("DELETE FROM intent")
    with pytest.raises(ConfigError, match="belongs to network 0"):
        SqliteStore(engine.path, network_id=7)


# --- dying in the middle ---------------------------------------------------------------------------------------------


def test_a_death_at_any_statement_of_a_slice_ends_alike(tmp_path: Path) -> None:
    """SIGKILL before each statement: what is on disk is the slice or nothing of it, and the next one ends the same."""
    engine = Engine(tmp_path / "s.db")
    gone(engine)
    forget_all(engine)
    engine.kill()
    before, ends = dump(engine.path), set[str]()
    for nth in range(1, 100):
        copy = tmp_path / f"{nth}.db"
        shutil.copy(engine.path, copy)
        died = killed_at(copy, nth)
        store = SqliteStore(copy, network_id=0)
        assert died is False or dump(copy) == before
        store.archive.move(RippleTime(2**31), 0, 16)
        store.close()
        ends.add(dump(copy))
        if not died:
            break
    else:
        raise AssertionError("it never came to its end")
    assert nth > 8
    assert len(ends) == 1
    assert before not in ends


def killed_at(path: Path, nth: int) -> bool:
    """Archive in a process that is killed before its nth statement; whether it was."""
    child = os.fork()
    if child == 0:
        store, count = SqliteStore(path, network_id=0), 0

        def at_statement(_statement: str) -> None:
            nonlocal count
            count += 1
            if count == nth:
                os.kill(os.getpid(), signal.SIGKILL)

        store._db.set_trace_callback(at_statement)
        store.archive.move(RippleTime(2**31), 0, 16)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


def dump(path: Path) -> str:
    with closing(read_whole(path)) as db:
        return "\n".join(line for line in db.iterdump() if "sqlite_sequence" not in line)


# --- memory ----------------------------------------------------------------------------------------------------------


def traces(name: str, *roots: object) -> list[str]:
    """Where, in everything that these hold, this text, or its bytes, still is."""
    found, seen, work = [], set[int](), [(type(root).__name__, root) for root in roots]
    while work:
        path, thing = work.pop()
        if isinstance(thing, str | bytes):
            if name in (thing if isinstance(thing, str) else thing.hex().upper()):
                found.append(path)
            continue
        if id(thing) in seen or isinstance(thing, type | int | float | Path):
            continue
        seen.add(id(thing))
        if isinstance(thing, dict):
            work += [(f"{path}.key", key) for key in thing] + [(f"{path}[{key!s:.20}]", v) for key, v in thing.items()]
        elif isinstance(thing, list | tuple | set | frozenset | deque):
            work += [(f"{path}[]", item) for item in thing]
        elif type(thing).__module__.startswith("channeld"):
            names = [
                *getattr(thing, "__dict__", ()),
                *(s for c in type(thing).__mro__ for s in getattr(c, "__slots__", ())),
            ]
            work += [(f"{path}.{n}", getattr(thing, n)) for n in names if hasattr(thing, n)]
    return found


def test_memory_holds_nothing_of_it(engine: Engine) -> None:
    """Once the ledger has deleted it and what had to be told is told, no room has its id in any of its holdings."""
    engine.connect()
    channel_id = engine.opened()
    parts = (engine.mirror, engine.planner, engine.desk, engine.executor, engine.reconciler, engine.store)
    assert len(traces(channel_id, *parts)) >= 2, "the test finds what is there"
    gone(engine)
    engine.mirror.changed.clear()  # as whoever tells content servers does, with every ledger
    forget_all(engine)
    archive_all(engine)
    assert traces(channel_id, *parts) == []


# --- channels that paid us -------------------------------------------------------------------------------------------


def paid_us(path: Path) -> tuple[Lab, str]:
    """A channel that paid us: claims were taken in and collected, and its source ended it."""
    lab = Lab(path, receives=True)
    lab.rig.fund("alice")
    lab.alive(lab.see)
    channel_id = lab.rig.open_channel("alice", TILL, Amount="1000", SettleDelay=100)
    lab.alive(lab.see)
    for number, drops in enumerate((4, 9, 30)):
        answer = lab.hand_in(str(number), channel_id, drops, "alice")
        assert isinstance(answer, Taken), answer
        lab.tick()
    for _ in range(2):  # requested, and after the delay deleted
        lab.rig.submit("alice", "PaymentChannelClaim", Channel=channel_id, Flags=0x00020000)
        lab.tick(20)
    assert lab.on_disk("SELECT closed_at IS NULL, held, balance FROM incoming") == [(0, 30, 30)]
    return lab, channel_id


def test_a_channel_that_paid_us_goes_as_well(tmp_path: Path) -> None:
    """As long as an id that brought a claim is remembered it stays; then its entry is left, and memory has nothing."""
    lab, channel_id = paid_us(tmp_path / "s.db")
    while lab.archivist.step():
        pass
    assert lab.on_disk("SELECT * FROM archive") == []
    while lab.store.claims.forget(2**40, 2):
        assert lab.archivist.step() is False
    facts = "incoming, row, signed, balance, paid, payments > 0, fees > 0, closed_by <> ''"
    assert lab.on_disk(f"SELECT {facts} FROM archive") == [(1, None, 30, 30, 30, 1, 1, 1)]
    for table in ("incoming", "redeemed", "tombstone"):
        assert lab.on_disk(f"SELECT * FROM {table}") == [], table
    assert lab.on_disk("SELECT * FROM intent WHERE kind = 'redeem'") == []
    lab.mirror.changed.clear()
    parts = (lab.mirror, lab.collector, lab.strongbox, lab.planner, lab.executor, lab.reconciler, lab.store)
    assert traces(channel_id, *parts) == []
    with reading(lab.path) as journal:
        entry = journal.archived(channel_id, incoming=True)
    assert entry is not None
    assert isinstance(entry.record, Incoming)
    assert (entry.record.held, entry.record.lost, entry.paid) == (30, False, 30)
    lab.restart()
    assert lab.mirror.vault.channels == {}
    lab.store._db.close()


# --- who drives it ---------------------------------------------------------------------------------------------------


def test_housekeeping_comes_round_to_it(engine: Engine) -> None:
    """A minute after it may go it is gone, and neither folding nor forgetting waits for that."""
    engine.unix, now = to_unix(RippleTime(engine.ledger.time)), 0.0
    channel_id = gone(engine)
    keeper = Housekeeping(
        engine.store,
        Clock(engine.mirror, lambda: engine.unix, lambda: engine.clock),
        Seconds(10),
        lambda: now,
        archivist=archivist(engine),
        spending=engine.planner.spending,
    )
    for _ in range(200):
        keeper.step()
    assert "channel" in tables(engine, channel_id), "its requests are remembered"
    for _ in range(5):
        engine.tick(1000)
    for _ in range(300):
        now += 0.25
        keeper.step()
    assert tables(engine, channel_id).keys() == {"archive", "event"}
