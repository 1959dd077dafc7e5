"""A pool's answers to what is unusual: in proportion, by each one's own history, and none of its caps is passed."""

from __future__ import annotations

import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from engine import Engine, policy, said
from hypothesis import event, given, settings
from hypothesis import strategies as st
from worlds import PAYEES

from channeld.core import familiar
from channeld.core.allowance import DAY_HOURS, user_hash
from channeld.core.errors import Refused
from channeld.core.familiar import day_of, payee_known, user_known
from channeld.core.freezes import PAYEE, SERVER, USER, Cause
from channeld.core.policy import Anomaly, Policy
from channeld.core.requests import Answer, Code, Granted, Refusal
from channeld.core.rules import Rule, Within
from channeld.core.units import Drops, Seconds
from channeld.core.vocabulary import PPM, Concern, Mode
from channeld.service import gatekeeper
from channeld.service.guard import Guard

HOUR = 3600
TERMS = Anomaly(2 * PPM, 4 * PPM, 8 * PPM, Drops(3), 1, Seconds(90))


def terms(anomaly: Anomaly | None = TERMS, *rules: Rule, **more: object) -> Policy:
    made = policy(opens=10)
    old = made.pools["p"]
    shape = replace(old.channel, min=Drops(500), max=Drops(1000))
    pool = replace(old, anomaly=anomaly, close=replace(old.close, idle=Seconds(10**7)), channel=shape)
    return replace(made, pools={"p": pool}, rules={Concern.ADMIT: rules}, **more)  # type: ignore[arg-type]


def made(folder: Path, history: dict[str, list[int]], anomaly: Anomaly | None = TERMS, *rules: Rule) -> Engine:
    """An engine whose store knows what was spent on the days before today, by subject."""
    engine = Engine(folder / "store.db", terms=terms(None))
    engine.connect()
    engine.opened(drops=1)
    today = day_of(int(engine.unix) // HOUR)
    rows = [
        (subject, today - DAY_HOURS * n, drops) for subject, days in history.items() for n, drops in enumerate(days, 1)
    ]
    engine.store._db.executemany("INSERT INTO spent VALUES (?, ?, ?)", rows)
    engine.policy = terms(anomaly, *rules)
    engine.restart()
    guarded(engine)
    return engine


def guarded(engine: Engine) -> Guard:
    guard = Guard(engine.mirror, engine.store.books, lambda: engine.unix)
    engine.desk.gate.on_hold = guard.hold
    return guard


ME, HIM = user_known("p", "a", "me"), user_known("p", "a", "him")


def test_slowed_down_then_refused_then_held_for_a_person_and_nobody_else_is(folder: Path) -> None:
    engine = made(folder, {ME: [5, 5, 5], HIM: [5, 5, 5]})

    def ask(number: str, drops: int, user: str = "me") -> Answer:
        return engine.answer(engine.ask(number, drops, user=user))[0]

    assert said(ask("1", 10)) is None, "twice is usual enough"
    assert said(ask("2", 1)) is None, "from here on one a second, and a second's worth at once"
    assert said(ask("3", 1)) is None
    slowed = ask("4", 1)
    assert isinstance(slowed, Refusal)
    assert slowed.code is Code.LIMIT_EXCEEDED
    assert "slowed down" in slowed.reason
    assert slowed.retry_after_ms is not None
    engine.pass_time(slowed.retry_after_ms / 1000)
    assert said(ask("4", 1)) is None
    refused = ask("5", 10)
    assert isinstance(refused, Refusal)
    assert (refused.code, refused.retry_after_ms) == (Code.LIMIT_EXCEEDED, 90_000)
    assert refused.reason == "23 drops today are 4.60 times what is usual for this user"
    assert refused.because is not None
    assert refused.because.rules == ("pools/p/anomaly",)
    assert refused.because.facts["user_anomaly"] == 4_600_000
    held = ask("6", 30)
    assert isinstance(held, Refusal)
    assert held.code is Code.FROZEN
    assert said(ask("7", 1)) is Code.FROZEN
    assert said(ask("8", 4, "him")) is None, "it is about one user"
    assert said(engine.answer(engine.ask("9", 1))[0]) is None
    scope = f"{USER}a/{user_hash('me')}"
    engine.restart()
    guard = guarded(engine)
    assert said(ask("10", 1)) is Code.FROZEN, "no restart lifts it"
    assert f"channeld thaw --wallet {scope} " in engine.mirror.held_apart[scope][Cause.HELD.value]
    assert isinstance(ask("1", 10), Granted), "what was accepted is answered"
    assert guard.thaw(scope, None, "me", "a birthday") is Cause.HELD
    assert engine.mirror.held_apart == {}
    assert isinstance(ask("11", 1), Granted)
    with pytest.raises(Refused):
        guard.thaw(scope, None, "me", "again")


def test_a_payee_is_held_whoever_asks_for_it(folder: Path) -> None:
    engine = made(folder, {payee_known("p", PAYEES[0]): [2, 2, 2]})
    assert said(engine.answer(engine.ask(1, 17))[0]) is Code.FROZEN
    assert said(engine.answer(engine.ask(2, 1, server="b"))[0]) is Code.FROZEN
    assert said(engine.answer(engine.ask(3, 1, payee=PAYEES[1]))[0]) is Code.NO_HEADROOM
    assert list(engine.mirror.held_apart) == [f"{PAYEE}{PAYEES[0]}"]


def test_whoever_is_new_is_held_against_the_others_of_its_pool(folder: Path) -> None:
    engine = made(folder, {user_known("p", "b", f"u{n}"): [5, 5, 5] for n in range(3)})
    answers = engine.answer(engine.ask(1, 20, user="new"), engine.ask(2, 1, user="new"), engine.ask(3, 20, user="you"))
    assert [said(a) for a in answers] == [None, Code.LIMIT_EXCEEDED, None]


def test_where_nothing_is_known_nothing_is_unusual_and_a_rule_may_let_anybody_pass(folder: Path) -> None:
    engine = made(folder, {})
    assert said(engine.answer(engine.ask(1, 50, user="me"))[0]) is None
    engine.kill()


def test_a_rule_of_admit_stands_before_the_terms(folder: Path) -> None:
    vip = Rule("vip", {"user_anomaly": Within(low=0)}, {}, "admit")
    engine = made(folder, {ME: [2, 2, 2]}, TERMS, vip)
    assert said(engine.answer(engine.ask(1, 40, user="me"))[0]) is None


def test_little_is_never_unusual(folder: Path) -> None:
    engine = made(folder, {ME: [1, 1, 1]}, replace(TERMS, least=Drops(30)))
    assert said(engine.answer(engine.ask(1, 30, user="me"))[0]) is None
    assert said(engine.answer(engine.ask(2, 1, user="me"))[0]) is Code.FROZEN


def test_a_mode_that_does_not_apply_holds_nobody(folder: Path) -> None:
    counted: list[tuple[str, str, str]] = []
    engine = made(folder, {ME: [1, 1, 1]})
    engine.policy = engine.mirror.policy = terms(modes={Concern.ADMIT: Mode.SUGGEST})
    engine.desk.gate._telemetry.admitted = lambda *what: counted.append(what)  # type: ignore[method-assign]
    assert said(engine.answer(engine.ask(1, 40, user="me"))[0]) is None
    assert counted == [("user_anomaly", "hold", "suggest")]
    assert not engine.mirror.held_apart


def test_a_server_whose_users_are_all_held_is_held_itself(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gatekeeper, "MOST_HELD_APART", 2)
    engine = made(folder, {user_known("p", "b", f"u{n}"): [2, 2, 2] for n in range(3)})
    for n in range(3):
        assert said(engine.answer(engine.ask(n, 20, user=f"n{n}"))[0]) is Code.FROZEN
    assert len(engine.mirror.held_apart) == 2
    assert Cause.HELD.value in engine.mirror.stopped.of(f"{SERVER}a")
    assert said(engine.answer(engine.ask("x", 1))[0]) is Code.FROZEN
    assert said(engine.answer(engine.ask("y", 1, server="b"))[0]) is None


def test_users_for_whom_there_is_no_room_are_not_judged_apart(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(familiar, "MOST_ROWS", 12)
    engine = made(folder, {user_known("p", "b", f"u{n}"): [2, 2, 2] for n in range(2)})
    answers = [engine.answer(engine.ask(n, 4, user=f"n{n}"))[0] for n in range(9)]
    assert all(isinstance(a, Granted) for a in answers)
    kept = [key for key in engine.mirror.spent if key[0].startswith("+")]
    assert len(kept) <= 12
    assert said(engine.answer(engine.ask("0 again", 10, user="n0"))[0]) is Code.LIMIT_EXCEEDED, "who has a row is"
    assert said(engine.answer(engine.ask("8 again", 10, user="n8"))[0]) is None


moves = st.lists(
    st.tuples(
        st.sampled_from([0, 0, 0, 600, 3600, 30_000, 86_400]),
        st.sampled_from(["me", "him", "new", ""]),
        st.lists(st.integers(1, 6), min_size=1, max_size=3),
        st.sampled_from(["", "", "restart", "fold"]),
    ),
    min_size=4,
    max_size=14,
)


@settings(max_examples=max(6, settings().max_examples // 10))
@given(moves=moves, often=st.integers(1, 4), own=st.booleans())
def test_nobody_spends_more_in_a_day_than_so_many_times_what_is_usual_for_it(
    moves: list[tuple[int, str, list[int], str]], often: int, own: bool
) -> None:
    """What is usual is worked out anew here, from what was accepted; restarts and folding change nothing."""
    history = {ME: [6, 2, 4], HIM: [10, 1, 10, 3]} if own else {ME: [6, 2, 4]}
    anomaly = Anomaly(None, often * PPM, None, Drops(0), 1, Seconds(60))
    spent: Counter[tuple[str, int]] = Counter()
    with tempfile.TemporaryDirectory() as name:
        engine = made(Path(name), history, anomaly)
        today = day_of(int(engine.unix) // HOUR)
        names = {"me": ME, "him": HIM, "new": user_known("p", "a", "new"), "": payee_known("p", PAYEES[0])}
        for subject, days in history.items():
            spent.update({(subject, today - DAY_HOURS * n): drops for n, drops in enumerate(days, 1)})
        refused = number = 0
        for pause, user, asked, then in moves:
            if pause:
                engine.tick(pause)
                engine.tick()
            day = day_of(int(engine.unix) // HOUR)
            asks = [engine.ask(f"n{number + n}", drops, user=user) for n, drops in enumerate(asked)]
            number += len(asks)
            for ask, answer in zip(asks, engine.answer(*asks), strict=True):
                refused += isinstance(answer, Refusal) and "usual" in answer.reason
                if isinstance(answer, Granted):
                    for subject in {names[user], names[""]}:
                        spent[subject, day] += ask.drops
                        limit = usual(spent, subject, day, names.values())
                        assert limit is None or spent[subject, day] <= often * limit, (subject, day)
            if then == "restart":
                engine.restart()
            elif then == "fold":
                engine.store.fold(3)
        engine.kill()
    event(f"refused {min(refused, 3)}")


def usual(spent: Counter[tuple[str, int]], subject: str, day: int, others: object) -> int | None:
    own = learned(spent, subject, day)
    if own is not None or subject.startswith("+p"):
        return own
    known = sorted(u for s in others if s.startswith("+u") and (u := learned(spent, s, day)) is not None)  # type: ignore[attr-defined]
    return known[len(known) // 2] if known else None


def learned(spent: Counter[tuple[str, int]], subject: str, day: int) -> int | None:
    days = sorted(d for n in range(1, 8) if (d := spent[subject, day - DAY_HOURS * n]))
    return max(days[(len(days) * 9 - 1) // 10], sum(days) // len(days)) if len(days) >= 3 else None
