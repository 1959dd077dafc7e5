"""The closed ledgers' objects, with the versions of the last 256 ledgers.

An object is a dict of its fields in the API's JSON form (drops and 64-bit numbers are strings), and is never changed
once it is here: a change is a new dict. Each key keeps its versions as (ledger index, object or None), so that a query
by the number of a recent ledger costs a short search, and committing a ledger costs in proportion to what it changed.
"""

from __future__ import annotations

import hashlib
import json
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any, Final, Protocol

Fields = dict[str, Any]
"""A ledger object's fields. Treat it as read-only unless a view's `peek` or `insert` made it yours."""
WINDOW: Final = 256
"""How many closed ledgers answer queries about their objects."""
_MODULUS: Final = 1 << 256


class Reader(Protocol):
    """Anything objects can be read from: a closed ledger, the open ledger, a transaction's view."""

    def read(self, key: str) -> Fields | None:
        """The object at `key`, or None. Not to be changed."""


class State:
    """Objects of the newest closed ledger, and of those within the window before it."""

    def __init__(self) -> None:
        self._versions: dict[str, list[tuple[int, Fields | None]]] = {}
        self._changed: deque[tuple[int, list[str]]] = deque()
        self._digest = 0
        self.newest = 0

    def read(self, key: str) -> Fields | None:
        """The object as of the newest closed ledger."""
        versions = self._versions.get(key)
        return versions[-1][1] if versions else None

    def read_at(self, key: str, ledger_index: int) -> Fields | None:
        """The object as of a closed ledger; the caller has checked that it is within the window."""
        for index, fields in reversed(self._versions.get(key, ())):
            if index <= ledger_index:
                return fields
        return None

    @property
    def oldest(self) -> int:
        """The oldest ledger whose objects can still be read."""
        return max(self._changed[0][0] if self._changed else self.newest, self.newest - WINDOW + 1)

    def commit(self, ledger_index: int, changes: Mapping[str, Fields | None]) -> None:
        """Make `changes` (None deletes) the difference between the newest ledger and `ledger_index`."""
        for key, fields in changes.items():
            versions = self._versions.setdefault(key, [])
            self._account_for(versions[-1][1] if versions else None, key, -1)
            self._account_for(fields, key, 1)
            versions.append((ledger_index, fields))
        self._changed.append((ledger_index, list(changes)))
        self.newest = ledger_index
        self._forget(ledger_index - WINDOW + 1)

    def _forget(self, oldest: int) -> None:
        """Drop versions that no ledger from `oldest` on can see."""
        while len(self._changed) > WINDOW:
            _, keys = self._changed.popleft()
            for key in keys:
                self._trim(key, oldest)

    def _trim(self, key: str, oldest: int) -> None:
        versions = self._versions.get(key)
        if versions is None:
            return
        keep = 0
        while keep + 1 < len(versions) and versions[keep + 1][0] <= oldest:
            keep += 1
        del versions[:keep]
        if len(versions) == 1 and versions[0][1] is None and versions[0][0] <= oldest:
            del self._versions[key]

    def _account_for(self, fields: Fields | None, key: str, sign: int) -> None:
        if fields is not None:
            text = key + json.dumps(fields, sort_keys=True)
            self._digest += sign * int.from_bytes(hashlib.sha512(text.encode()).digest()[:32], "big")

    def digest(self) -> str:
        """64 hex digits that depend on every object's content and on nothing else.

        A sum of the objects' digests: it costs only what changed. rippled's SHAMap root differs.
        """
        return hashlib.sha512((self._digest % _MODULUS).to_bytes(32, "big")).digest()[:32].hex().upper()

    def objects(self) -> Iterator[tuple[str, Fields]]:
        """Every object of the newest closed ledger."""
        for key, versions in self._versions.items():
            if (fields := versions[-1][1]) is not None:
                yield key, fields


class ClosedView:
    """One closed ledger's objects."""

    def __init__(self, state: State, ledger_index: int) -> None:
        self._state, self._index = state, ledger_index

    def read(self, key: str) -> Fields | None:
        """The object as of that ledger."""
        return self._state.read_at(key, self._index)
