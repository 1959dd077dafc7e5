"""The notice board of content servers: events and retained channels, between the herald and the broker."""

from __future__ import annotations

from collections.abc import Callable

from channeld.adapters.broker import Exchange
from channeld.core.errors import BadValue
from channeld.core.records import ChannelRecord
from channeld.core.units import Address, ChannelId, LedgerIndex
from channeld.service.herald import Herald
from channeld.service.ports import Waiting
from channeld.wire.events import (
    channel_payload,
    channel_source,
    channel_topic,
    event_payload,
    event_topic,
    read_channel_topic,
)
from channeld.wire.topics import Topics


class BrokerBoard:
    """What the herald hands over, as messages under the topics of each server."""

    def __init__(self, broker: Exchange, topics: Topics) -> None:
        self._broker, self._topics = broker, topics

    @property
    def connected(self) -> bool:
        """Whether the broker took us."""
        return self._broker.connected

    def render(self, record: ChannelRecord) -> bytes:
        """What is retained of a channel."""
        return channel_payload(record)

    def source(self, payload: bytes) -> tuple[Address, LedgerIndex] | None:
        """Whose channel a retained message shows, and as of which ledger; None: it is none that we could have made."""
        return channel_source(payload)

    def show(self, server: str, channel_id: ChannelId, payload: bytes, told: Callable[[bool], None]) -> bool:
        """Retain a channel for a server, or nothing if `payload` is empty. False: there is no room, come again."""
        topic = channel_topic(self._topics, server, channel_id)
        return self._publish(topic, payload, server, retain=True, told=told)

    def tell(self, waiting: Waiting, told: Callable[[bool], None]) -> bool:
        """Tell a server an event. False: there is no room, come again."""
        topic = event_topic(self._topics, waiting.server)
        return self._publish(topic, event_payload(waiting.seq, waiting.event), waiting.server, retain=False, told=told)

    def _publish(self, topic: str, payload: bytes, line: str, *, retain: bool, told: Callable[[bool], None]) -> bool:
        try:
            return self._broker.publish(topic, payload, retain=retain, told=told, line=line)
        except BadValue:  # the broker takes no packet as large as this: it never will
            told(False)
            return True

    def reads(self, herald: Herald) -> Callable[[str, bytes], bool]:
        """Whether a message from the broker shows what it holds of a channel; then `herald` gets it."""

        def take(topic: str, payload: bytes) -> bool:
            found = read_channel_topic(self._topics, topic)
            if found is not None:
                herald.found(*found, payload)
            return found is not None

        return take
