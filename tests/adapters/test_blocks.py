"""What is remembered of requests, against a dictionary: keys that look alike to the index, numbers of any size."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from itertools import groupby

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channeld.adapters.sqlite.blocks import Blocks, Columns, Kept

ALIKE = 1 << 24
"""Words that differ by multiples of this, below 2**32: with the secret 1 their 32 bits in the index are the same."""


@contextmanager
def blocks(secret: int) -> Iterator[Blocks]:
    """An empty store's, in memory."""
    db = sqlite3.connect(":memory:", isolation_level=None)
    db.executescript((resources.files("channeld.adapters.sqlite") / "schema.sql").read_text())
    db.execute("INSERT INTO meta VALUES ('index_secret', ?)", (str(secret),))
    made = Blocks(db)
    made.load()
    yield made
    db.close()


def key(word: int, rest: int) -> bytes:
    """As the index reads it: its first 64 bits, little-endian."""
    return word.to_bytes(8, "little") + rest.to_bytes(8, "little")


def columns(at_unix: int, first: int, keys: list[bytes]) -> Columns:
    """Requests that say in their facts which they are."""
    numbers = range(first, first + len(keys))
    return Columns(at_unix, first, keys, [k[::-1] for k in keys], [(n, n + 1, n + 2, n + 3) for n in numbers])


def kept(at_unix: int, number: int, at: bytes) -> Kept:
    """What must be found of it."""
    return Kept(at[::-1], number, number + 1, number + 2, number + 3, at_unix)


def fill(made: Blocks, requests: Columns) -> None:
    """As folding does, in one step."""
    made.enter(sorted(made.entries(requests.first, b"".join(requests.keys))))
    made.write([requests])
    made.find_oldest()


KEYS = st.builds(key, st.sampled_from([0, 1, ALIKE, ALIKE + 1, 1 << 63, (1 << 64) - 1]), st.integers(0, 5))


@given(
    start=st.one_of(
        st.sampled_from([1, (1 << 31) - 3, (1 << 31), (1 << 32) - 2, (1 << 40) + 5]), st.integers(1, 1 << 50)
    ),
    secret=st.sampled_from([1, 3, (1 << 64) - 1]),
    keys=st.lists(KEYS, unique=True, max_size=30),
    seconds=st.lists(st.integers(5, 9), min_size=30, max_size=30),
    before=st.integers(4, 11),
    limit=st.integers(1, 40),
)
def test_what_is_kept_is_found_and_nothing_else(
    start: int, secret: int, keys: list[bytes], seconds: list[int], before: int, limit: int
) -> None:
    with blocks(secret) as made:
        model: dict[bytes, Kept] = {}
        stands: list[tuple[int, list[bytes]]] = []
        at = 0
        for second, together in groupby(seconds[: len(keys)]):
            part = keys[at : at + len(list(together))]
            fill(made, columns(second, start + at, part))
            model |= {k: kept(second, start + at + n, k) for n, k in enumerate(part)}
            stands.append((second, part))
            at += len(part)
        others = [key(word, 99) for word in (0, 1, ALIKE, 77)]
        assert made.find([*keys, *others]) == model
        assert made.find(others) == {}
        assert made.end() == (start + len(keys) if keys else 1)
        gone = made.forget(before, limit)
        went = 0
        for second, part in stands:
            if second >= before or went >= limit:
                break
            went += len(part)
            for k in part:
                del model[k]
        assert gone == went
        made.find_oldest()
        assert made.find([*keys, *others]) == model
        (entries,) = made._db.execute("SELECT count(*) FROM request_index").fetchone()
        assert entries == len(model), "the index keeps nothing of what is forgotten"
        assert made.oldest_unix == (None if not model else next(iter(model.values())).at_unix)


def test_a_long_second_is_cut_into_blocks() -> None:
    """To read one request the whole of its block is read."""
    with blocks(5) as made:
        keys = [key(n * 0x9E3779B97F4A7C15 % 2**64, n) for n in range(1500)]
        fill(made, columns(7, 10, keys))
        found = made._db.execute("SELECT length(keys), length(contents), length(facts) FROM request_block").fetchall()
        assert found == [(256 * 16, 256 * 16, 256 * 32)] * 5 + [(220 * 16, 220 * 16, 220 * 32)]
        assert made.find(keys) == {k: kept(7, 10 + n, k) for n, k in enumerate(keys)}
        assert [made.forget(8, 600), made.forget(8, 600)] == [768, 732], "whole blocks"


def test_what_is_in_the_index_and_in_no_block_is_not_there() -> None:
    """A batch is folded in steps: the index first."""
    with blocks(5) as made:
        made.enter(made.entries(1, key(1, 1) + key(2, 2)))
        assert made.find([key(1, 1)]) == {}
        fill(made, columns(7, 1, [key(1, 1)]))
        assert list(made.find([key(1, 1), key(2, 2)])) == [key(1, 1)]


@pytest.mark.parametrize("part", ["keys", "contents"])
def test_hashes_of_another_length_are_refused_before_anything_is_written(part: str) -> None:
    with blocks(5) as made:
        short = columns(7, 1, [key(1, 1)])._replace(**{part: [b"short"]})
        with pytest.raises(ValueError, match="16 bytes"):
            made.write([short])
        assert made._db.execute("SELECT count(*) FROM request_block").fetchone() == (0,)


def test_the_secret_tells_what_looks_alike_apart() -> None:
    """Chosen without it, ids that stand in one place of the index would be as many reads for each of them."""
    with blocks(1) as plain, blocks(0x9E3779B97F4A7C15) as mixed:
        alike = b"".join(key(n * ALIKE & 0xFFFFFFFF, 0) for n in range(100))
        assert len({entry >> 31 for entry in plain.entries(0, alike)}) == 1
        assert len({entry >> 31 for entry in mixed.entries(0, alike)}) == 100
