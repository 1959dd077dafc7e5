"""One group of requests while it is decided: what it found, what it takes, what comes of each request.

Nothing here outlives the group, and nothing in it has happened before the store has taken it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from channeld.core.records import ChannelRecord, Remembered
from channeld.core.requests import Granted, Refusal, SignedClaim
from channeld.core.units import Payee
from channeld.service.holdings import ChannelState, Grant, Group
from channeld.service.id_room import Room


@dataclass(slots=True, eq=False)
class Line:
    """A channel that a group draws from: it holds `amount`, of which `found` could be signed at first, and `left` now.

    `row` is its number in the store. `claim` is what its requests are answered with: for how much is known once all are
    decided, and it is signed once they are on disk.
    """

    state: ChannelState
    row: int
    amount: int
    found: int
    left: int
    claim: SignedClaim


Slot = tuple[Line, bytes, int, int, str]
"""An accepted request: its channel, the hash of its contents, the slice from and to, and whose it is."""


@dataclass(slots=True)
class Way:
    """Where a content server's requests for a payee go: the same for a whole group of them.

    `refusal` is why nothing may be issued there; a channel holds `largest` drops at most. `line` took the last one.
    """

    payee: Payee
    group: Group
    refusal: Refusal | None
    largest: int
    line: Line | None = None
    low: bool | None = None
    """Whether it was seen to run low; None: nothing was placed yet."""

    def carries(self, drops: int) -> Line | None:
        """The channel that took the last request, if it is still the one in use and has as much left."""
        line = self.line
        if line is None or drops > line.left or drops > self.largest or line.state is not self.group.current:
            return None
        return line


@dataclass(slots=True)
class Counter:
    """What one content server has before it in a group. It may spend `allowed` today, `left` of it after what the group
    took. `free`: the policy asks nothing of its requests, and there are ids for all. `ways` are kept for requests that
    name nothing but a payee.
    """

    grant: Grant
    allowed: int
    left: int
    free: bool
    ways: dict[Payee | None, Way] = field(default_factory=dict)

    @property
    def spent(self) -> int:
        """Drops that the group took."""
        return self.allowed - self.left


@dataclass(slots=True)
class Grouped:
    """One group of requests being decided. Nothing in it has happened before the store has taken it."""

    known: dict[bytes, Remembered]
    now: int
    stopped: str | None
    room: Room
    counters: dict[str, Counter | None] = field(default_factory=dict)
    accepted: dict[bytes, Slot] = field(default_factory=dict)
    lines: dict[ChannelState, Line] = field(default_factory=dict)
    spent: dict[str, int] = field(default_factory=dict)
    """Drops by subject, those of servers as they were when it was last looked at."""
    drawn: list[Line] = field(default_factory=list)
    records: dict[int, ChannelRecord | None] = field(default_factory=dict)
    """Channels that are gone, by row, as far as repeats asked for them."""

    def draw(self) -> list[Line]:
        """Everything is decided: the channels that it takes something from, with how far they are to be signed."""
        self.drawn = [line for line in self.lines.values() if line.left < line.found]
        for line in self.drawn:
            line.claim.amount = line.amount - line.left
        return self.drawn

    def spent_by_all(self) -> dict[str, int]:
        """Drops by subject, those of servers as they are now."""
        servers = {server: counter.spent for server, counter in self.counters.items() if counter}
        return {subject: drops for subject, drops in (self.spent | servers).items() if drops}


Outcome = Granted | Refusal | Remembered | Group
"""What comes of a request: a refusal, what it was accepted as before or is now, or who must get a channel first."""

Placed = tuple[Way, Line] | Group | Refusal
"""Where a request finds its drops, or what comes of it instead."""
