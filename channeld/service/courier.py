"""Hand signed transactions to a node, and heed what it answers.

Every transaction handed over here is on disk. Nothing waits for an answer: each submission is a task of its own, at
most one for each transaction, so that a slow node slows down only what it is slow with. An answer is provisional
whatever it says; `core.results` says what each asks of us.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import structlog

from channeld.core.errors import LedgerError, Malformed, Unreachable
from channeld.core.ledger import SubmitResult
from channeld.core.records import LiveTransaction
from channeld.core.results import Act, act_on
from channeld.core.units import Address
from channeld.service.mirror import Mirror, tx_key
from channeld.service.numbers import kind_of
from channeld.service.ports import NodeSession, Telemetry
from channeld.service.steps import Step, Steps

log = structlog.get_logger()

MOST_UNANSWERED: Final = 1000
"""Submissions under way at once; what is beyond waits for the next ledger."""
_LONGEST_PAUSE: Final = 4
"""Ledgers between two submissions of a transaction that the node has no room for."""


@dataclass(slots=True)
class _Heard:
    """What nodes said of one transaction: whether any took it, how often there was no room, when to ask again."""

    taken: bool = False
    refusals: int = 0
    quiet_until: int = 0


class Courier:
    """Between the executor and whatever node is there. `on_trouble` is told when a node cannot do its work."""

    def __init__(self, mirror: Mirror, telemetry: Telemetry, steps: Steps) -> None:
        self._mirror, self._telemetry, self._steps = mirror, telemetry, steps
        self._under_way: dict[str, asyncio.Task[None]] = {}
        self._heard: dict[tuple[Address, int], _Heard] = {}
        self.on_trouble: Callable[[NodeSession, str], None] = lambda _session, _code: None

    def resend(self, session: NodeSession) -> None:
        """Everything undecided again, the identical blobs in the order of their numbers."""
        live = self._mirror.live
        self._heard = {key: heard for key, heard in self._heard.items() if key in live}
        processed = self._mirror.processed or 0
        for transaction in sorted(live.values(), key=lambda t: (t.ticket, t.number)):
            heard = self._heard.get(tx_key(transaction))
            if heard is None or heard.quiet_until <= processed:
                self.send(session, transaction)

    def send(self, session: NodeSession, live: LiveTransaction) -> None:
        """Hand one over, unless it is being handed over or too many are."""
        if live.hash in self._under_way or len(self._under_way) >= MOST_UNANSWERED:
            return
        task = asyncio.get_running_loop().create_task(self._submit(session, live))
        self._under_way[live.hash] = task
        task.add_done_callback(lambda done: self._ended(live.hash, done))

    def _ended(self, tx_hash: str, task: asyncio.Task[None]) -> None:
        self._under_way.pop(tx_hash, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("submit_failed", hash=tx_hash, error=repr(error))

    async def answered(self) -> None:
        """Return once nothing is under way. A defect in heeding an answer is raised here."""
        await asyncio.gather(*self._under_way.values())

    def stop(self) -> None:
        """Give up on answers; nothing depends on them."""
        for task in self._under_way.values():
            task.cancel()

    async def _submit(self, session: NodeSession, live: LiveTransaction) -> None:
        entry = self._mirror.journal.get(live.intent) if live.intent is not None else None
        kind = kind_of(live, entry)
        try:
            with self._steps(Step.SENT, kind):
                result = await session.submit(live.blob)
        except (Unreachable, LedgerError) as error:
            log.debug("answer_lost", hash=live.hash, reason=str(error))
            return
        except Malformed as error:
            self.on_trouble(session, f"submit: {error}")
            return
        with self._steps(Step.ANSWERED, kind):
            self._heed(session, live, result)

    def _heed(self, session: NodeSession, live: LiveTransaction, result: SubmitResult) -> None:
        """Act on a provisional answer; one that comes after the end says nothing any more."""
        self._telemetry.submitted(result.code)
        act, key = act_on(result.code), tx_key(live)
        log.debug("submitted", code=result.code, act=act.value, hash=live.hash, number=live.number)
        known = self._mirror.live.get(key)
        if known is None or known.hash != live.hash:
            return
        heard = self._heard.setdefault(key, _Heard())
        if act is Act.WAIT:
            heard.taken, heard.refusals = True, 0
            self._mirror.missing.discard(key)
        elif act is Act.LOOK_UP:
            self._look_up(live, heard)
        elif act is Act.BACK_OFF:
            pause = min(_LONGEST_PAUSE, 1 << heard.refusals)
            heard.refusals, heard.quiet_until = heard.refusals + 1, (self._mirror.processed or 0) + pause
        elif act is Act.OTHER_NODE:
            log.warning("node_in_trouble", endpoint=session.endpoint, code=result.code)
            self.on_trouble(session, result.code)
        elif act is Act.UNFUNDED:
            log.error("wallet_short", wallet=live.wallet, code=result.code, fee=live.fee)
        else:
            self._mirror.doomed.setdefault(key, result.code)
            log.error("submit_impossible", code=result.code, message=result.message, hash=live.hash)

    def _look_up(self, live: LiveTransaction, heard: _Heard) -> None:
        """Its number is used: by itself, most often, for the node tests the number first.

        Validated ledgers tell: the next ones processed hold this transaction, or another under its number, or neither
        until its last. A ticket that was gone before any node took it, and that nothing used, is not there any more.
        """
        if live.ticket and not heard.taken:
            self._mirror.missing.add(tx_key(live))
