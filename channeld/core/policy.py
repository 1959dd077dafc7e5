"""The operator's policy as values: pools, what each concern may do in them, and guards that nothing overrides.

These are plain, immutable values: reading and checking the file is done elsewhere. Amounts are drops, times are
seconds. Bounds are given per field; a loader must refuse what lies outside them, for nothing here checks again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from channeld.core.units import Drops, Seconds

URGENT_FEE_CAP: Final = Drops(100_000)
"""A tenth of an XRP: far less than any payout worth defending."""


@dataclass(frozen=True, slots=True)
class ChannelShape:
    """How large a channel of a pool is, and how many a payee may have.

    `min` (1 or more) goes into a new channel unless more is asked for. `max` (`min` or more) bounds what one channel
    holds unpaid (amount - balance), which is also the largest single request it could ever carry. `max_per_payee` is
    1..32.
    """

    min: Drops
    max: Drops
    max_per_payee: int


@dataclass(frozen=True, slots=True)
class FundTerms:
    """When a channel gets more, and how much.

    Funding is due when headroom falls below the larger of `low` and forecast demand over `runway_low`; it brings
    headroom up to the larger of `target` (above `low`) and forecast demand over `runway_target` (above `runway_low`).
    """

    low: Drops
    target: Drops
    runway_low: Seconds
    runway_target: Seconds


@dataclass(frozen=True, slots=True)
class SettleTerms:
    """When what was signed is paid out: once it is worth it, or once the oldest unpaid claim is too old.

    `worth` is 1 or more drops unredeemed; `max_age` is 1 or more seconds.
    """

    worth: Drops
    max_age: Seconds


@dataclass(frozen=True, slots=True)
class CloseTerms:
    """When an unused channel is closed: no claim for `idle` (1 or more), and the channel older than `min_age` (0 or
    more).
    """

    idle: Seconds
    min_age: Seconds


@dataclass(frozen=True, slots=True)
class Pool:
    """Channels that are kept alike: one wallet pays, one set of terms holds.

    `settle_delay` (seconds the payee has after a close request) and `cancel_after` (seconds from opening to a channel's
    fixed end, or None for no fixed end; longer than `settle_delay` + `life_margin`) are fixed in a channel when it
    opens. No claim is issued nearer than `life_margin` to the moment from which a payee would not have its full settle
    delay.
    """

    name: str
    wallet: str
    settle_delay: Seconds
    cancel_after: Seconds | None
    life_margin: Seconds
    channel: ChannelShape
    fund: FundTerms
    settle: SettleTerms
    close: CloseTerms


@dataclass(frozen=True, slots=True)
class Guards:
    """Bounds that no rule lifts.

    `treasury_floor`: drops a wallet keeps beside its reserve. `max_opens_per_ledger`: 1 or more, of all pools together.
    `ledger_lag`: seconds without a validated ledger after which issuing and deciding stop. `fee_cap`: most drops paid
    for one ordinary transaction, 10 or more; `urgent_fee_cap` (`fee_cap` or more) for a payout that a payee would lose
    if it came too late. `ticket_stock` (0..250): tickets every wallet keeps ready for new channels; when many are
    opened at once it makes more by itself, and each counts against its reserve until it is used. `demand_half_life`:
    seconds over which an observed rate loses half its weight.
    """

    treasury_floor: Drops
    max_opens_per_ledger: int
    ledger_lag: Seconds
    fee_cap: Drops
    demand_half_life: Seconds
    urgent_fee_cap: Drops = URGENT_FEE_CAP
    ticket_stock: int = 0


@dataclass(frozen=True, slots=True)
class Policy:
    """Everything an operator tunes, as one value. `hash` is the canonical SHA-256 (hex) of what the file says."""

    schema: int
    pools: Mapping[str, Pool]
    guards: Guards
    hash: str
