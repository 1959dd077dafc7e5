"""Several nodes on one ledger, scripted by hand: each knows the ledger up to a point, has history from a point, and may
lie.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from engine import Engine, Ledger, Session
from worlds import KEY, PAYEES, SOURCE

from channeld.core.channel import Channel
from channeld.core.errors import LedgerError, Unreachable
from channeld.core.ledger import AccountState, ChannelChange, History, LedgerHeader, NodeFacts, ValidatedTransaction
from channeld.core.units import Address, ChannelId, Drops, LedgerIndex, RippleTime, Seconds

Snapshot = tuple[LedgerHeader, AccountState, dict[str, Channel]]


class Kept(Ledger):
    """A ledger that can be read as of any of its past."""

    def __init__(self) -> None:
        super().__init__()
        self.past: dict[int, Snapshot] = {}
        self.keep()

    def keep(self) -> None:
        self.past[self.index] = (self.header(), self.account(), dict(self.channels))

    def close(self, seconds: int = 4, *, take: bool = True) -> None:
        super().close(seconds, take=take)
        self.keep()

    def redeem(self, channel_id: str, amount: int) -> None:
        before = self.index
        super().redeem(channel_id, amount)
        if self.index > before:
            self.keep()

    def change(self, channel: Channel, *, created: bool = False) -> None:
        """Somebody else changes a channel, in a ledger of its own."""
        self.index, self.time = self.index + 1, self.time + 4
        change = replace(self._put(channel, 0), created=created)
        self._record(f"{self.index:064X}", channel.destination_account, self.index, "tesSUCCESS", 10, [change], 0)
        self.keep()


@dataclass(eq=False)
class FakeNode(Session):
    """A node that knows the ledger up to `tip` (None: all of it). `tell` rewrites what it says of transactions, and
    `show` what it says of channels.
    """

    tip: int | None = None
    age_s: float | None = 0.0
    late_history: int = 0
    tell: Callable[[list[ValidatedTransaction]], list[ValidatedTransaction]] = lambda told: told
    show: Callable[[list[Channel]], list[Channel]] = lambda shown: shown
    asked: list[str] = field(default_factory=list)

    @property
    def past(self) -> dict[int, Snapshot]:
        assert isinstance(self.ledger, Kept)
        return self.ledger.past

    def at(self) -> int:
        return self.ledger.index if self.tip is None else self.tip

    def facts_now(self) -> NodeFacts:
        return NodeFacts(0, "fake", LedgerIndex(self.first), LedgerIndex(self.at()), self.age_s)

    async def history(self, account: Address, first: LedgerIndex, last: LedgerIndex) -> History:
        self.asked.append(f"{first}..{last}")
        if self.lost:
            raise Unreachable("gone")
        low, high = max(first, self.first), min(last, self.at() - self.late_history)
        told = self.tell([t for t in self.ledger.history if low <= t.ledger_index <= high])
        return History(LedgerIndex(low), LedgerIndex(high), tuple(told))

    def _as_of(self, at: LedgerIndex) -> Snapshot:
        if self.lost:
            raise Unreachable("gone")
        if at > self.at() or at not in self.past:
            raise LedgerError("lgrNotFound")
        return self.past[at]

    async def channels(self, account: Address, at: LedgerIndex) -> list[Channel]:
        tags = self.ledger.tags
        return self.show(
            [replace(c, ledger_index=at, source_tag=tags.get(c.channel_id)) for c in self._as_of(at)[2].values()]
        )

    async def account(self, account: Address, at: LedgerIndex) -> AccountState | None:
        return self._as_of(at)[1]


class Several(Engine):
    """The engine on several nodes. Nodes are connected and heard by hand; `step` lets the follower do what is due."""

    def __init__(self, path: Path, *, nodes: int = 3, quorum: int = 1) -> None:
        self.urls, self.quorum = tuple(f"ws://node{n}:6006" for n in range(nodes)), quorum
        self.kept = Kept()
        self.nodes = [FakeNode(self.kept, url) for url in self.urls]
        super().__init__(path, ledger=self.kept)

    def join(self, number: int) -> None:
        """A node is connected and tells where it stands; lower numbers answer quicker."""
        endpoint, node = self.endpoints.all[number], self.nodes[number]
        session: Any = node
        endpoint.session, endpoint.problem, endpoint.facts = session, None, node.facts_now()
        endpoint.latency_s = 0.01 * (number + 1)
        self.hear(number)

    def hear(self, number: int, index: int | None = None, header: LedgerHeader | None = None) -> None:
        """A connected node announces the newest ledger it knows, or an older one, or one that it made up."""
        endpoint, node = self.endpoints.all[number], self.nodes[number]
        if endpoint.session is not None:
            self.endpoints._hear(endpoint, header or node.past[node.at() if index is None else index][0])

    def drop(self, number: int) -> None:
        """The connection is lost. The next one is another session."""
        self.endpoints.all[number].lost("connection lost")
        self.nodes[number] = replace(self.nodes[number])

    def look(self, number: int) -> None:
        """What the lookout does on the node's announcement."""
        self.loop.run_until_complete(self.follower.lookout.look(self.endpoints.all[number]))

    def step(self) -> None:
        """The follower does what is due, then the executor."""
        self.loop.run_until_complete(self.follower.step())
        self.work()

    def work(self) -> None:
        session = self.executor._session
        if session is not None:
            self.session = session  # type: ignore[assignment]
            super().work()

    def all_hear(self, seconds: float = 4) -> None:
        """Time passes, every connected node announces the newest ledger it knows, and it is processed."""
        self.pass_time(seconds)
        for number in range(len(self.nodes)):
            self.hear(number)
        self.step()
        self.step()

    def close(self, *, seconds: int = 4) -> None:
        self.kept.close(seconds)
        self.all_hear(seconds)

    def open_one(self) -> str:
        """The id of a first channel, on which 5 drops were sold."""
        self.step()
        self.answer(self.ask("first", 5))
        for _ in range(3):
            self.close()
        self.answer(self.ask("sold", 5))
        return self.kept.created[0]

    @property
    def primary(self) -> int | None:
        return next((n for n, e in enumerate(self.endpoints.all) if e is self.follower._primary), None)

    def true(self) -> bool:
        """Whether mirror and store say of channels and payments what the ledger says, no more and no less."""
        none = LedgerIndex(0)
        believed = {i: replace(s.record.channel, ledger_index=none) for i, s in self.mirror.channels.items()}
        same = believed == {i: replace(c, ledger_index=none) for i, c in self.kept.channels.items()}
        paid = sorted((t.ledger_index, c.paid) for t in self.kept.history for c in t.channels if c.paid)
        return same and sorted(self.on_disk("SELECT ledger, paid FROM payment")) == paid


def invented(index: int) -> ValidatedTransaction:
    """A transaction that never was: a channel of ours, full of money."""
    channel = Channel(
        ChannelId("F" * 64),
        SOURCE,
        PAYEES[0].account,
        PAYEES[0].tag,
        KEY,
        Drops(10**9),
        Drops(0),
        Seconds(10),
        None,
        None,
        LedgerIndex(index),
    )
    head = ("E" * 64, LedgerIndex(index), 0, SOURCE, 10**6, False, "PaymentChannelCreate", "tesSUCCESS", Drops(10))
    return ValidatedTransaction(*head, (ChannelChange(channel, True, False, Drops(0)),), ())


def made_up(ledger: Ledger, *, ahead: int = 0) -> LedgerHeader:
    """A header that no honest node tells."""
    return replace(ledger.header(), index=LedgerIndex(ledger.index + ahead), hash="A" * 64)


def closing(channel: Channel, now: int) -> Channel:
    return replace(channel, expiration=RippleTime(now + 10))
