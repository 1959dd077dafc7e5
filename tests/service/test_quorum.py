"""What is believed of what nodes tell: a node has a vote where it searched, and a tie believes nobody."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from service.several import Several, invented
from service.test_endpoints import an_invented_channel, three

from channeld.core.ledger import History
from channeld.core.units import LedgerIndex
from channeld.service.quorum import believe, plurality


def told(first: int, last: int, *lies: int) -> History:
    return History(LedgerIndex(first), LedgerIndex(last), tuple(invented(index) for index in lies))


def story(quorum: int, *histories: History, first: int = 1, last: int = 9) -> tuple[list[int], bool, bool]:
    believed = believe(dict(enumerate(histories)), LedgerIndex(first), LedgerIndex(last), quorum)
    return [t.ledger_index for t in believed.transactions], believed.gapless, believed.contested


def test_a_tie_believes_nobody() -> None:
    assert plurality("ab", 1) is None
    assert plurality("aab", 2) == "a"
    assert plurality("aabb", 2) is None
    assert plurality("a", 2) is None
    assert plurality("", 1) is None


def test_parts_are_put_together_from_who_has_them() -> None:
    assert story(1, told(1, 4, 3), told(5, 9, 7)) == ([3, 7], True, False)
    assert story(1, told(1, 4, 3), told(6, 9, 7)) == ([3, 7], False, False)


def test_one_that_did_not_search_a_part_has_no_vote_on_it() -> None:
    assert story(2, told(1, 9, 3), told(5, 9)) == ([], False, False)
    assert story(2, told(1, 9, 3), told(1, 9, 3), told(5, 9)) == ([3], True, False)


def test_a_contradiction_is_told_from_a_hole() -> None:
    assert story(2, told(1, 9, 3), told(1, 9)) == ([], False, True)
    assert story(2, told(1, 9)) == ([], False, False)


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9), st.booleans()), max_size=5), st.integers(1, 3))
def test_fewer_liars_than_the_quorum_are_never_believed(spans: list[tuple[int, int, bool]], quorum: int) -> None:
    """Honest nodes tell of a transaction in ledger 5; liars hide it and invent one in 6. Spans are any."""
    liars = 0
    histories = []
    for low, high, dishonest in spans:
        lies = dishonest and liars < quorum - 1
        liars += lies
        histories.append(told(low, high, *(n for n in ([6] if lies else [5]) if low <= n <= high)))
    found, gapless, _ = story(quorum, *histories)
    assert 6 not in found
    assert not gapless or 5 in found


def test_a_liar_is_not_believed_because_the_others_do_not_answer(tmp_path: Path) -> None:
    nodes: Several = three(tmp_path)
    channel = nodes.open_one()
    before = nodes.mirror.processed
    an_invented_channel(nodes, 0)
    nodes.nodes[1].lost = nodes.nodes[2].lost = True
    nodes.kept.redeem(channel, 2)
    nodes.all_hear()
    assert nodes.mirror.processed == before
    nodes.nodes[1].lost = nodes.nodes[2].lost = False
    nodes.all_hear(15)
    nodes.all_hear(15)
    assert nodes.true()
