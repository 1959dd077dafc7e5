"""How many requests a second: a bucket of tokens in whole nanoseconds.

A bucket is one number, the moment at which everything let through so far would be paid for at the configured rate. It
may lie up to a second in the future: that second is what may come at once after a pause.

Sources: the generic cell rate algorithm, ITU-T I.371 annex A, in its virtual scheduling form.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

SECOND_NS: Final = 1_000_000_000
LONGEST_RETRY_NS: Final = 60 * SECOND_NS
"""A refused request is never told to wait longer: nobody knows more about a minute hence."""


@dataclass(frozen=True, slots=True)
class Limit:
    """What one server, or all of them together, may do: requests a second (1..1000000), and requests waiting (1 up)."""

    max_requests_per_s: int
    max_in_flight: int


class Bucket:
    """Lets through at most `per_s` requests a second, and after a pause `ahead_ns` worth at once: a second's, if
    nothing else is said. `among` divides the rate by so many.

    In any span of t seconds it lets through at most `per_s` * (t + ahead) requests and the count of one call: a call
    that finds any room passes whole, so that no count is too large to ever pass. Times are nanoseconds of one clock
    that never goes back.
    """

    __slots__ = ("_ahead", "_gap", "_paid_at", "_promised")

    def __init__(self, per_s: int, *, among: int = 1, ahead_ns: int = SECOND_NS) -> None:
        self._gap = -(-SECOND_NS * among // per_s)
        self._ahead = ahead_ns
        self._paid_at = 0
        self._promised = 0

    def take(self, now: int, count: int) -> bool:
        """Whether `count` requests may pass; then they are counted."""
        paid_at = self._paid_at
        if paid_at > now + self._ahead:
            return False
        self._paid_at = (paid_at if paid_at > now else now) + count * self._gap
        return True

    def spend(self, now: int, count: int) -> None:
        """Count requests that pass whether there is room or not."""
        self._paid_at = max(self._paid_at, now) + count * self._gap

    def give_back(self, count: int) -> None:
        """What was taken did not pass after all."""
        self._paid_at -= count * self._gap

    def promise(self, now: int, count: int) -> int:
        """Nanoseconds after which a refused call may come again; everyone refused gets a moment of its own."""
        free_at = max(self._paid_at - self._ahead, self._promised, now)
        self._promised = min(free_at + count * self._gap, now + LONGEST_RETRY_NS)
        return self._promised - now
