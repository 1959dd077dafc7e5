"""Collecting what payers signed for us: which channels are decided when, and what becomes of the answers.

After every processed ledger, and after every group of claims that was taken in, the channels that changed or fell due
are decided (`core.collecting`), and an intent to collect is journaled for each that is due. From there it goes the way
of every other intent: the executor signs the best claim held at that moment, a dead transaction is replaced under its
own number with a higher fee, and what came of it is read from the movement of the channel's Balance alone.

Collecting takes nothing from anybody but what was promised, so it goes on while a wallet, or everything, is frozen.
What the operator's policy holds back, it holds back; but never what has a deadline.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Final

import structlog

from channeld.core.collecting import Collecting, Wait, collect_all, near_end
from channeld.core.history import Answered, collected
from channeld.core.intents import BEFORE_END, Intent, RedeemChannel
from channeld.core.news import News, event
from channeld.core.records import Incoming, Payment
from channeld.core.units import ChannelId, LedgerIndex, RippleTime, Seconds
from channeld.core.world import Reason
from channeld.service.agenda import Agenda
from channeld.service.deadline_purse import DeadlinePurse
from channeld.service.mirror import Mirror
from channeld.service.news import Told, to_receivers
from channeld.service.outlook import incoming_of
from channeld.service.pace import work_off
from channeld.service.ports import Store, Telemetry
from channeld.service.spending import Spending
from channeld.service.steps import UNWATCHED, Step, Steps

log = structlog.get_logger()

_PASSES = frozenset({Reason.IN_FLIGHT, Reason.COOLDOWN, Reason.NO_WALLET, Reason.FROZEN_LAG})
"""Reasons that pass without the channel changing: it is looked at again with the next ledger."""
SLICE: Final = 32
"""Channels decided in one turn of the loop: some 2 ms."""


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
        self._agenda: Agenda[ChannelId] = Agenda()
        self._work = asyncio.Event()
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
        """Decide what changed or fell due, and journal what is to be collected. Of very much the rest is decided in the
        next turns. Raises `StoreError`.
        """
        header = self._mirror.header
        if header is None:
            return
        if header.index != self._decided_at:
            self._agenda.ledger(header.close_time)
            self._decided_at = header.index
        self._take_note()
        if self.decide_slice() or self._agenda.waiting:
            self._work.set()

    async def run(self) -> None:
        """Work off what waits, a slice at a time and at most half of the time. Until cancelled; raises `StoreError`."""
        await work_off(self._agenda, self._work, lambda: self.decide_slice(backlog=True), self._monotonic)

    def decide_slice(self, *, backlog: bool = False) -> bool:
        """Decide a slice, of the `backlog` as well if it is asked for; whether more waits. Raises `StoreError`."""
        header, vault, due = self._mirror.header, self._mirror.vault, self._agenda.next(SLICE, backlog=backlog)
        if header is None or not due:
            return False
        held = [vault.channels[channel_id] for channel_id in due if channel_id in vault.channels]
        answers = collect_all(self.seen(held), self._mirror.policy, header.close_time)
        self._journal([(seen, answer) for seen, answer in answers if isinstance(answer, Intent)], header.index)
        self._agenda.done(due)
        for seen, answer in answers:
            if isinstance(answer, Wait):
                self._wait(seen, answer)
            self._watch(seen.held, header.close_time)
        return bool(self._agenda.next(1, backlog=backlog))

    def touch_all(self) -> None:
        """The policy changed: decide everything again."""
        self._agenda.add_all(self._mirror.vault.channels)
        self._work.set()

    @property
    def waiting(self) -> int:
        """Channels that wait to be decided."""
        return self._agenda.waiting

    def _take_note(self) -> None:
        """Put what changed into line; whose source closes it comes first. What is gone is let go."""
        vault = self._mirror.vault
        dirty, vault.dirty = vault.dirty, set()
        for channel_id in dirty - vault.channels.keys():
            self._reported.pop(channel_id, None)
            self._flying.pop(channel_id, None)
            self._agenda.drop(channel_id)
            self.on_gone(channel_id)
        changed = sorted(dirty & vault.channels.keys())
        for channel_id in changed:
            if vault.channels[channel_id].channel.expiration is not None:
                self._agenda.change(channel_id)
        self._agenda.add(changed)

    def _watch(self, held: Incoming, now: RippleTime) -> None:
        """Its next deadline after `now` brings it up by itself, whatever was answered."""
        channel, terms = held.channel, self._mirror.policy.receive
        ends = (near_end(channel, terms), *channel.turning_points(Seconds(0))) if held.collectable else ()
        self._agenda.deadline(min((at for at in ends if at is not None and at > now), default=None), channel.channel_id)

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
        self._telemetry.held(wait.reason.value, wait.path)
        if wait.reason in _PASSES:
            self._agenda.touch(channel_id)
        elif wait.until is not None:
            self._agenda.schedule(wait.until, channel_id)
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
            self._agenda.touch(seen.held.channel.channel_id)
        with self._steps(Step.JOURNALED, due[0][1].action.kind.value):
            entries = self._store.journal([intent for _, intent in due], index, self._told)
        self._told = []
        for (seen, intent), entry in zip(due, entries, strict=True):
            channel_id = seen.held.channel.channel_id
            self._mirror.open_entry(entry)
            self._flying[channel_id] = entry.number
            self._telemetry.planned(entry.action.kind.value, intent.path)
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
