"""Hand signed transactions to nodes, and heed what they answer.

Every transaction handed over here is on disk. Nothing waits for an answer: each submission is a task of its own, at
most one for each transaction and node, so that a slow node slows down only what it is slow with. An answer is
provisional whatever it says; `core.results` says what each asks of us.

**Who gets what.** Mostly the node that is followed, alone: it passes on what it takes. One that says so and does not,
or does not answer, must not cost a deadline, so every node that is connected is given the identical blob where that is
for deadline work, or stands before such work in the order of numbers, and where `PATIENCE` ledgers went by without it.
It can be validated once, whoever passes it on. Others only help: what they say against a transaction is not heeded.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

import structlog

from channeld.core.errors import ChanneldError, LedgerError, Malformed, Unreachable
from channeld.core.ledger import SubmitResult
from channeld.core.records import JournalEntry, LiveTransaction
from channeld.core.results import Act, act_on
from channeld.core.units import Address, LedgerIndex
from channeld.service.mirror import Mirror, tx_key
from channeld.service.numbers import kind_of
from channeld.service.ports import NodeSession, Telemetry
from channeld.service.steps import Step, Steps

log = structlog.get_logger()

MOST_UNANSWERED: Final = 1000
"""Submissions under way at once with one node; what is beyond waits for the next ledger."""
PATIENCE: Final = 2
"""Ledgers that a transaction may take through the node that is followed, before the others are given it, too. They
count from where that node says it is: at worst `_MOST_AHEAD` more are processed meanwhile.
"""
_MOST_AHEAD: Final = 8
"""Ledgers that a node is believed to be ahead of what is processed; with more, issuing is frozen long since."""
_MOST_SWALLOWED: Final = 3
"""So many in a row that a node said to have taken, and that came through others only, are held against it."""
_TAKEN: Final = "tesSUCCESS"
_LONGEST_PAUSE: Final = 4
"""Ledgers between two submissions of a transaction that the node has no room for."""


@dataclass(slots=True, eq=False)
class _Heard:
    """What nodes said of one transaction, and who was given it.

    `first` is who was given it first, at ledger `since`, and said `said`; it can be validated up to ledger `last`.
    `shared`: others were given it, too; `swallowed`: because `first` said to have taken it and nothing came of that.
    `taken` says whether any took it. `refusals` is how often there was no room with a node, and when to ask it again.
    """

    first: NodeSession
    since: int
    last: int
    said: str = ""
    failed: bool = False
    shared: bool = False
    swallowed: bool = False
    taken: bool = False
    refusals: dict[NodeSession, tuple[int, int]] = field(default_factory=dict)

    def quiet(self, session: NodeSession, processed: int) -> bool:
        """Whether a node that had no room for it is left alone with it for now."""
        return self.refusals.get(session, (0, 0))[1] > processed

    def no_room(self, session: NodeSession, processed: int) -> None:
        """A node had no room for it: it is asked again less and less often."""
        count, _ = self.refusals.get(session, (0, 0))
        self.refusals[session] = (count + 1, processed + min(_LONGEST_PAUSE, 1 << count))


class Courier:
    """Between the executor and whatever nodes are there. `on_trouble` is told when a node cannot do its work.

    `others` tells all nodes that are connected beside the one that is followed, `newest` the last ledger that a node
    announced, and `presses` whether an intent has little time left.
    """

    def __init__(self, mirror: Mirror, telemetry: Telemetry, steps: Steps) -> None:
        self._mirror, self._telemetry, self._steps = mirror, telemetry, steps
        self._under_way: dict[NodeSession, dict[str, asyncio.Task[None]]] = {}
        self._heard: dict[str, _Heard] = {}
        self._pressed: dict[Address, int] = {}
        self._followed: NodeSession | None = None
        self._swallowed = 0
        self.on_trouble: Callable[[NodeSession, str], None] = lambda _session, _code: None
        self.presses: Callable[[JournalEntry], bool] = lambda entry: entry.intent.deadline
        self.others: Callable[[NodeSession], Sequence[NodeSession]] = lambda _session: ()
        self.newest: Callable[[NodeSession], LedgerIndex | None] = lambda _session: None

    @property
    def _processed(self) -> int:
        return self._mirror.processed or 0

    def stands_at(self, session: NodeSession) -> LedgerIndex:
        """The ledger after which a transaction comes that is given to a node now: later than what is processed, where
        that waits for agreement. How much later is its word alone, which must not let a transaction live for long.
        """
        processed = self._processed
        return LedgerIndex(max(processed, min(self.newest(session) or 0, processed + _MOST_AHEAD)))

    def resend(self, session: NodeSession) -> None:
        """Everything undecided again, the identical blobs in the order of their numbers."""
        if session is not self._followed:
            self._followed, self._swallowed = session, 0
        live = sorted(self._mirror.live.values(), key=lambda t: (t.ticket, t.number))
        hashes = {transaction.hash for transaction in live}
        for ended in [tx_hash for tx_hash in self._heard if tx_hash not in hashes]:
            self._weigh(self._heard.pop(ended))
        self._pressed.clear()
        for transaction in live:
            self._press(transaction)
        for transaction in live:
            self.send(session, transaction)

    def send(self, session: NodeSession, live: LiveTransaction) -> None:
        """Hand one over to whom it should be given now, unless that is under way or too many are."""
        heard = self._heard.get(live.hash)
        if heard is None:
            heard = self._heard[live.hash] = _Heard(session, self.stands_at(session), live.last_ledger)
        self._press(live)
        self._hand_over(session, live, heard)
        if self._for_all(live, heard):
            for other in self.others(session):
                heard.shared = True
                self._hand_over(other, live, heard)

    # --- who gets it -------------------------------------------------------------------------------------------------

    def _press(self, live: LiveTransaction) -> None:
        """What is numbered below deadline work holds it up."""
        if self._presses(live) and not live.ticket:
            self._pressed[live.account] = max(live.number, self._pressed.get(live.account, 0))

    def _presses(self, live: LiveTransaction) -> bool:
        entry = self._mirror.journal.get(live.intent) if live.intent is not None else None
        return entry is not None and self.presses(entry)

    def _for_all(self, live: LiveTransaction, heard: _Heard) -> bool:
        """Whether more than the node that is followed should have it."""
        if self._presses(live) or (not live.ticket and live.number < self._pressed.get(live.account, 0)):
            return True
        late = self._processed >= heard.since + PATIENCE
        heard.swallowed |= late and not heard.shared and heard.said == _TAKEN
        return late or heard.failed

    def _weigh(self, heard: _Heard) -> None:
        """A transaction ended: whether the node that had it first passes on what it takes."""
        if heard.first is not self._followed:
            return
        if not heard.shared:
            self._swallowed = 0
        elif heard.swallowed and self._processed <= heard.last:
            self._swallowed += 1
            if self._swallowed >= _MOST_SWALLOWED:
                why = f"submit: took {self._swallowed} transactions in a row that were validated only through others"
                self._swallowed = 0
                self.on_trouble(heard.first, why)

    def _hand_over(self, session: NodeSession, live: LiveTransaction, heard: _Heard) -> None:
        under_way = self._under_way.get(session, {})
        if live.hash in under_way or len(under_way) >= MOST_UNANSWERED or heard.quiet(session, self._processed):
            return
        task = asyncio.get_running_loop().create_task(self._submit(session, live, heard))
        self._under_way.setdefault(session, under_way)[live.hash] = task
        task.add_done_callback(lambda done: self._ended(session, live.hash, done))

    def _ended(self, session: NodeSession, tx_hash: str, task: asyncio.Task[None]) -> None:
        under_way = self._under_way[session]
        del under_way[tx_hash]
        if not under_way:
            del self._under_way[session]
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("submit_failed", hash=tx_hash, error=repr(error))

    def _tasks(self) -> list[asyncio.Task[None]]:
        return [task for under_way in self._under_way.values() for task in under_way.values()]

    async def answered(self) -> None:
        """Return once nothing is under way. A defect in heeding an answer is raised here."""
        await asyncio.gather(*self._tasks())

    def stop(self) -> None:
        """Give up on answers; nothing depends on them."""
        for task in self._tasks():
            task.cancel()

    # --- what they say -----------------------------------------------------------------------------------------------

    async def _submit(self, session: NodeSession, live: LiveTransaction, heard: _Heard) -> None:
        entry = self._mirror.journal.get(live.intent) if live.intent is not None else None
        kind = kind_of(live, entry)
        try:
            with self._steps(Step.SENT, kind):
                result = await session.submit(live.blob)
        except (Unreachable, LedgerError, Malformed) as error:
            self._unanswered(session, live, heard, error)
            return
        with self._steps(Step.ANSWERED, kind):
            self._heed(session, live, heard, result)

    def _unanswered(self, session: NodeSession, live: LiveTransaction, heard: _Heard, error: ChanneldError) -> None:
        """Nothing is known of what became of it: the others are given it with the next ledger.

        A node that is there and leaves it unanswered, or answers nonsense, cannot do its work; one that refuses the
        request, most often because it is asked too much, is not left for that.
        """
        log.debug("answer_lost", hash=live.hash, endpoint=session.endpoint, reason=str(error))
        heard.failed = True
        if not session.gone and not isinstance(error, LedgerError):
            self.on_trouble(session, f"submit: {error}")

    def _heed(self, session: NodeSession, live: LiveTransaction, heard: _Heard, result: SubmitResult) -> None:
        """Act on a provisional answer; one that comes after the end says nothing any more."""
        self._telemetry.submitted(result.code)
        act, key = act_on(result.code), tx_key(live)
        said = {"code": result.code, "act": act.value, "endpoint": session.endpoint}
        log.debug("submitted", hash=live.hash, number=live.number, **said)
        known = self._mirror.live.get(key)
        if known is None or known.hash != live.hash:
            return
        if session is heard.first:
            heard.said = result.code
        if act is Act.WAIT:
            heard.taken = True
            heard.refusals.pop(session, None)
            self._mirror.missing.discard(key)
        elif act is Act.BACK_OFF:
            heard.no_room(session, self._processed)
        elif act is Act.OTHER_NODE:
            log.warning("node_in_trouble", endpoint=session.endpoint, code=result.code)
            self.on_trouble(session, result.code)
        elif session is not self._followed:
            return
        elif act is Act.LOOK_UP:
            self._look_up(live, heard)
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
