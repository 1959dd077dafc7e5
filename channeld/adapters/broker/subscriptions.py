"""What a session is to hear, and what it is to hear no more, against what the broker has confirmed. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from itertools import islice
from typing import Final

AT_ONCE: Final = 500
"""Topics in one packet: a hundred bytes each, and brokers bound packets."""


class Subscriptions:
    """`topics` are wanted from the beginning, at QoS 1. A broker keeps what it confirmed as long as the session, so
    what is not wanted any more is due until it was taken back once, over whichever connection.
    """

    def __init__(self, topics: Iterable[str]) -> None:
        self._wanted = dict.fromkeys(topics, 1)
        self._left: dict[str, None] = {}
        self._standing: set[str] = set()
        self.on_confirmed: Callable[[Collection[str]], None] = lambda topics: None

    def want(self, topics: Iterable[str], qos: int = 1) -> None:
        """Hear these from now on, at this QoS or that of the message where it is less."""
        for topic in topics:
            self._wanted[topic] = qos
            self._left.pop(topic, None)

    def leave(self, topics: Iterable[str]) -> None:
        """Hear these no more, whether they were wanted or an earlier process has wanted them."""
        for topic in topics:
            self._wanted.pop(topic, None)
            self._left[topic] = None

    def anew(self) -> None:
        """A new connection: nothing is confirmed."""
        self._standing.clear()

    def missing(self) -> dict[str, int]:
        """The next to subscribe to, with their QoS."""
        standing = self._standing
        return dict(islice(((topic, qos) for topic, qos in self._wanted.items() if topic not in standing), AT_ONCE))

    def confirmed(self, topics: Collection[str]) -> None:
        """The broker sends these."""
        self._standing.update(topics)
        self.on_confirmed(topics)

    def superfluous(self) -> list[str]:
        """The next to unsubscribe from."""
        return list(islice(self._left, AT_ONCE))

    def taken_back(self, topics: Iterable[str]) -> None:
        """The broker sends these no more. What is wanted again since is to be subscribed to again."""
        for topic in topics:
            self._standing.discard(topic)
            self._left.pop(topic, None)
