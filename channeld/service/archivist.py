"""Channels that are long gone leave the live tables for the archive, a slice at a time.

What a ledger deleted leaves memory with that ledger, and keeps its row: remembered requests refer to it. After `keep_s`
and when nothing refers to it any more, its row goes as well. How long ago it went is told by close times of ledgers.
"""

from __future__ import annotations

from typing import Final

import structlog

from channeld.core.units import RippleTime, Seconds
from channeld.service.mirror import Mirror
from channeld.service.ports import ArchiveStore
from channeld.service.steps import UNWATCHED, Step, Steps

log = structlog.get_logger()

SLICE: Final = 16
"""Channels in one transaction: some 2 ms."""


class Archivist:
    """Once round all tombstones is a round; what may not go yet is looked at again in the next one."""

    def __init__(self, mirror: Mirror, store: ArchiveStore, keep_s: Seconds, *, steps: Steps = UNWATCHED) -> None:
        self._mirror, self._store, self._keep_s, self._steps = mirror, store, keep_s, steps
        self._reached = 0

    def step(self) -> bool:
        """Archive a slice of what may go. True: this round is not at its end. Raises `StoreError`."""
        if (header := self._mirror.header) is None:
            return False
        with self._steps(Step.ARCHIVED):
            done = self._store.move(RippleTime(header.close_time - self._keep_s), self._reached, SLICE)
        self._reached = done.last if done.looked_at == SLICE else 0
        if done.archived:
            log.info("channels_archived", channels=len(done.archived))
        return self._reached > 0
