"""One group of requests while it is decided: what it found, what it takes, what comes of each request.

Nothing here outlives the group, and nothing in it has happened before the store has taken it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from channeld.core.records import Remembered
from channeld.core.requests import Refusal, SignedClaim
from channeld.core.units import Payee
from channeld.service.holdings import ChannelState, Grant, Group

Slot = tuple[ChannelState, bytes, int, int, str]
"""An accepted request: its channel, the hash of its contents, the slice from and to, and whose it is."""


@dataclass(frozen=True, slots=True)
class Again:
    """A request that the same group accepted already."""

    slot: Slot


@dataclass(slots=True)
class Way:
    """Where a content server's requests for a payee go: the same for a whole group of them.

    `refusal` is why nothing may be issued there; a channel holds `largest` drops at most.
    """

    payee: Payee
    group: Group
    refusal: Refusal | None
    largest: int
    low: bool | None = None
    """Whether it was seen to run low; None: nothing was placed yet."""


@dataclass(slots=True)
class Counter:
    """What one content server has before it in a group. `left` is what it may still spend today; `free`: the policy
    asks nothing of its requests. Once the group has taken `room` ids, this server may take `own` of them in all. `ways`
    are kept for requests that name nothing but a payee.
    """

    grant: Grant
    left: int
    free: bool
    room: int
    own: int
    ways: dict[Payee | None, Way] = field(default_factory=dict)


@dataclass(slots=True)
class Grouped:
    """One group being decided. Nothing in it has happened before the store has taken it."""

    known: dict[bytes, Remembered]
    now: int
    stopped: str | None
    room: int
    """Ids that may still be remembered."""
    counters: dict[str, Counter | None] = field(default_factory=dict)
    accepted: dict[bytes, Slot] = field(default_factory=dict)
    authorized: dict[ChannelState, int] = field(default_factory=dict)
    headroom: dict[ChannelState, int] = field(default_factory=dict)
    spent: dict[str, int] = field(default_factory=dict)
    claims: dict[ChannelState, SignedClaim | Refusal] = field(default_factory=dict)
    replayed: dict[tuple[int, int], SignedClaim | Refusal] = field(default_factory=dict)

    def has_share(self, server: str, counter: Counter) -> bool:
        """Whether there is an id for a server that has had few."""
        if len(self.accepted) >= self.room or not counter.own:
            return False
        return sum(slot[4] == server for slot in self.accepted.values()) < counter.own


Outcome = Refusal | Remembered | Again | Slot | Group
"""What comes of a request: a refusal, what it was accepted as before or is now, or who must get a channel first."""
