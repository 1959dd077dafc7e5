"""Channels that pay us: when what is held on one is collected. Pure, and one answer for each channel.

In this order:

    1. nothing is held, no wallet of ours is paid, it is too late, or something is in flight    wait
    2. its source requested a close                         collect, whatever it is worth, at once and again
    3. its fixed end is near                                the same
    4. a failure cools down                                 wait
    5. a rule for `redeem` says so, or where none acts: what is held is worth it, or too old    collect, unless
    6. an override, a freeze or the mode stands above it, or money for its fee is short         wait

A source may end its channel at any time, and once the deadline has passed a collection succeeds and pays nothing. So
what stands at 2 and 3 waits for no cooldown, and no rule, mode, override, freeze or budget is asked about it: what
failed goes again with the next ledger until it is paid or the channel is gone.

The terms of `[receive]` are the last rules of the chain: they decide where no rule acts, with `worth` and `max_age` as
the rules have set them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from channeld.core.budgets import Purse, Purses
from channeld.core.chains import Verdict, above, changes_at, frozen_by, ruled
from channeld.core.channel import Channel
from channeld.core.fees import worst_fee
from channeld.core.intents import BEFORE_END, SOURCE_CLOSES, Intent, Kind, RedeemChannel
from channeld.core.policy import Policy, ReceiveTerms, Scope
from channeld.core.records import Incoming
from channeld.core.rules import RECHECK_S, Known, Value
from channeld.core.units import Drops, RippleTime
from channeld.core.vocabulary import HOLD, PPM, Concern
from channeld.core.world import Reason


@dataclass(frozen=True, slots=True)
class Collecting:
    """What is known of a channel that pays us when it is decided whether to collect from it.

    `in_flight`: an intent to collect it is open. `retry_at`: a failure is not repeated before that, None: there was
    none. `wallet` is the name of the account that it pays, empty where that is none of ours any more. `lag_s` and
    `difference` are as in `core.world.World`; `used` is what each budget has used, by name; `spendable` is what the
    account has beside the ledger's reserve (None: nobody knows), and `purse` what is left of its purse for deadline
    work. All three have what was decided before in them, at its worst.
    """

    held: Incoming
    in_flight: bool
    retry_at: RippleTime | None
    network_fee: int | None = None
    wallet: str = ""
    lag_s: float = 0.0
    difference: int = 0
    used: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    spendable: int | None = None
    purse: int = 0


@dataclass(frozen=True, slots=True)
class Wait:
    """What is held is left where it is; `until` is when to look again, None: when something changes.

    `path` names the rules that held, as `redeem/rule`. `wish` is what would be done, where the mode only suggests.
    """

    reason: Reason
    until: RippleTime | None = None
    path: tuple[str, ...] = ()
    wish: Intent | None = None


def collect(seen: Collecting, policy: Policy, now: RippleTime) -> Intent | Wait:
    """Whether to collect what is held on a channel, as of close time `now`: the intent, or why not."""
    if (reason := _cannot(seen, now)) is not None:
        return Wait(reason)
    channel = seen.held.channel
    if channel.expiration is not None:
        return _redeem(seen, policy, SOURCE_CLOSES)
    ends = near_end(channel, policy.receive)
    if ends is not None and now >= ends:
        return _redeem(seen, policy, BEFORE_END)
    answer = _as_ruled(seen, policy, now)
    if isinstance(answer, Intent) or ends is None:
        return answer
    return replace(answer, until=ends if answer.until is None else RippleTime(min(answer.until, ends)))


def _cannot(seen: Collecting, now: RippleTime) -> Reason | None:
    """Why nothing can be collected now, or None."""
    if not seen.held.collectable:
        return Reason.NOTHING_HELD
    if not seen.wallet:
        return Reason.NO_WALLET
    if seen.held.channel.deletable(now):
        return Reason.EXPIRED
    return Reason.IN_FLIGHT if seen.in_flight else None


def collect_all(
    channels: Iterable[Collecting], policy: Policy, now: RippleTime
) -> list[tuple[Collecting, Intent | Wait]]:
    """The answer for each of these channels, in this order; what one of them takes is not there for the next.

    What budgets have used is the same in all of them, and what an account has in all that pay it. Each comes back as it
    was decided about.
    """
    found: list[tuple[Collecting, Intent | Wait]] = []
    fee, purses = _worst(policy), None
    paid, drawn = Counter[str](), Counter[str]()
    for each in channels:
        purses = purses or Purses(policy.budgets, each.used)
        seen, wallet = each, each.wallet
        if paid:
            left = None if each.spendable is None else each.spendable - paid[wallet]
            seen = replace(each, used=purses.spoken_for(), spendable=left, purse=each.purse - drawn[wallet])
        answer = collect(seen, policy, now)
        if isinstance(answer, Intent):
            paid[wallet] += fee
            if answer.deadline:
                drawn[wallet] += fee
            else:
                purses.take({Purse.FEES: fee}, "")
        found.append((seen, answer))
    return found


def _worst(policy: Policy) -> Drops:
    """What collecting costs at worst, deadline or not: its source may close the channel at any time."""
    return worst_fee(Kind.REDEEM, policy.guards, ends=True)


def facts(seen: Collecting, now: RippleTime) -> dict[str, Known]:
    """What rules may ask about a channel that pays us; None where it is not known."""
    held, deadline, fee = seen.held, seen.held.channel.deadline, seen.network_fee
    owed = held.collectable
    return {
        "unredeemed": owed,
        "unredeemed_age": max(0, now - held.held_since) if owed and held.held_since is not None else 0,
        "fee_ratio": None if fee is None or not owed else fee * PPM // owed,
        "deadline_in": None if deadline is None else max(0, deadline - now),
        "network_fee_drops": fee,
        "server": held.server,
        "wallet": seen.wallet,
    }


def verdict_of(seen: Collecting, policy: Policy, now: RippleTime) -> Verdict:
    """What the rules for `redeem` say, laid over the terms of `[receive]`."""
    terms: dict[str, Value] = {"worth": policy.receive.worth, "max_age": policy.receive.max_age}
    return ruled(policy, Concern.REDEEM, terms, lambda: facts(seen, now))


def _redeem(seen: Collecting, policy: Policy, reason: str, path: tuple[str, ...] = ()) -> Intent:
    held = seen.held
    target = Drops(held.channel.balance + held.collectable)
    return Intent(RedeemChannel(seen.wallet, held.channel.channel_id, target), reason, policy.hash, path)


def near_end(channel: Channel, terms: ReceiveTerms) -> RippleTime | None:
    """From when the channel's fixed end is near; None: it has none."""
    return None if channel.cancel_after is None else RippleTime(channel.cancel_after - terms.before_end)


def _as_ruled(seen: Collecting, policy: Policy, now: RippleTime) -> Intent | Wait:
    """What has no deadline."""
    if seen.retry_at is not None and now < seen.retry_at:
        return Wait(Reason.COOLDOWN, seen.retry_at)
    verdict = verdict_of(seen, policy, now)
    reason = "rule" if verdict.act == "redeem" else None if verdict.act else _by_terms(seen.held, verdict, now)
    if reason is None:
        return _left_alone(seen, policy, verdict, now)
    intent = _redeem(seen, policy, reason, verdict.path)
    stop = above(policy, Concern.REDEEM, now, frozen_by(seen, policy), lambda scope: _meant(scope, seen, policy))
    if stop is not None:
        return Wait(stop.reason, stop.until, verdict.path, intent if stop.reason is Reason.SUGGESTED else None)
    short = _short(seen, policy)
    return intent if short is None else Wait(short, RippleTime(now + RECHECK_S), verdict.path)


def _short(seen: Collecting, policy: Policy) -> Reason | None:
    """Which money for the fee is short, or None. What brings in more than it costs leaves the purse as it was."""
    fee = _worst(policy)
    if Purses(policy.budgets, seen.used).exhausted({Purse.FEES: fee}, "") is not None:
        return Reason.BUDGET_EXHAUSTED
    if not policy.guards.deadline_purse or seen.spendable is None or seen.held.collectable >= fee:
        return None
    return Reason.GUARD_TREASURY if seen.spendable - max(0, seen.purse) < fee else None


def _aged_at(held: Incoming, verdict: Verdict, now: RippleTime) -> RippleTime:
    """When what is held will be too old."""
    since = now if held.held_since is None else held.held_since
    return RippleTime(since + verdict.number("max_age"))


def _by_terms(held: Incoming, verdict: Verdict, now: RippleTime) -> str | None:
    """Why it is due by the terms, as the rules have set them; None: it is not."""
    if held.collectable >= verdict.number("worth"):
        return "worth_it"
    return "too_old" if now >= _aged_at(held, verdict, now) else None


def _left_alone(seen: Collecting, policy: Policy, verdict: Verdict, now: RippleTime) -> Wait:
    """Nothing is due: because a rule says so, or by the terms. Looked at again when either may say something else."""
    otherwise = "redeem" if _by_terms(seen.held, verdict, now) else HOLD
    moments = [changes_at(policy, verdict, now, otherwise)]
    if verdict.act is None:
        moments.append(_aged_at(seen.held, verdict, now))
    reason = Reason.WITHIN_BAND if verdict.act is None else Reason.RULE
    first = min((at for at in moments if at is not None), default=None)
    return Wait(reason, None if first is None else RippleTime(first), verdict.path)


def _meant(scope: Scope, seen: Collecting, policy: Policy) -> bool:
    """Whether an override is for a channel that pays us: it is of every pool that is paid for from its account."""
    channel, server = seen.held.channel, seen.held.server
    pools = [pool.name for pool in policy.pools.values() if pool.wallet == seen.wallet] or [""]
    channel_id, payee = channel.channel_id, str(channel.payee)
    return any(scope.fits(channel_id=channel_id, payee=payee, server=server, pool=p, tier=None) for p in pools)
