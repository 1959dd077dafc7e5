"""The heart: from the world and the policy to intents, and to a reason for everything left alone.

`decide` is total and pure: equal worlds give equal decisions, in whatever order their parts are listed, and what is
already in flight is never decided again. Every channel has at most one open intent, so each gets exactly one answer.
The order of concerns on a channel is fixed:

    1. something is in flight, or a failure cools down     hold
    2. it is past its deadline                             finalize_close
    3. it is closing                                       settle what is owed, else hold
    4. issuing was stopped, or its life is over            request_close (which pays what is owed)
    5. nobody used it for too long                         request_close
    6. headroom runs out, or a request was refused         fund; settle first where that makes the room
    7. what is owed is worth a transaction, or too old     settle

A refused request is met by funding a channel the payee has, else by opening one. Money, channels per ledger and the
caps of a content server are taken from one running account while deciding, so that they bind across groups.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from channeld.core.channel import Phase
from channeld.core.intents import (
    Action,
    FinalizeClose,
    FundChannel,
    Intent,
    Kind,
    OpenChannel,
    RequestClose,
    SettleChannel,
)
from channeld.core.policy import Policy, Pool
from channeld.core.units import ChannelId, Drops, RippleTime, Seconds
from channeld.core.world import ChannelView, Decision, GroupView, Hold, Planned, Reason, World

OPENS_BACKLOG: Final = 4
"""Opens in flight never exceed so many ledgers' worth: when the network takes none, no more are piled up."""
UNUSED_GRACE_S: Final = 300
"""A channel that was never used is not closed as idle before: whoever asked for it was told to come again when it is
there, which can be more than two slow ledgers later, and comes when it pleases.
"""


@dataclass(slots=True)
class _Account:
    """What may still be spent while deciding: every intent takes its worst case from here."""

    world: World
    policy: Policy
    spent: dict[str, int] = field(default_factory=dict)
    objects: dict[str, int] = field(default_factory=dict)
    locked: dict[str, int] = field(default_factory=dict)
    opened: dict[str, int] = field(default_factory=dict)
    opens: int = 0

    def spendable(self, wallet: str, new_objects: int = 0) -> int:
        """Drops the wallet may still part with, one worst-case fee already set aside."""
        view = self.world.wallets[wallet]
        objects = max(0, self.objects.get(wallet, 0) - view.free_tickets) + new_objects
        drops = self.spent.get(wallet, 0)
        return view.spendable(self.world.fees, self.policy.guards, drops=drops, objects=objects)

    def lockable(self, server: str) -> int:
        """Drops that may still be locked for a content server; 0 for one that is not configured."""
        view = self.world.servers.get(server)
        return 0 if view is None else view.max_locked - view.locked - self.locked.get(server, 0)

    def may_open(self, server: str) -> Reason | None:
        """Why no further channel may be opened for a server now, or None."""
        most, world = self.policy.guards.max_opens_per_ledger, self.world
        if world.opens_decided + self.opens >= most or world.opens_in_flight + self.opens >= most * OPENS_BACKLOG:
            return Reason.GUARD_RATE
        view = self.world.servers.get(server)
        if view is None or view.channels + self.opened.get(server, 0) >= view.max_channels:
            return Reason.CAP_CHANNELS
        return None

    def take(self, wallet: str, server: str, drops: int, *, opens: bool) -> None:
        """Book `drops` and a worst-case fee; `opens` adds an owned object and a channel."""
        self.spent[wallet] = self.spent.get(wallet, 0) + drops + self.policy.guards.fee_cap
        self.locked[server] = self.locked.get(server, 0) + drops
        if opens:
            self.objects[wallet] = self.objects.get(wallet, 0) + 1
            self.opened[server] = self.opened.get(server, 0) + 1
            self.opens += 1


def decide(world: World, policy: Policy) -> Decision:
    """Say what is to be done now for every group in `world`, and why the rest is left alone.

    Never raises for a world whose values are in their bounds. Its own intents, shown back as pending, add nothing.
    """
    account = _Account(world, policy)
    planned: list[Planned] = []
    holds: list[Hold] = []
    for group in sorted(world.groups, key=lambda g: g.key):
        pool = policy.pools.get(group.pool)
        if pool is None or pool.wallet not in world.wallets:
            reason = Reason.NO_POOL if pool is None else Reason.NO_WALLET
            holds += _hold_all(group, reason)
        elif world.lag_s > policy.guards.ledger_lag:
            holds += _hold_all(group, Reason.FROZEN_LAG)
        else:
            _Group(group, pool, account, planned, holds).decide()
    return Decision(tuple(planned), tuple(holds))


def _hold_all(group: GroupView, reason: Reason) -> list[Hold]:
    subjects = sorted(view.channel.channel_id for view in group.channels)
    return [Hold(s, group.key, reason) for s in (*subjects, str(group.payee))]


@dataclass(slots=True)
class _Group:
    """Deciding for one payee in one pool."""

    group: GroupView
    pool: Pool
    account: _Account
    planned: list[Planned]
    holds: list[Hold]

    @property
    def now(self) -> RippleTime:
        return self.account.world.close_time

    def decide(self) -> None:
        """Answer for every channel of the group, then for what was asked in vain."""
        views = sorted(self.group.channels, key=lambda v: v.channel.channel_id)
        usable = [v for v in views if self._usable(v)]
        staying = (v for v in usable if self._close_reason(v) is None)
        carrier = max(staying, key=lambda v: (v.channel.headroom(v.authorized), v.channel.channel_id), default=None)
        answers = [self._channel(view, carries_demand=view is carrier) for view in views]
        for view, answer in zip(views, answers, strict=True):
            self._record(view.channel.channel_id, answer)
        self._record(str(self.group.payee), self._want(views, usable))

    def _record(self, subject: str, answer: Intent | Hold) -> None:
        if isinstance(answer, Intent):
            self.planned.append(Planned(self.group.key, answer))
        else:
            self.holds.append(answer)

    def _hold(self, subject: str, reason: Reason, until: int | None = None) -> Hold:
        return Hold(subject, self.group.key, reason, None if until is None else RippleTime(until))

    def _intent(self, action: Action, reason: str) -> Intent:
        return Intent(action, reason, self.account.policy.hash)

    # --- one channel -------------------------------------------------------------------------------------------------

    def _usable(self, view: ChannelView) -> bool:
        """Whether claims can be issued on it now, so that funding it would help."""
        return view.issuing and view.channel.phase(self.now) is Phase.OPEN and not self._life_over(view)

    def _life_over(self, view: ChannelView) -> bool:
        last = view.channel.last_claim_time(self.pool.life_margin)
        return last is not None and self.now >= last

    def _channel(self, view: ChannelView, *, carries_demand: bool) -> Intent | Hold:
        """Answer for one channel, by the order of concerns at the top of this module."""
        channel, subject = view.channel, view.channel.channel_id
        if view.pending is not None:
            return self._hold(subject, Reason.IN_FLIGHT)
        if (until := self._cools_until(view)) is not None and self.now < until:
            return self._hold(subject, Reason.COOLDOWN, until)
        if channel.deletable(self.now):
            return self._intent(FinalizeClose(self.pool.wallet, subject), "expired")
        if channel.phase(self.now) is not Phase.OPEN:
            return self._closing(view)
        if close_reason := self._close_reason(view):
            return self._intent(RequestClose(self.pool.wallet, subject), close_reason)
        return self._fund(view, subject, carries_demand=carries_demand) or self._settle(view) or self._leave(view)

    def _cools_until(self, view: ChannelView) -> int | None:
        """When what failed may be tried again, None where nothing failed.

        As long as a payout is owed that the channel's end would forfeit, a cooldown takes at most half of the time that
        was left when it began: however often it fails, there is another try in time, and there are only a few more.
        """
        channel, deadline = view.channel, view.channel.deadline
        if view.retry_at is None or view.failed_at is None or deadline is None:
            return view.retry_at
        if self.now >= deadline or not channel.unredeemed(view.authorized):
            return view.retry_at
        return min(view.retry_at, (view.failed_at + deadline) // 2)

    def _closing(self, view: ChannelView) -> Intent | Hold:
        channel = view.channel
        deadline = channel.deadline
        if channel.phase(self.now) is Phase.CLOSING and channel.unredeemed(view.authorized):
            return self._pay(view, "owed_before_close")
        return self._hold(channel.channel_id, Reason.CLOSING, None if deadline is None else deadline + 1)

    def _close_reason(self, view: ChannelView) -> str | None:
        if not view.issuing:
            return "issuing_stopped"
        if self._life_over(view):
            return "life_over"
        if self.group.wanted == 0 and self.now >= self._idle_at(view):
            return "idle"
        return None

    def _idle_at(self, view: ChannelView) -> int:
        """When a channel counts as unused; one that was never used is waited for as long as its server may take."""
        used, idle = max(view.last_claim_at, view.opened_at), self.pool.close.idle
        if view.authorized == 0:
            idle = Seconds(max(idle, UNUSED_GRACE_S))
        return max(used + idle, view.opened_at + self.pool.close.min_age)

    def _settle(self, view: ChannelView) -> Intent | None:
        owed = view.channel.unredeemed(view.authorized)
        if owed and owed >= self.pool.settle.worth:
            return self._pay(view, "worth_it")
        if owed and view.unredeemed_since is not None and self.now >= view.unredeemed_since + self.pool.settle.max_age:
            return self._pay(view, "too_old")
        return None

    def _pay(self, view: ChannelView, reason: str) -> Intent:
        channel = view.channel
        target = Drops(channel.balance + channel.unredeemed(view.authorized))
        return self._intent(SettleChannel(self.pool.wallet, channel.channel_id, target), reason)

    def _leave(self, view: ChannelView) -> Hold:
        """Within its band; look again when the first of its clocks runs out."""
        due = [at for at in (self._idle_at(view),) if at > self.now]  # past: it is idle, but something is wanted
        if view.channel.unredeemed(view.authorized) and view.unredeemed_since is not None:
            due.append(view.unredeemed_since + self.pool.settle.max_age)
        if (last := view.channel.last_claim_time(self.pool.life_margin)) is not None:
            due.append(last)
        return self._hold(view.channel.channel_id, Reason.WITHIN_BAND, min(due, default=None))

    # --- more headroom -----------------------------------------------------------------------------------------------

    def _fund(self, view: ChannelView, channel_id: ChannelId, *, carries_demand: bool) -> Intent | None:
        """Raise the amount where headroom is below its low mark; pay out first where that is what makes the room."""
        channel, terms, rate = view.channel, self.pool.fund, self.group.rate
        wanted = self.group.wanted if carries_demand and self.group.wanted <= self.pool.channel.max else 0
        low = max(terms.low, rate.need(terms.runway_low) if carries_demand else 0, wanted)
        headroom = channel.headroom(view.authorized)
        if headroom >= low:
            return None
        target = max(terms.target, rate.need(terms.runway_target), wanted)
        room = min(self.pool.channel.max - channel.remaining, self.account.lockable(view.server))
        step = min(target - headroom, room, self.account.spendable(self.pool.wallet))
        least = wanted - headroom if wanted > headroom else min(terms.target - terms.low, target - headroom)
        if step < max(1, least):
            return self._make_room(view, room < target - headroom)
        self.account.take(self.pool.wallet, view.server, step, opens=False)
        reason = "wanted" if wanted > headroom else "running_out"
        return self._intent(FundChannel(self.pool.wallet, channel_id, Drops(channel.amount + step)), reason)

    def _make_room(self, view: ChannelView, room_binds: bool) -> Intent | None:
        """What is owed still counts as locked: paying it out early lets the channel be funded next."""
        if room_binds and view.channel.unredeemed(view.authorized):
            return self._pay(view, "make_room")
        return None

    # --- a request that was refused ----------------------------------------------------------------------------------

    def _want(self, views: list[ChannelView], usable: list[ChannelView]) -> Intent | Hold:
        """Open a channel where none that the payee has can carry, or is about to carry, what was asked for."""
        group, subject = self.group, str(self.group.payee)
        if group.wanted == 0 or any(v.channel.headroom(v.authorized) >= group.wanted for v in usable):
            return self._hold(subject, Reason.NO_DEMAND)
        if group.wanted > self.pool.channel.max:
            return self._hold(subject, Reason.TOO_LARGE)
        funding = any(v.pending is Kind.FUND for v in usable) or any(
            p.group == group.key and isinstance(p.intent.action, FundChannel) for p in self.planned
        )
        if group.opening or funding:
            return self._hold(subject, Reason.IN_FLIGHT)
        if group.retry_at is not None and self.now < group.retry_at:
            return self._hold(subject, Reason.COOLDOWN, group.retry_at)
        return self._open(len(views), subject)

    def _open(self, existing: int, subject: str) -> Intent | Hold:
        pool, group = self.pool, self.group
        if existing >= pool.channel.max_per_payee:
            return self._hold(subject, Reason.CHANNELS_PER_PAYEE)
        if reason := self.account.may_open(group.server):
            return self._hold(subject, reason)
        amount = min(pool.channel.max, max(pool.channel.min, group.wanted, group.rate.need(pool.fund.runway_target)))
        lockable, spendable = self.account.lockable(group.server), self.account.spendable(pool.wallet, new_objects=1)
        amount = min(amount, max(lockable, 0), max(spendable, 0))
        if amount < max(pool.channel.min, group.wanted):
            return self._hold(subject, Reason.CAP_LOCKED if lockable < spendable else Reason.GUARD_TREASURY)
        self.account.take(pool.wallet, group.server, amount, opens=True)
        open_channel = OpenChannel(
            pool.wallet, pool.name, group.server, group.payee, Drops(amount), pool.settle_delay, pool.cancel_after
        )
        return self._intent(open_channel, "wanted")
