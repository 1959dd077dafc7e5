"""No content server can fill the room for ids for all: each has its share of the last tenth, whatever the others do."""

from __future__ import annotations

import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path

from engine import Engine, policy
from hypothesis import event, given, settings
from hypothesis import strategies as st

from channeld.core.policy import CloseTerms
from channeld.core.requests import Answer, Code, Granted, Refusal
from channeld.core.units import Drops, Seconds

DAY = 86_400


def made(folder: Path, most: int) -> Engine:
    """Two content servers; channels hold more than all of this can ask for."""
    terms = policy()
    shape = replace(terms.pools["p"].channel, min=Drops(500), max=Drops(1000))
    pool = replace(terms.pools["p"], channel=shape, close=CloseTerms(Seconds(10**7), Seconds(0)))
    engine = Engine(folder / "store.db", terms=replace(terms, pools={"p": pool}))
    engine.max_ids = most
    engine.desk._ids._most = most
    engine.connect()
    engine.opened(drops=1)
    return engine


def ask(engine: Engine, server: str, number: int, count: int) -> list[Answer]:
    return engine.answer(*(engine.ask(f"{server}{number}-{n}", 1, server=server) for n in range(count)))


def test_a_server_that_floods_leaves_the_others_their_share_of_the_last_tenth(folder: Path) -> None:
    engine = made(folder, 100)
    for n in range(60):
        answers = ask(engine, "a", n, 3)
        if refused := [a for a in answers if isinstance(a, Refusal) and a.code is Code.BUSY]:
            assert "had its share" in refused[0].reason
            assert refused[0].retry_after_ms is not None
            break
    assert engine.store.ids == 95, "all but the share of the other"
    engine.restart()
    assert [isinstance(a, Refusal) for a in ask(engine, "a", 98, 2)] == [True, True], "no restart forgives it"
    mine = ask(engine, "b", 0, 3) + ask(engine, "b", 1, 4)
    assert [isinstance(a, Granted) for a in mine] == [True] * 5 + [False] * 2
    full = mine[-1]
    assert isinstance(full, Refusal)
    assert (full.code, full.reason) == (Code.BUSY, "all 100 ids are taken that max_ids lets be remembered")


def test_a_server_alone_may_have_all_of_it(folder: Path) -> None:
    engine = made(folder, 40)
    engine.mirror.grants = {"a": engine.mirror.grants["a"]}
    for n in range(25):
        ask(engine, "a", n, 2)
    assert engine.store.ids == 40


def counting(engine: Engine) -> Counter[str]:
    """How often the store is asked how many ids a content server has, by server."""
    counts, ids_of = Counter[str](), engine.store.ids_of

    def call(server: str) -> int:
        counts[server] += 1
        return ids_of(server)

    engine.store.ids_of = call  # type: ignore[method-assign]
    return counts


def crowded(folder: Path, servers: int, left: int) -> tuple[Engine, list[str]]:
    """Many content servers, and so many ids left; each may count on one of them."""
    engine, names = made(folder, 10**6), [f"s{n}" for n in range(servers)]
    engine.mirror.grants = dict.fromkeys(names, engine.mirror.grants["a"])
    ask(engine, names[0], 0, 10 * servers - left)
    engine.desk._ids._most = 10 * servers
    return engine, names


def test_what_is_kept_is_counted_once_for_a_group_and_not_again_within_a_second(folder: Path) -> None:
    engine, names = crowded(folder, 40, 40)
    counts = counting(engine)
    half = names[:20] * 2
    answers = engine.answer(*(engine.ask(f"x{n}", 1, server=s) for n, s in enumerate(half)))
    assert [isinstance(a, Granted) for a in answers] == [True] * 20 + [False] * 20
    assert counts.total() <= 40 + len(half), "once for all, and at most once for each request"
    assert {a.code for a in answers if isinstance(a, Refusal)} == {Code.BUSY}
    counts.clear()
    engine.answer(*(engine.ask(f"y{n}", 1, server=names[0]) for n in range(5)))
    assert counts.keys() == {names[0]}
    counts.clear()
    engine.clock += 1
    engine.answer(engine.ask("z", 1, server=names[0]))
    assert counts.keys() == set(names)


def test_while_nobody_can_be_refused_nothing_is_counted(folder: Path) -> None:
    engine, names = crowded(folder, 20, 40)
    counts = counting(engine)
    asks = [engine.ask(f"x{n}", 1, server=s) for n, s in enumerate(names)]
    assert all(isinstance(a, Granted) for a in engine.answer(*asks))
    assert not counts, "a tenth is kept, and there is an id for each of the group beside it"
    engine.answer(engine.ask("one more", 1))
    assert counts, "no longer"


def test_servers_that_come_within_a_second_have_their_share_kept_at_once(folder: Path) -> None:
    engine = made(folder, 100)
    engine.mirror.grants = {"a": engine.mirror.grants["a"]}
    for n in range(47):
        ask(engine, "a", n, 2)
    assert engine.store.ids == 94
    engine.mirror.grants = dict.fromkeys("ab", engine.mirror.grants["a"])
    assert [isinstance(a, Granted) for a in ask(engine, "a", 99, 3)] == [True, False, False]
    assert [isinstance(a, Granted) for a in ask(engine, "b", 99, 5)] == [True] * 5


moves = st.lists(
    st.tuples(
        st.sampled_from(["a", "a", "a", "b", "restart", "fold", "day"]),
        st.lists(st.sampled_from("aab"), min_size=1, max_size=12),
    ),
    min_size=5,
    max_size=18,
)


@settings(max_examples=max(10, settings().max_examples // 6))
@given(moves=moves, most=st.integers(20, 60))
def test_whoever_has_had_less_than_its_share_is_never_busy(moves: list[tuple[str, list[str]]], most: int) -> None:
    share, number, busy = most // 10 // 2, 0, 0
    held: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as name:
        engine = made(Path(name), most)
        held["a"] = len(ask(engine, "a", -1, most * 8 // 10))
        for move, servers in moves:
            if move == "restart":
                engine.restart()
            elif move == "fold":
                engine.store.fold(5)
            elif move == "day":
                engine.tick(2 * DAY)
                engine.tick()
                while engine.store.forget(int(engine.unix) - DAY, 100):
                    pass
                held.clear()
            else:
                asks = [engine.ask(f"{number}-{n}", 1, server=s) for n, s in enumerate(servers if move == "a" else "b")]
                number += 1
                for asked, answer in zip(asks, engine.answer(*asks), strict=True):
                    if isinstance(answer, Granted):
                        held[asked.server] += 1
                    elif answer.code is Code.BUSY:
                        busy += 1
                        assert held[asked.server] >= share
            assert sum(held.values()) == engine.store.ids <= most
            assert all(engine.store.ids_of(s) == held[s] for s in "ab")
            missing = sum(max(0, share - held[s]) for s in "ab")
            assert most - sum(held.values()) >= missing, "what is kept for others is there"
        engine.kill()
    event(f"busy {min(busy, 2)}")
