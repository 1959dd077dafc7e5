"""Our retained status: said when we come and go, and put right again when it does not say what is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import structlog

from channeld.adapters.gateway.ports import Message

log = structlog.get_logger()

_STATUS_PAUSE_S: Final = 1.0
_NAMESAKE_S: Final = 60.0
"""So long after it was seen last another daemon of our name is spoken of."""


class Presence:
    """What stands under `topic`. `status` makes the payload of online or not, `say` publishes one."""

    def __init__(
        self, topic: str, status: Callable[[bool], bytes], say: Callable[[bytes], object], time: Callable[[], float]
    ) -> None:
        self.topic, self.online = topic, False
        self._status, self._say, self._time = status, say, time
        self._said_at, self._wrong = 0.0, False
        self._connects, self._namesake_seen = 0, -_NAMESAKE_S

    def connected(self) -> None:
        """The broker took us: say so, retained."""
        self.online = True
        self._connects += 1
        self._say_status()

    def offline(self) -> None:
        """A clean stop: say so ourselves, for the will is not sent then."""
        self.online = False
        self._say_status()

    @property
    def namesake(self) -> str | None:
        """What is to be said of another daemon that takes our session again and again; None if there is none."""
        if self._time() - self._namesake_seen > _NAMESAKE_S:
            return None
        return f"another daemon says {self.topic}: give each a daemon.name of its own"

    def heard(self, message: Message) -> None:
        """What stands there was said by us, by a late will that may have overwritten it, or by a namesake."""
        self._wrong = stale = self.online and message.payload != self._status(True)
        # what stood there when we came back is ours or our will's, unless somebody else was there in between
        if stale and self._connects > 1 and message.retain and message.payload != self._status(False):
            self._namesake_seen = self._time()
            log.error("another_daemon_of_this_name", topic=message.topic)
        self.put_right()

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
