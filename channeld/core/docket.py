"""One payee in one pool, about to be decided: what all concerns share.

A concern finds out what is due and makes an intent of it. Here it is held against what stands above the rules
(`Docket.granted`), here its worst case is set aside, and here the reasons are made for what is left alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from channeld.core.account import Account
from channeld.core.budgets import Purse
from channeld.core.chains import Bench, Verdict
from channeld.core.channel import Phase
from channeld.core.intents import Action, Intent, Kind, OpenChannel, SettleChannel
from channeld.core.policy import Pool
from channeld.core.rules import RECHECK_S
from channeld.core.units import RippleTime
from channeld.core.vocabulary import HOLD, Concern
from channeld.core.world import ChannelView, GroupView, Hold, Notice, Planned, Reason

_GOES_ON: Final = frozenset({Kind.SETTLE, Kind.FINALIZE_CLOSE})
Answer = Intent | Hold
"""What is to be done about a subject, or the reason for nothing."""


@dataclass(slots=True)
class Answers:
    """What was decided so far, for all groups."""

    planned: list[Planned] = field(default_factory=list)
    holds: list[Hold] = field(default_factory=list)
    suggested: list[Planned] = field(default_factory=list)
    notices: list[Notice] = field(default_factory=list)


@dataclass(slots=True)
class Docket:
    """One for a group in a decision. `account` and `answers` are those of the whole decision."""

    group: GroupView
    pool: Pool
    account: Account
    answers: Answers
    bench: Bench

    @property
    def now(self) -> RippleTime:
        """The close time that is decided at."""
        return self.account.world.close_time

    def record(self, answer: Answer) -> None:
        """The one answer for a subject."""
        if isinstance(answer, Intent):
            self.answers.planned.append(Planned(self.group.key, answer))
        else:
            self.answers.holds.append(answer)

    def note(self, notice: Notice) -> None:
        """A close with notice has come further, or is withdrawn."""
        self.answers.notices.append(notice)

    # --- making answers ----------------------------------------------------------------------------------------------

    def verdict(self, concern: Concern, view: ChannelView | None) -> Verdict:
        """What the rules say of a channel, or (None) of the payee."""
        return self.bench.verdict(concern, view, spendable=self.account.spendable(self.pool.wallet))

    def intent(self, action: Action, reason: str, verdict: Verdict | None = None) -> Intent:
        """An intent, with the policy and the rules it comes from."""
        return Intent(action, reason, self.account.policy.hash, verdict.path if verdict else (), self.pool.name)

    def hold(self, subject: str, reason: Reason, until: int | None = None, verdict: Verdict | None = None) -> Hold:
        """Leave a subject alone; look again at `until`, or when the rules may say something else."""
        # what a rule holds back now, others or the terms may want as soon as it does not hold
        again = self.bench.again(verdict, HOLD if verdict.act is None else "") if verdict else None
        moment = min((at for at in (until, again) if at is not None), default=None)
        path = verdict.path if verdict else ()
        return Hold(subject, self.group.key, reason, None if moment is None else RippleTime(moment), path)

    def cooling(self, subject: str, last: int | None, verdict: Verdict) -> Hold | None:
        """A step of a concern on a subject comes too soon after its `last` one, by the rules' `cooldown`; None: not so.

        It is not asked for what has a deadline.
        """
        until = self.now if last is None else last + verdict.number("cooldown")
        return self.hold(subject, Reason.COOLDOWN, until, verdict) if self.now < until else None

    def left_to_rules(self, view: ChannelView, verdict: Verdict) -> Hold | None:
        """Nothing is due in a concern: because a rule says so, or for want of one; None: by the pool's terms."""
        subject = view.channel.channel_id
        if self.bench.doubts(verdict):
            return self.hold(subject, Reason.LOW_CONFIDENCE, None, verdict)
        if verdict.act is not None:
            return self.hold(subject, Reason.RULE, None, verdict)
        if verdict.concern not in self.pool.terms:
            return self.hold(subject, Reason.NO_RULE, None, verdict)
        return self.hold(subject, Reason.WITHIN_BAND, None, verdict) if verdict.facts else None

    def granted(self, concern: Concern, view: ChannelView | None, intent: Intent, *, drops: int = 0) -> Answer:
        """The intent, unless something above the rules holds it back; its worst case is then set aside.

        `drops` is what it newly locks. Deadline work is never held back.
        """
        account, wallet, kind = self.account, self.pool.wallet, intent.action.kind
        fee = account.fee(kind, ends=view is not None and view.channel.deadline is not None)
        if intent.deadline:
            account.draw(wallet, fee)
            return intent
        subject = view.channel.channel_id if view is not None else self.group.subject
        stop = self.bench.above(concern, view)
        if stop is not None:
            if stop.reason is Reason.SUGGESTED:
                self.answers.suggested.append(Planned(self.group.key, intent))
            return Hold(subject, self.group.key, stop.reason, stop.until, intent.path)
        costs = account.costs(kind, drops, fee)
        if (short := self._short(costs, fee, self._gain(kind, view))) is not None:
            return Hold(subject, self.group.key, short, RippleTime(self.now + RECHECK_S), intent.path)
        if not self.freezes(intent):
            account.charge(wallet, self.pool.name, costs)
        return intent

    def _short(self, costs: Mapping[Purse, int], fee: int, gain: int) -> Reason | None:
        """Which money is short, or None."""
        if self.account.exhausted(costs, self.pool.name):
            return Reason.BUDGET_EXHAUSTED
        return None if self.account.pays(self.pool.wallet, fee, gain) else Reason.GUARD_TREASURY

    def _gain(self, kind: Kind, view: ChannelView | None) -> int:
        """Drops that come back to the wallet by an intent, now or once its channel is gone."""
        if view is None or kind not in (Kind.REQUEST_CLOSE, Kind.FINALIZE_CLOSE):
            return 0
        back = view.channel.remaining - view.channel.unredeemed(view.authorized)
        return back + self.account.world.fees.reserve_increment

    def freezes(self, intent: Intent) -> bool:
        """Whether a freeze of the wallet stands against it: all but paying out and removing what has expired."""
        return self.pool.wallet in self.account.world.halted and intent.action.kind not in _GOES_ON

    # --- what every concern asks of a channel ------------------------------------------------------------------------

    def usable(self, view: ChannelView) -> bool:
        """Whether claims can be issued on it now, so that funding it would help."""
        return view.issuing and view.channel.phase(self.now) is Phase.OPEN and not self.life_over(view)

    def carries(self, view: ChannelView) -> bool:
        """Whether the claim desk signs on it: `usable`, and for as long as the ledger may lag unseen."""
        last = view.channel.last_claim_time(self.pool.life_margin)
        return self.usable(view) and (last is None or self.now + self.account.policy.guards.ledger_lag <= last)

    def life_over(self, view: ChannelView) -> bool:
        """Whether its fixed end is so near that no claim is issued any more."""
        last = view.channel.last_claim_time(self.pool.life_margin)
        return last is not None and self.now >= last

    def has_funding(self, usable: list[ChannelView]) -> bool:
        """Whether one of these channels is being funded, or was just decided to be."""
        return any(view.pending is Kind.FUND for view in usable) or any(
            p.group == self.group.key and p.intent.action.kind is Kind.FUND for p in self.answers.planned
        )

    def pays_out(self, view: ChannelView) -> bool:
        """Whether what is owed on a channel is being paid out, or that was just decided."""
        return view.pending is Kind.SETTLE or any(
            isinstance(p.intent.action, SettleChannel) and p.intent.action.channel_id == view.channel.channel_id
            for p in self.answers.planned
        )


def held_by_freeze(planned: Planned) -> Hold:
    """What would be done, were its wallet not frozen."""
    action = planned.intent.action
    subject = action.subject if isinstance(action, OpenChannel) else action.channel_id
    return Hold(subject, planned.group, Reason.FROZEN)
