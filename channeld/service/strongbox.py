"""Claims that payers signed for us: verify, and keep the best. Collecting it is for `service.collector`.

A content server hands in what a payer gave it. A group of claims that wait together is judged together: one look-up of
their ids, one durable transaction that remembers them and the best claim of every channel. Only then is anything
answered, so that a claim in a reply is never lost.

Nothing is taken in while issuing is frozen: whoever cannot trust the ledger or the store cannot say what a claim adds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from channeld.core.errors import StoreError
from channeld.core.receiving import Verify, judge_claim
from channeld.core.records import Incoming, TakenIn
from channeld.core.requests import Code, HandIn, Refusal, Taken
from channeld.core.units import Address, ChannelId, Drops, RippleTime
from channeld.service.collector import Collector
from channeld.service.holdings import Grant
from channeld.service.id_room import IdRoom, Room
from channeld.service.mirror import Mirror
from channeld.service.ports import ClaimStore, Telemetry
from channeld.service.refusals import frozen


@dataclass(slots=True)
class _Group:
    """Claims being judged together. Nothing of it counts before the store has taken it."""

    known: dict[bytes, TakenIn]
    now: RippleTime
    stopped: str | None
    room: Room
    taken: dict[bytes, TakenIn] = field(default_factory=dict)
    best: dict[ChannelId, Incoming] = field(default_factory=dict)


class Strongbox:
    """One for a daemon. `verify` gives rippled's verdict on a signature, `stopped` why nothing may be taken in now.

    `paid` tells whom a channel pays of which nothing is followed, None where it does not know.
    """

    def __init__(
        self,
        mirror: Mirror,
        claims: ClaimStore,
        telemetry: Telemetry,
        collector: Collector,
        *,
        verify: Verify,
        stopped: Callable[[], str | None],
        unix: Callable[[], float],
        ids: IdRoom,
    ) -> None:
        self._mirror, self._claims, self._telemetry, self._collector = mirror, claims, telemetry, collector
        self._verify, self._stopped, self._unix = verify, stopped, unix
        self._ids = ids
        self.on_store_failed: Callable[[StoreError], None] = lambda error: None
        self.paid: Callable[[ChannelId], Address | None] = lambda channel_id: None

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
            return [frozen("the store does not take anything")] * len(claims)
        try:
            self._collector.decide()
        except StoreError as error:  # what was taken in is durable and is answered all the same
            self.on_store_failed(error)
        self._count(answers)
        return answers

    def recall(self, key: bytes) -> tuple[int, int, Incoming] | None:
        """What a claim that was taken in added, what it was good for, and its channel as it is; None if it was not.

        Raises `StoreError`.
        """
        taken = self._claims.remembered([key]).get(key)
        if taken is None:
            return None
        held = self._mirror.vault.channels.get(taken.channel_id) or self._claims.channel(taken.channel_id)
        return None if held is None else (taken.drops, taken.amount, held)

    def _group(self, claims: Sequence[HandIn]) -> _Group:
        known, header = self._claims.remembered([claim.key for claim in claims]), self._mirror.header
        now = header.close_time if header else RippleTime(0)
        return _Group(known, now, self._stopped(), self._ids.room(len(claims)))

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
            return frozen(why)
        if not group.room.may_take(claim.server):
            return self._ids.refusal(int(self._unix()), full=group.room.full)
        if held is None and self._pays_others(claim.channel_id):
            return Refusal(Code.NOT_OURS, "claim: this channel pays somebody else")
        terms = self._mirror.policy.receive
        drops = judge_claim(claim, held, grant.receive_accounts, terms, now=group.now, verify=self._verify)
        if isinstance(drops, Refusal):
            return self._retryable(drops)
        assert held is not None
        return self._take(claim, held, drops, group)

    def _pays_others(self, channel_id: ChannelId) -> bool:
        """Whether a channel that is not known to pay us is known to pay somebody else."""
        if channel_id in self._mirror.channels:
            return True
        account = self.paid(channel_id)
        return account is not None and account not in self._mirror.receiving()

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
        group.taken[claim.key] = TakenIn(
            key=claim.key,
            contents=claim.contents,
            channel_id=claim.channel_id,
            server=claim.server,
            drops=drops,
            amount=claim.amount,
        )
        group.room.take(claim.server)
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
