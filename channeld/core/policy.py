"""The operator's policy as values: pools, what each concern may do in them, and guards that nothing overrides.

These are plain, immutable values: reading and checking the file is done elsewhere. Amounts are drops, times are
seconds. Bounds are given per field; a loader must refuse what lies outside them, for nothing here checks again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import Final

from channeld.core.budgets import Budget
from channeld.core.rules import Rule
from channeld.core.units import DAY_S, HOUR_S, ChannelId, Drops, RippleTime, Seconds
from channeld.core.vocabulary import PPM, Concern, Mode

URGENT_FEE_CAP: Final = Drops(100_000)
"""A tenth of an XRP: far less than any payout worth defending."""


@dataclass(frozen=True, slots=True)
class ChannelShape:
    """How large a channel of a pool is, and how many a payee may have.

    `min` (1 or more) goes into a new channel unless more is asked for. `max` (`min` or more) bounds what one channel
    holds unpaid (amount - balance), which is also the largest single request it could ever carry. `max_per_payee` is
    1..32, those not counted that are closing or about to end. `spare` (below `max_per_payee`) is how many more channels
    than the one in use are kept ready.
    """

    min: Drops
    max: Drops
    max_per_payee: int
    spare: int = 0


@dataclass(frozen=True, slots=True)
class FundTerms:
    """When a channel gets more, and how much.

    Funding is due when headroom falls below the larger of `low` and forecast demand over `runway_low`; it brings
    headroom up to the larger of `target` (above `low`) and forecast demand over `runway_target` (above `runway_low`),
    but not beyond forecast demand over `runway_high` (`runway_target` or more) where that is more than `low`.
    """

    low: Drops
    target: Drops
    runway_low: Seconds
    runway_target: Seconds
    runway_high: Seconds | None = None


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
class Anomaly:
    """What is done about a request when its server, user or payee spends many times what is usual for it.

    `slow_down`, `refuse` and `hold` are from how many times on, in millionths (None: never), each above the one before.
    Up to `least` drops, this hour of a server and today of the others, nothing is unusual. Who is slowed down gets
    `max_per_s` requests a second; who is refused may come again after `retry_after`.
    """

    slow_down: int | None
    refuse: int | None
    hold: int | None
    least: Drops
    max_per_s: int
    retry_after: Seconds

    def act(self, ratio: int) -> str | None:
        """What is done at so many millionths of what is usual."""
        steps = (("hold", self.hold), ("refuse", self.refuse), ("slow_down", self.slow_down))
        return next((act for act, above in steps if above is not None and ratio > above), None)


@dataclass(frozen=True, slots=True)
class Pool:
    """Channels that are kept alike: one wallet pays, one set of terms holds.

    `settle_delay` (seconds the payee has after a close request) and `cancel_after` (seconds from opening to a channel's
    fixed end, or None for no fixed end; longer than `settle_delay` + `life_margin`) are fixed in a channel when it
    opens. No claim is issued nearer than `life_margin` to the moment from which a payee would not have its full settle
    delay. `terms` names the concerns whose chains end in this pool's own terms: for the others, what no rule decides is
    left alone. Where it says to `trust_request`, a server's request may choose it by naming one
    of its `regions`. `max_locked_per_payee` (None: no cap) bounds what all channels of one payee hold unpaid.
    `anomaly` (None: nothing) is what is done about the unusual where no rule of `admit` acts.
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
    regions: tuple[str, ...] = ()
    terms: frozenset[Concern] = frozenset(Concern)
    trust_request: bool = False
    max_locked_per_payee: Drops | None = None
    anomaly: Anomaly | None = None


@dataclass(frozen=True, slots=True)
class ReceiveTerms:
    """Which channels that pay us are good enough to take claims on, and when what is held is collected.

    A claim is taken in where the channel's Amount is `min_amount` or more, its settle delay (seconds we have after its
    source requests a close) `min_settle_delay` or more, and its fixed end, if any, at least `min_life` away. It is
    collected once `worth` is held, or the oldest of it is `max_age` old; always when the source requested a close, and
    `before_end` (less than `min_life`) before a fixed end. With `close_with_last` that last one closes the channel.
    """

    min_amount: Drops
    min_settle_delay: Seconds
    min_life: Seconds
    worth: Drops
    max_age: Seconds
    before_end: Seconds
    close_with_last: bool = False


RECEIVE: Final = ReceiveTerms(
    min_amount=Drops(1000),
    min_settle_delay=HOUR_S,
    min_life=Seconds(7200),
    worth=Drops(5_000_000),
    max_age=DAY_S,
    before_end=HOUR_S,
)
"""What holds where a policy says nothing."""


@dataclass(frozen=True, slots=True)
class Tier:
    """A class of readers. `users` are names or globs; one tier of a policy may be the `default`.

    `trust_request` says that a server's request may name it. A `dedicated` tier has channels of its own for
    each user, and a spare beside them. `max_locked` bounds what all channels of the tier hold unpaid, and
    `max_locked_per_user` what those hold that only one user draws from (None: no cap).
    """

    name: str
    users: tuple[str, ...] = ()
    trust_request: bool = False
    dedicated: bool = False
    default: bool = False
    max_locked: Drops | None = None
    max_locked_per_user: Drops | None = None

    def has(self, user: str) -> bool:
        """Whether a user is listed here."""
        return any(fnmatchcase(user, pattern) for pattern in self.users)


@dataclass(frozen=True, slots=True)
class Cap:
    """At most `count` (1 or more), or else `ppm` millionths of however many there are, but always one."""

    count: int | None = None
    ppm: int = 0

    def of(self, total: int) -> int:
        """The cap for so many; 1 or more."""
        return self.count if self.count is not None else max(1, total * self.ppm // PPM)


@dataclass(frozen=True, slots=True)
class FreezeIf:
    """Stop everything but deadline work while `fact` is above `limit`."""

    fact: str
    limit: int


@dataclass(frozen=True, slots=True)
class Scope:
    """What an override is for: all that is named must fit; None fits everything. Something is named."""

    channel_id: ChannelId | None = None
    payee: str | None = None
    server: str | None = None
    pool: str | None = None
    tier: str | None = None

    def fits(self, *, channel_id: str | None, payee: str, server: str, pool: str, tier: str | None) -> bool:
        """Whether a channel (None: a payee without one) is meant."""
        pairs = (
            (self.channel_id, channel_id),
            (self.payee, payee),
            (self.server, server),
            (self.pool, pool),
            (self.tier, tier),
        )
        return all(named is None or named == given for named, given in pairs)


@dataclass(frozen=True, slots=True)
class Override:
    """A person's hand-brake: these concerns hold for the scope until a moment, and then it is as if it were not there.

    It stands above every rule and below deadline work.
    """

    scope: Scope
    concerns: frozenset[Concern]
    until: RippleTime
    why: str


@dataclass(frozen=True, slots=True)
class EarlyEnds:
    """How long a payee that closes its channels early waits for the next.

    Of its early ends within `window`, `free` (0..32) cost nothing. The next one makes it wait `first`, and each further
    one twice as long, up to `longest`, counted from the last of them.
    """

    free: int
    window: Seconds
    first: Seconds
    longest: Seconds


EARLY_ENDS: Final = EarlyEnds(free=3, window=DAY_S, first=Seconds(600), longest=Seconds(43_200))
"""What holds where a policy says nothing."""
NO_PURSE: Final = Drops(0)
LONGEST_WINDOW: Final = Seconds(30 * DAY_S)
"""The longest `EarlyEnds.window`: so long early ends are remembered."""


@dataclass(frozen=True, slots=True)
class Guards:
    """Bounds that no rule lifts.

    `treasury_floor`: drops a wallet keeps beside its reserve. `max_opens_per_ledger`: 1 or more, of all pools together.
    `ledger_lag`: seconds without a validated ledger after which issuing and deciding stop. `fee_cap`: most drops paid
    for one ordinary transaction, 10 or more; `urgent_fee_cap` (`fee_cap` or more) for a payout that a payee would lose
    if it came too late. `ticket_stock` (0..250): tickets every wallet keeps ready for new channels; when many are
    opened at once it makes more by itself, and each counts against its reserve until it is used. `demand_half_life`:
    seconds over which an observed rate loses half its weight. `max_closes_per_hour` bounds, pool by pool, closes that
    nothing forces (None: no bound). Any of `freeze_if` stops everything but deadline work. `early_ends` says how long a
    payee waits that keeps closing its channels.

    `deadline_purse`: drops for the fees of deadline work, of each wallet within any `deadline_window` (1 or more
    seconds). What is left of it a wallet keeps beside floor and reserve, and nothing else is paid from it. Where it is
    exhausted deadline work goes on, and people are told. 0: there is no purse, and no wallet keeps any.
    """

    treasury_floor: Drops
    max_opens_per_ledger: int
    ledger_lag: Seconds
    fee_cap: Drops
    demand_half_life: Seconds
    urgent_fee_cap: Drops = URGENT_FEE_CAP
    ticket_stock: int = 0
    max_closes_per_hour: Cap | None = None
    freeze_if: tuple[FreezeIf, ...] = ()
    early_ends: EarlyEnds = EARLY_ENDS
    deadline_purse: Drops = NO_PURSE
    deadline_window: Seconds = DAY_S


@dataclass(frozen=True, slots=True)
class Policy:
    """Everything an operator tunes, as one value. `hash` is the canonical SHA-256 (hex) of what the file says.

    `rules` has a chain for each concern that has rules. `modes` has the mode in force for each concern, `APPLY` where
    it is not there. `receive` is about channels that pay us.
    """

    schema: int
    pools: Mapping[str, Pool]
    guards: Guards
    hash: str
    rules: Mapping[Concern, tuple[Rule, ...]] = field(default_factory=lambda: MappingProxyType({}))
    modes: Mapping[Concern, Mode] = field(default_factory=lambda: MappingProxyType({}))
    tiers: Mapping[str, Tier] = field(default_factory=lambda: MappingProxyType({}))
    budgets: tuple[Budget, ...] = ()
    overrides: tuple[Override, ...] = ()
    receive: ReceiveTerms = RECEIVE

    def chain(self, concern: Concern) -> tuple[Rule, ...]:
        """The operator's rules for a concern, in order; the pool's own terms come after them."""
        return self.rules.get(concern, ())

    @property
    def asks_for_fees(self) -> bool:
        """Whether anything depends on what the network asks now."""
        asked = {fact for chain in self.rules.values() for rule in chain for fact in rule.match}
        asked |= {condition.fact for condition in self.guards.freeze_if}
        return not asked.isdisjoint({"network_fee_drops", "fee_ratio"})

    @property
    def caps_capital(self) -> bool:
        """Whether it bounds what is locked for tiers, users or payees."""
        tiers = any(t.max_locked is not None or t.max_locked_per_user is not None for t in self.tiers.values())
        return tiers or any(pool.max_locked_per_payee is not None for pool in self.pools.values())

    def mode(self, concern: Concern) -> Mode:
        """How far the engine goes about a concern."""
        return self.modes.get(concern, Mode.APPLY)
