"""The history's keeper: takes what was answered from the engine, and writes it behind its back.

A small slice at a time, in a thread, so that neither the disk nor the encoding holds up a claim. A history that cannot
be written is said in the warnings and tried again; nothing else of the daemon depends on it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

import structlog

from channeld.adapters.sqlite.history import History, history_path
from channeld.core.collecting import Collecting
from channeld.core.errors import StoreError
from channeld.core.history import Answered, Gist, Moment, RefusedAsk
from channeld.core.records import JournalEntry
from channeld.core.requests import Ask, Refusal
from channeld.core.units import ChannelId, RippleTime
from channeld.core.world import Hold, Planned, World
from channeld.service.chronicle import Chronicle
from channeld.settings import StoreSettings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from channeld.service.mirror import Mirror

log = structlog.get_logger()
_T = TypeVar("_T")

SLICE: Final = 8
"""Moments written at a time: one to two milliseconds in which the thread may hold the interpreter."""
_PAUSE_S: Final = 0.003
_IDLE_S: Final = 0.25
_EXPIRE_EVERY_S: Final = 1.0
_EXPIRE_SLICE: Final = 256
_RETRY_S: Final = 10.0
_CLOSE_S: Final = 3.0


class Annals:
    """The history of one life of the daemon. `unix` is the clock of requests.

    Nothing that is heard or written here can fail whoever tells it: a defect costs its own entries, and is logged.
    """

    def __init__(self, settings: StoreSettings, network_id: int, mirror: Mirror, unix: Callable[[], float]) -> None:
        self._settings, self._mirror, self._unix = settings, mirror, unix
        self._path, self._network_id = history_path(settings.path), network_id
        self._history: History | None = None
        self.problem = ""
        last = self._open()
        self.chronicle = Chronicle(last, unix)

    def _open(self) -> dict[str, tuple[Gist, RippleTime]]:
        """Open the file; what was answered last about each subject that there still is."""
        alive = (self._mirror.channels, self._mirror.vault.channels)
        try:
            self._history = History(self._path, network_id=self._network_id)
            last = self._history.last()
            return {s: said for s, said in last.items() if "/" in s or any(s in known for known in alive)}
        except StoreError as error:
            self._failed(str(error))
            return {}

    def _failed(self, why: str) -> None:
        if not self.problem:
            log.error("history_failed", file=str(self._path), reason=why)
        self.problem = why
        if self._history is not None:
            self._history.close()
            self._history = None

    # --- what is heard ------------------------------------------------------------------------------------------------

    def decided(
        self,
        world: World,
        entries: Sequence[tuple[tuple[str, str], JournalEntry]],
        holds: Sequence[Hold],
        wishes: Sequence[Planned],
    ) -> None:
        """The planner decided."""
        header, policy = self._mirror.header, self._mirror.policy
        assert header is not None
        with self._harmless():
            self.chronicle.decided(header.index, world, policy, entries=entries, holds=holds, wishes=wishes)

    def collected(self, wallet: str, seen: Collecting, said: Answered) -> None:
        """The collector decided about a channel that pays us."""
        header, policy = self._mirror.header, self._mirror.policy
        assert header is not None
        with self._harmless():
            self.chronicle.collected(header.index, header.close_time, policy, wallet=wallet, seen=seen, said=said)

    def refused(self, ask: Ask, refusal: Refusal) -> None:
        """The claim desk refused a request."""
        with self._harmless():
            self.chronicle.refused(ask, refusal)

    def gone(self, channel_id: ChannelId) -> None:
        """A channel of ours, or one that paid us, was deleted."""
        self.chronicle.forget((channel_id,))

    @contextmanager
    def _harmless(self) -> Iterator[None]:
        """A defect in here is logged and counted, and stays here."""
        try:
            yield
        except StoreError:
            raise
        except Exception:
            self.chronicle.passed_over += 1
            log.exception("history_defect")

    # --- writing ------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Write what waits, and drop what is too old or too much, until cancelled."""
        loop = asyncio.get_running_loop()
        expire_at = 0.0
        while True:
            if self._history is None:
                await asyncio.sleep(_RETRY_S)
                await asyncio.to_thread(self._open)
                continue
            try:
                await self._write(self._history)
                if loop.time() >= expire_at:
                    busy = await self._expire(self._history)
                    expire_at = loop.time() + (0 if busy else _EXPIRE_EVERY_S)
            except StoreError as error:
                self._failed(str(error))
                continue
            await asyncio.sleep(_PAUSE_S if self.chronicle.waiting or expire_at <= loop.time() else _IDLE_S)

    async def _write(self, history: History) -> None:
        if news := self.chronicle.next(SLICE):
            await _whole(partial(self._put, history, news), lambda _: self.chronicle.written(len(news)))
        self.problem = ""

    def _put(self, history: History, news: Sequence[Moment | RefusedAsk]) -> None:
        """Write a slice; what cannot be written at all is passed over, or it would stand in the way for ever."""
        with self._harmless():
            history.write(news)

    async def _expire(self, history: History) -> bool:
        """Drop a slice of what is to be dropped; whether there was any."""
        before, most = self._unix() - self._settings.history_age_s, self._settings.history_entries
        dropped = 0

        def adopt(gone: tuple[int, list[str]]) -> None:
            nonlocal dropped
            dropped = gone[0]
            self.chronicle.forget(gone[1])

        await _whole(partial(history.expire, before, most, _EXPIRE_SLICE), adopt)
        return dropped > 0

    def close(self) -> None:
        """Write what still waits, for a moment at most, and let go of the file. `run` has ended."""
        until = time.monotonic() + _CLOSE_S
        try:
            while self._history and (news := self.chronicle.next(SLICE)) and time.monotonic() < until:
                self._put(self._history, news)
                self.chronicle.written(len(news))
        except StoreError as error:
            self._failed(str(error))
        if self._history is not None:
            self._history.close()
            self._history = None


async def _whole(work: Callable[[], _T], then: Callable[[_T], None]) -> None:
    """Do something in a thread, and `then` what follows from it; both are done whole even where we are cancelled."""
    doing = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        await asyncio.shield(doing)
    finally:
        await asyncio.wait({doing})
        if doing.exception() is None:
            then(doing.result())
