"""Spare channels: ready before they are needed, so that no request waits when the one in use closes or runs out.

Of the channels of a payee one is in use: the one that was signed last. The claim desk stays with it as long as it can
carry what is asked for, and then goes to the next by the same order, so that a spare is as good as untouched when its
turn comes. Once a payee draws from a channel, as many more as the policy says are kept ready beside it. A channel whose
life is nearly over counts as gone already: its successor is opened before it ends.

A spare is not unused: it stays for as long as the channel that it stands by for. When nobody has drawn from any for so
long that all are to be closed, they close one after the other, so that whoever comes back meanwhile finds one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from channeld.core.channel import Channel, Phase
from channeld.core.closing import Due
from channeld.core.docket import Docket
from channeld.core.intents import Kind
from channeld.core.units import RippleTime
from channeld.core.vocabulary import Concern
from channeld.core.world import ChannelView

SUCCESSOR_LEAD_S: Final = 300
"""How long before the last claim on a channel with a fixed end its successor must be ready; at most a quarter of its
life."""
_LEAD_SHARE: Final = 4

Dues = Mapping[str, Due | None]
"""Why each channel, by id, is to be closed."""


def turn(channel: Channel, authorized: int, last_claim_at: RippleTime) -> tuple[bool, int, int, str]:
    """Orders channels by how soon they are asked: the one signed last comes highest, what was never used lowest."""
    return (authorized > 0, last_claim_at, channel.headroom(authorized), channel.channel_id)


def precedence(view: ChannelView) -> tuple[bool, int, int, str]:
    """The turn of a channel as `decide` sees it."""
    return turn(view.channel, view.authorized, view.last_claim_at)


def ages_at(docket: Docket, view: ChannelView) -> int | None:
    """From when on another has to be ready in its place, because its life ends soon; None: it has no fixed end."""
    pool, last = docket.pool, view.channel.last_claim_time(docket.pool.life_margin)
    if last is None or pool.cancel_after is None:
        return last
    lag = docket.account.policy.guards.ledger_lag
    life = pool.cancel_after - pool.settle_delay - pool.life_margin - lag
    return last if life <= 0 else last - lag - min(SUCCESSOR_LEAD_S, life // _LEAD_SHARE)


def lasting(docket: Docket, views: list[ChannelView]) -> list[ChannelView]:
    """Of channels that claims can be issued on, those whose end is not near."""
    return [view for view in views if (at := ages_at(docket, view)) is None or docket.now < at]


def wanted_spares(docket: Docket) -> int:
    """How many channels are to be kept ready beside the one in use."""
    return docket.verdict(Concern.OPEN, None).number("spare")


def standing_by(docket: Docket, staying: list[ChannelView]) -> list[ChannelView]:
    """The spares among channels that stay, the next one to be asked first. Without use there are none."""
    if len(staying) < 2 or not in_use(staying):
        return []
    ordered = sorted(staying, key=precedence, reverse=True)
    return lasting(docket, ordered[1:])[: wanted_spares(docket)]


def in_use(staying: list[ChannelView]) -> bool:
    """Whether somebody draws from one of the channels that stay."""
    return any(view.authorized for view in staying)


def keep(docket: Docket, usable: list[ChannelView], due: Dues) -> Dues:
    """Why each channel is to be closed once spares are kept: what only rules would close may be one of them."""
    unused = [v for v in usable if (d := due[v.channel.channel_id]) is not None and not d.forced]
    if not unused or not (spare := wanted_spares(docket)):
        return due
    unused.sort(key=precedence, reverse=True)
    staying = [view for view in usable if due[view.channel.channel_id] is None]
    if in_use(staying):
        kept = lasting(docket, unused)[: max(0, 1 + spare - len(lasting(docket, staying)))]
    else:
        kept = unused if _one_is_leaving(docket) else unused[:-1]
    ids = {view.channel.channel_id for view in kept}
    return {i: replace(d, kept=True) if d is not None and i in ids else d for i, d in due.items()}


def _one_is_leaving(docket: Docket) -> bool:
    """Whether a channel of the payee is on its way out and not gone yet."""
    return any(
        not view.issuing or view.pending is Kind.REQUEST_CLOSE or view.channel.phase(docket.now) is not Phase.OPEN
        for view in docket.group.channels
    )
