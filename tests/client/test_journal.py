"""The claims file: slices never overlap and leave no trace of their order, and what it says survives."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import sqlite3
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from client.scene import DROPS, Scene
from hypothesis import given, settings
from hypothesis import strategies as st

from channeld.client import errors
from channeld.client.booking import slices, take_slice
from channeld.client.checks import Asked
from channeld.client.claims_file import SCHEMA, open_file
from channeld.client.journal import Journal
from channeld.core.units import RippleTime
from channeld.wire.answers import Accepted, contents_of, read_answers

SCENE = Scene()
SCENE.invent(RippleTime(800_000_000))


def answer(request_id: str, start: int, drops: int = DROPS) -> Accepted:
    (said,), _ = read_answers(json.dumps(SCENE.answer(request_id, start, drops)).encode())
    assert isinstance(said, Accepted)
    return said


def asked(request_id: str, drops: int = DROPS) -> Asked:
    return Asked(request_id, SCENE.payee, drops, 2**31, contents_of(SCENE.payee, drops, 2**31))


@contextlib.asynccontextmanager
async def journal(path: Path, server: str = "a"):  # type: ignore[no-untyped-def]
    made = Journal(path, server)
    await made.open()
    try:
        yield made
    finally:
        await made.close()


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(1, 12)), max_size=40))
def test_slices_are_taken_exactly_when_nothing_of_them_was(offers: list[tuple[int, int]]) -> None:
    """Against a set of single drops; and what is kept is joined as far as it can be."""
    db = sqlite3.connect(":memory:", isolation_level=None)
    db.executescript(SCHEMA)
    blank, taken = answer("x", 0), set[int]()
    for start, drops in offers:
        said = replace(blank, covers_from=start, covers_to=start + drops)
        wanted = set(range(start, start + drops))
        if wanted & taken:
            with pytest.raises(errors.SliceSeen):
                take_slice(db, said)
        else:
            take_slice(db, said)
            taken |= wanted
        kept = [(start, stop) for _, start, stop in slices(db)]
        assert {drop for start, stop in kept for drop in range(start, stop)} == taken
        assert all(stop < start for (_, stop), (start, _) in itertools.pairwise(kept))
    db.close()


@settings(max_examples=settings().max_examples // 4)
@given(st.permutations(range(6)), st.data())
def test_the_best_claim_is_the_highest_in_whatever_order(order: list[int], data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(_book(Path(folder) / "claims.db", order, data.draw(st.integers(0, 6))))


async def _book(path: Path, order: list[int], deaths_after: int) -> None:
    async with journal(path) as first:
        for n in order:
            await first.remember(asked(str(n)))
        for n in order[:deaths_after]:
            await first.keep(asked(str(n)), answer(str(n), n * DROPS))
    async with journal(path) as second:
        assert {one.id for one in await second.unanswered()} == {str(n) for n in order[deaths_after:]}
        for n in order:
            await second.keep(asked(str(n)), answer(str(n), n * DROPS))
        assert [held.claim.amount for held in await second.best()] == [6 * DROPS]
        assert await second.unanswered() == []


async def test_an_id_that_is_answered_anew_is_a_lie(tmp_path: Path) -> None:
    async with journal(tmp_path / "claims.db") as made:
        await made.remember(asked("r"))
        first = answer("r", 0)
        await made.keep(asked("r"), first)
        await made.keep(asked("r"), replace(first, replayed=True, headroom=first.headroom))
        for other in (answer("r", DROPS), replace(first, claim=answer("r", DROPS).claim)):
            with pytest.raises(errors.ChangedAnswer):
                await made.keep(asked("r"), other)
        assert [held.claim for held in await made.best()] == [first.claim]


async def test_two_processes_never_sell_the_same_slice(tmp_path: Path) -> None:
    path = tmp_path / "claims.db"
    async with journal(path) as one, journal(path) as two:
        for name, made in (("x", one), ("y", two)):
            await made.remember(asked(name))
        results = await asyncio.gather(
            one.keep(asked("x"), answer("x", 0)), two.keep(asked("y"), answer("y", 1)), return_exceptions=True
        )
        assert sorted(type(result).__name__ for result in results) == ["NoneType", "SliceSeen"]


async def test_work_that_refuses_leaves_the_work_beside_it_alone(tmp_path: Path) -> None:
    """Calls that wait together share one transaction."""
    async with journal(tmp_path / "claims.db") as made:
        await asyncio.gather(*(made.remember(asked(str(n))) for n in range(50)))
        results = await asyncio.gather(
            *(made.keep(asked(str(n)), answer(str(n), (n // 2) * DROPS)) for n in range(50)), return_exceptions=True
        )
        assert [type(result) for result in results] == [type(None), errors.SliceSeen] * 25
        assert len(await made.unanswered()) == 25


async def test_a_file_of_something_else_is_left_alone(tmp_path: Path) -> None:
    garbage, other, foreign = tmp_path / "garbage", tmp_path / "other", tmp_path / "foreign"
    garbage.write_bytes(b"this is no database " * 500)
    with contextlib.closing(sqlite3.connect(other)) as db:
        db.execute("CREATE TABLE theirs (x)")
    async with journal(foreign, "b"):
        pass
    for path in (garbage, other, foreign):
        before = path.read_bytes()
        with pytest.raises(errors.NotAClaimsFile):
            async with journal(path, "a"):
                pass
        assert path.read_bytes() == before
    with pytest.raises(errors.FileError):
        async with journal(tmp_path / "no folder" / "claims.db"):
            pass


async def test_a_file_is_for_its_owner_only_and_can_be_read_while_in_use(tmp_path: Path) -> None:
    path = tmp_path / "claims.db"
    async with journal(path) as made:
        await made.remember(asked("r"))
        await made.keep(asked("r"), answer("r", 0))
        with contextlib.closing(open_file(path, None)) as db:
            assert list(slices(db)) == [(SCENE.channels["good"].channel_id, 0, DROPS)]
    assert path.stat().st_mode & 0o077 == 0
