"""The daemon's MQTT 5 client: one session that outlives its connections, acknowledging only when told.

`run` connects, subscribes and comes back for ever; `publish` and `ack` never wait. A message is the broker's until
`ack`, and ours until the broker's PUBACK; both survive a reconnect and neither is repeated once settled.

PUBACKs leave in the order of the decisions, not of arrival (section 4.6 asks for arrival; brokers look them up by their
identifier): one slow decision must not hold up the rest.

Sources: OASIS MQTT 5.0 sections 3.2.2.3 (CONNACK properties), 4.1 and 4.4 (session state, redelivery).
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, Final, TypeVar

import mqtt5
import structlog

from channeld.adapters.broker.connection import TAKEN_OVER, Connection
from channeld.adapters.broker.framing import MAX_PACKET
from channeld.adapters.broker.handshake import enter, remedy, subscribe
from channeld.adapters.broker.messages import BrokerSettings, Inbound, Will, ack
from channeld.adapters.broker.outbox import Outbox, encode
from channeld.adapters.broker.subscriptions import Subscriptions
from channeld.core.errors import BadValue, Unreachable

_T = TypeVar("_T")
_log = structlog.get_logger()
_ALWAYS: Final = mqtt5.RetainHandling.SEND_ALWAYS
_LARGEST_REPLY: Final = 1 << 20


class Broker:
    """One session with the broker.

    `on_messages` gets what one read of the socket brought, in order, of a large one a slice at a time;
    `on_connected(session_present)` comes before the first messages of a connection, `on_lost(reason)` after the last,
    with `TAKEN_OVER` if another client has our client id. Where one of these three raises, that is logged and counted,
    and what was not acknowledged stays so. `on_room`, `on_subscribed` and what `told` is must not raise.

    Of subscriptions that are in `retained` the broker sends what it holds, with every connection; of those in
    `retained_once` with the first one that stands, and later only where it has lost the session.
    `part` is one of several connections, of which whoever has them speaks: `on_lost` is told why it cannot be had, too,
    once for each reason.
    """

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
        part: bool = False,
    ) -> None:
        self.settings = settings
        self._part, self._say = part, _log.debug if part else _log.info
        self.connected = False
        self.last_error: str | None = None
        self.received = self.published = self.reconnects = 0
        self.dropped_malformed = self.publish_refused = self.callback_errors = 0
        self._subscriptions, self._greeted = Subscriptions(subscriptions), False
        self._changed = asyncio.Event()
        self._retained, self._retained_once = frozenset(retained), frozenset(retained_once)
        self._will = will
        self._on_messages, self._on_connected, self._on_lost = on_messages, on_connected, on_lost
        self._outbox = Outbox(settings.send_limit)
        self._connection: Connection | None = None
        self._stopping = asyncio.Event()
        self._max_packet = MAX_PACKET
        self._left = asyncio.Event()
        self._left.set()
        self._waiters: list[asyncio.Future[None]] = []
        self._held_back = False
        self.on_room: Callable[[], None] = lambda: None
        """Called when something of what waited has left."""

    @property
    def in_flight_out(self) -> int:
        """Messages sent whose PUBACK is due."""
        return self._outbox.in_flight

    @property
    def queued_out(self) -> int:
        """Messages that wait for the broker's window or for a connection; every 2 KiB count as one more."""
        return self._outbox.queued

    def queued_in(self, line: str) -> int:
        """Those of one line."""
        return self._outbox.queued_in(line)

    # -- in ------------------------------------------------------------------------------------------------------

    ack = staticmethod(ack)

    @property
    def on_subscribed(self) -> Callable[[Collection[str]], None]:
        """Called with the topics that the broker has confirmed; while `connected` is false, for a new connection."""
        return self._subscriptions.on_confirmed

    @on_subscribed.setter
    def on_subscribed(self, call: Callable[[Collection[str]], None]) -> None:
        self._subscriptions.on_confirmed = call

    def subscribe(self, topics: Iterable[str], qos: int = 1) -> None:
        """Hear these as well, with every connection from now on; of what is retained only what `retained` says."""
        self._subscriptions.want(topics, qos)
        self._changed.set()

    def unsubscribe(self, topics: Iterable[str]) -> None:
        """Hear these no more; what the broker has queued of them still comes."""
        self._subscriptions.leave(topics)
        self._changed.set()

    def hold_back(self, held: bool) -> None:
        """Take no more messages until this is called with False: the broker keeps them, and no memory is used here."""
        self._held_back = held
        if self._connection is not None:
            self._connection.hold_back(held)
            if not held:
                self._connection.open_gate()

    # -- out -----------------------------------------------------------------------------------------------------

    def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        retain: bool = False,
        correlation_data: bytes | None = None,
        told: Callable[[bool], None] | None = None,
        line: str = "",
    ) -> bool:
        """Send at QoS 1, or queue until the broker's window or the connection allows it. Never waits.

        What has to wait does so in its `line`: lines are served in turn, each in its order.

        `told` is called once: true when the broker has it, false when it refused it or never will have it.

        False: refused, the queue is full; nothing was sent, come again after `on_room`. Raises `BadValue` for what
        can never be sent (a topic with a wildcard, a packet above the broker's maximum): do not repeat it.
        """
        outbox = self._outbox
        if outbox.full:
            return False
        packet_id = outbox.take_id()
        try:
            frame = encode(
                topic,
                payload,
                packet_id=packet_id,
                retain=retain,
                correlation_data=correlation_data,
                limit=self._max_packet,
            )
        except BadValue:
            outbox.free_id(packet_id)
            raise
        self.published += 1
        if told is not None:
            outbox.tell(packet_id, told)
        connection = self._connection
        if connection is not None and connection.writable and outbox.has_window:
            connection.write(outbox.sent(packet_id, frame))
        else:
            outbox.wait(packet_id, frame, line)
        return True

    def send(self) -> None:
        """Send what the window has let out, and not with the rest of this turn of the loop."""
        if self._connection is not None:
            self._connection.send()

    async def flush(self, timeout_s: float) -> bool:
        """Wait until the broker has settled all that was published. False: some was not within `timeout_s`."""
        if not (self._outbox.queued or self._outbox.in_flight):
            return True
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        try:
            await asyncio.wait_for(waiter, timeout_s)
        except TimeoutError:
            return False
        return True

    async def stop(self, flush_timeout_s: float = 5.0) -> bool:
        """Flush, leave in a way that drops the will, and wait for `run` to return. False: something was not settled."""
        flushed = await self.flush(flush_timeout_s if self.connected else 0)
        self._stopping.set()
        await self._left.wait()
        return flushed

    # -- what the connection tells -------------------------------------------------------------------------------

    def _took(self, messages: list[Inbound]) -> None:
        self.received += len(messages)
        try:
            self._on_messages(messages)
        except Exception:
            self.callback_errors += 1
            _log.exception("mqtt_messages_failed", messages=len(messages))

    def _settled(self, packet_id: int, refused: bool) -> None:
        if self._outbox.settle(packet_id, refused=refused) and refused:
            self.publish_refused += 1

    def _wake_flush(self) -> None:
        if self._outbox.queued or self._outbox.in_flight:
            return
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    def _skipped(self, what: str) -> None:
        self.dropped_malformed += 1
        _log.warning("mqtt_message_skipped", what=what, skipped=self.dropped_malformed)

    def _room(self) -> None:
        """The window or the socket has room: let out what waits."""
        connection, outbox = self._connection, self._outbox
        if outbox.queued and connection is not None and connection.writable:
            outbox.release(connection.write)
            self.on_room()
        if self._waiters:
            self._wake_flush()

    # -- the life of the session ---------------------------------------------------------------------------------

    async def run(self) -> None:
        """Connect, subscribe, and come back whenever the connection ends, until `stop`. No network trouble raises."""
        self._left.clear()
        delay = 0.0
        try:
            while not self._stopping.is_set():
                delay = await self._once(delay)
        finally:
            self._left.set()

    async def _once(self, delay: float) -> float:
        """One session and the pause after it; returns how long the pause could have been, in seconds."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        session = loop.create_task(self._session())
        stopping = loop.create_task(self._stopping.wait())
        try:
            await asyncio.wait({session, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if not session.done() and not self.connected:
                return delay
            reason = await session
            if self._stopping.is_set():
                return delay
            self.last_error = reason
            self.reconnects += 1
            delay = self._next_delay(delay, loop.time() - began, reason)
            await asyncio.wait({stopping}, timeout=delay * random.uniform(0.5, 1))  # noqa: S311 - jitter, no secret
            return delay
        finally:
            stopping.cancel()
            session.cancel()

    def _next_delay(self, delay: float, lasted: float, reason: str) -> float:
        """Twice the last delay, unless the connection outlived it; the longest at once if we fight over a session."""
        settings = self.settings
        if reason == TAKEN_OVER:
            return settings.backoff_max_s
        grown = settings.backoff_min_s if lasted > max(delay, settings.backoff_min_s) else delay * 2
        return min(max(grown, settings.backoff_min_s), settings.backoff_max_s)

    async def _session(self) -> str:
        """One connection from its beginning to its end; returns why it ended."""
        connection = Connection(self, self.settings.receive_maximum, self.settings.maximum_packet_size)
        try:
            async with asyncio.timeout(self.settings.connect_timeout_s):
                connack = await enter(connection, self.settings, self._will)
                self._subscriptions.anew()
                await subscribe(connection, self._subscriptions, self._handling)
        except (OSError, TimeoutError, Unreachable) as error:
            connection.abort()
            return self._cannot(error)
        except BaseException:
            connection.abort()
            raise
        keeping = asyncio.create_task(self._keep_subscribed(connection))
        try:
            self._up(connection, connack)
            reason = await self._until_end(connection)
        finally:
            keeping.cancel()
            self.connected, self._connection = False, None
            connection.abort()
        self._say("mqtt_lost", reason=reason)
        self._call(self._on_lost, reason)
        return reason

    async def _keep_subscribed(self, connection: Connection) -> None:
        """Tell the broker whenever other topics are wanted. While held back its answer is not read, for any time."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            try:
                await subscribe(connection, self._subscriptions, self._handling)
            except Unreachable as error:
                connection.end(mqtt5.DisconnectReasonCode.UNSPECIFIED_ERROR, self._cannot(error))
                return

    def _cannot(self, error: Exception) -> str:
        where = f"{self.settings.host}:{self.settings.port}"
        reason = (
            f"{where}: {remedy(str(error))}"
            if str(error)
            else f"{where}: no answer in {self.settings.connect_timeout_s} s"
        )
        if reason != self.last_error:
            if self._part:
                self._call(self._on_lost, reason)
            else:
                _log.warning("mqtt_cannot_connect", reason=reason)
        return reason

    def _handling(self, topic: str) -> mqtt5.RetainHandling:
        if topic in self._retained_once:
            return mqtt5.RetainHandling.SEND_IF_SUBSCRIPTION_NOT_EXISTS if self._greeted else _ALWAYS
        return _ALWAYS if topic in self._retained else mqtt5.RetainHandling.SEND_NEVER

    def _up(self, connection: Connection, connack: mqtt5.ConnAckPacket) -> None:
        """Take over the broker's terms, send again what was not settled, tell the owner. Sources: section 3.2.2.3."""
        self._max_packet = connack.max_packet_size or MAX_PACKET
        if self._max_packet < _LARGEST_REPLY:
            self._say("mqtt_broker_takes_less", max_packet=self._max_packet, lost="replies that are larger")
        outbox = self._outbox
        lost = outbox.reconnected(connack.session_present, connack.receive_max, connack.retain_available)
        lost += outbox.drop_above(self._max_packet)
        if lost:
            self.publish_refused += lost
            _log.error("mqtt_messages_given_up", messages=lost, why="too large, or the broker hangs up on them")
        self._connection, self.connected, self.last_error = connection, True, None
        self._greeted = True
        self._say(
            "mqtt_connected",
            session_present=connack.session_present,
            window=connack.receive_max,
        )
        self._room()
        self._call(self._on_connected, connack.session_present)
        self.hold_back(self._held_back)

    def _call(self, callback: Callable[[_T], None], value: _T) -> None:
        try:
            callback(value)
        except Exception:
            self.callback_errors += 1
            _log.exception("mqtt_callback_failed")

    async def _until_end(self, connection: Connection) -> str:
        stopping = asyncio.ensure_future(self._stopping.wait())
        try:
            either: set[asyncio.Future[Any]] = {stopping, connection.ended}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if not connection.ended.done():
                connection.end(mqtt5.DisconnectReasonCode.NORMAL_DISCONNECTION, "stopped")
            return await connection.ended
        finally:
            stopping.cancel()
