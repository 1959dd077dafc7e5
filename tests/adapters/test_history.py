"""The history of answers: what is news, what survives a death, what is dropped, and that it can be decided again."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from worlds import case_of

from channeld.adapters.sqlite import history_reader as reader
from channeld.adapters.sqlite.history import History, history_path
from channeld.core.decide import decide
from channeld.core.errors import StoreError
from channeld.core.history import Moment, RefusedAsk, Told, subject_of_hold, target_of
from channeld.core.intents import Intent, Status
from channeld.core.outcome import subject_of
from channeld.core.policy import Policy
from channeld.core.records import JournalEntry
from channeld.core.requests import Ask, Because, Code, Refusal
from channeld.core.units import LedgerIndex, RippleTime
from channeld.core.world import Decision, Hold, Reason, World
from channeld.service.chronicle import REFUSALS_PER_S, Chronicle

CLOCK = 1_700_000_000.0
ORDINARY = ("within_band", "no_demand", "nothing_held", "spare")


def open_history(directory: Path) -> tuple[History, Path]:
    path = history_path(directory / "channeld.db")
    return History(path, network_id=0), path


class Engine:
    """Decides small worlds, one after the other, and dies now and then. `truth` is the last news about each subject."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.truth: dict[str, tuple[str, str, tuple[str, ...]]] = {}
        self.ledger, self.intents = 0, 0
        self.start()

    def start(self) -> None:
        self.history, self.path = open_history(self.directory)
        self.chronicle = Chronicle(self.history.last(), lambda: CLOCK)

    def die(self) -> None:
        self.history.close()
        self.start()

    def decide(self, seed: int) -> Decision:
        case = case_of(seed)
        self.ledger += 1
        world = replace(case.world, close_time=RippleTime(case.world.close_time + self.ledger))
        decision = decide(world, case.policy)
        self.tell(world, case.policy, decision)
        return decision

    def tell(self, world: World, policy: Policy, decision: Decision) -> None:
        entries = []
        for planned in decision.planned:
            self.intents += 1
            entry = JournalEntry(self.intents, planned.intent, Status.PLANNED, LedgerIndex(self.ledger), None)
            entries.append((planned.group, entry))
        self.chronicle.decided(
            LedgerIndex(self.ledger), world, policy, entries=entries, holds=decision.holds, wishes=decision.suggested
        )

    def write(self, count: int) -> None:
        news = self.chronicle.next(count)
        self.history.write(news)
        self.chronicle.written(len(news))

    def written(self) -> list[Told]:
        return [told for moment in reader.read_moments(self.path, limit=10**6) for told in moment.answers]


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_what_is_kept_is_every_change_in_order_whenever_it_dies(
    seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """What is on disk is a prefix of what was told in each life; no subject has the same answer twice in a row unless
    it was done twice; and of what was written, the last answer is what was said last.
    """
    r = Random(seed)
    engine = Engine(tmp_path_factory.mktemp("history"))
    said: list[tuple[str, str, str]] = []
    waiting: list[tuple[str, str, str]] = []
    seeds = [r.randrange(2**32) for _ in range(3)]
    for _ in range(r.randint(3, 25)):
        before = engine.chronicle.waiting
        engine.decide(r.choice(seeds))
        for moment in engine.chronicle.next(10**6)[before:]:
            assert isinstance(moment, Moment)
            waiting += [(a.subject, *a.gist[:2]) for a in moment.answers]
        if r.random() < 0.6:
            engine.write(r.randint(1, 4))
        if r.random() < 0.2:
            engine.die()
            said = [(t.said.subject, *t.said.gist[:2]) for t in engine.written()]
            waiting = []
    engine.write(10**6)
    found = engine.written()
    assert [(t.said.subject, *t.said.gist[:2]) for t in found][len(said) :] == waiting[-(len(found) - len(said)) :]
    assert [t.number for t in found] == list(range(1, len(found) + 1))
    assert [t.close_time for t in found] == sorted(t.close_time for t in found)
    last: dict[str, Told] = {}
    for told in found:
        if (prior := last.get(told.said.subject)) is not None and told.said.intent is None:
            assert prior.said.gist != told.said.gist, "the same answer twice in a row is no news"
        last[told.said.subject] = told
    assert engine.history.last() == {s: (told.said.gist, told.close_time) for s, told in last.items()}
    stands = {s: told.said.reason for s, told in last.items() if told.said.reason not in ("", *ORDINARY)}
    assert {s: reason for reason, found in engine.chronicle.standing.items() for s in found} == stands
    for found in engine.chronicle.standing.values():
        assert list(found.values()) == sorted(found.values()), "the oldest stands first"
    engine.history.close()


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**63 - 1))
def test_what_was_decided_can_be_decided_again_from_what_is_kept(
    seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The situation, read back, leads to the same answers; intents and reasons, and each has its inputs."""
    case = case_of(seed)
    engine = Engine(tmp_path_factory.mktemp("again"))
    for group in case.world.groups:
        world = replace(case.world, groups=(group,))
        engine.tell(world, case.policy, decide(world, case.policy))
    engine.write(10**6)
    for moment in reader.read_moments(engine.path, limit=10**6):
        assert isinstance(moment.situation, World)
        again = decide(moment.situation, case.policy)
        given_: dict[str, Intent | Hold] = {subject_of(p.intent.action): p.intent for p in again.planned}
        given_ |= {subject_of_hold(h): h for h in again.holds}
        for told in moment.answers:
            answer, said = given_[told.said.subject], told.said
            assert (said.reason == "") is isinstance(answer, Intent)
            if isinstance(answer, Intent):
                assert (said.kind, said.because, said.target) == (answer.action.kind, answer.reason, target_of(answer))
                assert said.intent is not None
            else:
                assert said.reason == answer.reason.value
            assert "wanted" in told.inputs
            assert ("authorized" in told.inputs) is ("/" not in said.subject)
    engine.history.close()


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_the_bounds_hold_and_what_is_forgotten_is_news_again(
    seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Never more than the bound once expired, the newest stay, nothing old stays; in slices of any size."""
    r = Random(seed)
    engine = Engine(tmp_path_factory.mktemp("bounds"))
    for _ in range(20):
        engine.decide(r.randrange(2**32))
    engine.write(10**6)
    before, most, slice_ = engine.written(), r.randint(1, 60), r.randint(1, 7)
    edge = r.choice([0, before[len(before) // 2].close_time]) + 946_684_800
    gone: set[str] = set()
    while (step := engine.history.expire(edge, most, slice_))[0]:
        gone |= set(step[1])
        engine.chronicle.forget(step[1])
    left = engine.written()
    assert left == before[len(before) - len(left) :], "the oldest go, and nothing else"
    assert len(left) <= most
    assert all(told.close_time + 946_684_800 >= edge for told in left)
    if len(left) < len(before):
        cut = before[len(before) - len(left) - 1]
        moment = [t for t in before if t.close_time == cut.close_time and t.place == cut.place]
        assert cut.close_time + 946_684_800 < edge or len(left) + len(moment) > most, "no more than must"
    assert gone == {t.said.subject for t in before} - {t.said.subject for t in left}
    engine.history.close()


def test_refused_requests_are_kept_up_to_a_rate(tmp_path: Path) -> None:
    """By their key, as often as they were refused; a flood is cut off, each server's by itself; the bounds hold."""
    now = [CLOCK]
    history, path = open_history(tmp_path)
    chronicle = Chronicle({}, lambda: now[0])
    refusal = Refusal(Code.NO_HEADROOM, "more funds are on their way", 1000)
    for n in range(REFUSALS_PER_S * 3):
        chronicle.refused(Ask("flood", n.to_bytes(16, "big"), b"", None, 5, None, None), refusal)
    once = Ask("calm", b"k" * 16, b"", None, 7, None, None)
    chronicle.refused(once, refusal)
    now[0] += 1
    because = Because(("admit/strange",), "hold", {"anomaly": 5_200_000, "tier": None, "server": "calm"}, "F" * 64)
    chronicle.refused(once, Refusal(Code.FROZEN, "the wallet is frozen", None, because))
    assert chronicle.waiting == REFUSALS_PER_S + 2
    news = chronicle.next(1000)
    history.write(news)
    found = reader.read_refused(path, b"k" * 16)
    assert found == [
        RefusedAsk(int(CLOCK), b"k" * 16, "calm", "", 7, Code.NO_HEADROOM, "more funds are on their way"),
        RefusedAsk(int(CLOCK) + 1, b"k" * 16, "calm", "", 7, Code.FROZEN, "the wallet is frozen", because),
    ]
    while history.expire(CLOCK + 1, 1000, 10)[0]:
        pass
    assert reader.read_refused(path, b"k" * 16) == found[1:]
    history.close()


def test_a_full_queue_forgets_so_that_the_next_answer_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is passed over is counted; the same answer is news once there is room."""
    monkeypatch.setattr("channeld.service.chronicle.MOST_WAITING", 1)
    engine = Engine(tmp_path)
    seed = next(s for s in range(1000) if len(case_of(s).world.groups) > 2 and decide_holds(s) > 4)
    engine.decide(seed)
    assert engine.chronicle.waiting == 1
    assert engine.chronicle.passed_over > 0
    monkeypatch.setattr("channeld.service.chronicle.MOST_WAITING", 1000)
    engine.decide(seed)
    engine.write(1000)
    assert {t.said.subject for t in engine.written()} >= {
        subject_of_hold(hold) for hold in engine.decide(seed).holds if hold.reason is not Reason.IN_FLIGHT
    }
    engine.history.close()


def decide_holds(seed: int) -> int:
    case = case_of(seed)
    return len(decide(case.world, case.policy).holds)


@pytest.mark.parametrize("content", [b"no database at all, but long enough to look like a header" * 20, b"\0" * 5000])
def test_a_file_that_cannot_be_read_is_set_aside(tmp_path: Path, content: bytes) -> None:
    """It holds up nothing: a new one is begun, and the old one is there to be looked at. As for another network."""
    path = history_path(tmp_path / "channeld.db")
    path.write_bytes(content)
    History(path, network_id=1).close()
    aside = path.with_name(path.name + ".1")
    assert aside.read_bytes()[:100] == content[:100]
    history = History(path, network_id=2)
    assert path.with_name(path.name + ".2").exists()
    assert history.last() == {}
    history.close()


def test_a_sound_file_that_cannot_be_opened_now_is_left_where_it_is(tmp_path: Path) -> None:
    """It is no fault of the file: whoever asks tries again. One of another schema is set aside."""
    path = tmp_path / "no such folder" / "channeld.history.db"
    with pytest.raises(StoreError, match="cannot be opened"):
        History(path, network_id=0)
    engine = Engine(tmp_path)
    engine.decide(1)
    engine.write(1)
    engine.history.close()
    with closing(sqlite3.connect(engine.path)) as db:
        db.execute("PRAGMA user_version = 99")
    assert engine.path.stat().st_size
    engine.start()
    assert engine.written() == []
    assert engine.path.with_name(engine.path.name + ".1").exists()
    engine.history.close()


def test_a_history_that_is_not_there_is_empty(tmp_path: Path) -> None:
    """And reading makes no file."""
    path = history_path(tmp_path / "channeld.db")
    assert reader.read_answers(path, "A" * 64) == []
    assert reader.read_span(path) == {"since": None, "answers": 0}
    assert reader.read_moments(path) == []
    assert not path.exists()


WRITER = """
import sys
sys.path[:0] = [{tests!r}]
from pathlib import Path
from adapters.test_history import Engine
engine = Engine(Path({directory!r}))
seed = 0
while True:
    seed += 1
    engine.decide(seed)
    engine.write(3)
    if seed == 20:
        print("going", flush=True)
"""


def lives(directory: Path, deaths: Sequence[float]) -> None:
    """A process that writes is killed after so many seconds, again and again."""
    code = WRITER.format(tests=str(Path(__file__).parents[1]), directory=str(directory))
    for pause in deaths:
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert process.stdout.readline() == "going\n"
        time.sleep(pause)  # the moment of death, not a wait for something
        os.kill(process.pid, signal.SIGKILL)
        process.wait()


@pytest.mark.slow
def test_sigkill_at_any_time_leaves_it_whole(tmp_path: Path) -> None:
    """Every moment has its answers, numbers have no gap, and it goes on from there."""
    lives(tmp_path, [0.0, 0.03, 0.11])
    engine = Engine(tmp_path)
    moments = reader.read_moments(engine.path, limit=10**6)
    assert len(moments) > 60
    assert all(moment.answers and moment.situation is not None for moment in moments)
    assert [m.number for m in moments] == list(range(1, len(moments) + 1))
    numbers = [told.number for moment in moments for told in moment.answers]
    assert numbers == list(range(1, len(numbers) + 1))
    assert engine.history._db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    engine.history.close()
