"""What a payee will need: an observed rate of spending, and from it the drops needed over a horizon.

The rate is an exponentially weighted average over ledger time. It is a first, honest forecast: it knows no hours of the
day.
"""

from __future__ import annotations

from dataclasses import dataclass

from channeld.core.units import RippleTime


@dataclass(frozen=True, slots=True)
class Rate:
    """Micro-drops per second as of `at`; an integer, so that equal histories give equal decisions everywhere."""

    micro_drops_per_s: int
    at: RippleTime

    def observe(self, drops: int, now: RippleTime, half_life_s: int) -> Rate:
        """The rate after `drops` were asked for since `at`. `now` before or at `at` spreads them over one second.

        An interval of `half_life_s` gives the new observation half the weight; longer ones give it more.
        """
        elapsed = max(1, now - self.at)
        weight = elapsed * 1_000_000 // (elapsed + half_life_s)
        seen = drops * 1_000_000 // elapsed
        return Rate((self.micro_drops_per_s * (1_000_000 - weight) + seen * weight) // 1_000_000, max(now, self.at))

    def need(self, horizon_s: int) -> int:
        """Drops that will be asked for within `horizon_s` if it goes on like this."""
        return self.micro_drops_per_s * horizon_s // 1_000_000

    def lasts(self, drops: int, longest_s: int) -> int:
        """Seconds for which so many drops are enough if it goes on like this; at most `longest_s`."""
        if self.micro_drops_per_s <= 0:
            return longest_s
        return min(longest_s, drops * 1_000_000 // self.micro_drops_per_s)
