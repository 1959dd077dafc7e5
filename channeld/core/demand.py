"""What a payee will need: a forecast as it is shown to `decide`, with how sure it is.

Demand is a base rate that follows what was asked for (`core.trace`), spread over the hours of the week by a shape
(`core.rhythm`). What is likely to be enough for a horizon h is

    need(h) + z(quantile) sigma(h)          sigma(h) = spread * max(h / W, sqrt(h / W)),   W = 6 hours

the forecast and a safety stock, as in inventory control: z is the quantile of the normal distribution, `spread` the
standard deviation of what came in a span W around its forecast. Within W errors are taken to be of chance, which adds
them up by the root; beyond it to be of the level, which goes on: so the larger of the two is taken everywhere.

Sources: E. A. Silver, D. F. Pyke and D. J. Thomas, Inventory and Production Management in Supply Chains (reorder points
and safety stock from forecast errors).
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from math import isqrt
from typing import Final

from channeld.core.rhythm import UNIT, Shape, Tilt, curve
from channeld.core.units import HOUR_S, RippleTime

SPAN_S: Final = 6 * HOUR_S
"""W: forecasts are compared with what came over this span."""
MILLION: Final = 1_000_000
_QUANTILES: Final = (
    *(500_000, 550_000, 600_000, 650_000, 700_000, 750_000, 800_000, 850_000, 900_000, 925_000, 950_000, 965_000),
    *(975_000, 985_000, 990_000, 995_000, 998_000, 999_000, 999_500, 999_900, 999_990, 999_999),
)
_SCORES: Final = (
    *(0, 125_661, 253_347, 385_320, 524_401, 674_490, 841_621, 1_036_433, 1_281_552, 1_439_531, 1_644_854, 1_811_911),
    *(1_959_964, 2_170_090, 2_326_348, 2_575_829, 2_878_162, 3_090_232, 3_290_527, 3_719_016, 4_264_891, 4_753_424),
)
"""The normal distribution's scores at these quantiles, all in millionths; what lies between is read off the chord."""


@dataclass(frozen=True, slots=True)
class Rate:
    """The forecast for a payee as of `at`: an integer base rate in micro-drops per second of a mean hour.

    `shape` is its pool's week and `tilt` how its own day differs from that; empty ones are even. `spread` is the
    standard deviation (drops) of what comes in `SPAN_S` around its forecast. `error` is how far forecasts were off
    against what came, and `returns` how likely a payee that is silent as long as this one is to come back, both in
    millionths; None: not known.
    """

    micro_drops_per_s: int
    at: RippleTime
    shape: Shape = ()
    tilt: Tilt = ()
    spread: int = 0
    error: int | None = None
    returns: int | None = None

    @property
    def even(self) -> bool:
        """Whether all hours are alike."""
        return not (self.shape or self.tilt)

    def need(self, horizon_s: int) -> int:
        """Drops that will be asked for within `horizon_s` if it goes on like this."""
        if self.even or not self.micro_drops_per_s:
            return self.micro_drops_per_s * horizon_s // MILLION
        span = curve(self.shape, self.tilt).between(self.at, self.at + horizon_s)
        return self.micro_drops_per_s * span // (MILLION * UNIT)

    def likely(self, horizon_s: int, quantile: int) -> int:
        """Drops that are enough for `horizon_s` with a probability of `quantile`: 500 000 or more millionths."""
        if horizon_s >= SPAN_S:
            sigma = self.spread * horizon_s // SPAN_S
        else:
            sigma = isqrt(self.spread * self.spread * horizon_s // SPAN_S)
        return self.need(horizon_s) + score(quantile) * sigma // MILLION

    def lasts(self, drops: int, longest_s: int) -> int:
        """Seconds for which so many drops are enough if it goes on like this; at most `longest_s`."""
        if self.micro_drops_per_s <= 0:
            return longest_s
        if self.even:
            return min(longest_s, drops * MILLION // self.micro_drops_per_s)
        span = drops * MILLION * UNIT // self.micro_drops_per_s
        return min(longest_s, curve(self.shape, self.tilt).reach(self.at, span))


def score(quantile: int) -> int:
    """How many standard deviations above the mean a quantile lies, both in millionths; 0 for half and below."""
    above = bisect_right(_QUANTILES, quantile)
    if above == 0:
        return 0
    if above == len(_QUANTILES):
        return _SCORES[-1]
    (q, r), (z, y) = _QUANTILES[above - 1 : above + 1], _SCORES[above - 1 : above + 1]
    return z + (y - z) * (quantile - q) // (r - q)
