"""How much is locked for whom: sums over live channels and what open intents will lock, kept as they change."""

from __future__ import annotations

from collections.abc import Iterable


class Locked:
    """One for a daemon. Names are those of `core.caps.Whose`."""

    def __init__(self) -> None:
        self._sums: dict[str, int] = {}

    def add(self, names: Iterable[str], drops: int) -> None:
        """So much more (or less) is locked for these."""
        if not drops:
            return
        for name in names:
            total = self._sums.get(name, 0) + drops
            if total:
                self._sums[name] = total
            else:
                del self._sums[name]

    def of(self, names: Iterable[str]) -> dict[str, int]:
        """What is locked for each, by name; who has nothing is left out."""
        return {name: self._sums[name] for name in sorted(names) if name in self._sums}

    def everything(self) -> dict[str, int]:
        """All sums, by name."""
        return dict(self._sums)
