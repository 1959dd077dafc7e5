"""When we were there for content servers, and when not: evidence that a channel's silence was not our own doing.

Every processed ledger says whether claims could be had at it. From the last at which they could to the next is an
absence: the process was dead, the broker was gone, ledgers came too late, or something was frozen. It is written with
the ledger that ends it, so that no restart forgets it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from channeld.core.records import Attended
from channeld.core.units import RippleTime

MOST_ABSENCES: Final = 1000
"""As many are kept; of more the oldest two become one of their length."""


class Attendance:
    """`absences` (from, to) are in order; `until` is the last ledger's close time at which we served, None: never yet.

    `serving` says whether claims can be had now.
    """

    def __init__(self, absences: Sequence[tuple[RippleTime, RippleTime]] = (), until: RippleTime | None = None) -> None:
        self._absences, self._until = list(absences), until
        self._missed = until is not None
        self.serving: Callable[[], bool] = lambda: True

    def at(self, now: RippleTime) -> Attended | None:
        """What a ledger that closed at `now` adds, None: we are not there. Nothing is taken over yet."""
        if not self.serving():
            return None
        absence = (self._until, now) if self._missed and self._until is not None and self._until < now else None
        return Attended(now, absence)

    def took(self, attended: Attended | None) -> None:
        """The store has it."""
        if attended is None:
            self._missed = True
            return
        if attended.absence is not None:
            self._absences.append(attended.absence)
        if len(self._absences) > MOST_ABSENCES:
            (began, ended), (later, last) = self._absences[:2]
            self._absences[:2] = [(began, RippleTime(began + (ended - began) + (last - later)))]
        self._until, self._missed = attended.until, False

    def away(self, since: RippleTime, now: RippleTime) -> int:
        """Seconds of a span in which we were not there, those included that go on."""
        total = max(0, now - max(since, self._until)) if self._missed and self._until is not None else 0
        for began, ended in reversed(self._absences):
            if ended <= since:
                break
            total += ended - max(began, since)
        return total
