"""What a validated transaction of ours achieved, judged by what it changed and never by its result code alone.

A Fund or Claim that meets an expired channel succeeds, deletes it and pays nothing; so success is no proof of anything.
Sources: rippled PayChan.cpp (closeChannel on expiry returns tesSUCCESS).
"""

from __future__ import annotations

from dataclasses import dataclass

from channeld.core.intents import Action, FinalizeClose, FundChannel, OpenChannel, RequestClose, SettleChannel, Status
from channeld.core.ledger import ChannelChange, ValidatedTransaction
from channeld.core.units import ChannelId, Drops


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an intent ended: `status` is DONE or FAILED, `paid` the drops that really reached the payee, `note` why."""

    status: Status
    paid: Drops
    note: str


def judge(action: Action, channel_id: ChannelId, transaction: ValidatedTransaction) -> Outcome:
    """Judge the validated transaction that was signed for `action` on `channel_id` (for an open: the id it gives)."""
    change = next((c for c in transaction.channels if c.channel_id == channel_id), None)
    paid = change.paid if change else Drops(0)
    if not transaction.succeeded:
        return Outcome(Status.FAILED, paid, transaction.result)
    if change is not None and _reached(action, change):
        return Outcome(Status.DONE, paid, transaction.result)
    return Outcome(Status.FAILED, paid, "expired_unpaid" if change and change.deleted else "no_effect")


def _reached(action: Action, change: ChannelChange) -> bool:
    """Whether the change is what the action was for."""
    if isinstance(action, OpenChannel):
        return change.created
    if isinstance(action, FundChannel):
        return not change.deleted and change.channel.amount >= action.target_amount
    if isinstance(action, SettleChannel):
        return change.paid > 0
    if isinstance(action, RequestClose):
        return change.deleted or change.channel.expiration is not None
    assert isinstance(action, FinalizeClose)
    return change.deleted
