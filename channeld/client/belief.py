"""An answer is believed once everything about it was verified, and kept before anybody hears of it."""

from __future__ import annotations

import asyncio
import time
from typing import Final

from channeld.client.channels import LedgerNode, RetainedStates
from channeld.client.checks import Asked, Known, Terms, check_answer, check_channel
from channeld.client.errors import (
    ChannelEnds,
    ClaimAboveChannel,
    FileError,
    LedgerUnreachable,
    NoChannelState,
    NoSuchChannel,
)
from channeld.client.journal import Journal
from channeld.core.units import Payee
from channeld.wire.answers import Accepted, Claim

_RECHECK_S: Final = 0.5


class Belief:
    """Verifies answers by `terms` and by what `node`, or else `states`, knows of their channels.

    `held` is the claim last believed for each payee. `topics` is where this server's topics begin.
    """

    def __init__(
        self, terms: Terms, journal: Journal, node: LedgerNode | None, *, topics: str, patience_s: float
    ) -> None:
        self._terms, self._journal, self.node, self.states = terms, journal, node, RetainedStates()
        self._topics, self._patience_s = topics, patience_s
        self.held: dict[Payee, Claim] = {}

    async def believe(self, asked: Asked, said: Accepted, deadline: float) -> None:
        """Verify an answer and keep it. Raises a `Lie`, `LedgerUnreachable`, `NoChannelState` or a `FileError`."""
        check_answer(said, asked, self._terms)
        try:
            await self._check_channel(asked, said, deadline)
        except (ChannelEnds, LedgerUnreachable, NoChannelState):
            # signed by the pinned key, it is worth at least what is held of its channel, whatever the channel is
            await self._journal.keep_claim(said)
            raise
        try:
            await self._journal.keep(asked, said)
        except FileError as error:
            error.id, error.accepted = asked.id, said
            raise
        held = self.held.get(said.payee)
        if held is None or held.channel_id != said.claim.channel_id or held.amount < said.claim.amount:
            self.held[said.payee] = said.claim

    async def _check_channel(self, asked: Asked, said: Accepted, deadline: float) -> None:
        """Compare with what is known of the channel, and give some time to a node that lags, or a state on its way."""
        patience = min(deadline, time.monotonic() + self._patience_s)
        while True:
            try:
                check_channel(said, asked, self._terms, await self._known(said))
            except (NoSuchChannel, ClaimAboveChannel, LedgerUnreachable, NoChannelState):
                if time.monotonic() + _RECHECK_S >= patience:
                    raise
                await asyncio.sleep(_RECHECK_S)
                continue
            return

    async def _known(self, said: Accepted) -> Known:
        if self.node is not None:
            return await self.node.known(said.claim.channel_id, said.claim.amount)
        known = self.states.known(said.claim.channel_id)
        if known is None:
            topic = f"{self._topics}/channels/{said.claim.channel_id}"
            raise NoChannelState(f"nothing is retained on {topic}: may this login read it? Or give a ledger node")
        return known
