"""Claims that payers signed for us: verify, keep the best, collect it before the deadline.

A content server hands in what a payer gave it. A group of claims that wait together is judged together: one look-up of
their ids, one durable transaction that remembers them and the best claim of every channel. Only then is anything
answered, so that a claim in a reply is never lost.

After every processed ledger, and after every group, the channels that changed or fell due are decided (`core.receiving`
holds the rules), and an intent to collect is journaled for each that is due. From there it goes the way of every other
intent: the executor signs the best claim held at that moment, a dead transaction is replaced under its own number with
a higher fee, and what came of it is read from the movement of the channel's Balance alone.

Collecting takes nothing from anybody but what was promised, so it goes on while everything else is frozen. Taking in
does not: whoever cannot trust the ledger or the store cannot say what a claim adds.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import structlog

from channeld.core.budgets import Purse, Purses
from channeld.core.errors import StoreError
from channeld.core.fees import worst_fee
from channeld.core.history import Answered, Collecting, answered
from channeld.core.intents import Intent, Kind, RedeemChannel
from channeld.core.news import News, event
from channeld.core.receiving import BEFORE_END, Due, Verify, Wait, judge_claim, when_to_redeem
from channeld.core.records import Incoming, Payment, TakenIn
from channeld.core.requests import Code, HandIn, Refusal, Taken
from channeld.core.units import ChannelId, Drops, LedgerIndex, RippleTime
from channeld.core.world import Reason
from channeld.service.holdings import Grant
from channeld.service.id_room import IdRoom
from channeld.service.mirror import Mirror
from channeld.service.news import Told, to_receivers
from channeld.service.ports import ClaimStore, Store, Telemetry
from channeld.service.spending import Spending
from channeld.service.steps import UNWATCHED, Step, Steps

log = structlog.get_logger()

_FROZEN_RETRY_MS = 5000
_PASSES = frozenset({Reason.IN_FLIGHT, Reason.COOLDOWN, Reason.NO_WALLET, Reason.BUDGET_EXHAUSTED})
"""Reasons that pass without the channel changing: it is looked at again with the next ledger."""


@dataclass(slots=True)
class _Group:
    """Claims being judged together. Nothing of it counts before the store has taken it."""

    known: dict[bytes, TakenIn]
    now: RippleTime
    stopped: str | None
    room: int
    taken: dict[bytes, TakenIn] = field(default_factory=dict)
    best: dict[ChannelId, Incoming] = field(default_factory=dict)


class Strongbox:
    """One for a daemon. `verify` gives rippled's verdict on a signature, `stopped` why nothing may be taken in now.

    `on_decided` hears what was decided about each channel: for which wallet, on what, and the answer.
    """

    def __init__(
        self,
        mirror: Mirror,
        store: Store,
        claims: ClaimStore,
        telemetry: Telemetry,
        *,
        verify: Verify,
        stopped: Callable[[], str | None],
        spending: Spending,
        unix: Callable[[], float],
        ids: IdRoom,
        steps: Steps = UNWATCHED,
    ) -> None:
        self._mirror, self._store, self._claims, self._telemetry = mirror, store, claims, telemetry
        self._verify, self._stopped, self._unix, self._steps = verify, stopped, unix, steps
        self._ids = ids
        self._spending = spending
        self._due: list[tuple[RippleTime, ChannelId]] = []
        self._again: set[ChannelId] = set()
        self._told: list[Told] = []
        self._flying = {
            e.action.channel_id: e.number for e in mirror.journal.values() if isinstance(e.action, RedeemChannel)
        }
        self._reported: dict[ChannelId, RippleTime] = {}
        self._decided_at: LedgerIndex | None = None
        self._seen: dict[ChannelId, Collecting] = {}
        self.on_planned: Callable[[], None] = lambda: None
        self.on_decided: Callable[[str, Collecting, Answered], None] = lambda _wallet, _seen, _said: None
        self.on_store_failed: Callable[[StoreError], None] = lambda error: None

    # --- taking in ---------------------------------------------------------------------------------------------------

    def answer(self, claims: Sequence[HandIn]) -> list[Taken | Refusal]:
        """Judge a group of claims, durably, and answer each in order.

        Never raises for a claim; a store that fails takes nothing in and ends this life of the daemon.
        """
        try:
            group = self._group(claims)
            answers = [self._judge(claim, group) for claim in claims]
            self._commit(group)
        except StoreError as error:
            self.on_store_failed(error)
            return [Refusal(Code.FROZEN, "the store does not take anything", _FROZEN_RETRY_MS)] * len(claims)
        try:
            self.decide()
        except StoreError as error:  # what was taken in is durable and is answered all the same
            self.on_store_failed(error)
        self._count(answers)
        return answers

    def _group(self, claims: Sequence[HandIn]) -> _Group:
        known, header = self._claims.remembered([claim.key for claim in claims]), self._mirror.header
        return _Group(known, header.close_time if header else RippleTime(0), self._stopped(), self._ids.left())

    def _judge(self, claim: HandIn, group: _Group) -> Taken | Refusal:
        """One claim: what its id was answered before, else a judgement of it."""
        prior = group.known.get(claim.key) or group.taken.get(claim.key)
        if prior is not None:
            if prior.contents != claim.contents:
                return Refusal(Code.ID_CONFLICT, "id: was accepted with another claim; take a new id for a new claim")
            return Taken(prior.drops, prior.amount, replayed=True)
        grant = self._mirror.grants.get(claim.server)
        if grant is None:
            return Refusal(Code.UNKNOWN_PAYEE, "this content server is not configured")
        return self._anew(claim, grant, group)

    def _anew(self, claim: HandIn, grant: Grant, group: _Group) -> Taken | Refusal:
        """A claim whose id is new."""
        held = group.best.get(claim.channel_id) or self._mirror.vault.channels.get(claim.channel_id)
        if (why := group.stopped or self._halted(held)) is not None:
            return Refusal(Code.FROZEN, why, _FROZEN_RETRY_MS)
        if len(group.taken) >= group.room:
            return self._ids.refusal(int(self._unix()))
        if held is None and claim.channel_id in self._mirror.channels:
            return Refusal(Code.NOT_OURS, "claim: this channel pays somebody else")
        terms = self._mirror.policy.receive
        drops = judge_claim(claim, held, grant.receive_accounts, terms, now=group.now, verify=self._verify)
        if isinstance(drops, Refusal):
            return self._retryable(drops)
        assert held is not None
        return self._take(claim, held, drops, group)

    def _halted(self, held: Incoming | None) -> str | None:
        """Why nothing may be taken in for the account that a channel pays."""
        wallet = self._mirror.by_address.get(held.channel.destination_account) if held else None
        return self._mirror.halted(wallet.name) if wallet else None

    def _retryable(self, refusal: Refusal) -> Refusal:
        """What the next ledger may change is worth another try after it."""
        if refusal.code in (Code.UNKNOWN_CHANNEL, Code.AMOUNT_EXCEEDS_CHANNEL):
            return replace(refusal, retry_after_ms=int(self._mirror.interval_s * 1000))
        return refusal

    def _take(self, claim: HandIn, held: Incoming, drops: Drops, group: _Group) -> Taken:
        since = group.now if held.held_since is None else held.held_since
        group.best[claim.channel_id] = replace(
            held, held=claim.amount, signature=claim.signature.hex().upper(), server=claim.server, held_since=since
        )
        said = (claim.key, claim.contents, claim.channel_id, claim.server, drops, claim.amount)
        group.taken[claim.key] = TakenIn(*said)
        return Taken(drops, claim.amount, replayed=False)

    def _commit(self, group: _Group) -> None:
        """Persist the group, then let memory follow."""
        if not group.taken:
            return
        self._claims.take_in(int(self._unix()), list(group.taken.values()), list(group.best.values()))
        for held in group.best.values():
            self._mirror.vault.put(held)
        self._telemetry.took_in(sum(taken.drops for taken in group.taken.values()))

    def _count(self, answers: Sequence[Taken | Refusal]) -> None:
        for answer in answers:
            if isinstance(answer, Refusal):
                self._telemetry.received(answer.code.value)
            else:
                self._telemetry.received("replayed" if answer.replayed else "accepted")

    # --- collecting --------------------------------------------------------------------------------------------------

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
        looked_at = [vault.channels[channel_id] for channel_id in sorted(vault.dirty) if channel_id in vault.channels]
        purses = self._spending.purses()
        self._journal([i for held in looked_at if (i := self._intent(held, header.close_time, purses))], header.index)
        vault.dirty.clear()

    def touch_all(self) -> None:
        """The policy changed: decide everything again."""
        self._mirror.vault.dirty.update(self._mirror.vault.channels)

    def _in_flight(self, channel_id: ChannelId) -> bool:
        """Whether an intent to collect from it is open."""
        number = self._flying.get(channel_id)
        if number is not None and number not in self._mirror.journal:
            del self._flying[channel_id]
            return False
        return number is not None

    def _intent(self, held: Incoming, now: RippleTime, purses: Purses) -> Intent | None:
        """What is to be done about a channel; what is not has its reason counted. No budget holds up what is urgent."""
        channel, policy = held.channel, self._mirror.policy
        setback = self._mirror.setbacks.get(channel.channel_id)
        in_flight, retry_at = self._in_flight(channel.channel_id), setback.retry_at if setback else None
        answer = when_to_redeem(held, policy.receive, now, in_flight=in_flight, retry_at=retry_at)
        wallet = self._mirror.by_address.get(channel.destination_account)
        if wallet is None and not (isinstance(answer, Wait) and answer.reason is Reason.NOTHING_HELD):
            answer = Wait(Reason.NO_WALLET)
        seen = Collecting(held, in_flight, retry_at, self._mirror.network_fee)
        costs = {Purse.FEES: worst_fee(Kind.REDEEM, policy.guards, ends=True)}  # its source may close it at any time
        if isinstance(answer, Due) and not answer.urgent and purses.exhausted(costs, ""):
            answer = Wait(Reason.BUDGET_EXHAUSTED)
        if isinstance(answer, Wait):
            self._wait(channel.channel_id, answer)
            said = Answered(channel.channel_id, None, "", answer.reason.value, (), None, answer.until)
            self.on_decided(wallet.name if wallet else "", seen, said)
            return None
        purses.take(costs, "")
        assert wallet is not None
        self._seen[channel.channel_id] = seen
        self._at_risk(held, answer)
        self._again.add(channel.channel_id)
        target = Drops(channel.balance + held.collectable)
        return Intent(RedeemChannel(wallet.name, channel.channel_id, target), answer.reason, policy.hash)

    def _wait(self, channel_id: ChannelId, wait: Wait) -> None:
        self._telemetry.held(wait.reason.value)
        if wait.reason in _PASSES:
            self._again.add(channel_id)
        elif wait.until is not None:
            heapq.heappush(self._due, (wait.until, channel_id))

    def _at_risk(self, held: Incoming, due: Due) -> None:
        """Say once for every end that a channel gets that money of ours depends on what happens before it."""
        channel = held.channel
        if not due.urgent or self._reported.get(channel.channel_id) == channel.deadline:
            return
        assert channel.deadline is not None
        self._reported[channel.channel_id] = channel.deadline
        log.warning(
            "claim_at_risk", channel_id=channel.channel_id, drops=held.collectable, deadline=channel.deadline,
            reason=due.reason,
        )  # fmt: skip
        if due.reason == BEFORE_END:  # a close that the source requested was told with the ledger that showed it
            risk = event(News.AT_RISK, channel, channel.ledger_index, owed=held.collectable)
            self._told += to_receivers([risk], self._mirror)

    def _journal(self, intents: Sequence[Intent], index: LedgerIndex) -> None:
        if not intents:
            return
        with self._steps(Step.JOURNALED, intents[0].action.kind.value):
            entries = self._store.journal(intents, index, self._told)
        self._told = []
        for entry in entries:
            assert entry.channel_id is not None
            self._mirror.open_entry(entry)
            self._flying[entry.channel_id] = entry.number
            self._telemetry.planned(entry.action.kind.value)
            log.info("intent_planned", intent=entry.number, kind=entry.action.kind.value, reason=entry.intent.reason)
            said = answered(entry.intent, entry.channel_id, number=entry.number)
            self.on_decided(entry.action.wallet, self._seen.pop(entry.channel_id), said)
        self.on_planned()

    # --- what was collected ------------------------------------------------------------------------------------------

    def redeemed(self, payment: Payment) -> None:
        """A validated transaction paid us, whoever sent it, and the store has it."""
        log.info("redeemed", channel_id=payment.channel_id, drops=payment.paid, hash=payment.hash, by=payment.by)
