"""Whose locked capital is bounded beside that of content servers: a tier's, a user's, a payee's. Pure.

Drops count as locked from the moment an intent to lock them is written down until a validated ledger shows that they
were paid out or came back. A cap that is lowered takes nothing back: nothing more is locked until less is there.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from channeld.core.policy import Policy
from channeld.core.records import ChannelRecord
from channeld.core.world import GroupView, Reason


class Whose(NamedTuple):
    """Whom a channel is for. `payee` as it is written; `user` and `tier` are empty where there is none."""

    pool: str
    payee: str
    user: str = ""
    tier: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """Under which names the drops of such a channel are summed up; no content server is called so."""
        names = [_of_payee(self)]
        if self.user:
            names.append(_of_user(self))
        if self.tier:
            names.append(_of_tier(self))
        return tuple(names)

    def bounds(self, policy: Policy) -> Iterator[tuple[str, int, Reason]]:
        """Each cap that a policy has for such a channel: the name it bounds, the drops, and the reason to give."""
        pool, tier = policy.pools.get(self.pool), policy.tiers.get(self.tier)
        if pool is not None and pool.max_locked_per_payee is not None:
            yield _of_payee(self), pool.max_locked_per_payee, Reason.CAP_PAYEE
        if tier is not None and tier.max_locked is not None:
            yield _of_tier(self), tier.max_locked, Reason.CAP_TIER
        if tier is not None and self.user and tier.max_locked_per_user is not None:
            yield _of_user(self), tier.max_locked_per_user, Reason.CAP_USER


def _of_payee(whose: Whose) -> str:
    return f"payee/{whose.pool}/{whose.payee}"


def _of_user(whose: Whose) -> str:
    return f"user/{whose.user}"


def _of_tier(whose: Whose) -> str:
    return f"tier/{whose.tier}"


def opened_for(record: ChannelRecord) -> Whose:
    """Whom a channel was opened for."""
    return Whose(record.pool, str(record.channel.payee), record.user, record.tier)


def whose_of(group: GroupView, tier: str | None = None) -> Whose:
    """Whom a new channel of a group is for, or one that was opened for a `tier`."""
    return Whose(group.pool, str(group.payee), group.user, (group.tier or "") if tier is None else tier)


def names_of(group: GroupView) -> set[str]:
    """Every name whose sum a decision about a group may ask for."""
    tiers = {None, *(view.tier for view in group.channels)}
    return {name for tier in tiers for name in whose_of(group, tier).names}
