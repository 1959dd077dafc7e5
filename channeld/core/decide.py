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

Whether 5, 6 and 7 are so, and whether a channel is opened, the rules of the policy say, and behind them the pool's own
terms (`core.chains`). What is decided is then held against what stands above the rules: overrides, freezes, modes,
guards, budgets. Nothing of that holds back what has a deadline: 3, and what is owed where a channel's life is over.

A refused request is met by funding a channel the payee has, else by opening one. Money, channels per ledger and the
caps of a content server are taken from one running account while deciding, so that they bind across groups.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from channeld.core.account import OPENS_BACKLOG, Account
from channeld.core.chains import Bench, Verdict
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
from channeld.core.rules import RECHECK_S
from channeld.core.units import Drops, RippleTime
from channeld.core.vocabulary import HOLD, Concern
from channeld.core.world import ChannelView, Decision, GroupView, Hold, Planned, Reason, World

__all__ = ["OPENS_BACKLOG", "UNUSED_GRACE_S", "decide"]

UNUSED_GRACE_S: Final = 300
"""A channel that was never used is not closed as idle before: whoever asked for it was told to come again when it is
there, which can be more than two slow ledgers later, and comes when it pleases.
"""


def decide(world: World, policy: Policy) -> Decision:
    """Say what is to be done now for every group in `world`, and why the rest is left alone.

    Never raises for a world whose values are in their bounds. Its own intents, shown back as pending, add nothing.
    """
    account, answers = Account(world, policy), _Answers()
    for group in sorted(world.groups, key=lambda g: g.key):
        pool = policy.pools.get(group.pool)
        if pool is None or pool.wallet not in world.wallets:
            reason = Reason.NO_POOL if pool is None else Reason.NO_WALLET
            answers.holds += _hold_all(group, reason)
        elif world.lag_s > policy.guards.ledger_lag:
            answers.holds += _hold_all(group, Reason.FROZEN_LAG)
        else:
            _Group(group, pool, account, answers, Bench(world, policy, pool, group)).decide()
    return Decision(tuple(answers.planned), tuple(answers.holds), tuple(answers.suggested))


@dataclass(slots=True)
class _Answers:
    """What was decided so far."""

    planned: list[Planned] = field(default_factory=list)
    holds: list[Hold] = field(default_factory=list)
    suggested: list[Planned] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Due:
    """Why a channel is to be closed. What is `forced` no rule decided: issuing was stopped, or its life is over."""

    reason: str
    verdict: Verdict | None = None

    @property
    def forced(self) -> bool:
        return self.verdict is None


_RANK: Final = {Reason.RULE: 1, Reason.NO_RULE: 2, Reason.WITHIN_BAND: 3}
"""Of several reasons to leave a channel alone, the one that tells most is given."""


def _hold_all(group: GroupView, reason: Reason) -> list[Hold]:
    subjects = sorted(view.channel.channel_id for view in group.channels)
    return [Hold(s, group.key, reason) for s in (*subjects, str(group.payee))]


@dataclass(slots=True)
class _Group:
    """Deciding for one payee in one pool."""

    group: GroupView
    pool: Pool
    account: Account
    answers: _Answers
    bench: Bench

    @property
    def now(self) -> RippleTime:
        return self.account.world.close_time

    def decide(self) -> None:
        """Answer for every channel of the group, then for what was asked in vain."""
        views = sorted(self.group.channels, key=lambda v: v.channel.channel_id)
        usable = [v for v in views if self._usable(v)]
        due = {view.channel.channel_id: self._close_due(view) for view in views}
        staying = (v for v in usable if self._stays(v, due[v.channel.channel_id]))
        carrier = max(staying, key=lambda v: (v.channel.headroom(v.authorized), v.channel.channel_id), default=None)
        answers = [self._channel(v, due[v.channel.channel_id], carries_demand=v is carrier) for v in views]
        for answer in answers:
            self._record(answer)
        self._record(self._want(views, usable))

    def _record(self, answer: Intent | Hold) -> None:
        if isinstance(answer, Intent):
            self.answers.planned.append(Planned(self.group.key, answer))
        else:
            self.answers.holds.append(answer)

    def _hold(self, subject: str, reason: Reason, until: int | None = None, verdict: Verdict | None = None) -> Hold:
        """Leave a subject alone; look again at `until`, or when the rules may say something else."""
        again = self.bench.again(verdict) if verdict else None
        moment = min((at for at in (until, again) if at is not None), default=None)
        path = verdict.path if verdict else ()
        return Hold(subject, self.group.key, reason, None if moment is None else RippleTime(moment), path)

    def _intent(self, action: Action, reason: str, verdict: Verdict | None = None) -> Intent:
        return Intent(action, reason, self.account.policy.hash, verdict.path if verdict else ())

    def _verdict(self, concern: Concern, view: ChannelView | None) -> Verdict:
        return self.bench.verdict(concern, view, spendable=self.account.spendable(self.pool.wallet))

    def _granted(
        self, concern: Concern, view: ChannelView | None, intent: Intent, *, drops: int = 0, deadline: bool = False
    ) -> Intent | Hold:
        """The intent, unless something above the rules holds it back; its worst case is then set aside."""
        subject, kind = view.channel.channel_id if view else str(self.group.payee), intent.action.kind
        stop = None if deadline else self.bench.above(concern, view)
        if stop is not None:
            if stop.reason is Reason.SUGGESTED:
                self.answers.suggested.append(Planned(self.group.key, intent))
            return Hold(subject, self.group.key, stop.reason, stop.until, intent.path)
        if not deadline and self.account.exhausted(kind, self.pool.name, drops):
            until = RippleTime(self.now + RECHECK_S)
            return Hold(subject, self.group.key, Reason.BUDGET_EXHAUSTED, until, intent.path)
        self.account.charge(kind, self.pool.name, drops)
        return intent

    # --- one channel -------------------------------------------------------------------------------------------------

    def _usable(self, view: ChannelView) -> bool:
        """Whether claims can be issued on it now, so that funding it would help."""
        return view.issuing and view.channel.phase(self.now) is Phase.OPEN and not self._life_over(view)

    def _life_over(self, view: ChannelView) -> bool:
        last = view.channel.last_claim_time(self.pool.life_margin)
        return last is not None and self.now >= last

    def _channel(self, view: ChannelView, due: _Due | None, *, carries_demand: bool) -> Intent | Hold:
        """Answer for one channel, by the order of concerns at the top of this module."""
        channel, subject = view.channel, view.channel.channel_id
        if view.pending is not None:
            return self._hold(subject, Reason.IN_FLIGHT)
        if (until := self._cools_until(view)) is not None and self.now < until:
            return self._hold(subject, Reason.COOLDOWN, until)
        if channel.deletable(self.now):
            finalize = self._intent(FinalizeClose(self.pool.wallet, subject), "expired")
            return self._granted(Concern.CLOSE, view, finalize)
        if channel.phase(self.now) is not Phase.OPEN:
            return self._closing(view)
        held = []
        for concern in (Concern.CLOSE, Concern.FUND, Concern.SETTLE):
            answer: Intent | Hold | None = None
            if concern is Concern.CLOSE:
                answer = self._close(view, due)
            elif concern is Concern.SETTLE:
                answer = self._settle(view)
            elif self._usable(view):
                answer = self._fund(view, carries_demand=carries_demand)
            if isinstance(answer, Intent):
                return answer
            held += [answer] if answer else []
        return self._leave(view, held)

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

    # --- closing -----------------------------------------------------------------------------------------------------

    def _close_due(self, view: ChannelView) -> _Due | None:
        """Why a channel is to be closed, None: it is not. Where something is wanted, no rule closes anything."""
        if not view.issuing:
            return _Due("issuing_stopped")
        if self._life_over(view):
            return _Due("life_over")
        if self.group.wanted:
            return None
        verdict = self._verdict(Concern.CLOSE, view)
        if verdict.act is None and Concern.CLOSE in self.pool.terms:
            return _Due("idle", verdict) if self.now >= self._idle_at(view, verdict) else None
        return _Due("rule", verdict) if verdict.act == "close" and self.now >= self._unused_until(view) else None

    def _stays(self, view: ChannelView, due: _Due | None) -> bool:
        """Whether it is not to be closed, or something above the rules keeps it."""
        return due is None or (not due.forced and self.bench.above(Concern.CLOSE, view) is not None)

    def _close(self, view: ChannelView, due: _Due | None) -> Intent | Hold | None:
        channel = view.channel
        if due is None:
            return None if self.group.wanted else self._left_to_rules(view, self._verdict(Concern.CLOSE, view))
        last_chance = self._life_over(view) and channel.unredeemed(view.authorized) > 0
        if due.forced and last_chance and self._kept(view):
            return self._granted(Concern.SETTLE, view, self._pay(view, "owed_before_end"), deadline=True)
        close = self._intent(RequestClose(self.pool.wallet, channel.channel_id), due.reason, due.verdict)
        stopped = self.bench.above(Concern.CLOSE, view)
        if not due.forced and stopped is None:
            if not self.account.may_close(self.pool.name):
                return self._hold(channel.channel_id, Reason.GUARD_RATE, self.now + RECHECK_S, due.verdict)
            self.account.count_close(self.pool.name)
        return self._granted(Concern.CLOSE, view, close, deadline=last_chance)

    def _kept(self, view: ChannelView) -> bool:
        """Whether it may not be closed now, so that what is owed has to be paid apart."""
        return self.pool.wallet in self.account.world.halted or self.bench.above(Concern.CLOSE, view) is not None

    def _idle_at(self, view: ChannelView, verdict: Verdict) -> int:
        """When a channel counts as unused by its pool's terms, as the rules have set them."""
        used = max(view.last_claim_at, view.opened_at)
        idle_at = max(used + verdict.number("idle"), view.opened_at + verdict.number("min_age"))
        return max(idle_at, self._unused_until(view))

    def _unused_until(self, view: ChannelView) -> int:
        """A channel that was never used is waited for as long as its server may take."""
        return 0 if view.authorized else max(view.last_claim_at, view.opened_at) + UNUSED_GRACE_S

    # --- paying out --------------------------------------------------------------------------------------------------

    def _settle(self, view: ChannelView) -> Intent | Hold | None:
        owed = view.channel.unredeemed(view.authorized)
        if not owed:
            return None
        verdict = self._verdict(Concern.SETTLE, view)
        reason = None
        if verdict.act == "settle":
            reason = "rule"
        elif verdict.act is None and Concern.SETTLE in self.pool.terms:
            aged = view.unredeemed_since is not None and self.now >= view.unredeemed_since + verdict.number("max_age")
            reason = "worth_it" if owed >= verdict.number("worth") else "too_old" if aged else None
        if reason is None:
            return self._left_to_rules(view, verdict)
        return self._granted(Concern.SETTLE, view, self._pay(view, reason, verdict))

    def _pay(self, view: ChannelView, reason: str, verdict: Verdict | None = None) -> Intent:
        channel = view.channel
        target = Drops(channel.balance + channel.unredeemed(view.authorized))
        return self._intent(SettleChannel(self.pool.wallet, channel.channel_id, target), reason, verdict)

    # --- left alone --------------------------------------------------------------------------------------------------

    def _left_to_rules(self, view: ChannelView, verdict: Verdict) -> Hold | None:
        """Nothing is due in a concern: because a rule says so, or for want of one; None: by the pool's terms."""
        subject = view.channel.channel_id
        if verdict.act is not None:
            return self._hold(subject, Reason.RULE, None, verdict)
        if verdict.concern not in self.pool.terms:
            return self._hold(subject, Reason.NO_RULE, None, verdict)
        return self._hold(subject, Reason.WITHIN_BAND, None, verdict) if verdict.facts else None

    def _leave(self, view: ChannelView, held: list[Hold]) -> Hold:
        """Look again when the first of its clocks runs out. What stands above the rules is named first, then a rule."""
        due = [hold.until for hold in held if hold.until is not None] + self._moments(view)
        first = min(held, key=lambda hold: _RANK.get(hold.reason, 0), default=None)
        reason = first.reason if first else Reason.WITHIN_BAND
        path = tuple(rule for hold in held for rule in hold.path)
        until = min((at for at in due if at > self.now), default=None)
        return Hold(view.channel.channel_id, self.group.key, reason, None if until is None else RippleTime(until), path)

    def _moments(self, view: ChannelView) -> list[int]:
        """When the pool's terms are next met by the clock; what lies in the past is held back by something else."""
        due = [self._idle_at(view, self._verdict(Concern.CLOSE, view))] if Concern.CLOSE in self.pool.terms else []
        if view.channel.unredeemed(view.authorized) and view.unredeemed_since is not None:
            due.append(view.unredeemed_since + self._verdict(Concern.SETTLE, view).number("max_age"))
        if (last := view.channel.last_claim_time(self.pool.life_margin)) is not None:
            due.append(last)
        if (deadline := view.channel.deadline) is not None:
            due.append(deadline + 1)
        return due

    # --- more headroom -----------------------------------------------------------------------------------------------

    def _fund(self, view: ChannelView, *, carries_demand: bool) -> Intent | Hold | None:
        """Raise the amount where headroom is below its low mark; pay out first where that is what makes the room."""
        channel, rate, verdict = view.channel, self.group.rate, self._verdict(Concern.FUND, view)
        band, runway = verdict.band("headroom"), verdict.band("runway")
        wanted = self.group.wanted if carries_demand and self.group.wanted <= self.pool.channel.max else 0
        low = max(band.low, rate.need(runway.low) if carries_demand else 0, wanted)
        headroom = channel.headroom(view.authorized)
        target = max(band.target, rate.need(runway.target), wanted)
        if runway.high is not None:
            target = min(target, max(rate.need(runway.high), low))
        due = (
            headroom < low
            if verdict.act is None and Concern.FUND in self.pool.terms
            else verdict.act == "fund_to_target"
        )
        if not due or target <= headroom:
            return self._left_to_rules(view, verdict)
        room = min(self.pool.channel.max - channel.remaining, self.account.lockable(view.server))
        money = min(target - headroom, self.account.spendable(self.pool.wallet))
        step = min(room, self.account.affordable(Kind.FUND, self.pool.name, money))
        least = max(1, wanted - headroom if wanted > headroom else min(band.target - band.low, target - headroom))
        if step < least:
            return self._cannot_fund(view, verdict, money, least)
        if step < verdict.number("min_step") and wanted <= headroom:
            return self._hold(channel.channel_id, Reason.BELOW_MIN_STEP, None, verdict)
        reason = "wanted" if wanted > headroom else "running_out" if verdict.act is None else "rule"
        fund = FundChannel(self.pool.wallet, channel.channel_id, Drops(channel.amount + step))
        answer = self._granted(Concern.FUND, view, self._intent(fund, reason, verdict), drops=step)
        if isinstance(answer, Intent):
            self.account.take(self.pool.wallet, view.server, step, opens=False)
        return answer

    def _cannot_fund(self, view: ChannelView, verdict: Verdict, money: int, least: int) -> Intent | Hold | None:
        """What is owed still counts as locked: where only room is missing, paying it out lets the channel be funded.

        Not where money is missing, too: it would be paid for nothing, and again whenever others take the room.
        """
        if self.account.affordable(Kind.FUND, self.pool.name, money) >= least:
            owed = view.channel.unredeemed(view.authorized)
            return self._granted(Concern.SETTLE, view, self._pay(view, "make_room", verdict)) if owed else None
        if money >= least:
            return self._hold(view.channel.channel_id, Reason.BUDGET_EXHAUSTED, self.now + RECHECK_S, verdict)
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
            p.group == group.key and isinstance(p.intent.action, FundChannel) for p in self.answers.planned
        )
        if group.opening or funding:
            return self._hold(subject, Reason.IN_FLIGHT)
        if group.retry_at is not None and self.now < group.retry_at:
            return self._hold(subject, Reason.COOLDOWN, group.retry_at)
        return self._open(len(views), subject)

    def _open(self, existing: int, subject: str) -> Intent | Hold:
        pool, group, verdict = self.pool, self.group, self._verdict(Concern.OPEN, None)
        if verdict.act == HOLD:
            return self._hold(subject, Reason.RULE, None, verdict)
        if existing >= verdict.number("max_per_payee"):
            return self._hold(subject, Reason.CHANNELS_PER_PAYEE, None, verdict)
        if reason := self.account.may_open(group.server):
            return self._hold(subject, reason, None, verdict)
        least, runway = max(verdict.number("amount"), group.wanted), verdict.band("runway")
        most = pool.channel.max if runway.high is None else max(least, group.rate.need(runway.high))
        amount = min(pool.channel.max, most, max(least, group.rate.need(runway.target)))
        lockable, spendable = self.account.lockable(group.server), self.account.spendable(pool.wallet, new_objects=1)
        amount = min(amount, max(lockable, 0), max(spendable, 0))
        if amount < least:
            return self._hold(subject, Reason.CAP_LOCKED if lockable < spendable else Reason.GUARD_TREASURY)
        amount = self.account.affordable(Kind.OPEN, pool.name, amount)
        if amount < least:
            return self._hold(subject, Reason.BUDGET_EXHAUSTED, None, verdict)
        open_channel = OpenChannel(
            pool.wallet, pool.name, group.server, group.payee, Drops(amount), pool.settle_delay, pool.cancel_after
        )
        answer = self._granted(Concern.OPEN, None, self._intent(open_channel, "wanted", verdict), drops=amount)
        if isinstance(answer, Intent):
            self.account.take(pool.wallet, group.server, amount, opens=True)
        return answer
