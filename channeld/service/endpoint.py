"""One node of the config: what it said of the ledger, how it is, and what is held against it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

from channeld.core.errors import Malformed
from channeld.core.ledger import LedgerHeader, NodeFacts
from channeld.core.units import LedgerIndex
from channeld.service.ports import NodeSession

UNKNOWN_AGE_S: Final = 86_400.0
"""Taken as the age of a ledger of which a node does not say it: too old for anything, until the next one comes."""
_FIRST_BLAME_S: Final = 2.0
_LONGEST_BLAME_S: Final = 10.0
HEADERS_KEPT: Final = 256
"""Of one node, and of those that were agreed."""


@dataclass(slots=True, eq=False)
class Endpoint:
    """A node: what it said, and how it is. `headers` are those it announced on its present connection.

    `name` is short and stable, fit for a metric's label. `problem` says why it is not used now, None if nothing is
    known against it. `first` is the ledger that it had when it was connected, and when that was new. Times are
    monotonic seconds.
    """

    url: str
    name: str
    session: NodeSession | None = None
    facts: NodeFacts | None = None
    newest: LedgerHeader | None = None
    heard_at: float | None = None
    latency_s: float = 0.0
    problem: str | None = "not connected yet"
    headers: dict[LedgerIndex, LedgerHeader] = field(default_factory=dict)
    first: tuple[LedgerIndex, float] | None = None
    blamed_until: float = 0.0
    blames: int = 0
    skipped: int = 0

    def hear(self, header: LedgerHeader, now: float) -> None:
        """It announced a validated ledger. Raises `Malformed` if it told another one of that index before."""
        before = self.headers.setdefault(header.index, header)
        if before != header:
            raise Malformed(f"told two different ledgers {header.index}")
        self.heard_at = now
        if self.first is None:
            self.first = (header.index, now - self._told_age(header))
        if self.newest is None or header.index > self.newest.index:
            self.newest = header
        while len(self.headers) > HEADERS_KEPT:
            del self.headers[next(iter(self.headers))]

    def age_s(self, index: LedgerIndex, now: float) -> float:
        """Seconds since a ledger it announced was new: 0, but for the first of a connection, which was there before."""
        return now - self.first[1] if self.first is not None and self.first[0] == index else 0.0

    def _told_age(self, header: LedgerHeader) -> float:
        """The age of its newest ledger as it told it, in seconds; 0 for one that came since."""
        if self.facts is None or self.facts.age_s is None:
            return UNKNOWN_AGE_S
        return self.facts.age_s if header.index <= self.facts.complete_last else 0.0

    def blame(self, why: str, now: float) -> None:
        """An answer of it failed or was outvoted: others are preferred for a while, longer each time."""
        if now >= self.blamed_until:
            self.blames += 1
            self.blamed_until = now + min(_LONGEST_BLAME_S, _FIRST_BLAME_S * 2 ** min(self.blames - 1, 8))
        self.problem = why

    def pardon(self, now: float) -> None:
        """It was followed through a ledger; if that went without fault, what was against it is forgotten."""
        if now >= self.blamed_until:
            self.blames, self.problem = 0, None

    def lost(self, why: str) -> None:
        """The connection is gone, and what was said on it says nothing any more."""
        if self.session is not None:
            self.skipped += self.session.skipped
        self.session, self.newest, self.first, self.problem = None, None, None, why
        self.headers.clear()


def names_of(urls: Sequence[str]) -> list[str]:
    """host:port of each URL; a number is added where that names two."""
    names: list[str] = []
    for url in urls:
        parts = urlsplit(url)
        base = f"{parts.hostname}:{parts.port or (443 if parts.scheme == 'wss' else 80)}" if parts.hostname else url
        same = sum(name == base or name.startswith(f"{base}#") for name in names)
        names.append(f"{base}#{same + 1}" if same else base)
    return names
