"""What a decision is based on: validated ledgers, our own store, the intents still open, and nothing else.

`decide` sees the world only through these values. Time is the close time of the last validated ledger; the one other
clock is `lag_s`, how long ago, in monotonic seconds, that close was seen.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from channeld.core.channel import Channel
from channeld.core.demand import Rate
from channeld.core.intents import Intent, Kind
from channeld.core.ledger import AccountState, Fees
from channeld.core.policy import Guards
from channeld.core.units import ChannelId, Drops, Payee, RippleTime, drawn_by


class Reason(enum.Enum):
    """Why something was left alone: a closed set, shown by explain, log and metric."""

    WITHIN_BAND = "within_band"
    IN_FLIGHT = "in_flight"
    CLOSING = "closing"
    COOLDOWN = "cooldown"
    FROZEN_LAG = "frozen_lag"
    FROZEN = "frozen"
    NO_DEMAND = "no_demand"
    NO_POOL = "no_pool"
    TOO_LARGE = "too_large"
    CHANNELS_PER_PAYEE = "channels_per_payee"
    GUARD_RATE = "guard_rate"
    GUARD_TREASURY = "guard_treasury"
    CAP_LOCKED = "cap_locked"
    CAP_CHANNELS = "cap_channels"
    CAP_TIER = "cap_tier"
    CAP_USER = "cap_user"
    CAP_PAYEE = "cap_payee"
    NO_WALLET = "no_wallet"
    NOTHING_HELD = "nothing_held"
    EXPIRED = "expired"
    RULE = "rule"
    """A rule of the policy says hold; the path names it."""
    NO_RULE = "no_rule"
    LOW_CONFIDENCE = "low_confidence"
    """A rule would act, were more known of the payee's demand."""
    OVERRIDE = "override"
    OBSERVED = "observed"
    SUGGESTED = "suggested"
    BELOW_MIN_STEP = "below_min_step"
    BUDGET_EXHAUSTED = "budget_exhausted"
    FROZEN_RECONCILE = "frozen_reconcile"
    FEE_CLIMATE = "fee_climate"
    PATIENCE = "patience"
    EARLY_ENDS = "early_ends"
    """Its payee keeps closing its channels: the next is opened later."""
    NOTICE_PENDING = "notice_pending"
    SPARE = "spare"
    """Nobody uses it, and it stays all the same: it stands by for one that is in use."""


@dataclass(frozen=True, slots=True)
class ChannelView:
    """A channel of ours with what the store knows of it.

    `issuing` is false once an intent to close it was written down. `unredeemed_since` is the close time as of which
    something was first owed (None: nothing is). `pending` is the kind of the one intent open on it. What failed at the
    close time `failed_at` is not repeated before `retry_at`; None: nothing cools down.

    It was last funded at `funded_at` and paid out at `settled_at`: decided then, whatever came of it (None: never).

    `away` is for how many seconds since its last use we ourselves were not there. A rule has wanted it closed with
    notice since `due_since`, and its servers were told at `noticed_at` (None: not so), both later by what we were away.
    `tier` is the one it was opened for, empty for none.
    """

    channel: Channel
    authorized: int
    issuing: bool
    server: str
    opened_at: RippleTime
    last_claim_at: RippleTime
    unredeemed_since: RippleTime | None
    pending: Kind | None
    retry_at: RippleTime | None
    failed_at: RippleTime | None
    away: int = 0
    due_since: RippleTime | None = None
    noticed_at: RippleTime | None = None
    funded_at: RippleTime | None = None
    settled_at: RippleTime | None = None
    tier: str = ""

    def idle(self, now: RippleTime) -> int:
        """Seconds in which nobody used it though we were there."""
        return max(0, now - max(self.last_claim_at, self.opened_at) - self.away)


@dataclass(frozen=True, slots=True)
class GroupView:
    """All channels of one payee in one pool that are shared, or all of one `user`; and what was asked for in vain.

    `wanted` is the headroom (drops) that the largest refused request needs, 0 if none; `server` is who asked for it
    last, whose caps a new channel counts against; `opening` counts open intents in flight. `tier` is that of those who
    draw from it, None where nobody knows. `early_ends` are when channels of its payee, in whatever pool, were closed by
    the payee before their time, in order. `opened_at` is when a channel was last decided to be opened, None: never.
    """

    pool: str
    payee: Payee
    server: str
    channels: tuple[ChannelView, ...]
    opening: int
    wanted: int
    rate: Rate
    retry_at: RippleTime | None = None
    user: str = ""
    tier: str | None = None
    early_ends: tuple[RippleTime, ...] = ()
    opened_at: RippleTime | None = None

    @property
    def subject(self) -> str:
        """What names it in its pool."""
        return drawn_by(self.payee, self.user)

    @property
    def key(self) -> tuple[str, str]:
        """What orders groups and names one: pool and subject."""
        return (self.pool, self.subject)


@dataclass(frozen=True, slots=True)
class WalletView:
    """A paying wallet: its account as validated, and what open intents will take from it at worst.

    `free_tickets` are tickets that no open intent will use: a channel opened by one adds no owned object, for the
    ticket goes as the channel comes. `purse` is what is left of its purse for deadline work, open intents at their
    worst: negative where they go beyond it.
    """

    account: AccountState
    committed_drops: int
    committed_objects: int
    free_tickets: int = 0
    purse: int = 0

    def spendable(self, fees: Fees, guards: Guards, *, drops: int = 0, objects: int = 0, drawn: int = 0) -> int:
        """Drops it may still part with once `drops` more are spent, `drawn` of them from the purse, and `objects` more
        are owned; may be negative.

        The reserve, what is left of the purse, the operator's floor and one worst-case fee are set aside.
        """
        floor = guards.treasury_floor + guards.fee_cap
        return self.beside_reserve(fees, drops=drops, objects=objects) - max(0, self.purse - drawn) - floor

    def beside_reserve(self, fees: Fees, *, drops: int = 0, objects: int = 0) -> int:
        """What it has beside the ledger's reserve, once `drops` more are spent and `objects` more are owned."""
        kept = fees.reserve(self.account.owner_count + self.committed_objects + objects)
        return self.account.balance - self.committed_drops - drops - kept


@dataclass(frozen=True, slots=True)
class ServerView:
    """A content server's use of its caps: drops and channels that were opened for it, those in flight included."""

    locked: int
    channels: int
    max_locked: int
    max_channels: int


@dataclass(frozen=True, slots=True)
class Pulse:
    """A pool as a whole: its live channels, and those of them and of former ones that were closed in the last hour
    though nothing forced it, in flight included.
    """

    channels: int
    closed: int


@dataclass(frozen=True, slots=True)
class World:
    """Everything a decision may depend on.

    `opens_in_flight` counts open intents to open a channel in all groups, shown here or not; `opens_decided` those of
    them that were decided on this very ledger. `network_fee` is what the network asks for one ordinary transaction,
    None where nobody told. `difference` is by how many drops the ledger, read whole, was off. `halted` are wallets for
    which only what is owed is paid. `pulses` are by pool, `used` is what each budget has used, by name, with the worst
    case of everything in flight; `locked` is what is locked by the names of `core.caps`, in flight included.
    """

    close_time: RippleTime
    lag_s: float
    fees: Fees
    groups: tuple[GroupView, ...]
    wallets: Mapping[str, WalletView]
    servers: Mapping[str, ServerView]
    opens_in_flight: int
    opens_decided: int = 0
    network_fee: Drops | None = None
    difference: int = 0
    halted: frozenset[str] = frozenset()
    pulses: Mapping[str, Pulse] = field(default_factory=lambda: MappingProxyType({}))
    used: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    locked: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True)
class Hold:
    """Something was left alone.

    `subject` is a channel id or a payee; `until` is when to look again, None: when it changes. `path` names the rules
    that held, concern by concern, as `concern/rule`.
    """

    subject: str
    group: tuple[str, str]
    reason: Reason
    until: RippleTime | None = None
    path: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Notice:
    """How far closing a channel with notice has come: a rule wants it since `due_since`, its servers are to be told at
    `noticed_at` (None: as it was), or all of it is `withdrawn`.
    """

    group: tuple[str, str]
    channel_id: ChannelId
    due_since: RippleTime | None = None
    noticed_at: RippleTime | None = None
    withdrawn: bool = False


@dataclass(frozen=True, slots=True)
class Planned:
    """An intent and the group it is for."""

    group: tuple[str, str]
    intent: Intent


@dataclass(frozen=True, slots=True)
class Decision:
    """One answer for every channel and every unmet want shown: an intent, or the reason for none.

    `suggested` is what would be done, were its concern's mode `apply`; its subjects are held. `notices` are what
    changes of closes with notice.
    """

    planned: tuple[Planned, ...]
    holds: tuple[Hold, ...]
    suggested: tuple[Planned, ...] = ()
    notices: tuple[Notice, ...] = ()
