"""How many more request ids may be remembered. A full store takes nothing new, and answers what it knows as ever.

No content server can fill it for all: the last tenth of the room is kept for those who have had little of it. Each may
count on an equal part of that tenth, its share, whatever the others do; who has had its share goes on for as long as
what is left is more than what is kept for those who have not.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import NamedTuple

from channeld.core.requests import Code, Refusal
from channeld.core.units import Seconds
from channeld.service.clock import KEPT_LONGER_S
from channeld.service.ports import Store

_SHORTEST_S = 1
_LONGEST_S = 3600
_KEPT = 10
"""One part in so many is kept for those who have had little."""
_LARGEST_GROUP = 2048


class Room(NamedTuple):
    """Until a group has taken `of_all` ids anybody may take one; then only who has not had its share, `own` at most."""

    of_all: int
    own: int


class IdRoom:
    """At most `most` ids are remembered, each for `keep_s`. `servers` tells which content servers are configured.

    While there is plenty of room, asking costs nothing: the store counts along.
    """

    def __init__(
        self, store: Store, most: int, keep_s: Seconds, *, servers: Callable[[], Collection[str]] = tuple
    ) -> None:
        self._store, self._most, self._keep_s, self._servers = store, most, keep_s, servers

    def left(self) -> int:
        """Ids that may still be remembered; 0 or less: none."""
        return self._most - self._store.ids

    def room(self, server: str, left: int) -> Room:
        """What a content server may take of the `left` ids that its group found."""
        if left > self._most // _KEPT + _LARGEST_GROUP:
            return Room(left, 0)
        share = self._share()
        kept = sum(max(0, share - self._store.ids_of(other)) for other in self._servers())
        return Room(left - kept, max(0, share - self._store.ids_of(server)))

    def _share(self) -> int:
        return self._most // _KEPT // max(1, len(self._servers()))

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
