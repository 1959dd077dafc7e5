"""Paying out what was signed: where it is worth it or too old, and where a channel's end would forfeit it."""

from __future__ import annotations

from channeld.core.chains import Verdict
from channeld.core.docket import Answer, Docket
from channeld.core.intents import Intent, SettleChannel
from channeld.core.units import Drops
from channeld.core.vocabulary import Concern
from channeld.core.world import ChannelView


def settle(docket: Docket, view: ChannelView) -> Answer | None:
    """Pay out where a rule says so, or by the pool's terms; None: nothing is owed, or nothing is due."""
    owed = view.channel.unredeemed(view.authorized)
    if not owed:
        return None
    verdict = docket.verdict(Concern.SETTLE, view)
    reason = None
    if verdict.act == "settle":
        reason = "rule"
    elif verdict.act is None and Concern.SETTLE in docket.pool.terms:
        since = view.unredeemed_since
        aged = since is not None and docket.now >= since + verdict.number("max_age")
        reason = "worth_it" if owed >= verdict.number("worth") else "too_old" if aged else None
    if reason is None:
        return docket.left_to_rules(view, verdict)
    return pay_once(docket, view, reason, verdict, verdict)


def pay_once(docket: Docket, view: ChannelView, reason: str, rules: Verdict, because: Verdict) -> Answer:
    """Pay out what can wait, unless the last payout was too lately by the `rules`; `because` is why it is due."""
    cooling = docket.cooling(view.channel.channel_id, view.settled_at, rules)
    return cooling or docket.granted(Concern.SETTLE, view, pay(docket, view, reason, because))


def pay(docket: Docket, view: ChannelView, reason: str, verdict: Verdict | None = None) -> Intent:
    """Pay out all that is owed now."""
    channel = view.channel
    target = Drops(channel.balance + channel.unredeemed(view.authorized))
    return docket.intent(SettleChannel(docket.pool.wallet, channel.channel_id, target), reason, verdict)


def aged_at(docket: Docket, view: ChannelView) -> int | None:
    """When what is owed will be too old by the pool's terms, as the rules have set them; None: nothing is owed."""
    if not view.channel.unredeemed(view.authorized) or view.unredeemed_since is None:
        return None
    return view.unredeemed_since + docket.verdict(Concern.SETTLE, view).number("max_age")
