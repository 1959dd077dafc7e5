"""Several connections over which content servers ask, and which of them each server asks over.

A broker has one queue for each session, and what stands in it is sent in the order in which it came. With one session
for all, whoever asks little waits behind everything that a flood has asked, however quickly it is refused. So every
server asks over one of several sessions, as few over each as there are connections for; what is asked is known by the
topics of that server alone.

Which session a server has may change with a restart, for it follows from who is configured. What an earlier session
still has is taken over it, and answered as ever; then that session is told to leave it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final

from channeld.adapters.broker.client import Broker
from channeld.adapters.broker.messages import Inbound

_NEW_S: Final = 1.0
"""How long what came before a subscription may still come over another connection, after it was confirmed."""


class Asks:
    """`make` makes a connection of a number, from 1 on, that hands what comes over it to what it is given."""

    def __init__(
        self,
        count: int,
        make: Callable[[int, Callable[[list[Inbound]], None]], Broker],
        on_messages: Callable[[list[Inbound]], None],
    ) -> None:
        self._on_messages = on_messages
        self._topics: dict[str, tuple[str, ...]] = {}
        self._servers = [0] * count
        self.lane_of: dict[str, int] = {}
        """The connection of each topic that is heard."""
        self._new: set[str] = set()
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

    def _take(self, server: str, topics: tuple[str, ...]) -> None:
        lane = self._servers.index(min(self._servers))
        self._servers[lane] += 1
        self._topics[server] = topics
        self.lane_of.update(dict.fromkeys(topics, lane))
        self._new.update(topics)
        self.brokers[lane].subscribe(topics)

    def _leave(self, server: str) -> None:
        topics = self._topics.pop(server)
        lane = self.lane_of[topics[0]]
        self._servers[lane] -= 1
        for topic in topics:
            del self.lane_of[topic]
        self.brokers[lane].unsubscribe(topics)

    def _subscriber(self, broker: Broker) -> Callable[[Collection[str]], None]:
        def subscribed(topics: Collection[str]) -> None:
            if broker.connected:
                asyncio.get_running_loop().call_later(_NEW_S, self._new.difference_update, topics)
            else:
                self._new.difference_update(topics)

        return subscribed

    def hears(self, topic: str) -> bool:
        """Whether all that is asked on this topic comes here."""
        lane = self.lane_of.get(topic)
        return lane is not None and topic not in self._new and self.brokers[lane].connected

    def _taker(self, lane: int) -> Callable[[list[Inbound]], None]:
        def take(messages: list[Inbound]) -> None:
            lane_of = self.lane_of
            for message in messages:
                if lane_of.get(message.topic) != lane:  # of an earlier process, or of a server that is gone
                    self.brokers[lane].unsubscribe((message.topic,))
            self._on_messages(messages)

        return take

    def hold_back(self, held: bool) -> None:
        """Leave with the broker what it has not sent yet, or take it again."""
        for broker in self.brokers:
            broker.hold_back(held)
