"""Heed a single node that shows the end of one of our channels, before the others confirm it.

With a quorum of more than one what a node says is believed only when others say the same, which takes a moment, and
where they are late more than that. Meanwhile somebody may have asked to close a channel, and every claim issued on it
then is a claim that its payee may be too late to collect. So every fit node is asked what happened after the last
ledger processed as soon as it announces one, and a channel whose end it shows is paused at once: nothing is issued on
it until that ledger is processed. Nothing else follows from it: what a single node says is not booked, and no channel
is opened, funded or closed because of it.

A node that lies gains little. Its word lasts until the quorum has told the ledger it spoke of, which is at most `AHEAD`
ledgers away; if that does not confirm it, issuing goes on, and the node is blamed and not heard for a while.
"""

from __future__ import annotations

import asyncio
from typing import Final

import structlog

from channeld.core.errors import LedgerError, Malformed, Unreachable
from channeld.core.ledger import ChannelChange, ValidatedTransaction
from channeld.core.units import LedgerIndex
from channeld.service.endpoint import Endpoint
from channeld.service.endpoints import Endpoints, until_one_ends
from channeld.service.holdings import ChannelState
from channeld.service.mirror import Mirror
from channeld.service.planner import Planner
from channeld.service.ports import NodeSession

log = structlog.get_logger()

AHEAD: Final = 3
"""How many ledgers a node may be ahead of the last one processed and still be heard."""
_TRIES: Final = 5
_TRY_EVERY_S: Final = 0.2


class Lookout:
    """One for all nodes. It does nothing where one node's word is enough anyway."""

    def __init__(self, endpoints: Endpoints, mirror: Mirror, planner: Planner) -> None:
        self._endpoints, self._mirror, self._planner = endpoints, mirror, planner
        self._news = {endpoint: asyncio.Event() for endpoint in endpoints.all}
        self._seen: dict[Endpoint, tuple[NodeSession, LedgerIndex]] = {}
        endpoints.on_heard = lambda endpoint: self._news[endpoint].set()

    async def run(self) -> None:
        """Until cancelled: ask each node as soon as it announces a ledger, whatever the others do meanwhile."""
        await until_one_ends(*(self._watch(endpoint) for endpoint in self._endpoints.all))

    async def _watch(self, endpoint: Endpoint) -> None:
        while True:
            await self._news[endpoint].wait()
            self._news[endpoint].clear()
            for _ in range(_TRIES):
                if await self.look(endpoint):
                    break
                await asyncio.sleep(_TRY_EVERY_S)  # nodes announce a ledger before their index of accounts has it

    async def look(self, endpoint: Endpoint) -> bool:
        """Ask a node what happened to our channels after the last ledger processed; whether it told all it announced.

        How it fails is no matter here: whoever follows it finds out.
        """
        session, span = endpoint.session, self._unseen(endpoint)
        if session is None or span is None:
            return True
        first, reached = span
        last = reached
        try:
            for wallet in self._mirror.wallets.values():
                history = await session.history(wallet.address, first, last)
                reached = min(reached, history.last)
                for transaction in history.transactions:
                    self._consider(endpoint, transaction, last)
        except (Unreachable, LedgerError, Malformed) as error:
            log.debug("node_not_heard", endpoint=endpoint.name, reason=str(error))
            return False
        self._seen[endpoint] = (session, reached)
        return reached == last

    def _unseen(self, endpoint: Endpoint) -> tuple[LedgerIndex, LedgerIndex] | None:
        """The ledgers to ask a node about, both inclusive; None if there are none, or it is not fit to be heard."""
        processed, newest = self._mirror.processed, endpoint.newest
        if self._endpoints.quorum < 2 or processed is None or newest is None or self._endpoints.unfit(endpoint):
            return None
        session, seen = self._seen.get(endpoint, (None, processed))
        first = max(processed, seen if session is endpoint.session else 0) + 1
        last = min(newest.index, processed + AHEAD)
        return (LedgerIndex(first), LedgerIndex(last)) if first <= last else None

    def _consider(self, endpoint: Endpoint, transaction: ValidatedTransaction, last: LedgerIndex) -> None:
        ledger = min(transaction.ledger_index, last)
        processed = self._mirror.processed
        for change in transaction.channels:
            state = self._mirror.channels.get(change.channel_id)
            if state is not None and _ends(state, change) and (processed is None or ledger > processed):
                told = self._mirror.cautions.setdefault(state, {})
                if endpoint.name not in told:
                    log.warning("channel_paused", channel_id=change.channel_id, endpoint=endpoint.name, ledger=ledger)
                    told[endpoint.name] = ledger

    def review(self) -> None:
        """A ledger was processed: what was said of it is confirmed or refuted by now."""
        processed = self._mirror.processed or 0
        for state, told in list(self._mirror.cautions.items()):
            if not _issues(state):
                del self._mirror.cautions[state]
                continue
            for name in [name for name, ledger in told.items() if ledger <= processed]:
                del told[name]
                self._refuted(name, state)
            if not told:
                del self._mirror.cautions[state]
                self._planner.urge(state.group)
                log.info("channel_resumed", channel_id=state.record.channel.channel_id)

    def _refuted(self, name: str, state: ChannelState) -> None:
        """A node showed an end of a channel that the ledger does not have."""
        why = f"showed an end of channel {state.record.channel.channel_id} that others do not confirm"
        log.error("node_refuted", endpoint=name, reason=why)
        for endpoint in self._endpoints.all:
            if endpoint.name == name:
                endpoint.blame(why, self._endpoints.now())


def _issues(state: ChannelState) -> bool:
    """Whether claims may be issued on a channel, as far as is known for sure."""
    record = state.record
    return record.closed_at is None and record.issuing and record.channel.expiration is None


def _ends(state: ChannelState, change: ChannelChange) -> bool:
    return _issues(state) and (change.deleted or change.channel.expiration is not None)
