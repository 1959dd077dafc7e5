"""How much headroom is enough: inventory control by (s, S).

Funding is reordering. Below s more is ordered, and what is ordered brings headroom up to S; an order takes effect after
one or two ledgers. The policy's `runway` says s and S in time of forecast demand; where it says no `low`, s is what is
likely to be enough until an order takes effect. A rule's `horizon` and `quantile` say S otherwise: as much as is
enough for so long, with that probability. Without them S is the forecast for `runway.target`, too little as often as
too much.
"""

from __future__ import annotations

from typing import Final

from channeld.core.chains import Verdict
from channeld.core.demand import Rate
from channeld.core.vocabulary import PPM

LEAD_S: Final = 30
"""Seconds until what is decided can be signed on: two slow ledgers, and some waiting behind others."""
LEAD_QUANTILE: Final = PPM * 99 // 100
"""How likely headroom lasts until then, where no rule says."""


def reorder_point(rate: Rate, runway_low: int, quantile: int = 0) -> int:
    """s, in drops: `runway_low` seconds of forecast demand; 0: what is enough for the lead time."""
    return rate.need(runway_low) if runway_low else rate.likely(LEAD_S, quantile or LEAD_QUANTILE)


def order_up_to(rate: Rate, verdict: Verdict) -> int:
    """S, in drops, by the rules' `horizon`, `quantile` and `runway`; what `runway.high` says is not looked at."""
    horizon = verdict.number("horizon") or verdict.band("runway").target
    return rate.likely(horizon, verdict.number("quantile"))
