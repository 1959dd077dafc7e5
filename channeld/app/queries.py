"""Answers to what content servers may read: a request of theirs, their channels, their totals.

Requests and channels are answered at once from memory and the store's index. Totals are read in a thread of their own,
from a connection of their own, a few at a time: they may take long, and nothing waits for them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import structlog

from channeld.adapters.sqlite.usage import read_totals
from channeld.core.errors import StoreError
from channeld.core.requests import Code, Refusal
from channeld.wire import query as wire
from channeld.wire.query import Query, Total
from channeld.wire.receive import became

if TYPE_CHECKING:
    from channeld.app.daemon import Daemon

log = structlog.get_logger()
Say = Callable[[bytes], None]
_MOST_READING: Final = 16
"""Totals being read or waiting for it; what is beyond is told to come again."""
_RETRY_MS: Final = 1000


class Queries:
    """The queries of one daemon's servers."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self._reading: set[asyncio.Task[None]] = set()
        self._turn = asyncio.Semaphore(2)

    def answer(self, server: str, payload: bytes, say: Say) -> None:
        """Answer a query, now or soon, exactly once unless this life of the daemon ends before."""
        query = wire.read_query(payload)
        if not isinstance(query, Query):
            say(wire.refused(*query))
            return
        try:
            if query.request is not None:
                say(self._request(server, query))
            elif server not in self._daemon.mirror.grants:
                refusal = Refusal(Code.UNKNOWN_PAYEE, "this content server is not configured")
                say(wire.refused(query.id, refusal))
            elif query.channels:
                say(self._channels(server, query))
            else:
                self._totals(server, query, say)
        except StoreError as error:
            say(self._failed(query, error))

    def _request(self, server: str, query: Query) -> bytes:
        found = self._daemon.desk.recall(query.key(server, "claim"))
        taken = self._daemon.strongbox.recall(query.key(server, "receive"))
        received = None if taken is None else became(*taken)
        if found is None:
            return wire.unknown(query) if received is None else wire.handed_in(query, received)
        answer, record = found
        if isinstance(answer, Refusal):
            return wire.refused(query.id, answer)
        return wire.decided(query, answer, record, received)

    def _channels(self, server: str, query: Query) -> bytes:
        after, states = (query.after or "").upper(), self._daemon.mirror.channels
        ids = [c for c in self._daemon.herald.shown(server) if c > after and c in states]
        page = [states[c].record for c in ids[: wire.PAGE]]
        return wire.channels(query, page, more=len(ids) > len(page))

    # --- totals ------------------------------------------------------------------------------------------------------

    def _totals(self, server: str, query: Query, say: Say) -> None:
        if len(self._reading) >= _MOST_READING:
            say(wire.refused(query.id, Refusal(Code.BUSY, "other totals are being read", _RETRY_MS)))
            return
        task = asyncio.get_running_loop().create_task(self._read(server, query, say))
        self._reading.add(task)
        task.add_done_callback(self._reading.discard)

    async def _read(self, server: str, query: Query, say: Say) -> None:
        assert query.totals is not None
        arguments: tuple[Any, ...] = (server, wire.hours(query.totals), query.after, wire.PAGE + 1)
        try:
            async with self._turn:
                rows = await asyncio.to_thread(read_totals, self._daemon.settings.store.path, *arguments)
        except StoreError as error:
            say(self._failed(query, error))
            return
        more = len(rows) > wire.PAGE
        if more:  # a page ends with a payee
            rows = [row for row in rows if row[0] != rows[-1][0]]
        page = [Total(payee or None, code, requests, drops) for payee, code, requests, drops in rows]
        say(wire.totals(query, page, more=more))

    def _failed(self, query: Query, error: StoreError) -> bytes:
        log.error("query_failed", id=query.id, reason=str(error))
        return wire.refused(query.id, Refusal(Code.INTERNAL, "the store cannot be read now", _RETRY_MS))

    def close(self) -> None:
        """What is being read is not answered any more."""
        for task in self._reading:
            task.cancel()
