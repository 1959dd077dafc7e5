"""A payee that keeps closing its channels waits ever longer, whatever dies in between; what we close costs nothing."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest
from engine import Engine, policy
from hypothesis import event, given, settings
from hypothesis import strategies as st
from worlds import PAYEES

from channeld.core.freezes import Audit
from channeld.core.intents import Kind
from channeld.core.policy import EarlyEnds, Policy
from channeld.core.requests import Code, Granted, Refusal
from channeld.core.units import Seconds

WINDOW, FREE, FIRST, LONGEST = 300, 1, 12, 100


def strict() -> Policy:
    terms = policy(opens=10)
    early = EarlyEnds(FREE, Seconds(WINDOW), Seconds(FIRST), Seconds(LONGEST))
    pool = replace(terms.pools["p"], close=replace(terms.pools["p"].close, idle=Seconds(10**6)))
    return replace(terms, guards=replace(terms.guards, early_ends=early), pools={"p": pool})


def may_open_at(ended: Iterable[int], now: int) -> bool:
    """The rule, as the README has it."""
    counted = [at for at in ended if now - WINDOW < at <= now]
    beyond = len(counted) - FREE
    return beyond <= 0 or counted[-1] + min(LONGEST, FIRST * 2 ** (beyond - 1)) <= now


def made(folder: Path) -> Engine:
    engine = Engine(folder / "store.db", terms=strict())
    engine.connect()
    return engine


def open_ids(engine: Engine) -> list[str]:
    return [i for i, c in engine.ledger.channels.items() if c.expiration is None]


def we_close(engine: Engine, channel_id: str) -> None:
    """As an operator does."""
    state = next(s for i, s in engine.mirror.channels.items() if i == channel_id)
    engine.store.stop_issuing([state.record.channel.channel_id], Audit(0, "me", "close", "why"))
    engine.mirror.stop_issuing(state)
    engine.planner.urge(state.group)
    for _ in range(7):
        engine.tick()


MOVES = st.lists(
    st.one_of(
        st.just(("leave", 0)),
        st.just(("leave", 0)),
        st.just(("leave unseen", 0)),
        st.just(("we close", 0)),
        st.just(("restart", 0)),
        st.tuples(st.just("wait"), st.sampled_from([4, 11, 12, 13, 24, 48, 100, 150, 301])),
    ),
    min_size=5,
    max_size=16,
)


@settings(max_examples=max(8, settings().max_examples // 6))
@given(MOVES)
def test_no_channel_is_ever_opened_before_the_wait_is_over(moves: list[tuple[str, int]]) -> None:
    ended: list[int] = []
    opened: dict[int, int] = {}
    waits = 0
    with tempfile.TemporaryDirectory() as name:
        engine = made(Path(name))

        def ask(number: int) -> None:
            nonlocal waits
            answer = engine.answer(engine.ask(f"n{number}", 1))[0]
            now = engine.ledger.time
            for entry in engine.mirror.journal.values():
                if entry.action.kind is Kind.OPEN and entry.number not in opened:
                    opened[entry.number] = now
                    assert may_open_at(ended, now), (ended, now)
            if isinstance(answer, Refusal) and "keeps closing" in answer.reason:
                waits += 1
                assert answer.code is Code.NO_HEADROOM
                assert answer.retry_after_ms is not None
                assert not may_open_at(ended, now)
                assert may_open_at(ended, now + answer.retry_after_ms // 1000), "it was told the truth"
                assert not may_open_at(ended, now + answer.retry_after_ms // 1000 - 1), "and no more than that"
            elif isinstance(answer, Refusal) and not open_ids(engine):
                assert may_open_at(ended, now), "nobody waits for nothing"

        for number, (move, seconds) in enumerate(moves):
            ask(number)
            for _ in range(2):
                engine.tick()
            alive = open_ids(engine)
            if move == "leave" and alive:
                engine.ledger.leave(alive[0])
                engine.pass_time(1)
                engine.see()
                ended.append(engine.ledger.time)
            elif move == "leave unseen" and alive:
                engine.kill()
                engine.ledger.leave(alive[0])
                engine.build()
                engine.connect()
                ended.append(engine.ledger.time)
            elif move == "we close" and alive:
                we_close(engine, alive[0])
            elif move == "restart":
                engine.restart()
            elif move == "wait":
                engine.tick(seconds)
        ask(len(moves))
        event(f"waited {min(waits, 3)}, opened {min(len(opened), 5)}")
        engine.kill()


@pytest.mark.parametrize("way", ["operator", "idle"])
def test_what_we_close_costs_the_payee_nothing(tmp_path: Path, way: str) -> None:
    engine = made(tmp_path)
    if way == "idle":
        pool = engine.policy.pools["p"]
        engine.policy = replace(engine.policy, pools={"p": replace(pool, close=policy().pools["p"].close)})
        engine.mirror.policy = engine.policy
    for n in range(5):
        engine.answer(engine.ask(f"open{n}", 1))
        for _ in range(2):
            engine.tick()
        assert isinstance(engine.answer(engine.ask(f"take{n}", 1))[0], Granted)
        (channel_id,) = open_ids(engine)
        if way == "operator":
            we_close(engine, channel_id)
        else:
            for _ in range(25):
                engine.tick()
        assert not engine.ledger.channels
    assert engine.mirror.early_ends.of(PAYEES[0]) == ()


def test_another_payee_of_the_same_server_does_not_wait(tmp_path: Path) -> None:
    engine = made(tmp_path)
    for n in range(3):
        engine.answer(engine.ask(f"open{n}", 1))
        for _ in range(2):
            engine.tick()
        for channel_id in open_ids(engine):
            engine.ledger.leave(channel_id)
            engine.pass_time(1)
            engine.see()
    mine, other = engine.answer(engine.ask("mine", 1), engine.ask("other", 1, payee=PAYEES[1]))
    assert isinstance(mine, Refusal)
    assert isinstance(other, Refusal)
    assert "keeps closing" in mine.reason
    assert "being opened" in other.reason
