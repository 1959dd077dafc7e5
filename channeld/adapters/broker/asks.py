"""Several connections over which content servers ask, and which of them each server asks over.

A broker has one queue for each session, and what stands in it is sent in the order in which it came. With one session
for all, whoever asks little waits behind everything that a flood has asked, however quickly it is refused. So every
server asks over one of several sessions, as few over each as there are connections for.

Which session that is follows from the server's name, and from the others' where two would share one while another is
free. So it may change with a restart. What the earlier session still has is taken over it, and answered as ever; then
that session is told to leave it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from zlib import crc32

from channeld.adapters.broker.client import Broker
from channeld.adapters.broker.messages import Inbound


class Asks:
    """`make` makes a connection of a number, from 1 to `count`, that hands what comes over it to what it is given."""

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
        """The connection of each topic that is heard, or is to be; its place in `brokers`."""
        self._confirmed: set[str] = set()
        self.brokers = tuple(make(number + 1, self._taker(number)) for number in range(count))
        for lane, broker in enumerate(self.brokers):
            broker.on_subscribed = self._subscriber(lane)

    def hear(self, topics: Mapping[str, Sequence[str]]) -> None:
        """Take what these servers ask, each on its topics, and nobody else; who was heard before keeps its place."""
        for server in [known for known in self._topics if known not in topics]:
            self._leave(server)
        for server in sorted(topics):
            if server not in self._topics:
                self._take(server, tuple(topics[server]))

    def _take(self, server: str, topics: tuple[str, ...]) -> None:
        first, count = crc32(server.encode()), len(self._servers)
        lane = min(((first + step) % count for step in range(count)), key=self._servers.__getitem__)
        self._servers[lane] += 1
        self._topics[server] = topics
        self.lane_of.update(dict.fromkeys(topics, lane))
        self.brokers[lane].subscribe(topics)

    def _leave(self, server: str) -> None:
        topics = self._topics.pop(server)
        lane = self.lane_of[topics[0]]
        self._servers[lane] -= 1
        for topic in topics:
            del self.lane_of[topic]
        self._confirmed.difference_update(topics)
        self.brokers[lane].unsubscribe(topics)

    def hears(self, topic: str) -> bool:
        """Whether the broker has confirmed that what is asked on this topic comes here, now or once a connection that
        was lost is back.
        """
        return topic in self._confirmed

    def _subscriber(self, lane: int) -> Callable[[Collection[str]], None]:
        def subscribed(topics: Collection[str]) -> None:
            self._confirmed.update(topic for topic in topics if self.lane_of.get(topic) == lane)

        return subscribed

    def _taker(self, lane: int) -> Callable[[list[Inbound]], None]:
        def take(messages: list[Inbound]) -> None:
            lane_of = self.lane_of
            for message in messages:
                if lane_of.get(message.topic) != lane:  # as an earlier process has left it
                    self.brokers[lane].unsubscribe((message.topic,))
            self._on_messages(messages)

        return take

    def hold_back(self, held: bool) -> None:
        """Leave with the broker what it has not sent yet, or take it again."""
        for broker in self.brokers:
            broker.hold_back(held)
