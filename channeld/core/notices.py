"""Closing with notice: what a rule wants closed is announced first, and closed only if it still is after a while.

    due        a rule says `notify_then_close`          it must go on saying so for `patience`
    announced  its content servers were told            they are given `notice`
    closed     the rule still says so                   the close is requested, like any other

Whenever the rule ceases to hold, because the channel was used again or the policy is another, it starts from the
beginning. Time in which we ourselves were not there counts for nothing. What has begun is kept in the store.
"""

from __future__ import annotations

from channeld.core.chains import Verdict
from channeld.core.docket import Answer, Docket
from channeld.core.world import ChannelView, Notice, Reason

ACT = "notify_then_close"


def pending(docket: Docket, view: ChannelView, verdict: Verdict) -> Answer | None:
    """What is waited for before a channel is closed with notice; None: nothing any more, close it.

    What begins now is noted.
    """
    now, subject = docket.now, view.channel.channel_id
    due = now if view.due_since is None else view.due_since
    patient_until = due + verdict.number("patience")
    if now < patient_until:
        if view.due_since is None:
            docket.note(Notice(docket.group.key, subject, now))
        return docket.hold(subject, Reason.PATIENCE, patient_until, verdict)
    told = view.noticed_at
    if told is None:
        docket.note(Notice(docket.group.key, subject, now if view.due_since is None else None, now))
        told = now
    closes_at = told + verdict.number("notice")
    return docket.hold(subject, Reason.NOTICE_PENDING, closes_at, verdict) if now < closes_at else None


def withdraw(docket: Docket, view: ChannelView) -> None:
    """No rule wants it closed any more."""
    if view.due_since is not None or view.noticed_at is not None:
        docket.note(Notice(docket.group.key, view.channel.channel_id, withdrawn=True))
