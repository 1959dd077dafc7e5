"""The engine with a herald, and a broker that holds what is retained: it settles when told, and may lose things."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import contract
from engine import Engine
from worlds import PAYEES

from channeld.core.records import ChannelRecord
from channeld.core.units import ChannelId, Payee
from channeld.service.audience import Audience
from channeld.service.herald import Herald
from channeld.service.holdings import Grant
from channeld.wire.events import channel_payload, channel_source, event_payload

Key = tuple[str, ChannelId]


class Board:
    """A broker: what it was handed takes effect in order, when it is delivered."""

    def __init__(self) -> None:
        self.connected = False
        self.retained: dict[Key, bytes] = {}
        self.told: dict[str, list[tuple[int, bytes]]] = {}
        self.handed: list[tuple[Callable[[], None], Callable[[bool], None]]] = []
        self.meddled: set[Key] = set()
        self.shown = 0
        self.room = 10**9
        self.heard: Callable[[str, ChannelId, bytes], None] = lambda server, channel_id, payload: None
        """The daemon is subscribed to what is retained."""

    def render(self, record: ChannelRecord) -> bytes:
        return channel_payload(record)

    source = staticmethod(channel_source)

    def show(self, server: str, channel_id: ChannelId, payload: bytes, told: Callable[[bool], None]) -> bool:
        self.shown += 1
        contract.check(f"p/servers/{server}/channels/{channel_id}", payload)

        def arrive() -> None:
            self.meddled.discard((server, channel_id))
            self.put(server, channel_id, payload)

        return self._take(arrive, told)

    def meddle(self, server: str, channel_id: ChannelId, payload: bytes) -> None:
        """Somebody else puts something in the place of what we retain, and it is so until we put it right."""
        self.meddled.add((server, channel_id))
        self.put(server, channel_id, payload)

    def put(self, server: str, channel_id: ChannelId, payload: bytes) -> None:
        """Somebody's message arrives."""
        self.retained[server, channel_id] = payload
        if not payload:
            del self.retained[server, channel_id]
        self.heard(server, channel_id, payload)

    def tell(self, waiting: Any, told: Callable[[bool], None]) -> bool:
        said = (waiting.seq, event_payload(waiting.seq, waiting.event))
        contract.check(f"p/servers/{waiting.server}/event", said[1])
        return self._take(lambda: self.told.setdefault(waiting.server, []).append(said), told)

    def _take(self, effect: Callable[[], None], told: Callable[[bool], None]) -> bool:
        if len(self.handed) >= self.room:
            return False
        self.handed.append((effect, told))
        return True

    def deliver(self, count: int = 10**9, *, answered: bool = True) -> None:
        """The next messages arrive; their sender hears of it unless it is dead by then."""
        for _ in range(min(count, len(self.handed))):
            effect, told = self.handed.pop(0)
            effect()
            if answered:
                told(True)

    def arriving(self) -> dict[Key, bytes]:
        """What will be retained when everything handed over so far has arrived."""
        kept, meddled, handed, heard = dict(self.retained), set(self.meddled), list(self.handed), self.heard
        self.heard = lambda server, channel_id, payload: None
        for effect, _ in handed:
            effect()
        found, self.retained, self.meddled, self.heard = self.retained, kept, meddled, heard
        return found


class Heralded(Engine):
    """Grants may change, and the daemon may die; the board stays."""

    def __init__(self, path: Path) -> None:
        self.board = Board()
        self.later: list[Callable[[], None]] = []
        super().__init__(path)

    def build(self) -> None:
        super().build()
        self.mirror.grants = self.grants
        self.later = []
        self.herald = Herald(self.mirror, self.store.events, self.board, self.later.append)
        self.follower.on_ledger = self.herald.ledger
        self.board.connected, self.board.heard = False, self.herald.found

    def kill(self) -> None:
        super().kill()
        self.board.handed.clear()

    def meet(self, *, session: bool = True) -> None:
        """The broker takes us. Without our session it shows all that it holds, and always does so at first."""
        first, self.board.connected = not self.herald._complete, True
        self.herald.connected(session_present=session)
        if first or not session:
            for (server, channel_id), payload in list(self.board.retained.items()):
                self.herald.found(server, channel_id, payload)
            self.herald.marked()

    def turn(self) -> None:
        """What was put off happens."""
        while self.later:
            self.later.pop(0)()

    def settle(self) -> None:
        """Everything arrives and is answered."""
        while self.board.handed or self.later:
            self.board.deliver()
            self.turn()

    def grant(self, payees: dict[str, tuple[Payee, ...]]) -> None:
        """Other servers and payees, as after SIGHUP."""
        before = Audience(self.grants)
        self.grants = {s: Grant(dict.fromkeys(p, "p"), 10**18, 10**9, 10) for s, p in payees.items() if p}
        self.mirror.grants = self.grants
        self.herald.reload(Audience(self.grants).gained(before))

    def expected(self) -> dict[Key, bytes]:
        """What the mirror says that every server should see."""
        return {
            (server, channel_id): channel_payload(state.record)
            for channel_id, state in self.mirror.channels.items()
            if state.record.pool
            for server, grant in self.grants.items()
            if state.record.channel.payee in grant.payees
        }


SUBSETS = tuple(subset for count in range(3) for subset in itertools.combinations(PAYEES[:2], count))
