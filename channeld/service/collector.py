"""Collecting what payers signed for us: which channels are decided when, and what becomes of the answers.

After every processed ledger, and after every group of claims that was taken in, the channels that changed or fell due
are decided (`core.collecting`), and an intent to collect is journaled for each that is due. From there it goes the way
of every other intent: the executor signs the best claim held at that moment, a dead transaction is replaced under its
own number with a higher fee, and what came of it is read from the movement of the channel's Balance alone.

Collecting takes nothing from anybody but what was promised, so it goes on while a wallet, or everything, is frozen.
What the operator's policy holds back, it holds back; but never what has a deadline.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Sequence

import structlog

from channeld.core.collecting import Collecting, Wait, collect_all
from channeld.core.history import Answered, collected
from channeld.core.intents import BEFORE_END, Intent, RedeemChannel
from channeld.core.news import News, event
from channeld.core.records import Incoming, Payment
from channeld.core.units import ChannelId, LedgerIndex, RippleTime
from channeld.core.world import Reason
from channeld.service.deadline_purse import DeadlinePurse
from channeld.service.mirror import Mirror
from channeld.service.news import Told, to_receivers
from channeld.service.outlook import incoming_of
from channeld.service.ports import Store, Telemetry
from channeld.service.spending import Spending
from channeld.service.steps import UNWATCHED, Step, Steps

log = structlog.get_logger()

_PASSES = frozenset({Reason.IN_FLIGHT, Reason.COOLDOWN, Reason.NO_WALLET})
"""Reasons that pass without the channel changing: it is looked at again with the next ledger."""


class Collector:
    """One for a daemon. `monotonic` is the one clock beside the ledger's.

    `on_decided` hears what was decided about each channel: for which wallet, on what, and the answer. `on_gone` hears
    of channels that are there no more.
    """

    def __init__(
        self,
        mirror: Mirror,
        store: Store,
        telemetry: Telemetry,
        *,
        spending: Spending,
        purse: DeadlinePurse,
        monotonic: Callable[[], float],
        steps: Steps = UNWATCHED,
    ) -> None:
        self._mirror, self._store, self._telemetry, self._steps = mirror, store, telemetry, steps
        self._spending, self._purse, self._monotonic = spending, purse, monotonic
        self._due: list[tuple[RippleTime, ChannelId]] = []
        self._again: set[ChannelId] = set()
        self._told: list[Told] = []
        self._flying = {
            e.action.channel_id: e.number for e in mirror.journal.values() if isinstance(e.action, RedeemChannel)
        }
        self._reported: dict[ChannelId, RippleTime] = {}
        self._decided_at: LedgerIndex | None = None
        self.on_planned: Callable[[], None] = lambda: None
        self.on_decided: Callable[[str, Collecting, Answered], None] = lambda _wallet, _seen, _said: None
        self.on_gone: Callable[[ChannelId], None] = lambda channel_id: None

    # --- what is due -------------------------------------------------------------------------------------------------

    def decide(self) -> None:
        """Decide what changed or fell due, and journal what is to be collected. Raises `StoreError`."""
        header, vault = self._mirror.header, self._mirror.vault
        if header is None:
            return
        if header.index != self._decided_at:
            vault.dirty |= self._again
            self._again.clear()
            self._decided_at = header.index
        while self._due and self._due[0][0] <= header.close_time:
            vault.dirty.add(heapq.heappop(self._due)[1])
        if not vault.dirty:
            return
        for channel_id in vault.dirty - vault.channels.keys():
            self._reported.pop(channel_id, None)
            self.on_gone(channel_id)
        held = [vault.channels[channel_id] for channel_id in sorted(vault.dirty) if channel_id in vault.channels]
        answers = collect_all(self.seen(held), self._mirror.policy, header.close_time)
        for seen, answer in answers:
            if isinstance(answer, Wait):
                self._wait(seen, answer)
        self._journal([(seen, answer) for seen, answer in answers if isinstance(answer, Intent)], header.index)
        vault.dirty.clear()

    def touch_all(self) -> None:
        """The policy changed: decide everything again."""
        self._mirror.vault.dirty.update(self._mirror.vault.channels)

    def seen(self, channels: Iterable[Incoming]) -> list[Collecting]:
        """These channels as they are decided about now. A ledger must have been processed. Raises `StoreError`."""
        return incoming_of(self._mirror, self._spending, channels, self.in_flight, self._monotonic())

    def in_flight(self, channel_id: ChannelId) -> bool:
        """Whether an intent to collect from it is open."""
        number = self._flying.get(channel_id)
        if number is not None and number not in self._mirror.journal:
            del self._flying[channel_id]
            return False
        return number is not None

    # --- what becomes of it ------------------------------------------------------------------------------------------

    def _wait(self, seen: Collecting, wait: Wait) -> None:
        """What is left alone is looked at again in time, its reason counted, and told."""
        channel_id = seen.held.channel.channel_id
        self._telemetry.held(wait.reason.value)
        if wait.reason in _PASSES:
            self._again.add(channel_id)
        elif wait.until is not None:
            heapq.heappush(self._due, (wait.until, channel_id))
        if wait.wish is not None:
            log.info("suggested", kind="redeem", wallet=seen.wallet, subject=channel_id, reason=wait.wish.reason)
        self.on_decided(seen.wallet, seen, collected(channel_id, wait))

    def _at_risk(self, held: Incoming, intent: Intent) -> None:
        """Say once for every end that a channel gets that money of ours depends on what happens before it."""
        channel = held.channel
        if not intent.deadline or self._reported.get(channel.channel_id) == channel.deadline:
            return
        assert channel.deadline is not None
        self._reported[channel.channel_id] = channel.deadline
        log.warning(
            "claim_at_risk", channel_id=channel.channel_id, drops=held.collectable, deadline=channel.deadline,
            reason=intent.reason,
        )  # fmt: skip
        if intent.reason == BEFORE_END:  # a close that the source requested was told with the ledger that showed it
            risk = event(News.AT_RISK, channel, channel.ledger_index, owed=held.collectable)
            self._told += to_receivers([risk], self._mirror)

    def _journal(self, due: Sequence[tuple[Collecting, Intent]], index: LedgerIndex) -> None:
        if not due:
            return
        for seen, intent in due:
            self._at_risk(seen.held, intent)
            self._again.add(seen.held.channel.channel_id)
        with self._steps(Step.JOURNALED, due[0][1].action.kind.value):
            entries = self._store.journal([intent for _, intent in due], index, self._told)
        self._told = []
        for (seen, intent), entry in zip(due, entries, strict=True):
            channel_id = seen.held.channel.channel_id
            self._mirror.open_entry(entry)
            self._flying[channel_id] = entry.number
            self._telemetry.planned(entry.action.kind.value)
            log.info(
                "intent_planned", intent=entry.number, kind=entry.action.kind.value, reason=intent.reason,
                rules=intent.path,
            )  # fmt: skip
            self.on_decided(seen.wallet, seen, collected(channel_id, intent, entry.number))
        self._purse.drawn(entries)
        self.on_planned()

    def redeemed(self, payment: Payment) -> None:
        """A validated transaction paid us, whoever sent it, and the store has it."""
        log.info("redeemed", channel_id=payment.channel_id, drops=payment.paid, hash=payment.hash, by=payment.by)
