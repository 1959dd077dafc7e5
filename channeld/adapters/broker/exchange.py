"""Two connections to the broker: what is asked comes over one, what is said goes over the other.

A broker under load reads from every connection in turn (Mosquitto one packet a pass), and we owe it two packets for
each request: an acknowledgement and a reply. Over one connection replies would wait behind acknowledgements, and a
single server could send as fast as the broker reads, which is twice as fast as we could answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import Final

from channeld.adapters.broker.client import Broker
from channeld.adapters.broker.messages import BrokerSettings, Inbound, Will

SAYS: Final = ".says"
"""Ends the client id of the connection over which we publish; no name of a daemon has a dot."""


class Exchange:
    """Arguments, methods and callbacks are those of `Broker`; everything published shares one connection, in order."""

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
        self._says = Broker(
            replace(settings, client_id=settings.client_id + SAYS),
            subscriptions=(),
            will=None,
            on_messages=lambda messages: None,
            on_connected=lambda session_present: None,
            on_lost=on_lost,
        )
        self.publish, self.ack = self._says.publish, self._asked.ack
        self.queued_in, self.writable, self.flush = self._says.queued_in, self._says.writable, self._says.flush

    @property
    def on_room(self) -> Callable[[], None]:
        """Called when something of what waited has left."""
        return self._says.on_room

    @on_room.setter
    def on_room(self, call: Callable[[], None]) -> None:
        self._says.on_room = call

    @property
    def connected(self) -> bool:
        """Whether both stand."""
        return self._asked.connected and self._says.connected

    @property
    def last_error(self) -> str | None:
        """Why the last attempt failed, or the last connection ended."""
        return self._asked.last_error or self._says.last_error

    @property
    def reconnects(self) -> int:
        """How often either was lost."""
        return self._asked.reconnects + self._says.reconnects

    @property
    def dropped_malformed(self) -> int:
        return self._asked.dropped_malformed

    @property
    def publish_refused(self) -> int:
        return self._says.publish_refused

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
        """Both, until `stop`; the second once the first was taken, so that what is wrong with both is said once."""
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
