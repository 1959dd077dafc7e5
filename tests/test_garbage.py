"""When the collector of garbage comes."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest

from channeld.app import garbage


class Knot:
    """A cycle that only the collector can free."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    thresholds = gc.get_threshold()
    yield
    gc.set_threshold(*thresholds)
    gc.unfreeze()


def old_knot(looks: int) -> weakref.ref[Knot]:
    """One that has survived so many looks at the middle generation before it became garbage."""
    knot = Knot()
    for _ in range(looks):
        gc.collect(1)
    return weakref.ref(knot)


def test_while_claims_are_served_no_collection_looks_at_everything() -> None:
    """What a second of claims leaves behind, many times over."""
    garbage.settle()
    seen: list[int] = []

    def look(phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            seen.append(info["generation"])

    gc.callbacks.append(look)
    try:
        kept = [[number] for number in range(200_000)]
    finally:
        gc.callbacks.remove(look)
    assert len(kept) == 200_000
    assert len(seen) >= 35, "each of them looks at few"
    assert 10 <= seen.count(1) <= 20
    assert 2 not in seen


def test_all_garbage_is_collected_once_nobody_asks_and_much_came_up() -> None:
    garbage.settle()
    knot = old_knot(looks=2)
    assert not garbage.rest()
    assert knot() is not None
    assert old_knot(looks=30)() is not None
    assert garbage.rest()
    assert knot() is None
    assert not garbage.rest(), "nothing came up since"


def test_a_second_life_frees_what_the_first_one_left() -> None:
    knot = old_knot(looks=1)
    gc.freeze()
    garbage.settle()
    assert knot() is None
