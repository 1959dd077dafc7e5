"""Packet identifiers of what is on its way to the broker."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channeld.adapters.broker.outbox import MAX_ID, RESTING, PacketIds


@given(st.lists(st.integers(-400, 400), max_size=30))
def test_one_that_is_in_use_is_never_given_again_and_one_that_was_used_rests(moves: Sequence[int]) -> None:
    ids, used, freed_at, freed = PacketIds(), deque[int](), dict[int, int](), 0
    for move in moves:
        for _ in range(move):
            taken = ids.take()
            assert 1 <= taken <= MAX_ID
            assert taken not in used
            if taken in freed_at:
                assert freed - freed_at[taken] >= RESTING - 1
            used.append(taken)
        for _ in range(min(-move, len(used))):
            freed_at[used[0]] = freed
            freed += 1
            ids.free((used.popleft(),))


def test_all_can_be_in_use_at_once_and_then_there_is_none_until_one_is_free() -> None:
    ids = PacketIds()
    assert sorted(ids.take() for _ in range(MAX_ID)) == list(range(1, MAX_ID + 1))
    assert not ids
    with pytest.raises(IndexError):
        ids.take()
    ids.free((7, 9))
    assert ids
    assert [ids.take(), ids.take()] == [7, 9]


def test_where_little_is_under_way_few_of_them_are_used() -> None:
    ids, seen = PacketIds(), set[int]()
    for _ in range(100_000):
        taken = ids.take()
        seen.add(taken)
        ids.free((taken,))
    assert len(seen) == RESTING
