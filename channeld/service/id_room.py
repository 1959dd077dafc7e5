"""How many more request ids may be remembered. A full store takes nothing new, and answers what it knows as ever."""

from __future__ import annotations

from channeld.core.requests import Code, Refusal
from channeld.core.units import Seconds
from channeld.service.clock import KEPT_LONGER_S
from channeld.service.ports import Store

_SHORTEST_S = 1
_LONGEST_S = 3600


class IdRoom:
    """At most `most` ids are remembered, each for `keep_s`. Asking costs nothing: the store counts along."""

    def __init__(self, store: Store, most: int, keep_s: Seconds) -> None:
        self._store, self._most, self._keep_s = store, most, keep_s

    def left(self) -> int:
        """Ids that may still be remembered; 0 or less: none."""
        return self._most - self._store.ids[0]

    def warning(self) -> str | None:
        """What people should know before it is full; None while there is room."""
        count = self._store.ids[0]
        return f"{count} of max_ids = {self._most} ids are remembered" if count * 10 >= self._most * 9 else None

    def refusal(self, now: int) -> Refusal:
        """There is no room: come again when the oldest id is forgotten, or in an hour, for `most` may be raised.

        `now` is in Unix seconds.
        """
        since = self._store.ids[1]
        forgotten_in = 0 if since is None else since + self._keep_s + KEPT_LONGER_S + 1 - now
        wait = min(max(forgotten_in, _SHORTEST_S), _LONGEST_S)
        return Refusal(Code.BUSY, f"all {self._most} ids are taken that max_ids lets be remembered", wait * 1000)
