"""What is remembered of accepted requests for a day and more: blocks, and an index that tells in which one an id is.

A block holds requests that were accepted in one second, numbered without a gap. It is written once, read a request at a
time, and deleted whole. The index is a set of integers, one a request: 32 bits that depend on its key and on a secret
of the store, then the low 31 bits of its number. Such an entry is small and goes in without a value bound for each; so
what it points to is believed only where the block has the whole key. The secret keeps people from choosing ids that
look alike to the index: each of them would have to be read to be told from the others. Numbers of requests that are
remembered at one time are less than 2**31 apart: `max_ids` is far below.
"""

from __future__ import annotations

import sqlite3
import struct
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from itertools import chain
from typing import Final, NamedTuple

_KEY: Final = 16
_FACTS: Final = struct.Struct("<4Q")
_NUMBER_BITS: Final = 31
_NUMBERS: Final = (1 << _NUMBER_BITS) - 1
ENTRY_BITS: Final = 32 + _NUMBER_BITS
_WORDS: Final = struct.Struct("<Q8x").iter_unpack
_TAG: Final = ((1 << 32) - 1) << 32
_LONGEST: Final = 256
"""Requests of a block: to read one of them, SQLite reads all of its block."""

_INSERT_BLOCK: Final = "INSERT INTO request_block (first, at_unix, keys, contents, facts) VALUES (?, ?, ?, ?, ?)"
_INSERT_ENTRIES: Final = "INSERT OR IGNORE INTO request_index (entry) SELECT value FROM json_each(?)"
_DELETE_ENTRIES: Final = "DELETE FROM request_index WHERE entry IN (SELECT value FROM json_each(?))"
_CANDIDATES: Final = (
    "SELECT entry FROM json_each(?) CROSS JOIN request_index"
    f" WHERE entry BETWEEN json_each.value AND json_each.value + {_NUMBERS}"
)
_READ: Final = (
    f"SELECT at_unix, substr(keys, (?1 - first) * {_KEY} + 1, {_KEY}),"
    f" substr(contents, (?1 - first) * {_KEY} + 1, {_KEY}),"
    f" substr(facts, (?1 - first) * {_FACTS.size} + 1, {_FACTS.size})"
    " FROM request_block WHERE first <= ?1 ORDER BY first DESC LIMIT 1"
)
"""One request, by its number."""
_FROM_THE_OLDEST: Final = "SELECT first, at_unix, keys FROM request_block ORDER BY first"
_OLDEST: Final = "SELECT first, at_unix FROM request_block ORDER BY first LIMIT 1"
_END: Final = f"SELECT first + length(keys) / {_KEY} FROM request_block ORDER BY first DESC LIMIT 1"


class Kept(NamedTuple):
    """A request: hash of its contents, row of its channel, the slice it bought, the amount it was signed for, and the
    Unix time at which it was accepted.
    """

    contents: bytes
    row: int
    covers_from: int
    covers_to: int
    signed: int
    at_unix: int


class Columns(NamedTuple):
    """Requests that were accepted in one second, numbered from `first` on; hashes have 16 bytes."""

    at_unix: int
    first: int
    keys: Sequence[bytes]
    contents: Sequence[bytes]
    facts: Sequence[tuple[int, int, int, int]]
    """Of each: row of its channel, covers from, covers to, signed."""


class Blocks:
    """The blocks of one store and their index. What writes must run inside a transaction of the caller's."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._secret = self._first = 1
        self.oldest_unix: int | None = None
        """When the oldest request that is in a block was accepted; None if there is none."""

    def load(self) -> int | None:
        """Read what memory holds of them; the number of the oldest request, None if there is none."""
        (secret,) = self._db.execute("SELECT value FROM meta WHERE key = 'index_secret'").fetchone()
        self._secret = int(secret)
        return self.find_oldest()

    def find_oldest(self) -> int | None:
        """Look which request is the oldest; its number, None if there is none."""
        found = self._db.execute(_OLDEST).fetchone()
        self._first, self.oldest_unix = (1, None) if found is None else found
        return None if found is None else self._first

    def end(self) -> int:
        """The number after that of the newest request in a block; 1 if there is none."""
        found = self._db.execute(_END).fetchone()
        return 1 if found is None else int(found[0])

    # --- looking up --------------------------------------------------------------------------------------------------

    def find(self, keys: Sequence[bytes]) -> dict[bytes, Kept]:
        """Which of these requests are there, and as what."""
        wanted = sorted(set(self._tags(b"".join(keys))))
        candidates = self._db.execute(_CANDIDATES, (str(wanted),)).fetchall()
        if not candidates:
            return {}
        asked, found = set(keys), {}
        for (entry,) in candidates:
            key, kept = self._read(self._first + ((entry - self._first) & _NUMBERS))
            if kept is not None and key in asked:
                found[key] = kept
        return found

    def _read(self, number: int) -> tuple[bytes, Kept | None]:
        """A request by its number. None if it is in no block (any more, or yet)."""
        found = self._db.execute(_READ, (number,)).fetchone()
        if found is None or not found[1]:
            return b"", None
        at_unix, key, contents, facts = found
        row, covers_from, covers_to, signed = _FACTS.unpack(facts)
        return key, Kept(contents, row, covers_from, covers_to, signed, at_unix)

    def _tags(self, keys: bytes) -> list[int]:
        """Where the entries of these keys, which stand one after the other, begin."""
        secret = self._secret
        return [(word * secret & _TAG) >> 1 for (word,) in _WORDS(keys)]

    # --- writing -----------------------------------------------------------------------------------------------------

    def entries(self, first: int, keys: bytes) -> list[int]:
        """What stands in the index for requests numbered from `first` on, of `ENTRY_BITS` bits each; their keys, one
        after the other.
        """
        return [tag | number & _NUMBERS for number, tag in enumerate(self._tags(keys), first)]

    def enter(self, entries: Sequence[int]) -> None:
        """Put entries into the index; what is there already stays. In ascending order they share writes."""
        self._db.execute(_INSERT_ENTRIES, (str(entries),))

    def write(self, requests: Iterable[Columns]) -> None:
        """Write blocks. Their entries must be in the index when the transaction ends, and in no other block."""
        self._db.executemany(_INSERT_BLOCK, chain.from_iterable(map(_blocks, requests)))

    def forget(self, before: int, limit: int) -> int:
        """Drop the oldest blocks accepted before `before` (Unix seconds), until `limit` requests went or none is left;
        how many went.
        """
        last, entries = 0, list[int]()
        with closing(self._db.execute(_FROM_THE_OLDEST)) as blocks:
            for first, at_unix, keys in blocks:
                if at_unix >= before or len(entries) >= limit:
                    break
                last = first
                entries += self.entries(first, keys)
        if entries:
            self._db.execute(_DELETE_ENTRIES, (str(sorted(entries)),))
            self._db.execute("DELETE FROM request_block WHERE first <= ?", (last,))
        return len(entries)

    def spread(self) -> None:
        """Make a table `request` that has a row for each, for audits and tests."""
        columns = "seq INTEGER PRIMARY KEY, key, contents, channel, covers_from, covers_to, signed, at_unix"
        self._db.execute(f"CREATE TABLE request ({columns})")
        found = self._db.execute("SELECT first, at_unix, keys, contents, facts FROM request_block")
        self._db.executemany(
            "INSERT INTO request VALUES (?, ?, ?, ?, ?, ?, ?, ?)", chain.from_iterable(_rows(*row) for row in found)
        )


def _rows(first: int, at_unix: int, keys: bytes, contents: bytes, facts: bytes) -> Iterator[tuple[int | bytes, ...]]:
    """A row for each request of a block."""
    for n, numbers in enumerate(_FACTS.iter_unpack(facts)):
        part = slice(n * _KEY, (n + 1) * _KEY)
        yield first + n, keys[part], contents[part], *numbers, at_unix


def _blocks(requests: Columns) -> Iterator[tuple[int, int, bytes, bytes, bytes]]:
    """Rows of their table."""
    at_unix, first, keys, contents, facts = requests
    for start in range(0, len(keys), _LONGEST):
        part = slice(start, start + _LONGEST)
        hashes = (b"".join(keys[part]), b"".join(contents[part]))
        packed = struct.pack(f"<{4 * len(facts[part])}Q", *chain.from_iterable(facts[part]))
        if any(2 * len(hashed) != len(packed) for hashed in hashes):
            raise ValueError(f"hashes of requests must have {_KEY} bytes each")
        yield first + start, at_unix, *hashes, packed
