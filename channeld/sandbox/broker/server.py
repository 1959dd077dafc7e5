"""A small MQTT 5 broker for the demo and quick trials: QoS 0 and 1, retained messages, wills, sessions, logins, topics.

All state is in memory and in one event loop. It is not for production: nothing survives its end, and no shared
subscriptions, QoS 2, topic aliases, enhanced authentication or TLS.

Sources: OASIS MQTT 5.0 sections 3.1.2.5 (will), 3.1.3.2.2 (will delay), 3.1.4 (takeover), 3.3.1.3 (retain),
3.8.3.1 (subscription options), 3.14.4 (normal disconnection drops the will).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import mqtt5

from channeld.sandbox.broker.access import Access, read_access_list, read_passwords
from channeld.sandbox.broker.connection import Client
from channeld.sandbox.broker.session import NEVER, Delivery, Message, Session, Subscription
from channeld.sandbox.broker.topics import has_wildcard, matches

_ROUTES_KEPT: Final = 20_000
_Route = list[tuple[Session, list[Subscription]]]


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds, each inclusive."""

    packet_size: int = 2_000_000
    """Bytes; a larger packet ends the connection."""
    queued: int = 100_000
    """QoS 1 messages that wait for one client."""
    retained: int = 1_000_000
    """Retained messages; beyond it a new topic's is delivered and not kept."""
    connections: int = 10_000
    """Connections at a time; more are told `server busy`."""
    connect_timeout_s: float = 10.0


class SandboxBroker:
    """`start` listens (port 0 takes a free one, then in `port`), `stop` ends all connections and sends no will."""

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        access: Access | None = None,
        limits: Limits | None = None,
    ) -> None:
        self.host, self.port = host, port
        self.access = access or Access()
        self.limits = limits or Limits()
        self.clients: set[Client] = set()
        self._sessions: dict[str, Session] = {}
        self._links: dict[str, Client] = {}
        self._retained: dict[str, Message] = {}
        self._routes: dict[str, _Route] = {}
        self._server: asyncio.Server | None = None
        self._serial = 0

    async def start(self) -> SandboxBroker:
        """Listen. Raises `OSError` if the address cannot be had."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: Client(self), self.host, self.port)
        self.port = int(self._server.sockets[0].getsockname()[1])
        return self

    async def stop(self) -> None:
        """Tell the clients, close, forget everything."""
        server, self._server = self._server, None
        if server is None:
            return
        server.close()
        for session in self._sessions.values():
            session.will = None
            session.cancel_timers()
        for client in list(self.clients):
            client.refuse(mqtt5.DisconnectReasonCode.SERVER_SHUTTING_DOWN)
        await server.wait_closed()

    async def __aenter__(self) -> SandboxBroker:
        return await self.start()

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    # -- sessions ------------------------------------------------------------------------------------------------

    def new_client_id(self) -> str:
        """An id for a client that brought none."""
        self._serial += 1
        return f"auto-{self._serial}"

    def enter(self, client: Client, client_id: str, clean_start: bool) -> tuple[Session, bool]:
        """The session of a client that was let in, and whether it existed. Takes it over from an older connection."""
        older = self._links.pop(client_id, None)
        if older is not None:
            older.refuse(mqtt5.DisconnectReasonCode.SESSION_TAKEN_OVER)
            self.leave(older, client_id)
        session = self._sessions.get(client_id)
        if session is not None and clean_start:
            self._end(session)
            session = None
        present = session is not None
        if session is None:
            session = self._sessions[client_id] = Session(client_id, self.limits.queued)
        session.cancel_timers()
        self._links[client_id] = client
        self._routes.clear()
        return session, present

    def leave(self, client: Client, client_id: str) -> None:
        """A connection is over: its will, now or after its delay, and its session's end."""
        session = self._sessions.get(client_id)
        if self._links.get(client_id, client) is not client or session is None or not session.connected:
            return
        self._links.pop(client_id, None)
        session.detach()
        self._routes.clear()
        loop = asyncio.get_running_loop()
        if session.expiry_s == 0:
            self._end(session)
            return
        if session.will is not None:
            if session.will_delay_s == 0:
                self._send_will(session)
            else:
                delay = min(session.will_delay_s, session.expiry_s)
                session.timers.append(loop.call_later(delay, self._send_will, session))
        if session.expiry_s != NEVER:
            session.timers.append(loop.call_later(session.expiry_s, self._end, session))

    def _send_will(self, session: Session) -> None:
        will, session.will = session.will, None
        if will is not None and self.access.allows("write", will.topic, session.user, session.client_id):
            if session.will_expiry_s is not None:
                will.expires_at = asyncio.get_running_loop().time() + session.will_expiry_s
            self.publish(will)

    def _end(self, session: Session) -> None:
        session.cancel_timers()
        if self._sessions.get(session.client_id) is session:
            del self._sessions[session.client_id]
        self._routes.clear()
        self._send_will(session)

    # -- messages ------------------------------------------------------------------------------------------------

    def publish(self, message: Message) -> bool:
        """Keep it if it is retained, hand it to all who subscribed. False: nobody did."""
        if message.retain:
            self._keep(message)
        route = self._routes.get(message.topic)
        if route is None:
            route = self._route(message.topic)
        now = asyncio.get_running_loop().time()
        for session, subscriptions in route:
            self._deliver(session, subscriptions, message, now)
        return bool(route)

    def _deliver(self, session: Session, subscriptions: list[Subscription], message: Message, now: float) -> None:
        if message.origin == session.client_id:
            subscriptions = [one for one in subscriptions if not one.no_local]
            if not subscriptions:
                return
        retain = message.retain and any(one.retain_as_published for one in subscriptions)
        ids = [one.subscription_id for one in subscriptions if one.subscription_id]
        session.deliver(Delivery(message, retain, ids), min(message.qos, max(one.qos for one in subscriptions)), now)

    def _route(self, topic: str) -> _Route:
        """Who gets this topic; remembered until a subscription, session or connection changes."""
        route: _Route = []
        for session in self._sessions.values():
            found = [one for one in session.subscriptions.values() if matches(one.pattern, topic)]
            if found and self.access.allows("read", topic, session.user, session.client_id):
                route.append((session, found))
        if len(self._routes) >= _ROUTES_KEPT:
            self._routes.clear()
        self._routes[topic] = route
        return route

    def _keep(self, message: Message) -> None:
        if not message.payload:
            self._retained.pop(message.topic, None)
        elif message.topic in self._retained or len(self._retained) < self.limits.retained:
            self._retained[message.topic] = message

    def subscribe(self, session: Session, subscription: Subscription, handling: int) -> None:
        """Add or replace a subscription and send what is retained, as Retain Handling (0..2) says."""
        new = subscription.pattern not in session.subscriptions
        session.subscriptions[subscription.pattern] = subscription
        self._routes.clear()
        if handling == 0 or (handling == 1 and new):
            self._send_retained(session, subscription)

    def unsubscribe(self, session: Session, pattern: str) -> bool:
        """False: there was no such subscription."""
        self._routes.clear()
        return session.subscriptions.pop(pattern, None) is not None

    def _send_retained(self, session: Session, subscription: Subscription) -> None:
        now = asyncio.get_running_loop().time()
        pattern = subscription.pattern
        topics = list(self._retained) if has_wildcard(pattern) else [pattern]
        ids = [subscription.subscription_id] if subscription.subscription_id else []
        for topic in topics:
            message = self._retained.get(topic)
            if message is None or not matches(pattern, topic):
                continue
            if message.expires_at is not None and message.expires_at <= now:
                del self._retained[topic]
            elif self.access.allows("read", topic, session.user, session.client_id):
                session.deliver(Delivery(message, True, ids), min(message.qos, subscription.qos), now)


async def serve(
    host: str,
    port: int,
    *,
    password_file: Path | None = None,
    acl_file: Path | None = None,
    ready: Callable[[str, int], None] | None = None,
) -> None:
    """Run a broker until cancelled. Raises `ConfigError` for a bad file, `OSError` if the address cannot be had."""
    access = Access(
        None if password_file is None else read_passwords(password_file),
        None if acl_file is None else read_access_list(acl_file),
    )
    async with SandboxBroker(host=host, port=port, access=access) as broker:
        if ready is not None:
            ready(host, broker.port)
        await asyncio.get_running_loop().create_future()
