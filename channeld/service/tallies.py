"""How many requests were rejected, by server, payee and code: counted in memory, handed over from time to time.

What was accepted is counted from what is on disk, so that claims do not pay for it. A crash forgets the rejections of
the last seconds: nothing depends on them.
"""

from __future__ import annotations

from collections.abc import Callable

from channeld.core.requests import Ask, Code
from channeld.service.mirror import Mirror

Key = tuple[str, int, str, str]
"""Server, hour (Unix time / 3600), payee (empty: none was readable), code."""


class Tallies:
    """Counts for configured servers and their own payees only, so that strangers cannot make it grow."""

    def __init__(self, mirror: Mirror, unix: Callable[[], float]) -> None:
        self._mirror, self._unix = mirror, unix
        self._counts: dict[Key, int] = {}

    def rejected(self, ask: Ask, code: Code) -> None:
        """Count a request that was understood and rejected."""
        grant = self._mirror.grants.get(ask.server)
        if grant is not None:
            only = next(iter(grant.payees)) if len(grant.payees) == 1 else None
            payee = ask.payee or only
            self._count(ask.server, str(payee) if payee in grant.payees else "", code)

    def unread(self, server: str, code: Code, count: int = 1) -> None:
        """Count requests that were rejected without looking at their payee."""
        if server in self._mirror.grants:
            self._count(server, "", code, count)

    def _count(self, server: str, payee: str, code: Code, count: int = 1) -> None:
        key = (server, self.hour, payee, code.value)
        self._counts[key] = self._counts.get(key, 0) + count

    @property
    def hour(self) -> int:
        """The hour it is, Unix time / 3600."""
        return int(self._unix()) // 3600

    def take(self) -> dict[Key, int]:
        """All that was counted since this was last called."""
        counts, self._counts = self._counts, {}
        return counts
