"""What the content servers experienced, counted as it happens: one tally for all of them.

It is the first of three independent witnesses at the end; the daemon's store and the ledger are the others.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from channeld.wire.requests import request_key

_MOST_PROBLEMS: Final = 100


class Bought(NamedTuple):
    """An accepted request: its key in the store, and the slice of a channel it got. `amount` is the claim's."""

    key: bytes
    channel_id: str
    covers_from: int
    covers_to: int
    drops: int
    amount: int

    @classmethod
    def of(cls, server: str, reply: dict[str, Any]) -> Bought:
        """Read an accepted reply whose fields were checked before."""
        claim, covers = reply["claim"], reply["covers"]
        return cls(
            request_key(server, "claim", reply["id"]),
            claim["channel_id"],
            int(covers["from"]),
            int(covers["to"]),
            int(reply["drops"]),
            int(claim["amount"]),
        )


class Replay(NamedTuple):
    """An id that was asked for again: what it bought and which signature came, first and again; was it called one?"""

    first: tuple[Bought, str]
    again: tuple[Bought, str]
    marked: bool


class Slices:
    """The drops of one channel that were bought, as disjoint spans in ascending order."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []

    def add(self, start: int, end: int) -> bool:
        """Add start..end (exclusive); False, and nothing added, if a part of it was bought before or it is empty."""
        after = bisect_right(self._ends, start)
        if start >= end or (after < len(self._starts) and self._starts[after] < end):
            return False
        low = bisect_left(self._ends, start)  # a span that ends just here is grown
        high = after + (after < len(self._starts) and self._starts[after] == end)
        self._starts[low:high] = [self._starts[low] if low < after else start]
        self._ends[low:high] = [self._ends[high - 1] if high > after else end]
        return True


@dataclass(slots=True)
class Tally:
    """Counts are of requests, not of messages: every item of a batch is one. `latencies_s` are of messages.

    `in_vain` counts refusals of requests that had waited as long as an earlier refusal told them.
    """

    sent: int = 0
    accepted: int = 0
    replayed: int = 0
    rejected: dict[str, int] = field(default_factory=dict)
    in_vain: int = 0
    verified: int = 0
    drops: int = 0
    bought: list[Bought] = field(default_factory=list)
    replays: list[Replay] = field(default_factory=list)
    highest: dict[str, int] = field(default_factory=dict)
    slices: dict[str, Slices] = field(default_factory=dict)
    latencies_s: array[float] = field(default_factory=lambda: array("d"))
    problems: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    @property
    def answered(self) -> int:
        """Requests that were answered, one way or the other."""
        return self.accepted + self.replayed + sum(self.rejected.values())

    def accept(self, bought: Bought) -> None:
        """Count a request that was accepted for the first time, and keep the highest claim of its channel."""
        self.accepted += 1
        self.drops += bought.drops
        self.bought.append(bought)
        self.highest[bought.channel_id] = max(bought.amount, self.highest.get(bought.channel_id, 0))
        spans = self.slices.setdefault(bought.channel_id, Slices())
        if not spans.add(bought.covers_from, bought.covers_to):
            self.problem(f"{bought.channel_id}: {bought.covers_from}..{bought.covers_to} was bought before")

    def problem(self, text: str) -> None:
        """Keep what is wrong with a reply; of very many only the first hundred."""
        if len(self.problems) < _MOST_PROBLEMS:
            self.problems.append(text)
