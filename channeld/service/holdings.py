"""What the mirror holds, each with what only matters while we run: channels, groups of them, wallets, and the servers'
grants.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from channeld.core.demand import Rate
from channeld.core.intents import Intent, Kind
from channeld.core.ledger import AccountState
from channeld.core.outcome import cooled_at, failed_at
from channeld.core.records import ChannelRecord, JournalEntry, Setback
from channeld.core.standing import Labels
from channeld.core.units import Address, LedgerIndex, Payee, RippleTime, drawn_by
from channeld.core.world import ChannelView, GroupView, Hold
from channeld.service.attendance import Attendance
from channeld.service.early_ends import EarlyEnds

GroupKey = tuple[str, Payee, str]
NO_TIME = RippleTime(0)


@dataclass(slots=True, eq=False)
class ChannelState:
    """A live channel of ours: the store's record of it, and what only matters while we run.

    `told` is false while content servers are still to be told of it as it is now: then no claim is issued on it. A rule
    has wanted it closed with notice since `due_since`, and its content servers were told of that at `noticed_at`. It
    was last decided to be funded at `funded_at`, and paid out at `settled_at`.
    """

    record: ChannelRecord
    id_bytes: bytes
    group: Group | None
    pending: Kind | None = None
    entry: JournalEntry | None = None
    setback: Setback | None = None
    told: bool = True
    due_since: RippleTime | None = None
    noticed_at: RippleTime | None = None
    funded_at: RippleTime | None = None
    settled_at: RippleTime | None = None

    def view(self, there: Attendance, now: RippleTime) -> ChannelView:
        """What `decide` may see of it at `now`."""
        r, setback = self.record, self.setback
        return ChannelView(
            channel=r.channel,
            authorized=r.authorized,
            issuing=r.issuing,
            server=r.server,
            opened_at=r.opened_at,
            last_claim_at=r.last_claim_at,
            unredeemed_since=r.unredeemed_since,
            pending=self.pending,
            retry_at=setback.retry_at if setback else None,
            failed_at=failed_at(setback) if setback else None,
            away=there.away(max(r.last_claim_at, r.opened_at), now),
            due_since=_later(self.due_since, there, now),
            noticed_at=_later(self.noticed_at, there, now),
            funded_at=self.funded_at,
            settled_at=self.settled_at,
            tier=r.tier,
        )

    def again_at(self, now: RippleTime) -> int | None:
        """When what failed is tried again, where the channel's end would forfeit what is owed; None: no such thing."""
        channel, authorized = self.record.channel, self.record.authorized
        if self.setback is None or channel.deadline is None or not channel.unredeemed(authorized):
            return None
        return cooled_at(channel, authorized, (self.setback.retry_at, failed_at(self.setback)), now)

    @property
    def refused(self) -> bool:
        """Whether the payee's account did not take the last payout."""
        return self.setback is not None and self.setback.refused


@dataclass(slots=True, eq=False)
class Group:
    """The channels of one payee in one pool that all share, or those of one `user`; and what was asked for in vain.

    `asked` is drops accepted or refused since its demand was last observed, `trace` what is kept of that, packed
    (empty: it never asked). A claim that leaves less than `low_mark` of headroom makes the group worth deciding at
    once, not only with the next ledger. `eta` is the monotonic time at which what is in flight should be usable.
    `answer` is the last reason for doing nothing about what is wanted, None while doing it. `suggested` is what would
    be done where the policy's mode only suggests. `current` is the channel that carries requests, None where that is to
    be found out. `early_ends` are those of all payees. A channel was last decided to be opened at `opened_at`.
    """

    pool: str
    payee: Payee
    user: str = ""
    tier: str | None = None
    channels: list[ChannelState] = field(default_factory=list)
    opening: int = 0
    wanted: int = 0
    wanted_by: str = ""
    asked: int = 0
    trace: bytes = b""
    low_mark: int = 0
    urged_at: LedgerIndex | None = None
    eta: float = 0.0
    answer: Hold | None = None
    suggested: tuple[Intent, ...] = ()
    setback: Setback | None = None
    current: ChannelState | None = None
    early_ends: EarlyEnds = field(default_factory=EarlyEnds)
    opened_at: RippleTime | None = None

    @property
    def servers(self) -> set[str]:
        """The content servers whose caps a decision about it may touch."""
        return {self.wanted_by, *(state.record.server for state in self.channels)}

    def view(self, there: Attendance, now: RippleTime, rate: Rate) -> GroupView:
        """What `decide` may see of it at `now`, with this forecast."""
        return GroupView(
            pool=self.pool,
            payee=self.payee,
            server=self.wanted_by,
            channels=tuple(state.view(there, now) for state in self.channels),
            opening=self.opening,
            wanted=self.wanted,
            rate=rate,
            retry_at=self.setback.retry_at if self.setback else None,
            user=self.user,
            tier=self.tier,
            early_ends=self.early_ends.of(self.payee),
            opened_at=self.opened_at,
        )

    @property
    def subject(self) -> str:
        """What names it in its pool."""
        return drawn_by(self.payee, self.user)


@dataclass(slots=True)
class Wallet:
    """An account of ours. `account` is None until a validated ledger showed it.

    `booked` is the balance that the transactions seen account for; None while that is not known. It is `bounded` where
    history is missing until the ledger is read whole: then it is the least that can be there. `difference` is by how
    many drops the last whole reading of the ledger was off.
    `pays`: it opens channels; `receives`: channels that pay it are followed, and claims on them taken in.
    `tickets_seen` are all tickets that the account holds as of the ledger about to be applied, None where nobody asked.
    """

    name: str
    address: Address
    claim_key: str
    account: AccountState | None = None
    booked: int | None = None
    bounded: bool = False
    tickets_seen: frozenset[int] | None = None
    difference: int = 0
    pays: bool = True
    receives: bool = False


@dataclass(frozen=True, slots=True)
class Grant:
    """What a content server may charge for: its payees with their pools, and the caps that bind it.

    `labels` are of those payees to which the operator gave a tier or a region. `receive_accounts` are those it may hand
    in claims for.
    """

    payees: Mapping[Payee, str]
    max_drops_per_day: int
    max_locked: int
    max_open_channels: int
    receive_accounts: frozenset[Address] = frozenset()
    labels: Mapping[Payee, Labels] = field(default_factory=lambda: MappingProxyType({}))


def _later(moment: RippleTime | None, there: Attendance, now: RippleTime) -> RippleTime | None:
    """A moment, put off by what we were away since."""
    return None if moment is None else RippleTime(moment + there.away(moment, now))
