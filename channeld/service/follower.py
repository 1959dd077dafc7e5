"""Follow validated ledgers, whatever happens to the nodes: connect, catch up, process every ledger whole and once.

A closed ledger is only the trigger. What happened in it is asked for: all transactions of our wallets from the last
ledger processed up to this one. So a live ledger, a gap after an outage and the first ledger after a start are one
case, and the order and completeness of stream messages do not matter. After every connect the channels are read whole
as well and compared.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence

import structlog

from channeld.core.errors import ConfigError, LedgerError, Malformed, Unreachable
from channeld.core.ledger import LedgerHeader, ValidatedTransaction
from channeld.core.units import Address, LedgerIndex
from channeld.service.executor import Executor
from channeld.service.mirror import Mirror
from channeld.service.ports import Node, NodeSession
from channeld.service.reconciler import Reconciler

log = structlog.get_logger()

_SHORTEST_WAIT_S = 0.2
_LONGEST_WAIT_S = 10.0
_BEHIND_WAIT_S = 0.2
_BEHIND_TRIES = 10


class Follower:
    """Keeps the reconciler fed from one of several endpoints, tried in turn.

    `check_account` raises `ConfigError` for an account that our keys cannot act for.
    """

    def __init__(
        self,
        node: Node,
        mirror: Mirror,
        reconciler: Reconciler,
        executor: Executor,
        *,
        endpoints: Sequence[str],
        network_id: int,
        check_account: Callable[[Address], None] = lambda _: None,
    ) -> None:
        self._node, self._endpoints, self._network_id = node, endpoints, network_id
        self._mirror, self._reconciler, self._executor = mirror, reconciler, executor
        self._check_account = check_account
        self.endpoint: str | None = None
        self.problem: str | None = "not connected to a ledger node yet"

    async def run(self) -> None:
        """Until cancelled. Problems of nodes are waited out with a growing, jittered pause.

        `StoreError` ends it, and so does `ConfigError`, which comes at first contact only.
        """
        failures = 0
        while True:
            endpoint = self._endpoints[failures % len(self._endpoints)]
            started = asyncio.get_running_loop().time()
            try:
                async with self._node.session(endpoint) as session:
                    await self._follow(session)
            except (Unreachable, LedgerError, Malformed) as error:
                self.problem = f"{endpoint}: {error}"
                log.warning("node_lost", endpoint=endpoint, reason=str(error))
            finally:
                self.endpoint = None
                self._executor.connected(None)
            if asyncio.get_running_loop().time() - started > _LONGEST_WAIT_S:
                failures = 0
            failures += 1
            pause = min(_LONGEST_WAIT_S, _SHORTEST_WAIT_S * 2 ** min(failures - 1, 10))
            await asyncio.sleep(pause * (0.5 + random.random() / 2))  # noqa: S311 (jitter)

    async def _follow(self, session: NodeSession) -> None:
        facts = await session.facts()
        if facts.network_id != self._network_id:
            wanted = f"{self._network_id} as [ledger] network_id says"
            problem = f"is on network {facts.network_id}, not {wanted}: take another endpoint"
            if self._mirror.header is None:
                raise ConfigError([f"ledger.endpoints: {session.endpoint} {problem}"])
            raise Unreachable(problem)
        header = await session.follow()
        await self._catch_up(session, header)
        self.endpoint, self.problem = session.endpoint, None
        log.info("node_followed", endpoint=session.endpoint, build=facts.build, ledger=header.index)
        self._executor.connected(session)
        async for closed in session.ledgers():
            await self._process(session, closed)

    async def _catch_up(self, session: NodeSession, header: LedgerHeader) -> None:
        """Fill the gap since the last ledger processed, then compare with the ledger as a whole."""
        processed = self._mirror.processed
        if processed is not None and header.index < processed:
            raise Unreachable(f"is behind: at ledger {header.index}, {processed} is processed already")
        transactions, gapless = await self._gap(session, header)
        accounts = []
        for wallet in self._mirror.wallets.values():
            account = await session.account(wallet.address, header.index)
            if account is None:
                raise LedgerError(
                    "actNotFound", f"wallet {wallet.name} ({wallet.address}) is not in the ledger: fund it"
                )
            accounts.append((account, await session.channels(wallet.address, header.index)))
        for account, _ in accounts:
            self._mirror.by_address[account.address].account = account
            self._check_account(account.address)
        self._reconciler.apply(header, transactions, gapless=gapless)
        for account, channels in accounts:
            self._reconciler.compare(header, account, channels)
        self._reconciler.touch_all()
        self._reconciler.decide_dirty()

    async def _process(self, session: NodeSession, header: LedgerHeader) -> None:
        """One ledger closed. One that is not newer than what is processed was a repetition."""
        if self._mirror.processed is not None and header.index <= self._mirror.processed:
            return
        transactions, gapless = await self._gap(session, header)
        if not gapless:
            raise Unreachable(f"does not have all ledgers from {self._mirror.processed} to {header.index}")
        self._reconciler.apply(header, transactions)
        self._reconciler.decide_dirty()
        self._executor.ledger()

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
                history = await session.history(wallet.address, first, header.index)
                if history.last >= header.index:
                    break
                await asyncio.sleep(_BEHIND_WAIT_S)  # the node announced the ledger before its index of accounts had it
            gapless = gapless and history.first <= first and history.last >= header.index
            found.update((t.hash, t) for t in history.transactions)
        return list(found.values()), gapless
