"""What servers ask that are not configured: heard as long as little is asked, so that they can be told what is wrong.

No subscription says "all but these". Who listens to everybody gets everything a second time, at QoS 0 and over a
connection of its own; that may cost next to nothing, so it ends for a while as soon as there is more of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from channeld.adapters.broker.client import Broker
from channeld.adapters.broker.messages import Inbound
from channeld.core.limits import Bucket

MOST_PER_S: Final = 3000
"""Messages; every KiB of one counts as one more. Some 20 us each, of the broker's time and ours."""
_AHEAD_NS: Final = 500_000_000
"""And half of that at once: one message of 1 MiB passes."""
PAUSE_S: Final = 3.0
"""How long nobody listens once there was more than that."""


class Strangers:
    """`filters` is everybody's topics; `elsewhere` says of one whether it is heard over another connection."""

    def __init__(self, broker: Broker, filters: Sequence[str], elsewhere: Callable[[str], bool]) -> None:
        self._broker, self._filters, self._elsewhere = broker, tuple(filters), elsewhere
        self._loop = asyncio.get_running_loop()
        self._bucket = Bucket(MOST_PER_S, ahead_ns=_AHEAD_NS)
        self._pause: asyncio.TimerHandle | None = None
        self.deaf = False
        """Set while nothing can be taken: what comes at QoS 0 cannot be left with the broker."""
        broker.unsubscribe(self._filters)  # as an earlier process may have left it

    def listen(self) -> None:
        """From now on; not before all others are heard elsewhere, or they would be heard twice."""
        self._pause = None
        self._broker.subscribe(self._filters, qos=0)

    def only(self, messages: list[Inbound]) -> list[Inbound]:
        """Those that nobody else hears, and all that has to be acknowledged: that does not come of these filters."""
        cost = sum([1 + (len(message.payload) >> 10) for message in messages if message.connection is None])
        if cost and self._pause is None and not self._bucket.take(int(self._loop.time() * 1e9), cost):
            self._broker.unsubscribe(self._filters)
            self._pause = self._loop.call_later(PAUSE_S, self.listen)
        return [message for message in messages if message.connection is not None or self._is_new(message)]

    def _is_new(self, message: Inbound) -> bool:
        return not (self.deaf or self._elsewhere(message.topic))

    def close(self) -> None:
        """Listen no more."""
        if self._pause is not None:
            self._pause.cancel()
