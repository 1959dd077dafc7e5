"""Making room for what is to be signed: funding channels, and opening them.

A refused request is met by funding a channel that the payee has, else by opening one. Where nothing was refused and the
payee draws from a channel, spares are opened, one after the other, until there are as many as the policy says.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from channeld.core.caps import whose_of
from channeld.core.chains import Verdict
from channeld.core.docket import Answer, Docket
from channeld.core.early_ends import waits_until
from channeld.core.intents import FundChannel, Intent, Kind, OpenChannel
from channeld.core.payouts import pay_once
from channeld.core.rules import RECHECK_S
from channeld.core.sizing import order_up_to, reorder_point
from channeld.core.spares import ages_at, in_use, lasting, precedence
from channeld.core.units import Drops
from channeld.core.vocabulary import HOLD, Concern
from channeld.core.world import ChannelView, Hold, Reason

# --- funding ---------------------------------------------------------------------------------------------------------


class Share(enum.Enum):
    """How much of a payee's demand a channel is to carry."""

    ALL = "all"
    """It is in use: the forecast and what is wanted count here."""
    SPARE = "spare"
    """It holds what lasts until it is funded, should it have to carry all: forecast demand over `runway.low`."""
    NONE = "none"


def fund(docket: Docket, view: ChannelView, share: Share) -> Answer | None:
    """Raise the amount where headroom is below its low mark; pay out first where that is what makes the room."""
    channel, verdict, pool, account = view.channel, docket.verdict(Concern.FUND, view), docket.pool, docket.account
    headroom, wanted = channel.headroom(view.authorized), 0
    if share is Share.ALL and docket.group.wanted <= pool.channel.max:
        wanted = docket.group.wanted
    low, target = _marks(docket, verdict, wanted, share)
    by_terms = verdict.act is None and Concern.FUND in pool.terms
    due = headroom < low if by_terms else verdict.act == "fund_to_target"
    if not due or target <= headroom:
        return docket.left_to_rules(view, verdict)
    if (cooling := docket.cooling(channel.channel_id, view.funded_at, verdict)) is not None:
        return cooling
    whose = whose_of(docket.group, view.tier)
    room = min(pool.channel.max - channel.remaining, account.lockable(view.server, whose)[0])
    money = min(target - headroom, account.spendable(pool.wallet))
    step = min(room, account.affordable(Kind.FUND, pool.name, money))
    band = verdict.band("headroom")
    missing = max(0, wanted - headroom)
    least = missing or max(1, min(band.target - band.low, target - headroom))
    if step < least:
        return _cannot_fund(docket, view, verdict, money, _Need(least, wanted > headroom))
    if step < verdict.number("min_step") and not missing:
        return docket.hold(channel.channel_id, Reason.BELOW_MIN_STEP, None, verdict)
    reason = "wanted" if missing else "running_out" if verdict.act is None else "rule"
    action = FundChannel(pool.wallet, channel.channel_id, Drops(channel.amount + step))
    answer = docket.granted(Concern.FUND, view, docket.intent(action, reason, verdict), drops=step)
    if isinstance(answer, Intent) and not docket.freezes(answer):
        account.take(pool.wallet, view.server, step, whose, opens=False)
    return answer


def _marks(docket: Docket, verdict: Verdict, wanted: int, share: Share) -> tuple[int, int]:
    """The headroom below which a channel is funded, and up to which."""
    rate, band, runway = docket.group.rate, verdict.band("headroom"), verdict.band("runway")
    enough = reorder_point(rate, runway.low, verdict.number("quantile"))
    if share is Share.SPARE:
        stock = min(enough, docket.pool.channel.max)
        return max(band.low, stock // 2), max(band.target, stock)
    low = max(band.low, enough if share is Share.ALL else 0, wanted)
    target = max(band.target, order_up_to(rate, verdict), wanted)
    if runway.high is not None:
        target = min(target, max(rate.need(runway.high), low))
    return low, target


@dataclass(frozen=True, slots=True)
class _Need:
    """The least that a channel is to be funded by; `refused`: somebody asked for it in vain."""

    least: int
    refused: bool


def _cannot_fund(docket: Docket, view: ChannelView, verdict: Verdict, money: int, need: _Need) -> Answer | None:
    """What is owed still counts as locked: where only room is missing, paying it out lets the channel be funded.

    Not where money is missing, too: it would be paid for nothing, and again whenever others take the room.
    """
    subject, pool = view.channel.channel_id, docket.pool
    affordable = docket.account.affordable(Kind.FUND, pool.name, money)
    if affordable < need.least:
        spent = money >= need.least
        return docket.hold(subject, Reason.BUDGET_EXHAUSTED, docket.now + RECHECK_S, verdict) if spent else None
    if (stop := docket.bench.above(Concern.FUND, view)) is not None:  # room would be made for nothing
        return docket.hold(subject, stop.reason, stop.until, verdict)
    if not (owed := view.channel.unredeemed(view.authorized)):
        return None
    lockable, capped = docket.account.lockable(view.server, whose_of(docket.group, view.tier), freed=owed)
    room = min(pool.channel.max - view.channel.remaining + owed, lockable)
    if room < need.least and not _has_part(docket, view, need):
        return docket.hold(subject, capped, None, verdict) if lockable < need.least else None
    if not need.refused and min(room, affordable) < verdict.number("min_step"):
        return docket.hold(subject, Reason.BELOW_MIN_STEP, None, verdict)
    return pay_once(docket, view, "make_room", docket.verdict(Concern.SETTLE, view), verdict)


def _has_part(docket: Docket, view: ChannelView, need: _Need) -> bool:
    """Whether a channel that cannot make the room alone does its part: a cap that was lowered may take many payouts.

    At least half of what it holds is owed, so that it soon has no part left: crumbs are not paid out one by one.
    """
    owed = view.channel.unredeemed(view.authorized)
    return need.refused and view.server in docket.account.world.servers and owed * 2 >= view.channel.remaining


# --- opening ---------------------------------------------------------------------------------------------------------


def meet_want(docket: Docket, usable: list[ChannelView], staying: list[ChannelView]) -> Answer:
    """Open a channel where none that the payee has can carry, or is about to carry, what was asked for; else a spare.

    `usable` are the channels on which claims can be issued, `staying` those of them that are not about to be closed.
    """
    group, subject = docket.group, docket.group.subject
    able = (v for v in usable if docket.carries(v) and v.channel.headroom(v.authorized) >= group.wanted)
    if group.wanted == 0 or any(able):
        return _spare(docket, usable, staying)
    if group.wanted > docket.pool.channel.max:
        return docket.hold(subject, Reason.TOO_LARGE)
    if group.opening or docket.has_funding(usable) or _room_comes(docket, staying):
        return docket.hold(subject, Reason.IN_FLIGHT)
    if group.retry_at is not None and docket.now < group.retry_at:
        return docket.hold(subject, Reason.COOLDOWN, group.retry_at)
    rate, runway = group.rate, (verdict := docket.verdict(Concern.OPEN, None)).band("runway")
    least = max(verdict.number("amount"), group.wanted)
    most = docket.pool.channel.max if runway.high is None else max(least, rate.need(runway.high))
    return _open(docket, verdict, usable, _Size(least, min(most, max(least, order_up_to(rate, verdict)))))


def _room_comes(docket: Docket, staying: list[ChannelView]) -> bool:
    """Whether the channel in use is being paid out, and can be funded for what is wanted as soon as that is done."""
    view = max(staying, key=precedence, default=None)
    if view is None or not docket.carries(view) or not docket.pays_out(view):
        return False
    verdict, pool, account = docket.verdict(Concern.FUND, view), docket.pool, docket.account
    funds = verdict.act == "fund_to_target" or (verdict.act is None and Concern.FUND in pool.terms)
    if not funds or docket.bench.above(Concern.FUND, view) or docket.cooling("", view.funded_at, verdict):
        return False
    least = docket.group.wanted - view.channel.headroom(view.authorized)
    owed = view.channel.unredeemed(view.authorized)
    room = account.lockable(view.server, whose_of(docket.group, view.tier), freed=owed)[0]
    money = account.affordable(Kind.FUND, pool.name, account.spendable(pool.wallet))
    return min(room, money) >= least


def _spare(docket: Docket, usable: list[ChannelView], staying: list[ChannelView]) -> Answer:
    """Open the next spare, where the payee draws from a channel and has fewer than are to be kept ready."""
    group, subject, lasts = docket.group, docket.group.subject, lasting(docket, staying)
    verdict = docket.verdict(Concern.OPEN, None)
    if not (spare := verdict.number("spare")) or not in_use(staying):
        return docket.hold(subject, Reason.NO_DEMAND)
    if len(lasts) > spare:
        ages = [at for view in lasts if (at := ages_at(docket, view)) is not None]
        return docket.hold(subject, Reason.NO_DEMAND, min(ages, default=None), verdict)
    if group.opening:
        return docket.hold(subject, Reason.IN_FLIGHT)
    if group.retry_at is not None and docket.now < group.retry_at:
        return docket.hold(subject, Reason.COOLDOWN, group.retry_at)
    least = verdict.number("amount")
    enough = reorder_point(group.rate, verdict.band("runway").low, verdict.number("quantile"))
    size = _Size(least, max(least, enough), spare=True)
    server = max(staying, key=precedence).server
    return _open(docket, verdict, usable, size, server)


@dataclass(frozen=True, slots=True)
class _Size:
    """How much goes into a new channel: `most`, or else what there is, but `least`."""

    least: int
    most: int
    spare: bool = False


def _open(
    docket: Docket, verdict: Verdict, usable: list[ChannelView], size: _Size, server: str | None = None
) -> Answer:
    """Open a channel that counts against the caps of `server`, by default of whoever asked.

    A channel whose end is near makes way for its successor, and those that are closing do not count.
    """
    pool, group, subject = docket.pool, docket.group, docket.group.subject
    server, again = server or group.server, docket.now + RECHECK_S if size.spare else None
    if (hold := _not_yet(docket, verdict, usable, again)) is not None:
        return hold
    if reason := docket.account.may_open(server):
        return docket.hold(subject, reason, again, verdict)
    amount = _amount(docket, size, server)
    if isinstance(amount, Reason):
        return docket.hold(subject, amount, again, verdict)
    whose = (group.user, group.tier or "")
    action = OpenChannel(
        pool.wallet, pool.name, server, group.payee, amount, pool.settle_delay, pool.cancel_after, *whose
    )
    reason_why = "spare" if size.spare else "wanted"
    answer = docket.granted(Concern.OPEN, None, docket.intent(action, reason_why, verdict), drops=amount)
    if isinstance(answer, Intent) and not docket.freezes(answer):
        docket.account.take(pool.wallet, server, amount, whose_of(group), opens=True)
    return answer


def _not_yet(docket: Docket, verdict: Verdict, usable: list[ChannelView], again: int | None) -> Hold | None:
    """What the rules, and what became of the payee's channels so far, say against another one."""
    group, subject = docket.group, docket.group.subject
    if verdict.act == HOLD:
        return docket.hold(subject, Reason.RULE, again, verdict)
    early_ends = docket.account.policy.guards.early_ends
    if (until := waits_until(group.early_ends, early_ends, docket.now)) is not None:
        return docket.hold(subject, Reason.EARLY_ENDS, until, verdict)
    if len(lasting(docket, usable)) >= verdict.number("max_per_payee"):
        return docket.hold(subject, Reason.CHANNELS_PER_PAYEE, again, verdict)
    return docket.cooling(subject, group.opened_at, verdict)


def _amount(docket: Docket, size: _Size, server: str) -> Drops | Reason:
    """What goes into a new channel, or why not even the least that is needed can."""
    pool, account, least = docket.pool, docket.account, size.least
    amount = min(pool.channel.max, size.most)
    lockable, capped = account.lockable(server, whose_of(docket.group))
    spendable = account.spendable(pool.wallet, new_objects=1)
    amount = min(amount, max(lockable, 0), max(spendable, 0))
    if amount < least:
        return capped if lockable < spendable else Reason.GUARD_TREASURY
    amount = account.affordable(Kind.OPEN, pool.name, amount)
    return Reason.BUDGET_EXHAUSTED if amount < least else Drops(amount)
