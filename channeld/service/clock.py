"""Unix time that a machine's clock which jumps cannot mislead.

Remembering ids, `not_after` and daily caps are in Unix time, and a wall clock may be wrong, be put right, or jump by
hours. Validated ledgers carry the time that their network agreed on, so the machine's clock counts only as long as it
agrees with the last of them, carried on by a clock that never jumps. Everything else is counted in close times, or in
seconds that have passed, and does not know the wall clock at all.

A ledger's close time is rounded to as much as 30 seconds and comes late; what is within `TOLERANCE_S` is agreement. A
daemon that starts on a network that stands still believes the clock to be ahead by that time, until ledgers go on.
So what is remembered is kept an hour longer than it must, and by the earlier of the two times.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import structlog

from channeld.core.units import to_unix
from channeld.service.mirror import Mirror

log = structlog.get_logger()

TOLERANCE_S: Final = 120.0
"""How far the wall clock may be from the ledger's time."""
KEPT_LONGER_S: Final = 3600
"""Beyond the time for which ids are promised to be remembered."""


class Clock:
    """Called, it tells Unix seconds. `unix` is the machine's wall clock, `monotonic` seconds that never jump."""

    def __init__(self, mirror: Mirror, unix: Callable[[], float], monotonic: Callable[[], float]) -> None:
        self._mirror, self._unix, self._monotonic = mirror, unix, monotonic
        self._told = False

    def __call__(self) -> float:
        """Unix seconds: the wall clock's, or the ledger's where the two contradict each other."""
        wall, ledger = self._unix(), self._by_ledger()
        return wall if ledger is None or abs(wall - ledger) <= TOLERANCE_S else ledger

    @property
    def ahead_s(self) -> float | None:
        """Seconds by which the wall clock is ahead of the ledger's time; None while no ledger was seen."""
        ledger = self._by_ledger()
        return None if ledger is None else self._unix() - ledger

    def _by_ledger(self) -> float | None:
        header = self._mirror.header
        return None if header is None else to_unix(header.close_time) + self._monotonic() - self._mirror.heard_at

    def forget_before(self, keep_s: int) -> int:
        """What was accepted before this may be forgotten, where ids are kept for `keep_s`: 0 while nobody knows."""
        ledger = self._by_ledger()
        return 0 if ledger is None else max(0, int(min(ledger, self._unix())) - keep_s - KEPT_LONGER_S)

    def wrong(self) -> str | None:
        """What is wrong with the wall clock, for a person; None if nothing is known against it."""
        ahead_s = self.ahead_s
        if ahead_s is None or abs(ahead_s) <= TOLERANCE_S:
            return None
        way = "ahead of" if ahead_s > 0 else "behind"
        return (
            f"this machine's clock is {abs(ahead_s):.0f} s {way} the ledger's: the ledger's time is used, set the clock"
        )

    def look(self) -> None:
        """Say in the log when the clock goes wrong, and when it is right again."""
        why = self.wrong()
        if (why is not None) != self._told:
            self._told = why is not None
            log.warning("clock_wrong" if why else "clock_right", reason=why)
