"""Channels that pay somebody else, of which claims were handed in: the ledger tells apart what is not there yet.

A daemon follows its own accounts only, so it knows nothing of such a channel until it looks it up: in the background,
one at a time and a few a second, however many are handed in. Whom a channel pays never changes, and its id never comes
again, so what was found holds. The word of the node that is followed is enough: nothing follows from it but a refusal,
and a channel that does pay us is judged by what was agreed on, whatever was said of it here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from channeld.core.errors import LedgerError, Malformed, Unreachable
from channeld.core.units import Address, ChannelId
from channeld.service.mirror import Mirror
from channeld.service.ports import NodeSession

MOST_KNOWN: Final = 4096
MOST_WAITING: Final = 64
_PAUSE_S: Final = 0.1
_ANSWER_WITHIN_S: Final = 10.0


class Strangers:
    """One for a daemon. `session` is the node that is followed, None while none is."""

    def __init__(self, mirror: Mirror, session: Callable[[], NodeSession | None]) -> None:
        self._mirror, self._session = mirror, session
        self._known: dict[ChannelId, Address] = {}
        self._waiting: dict[ChannelId, None] = {}
        self._wake = asyncio.Event()

    def paid(self, channel_id: ChannelId) -> Address | None:
        """Whom a channel pays; None where that is not known: then it is looked up, if not too many wait for that."""
        if (known := self._known.get(channel_id)) is None and len(self._waiting) < MOST_WAITING:
            self._waiting[channel_id] = None
            self._wake.set()
        return known

    async def run(self) -> None:
        """Look up what waits, until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._waiting:
                await self.look()
                await asyncio.sleep(_PAUSE_S)

    async def look(self) -> None:
        """Look up the first that waits. What the node does not tell is looked up again when it is next handed in."""
        channel_id = next(iter(self._waiting))
        del self._waiting[channel_id]
        session, header = self._session(), self._mirror.header
        if session is None or header is None:
            return
        try:
            async with asyncio.timeout(_ANSWER_WITHIN_S):
                account = await session.paid(channel_id, header.index)
        except (TimeoutError, Unreachable, LedgerError, Malformed):
            return
        if account is not None:
            self._known[channel_id] = account
            while len(self._known) > MOST_KNOWN:
                del self._known[next(iter(self._known))]
