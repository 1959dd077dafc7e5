"""A group of requests is decided as its requests one after the other would be: only faster, and signed together."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

from engine import Engine, policy
from hypothesis import example, given, settings
from hypothesis import strategies as st
from worlds import PAYEES

from channeld.core.requests import Answer, Ask, Granted, Refusal
from channeld.core.units import Drops

CAPS = {"a": (70, 10**6, 9), "b": (10**6, 10**6, 9)}
LARGEST = 12
"""A channel may hold so much by the policy, which was more generous before."""

Wanted = tuple[int, str, int, int, int | None]
WANTED = st.tuples(
    st.integers(0, 30),
    st.sampled_from("aab"),
    st.sampled_from([1, 1, 2, 2, 3, 5, 8, LARGEST, LARGEST + 1]),
    st.sampled_from([0, 0, 0, 1]),
    st.sampled_from([None, None, None, 5, -5]),
)
"""Number, server, drops, payee, and so many seconds until it is too late."""


def with_spares(path: Path) -> Engine:
    """An engine whose first payee has a channel in use and a spare."""
    engine = Engine(path, terms=policy(max_per_payee=3, spare=1), caps=CAPS)
    engine.connect()
    engine.opened()
    engine.answer(engine.ask("used", 1))
    for _ in range(4):
        engine.tick()
    shape = replace(engine.policy.pools["p"].channel, max=Drops(LARGEST))
    engine.mirror.policy = replace(engine.policy, pools={"p": replace(engine.policy.pools["p"], channel=shape)})
    return engine


def ask(engine: Engine, wanted: Wanted) -> Ask:
    number, server, drops, payee, late = wanted
    not_after = None if late is None else int(engine.unix) + late
    return engine.ask(number, drops, server=server, payee=PAYEES[payee], not_after=not_after)


def said(answer: Answer) -> object:
    """What a group must not change: `amount` and `headroom` are those after the last of it."""
    if isinstance(answer, Refusal):
        return answer.code
    assert answer.covers_to <= answer.claim.amount
    return answer.covers_from, answer.covers_to, answer.replayed, answer.claim.channel_id


@given(st.lists(st.lists(WANTED, min_size=1, max_size=12), min_size=1, max_size=4))
@example([[(0, "a", 8, 0, None), (1, "b", LARGEST, 0, None), (2, "a", 1, 0, None)]])
@settings(max_examples=settings().max_examples // 4)
def test_a_group_is_decided_as_its_requests_would_be_alone(groups: list[list[Wanted]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        together, alone = with_spares(Path(folder) / "one.db"), with_spares(Path(folder) / "other.db")
        for group in groups:
            answers = together.answer(*(ask(together, wanted) for wanted in group))
            others = [alone.answer(ask(alone, wanted))[0] for wanted in group]
            assert list(map(said, answers)) == list(map(said, others))
            assert all(answer.claim.signature for answer in answers if isinstance(answer, Granted))
        assert together.mirror.spent == alone.mirror.spent
        together.kill()
        alone.kill()
