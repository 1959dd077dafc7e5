"""All nodes of the config, each kept connected: what they say of the ledger, and which of them to follow.

One session a node, opened again with a growing, jittered pause. On it runs the ledger stream and, every few seconds, a
question how the node is. One that does not answer in time is dropped: whoever waits for it then fails at once instead
of hanging, and a node that takes connections and answers nothing never counts as connected.

**Which ledger to believe.** Every connected node of our network votes with the whole header it announced: index, hash,
close time and fees. A header is *agreed* when at least `quorum` nodes told it and more nodes than told any other header
of that index. So with a quorum of 1 one node is enough as long as nobody contradicts it; two nodes that contradict each
other decide nothing, and what is decided then waits. A node that is alone with an index nobody else knows wins nothing
where the quorum is more than 1, and makes nobody else look late: what counts as late is measured by agreed ledgers.

**Which node to follow.** The one that is followed stays as long as it is *fit*: connected, not blocked by an amendment
it does not know, contradicting no agreed header, not behind an agreed header for longer than `LATE_S`, and not blamed
for an answer that failed or was outvoted. Else the fit one with the shortest answers takes over; where none is fit, the
least bad one that is connected.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any, Final

import structlog

from channeld.core.errors import LedgerError, Malformed, Unreachable
from channeld.core.ledger import LedgerHeader
from channeld.core.units import LedgerIndex
from channeld.service.endpoint import HEADERS_KEPT, Endpoint, names_of
from channeld.service.networks import Networks
from channeld.service.ports import Node, NodeSession, Telemetry
from channeld.service.quorum import plurality

log = structlog.get_logger()

LATE_S: Final = 2.0
"""How long a node may be behind an agreed ledger before another one is followed, in seconds."""
_ASK_EVERY_S: Final = 3.0
_ANSWER_WITHIN_S: Final = 5.0
_SHORTEST_WAIT_S: Final = 0.2
_LONGEST_WAIT_S: Final = 10.0
_LATENCY_WEIGHT: Final = 0.25


class Endpoints:
    """Keeps the nodes connected and compares them. `now` is the monotonic clock.

    `on_heard` is called with a node that announced a ledger.
    """

    def __init__(
        self,
        node: Node,
        urls: Sequence[str],
        *,
        network_id: int,
        quorum: int,
        telemetry: Telemetry,
        now: Callable[[], float],
    ) -> None:
        self._node, self.quorum = node, quorum
        self._telemetry, self.now = telemetry, now
        self.all = [Endpoint(url, name) for url, name in zip(urls, names_of(urls), strict=True)]
        self._networks = Networks(network_id, [endpoint.name for endpoint in self.all])
        self._news = asyncio.Event()
        self._agreed_at: dict[LedgerIndex, float] = {}
        self._contested: LedgerIndex | None = None
        self.on_heard: Callable[[Endpoint], None] = lambda _endpoint: None

    # --- keeping them connected --------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Until cancelled. Problems of nodes are waited out, each for itself.

        `ConfigError` ends it: at first contact, where no node that answers is of our network.
        """
        await until_one_ends(*(self._keep(endpoint) for endpoint in self.all))

    async def news(self, longest_s: float) -> None:
        """Return when a node said something or was lost, at the latest after `longest_s`."""
        try:
            async with asyncio.timeout(longest_s):
                await self._news.wait()
        except TimeoutError:
            pass
        self._news.clear()

    async def _keep(self, endpoint: Endpoint) -> None:
        """Connect to one node, again and again."""
        failures = 0
        while True:
            started = self.now()
            try:
                async with self._node.session(endpoint.url) as session:
                    await self.attend(endpoint, session)
            except (Unreachable, LedgerError, Malformed) as error:
                log.warning("node_lost", endpoint=endpoint.name, reason=str(error))
                endpoint.lost(str(error))
                self._news.set()
                self._networks.tried(endpoint.name)
            failures = 1 if self.now() - started > _LONGEST_WAIT_S else failures + 1
            pause = min(_LONGEST_WAIT_S, _SHORTEST_WAIT_S * 2 ** min(failures - 1, 10))
            await asyncio.sleep(pause * (0.5 + random.random() / 2))  # noqa: S311 (jitter)

    async def attend(self, endpoint: Endpoint, session: NodeSession) -> None:
        """Listen to a connected node; ends by raising when it is lost, silent, contradicts itself or is not ours."""
        await self._examine(endpoint, session)
        async with _deadline("subscribe"):
            header = await session.follow()
        endpoint.session, endpoint.problem = session, None
        self._hear(endpoint, header)
        log.info("node_connected", endpoint=endpoint.name, build=endpoint.facts and endpoint.facts.build)
        await until_one_ends(self._listen(endpoint, session), self._watch(endpoint, session))

    async def _listen(self, endpoint: Endpoint, session: NodeSession) -> None:
        async for header in session.ledgers():
            self._hear(endpoint, header)
        raise Unreachable("the stream of ledgers ended")

    async def _watch(self, endpoint: Endpoint, session: NodeSession) -> None:
        while True:
            await asyncio.sleep(_ASK_EVERY_S)
            await self._examine(endpoint, session)

    async def _examine(self, endpoint: Endpoint, session: NodeSession) -> None:
        """Ask a node how it is. Raises `Unreachable` if it does not answer in time or is on another network."""
        asked = self.now()
        async with _deadline("server_info"):
            facts = endpoint.facts = await session.facts()
        taken = self.now() - asked
        endpoint.latency_s += (taken - endpoint.latency_s) * (_LATENCY_WEIGHT if endpoint.latency_s else 1)
        self._networks.check(endpoint.name, facts.network_id)

    # --- comparing them ----------------------------------------------------------------------------------------------

    def _hear(self, endpoint: Endpoint, header: LedgerHeader) -> None:
        endpoint.hear(header, self.now())
        if self.agreed(header.index) is not None:
            self._agreed_at.setdefault(header.index, self.now())
            while len(self._agreed_at) > HEADERS_KEPT:
                del self._agreed_at[next(iter(self._agreed_at))]
        if len(self.told(header.index)) > 1 and header.index != self._contested:
            self._contested = header.index
            self._telemetry.disagreed()
            log.error("nodes_disagree", ledger=header.index, told=self.versions(header.index))
        self._news.set()
        self.on_heard(endpoint)

    def told(self, index: LedgerIndex) -> dict[LedgerHeader, list[Endpoint]]:
        """The headers of one index that connected nodes announced, and who told each."""
        versions: dict[LedgerHeader, list[Endpoint]] = {}
        for endpoint in self.all:
            if (header := endpoint.headers.get(index)) is not None:
                versions.setdefault(header, []).append(endpoint)
        return versions

    def versions(self, index: LedgerIndex) -> str:
        """Who told which ledger of that index, for a person."""
        parts = (f"{', '.join(e.name for e in who)}: {h.hash[:12]}" for h, who in self.told(index).items())
        return "; ".join(parts)

    def age_s(self, header: LedgerHeader) -> float:
        """How old this ledger is, as far as connected nodes tell: seconds, 0 where one announced it as it came.

        A node that stands still has an old one, however new it is to us.
        """
        now = self.now()
        return min((e.age_s(header.index, now) for e in self.told(header.index).get(header, ())), default=0.0)

    def agreed(self, index: LedgerIndex) -> LedgerHeader | None:
        """The header of that index to believe, if there is one now."""
        return plurality((e.headers[index] for e in self.all if index in e.headers), self.quorum)

    def unagreed(self, after: LedgerIndex | None) -> list[LedgerIndex]:
        """Indexes above `after` that somebody told and that no header is agreed for, lowest first."""
        known = {i for e in self.all for i in e.headers if after is None or i > after}
        return sorted(index for index in known if self.agreed(index) is None)

    def target(self, endpoint: Endpoint) -> LedgerHeader | None:
        """The newest ledger that this node announced and that is agreed; None if there is none."""
        return next((h for i, h in sorted(endpoint.headers.items(), reverse=True) if self.agreed(i) == h), None)

    def overruled(self, header: LedgerHeader | None) -> bool:
        """Whether another header than this one is agreed for its index: what was processed was not the ledger."""
        agreed = None if header is None else self.agreed(header.index)
        return agreed is not None and agreed != header

    def sessions(self, header: LedgerHeader, first: NodeSession | None = None) -> list[NodeSession]:
        """Whom to ask about a ledger: `first`, then those that announced it too, then those that may know of older
        ones; never one that told another header of that index.
        """
        others = [e for e in self.all if e.session is not None and e.session is not first]
        willing = [e for e in others if e.headers.get(header.index) in (None, header) and not self._blocked(e)]
        willing.sort(key=lambda e: (header.index not in e.headers, e.blamed_until > self.now(), e.latency_s))
        return [s for s in (first, *(e.session for e in willing)) if s is not None]

    def others(self, session: NodeSession) -> list[NodeSession]:
        """All that are connected beside this one, fit or not: any may pass a transaction on."""
        return [e.session for e in self.all if e.session is not None and e.session is not session]

    def newest(self, session: NodeSession) -> LedgerIndex | None:
        """The last ledger that the node behind a session announced, agreed or not; None if it is not connected."""
        endpoint = self.of(session)
        return endpoint.newest.index if endpoint is not None and endpoint.newest is not None else None

    # --- choosing one ------------------------------------------------------------------------------------------------

    def of(self, session: NodeSession) -> Endpoint | None:
        """The node behind a session."""
        return next((e for e in self.all if e.session is session), None)

    def choose(self, current: Endpoint | None) -> Endpoint | None:
        """Whom to follow: the present one while it is fit, else the best; None if no node is connected."""
        if current is not None and self.unfit(current) is None:
            return current
        connected = [e for e in self.all if e.session is not None]
        fit = [e for e in connected if self.unfit(e) is None]
        if fit:
            return min(fit, key=lambda e: e.latency_s)
        return min(connected, key=lambda e: self._badness(e, current), default=None)

    def unfit(self, endpoint: Endpoint) -> str | None:
        """Why a node should not be followed now; None if it may be."""
        if endpoint.session is None:
            return endpoint.problem or "not connected"
        if self._blocked(endpoint):
            return "is blocked by an amendment that it does not know"
        if (index := self._dissents(endpoint)) is not None:
            return f"tells another ledger {index} than is agreed"
        if self._late(endpoint):
            return f"is behind: at ledger {endpoint.newest.index if endpoint.newest else 'none'}"
        return endpoint.problem if self.now() < endpoint.blamed_until else None

    def _badness(self, e: Endpoint, current: Endpoint | None) -> tuple[object, ...]:
        at = e.newest.index if e.newest else 0
        return (self._blocked(e), self._dissents(e) is not None, e.blamed_until > self.now(), -at, e is not current)

    def _blocked(self, endpoint: Endpoint) -> bool:
        return endpoint.facts is not None and endpoint.facts.blocked

    def _dissents(self, endpoint: Endpoint) -> LedgerIndex | None:
        """The newest index of which it told another header than the agreed one."""
        for index, header in reversed(endpoint.headers.items()):
            agreed = self.agreed(index)
            if agreed is not None:
                return None if agreed == header else index
        return None

    def _late(self, endpoint: Endpoint) -> bool:
        """Whether it lacks a ledger that was agreed for so long."""
        told, now = self.target(endpoint), self.now()
        at = -1 if told is None else told.index
        return any(index > at and now - when > LATE_S for index, when in self._agreed_at.items())


class _deadline:  # noqa: N801 (used as a function)
    """`async with _deadline(what)`: raises `Unreachable` where the answer to `what` does not come in time."""

    def __init__(self, what: str) -> None:
        self._what, self._timeout = what, asyncio.timeout(_ANSWER_WITHIN_S)

    async def __aenter__(self) -> None:
        await self._timeout.__aenter__()

    async def __aexit__(self, *raised: Any) -> None:
        try:
            await self._timeout.__aexit__(*raised)
        except TimeoutError:
            raise Unreachable(f"no answer to {self._what} within {_ANSWER_WITHIN_S:.0f} s") from None


async def until_one_ends(*works: Coroutine[Any, Any, None]) -> None:
    """Run all until the first ends; the others are cancelled, and what it raised is raised."""
    tasks: Iterable[asyncio.Task[None]] = [asyncio.create_task(work) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
