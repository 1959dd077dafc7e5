"""What waits to be signed comes out in the order in which it is to be signed, whatever came and went before."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from channeld.core.intents import Kind
from channeld.core.records import JournalEntry
from channeld.service.backlog import Backlog

RANKS = st.tuples(st.booleans(), st.booleans(), st.integers(0, 3))
FIRST, THEN, LAST = {Kind.REDEEM, Kind.OPEN, Kind.FUND}, {Kind.SETTLE, Kind.REQUEST_CLOSE}, {Kind.FINALIZE_CLOSE}


def intent(number: int, kind: Kind, wallet: str, deadline: bool = False) -> Any:
    return SimpleNamespace(
        number=number, action=SimpleNamespace(kind=kind, wallet=wallet), intent=SimpleNamespace(deadline=deadline)
    )


@given(
    st.lists(st.tuples(st.sampled_from(Kind), st.sampled_from("ab"), st.booleans()), max_size=40),
    st.lists(st.tuples(st.booleans(), st.integers(0, 39)), max_size=80),
)
def test_deadline_work_first_then_readers_then_payouts_and_closes_then_the_rest_each_by_age(
    kinds: list[tuple[Kind, str, bool]], steps: list[tuple[bool, int]]
) -> None:
    intents = [intent(number, *kind) for number, kind in enumerate(kinds)]
    backlog, waiting = Backlog(), set()
    for adds, pick in [(True, number) for number in range(len(intents))] + steps:
        if pick >= len(intents):
            continue
        if not adds:
            backlog.drop(intents[pick])
            waiting.discard(pick)
        elif pick not in waiting:  # one that was signed and died waits again
            backlog.add(intents[pick])
            waiting.add(pick)
    for wallet in "ab":
        mine = [i for i in intents if i.number in waiting and i.action.wallet == wallet]
        ranks = [(deadline, kinds) for deadline in (True, False) for kinds in (FIRST, THEN, LAST)]
        expected = [i for rank in ranks for i in mine if i.intent.deadline is rank[0] and i.action.kind in rank[1]]
        assert list(backlog.of(wallet)) == expected
        assert backlog.count(wallet) == len(expected)
        assert list(backlog.deadlines(wallet)) == [i for i in expected if i.intent.deadline]
        for place, after in enumerate(expected, 1):
            assert list(backlog.of(wallet, after)) == expected[place:]
            if place % 2:
                backlog.drop(after)
                assert list(backlog.of(wallet, after)) == expected[place:], "it need not wait any more"
                backlog.add(after)


@given(st.lists(RANKS, min_size=1, max_size=20), st.data())
def test_of_what_has_a_deadline_what_is_late_goes_first_and_then_where_most_is_at_stake_as_of_now(
    ranks: list[tuple[bool, bool, int]], data: st.DataObject
) -> None:
    backlog, now = Backlog(), dict(enumerate(ranks))
    intents = [intent(number, Kind.REDEEM, "a") for number in now]
    for one in intents[::2]:
        backlog.add(one)
    backlog.rank_by(lambda one: now[one.number])
    for one in intents[1::2]:
        backlog.add(one)
    for number in data.draw(st.lists(st.sampled_from(range(len(intents))))):
        now[number] = data.draw(RANKS)
        if number % 3 == 0:
            backlog.drop(intents[number])
        backlog.put_right(intents[number])
        if number % 3 == 0:
            backlog.add(intents[number])

    def place(one: JournalEntry) -> tuple[bool, bool, int, int]:
        presses, late, stake = now[one.number]
        return not presses, not late, -stake, one.number

    expected = sorted(intents, key=place)
    assert list(backlog.of("a")) == expected
    assert list(backlog.deadlines("a")) == [one for one in expected if now[one.number][0]]
    for one in intents:
        backlog.drop(one)
        backlog.put_right(one)
    assert backlog.count("a") == 0


def test_what_is_dropped_while_others_are_looked_at_does_not_come() -> None:
    backlog = Backlog()
    intents = [intent(number, Kind.OPEN, "a") for number in range(5)]
    for one in intents:
        backlog.add(one)
    came = []
    for one in backlog.of("a"):
        came.append(one.number)
        backlog.drop(one)
        if one.number == 1:
            backlog.drop(intents[3])
    assert came == [0, 1, 2, 4]
    assert list(backlog.of("a")) == list(backlog.of("nobody")) == []


def test_what_was_touched_comes_once_and_only_while_it_waits() -> None:
    backlog = Backlog()
    intents = [intent(number, Kind.FUND, "a") for number in range(4)]
    for one in intents[:3]:
        backlog.add(one)
    for one in (intents[2], intents[0], intents[3], intents[2], intents[1]):
        backlog.touch(one)
    backlog.drop(intents[0])
    assert list(backlog.touched("a")) == [intents[2], intents[1]]
    assert list(backlog.touched("a")) == list(backlog.touched("b")) == []
