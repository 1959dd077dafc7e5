"""Several connections over which content servers ask, and which of them each server asks over.

A broker has one queue for each session, and what stands in it is sent in the order in which it came. With one session
for all, whoever asks little waits behind everything that a flood has asked, however quickly it is refused. So every
server asks over one of several sessions, as few over each as there are connections for. The last is kept for servers
of which much is refused: they are moved there from beside others, and back once they are calm. Who moves is heard at
both places for a moment, so that nothing is lost; what it asks in that moment is answered twice.

Which session a server has may also change with a restart, for it follows from who is configured. What an earlier
session still has is taken over it, and answered as ever; then that session is told to leave it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final

from channeld.adapters.broker.client import Broker
from channeld.adapters.broker.messages import Inbound
from channeld.core.limits import Bucket

FLOOD_PER_S: Final = 4000
"""A server floods of which more is refused; who waits for answers and repeats what was refused stays below."""
_AHEAD_NS: Final = 250_000_000
CALM_S: Final = 60.0
"""And does not any more when it did not for so long."""
_NEW_S: Final = 1.0
"""How long what came before a subscription may still come over another connection, after it was confirmed."""


class Asks:
    """`make` makes a connection of a number, from 1 to `count` (2 or more), that hands what comes over it to what it is
    given.
    """

    def __init__(
        self,
        count: int,
        make: Callable[[int, Callable[[list[Inbound]], None]], Broker],
        on_messages: Callable[[list[Inbound]], None],
    ) -> None:
        self._on_messages, self._loop = on_messages, asyncio.get_running_loop()
        self._topics: dict[str, tuple[str, ...]] = {}
        self._servers, self._apart = [0] * count, count - 1
        self.lane_of: dict[str, int] = {}
        """The connection of each topic that is heard, or is to be; its place in `brokers`."""
        self._moving: dict[str, int] = {}
        """Topics on their way to another connection, and the one that they leave."""
        self._new: set[str] = set()
        self._refused: dict[str, Bucket] = {}
        self._flooded: dict[str, float] = {}
        self.brokers = tuple(make(number + 1, self._taker(number)) for number in range(count))
        for broker in self.brokers:
            broker.on_subscribed = self._subscriber(broker)

    def hear(self, topics: Mapping[str, Sequence[str]]) -> None:
        """Take what these servers ask, each on its topics, and nobody else; who was heard before keeps its place."""
        for server in [known for known in self._topics if known not in topics]:
            self._leave(server)
        for server in sorted(topics):
            if server not in self._topics:
                self._take(server, tuple(topics[server]))

    def _emptiest(self) -> int:
        servers = self._servers[: self._apart]
        return servers.index(min(servers))

    def _take(self, server: str, topics: tuple[str, ...]) -> None:
        self._topics[server] = topics
        self._new.update(topics)
        self._put(topics, self._emptiest())

    def _put(self, topics: tuple[str, ...], lane: int) -> None:
        self._servers[lane] += 1
        self.lane_of.update(dict.fromkeys(topics, lane))
        self.brokers[lane].subscribe(topics)

    def _leave(self, server: str) -> None:
        topics = self._topics.pop(server)
        self._flooded.pop(server, None)
        self._refused.pop(server, None)
        self._servers[self.lane_of[topics[0]]] -= 1
        for topic in topics:
            self.brokers[self.lane_of.pop(topic)].unsubscribe((topic,))
            if (before := self._moving.pop(topic, None)) is not None:
                self.brokers[before].unsubscribe((topic,))

    # -- floods --------------------------------------------------------------------------------------------------

    def refused(self, server: str, count: int) -> None:
        """So many requests of a server were refused, whatever for."""
        if server not in self._topics:
            return
        if (bucket := self._refused.get(server)) is None:
            bucket = self._refused[server] = Bucket(FLOOD_PER_S, ahead_ns=_AHEAD_NS)
        if not bucket.take(int(self._loop.time() * 1e9), count):
            self._floods(server)

    def _floods(self, server: str) -> None:
        if server in self._flooded:
            self._flooded[server] = self._loop.time()
        elif self._servers[self.lane_of[self._topics[server][0]]] > 1:
            self._flooded[server] = self._loop.time()
            self._move(server, self._apart)
            self._loop.call_later(CALM_S, self._look_again, server)

    def _look_again(self, server: str) -> None:
        if (since := self._flooded.get(server)) is None:
            return
        if (left := since + CALM_S - self._loop.time()) > 0:
            self._loop.call_later(left, self._look_again, server)
        else:
            del self._flooded[server]
            self._move(server, self._emptiest())

    def _move(self, server: str, lane: int) -> None:
        """Hear a server over another connection, and over its own until the other is confirmed."""
        topics = self._topics[server]
        before = self.lane_of[topics[0]]
        self._servers[before] -= 1
        self._moving.update(dict.fromkeys(topics, before))
        self._put(topics, lane)

    # -- what the connections tell -------------------------------------------------------------------------------

    def _subscriber(self, broker: Broker) -> Callable[[Collection[str]], None]:
        def subscribed(topics: Collection[str]) -> None:
            for topic in topics:
                if (before := self._moving.pop(topic, None)) is not None:
                    self.brokers[before].unsubscribe((topic,))
            if broker.connected:
                self._loop.call_later(_NEW_S, self._new.difference_update, topics)
            else:
                self._new.difference_update(topics)

        return subscribed

    def hears(self, topic: str) -> bool:
        """Whether all that is asked on this topic comes here."""
        lane = self.lane_of.get(topic)
        return lane is not None and topic not in self._new and self.brokers[lane].connected

    def _taker(self, lane: int) -> Callable[[list[Inbound]], None]:
        def take(messages: list[Inbound]) -> None:
            lane_of, moving = self.lane_of, self._moving
            for message in messages:
                if lane_of.get(message.topic) != lane and message.topic not in moving:
                    self.brokers[lane].unsubscribe((message.topic,))  # as an earlier process has left it
            self._on_messages(messages)

        return take

    def hold_back(self, held: bool) -> None:
        """Leave with the broker what it has not sent yet, or take it again."""
        for broker in self.brokers:
            broker.hold_back(held)
