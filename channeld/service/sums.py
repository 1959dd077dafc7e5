"""What our live channels hold, as sums that are kept as they change: by pool, by content server, and by `core.caps`."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from channeld.core.caps import opened_for
from channeld.core.records import ChannelRecord
from channeld.service.locked import Locked


@dataclass(slots=True)
class PoolTotals:
    """Sums over the live channels of a pool. Headroom is `remaining` - `unredeemed`; what is authorised is `capacity` -
    headroom.
    """

    channels: int = 0
    issuing: int = 0
    capacity: int = 0
    remaining: int = 0
    unredeemed: int = 0


class Sums:
    """One for a daemon. `pools` are the names in the policy; `locked` also has what open intents will lock."""

    def __init__(self, pools: Collection[str], locked: Locked) -> None:
        self.pools = {pool: PoolTotals() for pool in pools}
        self._servers: dict[str, tuple[int, int]] = {}
        self._locked = locked

    def take_over(self, pools: Collection[str]) -> None:
        """The policy has these pools from now on; one that is gone from it stays while it has channels."""
        kept = {pool: totals for pool, totals in self.pools.items() if pool in pools or totals.channels}
        self.pools = {pool: PoolTotals() for pool in pools} | kept

    def count(self, record: ChannelRecord, sign: int) -> None:
        """A channel comes (1), or goes (-1); one that changes does both."""
        channel = record.channel
        locked, channels = self.of_server(record.server)
        self._servers[record.server] = (locked + sign * channel.remaining, channels + sign)
        self._locked.add(opened_for(record).names, sign * channel.remaining)
        totals = self.pools.setdefault(record.pool, PoolTotals())
        totals.channels += sign
        totals.issuing += sign * record.issuing
        totals.capacity += sign * channel.amount
        totals.remaining += sign * channel.remaining
        totals.unredeemed += sign * channel.unredeemed(record.authorized)

    def of_server(self, server: str) -> tuple[int, int]:
        """Drops that the channels opened for a content server hold, and how many they are."""
        return self._servers.get(server, (0, 0))
