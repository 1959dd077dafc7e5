"""All connections to the broker: one for what concerns the daemon itself, some for requests, some for what is said.

A broker under load reads from every connection in turn (Mosquitto one packet a pass), and we owe it two packets for
each request: an acknowledgement and a reply. Over one connection replies would wait behind acknowledgements, and a
single server could send as fast as the broker reads, which is twice as fast as we could answer. Why either has more
than one: see `asks` and `lanes`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import Final

import structlog

from channeld.adapters.broker.asks import Asks
from channeld.adapters.broker.client import Broker
from channeld.adapters.broker.lanes import Lanes
from channeld.adapters.broker.messages import BrokerSettings, Inbound, Will, ack
from channeld.adapters.broker.strangers import Strangers

ASKS: Final = ".asks"
SAYS: Final = ".says"
"""End, with a number from 1 on, the client id of a connection for requests, or of one over which we publish; no name of
a daemon has a dot."""
ASKED_OVER: Final = 16
SAID_OVER: Final = 4
"""How many there are of each."""
_log = structlog.get_logger()


class Exchange:
    """Arguments, methods and callbacks are those of `Broker`, for the connection of the daemon itself and for `hear`.

    `everybody` are the requests of all servers, configured or not. What is published keeps its order in its line.
    """

    def __init__(
        self,
        settings: BrokerSettings,
        *,
        subscriptions: Sequence[str],
        everybody: Sequence[str] = (),
        will: Will | None,
        on_messages: Callable[[list[Inbound]], None],
        on_connected: Callable[[bool], None],
        on_lost: Callable[[str], None],
        retained: Collection[str] = (),
        retained_once: Collection[str] = (),
    ) -> None:
        self._on_connected = on_connected
        self._known, self._heard, self._missed = asyncio.Event(), asyncio.Event(), False
        self.on_whole: Callable[[], None] = lambda: None
        """Called when all connections stand again."""
        self._own = Broker(
            settings,
            subscriptions=subscriptions,
            will=will,
            on_messages=lambda messages: on_messages(self._strangers.only(messages)),
            on_connected=self._met,
            on_lost=on_lost,
            retained=retained,
            retained_once=retained_once,
        )

        def lane(name: str, on_messages: Callable[[list[Inbound]], None]) -> Broker:
            return Broker(
                replace(settings, client_id=settings.client_id + name),
                subscriptions=(),
                will=None,
                on_messages=on_messages,
                on_connected=lambda session_present: self._look(),
                on_lost=self._missing,
                part=True,
            )

        self._asks = Asks(ASKED_OVER, lambda number, take: lane(f"{ASKS}{number}", take), on_messages)
        self._says = Lanes([lane(f"{SAYS}{number}", lambda messages: None) for number in range(1, SAID_OVER + 1)])
        self._strangers = Strangers(self._own, everybody, self._asks.hears)
        self._all = (self._own, *self._asks.brokers, *self._says.brokers)
        self.publish, self.queued_in, self.flush = self._says.publish, self._says.queued_in, self._says.flush
        self.send = self._says.send
        self.hear, self.ack = self._asks.hear, ack

    def _look(self) -> None:
        if not self._heard.is_set() and all(broker.connected for broker in self._asks.brokers):
            self._heard.set()
            self._strangers.listen()
        if self.connected:
            self._missed = False
            _log.info("mqtt_all_connected", connections=len(self._all))
            self.on_whole()

    def _missing(self, reason: str) -> None:
        """One line for all of them, and none where the first is lost as well and says so."""
        if self._own.connected and not self._missed:
            self._missed = True
            _log.warning("mqtt_connections_missing", reason=reason)

    def hold_back(self, held: bool) -> None:
        """Take no more requests until this is called with False: the broker keeps them, and no memory is used here."""
        self._strangers.deaf = held
        self._asks.hold_back(held)

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
        return all(broker.connected for broker in self._all)

    @property
    def last_error(self) -> str | None:
        """Why the last attempt failed, or the last connection ended, of the first that has something to say."""
        return next((broker.last_error for broker in self._all if broker.last_error), None)

    @property
    def reconnects(self) -> int:
        """How often one was lost."""
        return sum(broker.reconnects for broker in self._all)

    @property
    def asked(self) -> int:
        """Requests that were taken of servers that are configured: messages, whatever they hold."""
        return sum(broker.received for broker in self._asks.brokers)

    @property
    def dropped_malformed(self) -> int:
        return sum(broker.dropped_malformed for broker in self._all)

    @property
    def publish_refused(self) -> int:
        return sum(broker.publish_refused for broker in self._all)

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
        self._missed = False
        self._on_connected(session_present)

    async def run(self) -> None:
        """All, until `stop`.

        Those for requests begin once the first was taken, so that what is wrong with all is said once; those over which
        we publish once all requests are heard, so that nobody is told that we are here before.
        """
        asks = [self._after(self._known, broker) for broker in self._asks.brokers]
        says = [self._after(self._heard, broker) for broker in self._says.brokers]
        await asyncio.gather(self._own.run(), *asks, *says)

    async def _after(self, event: asyncio.Event, broker: Broker) -> None:
        await event.wait()
        await broker.run()

    async def stop(self, flush_timeout_s: float = 5.0) -> bool:
        """Leave in a way that drops the will, flush, and wait for `run` to return. False: something was not settled.

        Nothing more is taken before the flush, so that nothing is acknowledged whose reply cannot leave any more.
        """
        self._strangers.close()
        await asyncio.gather(*(broker.stop(0) for broker in (self._own, *self._asks.brokers)))
        self._known.set()
        self._heard.set()
        return await self._says.stop(flush_timeout_s)
