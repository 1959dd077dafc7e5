"""Payees that keep ending their channels: how long each waits for the next one. Pure.

A channel ends early when it goes before any end was set for it: its payee closed it, for nobody else can. Each time a
new one costs a transaction and locks capital, so a payee that goes on like that waits ever longer for the next. A
channel that we close ourselves, whatever for, stops issuing first and is no early end; nor is one that reached its end.

Sources: rippled PayChan.cpp (a claim with tfClose by the destination deletes the channel at once; by the source it sets
an expiration, unless nothing is left in it).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from channeld.core.policy import EarlyEnds
from channeld.core.records import ChannelRecord
from channeld.core.units import RippleTime

MOST_KEPT: Final = 64
"""Early ends of one payee that are remembered: more than `EarlyEnds.free` can be, and as many doublings as matter."""
_MOST_DOUBLINGS: Final = 30


def cut_short(known: ChannelRecord, now: RippleTime) -> RippleTime | None:
    """When a channel ended early that was deleted at `now`, None: it did not. `known` is how it was known before."""
    channel = known.channel
    over = channel.cancel_after is not None and now >= channel.cancel_after
    return now if known.issuing and channel.expiration is None and not over else None


def counted(ends: Sequence[RippleTime], terms: EarlyEnds, now: RippleTime) -> int:
    """How many early ends, in order, lie within the window."""
    return sum(1 for at in ends if at > now - terms.window)


def waits_until(ends: Sequence[RippleTime], terms: EarlyEnds, now: RippleTime) -> RippleTime | None:
    """Until when a payee with these early ends, in order, gets no further channel; None: it may have one now.

    It is the very first moment: what leaves the window meanwhile shortens the wait.
    """
    count = counted(ends, terms, now)
    beyond = count - terms.free
    if beyond <= 0:
        return None
    inside, last = ends[-count:], ends[-1]
    until = last + _wait(beyond, terms)
    for gone in range(1, beyond + 1):  # so many have left the window by then
        until = min(until, max(inside[gone - 1] + terms.window, last + _wait(beyond - gone, terms)))
    return RippleTime(until) if until > now else None


def _wait(beyond: int, terms: EarlyEnds) -> int:
    """Seconds to wait after so many early ends that are not free."""
    return min(terms.longest, terms.first << min(beyond - 1, _MOST_DOUBLINGS)) if beyond else 0
