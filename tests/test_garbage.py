"""When the collector of garbage comes."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from waiting import soon

from channeld.app import chores, garbage, life
from channeld.app.garbage import Garbage
from channeld.core.errors import StoreError


class Knot:
    """A cycle that only the collector can free."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture(autouse=True)
def as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """With moments that count for more, so that few are enough."""
    for name, moments in {"_OLDER": 10, "_MANY": 20, "_PATIENCE": 120, "_REST": 4}.items():
        monkeypatch.setattr(garbage, name, moments)
    yield
    garbage.unsettle()


@pytest.fixture(name="seen")
def _seen() -> Iterator[list[int]]:
    """The generation of every collection."""
    seen: list[int] = []

    def look(phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            seen.append(info["generation"])

    garbage.settle()
    gc.callbacks.append(look)
    yield seen
    gc.callbacks.remove(look)


def busy(collector: Garbage, kept: list[list[int]], *, moments: int = 1) -> list[int | None]:
    """As many moments, each with more objects than are worth a look, while requests come."""
    done = []
    for _ in range(moments):
        kept.extend([number] for number in range(5_000))
        done.append(collector.moment(asked=True, crowded=False))
    return done


def test_no_collection_comes_by_itself(seen: list[int]) -> None:
    kept = [[number] for number in range(200_000)]
    assert (len(kept), seen) == (200_000, [])


def test_none_comes_while_much_is_under_way_for_a_minute_at_most(seen: list[int]) -> None:
    collector = Garbage()
    kept = [[number] for number in range(5_000)]
    done = [collector.moment(asked=True, crowded=True) for _ in range(121)]
    assert done == [None] * 120 + [0]
    kept += [[number] for number in range(5_000)]
    assert collector.moment(asked=True, crowded=True) is None, "and not for another minute"
    assert collector.moment(asked=True, crowded=False) == 0
    assert [collector.moment(asked=True, crowded=True) for _ in range(120)] == [None] * 120, "which begins with it"
    assert seen == [0, 0]


def test_under_load_what_is_new_is_looked_at_and_now_and_then_what_survived_but_never_everything(
    seen: list[int],
) -> None:
    kept: list[list[int]] = []
    done = busy(Garbage(), kept, moments=44)
    assert done == ([0] * 10 + [1]) * 4
    assert seen == done


def test_little_is_not_worth_a_look(seen: list[int]) -> None:
    collector = Garbage()
    assert [collector.moment(asked=True, crowded=False) for _ in range(10)] == [None] * 10
    assert seen == []


def test_a_new_cycle_goes_with_the_next_look_and_an_older_one_with_a_longer_one() -> None:
    garbage.settle()
    collector, kept, old = Garbage(), list[list[int]](), Knot()
    assert busy(collector, kept) == [0]
    gone, new = weakref.ref(old), weakref.ref(Knot())
    del old
    assert busy(collector, kept) == [0]
    assert (gone() is None, new() is None) == (False, True)
    busy(collector, kept, moments=9)
    assert gone() is None


def test_everything_is_collected_once_nobody_asks_and_much_came_up() -> None:
    garbage.settle()
    collector, kept, old = Garbage(), list[list[int]](), Knot()
    gone = weakref.ref(old)
    busy(collector, kept, moments=11 * 19)
    del old
    assert [collector.moment(asked=False, crowded=False) for _ in range(10)] == [None] * 10, "not yet worth it"
    busy(collector, kept, moments=11)
    assert gone() is not None
    assert [collector.moment(asked=False, crowded=False) for _ in range(5)] == [None] * 3 + [2, None]
    assert gone() is None


def test_a_second_life_frees_what_the_first_one_left() -> None:
    knot = weakref.ref(Knot())
    gc.freeze()
    garbage.settle()
    assert knot() is None


def test_all_the_same_everything_is_collected_after_hours_without_rest() -> None:
    garbage.settle()
    collector, old = Garbage(), Knot()
    gone = weakref.ref(old)
    busy(collector, [], moments=11)
    del old
    collector._longer = garbage._TOO_MANY - 1
    kept: list[list[int]] = []
    assert busy(collector, kept, moments=12) == [0] * 10 + [1, 2]
    assert gone() is None


def store_that_failed() -> asyncio.Future[None]:
    failed = asyncio.get_running_loop().create_future()
    failed.set_exception(StoreError("the disk is gone"))
    return failed


async def nothing(*_: object, **__: object) -> None:
    """Done."""


async def test_between_two_lives_the_collector_comes_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or what failed starts leave, open files with it, would never go."""
    seen: list[bool] = []

    async def drain(of: Any, *, clean: bool) -> None:
        seen.append(gc.isenabled())

    monkeypatch.setattr(life, "_begun", lambda of: [])
    monkeypatch.setattr(life, "_drain", drain)
    monkeypatch.setattr(life, "_let_go", nothing)
    http: Any = SimpleNamespace()
    gateway = SimpleNamespace(close=lambda: None)
    failed = store_that_failed()
    daemon: Any = SimpleNamespace(pages=None, gateway=gateway, failed=failed, begun=lambda: None)
    with pytest.raises(StoreError):
        await life.live(daemon, http, asyncio.Event())
    assert (seen, gc.isenabled()) == ([False], True)


@pytest.mark.parametrize(("waiting", "queued", "in_flight", "crowded"), [(512, 0, 0, False), (200, 200, 113, True)])
async def test_what_is_under_way_and_what_came_is_what_the_broker_and_the_gateway_say(
    monkeypatch: pytest.MonkeyPatch, waiting: int, queued: int, in_flight: int, crowded: bool
) -> None:
    told: list[tuple[bool, bool]] = []
    broker = SimpleNamespace(asked=5, queued_out=queued, in_flight_out=in_flight)
    of: Any = SimpleNamespace(broker=broker, gateway=SimpleNamespace(waiting=waiting))

    def moment(self: Garbage, *, asked: bool, crowded: bool) -> None:
        told.append((asked, crowded))
        broker.asked += len(told) == 1

    monkeypatch.setattr(Garbage, "moment", moment)
    monkeypatch.setattr(garbage, "EVERY_S", 0)
    task = asyncio.create_task(chores._garbage(of))
    await soon(lambda: len(told) >= 3)
    task.cancel()
    assert told[:3] == [(False, crowded), (True, crowded), (False, crowded)]
