"""The policy's rules for admit, on a real store: caps that no window passes, and answers in proportion."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from engine import Engine, policy, said
from hypothesis import given, settings
from hypothesis import strategies as st
from test_folding import keeping
from worlds import PAYEES

from channeld.core.allowance import USUAL_HOURS
from channeld.core.familiar import day_of, payee_known, user_known
from channeld.core.freezes import SERVER, Cause
from channeld.core.policy import Override, Policy, Scope, Tier
from channeld.core.requests import Code, Granted, Refusal
from channeld.core.rules import OneOf, Rule, Within
from channeld.core.units import RippleTime, to_unix
from channeld.core.vocabulary import PPM, Concern, Mode
from channeld.service import facts
from channeld.service.guard import Guard
from channeld.service.holdings import Group
from channeld.service.unusual import Seen

HOUR = 3600


def refuse(fact: str, above: int, **more: int) -> Rule:
    return Rule(f"cap-{fact}", {fact: Within(low=above + 1)}, more, "refuse")


def ruled(*rules: Rule, **other: object) -> Policy:
    terms = policy()
    pool = replace(terms.pools["p"], close=replace(terms.pools["p"].close, idle=10**7))
    changed = {"pools": {"p": pool}, "rules": {Concern.ADMIT: rules}, **other}
    return replace(terms, **changed)  # type: ignore[arg-type]


def made(folder: Path, *rules: Rule, **other: object) -> Engine:
    engine = Engine(folder / "store.db", terms=ruled())
    engine.connect()
    engine.opened(drops=1)
    engine.policy = engine.mirror.policy = ruled(*rules, **other)
    return engine


def wait(engine: Engine, seconds: int) -> None:
    """Time passes, and a ledger shows it."""
    engine.ledger.close(seconds)
    engine.pass_time(seconds)
    engine.see()


CAPS = ("spent_hour", "spent_day", "user_spent_hour", "user_spent_day", "payee_spent_hour", "payee_spent_day")
moves = st.lists(
    st.tuples(
        st.sampled_from([0, 0, 0, 60, 3000, 3600, 30_000, 86_400]),
        st.sampled_from([None, "u", "v"]),
        st.lists(st.integers(1, 3), min_size=1, max_size=4),
        st.integers(0, 9),
    ),
    min_size=4,
    max_size=14,
)
"""Seconds that pass, who asks, for how much in one group, and what happens then: 0 a restart, 1 folding."""


@settings(max_examples=max(8, settings().max_examples // 8))
@given(fact=st.sampled_from(CAPS), cap=st.integers(1, 6), moves=moves)
def test_no_cap_is_passed_in_any_window_whatever_happens_in_between(
    fact: str, cap: int, moves: list[tuple[int, str | None, list[int], int]]
) -> None:
    hours = 24 if fact.endswith("day") else 1
    spent: list[tuple[float, str | None, int]] = []
    number = 0
    with tempfile.TemporaryDirectory() as name:
        engine = made(Path(name), refuse(fact, cap))
        for pause, user, asked, then in moves:
            if pause:
                wait(engine, pause)
            asks = [engine.ask(f"n{number + n}", drops)._replace(user=user or "") for n, drops in enumerate(asked)]
            number += len(asks)
            for ask, answer in zip(asks, engine.answer(*asks), strict=True):
                if isinstance(answer, Granted):
                    spent.append((engine.unix, user, ask.drops))
                else:
                    assert said(answer) in (Code.LIMIT_EXCEEDED, Code.NO_HEADROOM)
            if then == 0:
                engine.restart()
            elif then == 1:
                engine.store.fold(3)
        engine.kill()
    who = ("u", "v") if fact.startswith("user") else (None,)
    for one in who:
        mine = [(at, drops) for at, user, drops in spent if one is None or user == one]
        for end, _ in mine:
            assert sum(drops for at, drops in mine if end - hours * HOUR < at <= end) <= cap


def test_a_cap_lets_as_much_through_as_it_says_and_says_what_it_was(folder: Path) -> None:
    engine = made(folder, refuse("user_spent_hour", 5, retry_after=30))
    asks = [engine.ask(n, 2)._replace(user="u") for n in range(4)]
    answers = engine.answer(*asks, engine.ask("other", 2)._replace(user="v"), engine.ask("nobody", 2))
    assert [said(a) for a in answers] == [None, None, *[Code.LIMIT_EXCEEDED] * 2, None, None]
    refusal = answers[2]
    assert isinstance(refusal, Refusal)
    assert refusal.retry_after_ms == 30_000
    assert refusal.reason == "rule cap-user_spent_hour of the policy: user_spent_hour is 6 drops"
    replay = engine.answer(asks[0])[0]
    assert isinstance(replay, Granted), "an id that was accepted is answered before any rule"
    assert replay.replayed


def test_what_is_refused_is_no_demand(folder: Path) -> None:
    engine = made(folder, refuse("drops", 1))
    asked = sum(group.asked for group in engine.mirror.groups.values())
    assert said(engine.answer(engine.ask(1, 50))[0]) is Code.LIMIT_EXCEEDED
    assert sum(group.asked for group in engine.mirror.groups.values()) == asked
    assert all(group.wanted == 0 for group in engine.mirror.groups.values())


def test_slowed_down_means_so_many_a_second(folder: Path) -> None:
    engine = made(folder, Rule("slow", {"drops": Within(low=2)}, {"max_per_s": 2}, "slow_down"))
    answers = engine.answer(*(engine.ask(n, 2) for n in range(6)), *(engine.ask(f"small{n}", 1) for n in range(3)))
    refused = [a for a in answers if isinstance(a, Refusal)]
    assert {r.code for r in refused} == {Code.LIMIT_EXCEEDED}
    assert len(refused) == 3
    assert [said(a) for a in answers[6:]] == [None] * 3
    assert refused[0].retry_after_ms is not None
    engine.pass_time(refused[0].retry_after_ms / 1000)
    assert said(engine.answer(engine.ask("later", 2))[0]) is None


def test_held_for_a_person_until_it_is_thawed_also_after_a_restart(folder: Path) -> None:
    engine = made(folder, Rule("strange", {"drops": Within(low=5)}, {}, "hold"))
    guard = Guard(engine.mirror, engine.store.books, lambda: engine.unix)
    engine.desk.gate.on_hold = guard.hold
    answers = engine.answer(engine.ask(1, 1), engine.ask(2, 5), engine.ask(3, 1), engine.ask(4, 1, server="b"))
    assert [said(a) for a in answers] == [None, Code.FROZEN, Code.FROZEN, None], "of one server, and of no other"
    engine.restart()
    assert said(engine.answer(engine.ask(5, 1))[0]) is Code.FROZEN
    engine.mirror.policy = ruled()
    assert said(engine.answer(engine.ask(5, 1))[0]) is Code.FROZEN, "nor does taking the rule away let it in"
    assert isinstance(engine.answer(engine.ask(1, 1))[0], Granted), "what was accepted is answered"
    guard = Guard(engine.mirror, engine.store.books, lambda: engine.unix)
    assert guard.thaw(SERVER + "a", None, "me", "looked at it") is Cause.HELD
    assert said(engine.answer(engine.ask(6, 1))[0]) is None


def test_a_mode_that_does_not_apply_only_counts(folder: Path) -> None:
    counted: list[tuple[str, str, str]] = []
    rules = (Rule("strange", {"drops": Within(low=5)}, {}, "hold"),)
    engine = made(folder, *rules, modes={Concern.ADMIT: Mode.OBSERVE})
    engine.desk.gate._telemetry.admitted = lambda *what: counted.append(what)  # type: ignore[method-assign]
    assert said(engine.answer(engine.ask(1, 5))[0]) is None
    assert counted == [("strange", "hold", "observe")]
    assert not engine.mirror.held


def test_an_override_holds_a_payee_back_until_its_end(folder: Path) -> None:
    engine = made(folder)
    until = RippleTime(engine.ledger.time + 30)
    scope = Scope(payee=str(PAYEES[0]))
    override = Override(scope, frozenset({Concern.ADMIT}), until, "ticket 4711")
    engine.mirror.policy = ruled(overrides=(override,))
    answer = engine.answer(engine.ask(1, 1))[0]
    assert isinstance(answer, Refusal)
    assert answer.code is Code.FROZEN
    assert "ticket 4711" in answer.reason
    wait(engine, 40)
    assert said(engine.answer(engine.ask(1, 1))[0]) is None


def test_tiers_come_from_the_request_where_it_is_trusted_else_from_the_users(folder: Path) -> None:
    tiers = {
        "gold": Tier("gold", ("vip-*",)),
        "open": Tier("open", trust_request=True),
        "casual": Tier("casual", default=True),
    }
    rules = (Rule("only-gold", {"tier": OneOf(frozenset({"casual"}))}, {}, "refuse"), refuse("tier_spent_day", 4))
    engine = made(folder, *rules, tiers=tiers)

    def ask(number: int, user: str | None, tier: str | None) -> Code | None:
        return said(engine.answer(engine.ask(number, 2)._replace(user=user or "", tier=tier))[0])

    assert ask(1, None, None) is Code.LIMIT_EXCEEDED
    assert ask(2, "u", "gold") is Code.LIMIT_EXCEEDED, "a tier that is not trusted counts for nothing"
    assert ask(3, "vip-1", None) is None
    assert ask(4, "vip-2", None) is None
    assert ask(5, "vip-3", None) is Code.LIMIT_EXCEEDED, "the tier's users have one cap together"
    assert ask(6, "u", "open") is None


def test_a_payee_whose_channels_keep_going_waits_ever_longer_and_no_restart_forgives_it(folder: Path) -> None:
    """Two rungs of a ladder; each time another channel of today is gone."""
    rungs = ((3, 3600), (2, 60))
    engine = made(folder, *(replace(refuse("payee_opens_day", n, retry_after=s), name=f"over-{n}") for n, s in rungs))
    waits = []
    for n in range(4):
        answer = engine.answer(engine.ask(f"n{n}", 1))[0]
        waits.append(answer.retry_after_ms if isinstance(answer, Refusal) else 0)
        a_channel_that_is_gone(engine, n)
        engine.restart()
    assert waits == [0, 0, 60_000, 3_600_000]
    wait(engine, 86_400 + 60)
    assert said(engine.answer(engine.ask("tomorrow", 1))[0]) is None


def a_channel_that_is_gone(engine: Engine, number: int) -> None:
    """The payee had another one today."""
    (row, *_), *_ = engine.store._db.execute("SELECT * FROM channel").fetchall()
    columns = [name for _, name, *_ in engine.store._db.execute("PRAGMA table_info(channel)")][2:]
    engine.store._db.execute(
        f"INSERT INTO channel (channel_id, {', '.join(columns)}) SELECT ?, {', '.join(columns)} FROM channel"
        " WHERE row = ?",
        (f"{900 + number:064X}", row),
    )
    engine.store._db.execute("UPDATE channel SET closed_at = 1 WHERE channel_id = ?", (f"{900 + number:064X}",))


def test_what_is_unusual_for_a_server_is_seen_also_after_a_restart(folder: Path) -> None:
    rule = Rule("strange", {"anomaly": Within(low=3 * PPM + 1)}, {}, "refuse")
    engine = made(folder, rule)
    hour = int(engine.unix) // HOUR
    rows = [("a", hour - n, 2) for n in range(1, 60)]
    engine.store._db.executemany("INSERT OR REPLACE INTO spent VALUES (?, ?, ?)", rows)
    engine.restart()
    assert [said(a) for a in engine.answer(*(engine.ask(n, 3) for n in range(3)))] == [
        None,
        None,
        Code.LIMIT_EXCEEDED,
    ]
    engine.restart()
    refusal = engine.answer(engine.ask(9, 1))[0]
    assert isinstance(refusal, Refusal)
    assert "anomaly is 3.50" in refusal.reason


def test_users_beyond_those_counted_apart_share_one_sum(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Invented names cost no memory, and buy nothing."""
    monkeypatch.setattr(facts, "MOST_SUBJECTS", 3)
    engine = made(folder, refuse("user_spent_hour", 2))
    answers = [engine.answer(engine.ask(n, 1)._replace(user=f"u{n}"))[0] for n in range(12)]
    assert len([a for a in answers if isinstance(a, Granted)]) == 3 + 2
    assert len({subject for subject, _ in engine.mirror.spent if subject.startswith("/")}) <= 4
    wait(engine, HOUR)
    assert said(engine.answer(engine.ask("next", 1)._replace(user="u11"))[0]) is Code.LIMIT_EXCEEDED


def test_what_is_forgotten_goes_in_slices_once_an_hour_while_claims_are_counted(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(facts, "_FORGET_SLICE", 4)
    engine = made(folder, refuse("user_spent_hour", 50))
    spent, hour = engine.mirror.spent, int(engine.unix) // HOUR

    def forget() -> bool:
        return engine.desk.gate.facts.forget(int(engine.unix))

    day = hour - hour % 24
    kept = {("/u/a/x", hour - 24): 1, ("+u/p/a/x", day - 7 * 24): 1, ("a", hour - USUAL_HOURS): 1}
    old = {(f"/u/a/{n}", hour - 25): 1 for n in range(4)}
    old |= {("+u/p/a/y", day - 8 * 24): 1, ("a", hour - USUAL_HOURS - 1): 1}
    spent.update(old | kept)
    engine.answer(engine.ask(1, 1)._replace(user="u"))
    assert forget()
    assert 0 < len(old.keys() & spent.keys()) < len(old), "a slice"
    engine.answer(engine.ask(2, 1)._replace(user="v"))
    while forget():
        pass
    assert not old.keys() & spent.keys()
    assert kept.keys() <= spent.keys()
    assert sum(drops for (subject, at), drops in spent.items() if subject[0] == "/" and at == hour) == 2
    spent.update(old)
    assert not forget(), "once an hour"
    assert old.keys() <= spent.keys()


ASKED = (*CAPS, "anomaly", "user_anomaly", "payee_anomaly")


@pytest.mark.parametrize("asked", [(), ASKED])
def test_sums_go_from_memory_by_the_clock_and_what_is_asked_is_answered_as_after_a_start(
    folder: Path, asked: tuple[str, ...]
) -> None:
    """Also where no rule counts users; and nothing goes before a ledger told the time."""
    engine = made(folder, *(refuse(fact, 10**12) for fact in asked))
    engine.unix = float(to_unix(engine.ledger.header().close_time))
    hour, day = int(engine.unix) // HOUR, day_of(int(engine.unix) // HOUR)
    rows = [(server, hour - n, n) for server in "ab" for n in range(1, 400)]
    who = (user_known("p", "a", "u"), payee_known("p", PAYEES[0]))
    rows += [(subject, day - 24 * n, n) for subject in who for n in range(1, 15)]
    engine.store._db.executemany("INSERT INTO spent VALUES (?, ?, ?)", rows)
    engine.restart()
    group = next(iter(engine.mirror.groups.values()))
    for number, pause_h in enumerate((0, 1, 1, 5, 20, 24, 31, 170)):
        known, header, engine.mirror.header = len(engine.mirror.spent), engine.mirror.header, None
        tidy(engine)
        assert len(engine.mirror.spent) == known, "nobody knows the time"
        engine.mirror.header = header
        wait(engine, pause_h * HOUR)
        tidy(engine)
        assert said(engine.answer(engine.ask(f"n{number}", 1)._replace(user="u"))[0]) is None
        hours = [at for subject, at in engine.mirror.spent if subject in "ab"]
        assert min(hours) >= int(engine.unix) // HOUR - USUAL_HOURS - 2
        told = all_that_is_told(engine, group)
        engine.restart()
        engine.answer(engine.ask(f"n{number}", 1)._replace(user="u"))
        group = next(iter(engine.mirror.groups.values()))
        assert told == all_that_is_told(engine, group)


def tidy(engine: Engine) -> None:
    """Housekeeping goes through all sums."""
    keeper = keeping(engine, lambda: engine.clock)
    keeper.also(engine.desk.gate.facts.forget)
    for _ in range(20):
        keeper.step()


def all_that_is_told(engine: Engine, group: Group) -> list[object]:
    """What is asked of sums: in this hour, and with a clock that is put back to the one before."""
    read, found = engine.desk.gate.facts, list[object]()
    read.adopt(engine.mirror.policy)
    for now in (int(engine.unix), int(engine.unix) - 120):
        for server in "ab":
            ask = engine.ask("told", 1, server=server)._replace(user="u")
            found.append([read.spent_today(server, now), *(read.fewer_in(server, now, most) for most in (0, 40, 400))])
            found.append(read.of(Seen(ask, "p", group.payee, {}, now // HOUR), group))
    return found


def test_after_a_restart_or_with_the_clock_put_back_those_counted_apart_are_known(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(facts, "MOST_SUBJECTS", 2)
    engine = made(folder, refuse("user_spent_hour", 50))
    for n in range(2):
        engine.answer(engine.ask(n, 1)._replace(user=f"u{n}"))
    engine.restart()
    engine.answer(engine.ask("after", 1)._replace(user="late"))
    now = engine.unix
    for number, unix in enumerate((now + HOUR, now, now + HOUR, now)):
        engine.unix = unix
        for user in ("one", "two"):
            engine.answer(engine.ask(f"{user} {number}", 1)._replace(user=f"{user} {number}"))
    for hour in (int(now) // HOUR, int(now) // HOUR + 1):
        apart = {subject for subject, at in engine.mirror.spent if at == hour and subject.startswith("/u/")}
        assert len(apart) <= 2


def test_no_request_goes_through_all_sums(folder: Path) -> None:
    """Not the first of a life, of a policy, of an hour or of a day, and not with the clock put back."""

    class Sums(dict[tuple[str, int], int]):
        open = True

        def __iter__(self) -> Iterator[tuple[str, int]]:
            assert self.open
            return super().__iter__()

    rules = (refuse("user_spent_hour", 50), refuse("user_anomaly", 50))
    engine = made(folder, *rules)
    sums = engine.mirror.spent = Sums(engine.mirror.spent)
    read = facts.Facts(engine.mirror, lambda payee, after: 0, lambda ask, payee: None)
    sums.open = False
    group = next(iter(engine.mirror.groups.values()))
    for hour in (0, 1, 24, 25, 24, 0, 300):
        read.adopt(replace(engine.mirror.policy))
        now = int(engine.unix) + hour * HOUR
        ask = engine.ask(hour, 1)._replace(user="u")
        assert len(read.counts(ask, group, now)) == 2
        read.of(Seen(ask, "p", group.payee, {}, now // HOUR), group)


def test_sums_of_users_are_forgotten_after_a_day(folder: Path) -> None:
    engine = made(folder, refuse("user_spent_hour", 50))
    engine.answer(engine.ask(1, 1)._replace(user="u"))
    for _ in range(3):
        wait(engine, 86_400)
        engine.store.forget(int(engine.unix) - 90_000, 10)
    engine.answer(engine.ask(2, 1)._replace(user="v"))
    assert not engine.desk.gate.facts.forget(int(engine.unix))
    assert len([key for key in engine.mirror.spent if key[0].startswith("/")]) == 1
    kept = engine.on_disk("SELECT count(*) FROM spent WHERE server LIKE '/%'")
    assert kept == [(1,)], "the last one only"
