"""The world as it is now, for deciding: what validated ledgers, the store and open intents say of some groups."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from channeld.core.caps import names_of
from channeld.core.collecting import Collecting
from channeld.core.intents import OpenChannel
from channeld.core.records import Incoming
from channeld.core.units import ChannelId, RippleTime
from channeld.core.world import GroupView, World
from channeld.service.holdings import Group
from channeld.service.mirror import Mirror
from channeld.service.spending import Spending


def world_of(mirror: Mirror, spending: Spending, groups: Iterable[Group], monotonic: float) -> World:
    """What `decide` may see of these groups. A validated ledger must have been processed. Raises `StoreError`."""
    assert mirror.header is not None
    listed, now, half_life = list(groups), mirror.header.close_time, mirror.policy.guards.demand_half_life
    there, demands = mirror.attendance, mirror.demands
    in_flight, decided_now = mirror.opens_in_flight()
    views = tuple(group.view(there, now, demands.rate(group, now, half_life)) for group in listed)
    names = {name for view in views for name in names_of(view)} if mirror.policy.caps_capital else ()
    return World(
        close_time=now,
        lag_s=monotonic - mirror.seen_at,
        fees=mirror.header.fees,
        groups=views,
        wallets=spending.wallet_views(),
        servers=mirror.server_views({server for group in listed for server in group.servers}),
        opens_in_flight=in_flight,
        opens_decided=decided_now,
        network_fee=mirror.network_fee,
        difference=_difference(mirror),
        halted=frozenset(wallet for wallet in mirror.wallets if mirror.halted(wallet)),
        pulses=spending.pulses(),
        used=spending.used(),
        locked=mirror.locked.of(names),
    )


def incoming_of(
    mirror: Mirror,
    spending: Spending,
    channels: Iterable[Incoming],
    in_flight: Callable[[ChannelId], bool],
    monotonic: float,
) -> list[Collecting]:
    """What deciding may see of channels that pay us; `in_flight` says of which a collection is under way.

    A validated ledger must have been processed. Raises `StoreError`.
    """
    assert mirror.header is not None
    used, lag_s, difference = spending.used(), monotonic - mirror.seen_at, _difference(mirror)
    has = {n: (v.beside_reserve(mirror.header.fees), v.purse) for n, v in spending.wallet_views().items()}
    found = []
    for held in channels:
        channel_id = held.channel.channel_id
        setback, wallet = mirror.setbacks.get(channel_id), mirror.by_address.get(held.channel.destination_account)
        name = wallet.name if wallet else ""
        spendable, purse = has.get(name, (None, 0))
        found.append(
            Collecting(
                held=held,
                in_flight=in_flight(channel_id),
                retry_at=setback.retry_at if setback else None,
                network_fee=mirror.network_fee,
                wallet=name,
                lag_s=lag_s,
                difference=difference,
                used=used,
                spendable=spendable,
                purse=purse,
            )
        )
    return found


def _difference(mirror: Mirror) -> int:
    """By how many drops the ledger, read whole, was off at most."""
    return max((wallet.difference for wallet in mirror.wallets.values()), default=0)


def foreseen(mirror: Mirror, group: Group, now: RippleTime, half_life: int) -> GroupView:
    """A group as it would be shown were it decided now, its demand observed up to now, without touching it.

    What was asked for in vain and led to a suggestion is still wanted, though the planner waits to be asked anew.
    """
    view = group.view(mirror.attendance, now, mirror.demands.foreseen(group, now, half_life))
    opens = [intent.action.amount for intent in group.suggested if isinstance(intent.action, OpenChannel)]
    return replace(view, wanted=max([view.wanted, *opens]))
