"""Follow validated ledgers, whatever happens to the nodes: catch up, process every ledger whole and once.

A closed ledger is only the trigger. What happened in it is asked for: all transactions of our wallets from the last
ledger processed up to this one. So a live ledger, a gap after an outage and the first ledger after a start are one
case, and the order and completeness of stream messages do not matter; a change of node loses nothing, because what
counts is the last ledger processed, not who told it. After every such change the channels are read whole as well and
compared.

Which node is followed and which ledger is agreed, `endpoints` knows; which of their answers to believe, `quorum`. What
cannot be believed yet waits: nothing is processed, the lag grows and freezes issuing, and `problem` says why. Where
nodes contradict each other issuing is frozen at once, and thaws with the next ledger that is processed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import NamedTuple

import structlog

from channeld.core.channel import Channel
from channeld.core.errors import Disagreement, LedgerError, Malformed, Unreachable
from channeld.core.ledger import AccountState, LedgerHeader, ValidatedTransaction, may_change_amendments
from channeld.core.units import Address, LedgerIndex
from channeld.service.endpoint import Endpoint
from channeld.service.endpoints import LATE_S, Endpoints
from channeld.service.executor import Executor
from channeld.service.frozen import LEDGER
from channeld.service.holdings import Wallet
from channeld.service.lookout import Lookout
from channeld.service.mirror import Mirror
from channeld.service.ports import NodeSession, Telemetry
from channeld.service.quorum import Jury
from channeld.service.reconciler import Reconciler

log = structlog.get_logger()

_LOOK_EVERY_S = 0.5
_BEHIND_WAIT_S = 0.2
_BEHIND_TRIES = 10


class _Whole(NamedTuple):
    """A wallet as a ledger shows it: its account, its channels and tickets, and the channels that pay it.

    `incoming` is None for a wallet that does not receive.
    """

    account: AccountState | None
    channels: tuple[Channel, ...] = ()
    tickets: frozenset[int] = frozenset()
    incoming: tuple[Channel, ...] | None = None


class Follower:
    """Keeps the reconciler fed from the node that is fittest, with what enough nodes agree on.

    `check_account` raises `ConfigError` for an account that our keys cannot act for. `on_ledger` is called when a
    ledger was processed and decided on, before anything else happens; it may raise `StoreError`.
    """

    def __init__(
        self,
        endpoints: Endpoints,
        mirror: Mirror,
        reconciler: Reconciler,
        executor: Executor,
        telemetry: Telemetry,
        *,
        check_account: Callable[[Address], None] = lambda _: None,
    ) -> None:
        self.endpoints = endpoints
        self._mirror, self._reconciler, self._planner, self._executor = mirror, reconciler, reconciler.planner, executor
        self._telemetry, self._check_account = telemetry, check_account
        self.lookout = Lookout(endpoints, mirror, reconciler.planner)
        executor.courier.on_trouble = self._fault
        executor.courier.others, executor.courier.newest = endpoints.others, endpoints.newest
        self._primary: Endpoint | None = None
        self._session: NodeSession | None = None
        self._last: Endpoint | None = None
        self.problem: str | None = "not connected to a ledger node yet"
        self.on_ledger: Callable[[], None] = lambda: None

    @property
    def endpoint(self) -> str | None:
        """The node that is followed, None while none is."""
        return self._primary.url if self._primary is not None and self._session is not None else None

    @property
    def session(self) -> NodeSession | None:
        """The connection to it."""
        return self._session

    async def run(self) -> None:
        """Until cancelled.

        `StoreError` ends it, and so does `ConfigError`, which comes at first contact only.
        """
        beside = [asyncio.create_task(work) for work in (self.endpoints.run(), self.lookout.run())]
        try:
            while True:
                await self.endpoints.news(_LOOK_EVERY_S)
                for task in beside:
                    if task.done():
                        task.result()
                await self.step()
        finally:
            for task in beside:
                task.cancel()
            await asyncio.gather(*beside, return_exceptions=True)
            self._leave()

    async def step(self) -> None:
        """Do what is due now: change the node, catch up with it, or process a ledger. Problems are noted, not raised.

        Raises `StoreError`, and `ConfigError` as long as no ledger was processed.
        """
        primary = self.endpoints.choose(self._primary)
        try:
            await self._advance(primary)
            self.problem = self._waiting(primary)
        except Disagreement as error:
            self._disagreement(str(error))
        except (Unreachable, LedgerError, Malformed) as error:
            assert primary is not None
            primary.blame(str(error), self.endpoints.now())
            self.problem = f"{primary.name}: {error}"
            log.warning("node_left", endpoint=primary.name, reason=str(error))
            self._leave()

    async def _advance(self, primary: Endpoint | None) -> None:
        if primary is None or primary.session is None:
            self._leave()
            return
        if primary.session is not self._session or self.endpoints.overruled(self._mirror.header):
            self._leave()
            header = self.endpoints.target(primary)
            waits = self.endpoints.now() < primary.blamed_until or header is None or self._behind(header)
            if header is not None and not waits:
                await self._catch_up(primary.session, header)
                self._follow(primary, primary.session)
        elif (header := self.endpoints.target(primary)) is not None:
            await self._process(primary.session, header)
            primary.pardon(self.endpoints.now())

    def _behind(self, header: LedgerHeader) -> bool:
        return self._mirror.processed is not None and header.index < self._mirror.processed

    def _follow(self, primary: Endpoint, session: NodeSession) -> None:
        """Caught up: this is the node from now on."""
        if self._last is not None and self._last is not primary:
            self._telemetry.failover()
            log.warning("node_changed", before=self._last.name, after=primary.name)
        self._primary, self._session, self._last = primary, session, primary
        log.info("node_followed", endpoint=primary.name, ledger=self._mirror.processed)
        primary.pardon(self.endpoints.now())
        self._executor.connected(session)

    def _leave(self) -> None:
        if self._session is not None:
            self._executor.connected(None)
        self._primary = self._session = None

    # --- why nothing is processed ------------------------------------------------------------------------------------

    def _waiting(self, primary: Endpoint | None) -> str | None:
        """What holds us up; freezes where that is a contradiction."""
        if primary is None:
            return "; ".join(f"{e.name}: {e.problem}" for e in self.endpoints.all)
        if (reason := self._unagreed()) is not None:
            return reason
        if self._session is None:
            at = primary.newest.index if primary.newest else None
            behind = f"is behind: at ledger {at}, {self._mirror.processed} is processed already"
            return f"{primary.name}: {self.endpoints.unfit(primary) or behind}"
        return self._absurd_fees()

    def _unagreed(self) -> str | None:
        """The ledger that waits for agreement, if that holds us up for longer than it usually takes."""
        mirror, now = self._mirror, self.endpoints.now()
        if mirror.header is not None and now - mirror.seen_at < 1.5 * mirror.interval_s + LATE_S:
            return None
        waiting = self.endpoints.unagreed(mirror.processed)
        if not waiting:
            return None
        index, contested = waiting[0], next((i for i in waiting if len(self.endpoints.told(i)) > 1), None)
        if contested is not None:
            why = f"endpoints contradict each other about ledger {contested} ({self.endpoints.versions(contested)})"
        else:
            count = max(map(len, self.endpoints.told(index).values()))
            why = f"ledger {index} waits: {count} of {self.endpoints.quorum} endpoints that must agree told it"
        if contested is not None or now - mirror.seen_at > mirror.policy.guards.ledger_lag:
            self._freeze(why)
        return why

    def _absurd_fees(self) -> str | None:
        header, cap = self._mirror.header, self._mirror.policy.guards.fee_cap
        if header is None or header.fees.base_fee <= cap:
            return None
        return f"the ledger's base fee is {header.fees.base_fee} drops, above fee_cap ({cap}): nothing can be submitted"

    def _disagreement(self, why: str) -> None:
        self.problem = why
        if LEDGER not in self._mirror.frozen:
            self._telemetry.disagreed()
        self._freeze(why)

    def _freeze(self, why: str) -> None:
        if LEDGER not in self._mirror.frozen:
            log.error("frozen", reason=why)
        self._mirror.frozen[LEDGER] = why

    def _thaw(self) -> None:
        """A ledger was processed: whatever was contested before it is decided."""
        if self._mirror.frozen.pop(LEDGER, None) is not None:
            log.info("thawed", ledger=self._mirror.processed)

    # --- ledgers -----------------------------------------------------------------------------------------------------

    def _jury(self, session: NodeSession, header: LedgerHeader) -> Jury:
        return Jury(self.endpoints.sessions(header, session), self.endpoints.quorum, self._fault)

    def _fault(self, session: NodeSession, why: str) -> None:
        """A node's answer failed, or others told something else."""
        endpoint, now = self.endpoints.of(session), self.endpoints.now()
        if endpoint is not None and endpoint.problem == why and now < endpoint.blamed_until:
            return  # a thousand submissions may fail alike
        log.warning("node_answer_refused", endpoint=endpoint.name if endpoint else session.endpoint, reason=why)
        if endpoint is not None:
            endpoint.blame(why, now)

    async def _catch_up(self, session: NodeSession, header: LedgerHeader) -> None:
        """Fill the gap since the last ledger processed, then compare with the ledger as a whole."""
        if self._behind(header):
            raise Unreachable(f"is behind: at ledger {header.index}, {self._mirror.processed} is processed already")
        transactions, gapless = await self._gap(session, header)
        found = [await self._whole(wallet, session, header) for wallet in self._mirror.wallets.values()]
        for account, _, tickets, _ in found:
            if account is not None:
                self._mirror.by_address[account.address].tickets_seen = tickets
                self._mirror.by_address[account.address].account = account
                self._check_account(account.address)
        await self._amendments(session, header)
        self._reconciler.apply(header, transactions, gapless=gapless, age_s=self.endpoints.age_s(header))
        for account, channels, _, incoming in found:
            if account is not None:
                self._reconciler.compare(header, account, channels, incoming)
        self.lookout.review()
        self._planner.touch_all()
        await self._planner.decide_changed()
        self.on_ledger()
        self._thaw()

    async def _whole(self, wallet: Wallet, session: NodeSession, header: LedgerHeader) -> _Whole:
        """A wallet's account, all its channels in both directions and all its tickets as of a ledger.

        A wallet that pays must be in the ledger; one that only receives may be funded later.
        """
        address, at = wallet.address, header.index

        async def ask(node: NodeSession) -> _Whole:
            account = await node.account(address, at)
            if account is None:
                return _Whole(None)
            channels, tickets = _sorted(await node.channels(address, at)), frozenset(await node.tickets(address, at))
            incoming = _sorted(await node.incoming(address, at)) if wallet.receives else None
            return _Whole(account, channels, tickets, incoming)

        what = f"the channels of wallet {wallet.name} in ledger {at}"
        found = await self._jury(session, header).verdict(what, ask)
        if found.account is None and wallet.pays:
            raise LedgerError("actNotFound", f"wallet {wallet.name} ({address}) is not in the ledger: fund it")
        if found.account is None:
            log.warning("account_not_in_ledger", wallet=wallet.name, account=address)
        return found

    async def _amendments(self, session: NodeSession, header: LedgerHeader) -> None:
        """Read which rules are in force. It is for the status only: we are right under either setting of each."""
        try:
            self._mirror.amendments = await session.amendments()
        except (LedgerError, Malformed) as error:
            log.warning("amendments_unknown", ledger=header.index, reason=str(error))

    async def _process(self, session: NodeSession, header: LedgerHeader) -> None:
        """One ledger closed. One that is not newer than what is processed was a repetition."""
        before = self._mirror.processed
        if before is not None and header.index <= before:
            return
        transactions, gapless = await self._gap(session, header)
        if not gapless:
            raise Unreachable(f"does not have all ledgers from {before} to {header.index}")
        self._reconciler.apply(header, transactions, age_s=self.endpoints.age_s(header))
        self.lookout.review()
        await self._planner.decide_changed()
        self.on_ledger()
        self._thaw()
        self._executor.ledger()
        if before is not None and may_change_amendments(before, header.index):
            await self._amendments(session, header)

    async def _gap(self, session: NodeSession, header: LedgerHeader) -> tuple[list[ValidatedTransaction], bool]:
        """All transactions of our wallets in the ledgers not processed yet, and whether none is missing."""
        if self._mirror.processed is None:
            return [], False
        first = LedgerIndex(self._mirror.processed + 1)
        found: dict[str, ValidatedTransaction] = {}
        gapless = True
        if first > header.index:
            return [], True
        for wallet in self._mirror.wallets.values():
            for _ in range(_BEHIND_TRIES):
                story = await self._jury(session, header).story(wallet.address, first, header.index)
                if story.reached:
                    break
                await asyncio.sleep(_BEHIND_WAIT_S)  # nodes announce a ledger before their index of accounts has it
            gapless = gapless and story.gapless
            found.update((t.hash, t) for t in story.transactions)
        return list(found.values()), gapless


def _sorted(channels: Sequence[Channel]) -> tuple[Channel, ...]:
    """In an order that does not depend on how a node lists them."""
    return tuple(sorted(channels, key=lambda c: c.channel_id))
