"""Which starts of a daemon this store has seen, so that what an earlier one left on a broker is known as its own."""

from __future__ import annotations

from typing import Final

from channeld.adapters.sqlite.file import Begin

MOST: Final = 64
"""As many of the last are kept."""


class Starts:
    """Each is named by its instance, which has no space in it."""

    def __init__(self, begin: Begin) -> None:
        self._begin = begin

    def begun(self, instance: str) -> frozenset[str]:
        """Keep one more; all that are kept. Raises `StoreError`."""
        with self._begin() as db:
            row = db.execute("SELECT value FROM meta WHERE key = 'starts'").fetchone()
            kept = [*(row[0].split() if row else ()), instance][-MOST:]
            db.execute("INSERT OR REPLACE INTO meta VALUES ('starts', ?)", (" ".join(kept),))
        return frozenset(kept)
