"""How many more request ids may be remembered. A full store takes nothing new, and answers what it knows as ever.

No content server can fill it for all: the last tenth of the room is kept for those who have had little of it. Each may
count on an equal part of that tenth, its share, whatever the others do; who has had its share goes on for as long as
what is left is more than what is kept for those who have not.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from channeld.core.requests import Code, Refusal
from channeld.core.units import Seconds
from channeld.service.clock import KEPT_LONGER_S
from channeld.service.ports import Store

_SHORTEST_S = 1
_LONGEST_S = 3600
_KEPT = 10
"""One part in so many is kept for those who have had little."""
_COUNTED_FOR_S = 1.0
"""Asking for the ids of thousands of servers takes longer than deciding on a group."""


class Room:
    """What one group of requests may take of the ids that are left: `of_all` whoever asks, the rest only servers
    below their `share`. `plenty`: there is an id for each of the group, so that nothing need be asked or counted.
    """

    __slots__ = ("_by_server", "_ids_of", "_left", "_of_all", "_share", "_taken", "plenty")

    def __init__(self, size: int, left: int, of_all: int, share: int, ids_of: Callable[[str], int]) -> None:
        self.plenty = of_all >= size
        self._left, self._of_all, self._share, self._ids_of = left, of_all, share, ids_of
        self._taken = 0
        self._by_server: dict[str, int] = {}

    @property
    def full(self) -> bool:
        """Whether the group took all that was left."""
        return self._taken >= self._left

    def may_take(self, server: str) -> bool:
        """Whether there is one more id for a content server."""
        if self._taken < self._of_all:
            return True
        if self.full:
            return False
        return self._by_server.get(server, 0) < self._share - self._ids_of(server)

    def take(self, server: str) -> None:
        """The group takes an id for a content server."""
        self._taken += 1
        self._by_server[server] = self._by_server.get(server, 0) + 1


class IdRoom:
    """At most `most` ids are remembered, each for `keep_s`. `servers` tells which content servers are configured.

    While there is plenty of room, asking costs nothing: the store counts along. Then what is kept is counted at most
    once a second. It falls while ids are taken, so that too much may be kept for that long; what is forgotten meanwhile
    is kept for nobody until then. How many are left is always exact.
    """

    def __init__(
        self,
        store: Store,
        most: int,
        keep_s: Seconds,
        *,
        monotonic: Callable[[], float],
        servers: Callable[[], Collection[str]] = lambda: (),
    ) -> None:
        self._store, self._most, self._keep_s = store, most, keep_s
        self._monotonic, self._servers = monotonic, servers
        self._kept, self._kept_share, self._counted_at = 0, -1, 0.0

    def room(self, size: int) -> Room:
        """For a group of `size` requests, which is to be decided before the store takes anything else."""
        left = self._most - self._store.ids
        if left - self._most // _KEPT >= size:
            return Room(size, left, left, 0, self._store.ids_of)
        share = self._most // _KEPT // max(1, len(self._servers()))
        return Room(size, left, left - self._kept_for_all(share), share, self._store.ids_of)

    def _kept_for_all(self, share: int) -> int:
        """Ids that are kept for those who have not had their share, which changes with the number of servers."""
        now = self._monotonic()
        if share != self._kept_share or now - self._counted_at >= _COUNTED_FOR_S:
            ids_of = self._store.ids_of
            self._kept = sum(max(0, share - ids_of(server)) for server in self._servers())
            self._kept_share, self._counted_at = share, now
        return self._kept

    def warning(self) -> str | None:
        """What people should know before it is full; None while there is room."""
        count = self._store.ids
        return f"{count} of max_ids = {self._most} ids are remembered" if count * 10 >= self._most * 9 else None

    def refusal(self, now: int, *, full: bool) -> Refusal:
        """There is no room: come again when the oldest id is forgotten, or in an hour, for `most` may be raised.

        `now` is in Unix seconds. If it is not `full`, what is left is kept for others.
        """
        since = self._store.ids_since
        forgotten_in = 0 if since is None else since + self._keep_s + KEPT_LONGER_S + 1 - now
        wait = min(max(forgotten_in, _SHORTEST_S), _LONGEST_S)
        if full:
            return Refusal(Code.BUSY, f"all {self._most} ids are taken that max_ids lets be remembered", wait * 1000)
        why = (
            f"nearly all {self._most} ids are taken that max_ids lets be remembered, and this server has had its share"
        )
        return Refusal(Code.BUSY, why, wait * 1000)
