"""Answer claim requests: look up, authorize, persist, sign. The hot path.

A group of requests that wait together is decided together, in one turn of the event loop: one look-up of their ids, one
durable transaction, and one signature per channel touched. Until the store has taken the group nothing has changed in
memory; after it has, nothing can fail but the signing itself, which is repeated when the id comes again.

The order of checks on a request is the contract's: an id that was accepted before gets its answer before anything else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import structlog

from channeld.core.claim import claim_message
from channeld.core.errors import StoreError
from channeld.core.freezes import SERVER, Audit, Cause
from channeld.core.records import Accepted, ChannelMark, ChannelRecord, Remembered
from channeld.core.requests import Answer, Ask, Code, Granted, Held, Refusal, SignedClaim, unsigned
from channeld.core.units import MAX_DROPS, ChannelId, Payee
from channeld.service.choice import Choice
from channeld.service.deciding import Counter, Grouped, Line, Outcome, Placed, Way
from channeld.service.frozen import STORE
from channeld.service.gatekeeper import Gatekeeper
from channeld.service.holdings import ChannelState, Grant, Group
from channeld.service.id_room import IdRoom
from channeld.service.mirror import Mirror
from channeld.service.planner import Planner
from channeld.service.ports import ClaimSigner, Store, Telemetry, ToSign
from channeld.service.refusals import LIMIT_RETRY_MS, after_ledgers, conflict, frozen, no_headroom, too_large, untold
from channeld.service.usher import Usher

log = structlog.get_logger()

_MOST_VERIFIED = 16
_NO_KEY = "the claim key of this channel is not configured any more"

_Claims = dict[tuple[int, int], SignedClaim | Refusal]
"""What repeats are answered with, by the row of the channel and the amount that was signed then."""


class ClaimDesk:
    """Decides on requests. `signers` holds a signer per public key; `verify` gives rippled's verdict on a signature.

    `sign_each` signs the claims of a group, in order.
    """

    def __init__(
        self,
        mirror: Mirror,
        store: Store,
        planner: Planner,
        telemetry: Telemetry,
        *,
        signers: Mapping[str, ClaimSigner],
        verify: Callable[[bytes, bytes, bytes], bool],
        monotonic: Callable[[], float],
        unix: Callable[[], float],
        ids: IdRoom,
        sign_each: Callable[[Sequence[ToSign]], list[bytes]],
    ) -> None:
        self._mirror, self._store, self._planner, self._telemetry = mirror, store, planner, telemetry
        self._signers, self._verify, self._monotonic, self._unix = signers, verify, monotonic, unix
        self._ids, self._sign_each = ids, sign_each
        self._choice, self._usher = Choice(mirror, signers), Usher(mirror)
        self.gate = Gatekeeper(mirror, telemetry, monotonic, store.opens, self._usher.tier)
        self.commit_ns = 0
        """How long it took to make the last group durable; 0 where nothing was accepted."""
        self.on_store_failed: Callable[[], None] = lambda: None
        self.on_rejected: Callable[[Ask, Refusal], None] = lambda ask, refusal: None
        self.on_old_store: Callable[[str], None] = self._freeze_in_memory

    def answer(self, asks: Sequence[Ask]) -> list[Answer]:
        """Decide on a group, durably, and answer each in order.

        Never raises for a request; a store that fails freezes.
        """
        self.commit_ns = 0
        try:
            known = self._store.remembered([ask.key for ask in asks])
            verified: dict[str, int] = {}
            proven: dict[ChannelId, tuple[int, str]] = {}
            for ask in asks:
                if ask.held is not None:
                    self._look_at(ask.held, ask.server, verified, proven)
            if proven:
                self._take_as_signed(proven)
            group = Grouped(known, int(self._unix()), self.stopped(), self._ids.room(len(asks)))
            outcomes = [self._decide(ask, group) for ask in asks]
            self._commit(group)
        except StoreError as error:
            self.store_failed(error)
            return [frozen("the store does not take anything")] * len(asks)
        try:
            self._planner.decide_urgent()
        except StoreError as error:  # what was accepted is durable and is answered all the same
            self.store_failed(error)
        repeats = [o for o in outcomes if isinstance(o, Remembered)] if known else ()
        claims = self._sign_all(group.drawn, repeats, group.records)
        answers = [o if isinstance(o, Granted) else self._finish(o, claims) for o in outcomes]
        self._count(asks, answers, len(group.accepted))
        return answers

    def recall(self, key: bytes) -> tuple[Granted | Refusal, ChannelRecord] | None:
        """What a request was accepted as, as a replay of it is answered, and its channel; None if it was not.

        Raises `StoreError`.
        """
        records: dict[int, ChannelRecord | None] = {}
        was = self._store.remembered([key]).get(key)
        record = None if was is None else self._record(was.row, records)
        if was is None or record is None:
            return None
        return _replayed(was, self._sign_all((), (was,), records)), record

    def store_failed(self, error: StoreError) -> None:
        """Nothing may be issued until the store was read again: a failed commit may have reached the disk."""
        self._mirror.frozen[STORE] = f"the store failed: {error}"
        log.error("store_failed", reason=str(error))
        self.on_store_failed()

    # --- deciding ----------------------------------------------------------------------------------------------------

    def _decide(self, ask: Ask, group: Grouped) -> Outcome:
        """One request: a refusal, what it was accepted as before or is now, or who must get a channel first.

        Where nothing asks for more it goes the way of the last one for its payee.
        """
        server, key, contents, whom, drops, not_after, _, _, _, _ = ask
        if key in group.known or key in group.accepted:
            return self._prior(ask, group)
        counter = group.counters.get(server) or self._counter(server, group)
        if counter is None:
            return Refusal(Code.UNKNOWN_PAYEE, "this content server is not configured")
        way = counter.ways.get(whom)
        line = None
        in_time = not_after is None or group.now <= not_after
        if way is not None and counter.free and in_time and drops <= counter.left:
            line = way.carries(drops)
        if way is None or line is None:
            found = self._look_closely(ask, way, counter, group)
            if not isinstance(found, tuple):
                return found
            way, line = found
        payees = way.group
        payees.asked += drops
        line.left = left = line.left - drops
        counter.left -= drops
        if way.low is None or (left < payees.low_mark and not way.low):
            way.low = left < payees.low_mark
            self._planner.touch(payees, low=way.low)
        covers_to = line.amount - left
        covers_from = covers_to - drops
        group.accepted[key] = (line, contents, covers_from, covers_to, server)
        return Granted(covers_from, covers_to, line.claim, False)

    def _look_closely(self, ask: Ask, way: Way | None, counter: Counter, group: Grouped) -> Placed:
        """Everything that may stand against a request; then the way it goes, and the channel there."""
        payee = self._payee(ask, counter.grant) if way is None else way.payee
        if isinstance(payee, Refusal):
            return payee
        if (refusal := self._guard(ask, counter, group)) is not None:
            return refusal
        if way is None:
            way = self._way(ask, payee, counter)
        if counter.free:
            return self._place(ask, way, counter, group)
        group.spent[ask.server] = counter.spent
        if (refusal := self.gate.judge(ask, payee, way.group, group.spent, group.now)) is not None:
            return refusal
        placed = self._place(ask, way, counter, group)
        if not group.room.plenty and isinstance(placed, tuple):
            group.room.take(ask.server)
        return placed

    def _counter(self, server: str, group: Grouped) -> Counter | None:
        """What a content server has before it, looked up once for a group; None for one that is not configured."""
        found, grant = None, self._mirror.grants.get(server)
        if grant is not None:
            left = grant.max_drops_per_day - self.gate.facts.spent_today(server, group.now)
            found = Counter(grant, left, left, group.room.plenty and self.gate.free(server))
        group.counters[server] = found
        return found

    def _way(self, ask: Ask, payee: Payee, counter: Counter) -> Way:
        """The channels for a request; where requests differ by their payee alone, for all those that name this one."""
        payees = self._usher.group(ask, counter.grant, payee)
        pool = self._mirror.policy.pools.get(payees.pool)
        halted = None if pool is None else self._mirror.halted(pool.wallet)
        refusal = None if halted is None else frozen(halted)
        way = Way(payee, payees, refusal, MAX_DROPS if pool is None else pool.channel.max)
        if self._usher.plain:
            counter.ways[ask.payee] = way
        return way

    def _payee(self, ask: Ask, grant: Grant) -> Payee | Refusal:
        """Whom it is for: one that this server may charge for."""
        if ask.payee is None:
            if len(grant.payees) == 1:
                return next(iter(grant.payees))
            return Refusal(Code.BAD_REQUEST, "payee: needed, for this server has more than one")
        if ask.payee not in grant.payees:
            return Refusal(Code.UNKNOWN_PAYEE, "payee: this server may not charge for it")
        return ask.payee

    def _prior(self, ask: Ask, group: Grouped) -> Refusal | Remembered | Granted:
        """What this id was accepted as, earlier or in this very group; a refusal if it was something else then."""
        if (prior := group.known.get(ask.key)) is not None:
            record = self._record(prior.row, group.records)
            same = record is not None and prior.contents == ask.contents
            same = same and (ask.payee is None or ask.payee == record.channel.payee)  # type: ignore[union-attr]
            return prior if same else conflict()
        line, contents, covers_from, covers_to, _ = group.accepted[ask.key]
        same = contents == ask.contents and (ask.payee is None or ask.payee == line.state.record.channel.payee)
        return Granted(covers_from, covers_to, line.claim, True) if same else conflict()

    def _record(self, row: int, gone: dict[int, ChannelRecord | None]) -> ChannelRecord | None:
        """A channel as it is; the store is asked once for one that is gone."""
        state = self._mirror.by_row.get(row)
        if state is not None:
            return state.record
        if row not in gone:
            gone[row] = self._store.channel(row)
        return gone[row]

    def _guard(self, ask: Ask, counter: Counter, group: Grouped) -> Refusal | None:
        """Everything that stops issuing, whatever the channel."""
        if ask.not_after is not None and group.now > ask.not_after:
            return Refusal(Code.BAD_REQUEST, "not_after: has passed")
        if group.stopped is not None:
            return frozen(group.stopped)
        if not (group.room.plenty or group.room.may_take(ask.server)):
            return self._ids.refusal(group.now, full=group.room.full)
        return self._over_the_day(ask, counter, group) if ask.drops > counter.left else None

    def _over_the_day(self, ask: Ask, counter: Counter, group: Grouped) -> Refusal:
        """The cap of a day does not allow it: come again when enough of the day is over, if that can ever be."""
        most, facts = counter.grant.max_drops_per_day, self.gate.facts
        if ask.drops > most:
            return Refusal(Code.LIMIT_EXCEEDED, "more than max_drops_per_day of this server")
        wait_s = facts.fewer_in(ask.server, group.now, most - ask.drops - counter.spent)  # spent in the current hour
        return Refusal(Code.LIMIT_EXCEEDED, "max_drops_per_day of this server is reached", wait_s * 1000)

    def stopped(self) -> str | None:
        """Why nothing may be issued now, or None."""
        mirror = self._mirror
        if mirror.frozen:
            return next(iter(mirror.frozen.values()))
        if mirror.header is None:
            return "no validated ledger was seen yet"
        lag = self._monotonic() - mirror.seen_at
        if lag > mirror.policy.guards.ledger_lag:
            return f"the last validated ledger is {lag:.0f} s old"
        return None

    def _look_at(
        self, held: Held, server: str, verified: dict[str, int], proven: dict[ChannelId, tuple[int, str]]
    ) -> None:
        """Freeze issuing if a claim is valid and above what the store says was signed: the store is an old one.

        Said once. Of a channel that was adopted, or retired when a person said to go on from an old store, it proves
        nothing about the store, but how far that channel is signed: the highest of each is `proven`, and by whom.

        Verifying one takes as long as issuing a dozen, so of those above what was signed only the first few of a server
        are `verified` in a group (if it were the highest of a channel, a bogus one could hide a real one). It only
        advises: what is left out can be told again with the next request.
        """
        state = self._mirror.channels.get(held.channel_id)
        if state is None or not state.record.authorized < held.amount <= MAX_DROPS:
            return
        adopted, channel = state.record.adopted, state.record.channel
        if adopted and not proven.get(held.channel_id, (0, ""))[0] < held.amount <= channel.amount:
            return
        if not adopted and Cause.OLD_STORE.value in self._mirror.frozen:
            return
        key = channel.public_key
        if key not in self._signers or (before := verified.get(server, 0)) >= _MOST_VERIFIED:
            return
        verified[server] = before + 1
        if not self._verify(bytes.fromhex(key), claim_message(state.id_bytes, held.amount), held.signature):
            return
        if adopted:
            proven[held.channel_id] = held.amount, server
            return
        self.on_old_store(
            f"a content server holds a valid claim for {held.amount} drops on {held.channel_id}, and this store knows"
            f" of {state.record.authorized}: it is an old copy"
        )
        log.error("store_older_than_truth", channel_id=held.channel_id, held=held.amount)

    def _take_as_signed(self, proven: Mapping[ChannelId, tuple[int, str]]) -> None:
        """What we signed before is owed: these channels, which nothing is issued on, are signed as far as was `proven`.

        It is on disk before anything relies on it, in one transaction for the group; nothing counts as sold by it.
        Raises `StoreError`.
        """
        mirror, unix = self._mirror, int(self._unix())
        raised, marks, audits = list[ChannelState](), list[ChannelMark](), list[Audit]()
        for channel_id, (amount, server) in proven.items():
            state = mirror.channels[channel_id]
            record, since = state.record, state.record.unredeemed_since
            if since is None:
                since = record.last_claim_at if mirror.header is None else mirror.header.close_time
            raised.append(state)
            marks.append(ChannelMark(record.row, amount, record.last_claim_at, since))
            why = f"it holds a valid claim, and this store knew of {record.authorized}"
            audits.append(Audit(unix, f"{SERVER}{server}", f"take {channel_id} as signed to {amount}", why))
        self._store.take_as_signed(marks, audits)
        for state, mark, audit in zip(raised, marks, audits, strict=True):
            channel_id = state.record.channel.channel_id
            log.warning("taken_as_signed", channel_id=channel_id, amount=mark.authorized, who=audit.who, why=audit.why)
            mirror.mark(state, mark)
            self._planner.urge(state.group)

    def _freeze_in_memory(self, found: str) -> None:
        self._mirror.frozen.setdefault(Cause.OLD_STORE.value, found)

    # --- choosing a channel ------------------------------------------------------------------------------------------

    def _place(self, ask: Ask, way: Way, counter: Counter, group: Grouped) -> Placed:
        """Find the channel of the payee that is in use, or the next that can carry the drops.

        What no channel could ever carry is refused before it counts as demand. So is what a channel will carry that is
        paused, or waits for a retained object: that is repeated, often many times a second, until it is accepted.
        """
        if way.refusal is not None:
            return way.refusal
        drops, payees = ask.drops, way.group
        if drops > way.largest:
            return too_large()
        chosen = self._choice.channel(payees, drops, group.lines)
        if isinstance(chosen, Line):
            way.line = chosen
            for subject in self.gate.facts.counts(ask, payees, group.now):
                group.spent[subject] = group.spent.get(subject, 0) + drops
            return way, chosen
        if chosen is None and self._choice.untold(payees, drops):
            return untold()
        if chosen is not None:
            return Refusal(Code.FROZEN, chosen, after_ledgers(self._mirror, 2))
        payees.asked += drops
        payees.wanted, payees.wanted_by = max(payees.wanted, drops), ask.server
        self._planner.want(payees)
        return payees

    # --- making it durable -------------------------------------------------------------------------------------------

    def _commit(self, group: Grouped) -> None:
        """Persist the group, then let memory follow."""
        if not group.accepted:
            return
        drawn = group.draw()
        lines, contents, covers_from, covers_to, servers = zip(*group.accepted.values(), strict=True)
        numbers = [line.row for line in lines]
        signed = [line.claim.amount for line in lines]
        requests = Accepted(tuple(group.accepted), contents, numbers, covers_from, covers_to, signed, servers)
        header = self._mirror.header
        assert header is not None
        marks = [
            ChannelMark(
                line.row,
                line.claim.amount,
                header.close_time,
                header.close_time if (since := line.state.record.unredeemed_since) is None else since,
            )
            for line in drawn
        ]
        rows = self.gate.facts.rows(group.spent_by_all(), group.now)
        began = self._monotonic()
        self._store.accept(group.now, requests, marks, rows)
        self.commit_ns = int((self._monotonic() - began) * 1e9)
        for line, mark in zip(drawn, marks, strict=True):
            self._mirror.mark(line.state, mark)
        spent = self._mirror.spent
        for subject, hour, drops in rows:
            spent[subject, hour] = spent.get((subject, hour), 0) + drops
        self._telemetry.issued(sum(covers_to) - sum(covers_from), len(marks))

    # --- answering ---------------------------------------------------------------------------------------------------

    def _finish(self, outcome: Refusal | Remembered | Group, claims: _Claims) -> Answer:
        if isinstance(outcome, Refusal):
            return outcome
        if isinstance(outcome, Group):
            return no_headroom(outcome, self._mirror, self._monotonic())
        return _replayed(outcome, claims)

    def _sign_all(
        self, lines: Sequence[Line], repeats: Sequence[Remembered], records: dict[int, ChannelRecord | None]
    ) -> _Claims:
        """Sign the claims of a group for their amounts, which are on disk as authorised, and those of repeats again."""
        to_sign = [
            (self._signers[line.claim.public_key], claim_message(line.state.id_bytes, line.claim.amount))
            for line in lines
        ]
        unfinished = [(line.claim, line.state.record) for line in lines]
        claims: _Claims = {}
        for _, row, _, _, amount in repeats:
            if (row, amount) in claims:
                continue
            record = self._record(row, records)
            if record is None or record.channel.public_key not in self._signers:
                claims[row, amount] = Refusal(Code.INTERNAL, _NO_KEY, LIMIT_RETRY_MS)
                continue
            claim = claims[row, amount] = unsigned(record.channel)
            claim.amount = amount
            message = claim_message(bytes.fromhex(claim.channel_id), amount)
            to_sign.append((self._signers[claim.public_key], message))
            unfinished.append((claim, record))
        for (claim, record), signature in zip(unfinished, self._sign_each(to_sign), strict=True):
            self._signed(claim, signature, record)
        return claims

    def _signed(self, claim: SignedClaim, signature: bytes, record: ChannelRecord) -> None:
        """Let a claim have its signature, and say how its channel stands with it."""
        claim.signature = signature
        if record.closed_at is not None:
            claim.paid = record.channel.balance
        else:
            claim.headroom = self._choice.room(record)

    def _count(self, asks: Sequence[Ask], answers: Sequence[Answer], accepted: int) -> None:
        replayed, counts = 0, dict[str, int]()
        for ask, answer in zip(asks, answers, strict=True) if accepted < len(asks) else ():
            if isinstance(answer, Granted):
                replayed += answer.replayed
            else:
                counts[answer.code.value] = counts.get(answer.code.value, 0) + 1
                self.on_rejected(ask, answer)
        for code, count in (("accepted", accepted), ("replayed", replayed), *counts.items()):
            if count:
                self._telemetry.answered(code, count)


def _replayed(was: Remembered, claims: _Claims) -> Granted | Refusal:
    """The answer of a request that was accepted before; its signature was made again."""
    claim = claims[was.row, was.signed]
    return claim if isinstance(claim, Refusal) else Granted(was.covers_from, was.covers_to, claim, True)
