"""Whoever has few waiting does not wait behind who has many, and nothing is lost, doubled or overtaken in its line."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from channeld.core.turns import Turns

Thing = tuple[str, int, int]
"""Its line, its number there, its cost."""
steps = st.lists(
    st.one_of(
        st.tuples(st.sampled_from("abc"), st.integers(1, 30), st.integers(1, 9)),
        st.tuples(st.sampled_from(("take", "back", "odd")), st.integers(0, 20), st.just(0)),
    ),
    max_size=40,
)


@given(steps, st.integers(1, 12))
def test_everything_leaves_once_in_the_order_of_its_line_and_the_costs_add_up(
    steps: list[tuple[str, int, int]], quantum: int
) -> None:
    turns: Turns[Thing] = Turns(quantum, lambda thing: thing[2])
    waiting: dict[str, list[Thing]] = {"a": [], "b": [], "c": []}
    back: list[Thing] = []
    number = 0
    for what, count, cost in steps:
        if what in waiting:
            for _ in range(count):
                number += 1
                turns.add(what, (what, number, cost))
                waiting[what].append((what, number, cost))
        elif what == "odd":
            turns.change(lambda thing: thing if thing[1] % 2 else None)
            back = [thing for thing in back if thing[1] % 2]
            waiting = {line: [thing for thing in things if thing[1] % 2] for line, things in waiting.items()}
        else:
            taken = [turns.take() for _ in range(min(count, len(back) + sum(map(len, waiting.values()))))]
            for thing in taken:
                assert thing == (back or waiting[thing[0]]).pop(0)
            if what == "back":
                turns.put_back(taken)
                back = taken + back
        assert {line: turns.cost_of(line) for line in waiting} == {
            line: sum(thing[2] for thing in things) for line, things in waiting.items()
        }
        assert turns.cost == sum(thing[2] for things in (back, *waiting.values()) for thing in things)
        assert bool(turns) == bool(turns.cost)


@given(st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 500), min_size=1), st.integers(1, 8))
def test_one_who_comes_alone_waits_for_one_turn_of_every_other(lengths: dict[str, int], quantum: int) -> None:
    turns: Turns[str] = Turns(quantum, lambda thing: 1)
    for line, length in lengths.items():
        for _ in range(length):
            turns.add(line, line)
    turns.add("alone", "alone")
    before = [turns.take() for _ in range(turns.cost)].index("alone")
    assert before <= quantum * len(lengths)
