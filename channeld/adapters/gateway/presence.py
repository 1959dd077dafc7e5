"""Our retained status: said when we come and go, and put right again when it does not say what is.

What the broker held there when it took us back was said since we were there last: by us, by a will of ours, or by a
daemon of our name that took our session meanwhile, which some brokers say as well and some do not. Or the broker has
lost what came last, and holds what an earlier life of ours said. So what a life of ours said proves nothing. What comes
behind our own word was said after it, for messages of one topic arrive in the order in which the broker took them.

Sources: OASIS MQTT 5.0 sections 3.1.4 (session taken over), 4.6 (message ordering).
"""

from __future__ import annotations

from collections.abc import Callable, Container
from typing import Final

import structlog

from channeld.adapters.gateway.ports import Message
from channeld.core.errors import Malformed
from channeld.wire.daemons import read_status

log = structlog.get_logger()

_STATUS_PAUSE_S: Final = 1.0
_NAMESAKE_S: Final = 60.0
"""So long after it was seen last another daemon of our name is spoken of."""


class Presence:
    """What stands under `topic`. `status` makes the payload of online or not, `say` publishes one.

    `lives` are the instances that we have been, this one included.
    """

    def __init__(
        self, topic: str, status: Callable[[bool], bytes], say: Callable[[bytes], object], time: Callable[[], float]
    ) -> None:
        self.topic, self.online = topic, False
        self._status, self._say, self._time = status, say, time
        self._said_at, self._wrong = 0.0, False
        self._connects, self._came_back, self._namesake_seen = 0, False, -2 * _NAMESAKE_S
        self.lives: Container[str] = frozenset()

    def connected(self) -> None:
        """The broker took us: say so, retained."""
        self.online, self._came_back = True, False
        self._connects += 1
        self._say_status()

    def offline(self) -> None:
        """A clean stop: say so ourselves, for the will is not sent then."""
        self.online = False
        self._say_status()

    @property
    def namesake(self) -> str | None:
        """What is to be said of another daemon of our name; None if there is none."""
        if self._time() - self._namesake_seen > _NAMESAKE_S:
            return None
        return f"another daemon says {self.topic}: give each a daemon.name of its own"

    def heard(self, message: Message) -> None:
        """What stands there was said by us, by a late will that may have overwritten it, or by a namesake."""
        self._wrong = self.online and message.payload != self._status(True)
        if self._wrong:
            self._look_at(message.payload)
        elif self.online:
            self._came_back = True
        self.put_right()

    def _look_at(self, payload: bytes) -> None:
        try:
            online, instance, _ = read_status(payload)
        except Malformed:
            return
        if instance not in self.lives and (self._connects > 1 or (online and self._came_back)):
            self._met_namesake()

    def taken_over(self) -> None:
        """Somebody else has connected as us."""
        self._met_namesake()

    def _met_namesake(self) -> None:
        if self.namesake is None:
            log.error("another_daemon_of_this_name", topic=self.topic)
        self._namesake_seen = self._time()

    def put_right(self) -> None:
        """Say again what is if something else stands there, but not soon after it was said: so ask for it now and then.

        A late will that comes within the pause is the last that is heard.
        """
        if self._wrong and self._time() - self._said_at > _STATUS_PAUSE_S:
            log.warning("status_corrected", topic=self.topic)
            self._say_status()

    def _say_status(self) -> None:
        self._said_at, self._wrong = self._time(), False
        self._say(self._status(self.online))
