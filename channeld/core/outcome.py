"""What a validated transaction of ours achieved, judged by what it changed and never by its result code alone.

A Fund or Claim that meets an expired channel succeeds, deletes it and pays nothing; so success is no proof of anything.
What failed is not tried again at once: its subject, a channel or a payee in a pool, has a setback, which is kept in the
store, for a cooldown that a restart forgets would burn a fee with every restart.

Sources: rippled PayChan.cpp (closeChannel on expiry returns tesSUCCESS; a refused payout undoes tfClose as well).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from channeld.core.channel import Channel
from channeld.core.intents import (
    Action,
    FinalizeClose,
    FundChannel,
    Intent,
    OpenChannel,
    RedeemChannel,
    RequestClose,
    SettleChannel,
    Status,
)
from channeld.core.ledger import ChannelChange, ValidatedTransaction
from channeld.core.records import Setback
from channeld.core.results import After, after
from channeld.core.units import DAY_S, HOUR_S, ChannelId, Drops, RippleTime

FIRST_RETRY_S: Final = 10
LONGEST_RETRY_S: Final = HOUR_S
LONGEST_REFUSED_S: Final = DAY_S
"""A payee that refuses is asked again ever more rarely: at last once a day."""
_MOST_DOUBLINGS: Final = 20
_CODE: Final = re.compile("te[cflmr][A-Z0-9_]+")


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an intent ended: `status` is DONE or FAILED, `paid` the drops that really reached the payee, `note` why.

    PLANNED means that its transaction is dead and it is signed again. `after` is what a claimed failure means. `spoilt`
    is the fee of a transaction that was validated and is signed again all the same (0: it was none).
    """

    status: Status
    paid: Drops
    note: str
    after: After | None = None
    spoilt: int = 0


def judge(action: Action, channel_id: ChannelId, transaction: ValidatedTransaction) -> Outcome:
    """Judge the validated transaction that was signed for `action` on `channel_id` (for an open: the id it gives)."""
    change = next((c for c in transaction.channels if c.channel_id == channel_id), None)
    paid = change.paid if change else Drops(0)
    if not transaction.succeeded:
        return Outcome(Status.FAILED, paid, transaction.result, after(transaction.result, action.kind))
    if change is not None and _reached(action, change):
        return Outcome(Status.DONE, paid, transaction.result)
    return Outcome(Status.FAILED, paid, "expired_unpaid" if change and change.deleted else "no_effect")


def judge_altered(intent: Intent, channel_id: ChannelId, transaction: ValidatedTransaction) -> Outcome:
    """The same of one in which somebody else changed the claim's signature.

    What was spoilt by that is no fault of the intent: before a deadline it is signed again at once, for as long as
    that costs less than it brings (`Urgency.stake`). What can wait fails, cools down, and is decided anew.
    """
    outcome = judge(intent.action, channel_id, transaction)
    if outcome.after is After.DECIDE_ANEW and intent.deadline:
        return Outcome(Status.PLANNED, Drops(0), outcome.note, spoilt=transaction.fee)
    return outcome


def _reached(action: Action, change: ChannelChange) -> bool:
    """Whether the change is what the action was for."""
    if isinstance(action, OpenChannel):
        return change.created
    if isinstance(action, FundChannel):
        return not change.deleted and change.channel.amount >= action.target_amount
    if isinstance(action, SettleChannel | RedeemChannel):
        return change.paid > 0
    if isinstance(action, RequestClose):
        return change.deleted or change.channel.expiration is not None
    assert isinstance(action, FinalizeClose)
    return change.deleted


def subject_of(action: Action) -> str:
    """What a failure of this action holds back: its channel, or for an open the payee in its pool."""
    return f"{action.pool}/{action.subject}" if isinstance(action, OpenChannel) else action.channel_id


def setback_after(before: Setback | None, action: Action, outcome: Outcome, now: RippleTime) -> Setback:
    """What an ended intent leaves its subject with; one that `is over` is none.

    A close that failed because its payout was refused goes again at once, alone; only what fails then waits. That the
    payee refuses is remembered until a payout succeeds.
    """
    subject = subject_of(action)
    old = before or Setback(subject, 0, None, refused=False)
    if outcome.status is not Status.FAILED:
        still = old.refused and outcome.paid == 0 and not isinstance(action, OpenChannel)
        return Setback(subject, old.failures if still else 0, None, refused=still)
    refused = outcome.after is After.REFUSED
    if refused and isinstance(action, RequestClose) and not old.refused:
        return Setback(subject, old.failures, None, refused=True)
    code = outcome.note if _CODE.fullmatch(outcome.note) else ""  # nothing else that a note may say goes on from here
    return cooled(old, subject, now, refused=refused or old.refused, code=code)


def cooled(before: Setback | None, subject: str, now: RippleTime, *, refused: bool = False, code: str = "") -> Setback:
    """One more failure of a subject at close time `now`: twice the wait of the last, up to a limit."""
    failures = before.failures + 1 if before else 1
    return Setback(subject, failures, RippleTime(now + _wait_s(failures, refused=refused)), refused=refused, code=code)


def failed_at(setback: Setback) -> RippleTime | None:
    """The close time of the failure that a subject cools down from; None where it does not."""
    if setback.retry_at is None:
        return None
    return RippleTime(setback.retry_at - _wait_s(setback.failures, refused=setback.refused))


def _wait_s(failures: int, *, refused: bool) -> int:
    """Seconds to wait after so many failures in a row, 1 or more."""
    longest = LONGEST_REFUSED_S if refused else LONGEST_RETRY_S
    return min(longest, FIRST_RETRY_S << min(failures - 1, _MOST_DOUBLINGS))


def cooled_at(channel: Channel, authorized: int, failed: tuple[int | None, int | None], now: RippleTime) -> int | None:
    """When what failed on a channel may be tried again, None where nothing failed; `failed` has `Setback.retry_at` and
    `failed_at` of it.

    As long as a payout is owed that the channel's end would forfeit, a cooldown takes at most half of the time that
    was left when it began: however often it fails, there is another try in time, and there are only a few more.
    """
    retry_at, at = failed
    if retry_at is None or at is None or channel.deadline is None:
        return retry_at
    if now >= channel.deadline or not channel.unredeemed(authorized):
        return retry_at
    return min(retry_at, (at + channel.deadline) // 2)
