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
guards, budgets (`core.docket`). Nothing of that holds back what has a deadline: 3, and what is owed where a channel's
life is over; a purse of its own pays for it. Where a freeze keeps 4, 5 or 6 from happening, they do not stand in the
way of 7.

Each concern has a room: `core.headroom` opens and funds, `core.payouts` settles, `core.closing` closes. Money, channels
per ledger and the caps of a content server are taken from one running account (`core.account`), so that they bind
across groups.
"""

from __future__ import annotations

from typing import Final

from channeld.core.account import OPENS_BACKLOG, Account
from channeld.core.chains import Bench
from channeld.core.channel import Phase
from channeld.core.closing import UNUSED_GRACE_S, Due, close, close_due, closing, idle_at, stays
from channeld.core.docket import Answer, Answers, Docket
from channeld.core.headroom import Share, fund, meet_want
from channeld.core.intents import FinalizeClose, Intent
from channeld.core.outcome import cooled_at
from channeld.core.payouts import aged_at, settle
from channeld.core.policy import Policy
from channeld.core.spares import keep, precedence, standing_by
from channeld.core.units import HOUR_S, RippleTime
from channeld.core.vocabulary import Concern
from channeld.core.world import ChannelView, Decision, GroupView, Hold, Reason, World

__all__ = ["OPENS_BACKLOG", "UNUSED_GRACE_S", "decide"]

_RANK: Final = {Reason.RULE: 1, Reason.LOW_CONFIDENCE: 2, Reason.NO_RULE: 3, Reason.WITHIN_BAND: 4}
"""Of several reasons to leave a channel alone, the one that tells most is given."""


def decide(world: World, policy: Policy) -> Decision:
    """Say what is to be done now for every group in `world`, and why the rest is left alone.

    Never raises for a world whose values are in their bounds. Its own intents, shown back as pending, add nothing.
    """
    account, answers = Account(world, policy), Answers()
    for group in sorted(world.groups, key=lambda g: g.key):
        pool = policy.pools.get(group.pool)
        if pool is None or pool.wallet not in world.wallets:
            reason = Reason.NO_POOL if pool is None else Reason.NO_WALLET
            answers.holds += _hold_all(group, reason)
        else:
            _group(Docket(group, pool, account, answers, Bench(world, policy, pool, group)))
    return Decision(tuple(answers.planned), tuple(answers.holds), tuple(answers.suggested), tuple(answers.notices))


def _hold_all(group: GroupView, reason: Reason) -> list[Hold]:
    subjects = sorted(view.channel.channel_id for view in group.channels)
    return [Hold(s, group.key, reason) for s in (*subjects, group.subject)]


def _group(docket: Docket) -> None:
    """Answer for every channel of the group, then for what was asked in vain."""
    views = sorted(docket.group.channels, key=lambda v: v.channel.channel_id)
    usable = [v for v in views if docket.usable(v)]
    due = keep(docket, usable, {view.channel.channel_id: close_due(docket, view) for view in views})
    staying = [v for v in usable if stays(docket, v, due[v.channel.channel_id])]
    carrier, spares = max(staying, key=precedence, default=None), standing_by(docket, staying)
    for view in views:
        share = Share.ALL if view is carrier else Share.SPARE if view in spares else Share.NONE
        docket.record(_channel(docket, view, due[view.channel.channel_id], share))
    docket.record(meet_want(docket, usable, staying))


def _channel(docket: Docket, view: ChannelView, due: Due | None, share: Share) -> Answer:
    """Answer for one channel, by the order of concerns at the top of this module."""
    channel, subject = view.channel, view.channel.channel_id
    if view.pending is not None:
        return docket.hold(subject, Reason.IN_FLIGHT)
    if (until := _cools_until(view, docket.now)) is not None and docket.now < until:
        return docket.hold(subject, Reason.COOLDOWN, until)
    if channel.deletable(docket.now):
        finalize = docket.intent(FinalizeClose(docket.pool.wallet, subject), "expired")
        return docket.granted(Concern.CLOSE, view, finalize)
    if channel.phase(docket.now) is not Phase.OPEN:
        return closing(docket, view)
    held: list[Hold] = []
    frozen: Intent | None = None
    for concern in (Concern.CLOSE, Concern.FUND, Concern.SETTLE):
        answer: Answer | None = None
        if concern is Concern.CLOSE:
            answer = close(docket, view, due)
        elif concern is Concern.SETTLE:
            answer = settle(docket, view)
        elif docket.usable(view):
            answer = fund(docket, view, share)
        if isinstance(answer, Intent) and docket.freezes(answer):
            frozen = frozen or answer  # it is kept from happening: what is owed is paid alone
        elif isinstance(answer, Intent):
            return answer
        elif answer is not None:
            held.append(answer)
    return frozen or _leave(docket, view, held)


def _cools_until(view: ChannelView, now: RippleTime) -> int | None:
    """When what failed may be tried again, None where nothing failed."""
    return cooled_at(view.channel, view.authorized, (view.retry_at, view.failed_at), now)


# --- left alone ------------------------------------------------------------------------------------------------------


def _leave(docket: Docket, view: ChannelView, held: list[Hold]) -> Hold:
    """Look again when the first of its clocks runs out. What stands above the rules is named first, then a rule."""
    due = [hold.until for hold in held if hold.until is not None] + _moments(docket, view)
    first = min(held, key=lambda hold: _RANK.get(hold.reason, 0), default=None)
    reason = first.reason if first else Reason.WITHIN_BAND
    path = tuple(rule for hold in held for rule in hold.path)
    until = min((at for at in due if at > docket.now), default=None)
    return Hold(view.channel.channel_id, docket.group.key, reason, None if until is None else RippleTime(until), path)


def _moments(docket: Docket, view: ChannelView) -> list[int]:
    """When the pool's terms are next met by the clock; what lies in the past is held back by something else."""
    due = [idle_at(docket, view)] if Concern.CLOSE in docket.pool.terms else []
    last, deadline = view.channel.last_claim_time(docket.pool.life_margin), view.channel.deadline
    after = None if deadline is None else deadline + 1
    rate = docket.group.rate
    later = docket.now + HOUR_S if rate.micro_drops_per_s and not rate.even else None  # another hour, other demand
    return due + [at for at in (aged_at(docket, view), last, after, later) if at is not None]
