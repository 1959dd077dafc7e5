"""Making room for what is to be signed: funding channels, and opening one where a request was refused.

A refused request is met by funding a channel that the payee has, else by opening one.
"""

from __future__ import annotations

from channeld.core.chains import Verdict
from channeld.core.docket import Answer, Docket
from channeld.core.intents import FundChannel, Kind, OpenChannel
from channeld.core.payouts import pay
from channeld.core.rules import RECHECK_S
from channeld.core.units import Drops
from channeld.core.vocabulary import HOLD, Concern
from channeld.core.world import ChannelView, Hold, Reason

# --- funding ---------------------------------------------------------------------------------------------------------


def fund(docket: Docket, view: ChannelView, *, carries_demand: bool) -> Answer | None:
    """Raise the amount where headroom is below its low mark; pay out first where that is what makes the room.

    Of the channels of a payee one `carries_demand`: the forecast and what is wanted count there alone.
    """
    channel, verdict, pool, account = view.channel, docket.verdict(Concern.FUND, view), docket.pool, docket.account
    headroom, wanted = channel.headroom(view.authorized), 0
    if carries_demand and docket.group.wanted <= pool.channel.max:
        wanted = docket.group.wanted
    low, target = _marks(docket, verdict, wanted, carries_demand=carries_demand)
    by_terms = verdict.act is None and Concern.FUND in pool.terms
    due = headroom < low if by_terms else verdict.act == "fund_to_target"
    if not due or target <= headroom:
        return docket.left_to_rules(view, verdict)
    room = min(pool.channel.max - channel.remaining, account.lockable(view.server))
    money = min(target - headroom, account.spendable(pool.wallet))
    step = min(room, account.affordable(Kind.FUND, pool.name, money))
    band = verdict.band("headroom")
    least = max(1, wanted - headroom if wanted > headroom else min(band.target - band.low, target - headroom))
    if step < least:
        return _cannot_fund(docket, view, verdict, money, least)
    if step < verdict.number("min_step") and wanted <= headroom:
        return docket.hold(channel.channel_id, Reason.BELOW_MIN_STEP, None, verdict)
    reason = "wanted" if wanted > headroom else "running_out" if verdict.act is None else "rule"
    action = FundChannel(pool.wallet, channel.channel_id, Drops(channel.amount + step))
    answer = docket.granted(Concern.FUND, view, docket.intent(action, reason, verdict), drops=step)
    if not isinstance(answer, Hold):
        account.take(pool.wallet, view.server, step, opens=False)
    return answer


def _marks(docket: Docket, verdict: Verdict, wanted: int, *, carries_demand: bool) -> tuple[int, int]:
    """The headroom below which a channel is funded, and up to which."""
    rate, band, runway = docket.group.rate, verdict.band("headroom"), verdict.band("runway")
    low = max(band.low, rate.need(runway.low) if carries_demand else 0, wanted)
    target = max(band.target, rate.need(runway.target), wanted)
    if runway.high is not None:
        target = min(target, max(rate.need(runway.high), low))
    return low, target


def _cannot_fund(docket: Docket, view: ChannelView, verdict: Verdict, money: int, least: int) -> Answer | None:
    """What is owed still counts as locked: where only room is missing, paying it out lets the channel be funded.

    Not where money is missing, too: it would be paid for nothing, and again whenever others take the room.
    """
    if docket.account.affordable(Kind.FUND, docket.pool.name, money) >= least:
        owed = view.channel.unredeemed(view.authorized)
        return docket.granted(Concern.SETTLE, view, pay(docket, view, "make_room", verdict)) if owed else None
    if money >= least:
        return docket.hold(view.channel.channel_id, Reason.BUDGET_EXHAUSTED, docket.now + RECHECK_S, verdict)
    return None


# --- opening ---------------------------------------------------------------------------------------------------------


def meet_want(docket: Docket, usable: list[ChannelView]) -> Answer:
    """Open a channel where none that the payee has can carry, or is about to carry, what was asked for."""
    group, subject = docket.group, str(docket.group.payee)
    if group.wanted == 0 or any(v.channel.headroom(v.authorized) >= group.wanted for v in usable):
        return docket.hold(subject, Reason.NO_DEMAND)
    if group.wanted > docket.pool.channel.max:
        return docket.hold(subject, Reason.TOO_LARGE)
    if group.opening or docket.has_funding(usable):
        return docket.hold(subject, Reason.IN_FLIGHT)
    if group.retry_at is not None and docket.now < group.retry_at:
        return docket.hold(subject, Reason.COOLDOWN, group.retry_at)
    return _open(docket, subject)


def _open(docket: Docket, subject: str) -> Answer:
    pool, group, verdict = docket.pool, docket.group, docket.verdict(Concern.OPEN, None)
    if verdict.act == HOLD:
        return docket.hold(subject, Reason.RULE, None, verdict)
    if len(group.channels) >= verdict.number("max_per_payee"):
        return docket.hold(subject, Reason.CHANNELS_PER_PAYEE, None, verdict)
    if reason := docket.account.may_open(group.server):
        return docket.hold(subject, reason, None, verdict)
    amount = _amount(docket, verdict)
    if isinstance(amount, Reason):
        return docket.hold(subject, amount, None, verdict)
    action = OpenChannel(
        pool.wallet, pool.name, group.server, group.payee, amount, pool.settle_delay, pool.cancel_after
    )
    answer = docket.granted(Concern.OPEN, None, docket.intent(action, "wanted", verdict), drops=amount)
    if not isinstance(answer, Hold):
        docket.account.take(pool.wallet, group.server, amount, opens=True)
    return answer


def _amount(docket: Docket, verdict: Verdict) -> Drops | Reason:
    """What goes into a new channel, or why not even the least that is needed can."""
    pool, group, account = docket.pool, docket.group, docket.account
    least, runway = max(verdict.number("amount"), group.wanted), verdict.band("runway")
    most = pool.channel.max if runway.high is None else max(least, group.rate.need(runway.high))
    amount = min(pool.channel.max, most, max(least, group.rate.need(runway.target)))
    lockable, spendable = account.lockable(group.server), account.spendable(pool.wallet, new_objects=1)
    amount = min(amount, max(lockable, 0), max(spendable, 0))
    if amount < least:
        return Reason.CAP_LOCKED if lockable < spendable else Reason.GUARD_TREASURY
    amount = account.affordable(Kind.OPEN, pool.name, amount)
    return Reason.BUDGET_EXHAUSTED if amount < least else Drops(amount)
