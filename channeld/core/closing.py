"""Closing channels: those on which issuing ended, and those that nobody uses.

What is owed is paid in the same transaction. Where a freeze, an override or a mode keeps a channel whose life is over
open, what is owed is paid alone, for later nobody can.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from channeld.core.chains import Verdict
from channeld.core.channel import Phase
from channeld.core.docket import Answer, Docket
from channeld.core.intents import NOTIFIED, OWED_BEFORE_CLOSE, OWED_BEFORE_END, RequestClose
from channeld.core.notices import ACT, pending, withdraw
from channeld.core.payouts import pay
from channeld.core.rules import RECHECK_S
from channeld.core.vocabulary import Concern
from channeld.core.world import ChannelView, Reason

UNUSED_GRACE_S: Final = 300
"""A channel that was never used is not closed as idle before: whoever asked for it was told to come again when it is
there, which can be more than two slow ledgers later, and comes when it pleases.
"""

_REASONS: Final = {"close": "rule", ACT: NOTIFIED}
"""Why what a rule's act closes is closed."""


@dataclass(frozen=True, slots=True)
class Due:
    """Why a channel is to be closed. What is `forced` no rule decided: issuing was stopped, or its life is over.

    The reasons of what is not are `FREE_CLOSES`. What is `kept` is left open all the same: it stands by as a spare.
    """

    reason: str
    verdict: Verdict | None = None
    kept: bool = False

    @property
    def forced(self) -> bool:
        """Whether it is not for rules, caps or patience to say."""
        return self.verdict is None


def close_due(docket: Docket, view: ChannelView) -> Due | None:
    """Why a channel is to be closed, None: it is not. Where something is wanted, no rule closes anything."""
    if not view.issuing:
        return Due("issuing_stopped")
    if docket.life_over(view):
        return Due("life_over")
    if docket.group.wanted:
        return None
    verdict = docket.verdict(Concern.CLOSE, view)
    if verdict.act is None and Concern.CLOSE in docket.pool.terms:
        return Due("idle", verdict) if docket.now >= _idle_at(view, verdict) else None
    reason = _REASONS.get(verdict.act or "")
    return Due(reason, verdict) if reason and docket.now >= _unused_until(view) else None


def stays(docket: Docket, view: ChannelView, due: Due | None) -> bool:
    """Whether it is not to be closed, or something above the rules keeps it."""
    return due is None or due.kept or (not due.forced and docket.bench.above(Concern.CLOSE, view) is not None)


def close(docket: Docket, view: ChannelView, due: Due | None) -> Answer | None:
    """Request the close of what is due to be closed; None: the other concerns have their say."""
    channel = view.channel
    if due is None or due.kept:
        withdraw(docket, view)
    if due is None:
        return None if docket.group.wanted else docket.left_to_rules(view, docket.verdict(Concern.CLOSE, view))
    if due.kept:
        return docket.hold(channel.channel_id, Reason.SPARE, None, due.verdict)
    last_chance = docket.life_over(view) and channel.unredeemed(view.authorized) > 0
    if due.forced and last_chance and _kept(docket, view):
        return docket.granted(Concern.SETTLE, view, pay(docket, view, OWED_BEFORE_END))
    reason = OWED_BEFORE_END if last_chance else due.reason
    request = docket.intent(RequestClose(docket.pool.wallet, channel.channel_id), reason, due.verdict)
    if due.verdict is not None and docket.bench.above(Concern.CLOSE, view) is None:
        waits = None
        if due.reason == NOTIFIED and not docket.freezes(request):
            waits = pending(docket, view, due.verdict)
        if waits is not None:
            return waits
        if not docket.account.may_close(docket.pool.name):
            return docket.hold(channel.channel_id, Reason.GUARD_RATE, docket.now + RECHECK_S, due.verdict)
        docket.account.count_close(docket.pool.name)
    return docket.granted(Concern.CLOSE, view, request)


def closing(docket: Docket, view: ChannelView) -> Answer:
    """A close was requested, or the end is past: pay what is owed while that is possible, else wait for the end."""
    channel = view.channel
    if channel.phase(docket.now) is Phase.CLOSING and channel.unredeemed(view.authorized):
        return docket.granted(Concern.SETTLE, view, pay(docket, view, OWED_BEFORE_CLOSE))
    deadline = channel.deadline
    return docket.hold(channel.channel_id, Reason.CLOSING, None if deadline is None else deadline + 1)


def idle_at(docket: Docket, view: ChannelView) -> int:
    """When a channel counts as unused by its pool's terms, as the rules have set them."""
    return _idle_at(view, docket.verdict(Concern.CLOSE, view))


def _kept(docket: Docket, view: ChannelView) -> bool:
    """Whether it may not be closed now, so that what is owed has to be paid apart."""
    halted = docket.account.world.halted
    return docket.pool.wallet in halted or docket.bench.above(Concern.CLOSE, view) is not None


def _idle_at(view: ChannelView, verdict: Verdict) -> int:
    used = max(view.last_claim_at, view.opened_at) + view.away
    due = max(used + verdict.number("idle"), view.opened_at + verdict.number("min_age"))
    return max(due, _unused_until(view))


def _unused_until(view: ChannelView) -> int:
    """A channel that was never used is waited for as long as its server may take."""
    return 0 if view.authorized else max(view.last_claim_at, view.opened_at) + UNUSED_GRACE_S
