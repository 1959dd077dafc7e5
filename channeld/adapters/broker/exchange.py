"""Five connections to the broker: what is asked comes over one, what is said goes over the others.

A broker under load reads from every connection in turn (Mosquitto one packet a pass), and we owe it two packets for
each request: an acknowledgement and a reply. Over one connection replies would wait behind acknowledgements, and a
single server could send as fast as the broker reads, which is twice as fast as we could answer. Why replies have more
than one: see `lanes`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import Final

from channeld.adapters.broker.client import Broker
from channeld.adapters.broker.lanes import Lanes
from channeld.adapters.broker.messages import BrokerSettings, Inbound, Will

SAYS: Final = ".says"
"""Ends, with a number from 1 on, the client id of a connection over which we publish; no name of a daemon has a dot."""
LANES: Final = 4
"""Connections over which we publish."""


class Exchange:
    """Arguments, methods and callbacks are those of `Broker`; what is published keeps its order in its line."""

    def __init__(
        self,
        settings: BrokerSettings,
        *,
        subscriptions: Sequence[str],
        will: Will | None,
        on_messages: Callable[[list[Inbound]], None],
        on_connected: Callable[[bool], None],
        on_lost: Callable[[str], None],
        retained: Collection[str] = (),
        retained_once: Collection[str] = (),
    ) -> None:
        self._on_connected, self._known = on_connected, asyncio.Event()
        self.on_whole: Callable[[], None] = lambda: None
        """Called when all connections stand again."""
        self._asked = Broker(
            settings,
            subscriptions=subscriptions,
            will=will,
            on_messages=on_messages,
            on_connected=self._met,
            on_lost=on_lost,
            retained=retained,
            retained_once=retained_once,
        )
        self._says = Lanes([self._lane(settings, number, on_lost) for number in range(1, LANES + 1)])
        self.publish, self.ack, self.hold_back = self._says.publish, self._asked.ack, self._asked.hold_back
        self.queued_in, self.flush = self._says.queued_in, self._says.flush

    def _lane(self, settings: BrokerSettings, number: int, on_lost: Callable[[str], None]) -> Broker:
        return Broker(
            replace(settings, client_id=f"{settings.client_id}{SAYS}{number}"),
            subscriptions=(),
            will=None,
            on_messages=lambda messages: None,
            on_connected=lambda session_present: self._look(),
            on_lost=on_lost,
        )

    def _look(self) -> None:
        if self.connected:
            self.on_whole()

    @property
    def on_room(self) -> Callable[[], None]:
        """Called when something of what waited has left."""
        return self._says.brokers[0].on_room

    @on_room.setter
    def on_room(self, call: Callable[[], None]) -> None:
        for broker in self._says.brokers:
            broker.on_room = call

    @property
    def connected(self) -> bool:
        """Whether all stand."""
        return self._asked.connected and self._says.connected

    @property
    def last_error(self) -> str | None:
        """Why the last attempt failed, or the last connection ended."""
        return self._asked.last_error or self._says.last_error

    @property
    def reconnects(self) -> int:
        """How often one was lost."""
        return self._asked.reconnects + sum(broker.reconnects for broker in self._says.brokers)

    @property
    def dropped_malformed(self) -> int:
        return self._asked.dropped_malformed

    @property
    def publish_refused(self) -> int:
        return sum(broker.publish_refused for broker in self._says.brokers)

    @property
    def unread(self) -> bool:
        """Whether more has come from the broker than was handed over."""
        return self._asked.unread

    @property
    def queued_out(self) -> int:
        """Messages that wait for the broker's window or for a connection; every 2 KiB count as one more."""
        return self._says.queued_out

    @property
    def in_flight_out(self) -> int:
        """Messages sent whose PUBACK is due."""
        return self._says.in_flight_out

    def _met(self, session_present: bool) -> None:
        self._known.set()
        self._on_connected(session_present)

    async def run(self) -> None:
        """All, until `stop`; the others once the first was taken, so that what is wrong with all is said once."""
        await asyncio.gather(self._asked.run(), self._say())

    async def _say(self) -> None:
        await self._known.wait()
        await self._says.run()

    async def stop(self, flush_timeout_s: float = 5.0) -> bool:
        """Leave in a way that drops the will, flush, and wait for `run` to return. False: something was not settled.

        Nothing more is taken before the flush, so that nothing is acknowledged whose reply cannot leave any more.
        """
        await self._asked.stop(0)
        self._known.set()
        return await self._says.stop(flush_timeout_s)
