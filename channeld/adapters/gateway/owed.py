"""Replies on their way to the servers that asked, and those that found no room; who was answered is acknowledged.

Nothing is decided while a reply waits here, and a group only where half of the broker's queue is free. So what waits is
a part of one group at most, and little ever does. Nobody else would try again: its requests would take up our Receive
Maximum until the next connection.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from channeld.adapters.gateway.ports import Message, Outbox
from channeld.core.errors import BadValue
from channeld.wire.topics import Topics


class Owed:
    """`dropped` is told why a message got no answer: a word of a small closed set."""

    def __init__(self, topics: Topics, dropped: Callable[[str], None]) -> None:
        self._topics, self._dropped = topics, dropped
        self._waiting: deque[tuple[Message, str, bytes]] = deque()
        self.out: Outbox
        """The broker's side, there before the first message."""

    def __len__(self) -> int:
        return len(self._waiting)

    def send(self, message: Message, server: str, payload: bytes) -> None:
        """Reply, then acknowledge; both wait for `send_again` where there is no room."""
        if not self._waiting and self.queue(message, server, payload):
            self.out.ack(message)
        else:
            self._waiting.append((message, server, payload))

    def send_again(self) -> None:
        """Something has left the queue: what waits, in its order, as far as there is room."""
        while self._waiting and self.queue(*self._waiting[0]):
            self.out.ack(self._waiting.popleft()[0])

    def queue(self, message: Message, server: str, payload: bytes) -> bool:
        """Queue a reply where the server wants it. False where there is no room; true for what no room would help."""
        default = self._topics.reply(server)
        topic = message.response_topic
        if topic is None or message.bad_response_topic or not self._topics.allows_response(server, topic):
            topic = default
        try:
            return self.out.publish(topic, payload, correlation_data=message.correlation_data, line=server)
        except BadValue:  # larger than this broker takes: it would be every time
            self._dropped("reply_too_large")
            return True
